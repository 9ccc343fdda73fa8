"""Loudness of the first generation: decibels averaged over bins, windows that look ahead."""

from __future__ import annotations

import numpy as np

from ddsp_cli.analysis.loudness import a_weighting_db, loudness_db, loudness_stream
from ddsp_cli.config import FeatureSpec

SPEC = FeatureSpec(loudness="a-weighted-2020", loudness_window_samples=2048, floor_db=-120.0)


def noise(n_samples: int = 16000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=n_samples).astype(np.float32) * np.float32(0.1)


def test_definition() -> None:
    """mean over bins of max(20·log10|S| + A − 20.7, −120), window i from sample i·hop (facts 3.4)."""
    audio = np.pad(noise().astype(np.float64), (0, 2048))
    found = loudness_db(noise(), SPEC)
    assert len(found) == 250
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    weights = a_weighting_db(np.arange(1025) * 16000 / 2048)
    for i in (0, 1, 100, 249):
        magnitudes = np.abs(np.fft.rfft(audio[i * 64 : i * 64 + 2048] * window))
        bins = np.maximum(20 * np.log10(np.maximum(magnitudes, 1e-20)) + weights - 20.7, -120)
        assert abs(found[i] - bins.mean()) < 2e-3


def test_twice_the_amplitude_is_six_decibels() -> None:
    difference = loudness_db(2 * noise(), SPEC) - loudness_db(noise(), SPEC)
    np.testing.assert_allclose(difference[:200], 20 * np.log10(2), atol=0.03)  # but for a few bins at the floor


def test_silence_is_the_floor() -> None:
    np.testing.assert_array_equal(loudness_db(np.zeros(1000, np.float32), SPEC), np.full(16, -120, np.float32))


def test_blocks_do_not_matter() -> None:
    audio = noise()
    stream = loudness_stream(SPEC)
    parts = [stream.push(audio[i : i + 777]) for i in range(0, len(audio), 777)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()]), loudness_db(audio, SPEC))


def test_windows_look_ahead() -> None:
    """A click is heard by the frames up to 2048 samples before it, and by none after it."""
    audio = np.zeros(8000, np.float32)
    audio[4000] = 1.0
    heard = np.flatnonzero(loudness_db(audio, SPEC) > -119)
    assert heard[0] * 64 > 4000 - 2048
    assert heard[-1] * 64 < 4000


def test_generations_do_not_meet() -> None:
    """A data set measured one way cannot train a model that was learned the other way."""
    assert any("loudness" in difference for difference in SPEC.differences(FeatureSpec()))
