"""Measure the levels of harmonics and noise bands in each frame of recordings. Imports no training framework.

Shapes: N windows, F frames, K harmonics, M noise bands, C one of K and M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ddsp_cli.analysis.harmonics import measure_partials
from ddsp_cli.arrays import FloatArray, hann_window
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.scaling import NOISE_VARIANCE
from ddsp_cli.training.windows import Windows

#: The median of one bin of noise is this much below its mean (chi-squared, two degrees of freedom: ln 2).
NOISE_MEDIAN_DB = 10.0 * math.log10(math.log(2.0))

#: Harmonics are measured below this share of half the sample rate, below the roll-off of anti-aliasing filters.
BAND_SHARE = 0.97

#: Largest number of harmonics that are measured.
MAX_MEASURED = 400

#: Weight of extrapolated levels, above the band of a recording, and limits of their slope in dB per octave.
BEYOND_WEIGHT = 0.2
BEYOND_SLOPE_DB = (-60.0, -12.0)

#: Floor of the levels: recordings hold nothing softer, and a control at this level can still be learned.
FLOOR_DB = -90.0

#: Noise below half of F0 is measured in windows of this length, above the lowest frequency of recordings.
LOW_WINDOW_S, LOWEST_NOISE_HZ = 0.085, 20.0


@dataclass(frozen=True)
class Targets:
    """Levels that the synthesisers should have, measured in windows of recordings.

    Attributes:
      harmonic_db: [N, F, K] amplitude of each harmonic.
      harmonic_weight: [N, F, K] weight by frequency (`_hearing_weight`) in voiced frames. Above the band of the
        recording, where levels continue the slope of the highest octave, it is multiplied by `BEYOND_WEIGHT`; above
        half the sample rate it is 0.
      noise_db: [N, F, M] magnitude of each noise band.
      noise_weight: [N, F, M] weight of each noise band, likewise.
    """

    harmonic_db: FloatArray
    harmonic_weight: FloatArray
    noise_db: FloatArray
    noise_weight: FloatArray


def measure_targets(windows: Windows) -> Targets:
    """Measures the controls of all windows; 2 ms for a second of sound at 16 kHz, 20 ms at 48 kHz."""
    model = windows.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    n_harmonics, n_bands = harmonic[1].n_harmonics, noise[1].n_bands
    shape = (len(windows), windows.n_frames)
    found = Targets(*(np.zeros((*shape, n), np.float32) for n in (n_harmonics, n_harmonics, n_bands, n_bands)))
    for i, (audio, f0_hz, bandwidth_hz) in enumerate(
        zip(windows.audio, windows.fine_f0_hz, windows.bandwidth_hz, strict=True)
    ):
        found.harmonic_db[i], found.noise_db[i] = window_levels(
            audio, model, f0_hz, bandwidth_hz, n_harmonics, n_bands, windows.f0_step
        )
    top_hz = np.minimum(windows.bandwidth_hz, BAND_SHARE * model.sample_rate_hz / 2.0)[:, None, None]
    for weight, hz in (
        (found.harmonic_weight, np.arange(1, n_harmonics + 1) * windows.inputs["f0_hz"]),
        (found.noise_weight, np.linspace(0.0, model.sample_rate_hz / 2.0, n_bands)),
    ):
        weight[:] = np.where(hz <= top_hz, 1.0, BEYOND_WEIGHT) * _hearing_weight(hz)
        weight *= windows.voiced[..., None]
    found.harmonic_weight[np.arange(1, n_harmonics + 1) * windows.inputs["f0_hz"] >= model.sample_rate_hz / 2.0] = 0.0
    return found


def _hearing_weight(hz: np.ndarray) -> np.ndarray:
    """Returns the weight of levels at frequencies: the square root of the density of equivalent rectangular bandwidths.

    Glasberg and Moore (1990): 24.7·(4.37 f + 1) Hz with f in kHz. Weighted by the density itself, the band above 8 kHz
    would have hardly any weight.
    """
    return 1.0 / np.sqrt(1.0 + 4.37 * hz / 1000.0)


def window_levels(
    audio: FloatArray, model: ModelConfig, f0_hz: FloatArray, bandwidth_hz: float, n_harmonics: int, n_bands: int,
    step: int, floor_db: float = FLOOR_DB,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Measures the levels of harmonics and noise in one window, extrapolated above its band.

    Args:
      audio: [S] at the model's rate.
      model: sample rate and frame rate.
      f0_hz: [F·step], nowhere 0.
      bandwidth_hz: upper edge of the spectrum.
      n_harmonics, n_bands: K and M.
      step: values of F0 in a frame.
      floor_db: softer levels count as this one.

    Returns:
      Amplitudes of harmonics [F, K] and magnitudes of noise bands [F, M], in dB.
    """
    rate_hz = model.sample_rate_hz
    top_hz = min(bandwidth_hz, BAND_SHARE * rate_hz / 2.0)
    # harmonics that are not synthesised are measured too: their energy is added to the noise
    n_measured = max(n_harmonics, min(MAX_MEASURED, int(rate_hz / 2.0 / float(f0_hz.min()))))
    partials = measure_partials(audio, rate_hz, f0_hz, model.frame_rate_hz * step, n_measured, step)
    f0_hz = np.asarray(f0_hz[::step], np.float32)
    # noise in the bin is subtracted; a harmonic covered by noise counts as a tenth of the power in its bin
    above_noise = partials.harmonic_power - partials.noise_in_harmonics(f0_hz)
    harmonic_db = _power_db(np.maximum(above_noise, 0.1 * partials.harmonic_power)[:, :n_harmonics], floor_db)
    density = partials.noise_density.copy()
    density[:, n_harmonics:] += partials.harmonic_power[:, n_harmonics:] / f0_hz[:, None]
    # density of noise of variance v and magnitude m: m² v / (rate / 2)
    magnitude_db = _power_db(density * (rate_hz / 2.0) / NOISE_VARIANCE, floor_db) - NOISE_MEDIAN_DB
    bands_hz = np.linspace(0.0, rate_hz / 2.0, n_bands)
    noise_db = np.empty((len(f0_hz), n_bands), np.float32)
    for frame, (hz, levels_db) in enumerate(zip(f0_hz, magnitude_db, strict=True)):
        places_hz = (np.arange(n_measured) + 0.5) * hz
        n_inside = max(1, int(np.searchsorted(places_hz, top_hz)))
        noise_db[frame] = np.interp(bands_hz, places_hz[:n_inside], levels_db[:n_inside])
    low_db = _low_noise_db(audio, rate_hz, model.hop_samples, bands_hz, f0_hz, floor_db)
    noise_db[:, : low_db.shape[1]] = np.where(np.isnan(low_db), noise_db[:, : low_db.shape[1]], low_db)
    harmonics_hz = np.arange(1, n_harmonics + 1) * f0_hz[:, None]
    return (
        _extrapolated(harmonics_hz, harmonic_db, top_hz, floor_db),
        _extrapolated(bands_hz[None], noise_db, top_hz, floor_db),
    )


