"""Keep measurements on disk while `ddsp prepare` runs, and for its next run.

    datasets/.ddsp-….lock         held while a run lasts
    datasets/.NAME.preparing/     settings.json: the settings of the data set
                                  measured/: features of each recording, by its checksum
                                  parts/: the segments that were cut out of each recording
                                  set/: what becomes datasets/NAME
    datasets/NAME/measured/       the features, for when recordings are added

Every file carries a digest or its CRC-32 is recorded. A killed run resumes with all undamaged files; the rest
is measured again. Shapes: S samples, F frames.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from ddsp_cli.analysis.features import n_frames
from ddsp_cli.atomic import beside, replace_folder, write_bytes, writing
from ddsp_cli.checksum import seal, unseal
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset.manifest import DATASET, MEASURED, Doubt, NoteLabel
from ddsp_cli.lock import exclusive, lock_file

SETTINGS = "settings.json"


# --- the features of a recording, before anything is cut -----------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Measurements of a whole recording.

    Attributes:
      f0_hz: [F] F0 with octave errors corrected, 0 where unvoiced.
      confidence: [F] of the F0, 0..1.
      power_db: [F] RMS level in dBFS.
      polyphonic: [F] bool.
      n_samples: length at 16 kHz.
      doubts: doubtful places.
      remarks: warnings and notes, as sentences without a full stop.
    """

    f0_hz: np.ndarray
    confidence: np.ndarray
    power_db: np.ndarray
    polyphonic: np.ndarray
    n_samples: int
    doubts: tuple[Doubt, ...] = ()
    remarks: tuple[str, ...] = ()


class _MeasuredHeader(msgspec.Struct):
    n_samples: int
    doubts: list[Doubt]
    remarks: list[str]


def save_measured(path: Path, measured: Measured) -> None:
    """Writes features: a line with their digest, a line of JSON, rows of float32 [4, F]."""
    header = _MeasuredHeader(measured.n_samples, list(measured.doubts), list(measured.remarks))
    rows = np.stack([measured.f0_hz, measured.confidence, measured.power_db, measured.polyphonic]).astype("<f4")
    content = seal(msgspec.json.encode(header) + b"\n" + rows.tobytes())
    write_bytes(path, content, part_name(path), durable=False)


def load_measured(folder: Path | None, digest: str, hop_samples: int) -> Measured | None:
    """Reads the features that an earlier run measured.

    Args:
      folder: of measured features; None for none.
      digest: SHA-256 of the recording.
      hop_samples: of the frames.

    Returns:
      The features, or None if they are missing or damaged.
    """
    if folder is None:
        return None
    try:
        first, _, content = unseal((folder / f"{digest}.measured").read_bytes()).partition(b"\n")
        header = msgspec.json.decode(first, type=_MeasuredHeader)
        rows = np.frombuffer(content, "<f4").reshape(4, n_frames(header.n_samples, hop_samples))
    except (OSError, ValueError):
        return None
    if not np.isfinite(rows).all():
        return None
    doubts, remarks = tuple(header.doubts), tuple(header.remarks)
    return Measured(rows[0], rows[1], rows[2], rows[3] > 0, header.n_samples, doubts, remarks)


