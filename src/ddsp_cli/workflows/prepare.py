"""`ddsp prepare`: folders of recordings become a data set to train on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from ddsp_cli import __version__
from ddsp_cli.bundle import Source, replace_folder
from ddsp_cli.config import SAMPLE_RATES_HZ, FeatureSpec, dump_yaml
from ddsp_cli.dataset import plan
from ddsp_cli.dataset.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Recording,
    SourcesFile,
    Split,
    load_manifest,
    load_sources,
)
from ddsp_cli.dataset.pack import Portion, SplitWriter
from ddsp_cli.dataset.pool import default_workers, examine_all
from ddsp_cli.dataset.store import sha256
from ddsp_cli.dataset.takes import Job, Take
from ddsp_cli.errors import DatasetError, InputError, OutputError, UsageError
from ddsp_cli.features import io
from ddsp_cli.features import pitch as trackers

#: Below this nothing can be learned.
MIN_NOTE_S = 10.0

#: From here on an instrument usually comes out well.
ENOUGH_S = 600.0

WINDOW_S = 4.0

#: How many reasons an error lists before it only counts the rest.
MAX_REASONS = 8

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class PrepareResult:
    """What a data set holds, for people.

    Attributes:
      folder: where it stands.
      name: of the data set.
      minutes: of sound in it, training and validation together.
      note_s: seconds of notes in the training part.
      train_s, validation_s: seconds of either part.
      n_train, n_validation: windows of 4 s of either part.
      n_recordings: how many were given.
      n_used: how many something was taken from.
      skipped: (name, reason) of each that nothing was taken from.
      notes: (name, remark) of recordings that were used and have something remarkable.
      lowest_midi, highest_midi: the notes played, 1st and 99th percentile.
      quietest_db, loudest_db: power of the notes in dBFS, 5th and 95th percentile.
      unchanged: it stood there already, made from the same recordings with the same settings.
      advice: whether it is enough, as a sentence.
    """

    folder: Path
    name: str
    minutes: float
    note_s: float
    train_s: float
    validation_s: float
    n_train: int
    n_validation: int
    n_recordings: int
    n_used: int
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]
    lowest_midi: float
    highest_midi: float
    quietest_db: float
    loudest_db: float
    unchanged: bool
    advice: str


def prepare(
    inputs: Sequence[Path],
    name: str | None = None,
    out: Path | None = None,
    sample_rate_hz: int = 16000,
    pitch: str = trackers.DEFAULT_TRACKER,
    workers: int | None = None,
    force: bool = False,
    level: Literal["match", "keep"] = "match",
    validation_share: float = 0.1,
    licence: str = "unknown",
    sources: Path | None = None,
    progress: Progress | None = None,
) -> PrepareResult:
    """Measures recordings, keeps their notes and writes them as windows of 4 s.

    Args:
      inputs: files and folders.
      name: of the data set; by default that of the first input.
      out: the folder to write; by default `datasets/NAME`.
      sample_rate_hz: rate of the sound that the model will make.
      pitch: one of `features.pitch.tracker_names()`.
      workers: processes; by default one per core.
      force: replace a data set that stands there.
      level: "match" brings the loudest notes of each folder to one level, "keep" leaves levels alone.
      validation_share: how much of the sound is kept apart to judge by, 0 to 0.5.
      licence: of the recordings, for the manifest and for the card of what learns from them.
      sources: a YAML file that names them with authors and licences, see `dataset.manifest.SourcesFile`; its licence
        counts where `licence` is "unknown".
      progress: see `Progress`.

    Returns:
      What the data set holds.

    Raises:
      UsageError: an option makes no sense.
      InputError: an input or the file of sources is missing, or the recordings hold too little to learn from.
      OutputError: a different data set stands there already, or the folder cannot be written.
    """
    trackers.check_tracker(pitch)
    _check_options(sample_rate_hz, level, validation_share, workers)
    files = _named_files(inputs)
    name = _dataset_name(name or (Path(out).name if out else ""), inputs)
    folder = Path(out) if out else Path("datasets") / name
    spec = FeatureSpec(pitch=pitch)
    named = load_sources(sources) if sources is not None else SourcesFile(sources=[])
    licence = named.licence if licence == "unknown" else licence
    settings = (name, sample_rate_hz, spec, level, validation_share, licence, named.sources)
    standing = _standing(folder, files, settings, force)
    if standing is not None:
        return _result(folder, standing, unchanged=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".ddsp-prepare-", dir=folder.parent))
        os.chmod(staging, 0o755)
    except OSError as problem:
        raise OutputError(f"{folder} cannot be written: {problem.strerror or problem}") from problem
    try:
        manifest = _build(staging, files, settings, workers or default_workers(), progress or (lambda *_: None))
        (staging / MANIFEST).write_text(dump_yaml(manifest), encoding="utf-8")
        replace_folder(staging, folder)
    except OSError as problem:
        raise OutputError(f"{folder} cannot be written: {problem.strerror or problem}") from problem
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _result(folder, manifest, unchanged=False)


_Settings = tuple[str, int, FeatureSpec, str, float, str, list[Source]]


def _build(staging: Path, files: dict[Path, str], settings: _Settings, workers: int, progress: Progress) -> Manifest:
    """Everything from measuring to the shards, below `staging`."""
    name, sample_rate_hz, spec, level, validation_share, licence, sources = settings
    total_s = sum(_seconds(path) for path in files)
    done_s = 0.0

    def tick(seconds: float) -> None:
        nonlocal done_s
        done_s += seconds
        progress("measuring", min(done_s, total_s), total_s)

    parts = staging / "parts"
    parts.mkdir()
    jobs = [
        Job(path, given, parts / f"{index:06d}", sample_rate_hz, spec)
        for index, (path, given) in enumerate(files.items())
    ]
    takes = _without_duplicates(examine_all(jobs, workers, tick))
    usable = [take for take in takes if not take.reason]
    _check_enough(takes, usable)
    gains_db = plan.folder_gains_db(usable) if level == "match" else {}
    train, validation = plan.portions(usable, gains_db, validation_share)
    splits: dict[str, Split] = {}
    writers = {}
    written_s, to_write_s = 0.0, sum(take.used_s for take in usable)
    for split_name, portions in (("train", train), ("validation", validation)):
        progress("writing", written_s, to_write_s)
        writers[split_name] = SplitWriter(staging, split_name, sample_rate_hz, spec, WINDOW_S)
        splits[split_name] = writers[split_name].write(portions)
        written_s += splits[split_name].used_s
    progress("writing", to_write_s, to_write_s)
    shutil.rmtree(parts)
    return Manifest(
        format=FORMAT_VERSION,
        name=name,
        created_with=__version__,
        licence=licence,
        sources=sources,
        sample_rate_hz=cast(Literal[16000], sample_rate_hz),
        features=spec,
        window_s=WINDOW_S,
        level=cast(Literal["match"], level),
        validation_share=validation_share,
        statistics=writers["train"].figures.statistics(spec.frame_rate_hz),
        train=splits["train"],
        validation=splits["validation"],
        recordings=_recordings(takes, train, validation, gains_db),
    )


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
        notes = [take.reason] if take.reason else []
        if used and take.peak >= 0.999:
            notes.append("reaches full scale: it may be clipped")
        entries.append(
            Recording(
                path=given,
                sha256=take.sha256,
                seconds=round(take.seconds, 4),
                used_s=round(take.used_s, 4) if used else 0.0,
                split=split,
                gain_db=gains_db.get(take.job.path.parent, 0.0) if used else 0.0,
                notes=notes,
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
            take = Take(take.job, take.sha256, take.seconds, reason=f"is a copy of {original}")
        kept.append(take)
    return kept


def _check_enough(takes: Sequence[Take], usable: Sequence[Take]) -> None:
    reasons = [f"{take.job.name} {take.reason}" for take in takes if take.reason]
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


def _standing(folder: Path, files: dict[Path, str], settings: _Settings, force: bool) -> Manifest | None:
    """The data set that stands at `folder` where it is just what would be made; None where the place is free."""
    if not folder.exists():
        return None
    if not folder.is_dir() or (not (folder / MANIFEST).is_file() and any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not a data set", "Give another place with --out or --name.")
    if force or not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = load_manifest(folder)
    except DatasetError as problem:
        raise OutputError(f"{folder} holds an unreadable data set: {problem.message}",
                          "Use --force to replace it.") from problem  # fmt: skip
    same = settings == (
        manifest.name, manifest.sample_rate_hz, manifest.features, manifest.level, manifest.validation_share,
        manifest.licence, manifest.sources,
    )  # fmt: skip
    if same and _same_files(files, manifest) and _shards_stand(folder, manifest):
        return manifest
    raise OutputError(
        f"{folder} exists already and was made from other recordings or settings",
        "Use --force to replace it, or give another --name.",
    )


def _same_files(files: dict[Path, str], manifest: Manifest) -> bool:
    known = {recording.path: recording.sha256 for recording in manifest.recordings}
    if sorted(files.values()) != sorted(known):
        return False
    # Files that could not be read have no checksum: whether they can now is only known by trying.
    return all(known[given] and sha256(path) == known[given] for path, given in files.items())


def _shards_stand(folder: Path, manifest: Manifest) -> bool:
    return all((folder / shard).is_file() for split in (manifest.train, manifest.validation) for shard in split.shards)


def _named_files(inputs: Sequence[Path]) -> dict[Path, str]:
    """Each sound file with the name that the data set gives it: no path of this machine, no name twice."""
    if not inputs:
        raise UsageError("no recordings were given", "Name files or folders, for example: ddsp prepare ./wavs")
    files: dict[Path, str] = {}
    taken: set[str] = set()
    for given in map(Path, inputs):
        root = given.resolve()
        for path in io.list_audio([given]):
            relative = path.relative_to(given).as_posix() if given.is_dir() else ""
            stem = f"{root.name}/{relative}" if relative else root.name
            label = stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            count = 1
            while label in taken and path not in files:
                count += 1
                label = f"{stem} ({count})"
            if path not in files:
                files[path] = label
                taken.add(label)
    return files


def _dataset_name(name: str, inputs: Sequence[Path]) -> str:
    if not name:
        first = Path(inputs[0]).resolve()
        name = first.name if first.is_dir() else first.stem if len(inputs) == 1 else first.parent.name
        return name.lstrip(".") or "recordings"
    if name in {".", ".."} or any(letter in name for letter in "/\\:\0\n\r"):
        raise UsageError(f"{name!r} cannot be the name of a data set", "Use letters, digits, - and _.")
    return name


def _check_options(sample_rate_hz: int, level: str, validation_share: float, workers: int | None) -> None:
    if sample_rate_hz not in SAMPLE_RATES_HZ:
        rates = ", ".join(map(str, SAMPLE_RATES_HZ))
        raise UsageError(f"models cannot have a rate of {sample_rate_hz} Hz", f"Use one of {rates}.")
    if level not in {"match", "keep"}:
        raise UsageError(f"there is no way of setting levels called {level}", "Use match or keep.")
    if not 0.0 <= validation_share <= 0.5:
        raise UsageError(f"a validation share of {validation_share} makes no sense", "Use a number from 0 to 0.5.")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers can do no work", "Use 1 or more.")


def _seconds(path: Path) -> float:
    try:
        return io.probe(path).seconds
    except InputError:
        return 0.0


def _result(folder: Path, manifest: Manifest, unchanged: bool) -> PrepareResult:
    used_s = manifest.train.used_s + manifest.validation.used_s
    notes, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    used = [recording for recording in manifest.recordings if recording.split != "none"]
    return PrepareResult(
        folder=folder,
        name=manifest.name,
        minutes=used_s / 60.0,
        note_s=manifest.statistics.note_s,
        train_s=manifest.train.used_s,
        validation_s=manifest.validation.used_s,
        n_train=manifest.train.n_examples,
        n_validation=manifest.validation.n_examples,
        n_recordings=len(manifest.recordings),
        n_used=len(used),
        skipped=tuple((recording.path, "; ".join(recording.notes)) for recording in manifest.skipped),
        notes=tuple((recording.path, "; ".join(recording.notes)) for recording in used if recording.notes),
        lowest_midi=notes[1],
        highest_midi=notes[99],
        quietest_db=power[5],
        loudest_db=power[95],
        unchanged=unchanged,
        advice=_advice(used_s),
    )


def _advice(used_s: float) -> str:
    if used_s >= ENOUGH_S:
        return "This is enough for a good instrument."
    if used_s >= ENOUGH_S / 4:
        return f"This will do; {ENOUGH_S / 60:.0f} minutes or more sound better."
    return f"This is little: expect a rough instrument, or record {ENOUGH_S / 60:.0f} minutes."