def _low_noise_db(
    audio: FloatArray, rate_hz: int, hop_samples: int, bands_hz: np.ndarray, f0_hz: FloatArray, floor_db: float
) -> FloatArray:
    """Measures the noise bands below half of F0, where there are no harmonics to measure noise between.

    With the level at half of F0 in these bands, the noise of a flute below 250 Hz would be 24 to 29 dB too loud.

    Args:
      audio: [S].
      rate_hz: its rate.
      hop_samples: between frames.
      bands_hz: [M] centres of all bands, evenly spaced from 0 on.
      f0_hz: [F].
      floor_db: softer levels count as this one.

    Returns:
      Magnitudes [F, L] in dB of the lowest L bands; NaN where a band is above half of F0.
    """
    half_hz = 0.5 * float(bands_hz[1])
    bands_hz = bands_hz[bands_hz <= 0.5 * float(f0_hz.max())]
    size = round(LOW_WINDOW_S * rate_hz / 2.0) * 2
    window = hann_window(size)
    centred = np.pad(audio, (size // 2, size // 2 + hop_samples))
    frames = np.lib.stride_tricks.sliding_window_view(centred, size)[::hop_samples][: len(f0_hz)]
    n_bins = min(size // 2, math.ceil((bands_hz[-1] + half_hz) * size / rate_hz) + 1)
    density = np.abs(np.fft.rfft(frames * window, axis=1)[:, :n_bins]) ** 2 * (2.0 / (rate_hz * np.sum(window**2)))
    hz = np.arange(n_bins) * rate_hz / size
    levels_db = np.full((len(f0_hz), len(bands_hz)), np.nan, np.float32)
    is_free = (hz >= LOWEST_NOISE_HZ) & (hz <= 0.5 * f0_hz[:, None])
    for band, centre_hz in enumerate(bands_hz):
        inside = is_free & (np.abs(hz - centre_hz) <= half_hz)
        measured = (centre_hz <= 0.5 * f0_hz) & inside.any(axis=1)
        mean = np.sum(density * inside, axis=1)[measured] / inside.sum(axis=1)[measured]
        levels_db[measured, band] = _power_db(mean * (rate_hz / 2.0) / NOISE_VARIANCE, floor_db)
    return levels_db


def _extrapolated(hz: np.ndarray, levels_db: FloatArray, top_hz: float, floor_db: float) -> FloatArray:
    """Continues levels [F, C] at frequencies [F or 1, C] above `top_hz` by the slope of the octave below it."""
    inside = (hz > top_hz / 2.0) & (hz <= top_hz) & np.ones_like(levels_db, bool)
    above = (hz > top_hz) & np.ones_like(levels_db, bool)
    if not above.any() or inside.sum() < 2:
        return levels_db
    octaves = np.broadcast_to(np.log2(np.maximum(hz, 1.0) / top_hz), levels_db.shape)
    slope = np.polyfit(octaves[inside], levels_db[inside], 1)[0]
    # the slope is common to all frames; the level is that of each frame in its octave below the top
    n_inside = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    at_top_db = np.sum((levels_db - slope * octaves) * inside, axis=1, keepdims=True) / n_inside
    at_top_db = np.where(inside.any(axis=1, keepdims=True), at_top_db, floor_db)
    slope = float(np.clip(slope, *BEYOND_SLOPE_DB))
    return np.where(above, np.maximum(at_top_db + slope * octaves, floor_db), levels_db).astype(np.float32)


def _power_db(power: np.ndarray, floor_db: float) -> np.ndarray:
    return np.maximum(10.0 * np.log10(np.maximum(power, 1e-20)), floor_db)
