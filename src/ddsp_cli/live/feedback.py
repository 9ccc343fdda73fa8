"""Detect feedback: the microphone picks up the loudspeaker, and its sound is played again.

Shapes: S samples, N samples of a window.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, hann_window

#: Length of a window; half of it is the longest delay from output to input that is detected.
WINDOW_S = 0.35

#: Time constant of the average over windows.
AVERAGE_S = 3.0

#: Shortest delay from output to input: half a block of a device.
SHORTEST_S = 0.001

#: Ratio of the correlation's peak to its usual size from which feedback is reported.
THRESHOLD = 12.0

#: Softer windows are ignored.
SOUNDING_RMS = 1e-3


class FeedbackDetector:
    """Detects the output in the input by generalised cross-correlation with phase transform.

    An instrument follows the pitch of a voice, so the two are similar at all times; but the phases of their harmonics
    drift apart, and the noise of one is not that of the other. Only the same sound has the same delay at all
    frequencies for seconds (C. Knapp and G. Carter, 1976).

    Args:
      rate_hz: of the sound.
    """

    def __init__(self, rate_hz: int) -> None:
        self._n = 1 << round(np.log2(WINDOW_S * rate_hz))
        self._window = hann_window(self._n)
        self._lags = slice(round(SHORTEST_S * rate_hz), self._n // 2)
        self._keep = 1.0 - min(1.0, self._n / 2 / rate_hz / AVERAGE_S)
        self._average = np.zeros(self._n // 2 + 1, np.complex128)
        self._pending = np.zeros((0, 2), np.float32)
        self._n_windows = 0
        self.strength = 0.0

    @property
    def is_feedback(self) -> bool:
        """Whether the input contains the output."""
        return self.strength > THRESHOLD

    def push(self, both: FloatArray) -> None:
        """Takes the next samples [S, 2]: input, output."""
        self._pending = np.concatenate([self._pending, both])
        while len(self._pending) >= self._n:
            self._look(self._pending[: self._n])
            self._pending = self._pending[self._n // 2 :]

    def _look(self, window: FloatArray) -> None:
        if np.sqrt(np.mean(window**2, axis=0)).min() < SOUNDING_RMS:
            return
        heard, played = np.fft.rfft(window * self._window[:, None], axis=0).T
        cross = heard * np.conj(played)
        self._average = self._keep * self._average + (1.0 - self._keep) * cross / np.maximum(np.abs(cross), 1e-12)
        self._n_windows += 1
        if self._n_windows * (1.0 - self._keep) < 0.5:
            return
        correlation = np.abs(np.fft.irfft(self._average, self._n))
        self.strength = float(correlation[self._lags].max() / np.median(correlation))
