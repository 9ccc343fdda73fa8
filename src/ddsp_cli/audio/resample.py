"""Resample sound block by block: soxr where quality counts, a short polyphase filter where delay does.

The streams of soxr collect up to tens of milliseconds before they give samples. `LiveResampler` gives each output
sample as soon as the input under its window is known, with a delay of 1 to 2 ms.

Shapes: S samples, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray, overlapping_windows


class Resampler:
    """Resamples a mono stream; the result does not depend on the sizes of the blocks.

    Args:
      from_hz: rate of the input.
      to_hz: rate of the output.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream: Any = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next block [S]; returns the samples [S'] that are ready."""
        return block if self._stream is None else np.asarray(self._stream.resample_chunk(block))

    def finish(self) -> FloatArray:
        """Returns the samples still inside."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else np.asarray(self._stream.resample_chunk(nothing, last=True))


def at_rate(blocks: Iterable[FloatArray], from_hz: int, to_hz: int, n_channels: int = 1) -> Iterator[FloatArray]:
    """Resamples a sound with soxr; the result is as long as the sound and aligned with it.

    Args:
      blocks: [S] or [S, C] each.
      from_hz, to_hz: rates of the sound and of the result.
      n_channels: C.

    Yields:
      Blocks of the result, of any length.
    """
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32")
    end = np.zeros((0, n_channels) if n_channels > 1 else 0, np.float32)
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(end, last=True))


def resample_response(response: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    """Resamples an impulse response [S] so that a convolution with it has the same gain at the new rate.

    It is scaled by the ratio of the rates, since a convolution sums over samples, of which there are more or fewer in a
    second. (magenta/ddsp 3.7.0 does neither: ddsp_export.py:296-299.)
    """
    if from_hz == to_hz:
        return np.asarray(response, np.float32)
    import soxr

    resampled = soxr.resample(np.asarray(response, np.float64), from_hz, to_hz, quality="VHQ")
    return np.asarray(resampled * (from_hz / to_hz), np.float32)


#: The filter is flat up to the first share of the lower of the two rates, and `STOP_DB` down from the second on.
PASS_SHARE, STOP_SHARE = 0.45, 0.55

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
        width = (STOP_SHARE - PASS_SHARE) * lower_hz / from_hz
        half = 0 if from_hz == to_hz else math.ceil((STOP_DB - 7.95) / (14.36 * width) / 2.0)
        beta = 0.1102 * (STOP_DB - 8.7)
        cutoff = (PASS_SHARE + STOP_SHARE) / 2.0 * lower_hz / from_hz
        # Tap t of phase p weighs the input at t - half + 1 samples after floor(j·down / up); p / up is between them.
        lags = np.arange(-half + 1, half + 1)[None, :] - np.arange(self._up)[:, None] / self._up
        inside = np.clip(1.0 - (lags / max(half, 1)) ** 2, 0.0, None)
        taps = 2.0 * cutoff * np.sinc(2.0 * cutoff * lags) * np.i0(beta * np.sqrt(inside)) / np.i0(beta)
        self._taps = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32) if half else None
        self.delay_samples = half
        self._buffer = np.zeros(max(half - 1, 0), np.float32)  # silence before the start
        self._position = 0  # of the next output, in 1/up input samples after the start of the buffer's window

    def n_needed(self, n_samples: int) -> int:
        """Returns the number of input samples that complete the first `n_samples` of the output."""
        if self._taps is None:
            return n_samples
        return (n_samples - 1) * self._down // self._up + self.delay_samples + 1

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
        if self._up == 1:  # every `down`-th window and one phase: half the time, and the same sums
            windows = overlapping_windows(self._buffer[self._position :], n_taps, self._down)[:n_out]
            out = np.einsum("st,t->s", windows, self._taps[0])
        else:
            starts, phases = np.divmod(positions, self._up)
            windows = overlapping_windows(self._buffer, n_taps)[starts]
            out = np.einsum("st,st->s", windows, self._taps[phases])
        following = int(positions[-1]) + self._down
        n_done = min(following // self._up, len(self._buffer))
        self._buffer, self._position = self._buffer[n_done:].copy(), following - n_done * self._up
        return np.asarray(out, np.float32)
