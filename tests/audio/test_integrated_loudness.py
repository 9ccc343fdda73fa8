"""Loudness against values of the standard, and laws: linear in dB, independent of blocks, rate and silence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddsp_cli.audio.integrated_loudness import LoudnessMeter, integrated_lufs


def sine(hz: float, rate_hz: int, seconds: float = 5.0, peak: float = 1.0) -> np.ndarray:
    return (peak * np.sin(2.0 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 96000])
def test_a_full_scale_sine_has_the_loudness_that_the_standard_gives(rate_hz):
    assert integrated_lufs([sine(997.0, rate_hz)], rate_hz) == pytest.approx(-3.01, abs=0.03)


@pytest.mark.parametrize("rate_hz", [1000, 2000, 3300, 3400, 8000])
def test_rates_below_the_shelf_have_the_same_loudness(rate_hz):
    assert integrated_lufs([sine(330.0, rate_hz, peak=0.1)], rate_hz) == pytest.approx(-23.76, abs=0.1)


def test_weighting_is_that_of_the_coefficients_for_48_khz():
    """The recursive filters as the standard prints them, on noise long enough that no gate closes."""
    from scipy.signal import lfilter

    noise = 0.1 * np.random.default_rng(0).normal(size=48000 * 3)
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]
    weighted = lfilter(*high_pass, lfilter(*shelf, noise))
    blocks = np.lib.stride_tricks.sliding_window_view(weighted, 19200)[::4800]
    expected = -0.691 + 10.0 * np.log10(np.mean(blocks**2))
    assert integrated_lufs([noise.astype(np.float32)], 48000) == pytest.approx(expected, abs=1e-3)


def test_twice_the_sound_is_6_db_more_and_blocks_do_not_matter():
    noise = np.random.default_rng(1).normal(size=50000).astype(np.float32) * 0.1
    whole = integrated_lufs([noise], 16000)
    assert integrated_lufs(np.array_split(noise, 29), 16000) == pytest.approx(whole, abs=1e-9)
    assert integrated_lufs([2 * noise], 16000) == pytest.approx(whole + 6.02, abs=0.01)


def test_rests_do_not_count():
    tone, rest = sine(500.0, 16000, 4.0, 0.2), np.zeros(160000, np.float32)
    alone, between = integrated_lufs([tone], 16000), integrated_lufs([rest, tone, rest], 16000)
    assert between == pytest.approx(alone, abs=0.4)  # the blocks at either edge hold both


def test_an_empty_block_changes_nothing():
    """A resampler between rates far apart begins with one."""
    tone = sine(500.0, 16000, 1.0, 0.2)
    assert integrated_lufs([tone[:0], tone, tone[:0]], 16000) == integrated_lufs([tone], 16000)
    meters = LoudnessMeter(16000, 2), LoudnessMeter(16000, 2)
    both = np.stack([tone, tone], axis=1)
    for meter, blocks in zip(meters, ([both], [both[:0], both]), strict=True):
        for block in blocks:
            meter.push(block)
    assert meters[0].integrated_lufs() == meters[1].integrated_lufs()


def test_silence_and_short_sounds():
    assert integrated_lufs([np.zeros(16000, np.float32)], 16000) == -math.inf
    assert integrated_lufs([], 16000) == -math.inf
    assert integrated_lufs([sine(1000.0, 16000, 0.2)], 16000) == pytest.approx(-3.0, abs=0.3)


def test_the_powers_of_two_channels_are_added():
    """ITU-R BS.1770-5, annex 1: left and right have a weight of 1 each."""
    noise = (0.1 * np.random.default_rng(2).normal(size=50000)).astype(np.float32)
    other = (0.1 * np.random.default_rng(3).normal(size=50000)).astype(np.float32)
    meter = LoudnessMeter(16000, 2)
    for part in np.array_split(np.stack([noise, other], axis=1), 7):
        meter.push(part)
    both = 10.0 * np.log10(sum(10.0 ** (integrated_lufs([one], 16000) / 10.0) for one in (noise, other)))
    assert meter.integrated_lufs() == pytest.approx(both, abs=0.02)
