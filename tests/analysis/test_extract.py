"""Features of a recording, and the further passes for quiet, whistled and polyphonic sound."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis import extract
from ddsp_cli.analysis.extract import analyze
from ddsp_cli.audio import write
from ddsp_cli.audio.recording import ArrayRecording, FileRecording
from ddsp_cli.audio.write import write_audio
from ddsp_cli.config import FeatureSpec
from ddsp_cli.errors import InputError, UsageError
from fixtures import melody

ARRAYS = ("f0_hz", "f0_confidence", "loudness_db", "power_db")


@pytest.mark.parametrize("block", [1000, 12_345, 160_000])
def test_features_are_the_same_to_the_bit_however_sound_is_pushed(block):
    audio = np.tile(melody(), 8)  # longer than what is measured at once
    assert len(audio) > extract.BLOCK_SAMPLES
    whole = extract.measure(audio)
    stream = extract.FeatureStream()
    for start in range(0, len(audio), block):
        stream.push(audio[start : start + block])
    parts = stream.finish()
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("n_samples", [1, 64, 65, 255, 256, 257, 1000])
def test_frames_are_the_length_divided_by_the_hop_rounded_up(n_samples):
    features = extract.measure(np.full(n_samples, 0.1, np.float32))
    assert len(features) == -(-n_samples // 64)
    assert all(np.isfinite(getattr(features, name)).all() for name in ARRAYS)


def test_a_melody_is_read_as_it_was_played():
    features = extract.measure(melody((57, 60, 64), note_s=0.5, rest_s=0.3))
    for i, note in enumerate((57, 60, 64)):
        centre = round((0.3 + 0.25 + i * 0.8) * 250)
        assert features.f0_hz[centre] == pytest.approx(440 * 2 ** ((note - 69) / 12), rel=0.006)
        assert features.f0_hz[centre + 100] == 0
    assert features.power_db[138] < features.power_db[338] < features.power_db[538]


def test_files_of_any_rate_are_measured_at_16_khz(tmp_path):
    sound = melody(rate_hz=44100)
    write.write_audio(tmp_path / "a.wav", [sound], 44100)
    seen = []
    recording = FileRecording(tmp_path / "a.wav")
    features = extract.analyze(recording, FeatureSpec(), find_segments, progress=seen.append).features
    assert features.n_samples == round(len(sound) * 16000 / 44100)
    assert seen[-1] == pytest.approx(features.n_samples / 16000)
    assert features.f0_hz[138] == pytest.approx(220, rel=0.006)


def test_nothing_and_nan_are_refused():
    with pytest.raises(InputError, match="0 samples"):
        extract.measure(np.zeros(0, np.float32))
    with pytest.raises(InputError, match="NaN"):
        extract.measure(np.array([0.0, np.nan], np.float32))
    with pytest.raises(UsageError):
        extract.FeatureStream(FeatureSpec(pitch="ear"))


def test_silence_has_no_pitch():
    assert (extract.measure(np.zeros(20000, np.float32)).f0_hz == 0).all()


def test_measuring_loads_none_of_the_heavy_libraries():
    heavy = "{'tensorflow', 'keras', 'librosa', 'matplotlib', 'scipy.signal', 'numba'}"
    code = (
        "import sys, numpy as np; from ddsp_cli.analysis import extract;"
        f"extract.measure(np.zeros(1000, 'f4')); print(sorted({heavy} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


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
    for recording in (FileRecording(tmp_path / "a.wav"), FileRecording(tmp_path / "a.wav", kept_samples=100)):
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
