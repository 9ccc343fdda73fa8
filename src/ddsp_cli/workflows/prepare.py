"""`ddsp prepare`: measure folders of recordings and make a data set to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from ddsp_cli import __version__
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.checksum import sha256
from ddsp_cli.config import SAMPLE_RATES_HZ, FeatureSpec
from ddsp_cli.dataset.build import MEASURING_MANY, Progress, build, measuring_key
from ddsp_cli.dataset.cache import staging
from ddsp_cli.dataset.executors import check_cluster, open_engine
from ddsp_cli.dataset.magenta_shards import TRACKER, identify
from ddsp_cli.dataset.manifest import (
    DATASET,
    MANIFEST,
    Manifest,
    Recording,
    Settings,
    SourcesFile,
    iter_recordings,
    load_manifest,
    load_sources,
)
from ddsp_cli.dataset.sources import SHARD_NAME, Inputs, dataset_name, find, pick
from ddsp_cli.dataset.workers import POLYPHONIC, SPEECH
from ddsp_cli.errors import DatasetError, InputError, Kind, OutputError, UsageError
from ddsp_cli.limits import usable_cores
from ddsp_cli.remote import as_place, is_address, local_copy, publish, reading
from ddsp_cli.reports.pages import DATASET_PAGE, write_dataset_report
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_list, as_path, as_places, word

__all__ = ["MEASURING_MANY", "POLYPHONIC", "SPEECH", "PrepareResult", "advice", "prepare", "result_of"]

#: With this much sound an instrument is usually good.
ENOUGH_S = 600.0

#: What can be done with the levels of folders, see `prepare`.
LEVELS = ("match", "keep")

#: Recordings that a result names; the manifest names all.
MAX_NAMED = 10_000


@dataclass(frozen=True)
class PrepareResult:
    """The contents of a data set, for people.

    Attributes:
      folder: its folder.
      name: of the data set.
      minutes: of sound in it, training and validation together.
      note_s: seconds of notes in the training part.
      train_s, validation_s: seconds of either part.
      n_train, n_validation: windows of 4 s of either part.
      n_recordings: how many were given.
      n_used: how many something was taken from.
      unusable: inputs that are missing or folders without sound, each with its error.
      skipped: (name, reason) of each that nothing was taken from, `MAX_NAMED` at most.
      notes: (name, remark) of recordings that were used, `MAX_NAMED` at most.
      lowest_midi, highest_midi: the notes played, 1st and 99th percentile.
      quietest_db, loudest_db: power of the notes in dBFS, 5th and 95th percentile.
      given_s: seconds of all recordings that could be read.
      polyphonic_s: seconds that are polyphonic.
      keep_polyphonic: whether they are in the data set.
      n_doubts: how many doubtful places of each kind there are.
      report: the page, where there is one.
      unchanged: it existed already, made from the same recordings with the same settings.
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
    given_s: float
    polyphonic_s: float
    keep_polyphonic: bool
    n_doubts: Mapping[str, int]
    report: Path | None
    unchanged: bool
    advice: str
    unusable: Mapping[Path, InputError] = field(default_factory=dict)


