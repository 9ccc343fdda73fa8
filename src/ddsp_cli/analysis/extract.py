"""From sound to `Features`: pitch, loudness and power on one grid, block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddsp_cli.analysis import loudness
from ddsp_cli.analysis.features import Features, n_frames
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.audio import read
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import InputError

#: What is measured at once. Everything pushed is cut at multiples of this, so that the result is the same to the
#: last bit however it was pushed; 10 s keep the tracker's memory small.
BLOCK_SAMPLES = 10 * ANALYSIS_RATE_HZ


class FeatureStream:
    """Measures a recording that arrives in blocks.

    Memory grows only by the features themselves, 20 bytes a frame (18 MB an hour at 250 Hz).

    Args:
      spec: how to measure.
      threads: how many threads the tracker may use; None leaves it to the tracker.
      weights: a file of weights for the tracker, see `pitch.open_tracker`.
      with_loudness: False leaves `loudness_db` at its floor, for those who measure it later; it takes a tenth of the
        time.

    Raises:
      UsageError: the tracker that the spec names is unknown or unavailable.
    """

    def __init__(
        self,
        spec: FeatureSpec | None = None,
        threads: int | None = None,
        weights: Path | None = None,
        with_loudness: bool = True,
    ) -> None:
        self.spec = spec or FeatureSpec()
        self._tracker = trackers.open_tracker(self.spec.pitch, threads, weights)
        self._loudness = loudness.loudness_stream(self.spec) if with_loudness else None
        self._power = loudness.power_stream(self.spec)
        self._envelope = loudness.envelope_stream(ANALYSIS_RATE_HZ, self.spec.hop_samples, self.spec.floor_db)
        self._loudness_parts: list[np.ndarray] = []
        self._power_parts: list[np.ndarray] = []
        self._envelope_parts: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0
        self._n_samples = 0

    def push(self, block: np.ndarray) -> None:
        """Takes the next samples, [S] float32 at 16 kHz.

        Raises:
          InputError: NaN or infinite samples.
        """
        block = np.asarray(block, np.float32)
        if not np.isfinite(block).all():
            raise InputError("the sound holds NaN or infinite samples")
        self._waiting.append(block)
        self._n_waiting += len(block)
        if self._n_waiting >= BLOCK_SAMPLES:
            audio = np.concatenate(self._waiting)
            n_whole = len(audio) // BLOCK_SAMPLES * BLOCK_SAMPLES
            for start in range(0, n_whole, BLOCK_SAMPLES):
                self._measure(audio[start : start + BLOCK_SAMPLES])
            self._waiting = [audio[n_whole:].copy()]
            self._n_waiting = len(audio) - n_whole

    def finish(self) -> Features:
        """The features of everything pushed.

        Raises:
          InputError: nothing was pushed.
        """
        if self._n_waiting:
            self._measure(np.concatenate(self._waiting))
        self._waiting, self._n_waiting = [], 0
        if self._n_samples == 0:
            raise InputError("the sound is empty: it has 0 samples")
        hop_samples = self.spec.hop_samples
        f0_hz, confidence = trackers.on_grid(
            self._tracker.finish(), n_frames(self._n_samples, hop_samples), hop_samples
        )
        power_db = np.concatenate([*self._power_parts, self._power.finish()])
        # A tracker can be sure of itself in silence; there is no pitch where there is no sound.
        sounding = power_db > self.spec.floor_db
        if self._loudness is not None:
            loudness_db = np.concatenate([*self._loudness_parts, self._loudness.finish()])
        else:
            loudness_db = np.full_like(power_db, self.spec.floor_db)
        return Features(
            f0_hz=np.where(sounding, f0_hz, np.float32(0.0)),
            f0_confidence=np.where(sounding, confidence, np.float32(0.0)),
            loudness_db=loudness_db,
            power_db=power_db,
            spec=self.spec,
            n_samples=self._n_samples,
            envelope_db=np.concatenate([*self._envelope_parts, self._envelope.finish()]),
        )

    def _measure(self, block: np.ndarray) -> None:
        self._n_samples += len(block)
        self._tracker.push(block)
        if self._loudness is not None:
            self._loudness_parts.append(self._loudness.push(block))
        self._power_parts.append(self._power.push(block))
        self._envelope_parts.append(self._envelope.push(block))


def measure(audio: np.ndarray, spec: FeatureSpec | None = None, threads: int | None = None) -> Features:
    """Measures a whole signal.

    Args:
      audio: [S] at 16 kHz, mono.
      spec: how to measure; the default is what data sets are made with.
      threads: how many threads the tracker may use.

    Raises:
      InputError: no samples, or NaN among them.
      UsageError: the tracker is unknown or unavailable.
    """
    stream = FeatureStream(spec, threads)
    stream.push(audio)
    return stream.finish()


def measure_file(
    path: Path,
    spec: FeatureSpec | None = None,
    progress: Callable[[float], None] | None = None,
    threads: int | None = None,
) -> Features:
    """Measures a file in memory that does not depend on its length (but for the features themselves).

    Args:
      path: any file that `io` reads.
      spec: how to measure.
      progress: called now and then with the seconds measured so far.
      threads: how many threads the tracker may use.

    Raises:
      InputError: as `io.mono_blocks`.
      UsageError: the tracker is unknown or unavailable.
    """
    stream = FeatureStream(spec, threads)
    n_samples = 0
    for block in read.mono_blocks(path, ANALYSIS_RATE_HZ):
        stream.push(block)
        n_samples += len(block)
        if progress is not None:
            progress(n_samples / ANALYSIS_RATE_HZ)
    return stream.finish()
