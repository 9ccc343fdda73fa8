"""Harmonics and noise of made signals, whose amplitudes and densities are known."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.partials import measure_partials

RATE_HZ, FRAME_RATE_HZ = 16000, 50


def glide(start_hz: float, stop_hz: float, seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """F0 of every sample [S] and of every frame [F], exponential."""

    def at(rate_hz: int) -> np.ndarray:
        return start_hz * (stop_hz / start_hz) ** (np.arange(round(seconds * rate_hz)) / (seconds * rate_hz))

    return at(RATE_HZ), at(FRAME_RATE_HZ).astype(np.float32)


def harmonics(f0_hz: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    parts = [a * np.sin(k * phase) * (k * f0_hz < RATE_HZ / 2) for k, a in enumerate(amplitudes, 1)]
    return np.sum(parts, axis=0).astype(np.float32)


@pytest.mark.parametrize(("start_hz", "stop_hz"), [(220, 220), (200, 400), (80, 60), (900, 1100)])
def test_amplitudes_of_a_glide_are_read(start_hz, stop_hz):
    """An octave a second blurs an ordinary spectrum from the tenth harmonic on."""
    f0, frames = glide(start_hz, stop_hz)
    n = int(0.4 * RATE_HZ / max(start_hz, stop_hz))
    amplitudes = 0.2 / np.arange(1, n + 1)
    power = measure_partials(harmonics(f0, amplitudes), RATE_HZ, frames, FRAME_RATE_HZ, n).harmonic_power
    inner = power[5:-5]
    assert np.abs(10 * np.log10(inner / amplitudes**2)).max() < 0.5


def test_between_harmonics_lies_nothing():
    f0, frames = glide(200, 300)
    amplitudes = np.full(20, 0.05)
    partials = measure_partials(harmonics(f0, amplitudes), RATE_HZ, frames, FRAME_RATE_HZ, 20)
    assert 10 * np.log10(partials.noise_density[5:-5].max() / 0.05**2) < -50


@pytest.mark.parametrize("f0_hz", [100.0, 440.0])
def test_noise_has_the_density_of_white_noise(f0_hz):
    """Variance σ² spread evenly up to half the sample rate."""
    audio = np.random.default_rng(0).normal(size=4 * RATE_HZ).astype(np.float32) * 0.1
    frames = np.full(4 * FRAME_RATE_HZ, f0_hz, np.float32)
    n = int(0.4 * RATE_HZ / f0_hz)
    partials = measure_partials(audio, RATE_HZ, frames, FRAME_RATE_HZ, n)
    expected = 0.1**2 / (RATE_HZ / 2)
    assert 10 * np.log10(partials.noise_density[5:-5].mean() / expected) == pytest.approx(0, abs=0.5)
    median = np.median(partials.noise_density[5:-5])
    assert 10 * np.log10(median / expected) == pytest.approx(-1.6, abs=0.6)
    # a harmonic bin that holds nothing but noise reads what is expected of noise
    noise = partials.noise_in_harmonics(frames)[5:-5].mean()
    assert 10 * np.log10(partials.harmonic_power[5:-5].mean() / noise) == pytest.approx(0, abs=0.5)