# --- the segments that were cut out of a recording -----------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Job of a worker: measure one recording.

    Attributes:
      path: of the file.
      name: of the recording in the data set.
      stem: path that the names of the files it writes begin with.
      sample_rate_hz: the model's rate.
      spec: how to measure.
      keep_polyphonic: keep polyphonic parts.
      weights: a file of weights for the pitch tracker.
      measured: folder of measured features; None measures again.
      offset: bytes before it, where the recording is a record of the TFRecord file `path`; else None.
      label: from its metadata, where there is any.
    """

    path: Path
    name: str
    stem: Path
    sample_rate_hz: int
    spec: FeatureSpec
    keep_polyphonic: bool = False
    weights: Path | None = None
    measured: Path | None = None
    offset: int | None = None
    label: NoteLabel | None = None

    @property
    def rates_hz(self) -> list[int]:
        """The sample rates at which audio is kept."""
        return sorted({self.sample_rate_hz, ANALYSIS_RATE_HZ})

    @property
    def frames_file(self) -> Path:
        """Features of the kept frames."""
        return self.stem.with_suffix(".frames")

    @property
    def record_file(self) -> Path:
        """The record of the recording, written last."""
        return self.stem.with_suffix(".json")

    def audio_file(self, rate_hz: int) -> Path:
        """Returns the kept audio at one sample rate."""
        return self.stem.with_suffix(f".{rate_hz}.audio")


@dataclass(frozen=True)
class CutRecording:
    """A recording and its segments. If it cannot be used, `reason` says why and there are no segments.

    Attributes:
      job: that was done.
      sha256: of the file; empty where it could not be read.
      seconds: length of the recording.
      n_frames: F, how much is kept.
      note_s: seconds of notes in that.
      peak: largest absolute sample of the kept sound, at the model's rate and at 16 kHz.
      loud_peak: the same without clicks: at most 3 dB above the 99.5th percentile of short stretches.
      polyphonic_s: seconds that are polyphonic.
      doubts: doubtful places in the recording, the longest where there are very many.
      n_doubts: how many there are of each kind.
      remarks: warnings and notes, as sentences without a full stop.
      reason: why it cannot be used; empty where it can.
      parts: name → CRC-32 of each file written.
    """

    job: Job
    sha256: str = ""
    seconds: float = 0.0
    n_frames: int = 0
    note_s: float = 0.0
    peak: float = 0.0
    loud_peak: float = 0.0
    polyphonic_s: float = 0.0
    doubts: tuple[Doubt, ...] = ()
    n_doubts: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    reason: str = ""
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def used_s(self) -> float:
        """Seconds kept."""
        return self.n_frames / self.job.spec.frame_rate_hz

    def frames(self) -> dict[str, np.ndarray]:
        """Returns `f0_hz`, `f0_confidence` and `power_db` (before any gain) of the kept frames, [F] each."""
        rows = np.fromfile(self.job.frames_file, "<f4").reshape(3, self.n_frames)
        return {"f0_hz": rows[0], "f0_confidence": rows[1], "power_db": rows[2]}

    def audio(self, rate_hz: int, first: int, last: int) -> np.ndarray:
        """Returns samples [first, last) of the kept audio."""
        return np.fromfile(self.job.audio_file(rate_hz), "<f4", last - first, offset=4 * first)

    def save(self) -> CutRecording:
        """Writes the record, after which the recording counts as done."""
        path = self.job.record_file
        write_bytes(path, seal(encode_cut(self)), part_name(path), durable=False)
        return self


_RECORDED = (
    "sha256", "seconds", "n_frames", "note_s", "peak", "loud_peak", "polyphonic_s", "doubts", "n_doubts", "remarks",
    "reason", "parts",
)  # fmt: skip


def encode_cut(found: CutRecording) -> bytes:
    """Returns the record of a recording, without its job, as JSON."""
    return msgspec.json.encode(msgspec.to_builtins({name: getattr(found, name) for name in _RECORDED}))


def decode_cut(job: Job, record: bytes) -> CutRecording:
    """Returns the recording whose record `encode_cut` made.

    Raises:
      ValueError, TypeError, KeyError: it is not such a record.
    """
    values: dict[str, Any] = msgspec.json.decode(record)
    values["doubts"] = tuple(msgspec.convert(values["doubts"], list[Doubt]))
    values["remarks"] = tuple(values["remarks"])
    return CutRecording(job, **values)


def load_cut(job: Job, sha256: str) -> CutRecording | None:
    """Reads the segments that an earlier run cut from the same bytes; None if they are missing or damaged."""
    try:
        found = decode_cut(job, unseal(job.record_file.read_bytes()))
        folder = job.stem.parent
        if found.sha256 != sha256 or any(crc32(folder / name) != value for name, value in found.parts.items()):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found


#: Sound up to this size stays in memory while a recording is measured: 65 s at 16 kHz.
SPOOLED_BYTES = 1 << 22


class Spool:
    """Sound [S] that is written once and read several times: in memory while it is short, else in a file.

    A context manager; the file vanishes at its end.

    Args:
      path: of the file, hidden in a folder that `Staging.start` clears.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: list[np.ndarray] = []
        self._stream: BinaryIO | None = None
        self.n_samples = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._path.unlink(missing_ok=True)

    def push(self, block: np.ndarray) -> None:
        """Takes the next samples.

        Raises:
          OSError: the file cannot be written.
        """
        self._blocks.append(np.asarray(block, "<f4"))
        self.n_samples += len(block)
        if self._stream is None and 4 * self.n_samples > SPOOLED_BYTES:
            self._stream = self._path.open("w+b")
        if self._stream is not None:
            self._stream.seek(0, os.SEEK_END)
            for waiting in self._blocks:
                self._stream.write(waiting.tobytes())
            self._blocks.clear()

    def read(self, first: int, last: int) -> np.ndarray:
        """Returns samples [first, last)."""
        if self._stream is not None:
            self._stream.seek(4 * first)
            return np.frombuffer(self._stream.read(4 * max(last - first, 0)), "<f4")
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, "<f4"), *self._blocks])]
        return self._blocks[0][first:last]

    def blocks(self, n_block: int) -> Iterator[np.ndarray]:
        """Yields all samples in blocks of up to `n_block`."""
        return (self.read(at, min(at + n_block, self.n_samples)) for at in range(0, self.n_samples, n_block))


