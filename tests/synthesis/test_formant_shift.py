"""Resonances move by the requested interval; power, and the balance of even and odd harmonics, stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.synthesis.formant_shift import shift_formants

F0_HZ = 110.0
HARMONICS_HZ = F0_HZ * np.arange(1, 61)
BANDS_HZ = np.linspace(0, 8000, 65)


def resonance(frequencies_hz, centre_hz, width_octaves=0.5):
    return np.exp(-0.5 * (np.log2(np.maximum(frequencies_hz, 1.0) / centre_hz) / width_octaves) ** 2)


def centroid_hz(values, frequencies_hz):
    """On a logarithmic axis, where a resonance is symmetrical."""
    weights = values**2 / np.maximum(frequencies_hz, 1.0)
    return 2.0 ** np.average(np.log2(np.maximum(frequencies_hz, 1.0)), weights=weights)


@pytest.mark.parametrize("semitones", [-7.0, -2.0, 3.0, 7.0])
@pytest.mark.parametrize(
    ("name", "frequencies_hz"), [("harmonic_distribution", HARMONICS_HZ), ("noise_magnitudes", BANDS_HZ)]
)
def test_the_resonance_moves_and_the_power_stays(name, frequencies_hz, semitones):
    before = resonance(frequencies_hz, 1500.0)[None].astype(np.float32)
    after = shift_formants({name: before}, semitones)[name]
    moved = 12 * np.log2(centroid_hz(after[0], frequencies_hz) / centroid_hz(before[0], frequencies_hz))
    assert moved == pytest.approx(semitones, abs=0.35)
    assert np.sum(after**2) == pytest.approx(np.sum(before**2), rel=1e-4)


def test_odd_harmonics_stay_odd():
    """Of a clarinet: even harmonics 20 dB softer."""
    before = resonance(HARMONICS_HZ, 1200.0, 1.0)
    before[1::2] *= 0.1
    after = shift_formants({"harmonic_distribution": before[None]}, 5.0)["harmonic_distribution"][0]
    ratio_db = 20 * np.log10(after[5:30:2] / np.sqrt(after[4:29:2] * after[6:31:2]))
    np.testing.assert_allclose(ratio_db, -20.0, atol=1.0)


def test_nothing_above_half_the_sample_rate_and_other_controls_untouched():
    before = np.ones((2, 60), np.float32)
    before[0, 40:] = 0.0
    amplitude = np.array([[0.5], [0.2]], np.float32)
    after = shift_formants({"harmonic_distribution": before, "amplitude": amplitude}, 4.0)
    assert after["amplitude"] is amplitude
    assert not after["harmonic_distribution"][0, 40:].any()
    np.testing.assert_allclose(after["harmonic_distribution"][0, :40], 1.0, rtol=1e-5)  # flat stays flat


@given(seed=st.integers(0, 99), semitones=st.floats(-12, 12), n=st.integers(1, 70))
def test_any_controls_survive(seed, semitones, n):
    random = np.random.default_rng(seed)
    controls = {
        "harmonic_distribution": (random.random((3, n)) ** 8).astype(np.float32),
        "noise_magnitudes": np.zeros((3, 65), np.float32),
    }
    after = shift_formants(controls, semitones)
    assert np.isfinite(after["harmonic_distribution"]).all()
    assert (after["harmonic_distribution"] >= 0).all()
    assert not after["noise_magnitudes"].any()
    power = [np.sum(np.square(x["harmonic_distribution"]), axis=1) for x in (controls, after)]
    np.testing.assert_allclose(*power, rtol=1e-3, atol=1e-20)
