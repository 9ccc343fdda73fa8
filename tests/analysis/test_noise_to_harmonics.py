"""Noise against harmonics: sounds that were mixed to a known balance."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.metrics import noise_to_harmonics_db

RATE_HZ = 16000


def note(f0_hz, vibrato_cents=0.0, seconds=2.0):
    """Harmonics that fall off as 1/k, and their pitch at 250 Hz."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0 = f0_hz * 2.0 ** (vibrato_cents / 1200 * np.sin(2 * np.pi * 5.5 * t))
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    tone = sum(np.sin(k * phase) / k for k in range(1, int(7400 / f0_hz) + 1))
    return tone, f0[::64]


def hiss(n_samples, seed=0):
    return np.random.default_rng(seed).normal(size=n_samples)


@pytest.mark.parametrize(("f0_hz", "bin_hz"), [(90.0, 3.90625), (196.0, 7.8125), (440.0, 15.625), (1400.0, 15.625)])
@pytest.mark.parametrize("wanted_db", [-40.0, -20.0, 0.0])
def test_a_known_mixture(f0_hz, bin_hz, wanted_db):
    """White noise up to 8 kHz, seen up to 7.5 kHz or to where smeared harmonics leave no two bins between them."""
    tone, f0 = note(f0_hz)
    noise = hiss(len(tone))
    noise *= 10 ** (wanted_db / 20) * np.sqrt(np.mean(tone**2) / np.mean(noise**2))
    seen_hz = min(7500, (f0_hz / 2 - 5 * bin_hz) / 0.012) - 50
    wanted_db += 10 * np.log10(seen_hz / 8000)
    assert np.nanmedian(noise_to_harmonics_db(tone + noise, f0, 250)) == pytest.approx(wanted_db, abs=0.5)


def test_twice_the_noise_is_six_decibels_more_in_spite_of_vibrato():
    tone, f0 = note(330.0, vibrato_cents=25.0)
    noise = hiss(len(tone)) * 0.05
    one, two = (np.nanmedian(noise_to_harmonics_db(tone + gain * noise, f0, 250)) for gain in (1, 2))
    assert two - one == pytest.approx(6.02, abs=0.6)


def test_a_pure_tone_has_next_to_no_noise():
    tone, f0 = note(440.0)
    assert np.nanmedian(noise_to_harmonics_db(tone, f0, 250)) < -70


def test_level_does_not_matter():
    tone, f0 = note(440.0)
    mixed = tone + 0.1 * hiss(len(tone))
    np.testing.assert_allclose(
        noise_to_harmonics_db(mixed, f0, 250), noise_to_harmonics_db(mixed / 1000, f0, 250), atol=1e-3
    )


def test_without_pitch_nothing_is_said():
    assert np.isnan(noise_to_harmonics_db(hiss(8000), np.zeros(125), 250)).all()
    assert np.isnan(noise_to_harmonics_db(np.zeros(8000), np.full(125, 440.0), 250)).all()