def result_of(
    folder: Path, manifest: Manifest, unchanged: bool, unusable: Mapping[Path, InputError] | None = None
) -> PrepareResult:
    """Summarises a data set."""
    used_s = manifest.train.used_s + manifest.validation.used_s
    notes, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    page = folder / DATASET_PAGE
    n_doubts: Counter[str] = Counter()
    n_used, given_s, polyphonic_s = 0, 0.0, 0.0
    skipped: list[tuple[str, str]] = []
    remarked: list[tuple[str, str]] = []
    for recording in iter_recordings(folder, manifest):
        n_doubts.update(recording.n_doubts)
        used = recording.split != "none"
        n_used += used
        given_s += recording.seconds
        polyphonic_s += recording.polyphonic_s
        named = remarked if used else skipped
        if recording.notes and len(named) < MAX_NAMED:
            named.append((recording.path, "; ".join(recording.notes)))
    return PrepareResult(
        folder=folder,
        name=manifest.name,
        minutes=used_s / 60.0,
        note_s=manifest.statistics.note_s,
        train_s=manifest.train.used_s,
        validation_s=manifest.validation.used_s,
        n_train=manifest.train.n_examples,
        n_validation=manifest.validation.n_examples,
        n_recordings=manifest.n_recordings,
        n_used=n_used,
        skipped=tuple(skipped),
        notes=tuple(remarked),
        lowest_midi=notes[1],
        highest_midi=notes[99],
        quietest_db=power[5],
        loudest_db=power[95],
        given_s=given_s,
        polyphonic_s=polyphonic_s,
        keep_polyphonic=manifest.keep_polyphonic,
        n_doubts=n_doubts,
        report=page if page.is_file() else None,
        unchanged=unchanged,
        advice=advice(used_s),
        unusable=unusable or {},
    )


def advice(used_s: float) -> str:
    """Whether this many seconds are enough to learn from, as a sentence."""
    if used_s >= ENOUGH_S:
        return "This is enough for a good instrument."
    if used_s >= ENOUGH_S / 4:
        return f"This will do; {ENOUGH_S / 60:.0f} minutes or more sound better."
    return f"This is little: expect a rough instrument, or record {ENOUGH_S / 60:.0f} minutes."


#: Default sample rate of the sound that a model makes.
DEFAULT_RATE_HZ = 48000


