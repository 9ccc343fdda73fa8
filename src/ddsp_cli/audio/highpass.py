"""Remove rumble: sound well below an instrument's lowest note, such as steps, traffic and wind. S samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np

from ddsp_cli.arrays import FloatArray

#: Edges of the stop band and the pass band, as shares of the lowest note.
STOP, PASS = 0.6, 0.9

#: Attenuation of the stop band; the ripple of the pass band is then 0.01 dB.
STOP_DB = 60.0

#: Lowest edge of the stop band.
LEAST_HZ = 30.0

#: Frames tracked too low that are ignored, in seconds altogether.
OUTLIERS_S = 0.5


def lowest_hz(parts: Iterable[FloatArray], frame_rate_hz: int) -> float:
    """Finds the lowest note in the F0 of several parts, in memory that does not grow with their number.

    Args:
      parts: F0 [F] each, 0 where unvoiced.
      frame_rate_hz: of the frames.

    Returns:
      The lowest F0 in Hz after the lowest `OUTLIERS_S` of the voiced frames; 0 where fewer frames are voiced.
    """
    n_kept = round(OUTLIERS_S * frame_rate_hz) + 1
    lowest = np.zeros(0, np.float32)
    for f0_hz in parts:
        lowest = np.sort(np.concatenate([lowest, f0_hz[f0_hz > 0]]))[:n_kept]
    return float(lowest[-1]) if len(lowest) == n_kept else 0.0


def remove_rumble(
    read: Callable[[int, int], FloatArray], n_samples: int, lowest_hz: float, rate_hz: int, first: int, last: int
) -> FloatArray:
    """High-pass filters a part of a sound with linear phase, its delay compensated.

    Args:
      read: (first, last) → the samples [first, last) of the sound, both inside it.
      n_samples: length of the sound; it is silent outside.
      lowest_hz: the lowest note, see `lowest_hz`.
      rate_hz: sample rate of the sound.
      first, last: which samples to filter.

    Returns:
      [last - first].
    """
    from scipy.signal import oaconvolve

    taps = _taps(lowest_hz, rate_hz)
    half = len(taps) // 2
    low, high = first - half, last + half
    inside = read(max(low, 0), min(high, n_samples))
    around = np.zeros(high - low)
    around[max(-low, 0) : max(-low, 0) + len(inside)] = inside
    filtered: FloatArray = oaconvolve(around, taps, mode="valid").astype(np.float32)
    return filtered


@functools.lru_cache(maxsize=4)  # a data set filters each of its recordings alike
def _taps(lowest_hz: float, rate_hz: int) -> FloatArray:
    """Returns the impulse response of the filter."""
    from scipy.signal import firwin, kaiserord

    stop_hz, pass_hz = max(STOP * lowest_hz, LEAST_HZ), max(PASS * lowest_hz, 1.5 * LEAST_HZ)
    n_taps, beta = kaiserord(STOP_DB, 2.0 * (pass_hz - stop_hz) / rate_hz)
    taps: FloatArray = firwin(
        n_taps | 1, (stop_hz + pass_hz) / 2.0, window=("kaiser", beta), pass_zero=False, fs=rate_hz
    )
    return taps
