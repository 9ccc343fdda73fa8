"""Bandwidth of made recordings whose edge is known."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.bandwidth import bandwidth_hz

RATE_HZ = 48000


def recording(edge_hz: float | None, tones: bool = False) -> np.ndarray:
    """2 s of noise that falls by 12 dB an octave, or of a harmonic tone in soft noise, cut off at an edge."""
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.normal(size=2 * RATE_HZ))
    hz = np.fft.rfftfreq(2 * RATE_HZ, 1 / RATE_HZ)
    spectrum /= 1 + (hz / 500) ** 2
    if tones:
        spectrum[::880] *= 300  # every 440 Hz
    if edge_hz is not None:
        spectrum[hz > edge_hz] *= 1e-5
    sound = np.fft.irfft(spectrum)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("tones", [False, True])
@pytest.mark.parametrize("edge_hz", [8000, 13000, 16000, 20000, 22050])
def test_an_edge_is_found_just_below_it(edge_hz, tones):
    found = bandwidth_hz(recording(edge_hz, tones), RATE_HZ)
    assert edge_hz - 700 <= found <= edge_hz


@pytest.mark.parametrize("tones", [False, True])
def test_a_slope_is_no_edge(tones):
    assert bandwidth_hz(recording(None, tones), RATE_HZ) == RATE_HZ / 2


def test_silence_and_short_sounds_have_no_edge():
    assert bandwidth_hz(np.zeros(RATE_HZ, np.float32), RATE_HZ) == RATE_HZ / 2
    assert bandwidth_hz(recording(8000)[:1000], RATE_HZ) == RATE_HZ / 2


def test_low_rates_are_not_searched():
    assert bandwidth_hz(recording(None)[:16000], 12000) == 6000