def prepare(
    inputs: PathLike | Sequence[PathLike],
    name: str | None = None,
    out: PathLike | None = None,
    sample_rate_hz: int | None = None,
    pitch: str = trackers.DEFAULT_TRACKER,
    workers: int | None = None,
    force: bool = False,
    level: Literal["match", "keep"] = "match",
    validation_share: float = 0.1,
    licence: str = "unknown",
    sources: PathLike | None = None,
    keep_polyphonic: bool = False,
    hold_out: str | Sequence[str] = (),
    leave_out: str | Sequence[str] = (),
    crepe_weights: PathLike | None = None,
    report: bool = True,
    like: PathLike | None = None,
    progress: Progress | None = None,
    cluster: str | None = None,
    notice: Callable[[str], None] | None = None,
) -> PrepareResult:
    """Measures recordings, cuts out their notes and writes them as windows of 4 s.

    Killed at any moment and called again, it resumes with the recordings that are not done. Recordings may be added to
    an existing data set: only those are measured.

    Args:
      inputs: files and folders, of sound or of shards that `ddsp_prepare_tfrecord` wrote, and NSynth as it is
        distributed. Addresses such as `s3://bucket/wavs/*.flac` may be among them.
      name: of the data set; by default that of the first input.
      out: the folder to write, or an address; by default `datasets/NAME`.
      sample_rate_hz: rate of the sound that the model will make; by default 48000, or that of `like`.
      pitch: the pitch tracker, see `analysis.pitch.trackers`.
      workers: processes; by default one per core.
      force: measure everything again, and replace an existing data set.
      level: "match" brings the loudest notes of each folder to one level, "keep" leaves levels alone.
      validation_share: share of the sound for the validation split, 0 to 0.5.
      licence: of the recordings, for the manifest and for the card of what learns from them.
      sources: a YAML file that names them with authors and licences, see `dataset.manifest.SourcesFile`; its licence
        counts where `licence` is "unknown".
      keep_polyphonic: also use polyphonic segments.
      hold_out: patterns of the recordings that form the validation split, instead of a share of all; see
        `dataset.sources.pick`.
      leave_out: patterns of recordings that are not used.
      crepe_weights: a file of weights for the tracker crepe.
      report: write `report.html` into the data set.
      like: an instrument to be trained further on it: level is measured as for the training of that one.
      progress: see `dataset.build.Progress`.
      cluster: a Dask cluster that measures the recordings, see `dataset.executors.open_engine`; by default processes of
        this machine do.
      notice: called with a sentence that says where the cluster's dashboard is, and in the end what each worker did.

    Returns:
      Contents of the data set.

    Raises:
      ModelError: the instrument named by `like` does not exist.
      UsageError: an option is invalid, or a pattern fits no recording.
      InputError: all inputs or the file of sources are missing, or the recordings hold too little to learn from.
      OutputError: the folder holds a data set with other recordings or settings, another run is writing it, or it
        cannot be written.
    """
    inputs, crepe_weights = as_places(inputs), as_path(crepe_weights)
    out = None if out is None else as_place(out)
    hold_out, leave_out = as_list(hold_out), as_list(leave_out)
    taught = models.open_at(models.find_playable(like)).card if like is not None else None
    if sample_rate_hz is None:
        sample_rate_hz = taught.model.sample_rate_hz if taught else DEFAULT_RATE_HZ
    spec = taught.features.at(FeatureSpec().frame_rate_hz) if taught else FeatureSpec()
    _check_options(sample_rate_hz, validation_share, workers)
    level = word(level, "level", LEVELS)  # type: ignore[assignment]
    if cluster is not None:
        if workers is not None:
            raise UsageError("workers and a cluster were given", "The cluster has its own workers.")
        check_cluster(cluster)
    weights = trackers.check_tracker(pitch, crepe_weights)
    found = pick(find(inputs), hold_out, leave_out)
    name = dataset_name(name or (out.name if out else ""), [path for path in inputs if path not in found.unusable])
    folder = out if out else Path("datasets") / name
    named = load_sources(Path(sources)) if sources is not None else SourcesFile(sources=[])
    settings = Settings(
        name=name,
        sample_rate_hz=sample_rate_hz,
        features=msgspec.structs.replace(spec, pitch=_pitch_of(found, pitch)),
        level=level,
        validation_share=validation_share,
        keep_polyphonic=keep_polyphonic,
        hold_out=hold_out,
        leave_out=leave_out,
        licence=named.licence if licence == "unknown" else licence,
        sources=named.sources,
        remarks=named.remarks,
    )
    if not found.recordings:
        weights = None
    # Of a data set at an address the work is done here, beside where data sets are.
    with staging(Path("datasets") / name if is_address(folder) else folder) as place:
        existing = find_existing(folder, found, settings, force)
        if isinstance(existing, Manifest):
            place.remove()
            return result_of(folder, existing, unchanged=True, unusable=found.unusable)
        try:
            place.start(measuring_key(settings, weights), fresh=force)
            if existing == "grows":
                place.reuse_measured()
            report_progress, announce = progress or (lambda *_: None), notice or (lambda _: None)
            n_workers = min(workers or usable_cores(), max(1, len(found.recordings)))
            with open_engine(cluster, n_workers, place.root, announce) as engine:
                built = build(place, found, settings, engine, report_progress, weights, announce)
            if report:
                write_dataset_report(place.result, built, report_progress)
            if is_address(folder):
                publish(place.result, folder, MANIFEST, DATASET.entries)
                result = result_of(folder, built.manifest, unchanged=False, unusable=found.unusable)
                place.remove()
                return result
            place.publish(recording.sha256 for recording in iter_recordings(place.result, built.manifest))
        except InputError:
            place.remove()  # more recordings are needed, not another try
            raise
        except OSError as problem:
            kept = "The finished part is kept: run the same command again to resume." if place.has_work() else ""
            raise OutputError(f"{folder} cannot be written: {problem.strerror or problem}", kept) from problem
    return result_of(folder, built.manifest, unchanged=False, unusable=found.unusable)


def _pitch_of(found: Inputs, pitch: str) -> str:
    """Returns the tracker: shards come with their F0."""
    if not found.shards:
        return pitch
    if found.recordings:
        raise UsageError(
            "shards and recordings cannot be mixed: their pitch was measured differently",
            "Make a data set of each, or of the recordings alone.",
        )
    return TRACKER


