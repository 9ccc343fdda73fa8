import itertools

import numpy as np
import pytest

from ddsp_cli import arrays
from ddsp_cli.analysis.extract import measure
from ddsp_cli.dataset import segments
from fixtures import melody


def mask(n: int, *notes: tuple[int, int]) -> np.ndarray:
    result = np.zeros(n, bool)
    for start, end in notes:
        result[start:end] = True
    return result


def test_notes_keep_their_margins():
    # 0.1 s = 25 frames before, 0.5 s = 125 frames after
    assert segments.segments(mask(2000, (500, 600))) == [(475, 725)]
    assert segments.segments(mask(2000, (10, 20), (1990, 2000))) == [(0, 145), (1965, 2000)]


def test_short_rests_stay_and_long_ones_lose_their_middle():
    assert segments.segments(mask(2000, (500, 600), (740, 800))) == [(475, 925)]
    assert segments.segments(mask(3000, (500, 600), (1500, 1600))) == [(475, 725), (1475, 1725)]
    assert segments.segments(mask(1000)) == []


def test_what_is_unwanted_is_cut_out_to_the_grid():
    unwanted = mask(2000, (552, 558), (590, 600))
    kept = segments.segments(mask(2000, (500, 600), (1000, 1010)), unwanted=unwanted)
    assert kept == [(475, 550), (560, 590)]  # the release after a chord, and a blip, go with it
    assert segments.segments(mask(2000, (500, 600)), unwanted=mask(2000, (400, 900))) == []


@pytest.mark.parametrize("seed", range(20))
def test_segments_hold_every_note_and_are_on_the_grid(seed):
    random = np.random.default_rng(seed)
    notes = np.repeat(random.random(40) < 0.3, random.integers(1, 300, 40))
    kept = segments.segments(notes)
    inside = mask(len(notes), *kept)
    assert not (notes & ~inside).any()
    assert all(start % 5 == 0 and end % 5 == 0 and start < end for start, end in kept)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(kept))
    assert len(segments.gather(np.arange(len(notes)), kept)) == segments.total_frames(kept)


def test_blips_and_murmurs_are_no_notes():
    f0_hz, power_db = np.zeros(1000), np.full(1000, -20.0)
    f0_hz[100:110] = 440  # 40 ms
    f0_hz[200:400] = 440
    f0_hz[600:800] = 440
    power_db[600:800] = -75  # someone hums far away
    found = list(zip(*arrays.runs(segments.note_frames(f0_hz, power_db)), strict=True))
    assert found == [(200, 400)]


@pytest.mark.parametrize("rate_hz", [16000, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("block", [1000, 7777, 10**6])
def test_cutting_keeps_the_middle_and_fades_the_ends(rate_hz, block):
    sound = np.ones(2 * rate_hz, np.float32)
    kept = [(0, 50), (100, 205), (450, 505)]  # the last reaches 20 ms beyond the recording
    blocks = [sound[i : i + block] for i in range(0, len(sound), block)]
    cut = np.concatenate(list(segments.cut(blocks, kept, rate_hz, 250)))
    assert len(cut) == 210 * rate_hz // 250
    fade = round(0.005 * rate_hz)
    start = 0
    for low, high in kept[:2]:
        part = cut[start : start + (high - low) * rate_hz // 250]
        assert part[0] < 0.02 > part[-1]
        np.testing.assert_array_equal(part[fade:-fade], 1.0)
        start += len(part)
    assert (cut[-(5 * rate_hz // 250) :] == 0).all()


def test_a_recording_is_parted_in_a_rest():
    rests = measure(melody((60, 62, 64, 65, 67), note_s=0.6, rest_s=0.2))
    cut = segments.quietest_cut(rests.power_db, 0.7, 0.9, 250)
    assert 0.7 * len(rests) - 5 <= cut <= 0.9 * len(rests)
    assert cut % 5 == 0
    assert rests.power_db[cut] < -60


# --- rumble ----------------------------------------------------------------------------------------------------


def filtered(audio: np.ndarray, lowest_hz: float, rate_hz: int = 16000, size: int = 4096) -> np.ndarray:
    def read(first: int, last: int) -> np.ndarray:
        assert 0 <= first <= last <= len(audio)
        return audio[first:last]

    return np.concatenate([
        segments.remove_rumble(read, len(audio), lowest_hz, rate_hz, at, min(at + size, len(audio)))
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
def test_the_high_pass_does_not_depend_on_the_blocks(size):
    noise = np.random.default_rng(1).normal(0, 0.1, 3000).astype(np.float32)
    np.testing.assert_allclose(filtered(noise, 100.0, size=size), filtered(noise, 100.0, size=3000), atol=1e-6)


def test_strays_of_the_tracker_are_not_the_lowest_note():
    f0_hz = np.concatenate([np.zeros(500), np.full(100, 50.0), np.full(1000, 200.0), np.full(1000, 400.0)])
    assert segments.lowest_hz(np.split(f0_hz, [7]), 250) == 200.0
    assert segments.lowest_hz([np.zeros(100)], 250) == 0.0
