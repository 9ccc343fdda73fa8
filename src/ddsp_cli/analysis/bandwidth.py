"""Measure the bandwidth of a recording: lossy codecs and sample rates leave nothing above a sharp edge.

An instrument must not learn that edge. MP3 ends at 13 to 16 kHz, a recording at 44.1 kHz at 22.05 kHz.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, hann_window

#: An edge is a fall by this much ...
EDGE_DB = 20.0

#: ... between the mean levels of two bands of this width ...
BAND_HZ = 1000.0

#: ... with this distance between them. Instruments and microphones fall by less than 12 dB in this range.
GAP_HZ = 400.0

#: Lowest edge that is searched; telephone bands are below it, and cannot be trained on.
LOWEST_EDGE_HZ = 6000.0

#: Distance of the places that are tried, and length of the spectra.
STEP_HZ, SIZE_S = 100.0, 0.085


def bandwidth_hz(audio: FloatArray, sample_rate_hz: int) -> float:
    """Measures the upper edge of the spectrum of a recording.

    Args:
      audio: [S].
      sample_rate_hz: of the audio.

    Returns:
      The frequency just below the lowest edge, or half the sample rate where there is none, or no sound.
    """
    nyquist_hz = sample_rate_hz / 2.0
    size = int(SIZE_S * sample_rate_hz)
    if len(audio) < 2 * size or nyquist_hz <= LOWEST_EDGE_HZ + BAND_HZ + GAP_HZ:
        return nyquist_hz
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, np.float32), size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * hann_window(size), axis=1)) ** 2
    loud = power.sum(axis=1)
    power = power[loud >= np.median(loud)].mean(axis=0)
    if not power.any():
        return nyquist_hz
    # Tones stand out of their surroundings: the median of the logarithm tells the level between them.
    level_db = 10.0 * np.log10(power + 1e-18 * power.max())
    hz = np.arange(len(level_db)) * nyquist_hz / (len(level_db) - 1)
    centres_hz = np.arange(LOWEST_EDGE_HZ, nyquist_hz, STEP_HZ)

    def band_db(first_hz: np.ndarray) -> np.ndarray:
        starts = np.searchsorted(hz, first_hz)
        stops = np.minimum(np.searchsorted(hz, first_hz + BAND_HZ), len(hz))
        return np.array([np.median(level_db[i:j]) if j - i > 4 else np.nan for i, j in zip(starts, stops, strict=True)])

    fall_db = band_db(centres_hz - BAND_HZ - GAP_HZ / 2.0) - band_db(centres_hz + GAP_HZ / 2.0)
    fall_db = np.nan_to_num(fall_db)
    edges = np.flatnonzero(fall_db >= EDGE_DB)
    if not len(edges):
        return nyquist_hz
    # the fall is whole where the edge lies in the gap between the bands
    around = fall_db[edges[0] : edges[0] + round((BAND_HZ + GAP_HZ) / STEP_HZ)]
    return float(centres_hz[edges[0] + int(np.argmax(around >= around.max() - 1.0))] - GAP_HZ)
