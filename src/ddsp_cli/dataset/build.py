"""From recordings to shards and manifest, all in one staging folder that survives being killed."""

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
from ddsp_cli.dataset.cache import Job, Staging, Take
from ddsp_cli.dataset.magenta_shards import examine_shards
from ddsp_cli.dataset.manifest import FORMAT_VERSION, MANIFEST, DoubtKind, Manifest, Recording, Settings, Split
from ddsp_cli.dataset.sources import Inputs
from ddsp_cli.dataset.workers import examine_all
from ddsp_cli.dataset.writer import Portion, SplitWriter
from ddsp_cli.errors import InputError

#: Below this nothing can be learned.
MIN_NOTE_S = 10.0

WINDOW_S = 4.0

#: How many reasons an error lists before it only counts the rest.
MAX_REASONS = 8

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Built:
    """A data set in its staging folder: what is in it, and what it was made of."""

    manifest: Manifest
    takes: list[Take]


def measuring_key(settings: Settings, weights: Path | None) -> bytes:
    """All that decides how a single recording is measured and cut."""
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
    staging: Staging, inputs: Inputs, settings: Settings, workers: int, progress: Progress, weights: Path | None = None
) -> Built:
    """Measures recordings, keeps their notes and writes shards and manifest into `staging.result`.

    Raises:
      InputError: the recordings hold nothing, or too little, to learn from.
      OSError: the disk is full, or cannot be written.
    """
    takes = _examined(staging, inputs, settings, workers, progress, weights)
    takes = _without_duplicates(takes)
    usable = [take for take in takes if not take.reason]
    _check_enough(takes, inputs.held_out)
    gains_db = dataset_split.folder_gains_db(usable) if settings.level == "match" else {}
    train, validation = dataset_split.portions(usable, gains_db, settings.validation_share, inputs.held_out)
    spec = settings.features
    played_hz = np.concatenate([take.frames()["f0_hz"] for take in usable])
    lowest_hz = highpass.lowest_hz(played_hz, spec.frame_rate_hz)
    splits: dict[str, Split] = {}
    writers: dict[str, SplitWriter] = {}
    written_s, to_write_s = 0.0, sum(take.used_s for take in usable)
    for split_name, portions in (("train", train), ("validation", validation)):
        progress("writing", written_s, to_write_s)
        writers[split_name] = SplitWriter(
            staging.result, split_name, settings.sample_rate_hz, spec, WINDOW_S, lowest_hz
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
        histograms=figures.histograms(spec.frame_rate_hz),
        train=splits["train"],
        validation=splits["validation"],
        recordings=_recordings(takes, train, validation, gains_db),
    )
    write_manifest(staging.result, manifest)
    return Built(manifest, takes)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `dataset.yaml`, with its digest in the last line."""
    (folder / MANIFEST).write_text(seal_text(dump_yaml(manifest)), encoding="utf-8")


def _examined(
    staging: Staging, inputs: Inputs, settings: Settings, workers: int, progress: Progress, weights: Path | None
) -> list[Take]:
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
    examined = iter(examine_all([jobs[name] for name in wanted.values()], workers, tick))
    takes = [
        Take(job, seconds=_seconds(job.path), reason=f"matches the leave-out pattern {inputs.left_out[name]}")
        if name in inputs.left_out
        else next(examined)
        for name, job in jobs.items()
    ]
    if inputs.shards:
        progress("reading shards", 0.0, 0.0)
        takes += examine_shards(inputs.shards, staging.parts, settings.sample_rate_hz, settings.keep_polyphonic)
    return takes


def _key(name: str) -> str:
    """A file name for a recording that does not change when others come or go."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _recordings(
    takes: Sequence[Take], train: list[Portion], validation: list[Portion], gains_db: dict[Path, float]
) -> list[Recording]:
    in_train = {portion.take.job.name for portion in train}
    in_validation = {portion.take.job.name for portion in validation}
    entries = []
    for take in takes:
        given = take.job.name
        split: Literal["train", "validation", "both", "none"] = "none"
        if given in in_train:
            split = "both" if given in in_validation else "train"
        elif given in in_validation:
            split = "validation"
        used = split != "none"
        entries.append(
            Recording(
                path=given,
                sha256=take.sha256,
                seconds=round(take.seconds, 4),
                used_s=round(take.used_s, 4) if used else 0.0,
                split=split,
                gain_db=gains_db.get(take.job.path.parent, 0.0) if used else 0.0,
                note_s=round(take.note_s, 4) if used else 0.0,
                polyphonic_s=round(take.polyphonic_s, 4),
                notes=[take.reason] if take.reason else list(take.remarks),
                doubts=list(take.doubts),
                n_doubts=cast(dict[DoubtKind, int], take.n_doubts),
            )
        )
    return entries


def _without_duplicates(takes: Sequence[Take]) -> list[Take]:
    """The same sound twice would stand in training and in validation: copies are left out."""
    first: dict[str, str] = {}
    kept = []
    for take in takes:
        original = first.setdefault(take.sha256, take.job.name) if take.sha256 else take.job.name
        if original != take.job.name and not take.reason:
            take = replace(take, n_frames=0, note_s=0.0, doubts=(), n_doubts={}, reason=f"is a copy of {original}")
        kept.append(take)
    return kept


def _check_enough(takes: Sequence[Take], held_out: Collection[str]) -> None:
    why_not = {take.job.name: take.reason or ("is held out" if take.job.name in held_out else "") for take in takes}
    if held_out and "is held out" not in why_not.values():
        raise InputError("none of the held-out recordings can be used", "Hold out recordings of melodies or notes.")
    usable = [take for take in takes if not why_not[take.job.name]]
    reasons = [f"{name} {reason}" for name, reason in why_not.items() if reason]
    listed = "; ".join(reasons[:MAX_REASONS])
    if len(reasons) > MAX_REASONS:
        listed += f"; and {len(reasons) - MAX_REASONS} more"
    if not usable:
        raise InputError(f"none of the recordings can be used: {listed}", "Record single notes or melodies, one voice.")
    note_s = sum(take.note_s for take in usable)
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
