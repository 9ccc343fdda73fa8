"""Measure F0 and level of a sound while it arrives, each frame with a short look-ahead.

Shapes: S samples at 16 kHz, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ddsp_cli.analysis.loudness import ENVELOPE_WINDOW_S, envelope_stream, loudness_stream, power_stream
from ddsp_cli.analysis.pitch.swift_f0 import SWIFT_HOP_SAMPLES, SwiftFrameTracker
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec

Latency: TypeAlias = Literal["safe", "low"]

#: Look-ahead in samples after a frame's time. `safe`: half the window of the power, 32 ms.
#: `low`: 10 ms; windows of the level end there, and so are late by up to 22 ms.
LOOKAHEAD_SAMPLES: dict[Latency, int] = {"safe": 512, "low": 160}

#: Frames of swift-f0 before the one that is measured. It sees 176 ms to either side; unknown samples are extrapolated,
#: to `TRACKED_SAMPLES` in all: by the last samples in reverse, and in `low` latency by the last period over and over
#: where the sound is periodic.
BEFORE_FRAMES = 8

TRACKED_SAMPLES = 14 * SWIFT_HOP_SAMPLES

#: Last samples that are searched for a period, between 50 Hz and 1 kHz; shorter ones fit several times. The
#: sound counts as periodic from this correlation of two of its stretches on.
PERIOD_WINDOW_SAMPLES, PERIODS_SAMPLES, PERIODIC = 320, (16, 330), 0.8

#: Penalty of a longer period, in correlation for each sample: of two that fit equally well the shorter one is taken.
LONGER_PERIOD_COST = 0.0003

#: With a shorter look-ahead noise is more often taken for a pitch. In `low` latency the confidence of periodic and
#: of other sounds is scaled by these, so that noise stays below the same threshold as in `safe`.
LOW_CONFIDENCE = {True: 0.93, False: 0.85}

#: Largest rate of pitch measurements; F0 is interpolated between them.
PITCH_RATE_HZ = 62

#: Two measurements further apart than this, in octaves, belong to two notes and are not interpolated.
SAME_NOTE_OCTAVES = 1.0 / 6.0

#: The buffer is cut when its read position is further in than this.
BUFFER_SAMPLES = 1 << 14


@dataclass(frozen=True)
class LiveFrames:
    """Measured frames; units as in `analysis.features.Features`. Arrays [F]."""

    f0_hz: FloatArray
    f0_confidence: FloatArray
    loudness_db: FloatArray
    power_db: FloatArray
    envelope_db: FloatArray


class Listener:
    """Takes blocks of any size, returns the frames that they complete.

    Args:
      spec: frame rate, windows, floor.
      latency: how much of what follows a frame is waited for, see `LOOKAHEAD_SAMPLES`.
    """

    def __init__(self, spec: FeatureSpec, latency: Latency = "safe") -> None:
        self.spec = spec
        self._track_pitch = SwiftFrameTracker()
        self._is_low, self._lookahead = latency == "low", LOOKAHEAD_SAMPLES[latency]
        #: Samples of the level windows after a frame; None for half of them.
        self.ahead_samples = self._lookahead if self._is_low else None
        envelope_s = 2.0 * self._lookahead / ANALYSIS_RATE_HZ if self._is_low else ENVELOPE_WINDOW_S
        self._levels = {
            "loudness": loudness_stream(spec, self.ahead_samples),
            "power": power_stream(spec, self.ahead_samples),
            "envelope": envelope_stream(ANALYSIS_RATE_HZ, spec.hop_samples, spec.floor_db, envelope_s),
        }
        self._waiting = {name: np.zeros(0, np.float32) for name in self._levels}
        self._stride_frames = max(1, -(-spec.frame_rate_hz // PITCH_RATE_HZ))  # from one measured pitch to the next
        self._n_before = BEFORE_FRAMES * SWIFT_HOP_SAMPLES
        self._buffer = np.zeros(self._n_before, np.float32)  # silence before the start
        self._centre = 0  # of the next pitch, in samples after the buffer's first `_n_before`
        self._last: tuple[float, float] | None = None
        self._pitch: list[tuple[float, float]] = []

    @property
    def latency_samples(self) -> int:
        """Largest number of input samples after a frame's centre that are needed before it is returned."""
        stride = (self._stride_frames - 1) * self.spec.hop_samples if self._stride_frames > 1 else 0
        return max(self._lookahead, *(stream.ahead_samples for stream in self._levels.values())) + stride

    def push(self, block: np.ndarray) -> LiveFrames:
        """Takes the next samples [S] float32 at 16 kHz; gives the frames that they complete."""
        self._buffer = np.concatenate([self._buffer, block])
        for name, stream in self._levels.items():
            self._waiting[name] = np.concatenate([self._waiting[name], stream.push(block)])
        while self._n_before + self._centre + self._lookahead <= len(self._buffer):
            self._measure_pitch()
        n_ready = min(len(self._pitch), *(len(values) for values in self._waiting.values()))
        pitch, self._pitch = self._pitch[:n_ready], self._pitch[n_ready:]
        levels = {name: values[:n_ready] for name, values in self._waiting.items()}
        self._waiting = {name: values[n_ready:] for name, values in self._waiting.items()}
        f0_hz, confidence = np.array(pitch, np.float32).reshape(-1, 2).T
        return LiveFrames(f0_hz, confidence, levels["loudness"], levels["power"], levels["envelope"])

    def _measure_pitch(self) -> None:
        """Measures pitch once and interpolates the frames up to it."""
        known = self._buffer[self._centre : self._n_before + self._centre + self._lookahead]
        n_missing = TRACKED_SAMPLES - len(known)
        made_up, trust = known[::-1][:n_missing], 1.0
        if self._is_low:
            made_up, is_periodic = continued(known, n_missing)
            trust = LOW_CONFIDENCE[is_periodic]
        f0_hz, confidence = self._track_pitch(np.concatenate([known, made_up]), BEFORE_FRAMES)
        now = f0_hz, trust * confidence
        last = self._last if self._last is not None else now
        first = self._last is None
        for step in range(self._stride_frames if first else 1, self._stride_frames + 1):
            share = step / self._stride_frames
            # Between two notes the nearer measurement holds.
            same = abs(np.log2(max(now[0], 1.0) / max(last[0], 1.0))) < SAME_NOTE_OCTAVES
            f0_hz = last[0] ** (1.0 - share) * now[0] ** share if same else (last if share <= 0.5 else now)[0]
            self._pitch.append((f0_hz, (1.0 - share) * last[1] + share * now[1]))
        self._last = now
        step = self._stride_frames * self.spec.hop_samples
        self._centre += step
        if self._centre > BUFFER_SAMPLES:
            self._buffer = self._buffer[self._centre :]
            self._centre = 0


def continued(known: FloatArray, n_samples: int) -> tuple[FloatArray, bool]:
    """Extrapolates a sound [S]: repeats its last period; reverses it where it is not periodic.

    So telephones fill gaps of lost packets (ITU-T G.711, appendix I).

    Args:
      known: at least `PERIOD_WINDOW_SAMPLES` and the longest period.
      n_samples: how much is wanted.

    Returns:
      What follows, [n_samples], and whether the sound is periodic.
    """
    shortest, longest = PERIODS_SAMPLES
    last = known[-PERIOD_WINDOW_SAMPLES:]
    before = known[-PERIOD_WINDOW_SAMPLES - longest : -shortest]
    stretches = np.lib.stride_tricks.sliding_window_view(before, PERIOD_WINDOW_SAMPLES)[::-1]  # nearest first
    energies = np.einsum("ls,ls->l", stretches, stretches)
    alike = (stretches @ last) / np.sqrt(energies * (last @ last) + 1e-9)
    best = int(np.argmax(alike - LONGER_PERIOD_COST * np.arange(len(alike))))
    if alike[best] < PERIODIC:
        return known[::-1][:n_samples], False
    period = known[-(shortest + best) :]
    return np.resize(period, n_samples), True