def find_existing(
    folder: Path, found: Inputs, settings: Settings, force: bool
) -> Manifest | Literal["nothing", "grows"]:
    """Finds the data set that a folder holds.

    Args:
      folder: of the data set.
      found: the recordings that were given.
      settings: to prepare them with.
      force: replace a data set that exists.

    Returns:
      Its manifest where it is up to date; "grows" where recordings have to be added to it; "nothing" where there is
      none, or it is to be replaced.

    Raises:
      OutputError: the folder holds something else, or a data set of other recordings or settings.
      InputError: the shards that were given are damaged.
    """
    with reading(folder):
        if not folder.exists():
            return "nothing"
        is_set = (folder / MANIFEST).is_file()
        if not folder.is_dir() or (not is_set and _holds_others(folder)):
            raise OutputError(f"{folder} exists and is not a data set", "Choose another folder or name.")
    if force or not is_set:
        return "nothing"
    try:
        manifest = load_manifest(folder)
    except DatasetError as problem:
        raise OutputError(f"{folder} holds an unreadable data set: {problem.message}",
                          "Replace it with force=True.", kind=Kind.EXISTS) from problem  # fmt: skip
    different = settings.differences(manifest)
    in_shards = {} if different else identify(found.shards)
    missing = "" if different else _missing(folder, found, in_shards, manifest)
    if different or missing:
        why = (
            f"with another {', '.join(different)}"
            if different
            else f"from recordings that are not given now: {missing}"
        )
        raise OutputError(
            f"{folder} exists already and was made {why}",
            "Replace it with force=True, or choose another name.",
            kind=Kind.EXISTS,
        )
    same = all(getattr(settings, field) == getattr(manifest, field) for field in ("licence", "sources", "remarks"))
    same = same and len(found.recordings) + len(in_shards) == manifest.n_recordings
    if same and manifest.created_with == __version__ and _shards_stand(folder, manifest):
        return manifest
    return "grows"


def _holds_others(folder: Path) -> bool:
    """Whether a folder without a manifest holds anything, at an address more than an interrupted upload leaves."""
    return bool(DATASET.foreign_entries(folder)) if is_address(folder) else any(folder.iterdir())


def _missing(folder: Path, found: Inputs, in_shards: Mapping[str, str], manifest: Manifest) -> str:
    """Names the recordings of a data set that are not among the given ones, byte for byte; empty where all are.

    Args:
      folder: of the data set.
      found: the recordings that were given.
      in_shards: recordings in the shards that were given, see `magenta_shards.identify`.
      manifest: of the data set.
    """
    gone, n_gone = [], 0
    for recording in iter_recordings(folder, manifest):
        if recording.split == "none" or in_shards.get(recording.path) == recording.sha256:
            continue
        path = found.recordings.path_of(recording.path)
        if path is None or not _is_same(path, recording):
            n_gone += 1
            gone.append(recording.path)
            del gone[3:]
    return ", ".join(gone) + (f" and {n_gone - 3} more" if n_gone > 3 else "")


def _is_same(path: Path, recording: Recording) -> bool:
    """Whether a file is the recording, byte for byte; a note among others in a file is taken for it."""
    if SHARD_NAME.match(path.name):
        return True
    with local_copy(path) as copy:
        return sha256(copy) == recording.sha256


def _shards_stand(folder: Path, manifest: Manifest) -> bool:
    return all((folder / shard).is_file() for split in (manifest.train, manifest.validation) for shard in split.shards)


def _check_options(sample_rate_hz: int, validation_share: float, workers: int | None) -> None:
    if sample_rate_hz not in SAMPLE_RATES_HZ:
        rates = ", ".join(map(str, SAMPLE_RATES_HZ))
        raise UsageError(
            f"models cannot have a rate of {sample_rate_hz} Hz", f"Use one of {rates}.", parameter="sample_rate_hz"
        )
    if not 0.0 <= validation_share <= 0.5:
        raise UsageError(
            f"the validation share {validation_share} is out of range",
            "Use a number from 0 to 0.5.",
            parameter="validation_share",
        )
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more, not {workers}", parameter="workers")