def write_floats(path: Path, blocks: Iterable[np.ndarray]) -> int:
    """Writes arrays one after another as float32, beside their place first; returns the CRC-32 of the file."""
    checksum = 0
    with beside(path, part_name(path), durable=False) as part, part.open("wb") as stream:
        for block in blocks:
            content = np.ascontiguousarray(block, "<f4").tobytes()
            checksum = zlib.crc32(content, checksum)
            stream.write(content)
    return checksum


def crc32(path: Path) -> int:
    """Returns the CRC-32 of a file's bytes."""
    checksum = 0
    with path.open("rb") as stream:
        while content := stream.read(1 << 20):
            checksum = zlib.crc32(content, checksum)
    return checksum


# --- the staging folder --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staging:
    """The folders of a data set that is being prepared.

    Attributes:
      root: the hidden folder.
      folder: of the data set.
    """

    root: Path
    folder: Path

    @property
    def parts(self) -> Path:
        """Folder of the segments that were cut."""
        return self.root / "parts"

    @property
    def measured(self) -> Path:
        """Measured features."""
        return self.root / MEASURED

    @property
    def result(self) -> Path:
        """Folder that becomes the data set."""
        return self.root / "set"

    def start(self, settings: bytes, fresh: bool) -> None:
        """Makes the folders, and keeps the results of an earlier run with the same settings.

        Args:
          settings: all that decides how a recording is measured and cut.
          fresh: remove earlier measurements.

        Raises:
          OSError: the folders cannot be made.
        """
        noted = self.root / SETTINGS
        if fresh or not noted.is_file() or noted.read_bytes() != settings:
            shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.result, ignore_errors=True)
        for folder in (self.parts, self.measured, self.result):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.parts, self.measured):
            for half_written in folder.glob(".*"):
                half_written.unlink(missing_ok=True)
        if not noted.is_file():
            write_bytes(noted, settings, part_name(noted), durable=False)

    def reuse_measured(self) -> None:
        """Takes over the features that were measured for the existing data set."""
        for source in (self.folder / MEASURED).glob("*.measured"):
            target = self.measured / source.name
            if not target.exists():
                _link_or_copy(source, target)

    def publish(self, wanted: Iterable[str]) -> None:
        """Moves the finished data set to its place.

        Args:
          wanted: SHA-256 of the recordings whose features are kept with it; some may be there twice.

        Raises:
          OSError: it cannot be moved.
        """
        kept = self.result / MEASURED
        kept.mkdir()
        for digest in wanted:
            source, target = (folder / f"{digest}.measured" for folder in (self.measured, kept))
            if source.is_file() and not target.exists():
                _link_or_copy(source, target)  # not moved: a kill must lose nothing
        replace_folder(self.result, self.folder, DATASET)
        self.remove()

    def remove(self) -> None:
        """Removes the staging folder."""
        # rmtree first lists a folder as a whole, which took 110 MB for 300,000 recordings.
        for folder in (self.parts, self.measured):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    Path(entry.path).unlink()
        shutil.rmtree(self.root, ignore_errors=True)

    def has_work(self) -> bool:
        """Whether there are results from which a next run can resume."""
        return any(self.measured.glob("*.measured")) or any(self.parts.glob("*.json"))


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Staging]:
    """Opens the staging folder of a data set, locked for this process.

    Raises:
      OutputError: another process prepares this data set, or the place cannot be written.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(lock_file(folder), str(folder), "preparation", "name"):
        real = Path(os.path.realpath(folder))  # of a link: staging and data set are on one file system
        place = Staging(real.with_name(f".{real.name}.preparing"), folder)
        try:
            yield place
        finally:
            if place.root.is_dir() and not place.has_work():
                place.remove()


def _link_or_copy(source: Path, target: Path) -> None:
    """Makes a hard link to a file that is not changed any more, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def part_name(path: Path) -> str:
    """Returns the name of a file while it is written; `Staging.start` removes such files of killed runs."""
    return f".{path.name}.part"
