"""The spectrogram that the page draws, on the same logarithmic frequency axis as its F0 curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddsp_cli.arrays import FloatArray

#: Rows: from a low A of a double bass to where little is left of most instruments, 24 rows an octave.
LOWEST_HZ, ROWS_PER_OCTAVE, N_ROWS = 55.0, 24, 174

WINDOW_S, HOP_S = 0.046, 0.01

#: A long sound gets a longer hop.
MAX_COLUMNS = 6000

#: 0 is this far below the loudest, 255 is the loudest.
RANGE_DB = 75.0

_COLUMNS_AT_ONCE = 500


def spectrogram(pcm: FloatArray, rate_hz: int) -> tuple[NDArray[np.uint8], float]:
    """Levels of a sound over time and frequency.

    Args:
      pcm: [S].
      rate_hz: its rate.

    Returns:
      Levels [T, N_ROWS], 0..255; row r is at `LOWEST_HZ` · 2^(r / `ROWS_PER_OCTAVE`). And the hop in seconds.
    """
    n_fft = 1 << round(np.log2(WINDOW_S * rate_hz))
    n_columns = max(1, min(MAX_COLUMNS, round(len(pcm) / (HOP_S * rate_hz))))
    centres = np.arange(n_columns) * (len(pcm) / n_columns)
    padded = np.pad(pcm, (n_fft // 2, n_fft))
    window = np.hanning(n_fft).astype(np.float32)
    edges_hz = LOWEST_HZ * 2.0 ** ((np.arange(N_ROWS + 1) - 0.5) / ROWS_PER_OCTAVE)
    bins = edges_hz * n_fft / rate_hz
    first = np.clip(np.round(bins[:-1]).astype(int), 0, n_fft // 2)
    last = np.clip(np.maximum(np.round(bins[1:]).astype(int), first + 1), 1, n_fft // 2 + 1)
    within = bins[:-1] <= n_fft // 2
    db = np.full((n_columns, N_ROWS), -200.0, np.float32)
    for start in range(0, n_columns, _COLUMNS_AT_ONCE):
        places = centres[start : start + _COLUMNS_AT_ONCE].astype(int)
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[places] * window
        power = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32) ** 2
        for row in np.flatnonzero(within):
            db[start : start + len(places), row] = power[:, first[row] : last[row]].max(axis=1)
    np.log10(np.maximum(db, 1e-12), out=db)
    db *= 10.0
    levels = (db - float(db.max()) + RANGE_DB) * (255.0 / RANGE_DB)
    return np.clip(levels, 0.0, 255.0).astype(np.uint8), len(pcm) / n_columns / rate_hz
