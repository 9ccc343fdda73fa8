"""Measures a sound while it arrives: pitch and level of each frame as soon as a little of what follows it is known.

Shapes: S samples at 16 kHz, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.analysis.loudness import envelope_stream, loudness_stream, power_stream
from ddsp_cli.analysis.pitch.swift_f0 import SWIFT_HOP_SAMPLES, SwiftFrameTracker
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec

#: Samples after a frame's centre that must be known before it is measured: half the window of the power, 32 ms.
LOOKAHEAD_SAMPLES = 512

#: Frames of swift-f0 before the one that is measured. It sees 176 ms to either side; in place of what is not yet known
#: it gets the last `MIRRORED_SAMPLES` in reverse, which keep the pitch going. Measured on singing and trumpet against
#: the whole recording: 96 to 100 % of the voiced frames are found, all within 50 cents, half of them within 2.5.
BEFORE_FRAMES = 8

MIRRORED_SAMPLES = 1024

#: Pitch is measured at most so often; between two measurements it is interpolated.
PITCH_RATE_HZ = 62

#: Two measurements further apart than this, in octaves, belong to two notes and are not interpolated.
SAME_NOTE_OCTAVES = 1.0 / 6.0

#: The buffer is cut when its read position is further in than this.
BUFFER_SAMPLES = 1 << 14


@dataclass(frozen=True)
class LiveFrames:
    """Frames as they are measured; units as in `analysis.features.Features`. Arrays [F]."""

    f0_hz: FloatArray
    f0_confidence: FloatArray
    loudness_db: FloatArray
    power_db: FloatArray
    envelope_db: FloatArray


class Listener:
    """Takes blocks of any size, gives the frames that they complete.

    Args:
      spec: frame rate, windows, floor.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._track_pitch = SwiftFrameTracker()
        self._levels = {
            "loudness": loudness_stream(spec),
            "power": power_stream(spec),
            "envelope": envelope_stream(ANALYSIS_RATE_HZ, spec.hop_samples, spec.floor_db),
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
        """How many samples of input after a frame's centre are needed at most before it is given."""
        stride = (self._stride_frames - 1) * self.spec.hop_samples if self._stride_frames > 1 else 0
        half = max(LOOKAHEAD_SAMPLES, self.spec.power_window_samples // 2, self.spec.loudness_window_samples // 2)
        return half + stride

    def push(self, block: np.ndarray) -> LiveFrames:
        """Takes the next samples [S] float32 at 16 kHz; gives the frames that they complete."""
        self._buffer = np.concatenate([self._buffer, block])
        for name, stream in self._levels.items():
            self._waiting[name] = np.concatenate([self._waiting[name], stream.push(block)])
        while self._n_before + self._centre + LOOKAHEAD_SAMPLES <= len(self._buffer):
            self._measure_pitch()
        n_ready = min(len(self._pitch), *(len(values) for values in self._waiting.values()))
        pitch, self._pitch = self._pitch[:n_ready], self._pitch[n_ready:]
        levels = {name: values[:n_ready] for name, values in self._waiting.items()}
        self._waiting = {name: values[n_ready:] for name, values in self._waiting.items()}
        f0_hz, confidence = np.array(pitch, np.float32).reshape(-1, 2).T
        return LiveFrames(f0_hz, confidence, levels["loudness"], levels["power"], levels["envelope"])

    def _measure_pitch(self) -> None:
        """Measures pitch once and interpolates the frames up to it."""
        known = self._buffer[self._centre : self._n_before + self._centre + LOOKAHEAD_SAMPLES]
        now = self._track_pitch(np.concatenate([known, known[::-1][:MIRRORED_SAMPLES]]), BEFORE_FRAMES)
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
