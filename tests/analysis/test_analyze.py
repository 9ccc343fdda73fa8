"""The further passes that a performance needs, each found to be needed by the sound itself."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis import extract
from ddsp_cli.analysis.extract import analyze
from ddsp_cli.audio.recording import ArrayRecording, FileRecording, StreamRecording
from ddsp_cli.audio.write import write_audio
from ddsp_cli.config import FeatureSpec
from fixtures import melody

RATE_HZ = 16000


def tone(f0_hz: np.ndarray, level: float = 0.3, n_harmonics: int = 1) -> np.ndarray:
    """Sine tones of a course of F0 [S], the start and the end silent."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    sound = sum(np.sin(k * phase) / k for k in range(1, n_harmonics + 1)) * level
    sound[: RATE_HZ // 4] = sound[-RATE_HZ // 4 :] = 0.0
    return sound.astype(np.float32)


def whistle() -> np.ndarray:
    return tone(np.linspace(1700.0, 2600.0, 4 * RATE_HZ))


def chord() -> np.ndarray:
    ones = np.ones(4 * RATE_HZ)
    return np.sum([tone(ones * hz, 0.1, 6) for hz in (220.0, 277.18, 329.63, 440.0)], axis=0)


def found(audio: np.ndarray):
    return analyze(ArrayRecording(audio), FeatureSpec(), find_segments)


def test_a_clear_voice_takes_one_pass():
    analysis = found(melody())
    assert (analysis.character, analysis.passes) == ("pitched", ("features",))
    plain = extract.measure(melody())
    np.testing.assert_array_equal(analysis.features.f0_hz, plain.f0_hz)
    assert len(analysis.segments) == len(find_segments(plain))


def test_quiet_sound_has_the_pitch_of_its_amplified_copy_and_its_own_levels():
    quiet = melody() * np.float32(0.004)
    analysis = found(quiet)
    assert analysis.passes == ("features", "amplified")
    np.testing.assert_array_equal(analysis.features.power_db, extract.measure(quiet).power_db)
    loud = found(melody()).features
    voiced = loud.f0_hz > 0
    assert np.mean(analysis.features.f0_hz[voiced] > 0) > 0.97
    both = voiced & (analysis.features.f0_hz > 0)
    np.testing.assert_allclose(analysis.features.f0_hz[both], loud.f0_hz[both], rtol=0.01)


def test_whistling_above_the_range_of_the_tracker_is_followed():
    analysis = found(whistle())
    assert analysis.passes == ("features", "half speed")
    f0_hz = analysis.features.f0_hz
    true_hz = np.linspace(1700.0, 2600.0, len(f0_hz))
    middle = slice(100, -100)
    assert np.mean(f0_hz[middle] > 0) > 0.95
    voiced = f0_hz[middle] > 0
    assert np.percentile(np.abs(f0_hz[middle][voiced] / true_hz[middle][voiced] - 1.0), 95) < 0.01


def test_of_a_chord_one_voice_is_followed_and_of_noise_none():
    analysis = found(chord())
    assert (analysis.character, analysis.passes[-1]) == ("polyphonic", "salience")
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE_HZ).astype(np.float32)
    assert found(noise).character == "unpitched"
    silence = found(np.zeros(RATE_HZ))
    assert (silence.character, silence.passes) == ("silent", ("features",))


@pytest.mark.parametrize("audio", [melody() * np.float32(0.004), whistle(), chord()], ids=["quiet", "whistle", "chord"])
def test_the_source_of_the_sound_makes_no_difference(tmp_path, audio):
    write_audio(tmp_path / "a.wav", [audio], RATE_HZ, subtype="FLOAT")
    reference = found(audio)
    for recording in (
        FileRecording(tmp_path / "a.wav"),
        FileRecording(tmp_path / "a.wav", kept_samples=100),
        StreamRecording(np.array_split(audio, 23)),
    ):
        analysis = analyze(recording, FeatureSpec(), find_segments)
        assert (analysis.character, analysis.passes) == (reference.character, reference.passes)
        np.testing.assert_array_equal(analysis.features.f0_hz, reference.features.f0_hz)
        np.testing.assert_array_equal(analysis.features.loudness_db, reference.features.loudness_db)
        np.testing.assert_array_equal(analysis.beginning, audio)


def test_segments_are_found_again_only_where_the_pitch_changed():
    calls = []

    def count(features):
        calls.append(features)
        return find_segments(features)

    for audio, n_calls in ((melody(), 1), (melody() * np.float32(0.004), 1), (whistle(), 2)):
        calls.clear()
        analyze(ArrayRecording(audio), FeatureSpec(), count)
        assert len(calls) == n_calls
