"""Build a data set in its staging folder: measure recordings, choose gains and splits, write shards and manifest."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from ddsp_cli import __version__
from ddsp_cli.audio import read
from ddsp_cli.checksum import seal_text, sha256
from ddsp_cli.config import dump_yaml
from ddsp_cli.dataset import segments
from ddsp_cli.dataset.cache import CutRecording, Job, Staging
from ddsp_cli.dataset.executors import Engine, examine_all, write_all
from ddsp_cli.dataset.magenta_shards import examine_shards
from ddsp_cli.dataset.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    MAX_LISTED,
    RECORDINGS,
    WINDOW_S,
    DoubtKind,
    Manifest,
    Recording,
    RecordingsFile,
    Settings,
    Split,
)
from ddsp_cli.dataset.sources import Inputs, Ledger
from ddsp_cli.dataset.writer import Counts, Instruments, Layout, NoteFigures, Portion, SplitPlan, Written, name_shards
from ddsp_cli.errors import InputError
from ddsp_cli.remote import is_address

#: A data set with fewer seconds of notes is refused.
MIN_NOTE_S = 5.0

SPLITS = ("train", "validation")

#: Largest number of recordings that are opened beforehand, to show progress in seconds of sound.
MAX_PROBED = 1000

#: Name of the stage that measures more recordings than that, and counts them.
MEASURING_MANY = "measuring recordings"

#: Number of reasons that an error lists; the rest are counted.
MAX_REASONS = 8

#: Called with a description of the current step, seconds of sound done, and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Built:
    """A data set in its staging folder, and the recordings it was made from."""

    manifest: Manifest
    recordings: Ledger


def measuring_key(settings: Settings, weights: Path | None) -> bytes:
    """Encodes the settings that affect how a single recording is measured and cut, as JSON."""
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
      settings: of the data set.
      engine: measures the recordings and writes the shards.
      progress: see `Progress`.
      weights: a file of weights for the pitch tracker.
      notice: called with a sentence that says how many recordings each worker measured.

    Raises:
      InputError: the recordings hold nothing, or too little, to learn from.
      OSError: the disk is full, or cannot be written.
    """
    _measure_all(staging, inputs, settings, engine, progress, weights, notice)
    ledger = inputs.recordings
    ledger.leave_out_copies()
    _check_enough(ledger)
    if settings.level == "match":
        for place, gain_db in folder_gains_db(ledger.usable("place, number")):
            ledger.set_gain(place, gain_db)
    whole = ledger.n_usable == 1 and settings.validation_share > 0 and not ledger.any_held_out
    if ledger.any_held_out:
        ledger.set_validation(None)
    else:
        ledger.set_validation(choose_validation(ledger.lengths, ledger.n_usable, settings.validation_share))
    parts: dict[str, Iterable[Portion]] = {name: _portions(ledger, name == "validation") for name in SPLITS}
    if whole:
        ((recording, gain_db),) = ledger.split(validation=False)
        parts = dict(zip(SPLITS, split_one(recording, settings.validation_share, gain_db), strict=True))
    spec = settings.features
    lowest_hz = segments.lowest_hz((recording.frames()["f0_hz"] for recording in ledger.usable()), spec.frame_rate_hz)
    instruments = Instruments(lambda: (recording.job for recording in ledger.usable()))
    layout = Layout(settings.sample_rate_hz, spec, WINDOW_S, lowest_hz, labelled=bool(instruments.names))
    splits, figures = _write_shards(staging.result, layout, parts, instruments, ledger.n_frames, engine, progress)
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
        instruments=instruments.names,
        histograms=figures.histograms(spec.frame_rate_hz),
        train=splits["train"],
        validation=splits["validation"],
        recordings=[],
    )
    manifest = list_recordings(staging.result, manifest, (manifest_entry(*row, whole) for row in ledger.entries()))
    write_manifest(staging.result, manifest)
    return Built(manifest, ledger)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `dataset.yaml`, with its digest in the last line."""
    (folder / MANIFEST).write_text(seal_text(dump_yaml(manifest)), encoding="utf-8")


def _write_shards(
    folder: Path,
    layout: Layout,
    parts: dict[str, Iterable[Portion]],
    instruments: Instruments,
    n_frames: int,
    engine: Engine,
    progress: Progress,
) -> tuple[dict[str, Split], NoteFigures]:
    """Writes the shards of all splits; returns their entries in the manifest, and the figures of the training split.

    Args:
      folder: where the shards go.
      layout: of the data set.
      parts: of each split.
      instruments: labels of the frames.
      n_frames: of all splits, about.
      engine: writes them.
      progress: see `Progress`.
    """
    index = instruments.index if layout.labelled else lambda _: 0
    plans = {
        name: SplitPlan(folder, name, layout, portions, index, name == "train") for name, portions in parts.items()
    }
    digests: dict[str, dict[Path, str]] = {name: {} for name in plans}
    n_examples: Counter[str] = Counter()
    figures = NoteFigures()
    to_write_s = n_frames / layout.spec.frame_rate_hz
    progress("writing", 0.0, to_write_s)

    def done(written: Written) -> None:
        name = written.path.name.rpartition("-")[0]
        digests[name][written.path] = written.sha256
        n_examples[name] += written.n_examples
        if name == "train":
            figures.merge(written.figures)
        progress("writing", min(n_examples.total() * layout.window_s, to_write_s), to_write_s)

    n_shards = to_write_s / layout.window_s / layout.n_in_shard
    write_all(itertools.chain.from_iterable(plans.values()), engine, done, n_shards)
    splits = {
        name: Split(n_examples=n_examples[name], used_s=plan.n_frames / layout.spec.frame_rate_hz,
                    shards=name_shards(digests[name]))
        for name, plan in plans.items()
    }  # fmt: skip
    return splits, figures


def _portions(ledger: Ledger, validation: bool) -> Iterator[Portion]:
    for recording, gain_db in ledger.split(validation):
        yield Portion(recording, 0, recording.n_frames, as_gain(gain_db))


def _measure_all(
    staging: Staging,
    inputs: Inputs,
    settings: Settings,
    engine: Engine,
    progress: Progress,
    weights: Path | None,
    notice: Callable[[str], None],
) -> None:
    """Measures recordings and writes the results into the ledger."""
    ledger = inputs.recordings
    ledger.plan(
        lambda path, name: Job(path, name, staging.parts / _key(name), settings.sample_rate_hz, settings.features,
            settings.keep_polyphonic, weights, staging.measured)
    )  # fmt: skip
    for job in ledger.jobs(left_out=True):
        reason = f"matches the leave-out pattern {ledger.left_out_by(job.name)}"
        ledger.note(CutRecording(job, seconds=_seconds(job.path), reason=reason))
    n_to_measure = ledger.n_to_measure
    # To open many files only to learn their lengths would take minutes: they are counted instead.
    total_s = sum(map(_job_seconds, ledger.jobs())) if n_to_measure <= MAX_PROBED else 0.0
    done_s = n_done = 0.0

    def tick(seconds: float) -> None:
        nonlocal done_s
        done_s += seconds
        if total_s:
            progress("measuring", min(done_s, total_s), total_s)

    def done(found: CutRecording) -> None:
        nonlocal n_done
        ledger.note(found)
        n_done += 1
        if not total_s:
            progress(MEASURING_MANY, n_done, n_to_measure)

    tally = examine_all(ledger.jobs(), engine, tick, done, notice)
    if tally.names_workers:
        notice(str(tally))
    if inputs.shards:
        progress("reading shards", 0.0, 0.0)
        for found in examine_shards(inputs.shards, ledger.job):
            ledger.note(found)


def _key(name: str) -> str:
    """Returns a file name for a recording that does not change when others come or go."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def manifest_entry(recording: CutRecording, is_validation: bool, gain_db: float, whole: bool) -> Recording:
    """Makes the entry of a recording in the manifest.

    Args:
      recording: measured and cut.
      is_validation: whether it is in the validation split.
      gain_db: its gain in the data set.
      whole: it is the only recording of the data set, and is in both splits.
    """
    used = not recording.reason
    return Recording(
        path=recording.job.name,
        sha256=recording.sha256,
        seconds=round(recording.seconds, 4),
        used_s=round(recording.used_s, 4) if used else 0.0,
        split="none" if not used else "both" if whole else "validation" if is_validation else "train",
        gain_db=gain_db if used else 0.0,
        note_s=round(recording.note_s, 4) if used else 0.0,
        polyphonic_s=round(recording.polyphonic_s, 4),
        notes=[recording.reason] if recording.reason else list(recording.remarks),
        doubts=list(recording.doubts),
        n_doubts=cast(dict[DoubtKind, int], recording.n_doubts),
        label=recording.job.label,
    )


