"""Copies at other pitches: F0 and level are those that the sound of the copy has."""

from __future__ import annotations

import numpy as np

from ddsp_cli.training.augment import with_copies
from training_fixtures import tones


def test_f0_and_level_follow_the_sound():
    examples = tones(3)
    found = with_copies(examples, 16000, 2, seed=1, floor_db=-80.0)
    assert len(found) == 9
    np.testing.assert_array_equal(found.audio[:3], examples.audio)
    for i in range(3, 9):
        heard = found.f0_hz[i] > 0
        assert heard.mean() > 0.9
        f0_hz = float(found.f0_hz[i][heard][0])
        semitones = 12.0 * np.log2(f0_hz / examples.f0_hz[i % 3, 0])
        assert 0.19 < abs(semitones) < 1.01
        middle = found.audio[i, 4000:12000]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
        loudest_hz = np.argmax(spectrum) * 16000 / (1 << 17)
        assert abs(loudest_hz / f0_hz - 1.0) < 1e-3
        louder_db = 20.0 * np.log10(np.std(middle) / np.std(examples.audio[i % 3, 4000:12000]))
        assert abs(louder_db - (found.power_db[i][heard][0] - examples.power_db[i % 3, 0])) < 0.2
        # after the end of a faster copy there is silence
        n_silent = int((~heard).sum()) * 64
        assert np.abs(found.audio[i, len(found.audio[i]) - n_silent + 128 :]).max(initial=0.0) == 0.0
        assert (found.power_db[i][~heard] == -80.0).all()


def test_the_same_seed_gives_the_same_copies():
    one, same, other = (with_copies(tones(2), 16000, 1, seed, -80.0) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.audio, same.audio)
    assert not np.array_equal(one.audio, other.audio)
