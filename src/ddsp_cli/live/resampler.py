"""Sample-rate conversion of a stream with a delay of 1 to 2 ms, for playing live.

The streams of soxr (`audio.resample`) collect up to tens of milliseconds before they give samples. This one is a
polyphase filter that gives each output sample as soon as the input under its window is known. S samples.
"""

from __future__ import annotations

import math

import numpy as np

from ddsp_cli.arrays import FloatArray

#: Of the lower of the two rates: where the filter ends to be flat, and where it is `STOP_DB` down.
PASS, STOP = 0.45, 0.55

STOP_DB = 80.0


class LiveResampler:
    """Brings a stream from one rate to another; the result does not depend on the size of the blocks.

    Windowed-sinc interpolation (J. O. Smith, Digital Audio Resampling, 2002) with a Kaiser window of `STOP_DB`. Output
    sample j is the sound at time j / `to_hz`, so there is no shift in time; it is given once `delay_samples` of the
    input after that time are known.

    Args:
      from_hz: rate of the input.
      to_hz: rate of the output.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        lower_hz = min(from_hz, to_hz)
        # Kaiser's estimate of the length for a transition from PASS to STOP, in samples of the input.
        width = (STOP - PASS) * lower_hz / from_hz
        half = 0 if from_hz == to_hz else math.ceil((STOP_DB - 7.95) / (14.36 * width) / 2.0)
        beta = 0.1102 * (STOP_DB - 8.7)
        cutoff = (PASS + STOP) / 2.0 * lower_hz / from_hz
        # Tap t of phase p weighs the input at t - half + 1 samples after floor(j·down / up); p / up lies between.
        lags = np.arange(-half + 1, half + 1)[None, :] - np.arange(self._up)[:, None] / self._up
        inside = np.clip(1.0 - (lags / max(half, 1)) ** 2, 0.0, None)
        taps = 2.0 * cutoff * np.sinc(2.0 * cutoff * lags) * np.i0(beta * np.sqrt(inside)) / np.i0(beta)
        self._taps = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32) if half else None
        self.delay_samples = half
        self._buffer = np.zeros(max(half - 1, 0), np.float32)  # silence before the start
        self._position = 0  # of the next output, in 1/up input samples after the start of the buffer's window

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next samples [S]; gives those that they complete."""
        if self._taps is None:
            return np.asarray(block, np.float32)
        self._buffer = np.concatenate([self._buffer, np.asarray(block, np.float32)])
        n_taps = self._taps.shape[1]
        n_starts = len(self._buffer) - n_taps + 1
        n_out = max(0, -(-(n_starts * self._up - self._position) // self._down))
        if not n_out:
            return np.zeros(0, np.float32)
        positions = self._position + self._down * np.arange(n_out)
        starts, phases = np.divmod(positions, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._buffer, n_taps)[starts]
        out = np.einsum("st,st->s", windows, self._taps[phases])
        following = int(positions[-1]) + self._down
        n_done = min(following // self._up, len(self._buffer))
        self._buffer, self._position = self._buffer[n_done:].copy(), following - n_done * self._up
        return np.asarray(out, np.float32)
