"""Integrated loudness of a sound (ITU-R BS.1770-5): K-weighted, gated, one number in LUFS.

The two K-weighting filters are applied as one FIR filter by the Fourier transform, which gives the same result as the
recursive form and needs NumPy only: the slower of their poles (38 Hz, critically damped) is 100 dB down after 60 ms.
The powers of the channels of a stereo sound are added. Shapes: S samples, C channels.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np

from ddsp_cli.arrays import FloatArray

#: A block is 400 ms, and blocks overlap by three quarters.
BLOCK_S, HOPS_PER_BLOCK = 0.4, 4

#: Blocks below -70 LUFS are left out, then blocks 10 LU below the mean of the rest.
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0

#: Loudness of a mean square of 1, so that a 997 Hz sine of full scale has -3.01 LUFS.
OFFSET_LU = -0.691

#: Frequencies of the two filters of K-weighting, a high shelf and a high pass.
SHELF_HZ, HIGH_PASS_HZ = 1681.974450955533, 38.13547087602444

#: Length of the FIR form of the filters; the rest is 100 dB down.
FILTER_S = 0.06

#: Hops that one Fourier transform filters.
HOPS_AT_ONCE = 6


class LoudnessMeter:
    """Measures a sound that arrives in blocks of any size, in memory of 10 numbers a second.

    Args:
      sample_rate_hz: of the sound.
      n_channels: one, or left and right.
    """

    def __init__(self, sample_rate_hz: int, n_channels: int = 1) -> None:
        self._hop = max(1, round(BLOCK_S / HOPS_PER_BLOCK * sample_rate_hz))
        n_taps = max(2, round(FILTER_S * sample_rate_hz))
        self._n_fft = 1 << (HOPS_AT_ONCE * self._hop + n_taps - 2).bit_length()
        n_response = 1 << (2 * n_taps).bit_length()
        taps = np.fft.irfft(_response(n_response, sample_rate_hz))[:n_taps]
        self._spectrum = np.fft.rfft(taps, self._n_fft).astype(np.complex64)
        self._tail = np.zeros((n_channels, self._n_fft), np.float32)
        self._waiting = np.zeros((n_channels, 0), np.float32)
        self._squares = array("d")  # sum of squares of each hop

    def push(self, block: FloatArray) -> None:
        """Takes the next samples, [S] or [S, C]."""
        channels = np.asarray(block, np.float32).reshape(len(block), len(self._waiting)).T
        waiting = np.concatenate([self._waiting, channels], axis=1)
        size = HOPS_AT_ONCE * self._hop
        n_whole = waiting.shape[1] // size * size
        for start in range(0, n_whole, size):
            self._squares.extend(self._filter(waiting[:, start : start + size]))
        self._waiting = waiting[:, n_whole:]

    def _filter(self, samples: FloatArray) -> list[float]:
        """Returns the sums of squares of the next hops of [C, S] after weighting; the last hop may be incomplete."""
        n = samples.shape[1]
        out = np.fft.irfft(np.fft.rfft(samples, self._n_fft) * self._spectrum, self._n_fft)
        out += self._tail
        self._tail = np.pad(out[:, n:], ((0, 0), (0, n)))
        return [
            float(np.sum(np.square(out[:, i : min(i + self._hop, n)], dtype=np.float64)))
            for i in range(0, n, self._hop)
        ]

    def integrated_lufs(self) -> float:
        """Returns the loudness of everything pushed, and ends; minus infinity if all of it is below the absolute gate.

        A sound shorter than a block is measured as a whole.
        """
        n_samples = len(self._squares) * self._hop + self._waiting.shape[1]
        if self._waiting.shape[1]:
            self._squares.extend(self._filter(self._waiting))
            self._waiting = self._waiting[:, :0]
        if n_samples < HOPS_PER_BLOCK * self._hop:
            powers = np.array([sum(self._squares) / max(n_samples, 1)])
        else:
            whole = self._squares[: n_samples // self._hop]
            powers = np.convolve(whole, np.ones(HOPS_PER_BLOCK), "valid") / (HOPS_PER_BLOCK * self._hop)
        powers = powers[powers > _power(ABSOLUTE_GATE_LUFS)]
        if not len(powers):
            return -math.inf
        powers = powers[powers > np.mean(powers) * 10.0 ** (RELATIVE_GATE_LU / 10.0)]
        return OFFSET_LU + 10.0 * math.log10(float(np.mean(powers)))


def integrated_lufs(blocks: Iterable[FloatArray], sample_rate_hz: int) -> float:
    """Measures the integrated loudness of a sound [S] a block; minus infinity for silence."""
    meter = LoudnessMeter(sample_rate_hz)
    for block in blocks:
        meter.push(block)
    return meter.integrated_lufs()


def _power(lufs: float) -> float:
    return float(10.0 ** ((lufs - OFFSET_LU) / 10.0))


def _response(n_fft: int, sample_rate_hz: int) -> np.ndarray:
    """Returns the frequency response [n_fft / 2 + 1] of K-weighting at any sample rate.

    BS.1770-5 gives coefficients for 48 kHz only. These are the analogue filters from which the bilinear transform makes
    them: a high shelf of 4 dB at 1682 Hz, then a high pass at 38 Hz. A shelf above half the sample rate is left out:
    the transform of such a filter is not stable.
    """
    z = np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)  # one sample's delay
    shelf = np.ones_like(z)
    if sample_rate_hz / 2.0 > SHELF_HZ:
        k = math.tan(math.pi * SHELF_HZ / sample_rate_hz)
        q, gain = 0.7071752369554196, 10.0 ** (3.999843853973347 / 20.0)
        middle = gain**0.4996667741545416
        shelf = (gain + middle * k / q + k * k) + 2.0 * (k * k - gain) * z + (gain - middle * k / q + k * k) * z**2
        shelf /= (1.0 + k / q + k * k) + 2.0 * (k * k - 1.0) * z + (1.0 - k / q + k * k) * z**2
    k, q = math.tan(math.pi * HIGH_PASS_HZ / sample_rate_hz), 0.5003270373238773
    # At 48 kHz the standard takes the numerator (1, -2, 1) unscaled: 0.04 dB, the same at every rate.
    k_48 = math.tan(math.pi * HIGH_PASS_HZ / 48000)
    high_pass = (1.0 - z) ** 2 * (1.0 + k_48 / q + k_48 * k_48)
    high_pass /= (1.0 + k / q + k * k) + 2.0 * (k * k - 1.0) * z + (1.0 - k / q + k * k) * z**2
    return shelf * high_pass
