"""Where a data set comes about: a hidden folder beside its place, locked, and found again after a kill.

datasets/.ddsp-….lock         held while a run lasts
datasets/.NAME.preparing/     settings.json, what it is being made with
                              parts/, each recording cut
                              measured/, each recording measured
                              set/, what becomes datasets/NAME


One recording on its way into a data set: what shall be done with it, and what became of it, on disk.

Whatever a worker finishes is described by a small file that is written last. Who finds it, and finds it true, need not
do the work again; that is all there is to resuming. Shapes: S samples, F kept frames.


All that is known of a recording before anything is cut, and where that is kept for the next time.

Shapes: S samples, F frames.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli.analysis.features import n_frames
from ddsp_cli.analysis.pitch.octave_correction import correct_octaves
from ddsp_cli.analysis.pitch.tracker import VOICED_CONFIDENCE
from ddsp_cli.arrays import runs
from ddsp_cli.atomic import beside, replace_folder, write_bytes, writing
from ddsp_cli.checksum import seal, unseal
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset.manifest import DATASET, Doubt, DoubtKind
from ddsp_cli.dataset.segments import without_short_runs
from ddsp_cli.lock import exclusive, lock_file

#: Sound is handed on in blocks of this many seconds.
BLOCK_S = 4


@dataclass(frozen=True)
class Job:
    """What a worker shall do.

    Attributes:
      path: the file.
      name: how the data set calls it.
      stem: beginning of the names of the files that the worker writes.
      sample_rate_hz: the model's rate.
      spec: how to measure.
      keep_polyphonic: keep what is more than one voice.
      weights: a file of weights for the pitch tracker.
      measured: folder of measurements, by checksum of the recording; empty measures anew.
    """

    path: Path
    name: str
    stem: Path
    sample_rate_hz: int
    spec: FeatureSpec
    keep_polyphonic: bool = False
    weights: Path | None = None
    measured: Path | None = None

    @property
    def rates_hz(self) -> list[int]:
        """At which rates the sound is kept."""
        return sorted({self.sample_rate_hz, ANALYSIS_RATE_HZ})

    @property
    def frames_file(self) -> Path:
        """Features of the kept frames."""
        return self.stem.with_suffix(".frames")

    @property
    def record_file(self) -> Path:
        """What became of the recording."""
        return self.stem.with_suffix(".json")

    def audio_file(self, rate_hz: int) -> Path:
        """The kept sound at one rate."""
        return self.stem.with_suffix(f".{rate_hz}.audio")


@dataclass(frozen=True)
class Take:
    """What became of a recording. `reason` is empty where it can be used; else nothing of it was kept.

    Attributes:
      job: what was asked for.
      sha256: of the file, empty where it could not be read.
      seconds: its length.
      n_frames: F, how much of it is kept.
      note_s: how much of that is notes.
      peak: greatest absolute sample of what is kept, at the model's rate and at 16 kHz.
      loud_peak: the same without clicks: no more than 3 dB above what 99.5 % of the short stretches stay below.
      polyphonic_s: how much was found to be more than one voice.
      doubts: doubtful places in the recording, the longest where there are very many.
      n_doubts: how many there are of each kind.
      remarks: what is remarkable about it, as sentences without a full stop.
      reason: why nothing can be used.
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
        """`f0_hz`, `f0_confidence` and `power_db` (before any gain) of the kept frames, [F] each."""
        rows = np.fromfile(self.job.frames_file, "<f4").reshape(3, self.n_frames)
        return {"f0_hz": rows[0], "f0_confidence": rows[1], "power_db": rows[2]}

    def audio(self, rate_hz: int, start: int, end: int) -> Iterator[np.ndarray]:
        """The kept sound between two frames, in blocks [S] of up to 4 s."""
        first, last = (frame * rate_hz // self.job.spec.frame_rate_hz for frame in (start, end))
        return read_floats(self.job.audio_file(rate_hz), first, last, BLOCK_S * rate_hz)

    def save(self) -> Take:
        """Writes the record that makes the work count as done."""
        fields = {name: getattr(self, name) for name in _RECORDED}
        content = seal(msgspec.json.encode(msgspec.to_builtins(fields)))
        write_bytes(self.job.record_file, content, _part_name(self.job.record_file), durable=False)
        return self


_RECORDED = (
    "sha256", "seconds", "n_frames", "note_s", "peak", "loud_peak", "polyphonic_s", "doubts", "n_doubts", "remarks",
    "reason", "parts",
)  # fmt: skip


def finished(job: Job, sha256: str) -> Take | None:
    """The take of an earlier run, where it is of the same bytes and all it wrote still stands there unharmed."""
    try:
        values: dict[str, Any] = msgspec.json.decode(unseal(job.record_file.read_bytes()))
        values["doubts"] = tuple(msgspec.convert(values["doubts"], list[Doubt]))
        values["remarks"] = tuple(values["remarks"])
        take = Take(job, **values)
        folder = job.stem.parent
        if take.sha256 != sha256 or any(crc32(folder / name) != value for name, value in take.parts.items()):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return take


def _part_name(path: Path) -> str:
    """The name of a file while it is written. `Staging.start` removes what a killed run left under such names."""
    return f".{path.name}.part"


def write_floats(path: Path, blocks: Iterable[np.ndarray]) -> int:
    """Writes float32 arrays one after another, beside their place first; returns the CRC-32."""
    checksum = 0
    with beside(path, _part_name(path), durable=False) as part, part.open("wb") as stream:
        for block in blocks:
            content = np.ascontiguousarray(block, "<f4").tobytes()
            checksum = zlib.crc32(content, checksum)
            stream.write(content)
    return checksum


def read_floats(path: Path, first: int, last: int, n_block: int) -> Iterator[np.ndarray]:
    """Numbers [first, last) of a file of float32, in blocks."""
    with path.open("rb") as stream:
        stream.seek(first * 4)
        for at in range(first, last, n_block):
            yield np.frombuffer(stream.read(4 * min(n_block, last - at)), "<f4")


def crc32(path: Path) -> int:
    """CRC-32 of a file's bytes."""
    checksum = 0
    with path.open("rb") as stream:
        while content := stream.read(1 << 20):
            checksum = zlib.crc32(content, checksum)
    return checksum


#: Monophonic moments shorter than this between two chords are left out with them.
BETWEEN_S = 0.3

LEAST_POLYPHONY_S = 0.06


@dataclass(frozen=True)
class Measured:
    """All that is known of a recording before anything is cut, [F] each.

    Attributes:
      f0_hz: mended, 0 where there is no pitch.
      confidence: of the pitch.
      power_db: RMS level.
      polyphonic: bool, where it is more than one voice.
      n_samples: length at 16 kHz.
      doubts: doubtful places.
      remarks: what is remarkable.
    """

    f0_hz: np.ndarray
    confidence: np.ndarray
    power_db: np.ndarray
    polyphonic: np.ndarray
    n_samples: int
    doubts: tuple[Doubt, ...] = ()
    remarks: tuple[str, ...] = ()


class _Notes(msgspec.Struct):
    n_samples: int
    doubts: list[Doubt]
    remarks: list[str]


def judge(
    f0_hz: np.ndarray, confidence: np.ndarray, power_db: np.ndarray, spool: Path, n_samples: int, frame_rate_hz: int,
    clipped_s: Iterable[tuple[float, float]] = (), remarks: Iterable[str] = (),
) -> Measured:  # fmt: skip
    """Mends the pitch and finds chords.

    Args:
      f0_hz, confidence, power_db: [F] as measured.
      spool: the sound at 16 kHz, float32.
      n_samples: its length.
      frame_rate_hz: of the frames.
      clipped_s: where it is clipped.
      remarks: what is already known to be remarkable.
    """

    def read(first: int, last: int) -> np.ndarray:
        return next(read_floats(spool, first, last, max(last - first, 1)), np.zeros(0, np.float32))

    corrected = correct_octaves(read, n_samples, f0_hz, frame_rate_hz)
    voiced = corrected.f0_hz > 0
    polyphonic = corrected.harmonicity.polyphonic(len(f0_hz), frame_rate_hz)
    polyphonic = without_short_runs(polyphonic & voiced, round(LEAST_POLYPHONY_S * frame_rate_hz))
    polyphonic = ~without_short_runs(~polyphonic, round(BETWEEN_S * frame_rate_hz)) & polyphonic.any()
    places: tuple[tuple[DoubtKind, np.ndarray], ...] = (
        ("polyphony", polyphonic), ("octave", corrected.corrected), ("jump", corrected.removed),
    )  # fmt: skip
    doubts = [
        Doubt(kind=kind, start_s=round(int(start) / frame_rate_hz, 2), end_s=round(int(end) / frame_rate_hz, 2))
        for kind, mask in places
        for start, end in zip(*runs(mask), strict=True)
    ]
    doubts += [Doubt(kind="clipping", start_s=round(start, 2), end_s=round(end, 2)) for start, end in clipped_s]
    confidence = np.where(voiced, confidence, np.minimum(confidence, 0.98 * VOICED_CONFIDENCE))
    return Measured(
        f0_hz=corrected.f0_hz,
        confidence=confidence.astype(np.float32),
        power_db=power_db,
        polyphonic=polyphonic,
        n_samples=n_samples,
        doubts=tuple(sorted(doubts, key=lambda doubt: (doubt.start_s, doubt.kind))),
        remarks=tuple(remarks),
    )


def remember(path: Path, measured: Measured) -> None:
    """Keeps measurements for a later run: a digest, a line of JSON, rows of float32 [4, F]."""
    notes = _Notes(measured.n_samples, list(measured.doubts), list(measured.remarks))
    rows = np.stack([measured.f0_hz, measured.confidence, measured.power_db, measured.polyphonic]).astype("<f4")
    content = seal(msgspec.json.encode(notes) + b"\n" + rows.tobytes())
    write_bytes(path, content, _part_name(path), durable=False)


def known(folder: Path | None, digest: str, hop_samples: int) -> Measured | None:
    """Measurements of the same bytes by an earlier run; None where there are none, or damaged ones.

    Args:
      folder: of measurements.
      digest: SHA-256 of the recording.
      hop_samples: of the frames.
    """
    if folder is None:
        return None
    try:
        first, _, content = unseal((folder / f"{digest}.measured").read_bytes()).partition(b"\n")
        notes = msgspec.json.decode(first, type=_Notes)
        rows = np.frombuffer(content, "<f4").reshape(4, n_frames(notes.n_samples, hop_samples))
    except (OSError, ValueError):
        return None
    if not np.isfinite(rows).all():
        return None
    return Measured(rows[0], rows[1], rows[2], rows[3] > 0, notes.n_samples, tuple(notes.doubts), tuple(notes.remarks))


SETTINGS = "settings.json"

#: Below the data set: measurements by checksum of the recording, for the next time it grows.
MEASURED = "measured"


@dataclass(frozen=True)
class Staging:
    """The folders of a data set that is being made.

    Attributes:
      root: the hidden folder.
      folder: where the data set will stand.
    """

    root: Path
    folder: Path

    @property
    def parts(self) -> Path:
        """Recordings that were cut."""
        return self.root / "parts"

    @property
    def measured(self) -> Path:
        """Recordings that were measured."""
        return self.root / MEASURED

    @property
    def result(self) -> Path:
        """What becomes the data set."""
        return self.root / "set"

    def start(self, settings: bytes, fresh: bool) -> None:
        """Makes the folders; what an earlier run left with the same settings stays.

        Raises:
          OSError: they cannot be made.
        """
        noted = self.root / SETTINGS
        if fresh or not noted.is_file() or noted.read_bytes() != settings:
            shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.result, ignore_errors=True)
        for folder in (self.parts, self.measured, self.result):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.parts, self.measured):
            for litter in folder.glob(".*"):  # half-written when the run before was killed
                litter.unlink(missing_ok=True)
        if not noted.is_file():
            write_bytes(noted, settings, _part_name(noted), durable=False)

    def reuse_measurements(self) -> None:
        """Takes over what was measured for the data set that stands there."""
        for known in (self.folder / MEASURED).glob("*.measured"):
            target = self.measured / known.name
            if not target.exists():
                _second(known, target)

    def publish(self, wanted: set[str]) -> None:
        """Moves the finished data set into its place, with the measurements named in `wanted` (checksums).

        Raises:
          OSError: it cannot be moved.
        """
        kept = self.result / MEASURED
        kept.mkdir()
        for digest in sorted(wanted):
            source = self.measured / f"{digest}.measured"
            if source.is_file():
                _second(source, kept / source.name)  # not moved: being killed here must lose nothing
        replace_folder(self.result, self.folder, DATASET)
        self.remove()

    def remove(self) -> None:
        """Leaves nothing behind."""
        shutil.rmtree(self.root, ignore_errors=True)

    def has_work(self) -> bool:
        """Whether something was finished that a next run can go on from."""
        return any(self.measured.glob("*.measured")) or any(self.parts.glob("*.json"))


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Staging]:
    """The staging of a data set, for this process alone.

    Raises:
      OutputError: another run is at it, or the place cannot be written.
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


def _second(source: Path, target: Path) -> None:
    """A second name for a file that nobody will change, or a copy where files have only one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
