"""Taking out what sounds below an instrument's lowest note: steps, traffic, air. NumPy and SciPy only; S samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.signal import firwin, kaiserord, oaconvolve

#: What lies below this share of the lowest note is taken out, and above that share nothing is changed.
STOP, PASS = 0.6, 0.9

#: How much weaker rumble gets, and how little the notes may change: 0.01 dB.
STOP_DB = 60.0

#: Nothing that is heard lies lower.
LEAST_HZ = 30.0

#: So long may a tracker read a pitch that is too low.
STRAY_S = 0.5


def lowest_hz(f0_hz: np.ndarray, frame_rate_hz: int) -> float:
    """The lowest note: only half a second of the voiced frames in `f0_hz` [F] is lower. 0 where there is none."""
    voiced = f0_hz[f0_hz > 0]
    n_stray = round(STRAY_S * frame_rate_hz)
    return float(np.partition(voiced, n_stray)[n_stray]) if len(voiced) > n_stray else 0.0


def without_rumble(blocks: Iterable[np.ndarray], lowest_hz: float, rate_hz: int) -> Iterator[np.ndarray]:
    """Takes out of a sound what lies well below its lowest note; what is left keeps its shape and its place.

    The filter is symmetric (linear phase) and its delay is made up for.

    Args:
      blocks: [S] each, one after another.
      lowest_hz: the lowest note.
      rate_hz: of the sound.

    Yields:
      As many samples, in as many blocks and one more.
    """
    stop_hz, pass_hz = max(STOP * lowest_hz, LEAST_HZ), max(PASS * lowest_hz, 1.5 * LEAST_HZ)
    n_taps, beta = kaiserord(STOP_DB, 2.0 * (pass_hz - stop_hz) / rate_hz)
    taps = firwin(n_taps | 1, (stop_hz + pass_hz) / 2.0, window=("kaiser", beta), pass_zero=False, fs=rate_hz)
    n_ahead = len(taps) // 2  # samples that come before the sound, for its delay
    tail = np.zeros(len(taps) - 1)
    for block in itertools.chain(blocks, [np.zeros(n_ahead, np.float32)]):
        filtered = oaconvolve(block, taps) if len(block) else np.zeros(len(tail))
        filtered[: len(tail)] += tail
        filtered, tail = filtered[: len(block)], filtered[len(block) :]
        yield filtered[n_ahead:].astype(np.float32)
        n_ahead = max(0, n_ahead - len(block))
