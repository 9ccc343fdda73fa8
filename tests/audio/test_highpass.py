import numpy as np
import pytest

from ddsp_cli.audio import highpass


def filtered(audio: np.ndarray, lowest_hz: float, rate_hz: int = 16000, size: int = 4096) -> np.ndarray:
    def read(first: int, last: int) -> np.ndarray:
        assert 0 <= first <= last <= len(audio)
        return audio[first:last]

    return np.concatenate([
        highpass.remove_rumble(read, len(audio), lowest_hz, rate_hz, at, min(at + size, len(audio)))
        for at in range(0, len(audio), size)
    ])  # fmt: skip


def tone(hz: float, rate_hz: int = 16000, seconds: float = 3.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("lowest_hz", "rate_hz"), [(65.4, 16000), (261.6, 16000), (65.4, 48000), (0.0, 16000)])
def test_rumble_goes_and_the_lowest_note_stays(lowest_hz, rate_hz):
    inner = slice(rate_hz, -rate_hz)
    note_hz = max(lowest_hz, 60.0)
    note = tone(note_hz, rate_hz)
    np.testing.assert_allclose(filtered(note, lowest_hz, rate_hz)[inner], note[inner], atol=2e-3)
    rumble = filtered(tone(max(0.55 * lowest_hz, 25.0), rate_hz), lowest_hz, rate_hz)
    assert np.abs(rumble[inner]).max() < 2e-3


def test_attacks_stay_where_they_are():
    note = np.concatenate([np.zeros(8000, np.float32), tone(220, seconds=0.5) * np.hanning(8000).astype(np.float32)])
    kept = filtered(note, 200.0)
    assert kept.dtype == np.float32 and len(kept) == len(note)
    assert np.abs(kept - note).max() < 0.02


@pytest.mark.parametrize("size", [1, 100, 977, 16000])
def test_blocks_make_no_difference(size):
    noise = np.random.default_rng(1).normal(0, 0.1, 3000).astype(np.float32)
    np.testing.assert_allclose(filtered(noise, 100.0, size=size), filtered(noise, 100.0, size=3000), atol=1e-6)


def test_strays_of_the_tracker_are_not_the_lowest_note():
    f0_hz = np.concatenate([np.zeros(500), np.full(100, 50.0), np.full(1000, 200.0), np.full(1000, 400.0)])
    assert highpass.lowest_hz(np.split(f0_hz, [7]), 250) == 200.0
    assert highpass.lowest_hz([np.zeros(100)], 250) == 0.0
