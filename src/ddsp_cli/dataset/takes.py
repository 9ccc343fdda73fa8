"""One recording measured and cut: the work of a worker process, and its result on disk.

TensorFlow is not imported here. Shapes: S samples, F kept frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import segments
from ddsp_cli.dataset.store import sha256
from ddsp_cli.errors import InputError
from ddsp_cli.features import extract, io
from ddsp_cli.features.frames import Features
from ddsp_cli.features.pitch import VOICED_CONFIDENCE

#: A recording that never gets louder than this (-80 dBFS) is silent.
SILENCE_PEAK = 1e-4


@dataclass(frozen=True)
class Job:
    """What a worker shall do.

    Attributes:
      path: the file.
      name: how the data set calls it.
      stem: beginning of the names of the files that the worker writes.
      sample_rate_hz: the model's rate.
      spec: how to measure.
    """

    path: Path
    name: str
    stem: Path
    sample_rate_hz: int
    spec: FeatureSpec


@dataclass(frozen=True)
class Take:
    """What became of a recording. `reason` is empty where it can be used; else nothing was written.

    Attributes:
      job: what was asked for.
      sha256: of the file, empty where it could not be read.
      seconds: its length.
      n_frames: F, how much of it is kept.
      note_s: how much of that is notes.
      peak: greatest absolute sample of what is kept, at the model's rate and at 16 kHz.
      reason: why nothing can be used.
    """

    job: Job
    sha256: str = ""
    seconds: float = 0.0
    n_frames: int = 0
    note_s: float = 0.0
    peak: float = 0.0
    reason: str = ""

    @property
    def used_s(self) -> float:
        """Seconds kept."""
        return self.n_frames / self.job.spec.frame_rate_hz

    def frames(self) -> dict[str, np.ndarray]:
        """`f0_hz`, `f0_confidence` and `power_db` (before any gain) of the kept frames, [F] each."""
        rows = np.load(_frames_file(self.job))
        return {"f0_hz": rows[0], "f0_confidence": rows[1], "power_db": rows[2]}

    def audio(self, rate_hz: int, start: int, end: int) -> Iterator[np.ndarray]:
        """The kept sound between two frames, in blocks [S] of up to 4 s."""
        first, last = (frame * rate_hz // self.job.spec.frame_rate_hz for frame in (start, end))
        with _audio_file(self.job, rate_hz).open("rb") as stream:
            stream.seek(first * 4)
            for at in range(first, last, 4 * rate_hz):
                yield np.frombuffer(stream.read(4 * min(4 * rate_hz, last - at)), np.float32)

    def discard(self) -> None:
        """Removes what the worker wrote."""
        for path in [_frames_file(self.job), *(_audio_file(self.job, rate_hz) for rate_hz in _rates(self.job))]:
            path.unlink(missing_ok=True)


def examine(job: Job, tick: Callable[[float], None] | None = None) -> Take:
    """Measures a recording, finds its notes, and writes what is to be kept below `job.stem`.

    A recording that cannot be used is no error here: the take says why.

    Args:
      job: what to do.
      tick: told how many more seconds of sound have been measured; may raise to stop the work.
    """
    done_s = 0.0

    def progress(seconds: float) -> None:
        nonlocal done_s
        if tick is not None:
            tick(seconds - done_s)
        done_s = seconds

    digest = ""
    try:
        info = io.probe(job.path)
        digest = sha256(job.path)
        features = extract.measure_file(job.path, job.spec, progress, threads=1)
        return _keep(job, features, digest)
    except InputError as problem:
        reason = problem.message.replace(f"{job.path} ", "", 1)
        return Take(job, digest, done_s if digest else 0.0, reason=reason)
    except OSError as problem:
        if digest:  # the input could be read: it is our own result that cannot be written
            raise
        return Take(job, reason=f"cannot be read: {problem.strerror or problem}")
    finally:
        if digest:
            progress(max(done_s, info.seconds))


def _keep(job: Job, features: Features, digest: str) -> Take:
    seconds = features.n_samples / ANALYSIS_RATE_HZ
    if features.power_db.max() <= features.spec.floor_db:
        return Take(job, digest, seconds, reason="is silent")
    notes = segments.note_frames(features)
    if not notes.any():
        return Take(job, digest, seconds, reason="holds no note: no pitch was found")
    kept = segments.segments(notes, features.spec.frame_rate_hz)
    confidence = np.where(notes, features.f0_confidence, np.minimum(features.f0_confidence, 0.98 * VOICED_CONFIDENCE))
    rows = (np.where(notes, features.f0_hz, 0.0), confidence, features.power_db)
    np.save(_frames_file(job), np.stack([segments.gather(row, kept) for row in rows]).astype(np.float32))
    peak = 0.0
    for rate_hz in _rates(job):
        with _audio_file(job, rate_hz).open("wb") as stream:
            for part in segments.cut(io.mono_blocks(job.path, rate_hz), kept, rate_hz, features.spec.frame_rate_hz):
                peak = max(peak, float(np.abs(part).max()))
                stream.write(part.tobytes())
    note_s = float(notes.sum()) / features.spec.frame_rate_hz
    return Take(job, digest, seconds, segments.total_frames(kept), note_s, peak)


def _rates(job: Job) -> list[int]:
    return sorted({job.sample_rate_hz, ANALYSIS_RATE_HZ})


def _frames_file(job: Job) -> Path:
    return job.stem.with_suffix(".npy")


def _audio_file(job: Job, rate_hz: int) -> Path:
    return job.stem.with_suffix(f".{rate_hz}.f32")