def list_recordings(folder: Path, manifest: Manifest, recordings: Iterator[Recording]) -> Manifest:
    """Lists recordings in the manifest, or, where there are more than `MAX_LISTED`, in a file beside it.

    Args:
      folder: of the data set.
      manifest: without recordings.
      recordings: their entries.

    Returns:
      The manifest with its recordings, or with the checksum of the file.
    """
    listed = list(itertools.islice(recordings, MAX_LISTED + 1))
    if len(listed) <= MAX_LISTED:
        return msgspec.structs.replace(manifest, recordings=listed)
    digest, n = hashlib.sha256(), 0
    with (folder / RECORDINGS).open("wb") as stream:
        for recording in itertools.chain(listed, recordings):
            n += 1
            line = msgspec.json.encode(recording) + b"\n"
            digest.update(line)
            stream.write(line)
    return msgspec.structs.replace(manifest, recordings_file=RecordingsFile(n=n, sha256=digest.hexdigest()))


def _check_enough(ledger: Ledger) -> None:
    if ledger.any_held_out and not ledger.count("usable AND held_out"):
        raise InputError("none of the held-out recordings can be used", "Hold out recordings of melodies or notes.")
    unused = (
        f"{recording.job.name} {recording.reason or 'is held out'}"
        for recording in ledger.cuts("NOT usable OR held_out")
    )
    listed = "; ".join(itertools.islice(unused, MAX_REASONS))
    if (n_more := ledger.count("NOT usable OR held_out") - MAX_REASONS) > 0:
        listed += f"; and {n_more} more"
    if not ledger.count("usable AND NOT held_out"):
        raise InputError(f"none of the recordings can be used: {listed}", "Record single notes or melodies, one voice.")
    note_s = ledger.note_s()
    if note_s < MIN_NOTE_S:
        raise InputError(
            f"the recordings hold only {note_s:.1f} s of notes, at least {MIN_NOTE_S:.0f} s are needed"
            + (f" (left out: {listed})" if listed else ""),
            "Add more recordings: ten minutes are a good start.",
        )


