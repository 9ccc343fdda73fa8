"""pYIN (Mauch and Dixon 2014), as librosa implements it: a pitch tracker without a network."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddsp_cli.analysis.pitch.trackers import PITCH_RANGE_HZ, UNVOICED_CONFIDENCE, VOICED_CONFIDENCE, PitchTrack
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.lock import in_turn
from ddsp_cli.packages import require

#: pYIN is run on this much at once (20 s), a multiple of its hop as the context is, so that frames stay on one grid.
PYIN_BLOCK_SAMPLES = 1250 * 256

#: pYIN's Viterbi path forgets where it started within this context on either side of a block.
PYIN_CONTEXT_SAMPLES = 64 * 256


@functools.cache
def _librosa_pyin() -> Callable[..., tuple[DoubleArray, BoolArray, DoubleArray]]:
    """Imports `librosa.pyin` and lets Numba compile it.

    Numba compiles at the first use after an installation and caches the code in files. Two processes that do so at
    once leave files that crash those who load them, so they take turns.
    """
    with in_turn(Path(tempfile.gettempdir()) / "ddsp-librosa.lock"):
        require("pitch tracker pyin", "librosa")
        import librosa

        tone = np.sin(np.arange(2 * PyinTracker.FRAME_SAMPLES) * 0.1).astype(np.float32)
        librosa.pyin(tone, fmin=PITCH_RANGE_HZ[0], fmax=PITCH_RANGE_HZ[1], sr=ANALYSIS_RATE_HZ)
        return librosa.pyin


class PyinTracker:
    """pYIN: slow, good on clean single notes.

    Blocks overlap by `PYIN_CONTEXT_SAMPLES` on either side, so memory is bounded for any length.
    """

    HOP_SAMPLES = 256
    FRAME_SAMPLES = 2048

    def __init__(self) -> None:
        self._pyin = _librosa_pyin()
        self._buffer = np.zeros(0, np.float32)
        self._n_context = 0  # samples at the start of the buffer that were tracked already
        self._f0_hz: list[FloatArray] = []
        self._confidence: list[FloatArray] = []

    def push(self, block: FloatArray) -> None:
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= self._n_context + PYIN_BLOCK_SAMPLES + PYIN_CONTEXT_SAMPLES:
            end = self._n_context + PYIN_BLOCK_SAMPLES
            self._track(self._buffer[: end + PYIN_CONTEXT_SAMPLES], end)
            self._buffer = self._buffer[end - PYIN_CONTEXT_SAMPLES :]
            self._n_context = PYIN_CONTEXT_SAMPLES

    def finish(self) -> PitchTrack:
        if len(self._buffer) > self._n_context:
            self._track(self._buffer, len(self._buffer))
        empty = np.zeros(0, np.float32)
        f0_hz, confidence = np.concatenate([empty, *self._f0_hz]), np.concatenate([empty, *self._confidence])
        return PitchTrack(f0_hz, confidence, self.HOP_SAMPLES)

    def _track(self, audio: FloatArray, end: int) -> None:
        """Tracks `audio` and keeps the frames centred on samples from the context up to `end`."""
        f0_hz, voiced, probability = self._pyin(
            audio,
            fmin=PITCH_RANGE_HZ[0],
            fmax=PITCH_RANGE_HZ[1],
            sr=ANALYSIS_RATE_HZ,
            frame_length=self.FRAME_SAMPLES,
            hop_length=self.HOP_SAMPLES,
            fill_na=0.0,
        )
        # the Viterbi path decides which frames are voiced; the probability may be on the other side of 0.5
        at_least, at_most = np.maximum(probability, VOICED_CONFIDENCE), np.minimum(probability, UNVOICED_CONFIDENCE)
        confidence = np.where(voiced, at_least, at_most)
        keep = slice(self._n_context // self.HOP_SAMPLES, -(-end // self.HOP_SAMPLES))
        self._f0_hz.append(f0_hz[keep].astype(np.float32))
        self._confidence.append(confidence[keep].astype(np.float32))
