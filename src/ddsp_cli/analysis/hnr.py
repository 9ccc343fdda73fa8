"""The ratio of noise to harmonics of a note, from the energy between and at the multiples of F0. NumPy only.

The spectrum of a frame is divided into cells, one around each multiple of F0. Energy in a cell outside the multiple's
main lobe is noise, and the same density of noise is assumed under the lobe. Where vibrato widens the harmonics of low
notes until they meet, cells are left out.

Shapes: S samples, F frames of the features, L frames of this analysis.
"""

from __future__ import annotations

import functools

import numpy as np

from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, RealArray
from ddsp_cli.config import ANALYSIS_RATE_HZ

HOP_SAMPLES = 320

#: Windows are so long that two harmonics are this many bins apart, half of them outside the main lobes.
BINS_APART = 16

WINDOW_SAMPLES = (1024, 2048, 4096)

#: Half the main lobe of the Blackman-Harris window, whose side lobes are 92 dB down (Harris 1978, table 1).
LOBE_BINS = 4.0

COEFFICIENTS = (0.35875, -0.48829, 0.14128, -0.01168)

#: Vibrato and glides widen harmonics by this share of their frequency.
VIBRATO_SHARE = 0.012

BAND_HZ = (50.0, 7500.0)

#: Cells with fewer bins outside the lobe are left out.
LEAST_BINS = 2

#: Frames computed at once; bounds memory to some 30 MiB.
_AT_ONCE = 256


def noise_to_harmonics_db(audio: FloatArray, f0_hz: FloatArray, frame_rate_hz: int) -> DoubleArray:
    """Measures the energy of the noise relative to that of the harmonics.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F], 0 in unvoiced frames.
      frame_rate_hz: of f0_hz.

    Returns:
      [L] in dB, a frame every 20 ms; NaN where it is unvoiced or cannot be measured.
    """
    n_frames = -(-len(audio) // HOP_SAMPLES)
    found = np.full(n_frames, np.nan)
    if not len(f0_hz):
        return found
    frames = np.round(np.arange(n_frames) * HOP_SAMPLES * frame_rate_hz / ANALYSIS_RATE_HZ).astype(int)
    pitch_hz = f0_hz[np.minimum(frames, len(f0_hz) - 1)]
    wanted = BINS_APART * ANALYSIS_RATE_HZ / np.maximum(pitch_hz, 1e-9)
    longest = WINDOW_SAMPLES[-1]
    padded = np.pad(np.asarray(audio, np.float32), longest // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, longest)[::HOP_SAMPLES]
    for i, size in enumerate(WINDOW_SAMPLES):
        shorter = WINDOW_SAMPLES[i - 1] if i else 0
        fits = (pitch_hz > 0) & (wanted > shorter) & ((wanted <= size) | (size == longest))
        edge = (longest - size) // 2
        chosen = np.flatnonzero(fits)
        for part in np.split(chosen, range(_AT_ONCE, len(chosen), _AT_ONCE)):
            found[part] = _noise_db(windows[part, edge : edge + size], pitch_hz[part])
    return found


def _noise_db(windows: FloatArray, pitch_hz: FloatArray) -> DoubleArray:
    """Noise relative to the harmonics in dB, [n], of windows [n, size] with F0 [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _analysis(size)
    power = np.abs(np.fft.rfft(windows * window, axis=1)[:, band]) ** 2
    pitch = pitch_hz[:, None]
    multiple = np.maximum(np.round(bins_hz / pitch), 1).astype(int)
    beside = np.abs(bins_hz - multiple * pitch) > LOBE_BINS * ANALYSIS_RATE_HZ / size + VIBRATO_SHARE * bins_hz
    # cell k of window i has the number i·n + k
    n = int(multiple.max(initial=0)) + 1
    cell = (np.arange(len(windows))[:, None] * n + multiple).ravel()

    def cells(values: RealArray | BoolArray) -> DoubleArray:
        return np.bincount(cell, values.ravel(), minlength=len(windows) * n).reshape(-1, n).astype(np.float64)

    n_beside, n_bins = cells(beside.astype(float)), cells(np.ones_like(power))
    usable = n_beside >= LEAST_BINS
    noise = np.where(usable, cells(power * beside) / np.maximum(n_beside, 1) * n_bins, 0.0).sum(axis=1)
    harmonic = np.where(usable, cells(power), 0.0).sum(axis=1) - noise
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10.0 * np.log10(noise / np.maximum(harmonic, 0.0))
    return np.where(np.isfinite(found), found, np.nan)


@functools.cache
def _analysis(size: int) -> tuple[FloatArray, slice, FloatArray]:
    """Window, the bins of the band, their frequencies."""
    turns = 2.0 * np.pi * np.arange(size) / size
    window = np.sum([a * np.cos(i * turns) for i, a in enumerate(COEFFICIENTS)], axis=0).astype(np.float32)
    frequencies_hz = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ)
    first, last = np.searchsorted(frequencies_hz, BAND_HZ)
    return window, slice(int(first), int(last)), frequencies_hz[first:last]
