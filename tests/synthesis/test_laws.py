"""Laws of the synthesisers: linearity, invariance in time, and numbers known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.config import FeatureSpec
from ddsp_cli.synthesis.level_correction import LevelCorrection, level_stream
from ddsp_cli.synthesis.reverb import Reverb, tail_s
from ddsp_cli.synthesis.synths import FilteredNoise, Harmonic

HOP, RATE_HZ = 64, 16000


def play(source, *frames):
    return np.concatenate([source.push(*frames), source.finish()])


def harmonics(f0_hz, amplitudes):
    return play(Harmonic(HOP, RATE_HZ, "linear"), f0_hz, amplitudes)


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    return random.uniform(100, 2000, 40), random.uniform(0, 1, (40, 12)).astype(np.float32)


def test_harmonics_are_linear_in_their_amplitudes(frames):
    f0_hz, amplitudes = frames
    other = np.roll(amplitudes, 3, axis=1)
    together = harmonics(f0_hz, 0.5 * amplitudes + 2.0 * other)
    np.testing.assert_allclose(together, 0.5 * harmonics(f0_hz, amplitudes) + 2.0 * harmonics(f0_hz, other), atol=1e-4)


def test_the_second_harmonic_is_the_first_an_octave_up(frames):
    f0_hz, amplitudes = frames
    second = np.zeros_like(amplitudes)
    second[:, 1] = amplitudes[:, 0]
    np.testing.assert_allclose(harmonics(f0_hz, second), harmonics(2 * f0_hz, amplitudes[:, :1]), atol=2e-5)


def test_a_steady_tone_is_a_sine_of_its_power():
    out = harmonics(np.full(250, 400.0), np.full((250, 1), 0.5, np.float32))
    t = np.arange(1, len(out) + 1) / RATE_HZ
    np.testing.assert_allclose(out, 0.5 * np.sin(2 * np.pi * 400 * t), atol=1e-6)


@pytest.mark.parametrize("n_bands", [2, 17, 65])
def test_noise_through_ones_is_the_noise_a_little_later(n_bands):
    noise = np.random.default_rng(1).uniform(-1, 1, (30, HOP)).astype(np.float32)
    out = play(FilteredNoise(HOP, n_bands), np.ones((30, n_bands)), noise)
    delay = 1 if n_bands == 2 else 2
    np.testing.assert_allclose(out[delay:], noise.reshape(-1)[: len(out) - delay], atol=1e-5)


def test_noise_is_linear_in_magnitudes_and_in_noise():
    random = np.random.default_rng(2)
    noise, magnitudes = random.uniform(-1, 1, (30, HOP)).astype(np.float32), random.uniform(0, 1, (30, 9))
    out = play(FilteredNoise(HOP, 9), magnitudes, noise)
    np.testing.assert_allclose(play(FilteredNoise(HOP, 9), 3.0 * magnitudes, noise), 3.0 * out, atol=1e-5)
    np.testing.assert_allclose(play(FilteredNoise(HOP, 9), magnitudes, -2.0 * noise), -2.0 * out, atol=1e-5)
    assert not play(FilteredNoise(HOP, 9), 0.0 * magnitudes, noise).any()


def test_reverb_is_linear_and_invariant_in_time():
    random = np.random.default_rng(3)
    response, dry = random.normal(size=500) * 0.1, random.normal(size=3000).astype(np.float32)
    out = Reverb(response).push(dry)
    np.testing.assert_allclose(Reverb(response).push(-2.0 * dry), -2.0 * out, atol=1e-4)
    late = np.concatenate([np.zeros(77, np.float32), dry])
    np.testing.assert_allclose(Reverb(response).push(late)[77:], out, atol=1e-5)
    impulse = np.zeros(600, np.float32)
    impulse[0] = 1.0
    np.testing.assert_allclose(Reverb(response).push(impulse)[1:500], response[1:], atol=1e-6)


def test_a_tail_ends_where_the_energy_is_sixty_decibels_down():
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    response = 0.05 * 10.0 ** (-60.0 * t / 20.0)  # 60 dB a second
    direct_db = 10 * np.log10(1.0 + np.sum(response**2))
    # The energy left at time t is Σ 0.05²·10^(-6t')/… = 0.05²·rate/(6·ln 10)·10^(-6t).
    at_start_db = 10 * np.log10(0.05**2 * RATE_HZ / (6.0 * np.log(10.0)))
    assert tail_s(response, RATE_HZ) == pytest.approx((60.0 + at_start_db - direct_db) / 60.0, abs=0.01)
    assert tail_s(None, RATE_HZ) == 0.0


@pytest.mark.parametrize("gain_db", [-5.0, 4.0])
def test_level_correction_makes_up_for_a_gain_within_its_bounds(gain_db):
    def corrected(sound):
        measure = level_stream(FeatureSpec(), "power_db", RATE_HZ, HOP)
        correction = LevelCorrection(measure, RATE_HZ, HOP)
        requested_db = np.full(len(sound) // HOP, -25.0)
        return np.concatenate([correction.push(sound, requested_db), correction.finish(np.zeros(0))])

    t = np.arange(500 * HOP) / RATE_HZ
    sound = (0.1 * np.sin(2 * np.pi * 440 * t) * (1 + 0.2 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)
    louder = corrected((sound * 10.0 ** (gain_db / 20.0)).astype(np.float32))
    np.testing.assert_allclose(louder, corrected(sound), atol=1e-3)
