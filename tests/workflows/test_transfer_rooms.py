"""Rooms taken away, carried from one instrument to another, and given to any recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import bundle
from ddsp_cli.errors import Kind, UsageError
from ddsp_cli.workflows.reverb import reverb_files
from fixtures import impulse_response, melody
from transfer_fixtures import at_desk, desk, level_db, pitch_hz, play

__all__ = ["at_desk", "desk"]  # fixtures are found by their names

CLARINET = Path(__file__).parents[2] / "models" / "clarinet"


def test_a_recording_of_the_instrument_loses_its_room(tmp_path):
    """A clarinet plays in a hall of half a second, and then after that recording without it (dereverberation)."""
    clarinet, in_hall = bundle.load(CLARINET), tmp_path / "in_hall"
    # not so loud as to pass for a fading note
    bundle.save(in_hall, clarinet.card, clarinet.weights, 0.05 / 3**0.5 * impulse_response(24000))
    source = tmp_path / "dry.wav"
    soundfile.write(source, melody((69, 72, 76), note_s=0.6, rest_s=0.4), 16000)
    recorded, _ = play(tmp_path, "recorded", model=in_hall, source=source, sample_rate_hz=16000)
    soundfile.write(tmp_path / "recorded16.wav", recorded, 16000)
    again = {"model": in_hall, "source": tmp_path / "recorded16.wav", "sample_rate_hz": 16000}
    dry, result = play(tmp_path, "again", room="none", **again)
    assert result.transpose_semitones == 0.0
    for start_s in (0.4, 1.4, 2.4):  # notes of 0.6 s
        note, after = (start_s + 0.15, start_s + 0.45), (start_s + 0.78, start_s + 0.92)
        assert 1200 * np.log2(pitch_hz(dry, *note) / pitch_hz(recorded, *note)) == pytest.approx(0, abs=10)
        assert level_db(recorded, *after) > level_db(recorded, *note) - 65.0
        assert level_db(dry, *after) < level_db(dry, *note) - 80.0


@pytest.mark.parametrize("n_channels", [1, 2])
def test_any_recording_comes_into_a_room(tmp_path, n_channels):
    sound = np.random.default_rng(0).normal(0, 0.05, (30000, n_channels)).astype(np.float32)
    soundfile.write(tmp_path / "drums.wav", sound, 16000, subtype="FLOAT")
    out = tmp_path / "out.wav"
    (result,) = reverb_files(tmp_path / "drums.wav", "testophone", out, wet=0.5)
    found = soundfile.read(out, dtype="float32", always_2d=True)[0]
    response = 0.5 * impulse_response()
    response[0] = 1.0
    assert result.seconds == 30000 / 16000
    for channel in range(n_channels):
        expected = np.convolve(sound[:, channel].astype(np.float64), response)[: len(sound)]
        np.testing.assert_allclose(found[:-200, channel], expected[:-200], atol=1e-5)


def test_a_recording_that_is_cut_short_comes_into_the_room_with_a_warning(tmp_path):
    soundfile.write(tmp_path / "whole.wav", 0.1 * np.sin(np.arange(16000) / 10.0), 16000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    cut, whole = reverb_files([tmp_path / "cut.wav", tmp_path / "whole.wav"], "testophone", tmp_path)
    assert whole.remarks == ()
    assert [words.startswith("the file is cut short or damaged; its first 0.5 s") for words in cut.remarks] == [True]
    assert cut.seconds == pytest.approx(0.5, abs=0.01)


def test_rate_and_depth_are_the_recordings_or_as_asked(tmp_path):
    sound = 0.1 * np.sin(np.arange(44100 * 2) * 2 * np.pi * 440 / 44100)
    soundfile.write("tone.wav", np.stack([sound, 0.5 * sound], axis=1), 44100, subtype="PCM_24")
    reverb_files("tone.wav", "testophone", tmp_path)
    info = soundfile.info(tmp_path / "tone_testophone-room.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 2, 88200, "PCM_24")
    reverb_files("tone.wav", "testophone", tmp_path / "b.wav", sample_rate_hz=22050, bits="16")
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (22050, 2, 44100, "PCM_16")
    (result,) = reverb_files("tone.wav", "testophone", tmp_path / "c.wav", wet=4.0, bits="float")
    loud = soundfile.read(tmp_path / "c.wav")[0]
    assert np.abs(loud).max() <= 1.0
    assert result.peak == pytest.approx(np.abs(loud).max(), abs=1e-6)


@pytest.mark.parametrize(("suffix", "rate_hz", "n_remarks"), [(".mp3", 48000, 1), (".wav", 96000, 0)])
def test_a_rate_that_the_format_does_not_have_is_said(tmp_path, suffix, rate_hz, n_remarks):
    soundfile.write(tmp_path / "tone.wav", 0.1 * np.sin(np.arange(96000) * 0.02), 96000)
    (result,) = reverb_files(tmp_path / "tone.wav", "testophone", tmp_path / f"out{suffix}")
    assert result.sample_rate_hz == soundfile.info(result.output).samplerate == rate_hz
    assert [words.startswith("mp3 has no sample rate of 96000 Hz") for words in result.remarks] == [True] * n_remarks


@pytest.mark.parametrize("options", [{"room": "model"}, {"room": "none"}])
def test_a_room_has_to_be_named(tmp_path, options):
    with pytest.raises(UsageError, match="no room") as caught:
        reverb_files("voice.wav", out=tmp_path / "out.wav", **options)
    assert caught.value.kind == Kind.NO_ROOM
    assert not list(tmp_path.iterdir())


def test_a_gain_of_0_is_named(tmp_path):
    with pytest.raises(UsageError, match="0 adds no room") as caught:
        reverb_files("voice.wav", "testophone", tmp_path / "out.wav", wet="0")
    assert caught.value.parameter == "wet"
    assert not list(tmp_path.iterdir())


def test_a_room_rings_out(tmp_path):
    """A click, then the impulse response to its -60 dB point, of a recording and of an instrument."""
    click = np.zeros(1600, np.float32)
    click[800] = 0.5
    soundfile.write(tmp_path / "click.wav", click, 16000, subtype="FLOAT")
    (short,) = reverb_files(tmp_path / "click.wav", "testophone", tmp_path / "short.wav")
    (long,) = reverb_files(tmp_path / "click.wav", "testophone", tmp_path / "long.wav", tail=True)
    assert short.seconds == 0.1
    assert long.seconds == pytest.approx(0.1 + long.tail_s, abs=1e-4)
    found, _ = soundfile.read(tmp_path / "long.wav")
    expected = np.convolve(click, [1.0, *impulse_response()[1:]])[: len(found)]
    np.testing.assert_allclose(found[:-200], expected[:-200], atol=1e-5)

    soundfile.write(tmp_path / "cut.wav", melody((60,), rest_s=0.3)[:-4800], 16000)
    cut, result = play(tmp_path, "played", source=tmp_path / "cut.wav")
    tailed, with_tail = play(tmp_path, "tailed", source=tmp_path / "cut.wav", tail=True)
    assert with_tail.seconds == pytest.approx(result.seconds + result.tail_s, abs=1e-4)
    np.testing.assert_allclose(tailed[: len(cut) - 1600], cut[:-1600], atol=1e-6)
    assert level_db(tailed, result.seconds + 0.02, result.seconds + 0.1) > -70
    assert level_db(tailed, with_tail.seconds - 0.02, with_tail.seconds) < -75
