"""One recording on its way into a data set: what shall be done with it, and what became of it, on disk.

Whatever a worker finishes is described by a small file that is written last. Who finds it, and finds it true, need not
do the work again; that is all there is to resuming. Shapes: S samples, F kept frames.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli.atomic import beside, write_bytes
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset.manifest import Doubt

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
        write_bytes(self.job.record_file, msgspec.json.encode(msgspec.to_builtins(fields)))
        return self


_RECORDED = (
    "sha256", "seconds", "n_frames", "note_s", "peak", "loud_peak", "polyphonic_s", "doubts", "n_doubts", "remarks",
    "reason", "parts",
)  # fmt: skip


def finished(job: Job, sha256: str) -> Take | None:
    """The take of an earlier run, where it is of the same bytes and all it wrote still stands there unharmed."""
    try:
        values: dict[str, Any] = msgspec.json.decode(job.record_file.read_bytes())
        values["doubts"] = tuple(msgspec.convert(values["doubts"], list[Doubt]))
        values["remarks"] = tuple(values["remarks"])
        take = Take(job, **values)
        folder = job.stem.parent
        if take.sha256 != sha256 or any(crc32(folder / name) != value for name, value in take.parts.items()):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return take


def write_floats(path: Path, blocks: Iterable[np.ndarray]) -> int:
    """Writes float32 arrays one after another, beside their place first; returns the CRC-32."""
    checksum = 0
    with beside(path) as part, part.open("wb") as stream:
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
