"""What kind of sound it is, and the strongest voice of a chord."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.adaptation import diagnostics
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.pitch.salience import track_strongest
from ddsp_cli.audio import read
from fixtures import melody

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "audio" / "input"


def tone(midi, seconds=3.0):
    t = np.arange(round(seconds * 16000)) / 16000
    f0_hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * f0_hz * k * t) / k for k in range(1, 6)) * np.sin(np.pi * t / seconds)


def babble(seconds=4.0):
    """Syllables whose pitch never rests, between hisses: to these measures, speech."""
    random, parts = np.random.default_rng(3), []
    while sum(map(len, parts)) < seconds * 16000:
        t = np.arange(round(random.uniform(0.12, 0.22) * 16000)) / 16000
        f0_hz = random.uniform(110, 170) * 2 ** (random.choice([-1, 1]) * t / 0.4)
        phase = 2 * np.pi * np.cumsum(f0_hz) / 16000
        voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.abs(np.sin(np.pi * t / t[-1])) ** 0.5
        parts += [0.1 * voice, 0.004 * random.normal(size=round(random.uniform(0.06, 0.12) * 16000))]
    return np.concatenate(parts).astype(np.float32)


def remarks(audio):
    features = measure(audio.astype(np.float32))
    return diagnostics.remarks(features, find_segments(features), audio.astype(np.float32))


def test_one_clear_voice_needs_no_remark():
    assert remarks(melody()) == []
    assert remarks(0.1 * tone(62)) == []


def test_speech_chords_and_noise_are_told_apart():
    assert remarks(babble()) == [diagnostics.SPEECH]
    assert remarks(0.05 * np.random.default_rng(0).normal(size=32000)) == [diagnostics.NOISE]
    # A voice over another one: a tracker follows the louder.
    assert remarks(0.1 * tone(62) + 0.06 * tone(66.3)) == [diagnostics.CHORDS]


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs the recordings in ../shared/audio/input")
@pytest.mark.parametrize(
    ("name", "said"), [("speech-male", [diagnostics.SPEECH]), ("vocadito_10", []), ("solo-trumpet", [])]
)
def test_a_reader_and_a_singer_are_told_apart(name, said):
    assert remarks(read.read_mono(RECORDINGS / f"{name}.flac")) == said


@pytest.mark.parametrize("notes", [(60, 64, 67), (57, 60, 64, 69), (62, 69), (65,)])
def test_a_chord_has_a_line(notes):
    audio = (0.05 * sum(map(tone, notes))).astype(np.float32)
    track = track_strongest([audio[:10000], audio[10000:]])
    assert abs(len(track.f0_hz) - -(-len(audio) // 256)) <= 1
    sure = track.confidence > 0.75
    assert sure.mean() > 0.9
    midi = 69 + 12 * np.log2(track.f0_hz[sure] / 440)
    assert np.abs(midi[:, None] - np.array(notes)).min(axis=1).max() < 0.3
    assert np.ptp(midi) < 0.5


def test_blocks_do_not_matter_to_the_strongest_voice():
    audio = (0.05 * (tone(60) + tone(64))).astype(np.float32)
    whole = track_strongest([audio])
    parts = track_strongest(np.array_split(audio, 17))
    assert (whole.f0_hz == parts.f0_hz).all()
    np.testing.assert_allclose(whole.confidence, parts.confidence, atol=1e-5)


def test_noise_has_no_strongest_voice():
    noise = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    assert track_strongest([noise]).confidence.max() < 0.5
    hiss = np.diff(noise, 4, prepend=np.zeros(4, np.float32))  # mostly above 4 kHz
    assert np.mean(track_strongest([hiss]).confidence >= 0.5) < 0.02
    assert len(track_strongest([]).f0_hz) in {0, 1}