def _job_seconds(job: Job) -> float:
    return _seconds(job.path) if job.offset is None else 0.0


def _seconds(path: Path) -> float:
    if is_address(path):
        return 0.0
    try:
        return read.probe(path).seconds
    except InputError:
        return 0.0


#: Level of the loudest notes (95th percentile of power) of each folder after matching, in dBFS.
TARGET_DB = -14.0

#: Highest level of a note after matching; clicks are limited.
PEAK_LIMIT = 0.99

#: Largest gain: more would raise noise.
MAX_GAIN_DB = 40.0

#: Where in a single recording its validation part may begin, as shares before 1 - validation_share and after.
CUT_TOLERANCE = 0.05


def folder_gains_db(recordings: Iterable[CutRecording]) -> Iterator[tuple[Path, float]]:
    """Computes one gain per source folder: sessions get the same level, and the dynamics inside each stay.

    Args:
      recordings: usable ones, those of a folder one after the other.

    Yields:
      Folder of the recordings, and the gain in dB that brings their loudest notes to `TARGET_DB`, less where a peak
      would pass `PEAK_LIMIT`.
    """
    for folder, members in itertools.groupby(recordings, key=lambda recording: recording.job.path.parent):
        notes, peak = Counts(), 0.0
        for recording in members:
            frames = recording.frames()
            notes.add(frames["power_db"][frames["f0_hz"] > 0])
            peak = max(peak, recording.loud_peak)
        wanted_db = TARGET_DB - float(notes.percentiles(np.array([95]))[0])
        room_db = 20.0 * float(np.log10(PEAK_LIMIT / peak))
        gain_db = round(min(wanted_db, room_db, MAX_GAIN_DB) - 5e-5, 4)  # rounded down: never above the room
        yield folder, gain_db


def choose_validation(lengths: Callable[[], Iterable[tuple[str, int, int]]], n: int, share: float) -> Iterator[int]:
    """Chooses the recordings for validation: about `share` of the sound of each folder, whole recordings only.

    The choice depends on names and lengths alone. Of two or more recordings at least one is chosen and one is not.

    Args:
      lengths: gives folder, frames and number of each recording, by folder and then by a hash of the name; called
        several times.
      n: how many recordings there are.
      share: of the frames.

    Yields:
      Numbers of recordings; none for a single recording or a share of 0.
    """
    if n < 2 or share <= 0:
        return
    in_folder: Counter[str] = Counter()
    for folder, n_frames, _ in lengths():
        in_folder[folder] += n_frames
    seen = chosen = n_chosen = 0
    last: str | None = None
    for folder, n_frames, number in lengths():
        if folder != last:  # the remainder of one folder is carried over to the next
            last = folder
            seen += in_folder[folder]
        if chosen + n_frames / 2 <= share * seen and n_chosen < n - 1:
            chosen += n_frames
            n_chosen += 1
            yield number
    if not n_chosen:
        # the first of those whose length is nearest to the wanted one
        yield min(lengths(), key=lambda row: abs(row[1] - share * seen))[2]


def split_one(recording: CutRecording, share: float, gain_db: float) -> tuple[list[Portion], list[Portion]]:
    """Splits a single recording near its end, at its quietest place, into a part for training and `share` of it."""
    low = 1.0 - share - CUT_TOLERANCE
    power_db, rate_hz = recording.frames()["power_db"], recording.job.spec.frame_rate_hz
    cut = segments.quietest_cut(power_db, max(low, 0.5), min(low + 2 * CUT_TOLERANCE, 0.98), rate_hz)
    gain = as_gain(gain_db)
    return [Portion(recording, 0, cut, gain)], [Portion(recording, cut, recording.n_frames, gain)]


def as_gain(gain_db: float) -> float:
    """Returns a gain in dB as a factor."""
    return float(10.0 ** (gain_db / 20.0))
