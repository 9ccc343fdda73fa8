"""A recording sounds the same from a file and an array, in every pass."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from ddsp_cli.audio import read
from ddsp_cli.audio.recording import ArrayRecording, FileRecording
from ddsp_cli.audio.write import write_audio
from ddsp_cli.errors import InputError
from fixtures import melody


def sound_of(recording):
    return np.concatenate(list(recording.blocks()))


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_file_and_array_are_one_sound_in_every_pass(tmp_path, rate_hz):
    audio = np.tile(melody(rate_hz=rate_hz), 6)
    write_audio(tmp_path / "a.wav", [audio], rate_hz, subtype="FLOAT")
    found = [
        FileRecording(tmp_path / "a.wav"),
        FileRecording(tmp_path / "a.wav", kept_samples=1000),
        ArrayRecording(audio, rate_hz),
    ]
    expected = sound_of(found[0])
    assert len(expected) == round(len(audio) * 16000 / rate_hz)
    for recording in found:
        for _ in range(3):
            np.testing.assert_array_equal(sound_of(recording), expected)


def test_a_file_that_fits_in_memory_is_decoded_once(tmp_path):
    write_audio(tmp_path / "a.wav", [melody()], 16000)
    short, long = FileRecording(tmp_path / "a.wav"), FileRecording(tmp_path / "a.wav", kept_samples=1000)
    for recording in (short, long):
        sound_of(recording)
        sound_of(recording)
    assert (short.n_decodes, long.n_decodes) == (1, 2)


def test_a_pass_that_ends_early_is_not_taken_for_the_whole(tmp_path):
    audio = np.tile(melody(), 8)
    write_audio(tmp_path / "a.wav", [audio], 16000)
    recording = FileRecording(tmp_path / "a.wav")
    next(recording.blocks())
    assert len(sound_of(recording)) == len(audio)


def test_channels_are_averaged():
    left, right = melody(), np.roll(melody(), 100)
    np.testing.assert_allclose(sound_of(ArrayRecording(np.stack([left, right]))), (left + right) / 2, atol=1e-7)


def test_channels_of_opposite_polarity_do_not_cancel(tmp_path):
    """As a balanced cable in an unbalanced stereo input records them; noise of each channel 50 dB below."""
    rate_hz = 16000
    noise = np.random.default_rng(0).normal(size=(2, rate_hz)) * 3e-4
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(rate_hz) / rate_hz) * (np.arange(rate_hz) > rate_hz // 2)
    channels = (np.stack([tone, -tone]) + noise).astype(np.float32)
    path = tmp_path / "opposite.wav"
    soundfile.write(path, channels.T, rate_hz, subtype="FLOAT")
    recording = FileRecording(path)
    for sound in (recording, ArrayRecording(channels, rate_hz)):
        np.testing.assert_allclose(np.concatenate(list(sound.blocks())), channels[0], atol=1e-6)
    assert recording.decoded.is_opposite
    # two different channels are averaged, also where they cancel in part
    soundfile.write(path, np.stack([tone, -0.8 * tone], axis=1), rate_hz, subtype="FLOAT")
    recording = FileRecording(path)
    np.testing.assert_allclose(np.concatenate(list(recording.blocks())), 0.1 * tone, atol=1e-6)
    assert not recording.decoded.is_opposite


def test_arrays_that_are_no_sound_are_refused():
    for audio, words in (
        (np.zeros(0), "0 samples"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.zeros((1, 2, 3)), "shape"),
        (np.full(10, 1e9), "full scale"),
    ):
        with pytest.raises(InputError, match=words):
            ArrayRecording(audio)


@pytest.mark.parametrize(("n_samples", "rate_hz"), [(1, 44100), (1, 48000), (5, 192000)])
def test_a_file_without_a_sample_at_the_rate_of_the_analysis_is_an_error_with_its_name(tmp_path, n_samples, rate_hz):
    path = tmp_path / "click.wav"
    write_audio(path, [np.full(n_samples, 0.1, np.float32)], rate_hz)
    with pytest.raises(InputError, match=r"click\.wav is too short: it has no sample at 16000 Hz"):
        sound_of(FileRecording(path))
    with pytest.raises(InputError, match=r"click\.wav is too short"):
        read.read_impulse_response(path, 16000)
    with pytest.raises(InputError, match="the sound is too short: it has no sample at 16000 Hz"):
        ArrayRecording(np.full(n_samples, 0.1), rate_hz)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[np.inf], [np.inf, -np.inf], [np.nan, 0.0]])
def test_infinity_is_refused_before_anything_is_computed_with_it(tmp_path, values):
    audio = np.zeros((1000, len(values)))
    audio[500] = values
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    watched = []
    with pytest.raises(InputError, match=r"a\.wav contains NaN or infinity"):
        sound_of(FileRecording(tmp_path / "a.wav", watch=watched.append))
    assert watched == []
