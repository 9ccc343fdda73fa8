"""swift-f0, the default pitch tracker: a small convolutional network on ONNX Runtime, shipped in its package (MIT)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ddsp_cli import onnx_session, spool
from ddsp_cli.analysis.pitch.tracker import PitchTrack
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import ANALYSIS_RATE_HZ

SWIFT_HOP_SAMPLES = 256

#: Frames (of 16 ms) in a call of the network: 10 s keep its memory small.
SWIFT_BLOCK_FRAMES = 625

#: The receptive field reaches 2815 samples to either side (swift_f0/core.py), so with this many frames around it the
#: result of a block is that of the whole recording.
SWIFT_CONTEXT_FRAMES = 11

#: Where swift-f0's frame 0 is centred. Measured with version 0.3 on glides of 1 and 3 octaves in 6 s and on vibrato
#: of 3 and 5.5 Hz: the best offset is 0.0 ± 0.5 ms, the bias at 0 below 0.7 cents.
SWIFT_DELAY_SAMPLES = 0


class SwiftTracker:
    """Tracks F0 of sound of any length in bounded memory.

    Args:
      threads: size of the thread pool; None lets ONNX Runtime choose.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._network = _swift_network(threads)
        self._buffer = np.zeros(0, np.float32)
        self._n_context = 0  # frames at the start of the buffer that were tracked already
        self._f0_hz, self._confidence = spool.GrowingArray(), spool.GrowingArray()

    def push(self, block: FloatArray) -> None:
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= (self._n_context + SWIFT_BLOCK_FRAMES + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES:
            end = self._n_context + SWIFT_BLOCK_FRAMES
            self._track(self._buffer[: (end + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES], end)
            self._buffer = self._buffer[(end - SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES :]
            self._n_context = SWIFT_CONTEXT_FRAMES

    def finish(self) -> PitchTrack:
        # Whole hops only reach the network; silence fills up the last one so that the end is tracked as well.
        audio = np.pad(self._buffer, (0, -len(self._buffer) % SWIFT_HOP_SAMPLES))
        end = len(audio) // SWIFT_HOP_SAMPLES
        if end > self._n_context:
            self._track(audio, end)
        return PitchTrack(self._f0_hz.finish(), self._confidence.finish(), SWIFT_HOP_SAMPLES, SWIFT_DELAY_SAMPLES)

    def _track(self, audio: FloatArray, end: int) -> None:
        """Tracks `audio` and keeps its frames from the context up to `end`."""
        found = self._network.detect(audio, ANALYSIS_RATE_HZ)
        keep = slice(self._n_context, end)
        self._f0_hz.push(found.pitch_hz[keep].astype(np.float32))
        self._confidence.push(found.confidence[keep].astype(np.float32))


class SwiftFrameTracker:
    """Tracks single frames, for live playing: a call with 14 frames of sound takes 2 ms on one core.

    The network is called directly: `SwiftF0.detect` also measures the level of every frame, 50 % more time.
    """

    def __init__(self) -> None:
        self._session = _swift_network(1).session
        from swift_f0.core import FMAX, FMIN, SILENCE_PEAK

        self._limits = {"fmin": np.asarray(FMIN, np.float32), "fmax": np.asarray(FMAX, np.float32)}
        self._silence = SILENCE_PEAK

    def __call__(self, audio: FloatArray, frame: int) -> tuple[float, float]:
        """F0 in Hz and confidence of one frame of sound [S] at 16 kHz, S a multiple of 256."""
        own = audio[frame * SWIFT_HOP_SAMPLES : (frame + 1) * SWIFT_HOP_SAMPLES]
        f0_hz, confidence = self._session.run(["pitch", "confidence"], {"audio": audio[None], **self._limits})
        silent = np.abs(own).max() < self._silence
        return float(f0_hz[0, frame]), 0.0 if silent else float(confidence[0, frame])


@functools.lru_cache(maxsize=2)
def _swift_network(threads: int | None) -> Any:
    """Loads the network, once for all recordings (20 ms)."""
    onnx_session.load()  # before swift-f0 imports it with telemetry on
    from swift_f0 import SwiftF0

    # Not spinning leaves the cores to the other workers between two blocks.
    return SwiftF0(threads=threads, spin=False)
