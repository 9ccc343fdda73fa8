"""The resampler for playing live: exact sines, the stated delay, no dependence on blocks, no aliases."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.audio.resample import LiveResampler

RATES = [(44100, 16000), (16000, 44100), (48000, 16000), (22050, 16000), (16000, 48000)]


def sine(frequency_hz, rate_hz, seconds=0.5):
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("of_lower", [0.01, 0.4])
def test_a_sine_stays_a_sine_in_time(from_hz, to_hz, of_lower):
    frequency_hz = of_lower * min(from_hz, to_hz)
    out = LiveResampler(from_hz, to_hz).push(sine(frequency_hz, from_hz))
    assert np.abs(out - sine(frequency_hz, to_hz)[: len(out)])[200:].max() < 1e-4


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_blocks_do_not_matter_and_the_delay_is_the_stated_one(from_hz, to_hz):
    sound = sine(440.0, from_hz)
    whole, stream = LiveResampler(from_hz, to_hz).push(sound), LiveResampler(from_hz, to_hz)
    n_out, parts = 0, []
    for end in range(97, len(sound), 97):
        parts.append(stream.push(sound[end - 97 : end]))
        n_out += len(parts[-1])
        assert n_out == max(0, int(np.ceil((end - stream.delay_samples) * to_hz / from_hz - 1e-9)))
    np.testing.assert_array_equal(np.concatenate(parts), whole[:n_out])
    assert stream.delay_samples / from_hz < 0.002


def test_nothing_above_the_lower_half_rate_comes_through():
    out = LiveResampler(48000, 16000).push(sine(0.56 * 16000, 48000))
    assert np.abs(out[200:]).max() < 10 ** (-80 / 20)


def test_equal_rates_are_passed_on():
    sound = sine(440.0, 16000)
    np.testing.assert_array_equal(LiveResampler(16000, 16000).push(sound), sound)
