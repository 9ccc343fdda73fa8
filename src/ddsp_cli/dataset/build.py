"""Build a data set in its staging folder: measure recordings, choose gains and splits, write shards and manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from ddsp_cli import __version__
from ddsp_cli.audio import highpass, read
from ddsp_cli.checksum import seal_text, sha256
from ddsp_cli.config import dump_yaml
from ddsp_cli.dataset import split as dataset_split
from ddsp_cli.dataset.cache import CutRecording, Job, Staging
from ddsp_cli.dataset.executors import Engine, examine_all
from ddsp_cli.dataset.magenta_shards import examine_shards
from ddsp_cli.dataset.manifest import FORMAT_VERSION, MANIFEST, DoubtKind, Manifest, Recording, Settings, Split
from ddsp_cli.dataset.sources import Inputs
from ddsp_cli.dataset.writer import Portion, SplitWriter, instruments_of
from ddsp_cli.errors import InputError

#: A data set with fewer seconds of notes is refused.
MIN_NOTE_S = 10.0

WINDOW_S = 4.0

#: How many reasons an error lists before it only counts the rest.
MAX_REASONS = 8

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Built:
    """A data set in its staging folder, and the recordings it was made from."""

    manifest: Manifest
    recordings: list[CutRecording]


def measuring_key(settings: Settings, weights: Path | None) -> bytes:
    """All that decides how a single recording is measured and cut, as JSON."""
    network = sha256(weights) if weights else ""
    values = (
        __version__,
        FORMAT_VERSION,
        settings.sample_rate_hz,
        settings.features,
        settings.keep_polyphonic,
        network,
    )
    return msgspec.json.encode(values)


def build(
    staging: Staging, inputs: Inputs, settings: Settings, engine: Engine, progress: Progress,
    weights: Path | None = None, notice: Callable[[str], None] = lambda _: None,
) -> Built:  # fmt: skip
    """Measures recordings, cuts out their notes and writes shards and manifest into `staging.result`.

    Args:
      staging: the started staging folder.
      inputs: recordings and shards.
      settings: what the data set is made with.
      engine: measures the recordings.
      progress: see `Progress`.
      weights: a file of weights for the pitch tracker.
      notice: told how many recordings each worker measured.

    Raises:
      InputError: the recordings hold nothing, or too little, to learn from.
      OSError: the disk is full, or cannot be written.
    """
    recordings = _examined(staging, inputs, settings, engine, progress, weights, notice)
    recordings = _without_duplicates(recordings)
    usable = [recording for recording in recordings if not recording.reason]
    _check_enough(recordings, inputs.held_out)
    gains_db = dataset_split.folder_gains_db(usable) if settings.level == "match" else {}
    train, validation = dataset_split.portions(usable, gains_db, settings.validation_share, inputs.held_out)
    spec = settings.features
    played_hz = np.concatenate([recording.frames()["f0_hz"] for recording in usable])
    lowest_hz = highpass.lowest_hz(played_hz, spec.frame_rate_hz)
    instruments = instruments_of([recording.job.name for recording in usable])
    splits: dict[str, Split] = {}
    writers: dict[str, SplitWriter] = {}
    written_s, to_write_s = 0.0, sum(recording.used_s for recording in usable)
    for split_name, portions in (("train", train), ("validation", validation)):
        progress("writing", written_s, to_write_s)
        writers[split_name] = SplitWriter(
            staging.result, split_name, settings.sample_rate_hz, spec, WINDOW_S, lowest_hz, instruments
        )
        splits[split_name] = writers[split_name].write(portions, rests=split_name == "train")
        written_s += splits[split_name].used_s
    progress("writing", to_write_s, to_write_s)
    figures = writers["train"].figures
    manifest = Manifest(
        format=FORMAT_VERSION,
        name=settings.name,
        created_with=__version__,
        licence=settings.licence,
        sources=settings.sources,
        remarks=settings.remarks,
        sample_rate_hz=cast(Literal[16000], settings.sample_rate_hz),
        features=spec,
        window_s=WINDOW_S,
        level=settings.level,
        validation_share=settings.validation_share,
        keep_polyphonic=settings.keep_polyphonic,
        hold_out=settings.hold_out,
        leave_out=settings.leave_out,
        lowest_hz=round(lowest_hz, 2),
        statistics=figures.statistics(spec.frame_rate_hz),
        instruments=sorted(set(instruments.values())),
        histograms=figures.histograms(spec.frame_rate_hz),
        train=splits["train"],
        validation=splits["validation"],
        recordings=_recordings(recordings, train, validation, gains_db),
    )
    write_manifest(staging.result, manifest)
    return Built(manifest, recordings)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `dataset.yaml`, with its digest in the last line."""
    (folder / MANIFEST).write_text(seal_text(dump_yaml(manifest)), encoding="utf-8")


