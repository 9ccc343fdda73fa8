"""The strongest voice of chords, and its path that is decided while the sound is read."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.pitch import salience
from ddsp_cli.analysis.pitch.salience import track_strongest


def tone(midi, seconds=3.0):
    t = np.arange(round(seconds * 16000)) / 16000
    f0_hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * f0_hz * k * t) / k for k in range(1, 6)) * np.sin(np.pi * t / seconds)


@pytest.mark.parametrize("notes", [(60, 64, 67), (57, 60, 64, 69), (62, 69), (65,)])
def test_a_chord_has_a_line(notes):
    audio = (0.05 * sum(map(tone, notes))).astype(np.float32)
    track = track_strongest(lambda: [audio[:10000], audio[10000:]])
    assert abs(len(track.f0_hz) - -(-len(audio) // 256)) <= 1
    sure = track.confidence > 0.75
    assert sure.mean() > 0.9
    midi = 69 + 12 * np.log2(track.f0_hz[sure] / 440)
    assert np.abs(midi[:, None] - np.array(notes)).min(axis=1).max() < 0.3
    assert np.ptp(midi) < 0.5


def test_blocks_do_not_matter_to_the_strongest_voice():
    audio = (0.05 * (tone(60) + tone(64))).astype(np.float32)
    whole = track_strongest(lambda: [audio])
    parts = track_strongest(lambda: np.array_split(audio, 17))
    assert (whole.f0_hz == parts.f0_hz).all()
    np.testing.assert_allclose(whole.confidence, parts.confidence, atol=1e-5)


def test_noise_has_no_strongest_voice():
    noise = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    assert track_strongest(lambda: [noise]).confidence.max() < 0.5
    hiss = np.diff(noise, 4, prepend=np.zeros(4, np.float32))  # mostly above 4 kHz
    assert np.mean(track_strongest(lambda: [hiss]).confidence >= 0.5) < 0.02
    assert len(track_strongest(list).f0_hz) in {0, 1}


def dense_viterbi(values: np.ndarray, usual: float) -> np.ndarray:
    """The textbook algorithm on whole matrices."""
    n = salience.N_CANDIDATES
    steps = np.abs(np.arange(n)[:, None] - np.arange(n)) / (salience.PER_OCTAVE / 12.0)
    cost = (np.minimum(salience.MOVE_COST * steps, salience.LEAP_COST) * usual).astype(np.float32)
    best, back = values[0], []
    for row in values[1:]:
        total = best - cost
        back.append(total.argmax(axis=1))
        best = total.max(axis=1) + row
        best = best - best.max()
    path = [int(best.argmax())]
    for before in back[::-1]:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


@pytest.mark.parametrize("seed", range(3))
def test_deciding_early_gives_the_path_of_the_whole(seed):
    random = np.random.default_rng(seed)
    values = random.random((400, salience.N_CANDIDATES)).astype(np.float32)
    walk = np.clip(np.cumsum(random.integers(-3, 4, 400)) + 70, 0, salience.N_CANDIDATES - 1)
    values[np.arange(400), walk] += 2.0
    values[200:230] = 0.0  # in a rest all candidates are alike
    path = salience._ViterbiPath(np.float32(1.0))
    most_kept = 0
    for part in np.array_split(values, 29):
        path.push(part)
        most_kept = max(most_kept, path.n_undecided)
    candidates, found = path.finish()
    np.testing.assert_array_equal(candidates, dense_viterbi(values, 1.0))
    np.testing.assert_array_equal(found, values[np.arange(400), candidates])
    assert most_kept < 100
