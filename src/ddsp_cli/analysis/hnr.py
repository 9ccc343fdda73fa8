"""How much of a note is noise: energy between the harmonics against that of the harmonics. NumPy only.

The spectrum of a look is divided into cells, one around each multiple of the pitch. What lies in a cell beside the
multiple's main lobe is noise, and there is as much of it under the lobe. High up, vibrato smears the harmonics of low
notes into each other; what lies there is left out. Shapes: S samples, F frames, L looks.
"""

from __future__ import annotations

import functools

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ

#: A look every 20 ms.
LOOK_SAMPLES = 320

#: A window is long enough that this many bins part two harmonics, half of them beside the main lobes.
BINS_APART = 16

WINDOW_SAMPLES = (1024, 2048, 4096)

#: Of the window of Blackman and Harris, whose side lobes are 92 dB down (Harris 1978, table 1).
LOBE_BINS = 4.0

COEFFICIENTS = (0.35875, -0.48829, 0.14128, -0.01168)

#: Vibrato and slides widen harmonics by this share of their frequency.
SMEAR = 0.012

BAND_HZ = (50.0, 7500.0)

#: A cell with fewer bins beside the lobe says nothing about noise.
LEAST_BINS = 2

#: Looks computed at once; bounds memory to some 30 MiB.
_AT_ONCE = 256


def noise_looks_db(audio: np.ndarray, f0_hz: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """Energy of the noise in dB above that of the harmonics, for each look.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F], 0 where there is no pitch.
      frame_rate_hz: of f0.

    Returns:
      [L], one look every 20 ms; NaN where there is no pitch or nothing could be told apart.
    """
    n_looks = -(-len(audio) // LOOK_SAMPLES)
    found = np.full(n_looks, np.nan)
    if not len(f0_hz):
        return found
    frames = np.round(np.arange(n_looks) * LOOK_SAMPLES * frame_rate_hz / ANALYSIS_RATE_HZ).astype(int)
    pitch_hz = f0_hz[np.minimum(frames, len(f0_hz) - 1)]
    wanted = BINS_APART * ANALYSIS_RATE_HZ / np.maximum(pitch_hz, 1e-9)
    longest = WINDOW_SAMPLES[-1]
    padded = np.pad(np.asarray(audio, np.float32), longest // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, longest)[::LOOK_SAMPLES]
    for i, size in enumerate(WINDOW_SAMPLES):
        shorter = WINDOW_SAMPLES[i - 1] if i else 0
        fits = (pitch_hz > 0) & (wanted > shorter) & ((wanted <= size) | (size == longest))
        edge = (longest - size) // 2
        chosen = np.flatnonzero(fits)
        for part in np.split(chosen, range(_AT_ONCE, len(chosen), _AT_ONCE)):
            found[part] = _noise_db(windows[part, edge : edge + size], pitch_hz[part])
    return found


def _noise_db(windows: np.ndarray, pitch_hz: np.ndarray) -> np.ndarray:
    """Windows [n, size] with pitch [n] → [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _analysis(size)
    power = np.abs(np.fft.rfft(windows * window, axis=1)[:, band]) ** 2
    pitch = pitch_hz[:, None]
    multiple = np.maximum(np.round(bins_hz / pitch), 1).astype(int)
    beside = np.abs(bins_hz - multiple * pitch) > LOBE_BINS * ANALYSIS_RATE_HZ / size + SMEAR * bins_hz
    # cell k of look i has the number i·n + k
    n = int(multiple.max(initial=0)) + 1
    cell = (np.arange(len(windows))[:, None] * n + multiple).ravel()

    def cells(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values.ravel(), minlength=len(windows) * n).reshape(-1, n)

    n_beside, n_bins = cells(beside.astype(float)), cells(np.ones_like(power))
    usable = n_beside >= LEAST_BINS
    noise = np.where(usable, cells(power * beside) / np.maximum(n_beside, 1) * n_bins, 0.0).sum(axis=1)
    harmonic = np.where(usable, cells(power), 0.0).sum(axis=1) - noise
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10.0 * np.log10(noise / np.maximum(harmonic, 0.0))
    return np.where(np.isfinite(found), found, np.nan)


@functools.cache
def _analysis(size: int) -> tuple[np.ndarray, slice, np.ndarray]:
    """Window, the bins of the band, their frequencies."""
    turns = 2.0 * np.pi * np.arange(size) / size
    window = np.sum([a * np.cos(i * turns) for i, a in enumerate(COEFFICIENTS)], axis=0).astype(np.float32)
    frequencies_hz = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ)
    first, last = np.searchsorted(frequencies_hz, BAND_HZ)
    return window, slice(int(first), int(last)), frequencies_hz[first:last]