def _examined(
    staging: Staging,
    inputs: Inputs,
    settings: Settings,
    engine: Engine,
    progress: Progress,
    weights: Path | None,
    notice: Callable[[str], None],
) -> list[CutRecording]:
    wanted = {path: name for path, name in inputs.recordings.items() if name not in inputs.left_out}
    total_s = sum(map(_seconds, wanted))
    done_s = 0.0

    def tick(seconds: float) -> None:
        nonlocal done_s
        done_s += seconds
        progress("measuring", min(done_s, total_s), total_s)

    jobs = {
        name: Job(path, name, staging.parts / _key(name), settings.sample_rate_hz, settings.features,
            settings.keep_polyphonic, weights, staging.measured)
        for path, name in inputs.recordings.items()
    }  # fmt: skip
    examined: dict[str, CutRecording] = {}

    def done(found: CutRecording) -> None:
        examined[found.job.name] = found

    tally = examine_all((jobs[name] for name in wanted.values()), engine, tick, done)
    if len(tally.by_worker) > 1:
        notice(str(tally))
    recordings = [
        CutRecording(job, seconds=_seconds(job.path), reason=f"matches the leave-out pattern {inputs.left_out[name]}")
        if name in inputs.left_out
        else examined[name]
        for name, job in jobs.items()
    ]
    if inputs.shards:
        progress("reading shards", 0.0, 0.0)
        recordings += examine_shards(inputs.shards, staging.parts, settings.sample_rate_hz, settings.keep_polyphonic)
    return recordings


def _key(name: str) -> str:
    """A file name for a recording that does not change when others come or go."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _recordings(
    recordings: Sequence[CutRecording], train: list[Portion], validation: list[Portion], gains_db: dict[Path, float]
) -> list[Recording]:
    in_train = {portion.recording.job.name for portion in train}
    in_validation = {portion.recording.job.name for portion in validation}
    entries = []
    for recording in recordings:
        given = recording.job.name
        split: Literal["train", "validation", "both", "none"] = "none"
        if given in in_train:
            split = "both" if given in in_validation else "train"
        elif given in in_validation:
            split = "validation"
        used = split != "none"
        entries.append(
            Recording(
                path=given,
                sha256=recording.sha256,
                seconds=round(recording.seconds, 4),
                used_s=round(recording.used_s, 4) if used else 0.0,
                split=split,
                gain_db=gains_db.get(recording.job.path.parent, 0.0) if used else 0.0,
                note_s=round(recording.note_s, 4) if used else 0.0,
                polyphonic_s=round(recording.polyphonic_s, 4),
                notes=[recording.reason] if recording.reason else list(recording.remarks),
                doubts=list(recording.doubts),
                n_doubts=cast(dict[DoubtKind, int], recording.n_doubts),
            )
        )
    return entries


def _without_duplicates(recordings: Sequence[CutRecording]) -> list[CutRecording]:
    """Leaves out copies: the same sound must not be both in training and in validation."""
    first: dict[str, str] = {}
    kept = []
    for recording in recordings:
        original = first.setdefault(recording.sha256, recording.job.name) if recording.sha256 else recording.job.name
        if original != recording.job.name and not recording.reason:
            recording = replace(
                recording, n_frames=0, note_s=0.0, doubts=(), n_doubts={}, reason=f"is a copy of {original}"
            )
        kept.append(recording)
    return kept


def _check_enough(recordings: Sequence[CutRecording], held_out: Collection[str]) -> None:
    why_not = {
        recording.job.name: recording.reason or ("is held out" if recording.job.name in held_out else "")
        for recording in recordings
    }
    if held_out and "is held out" not in why_not.values():
        raise InputError("none of the held-out recordings can be used", "Hold out recordings of melodies or notes.")
    usable = [recording for recording in recordings if not why_not[recording.job.name]]
    reasons = [f"{name} {reason}" for name, reason in why_not.items() if reason]
    listed = "; ".join(reasons[:MAX_REASONS])
    if len(reasons) > MAX_REASONS:
        listed += f"; and {len(reasons) - MAX_REASONS} more"
    if not usable:
        raise InputError(f"none of the recordings can be used: {listed}", "Record single notes or melodies, one voice.")
    note_s = sum(recording.note_s for recording in usable)
    if note_s < MIN_NOTE_S:
        raise InputError(
            f"the recordings hold only {note_s:.1f} s of notes, at least {MIN_NOTE_S:.0f} s are needed"
            + (f" (left out: {listed})" if reasons else ""),
            "Add more recordings: ten minutes are a good start.",
        )


def _seconds(path: Path) -> float:
    try:
        return read.probe(path).seconds
    except InputError:
        return 0.0
