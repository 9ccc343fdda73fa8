"""Rooms taken away, carried from one instrument to another, and given to any recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import bundle
from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.errors import UsageError
from ddsp_cli.workflows.transfer import transfer
from fixtures import impulse_response, melody
from transfer_fixtures import at_desk, desk, level_db, pitch_hz, play

__all__ = ["at_desk", "desk"]  # fixtures are found by their names

CLARINET = Path(__file__).parents[2] / "models" / "clarinet"


def test_a_recording_of_the_instrument_loses_its_room(tmp_path):
    """A clarinet plays in a hall of half a second, and then after that recording without it (dereverberation)."""
    clarinet, in_hall = bundle.load(CLARINET), tmp_path / "in_hall"
    # not so loud as to pass for a fading note
    bundle.save(in_hall, clarinet.card, clarinet.weights, 0.05 * impulse_response(8000))
    source = tmp_path / "dry.wav"
    soundfile.write(source, melody((69, 72, 76), note_s=0.6, rest_s=0.4), 16000)
    recorded, _ = play(tmp_path, "recorded", model=in_hall, source=source)
    soundfile.write(tmp_path / "recorded16.wav", recorded, 16000)
    dry, result = play(tmp_path, "again", model=in_hall, source=tmp_path / "recorded16.wav", room="none")
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
    (result,) = transfer([tmp_path / "drums.wav"], "none", out, room="testophone", wet=0.5)
    found = soundfile.read(out, dtype="float32", always_2d=True)[0]
    response = 0.5 * impulse_response()
    response[0] = 1.0
    assert (result.instrument, result.seconds) == ("", 30000 / 16000)
    for channel in range(n_channels):
        expected = np.convolve(sound[:, channel].astype(np.float64), response)[: len(sound)]
        np.testing.assert_allclose(found[:-200, channel], expected[:-200], atol=1e-5)


def test_rate_and_depth_are_the_recordings_or_as_asked(tmp_path):
    sound = 0.1 * np.sin(np.arange(44100 * 2) * 2 * np.pi * 440 / 44100)
    soundfile.write("tone.wav", np.stack([sound, 0.5 * sound], axis=1), 44100, subtype="PCM_24")
    transfer(["tone.wav"], "none", tmp_path, room="testophone")
    info = soundfile.info(tmp_path / "tone_testophone-room.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 2, 88200, "PCM_24")
    transfer(["tone.wav"], "none", tmp_path / "b.wav", room="testophone", sample_rate_hz=22050, bits="16")
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (22050, 2, 44100, "PCM_16")
    (result,) = transfer(["tone.wav"], "none", tmp_path / "c.wav", room="testophone", wet=4.0, bits="float")
    loud = soundfile.read(tmp_path / "c.wav")[0]
    assert np.abs(loud).max() <= 1.0
    assert result.peak == pytest.approx(np.abs(loud).max(), abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"room": "model"}, {"room": "none"}, {"wet": 0.0, "room": "testophone"}, {"room": "testophone", "transpose": 12.0},
     {"room": "testophone", "settings": AdaptSettings(autotune=1.0)}, {"room": "testophone", "plot": True},
     {"room": "testophone", "tracker": "pyin"}, {"room": "testophone", "formant": 2.0}],
)  # fmt: skip
def test_what_makes_no_sense_without_an_instrument(tmp_path, options):
    with pytest.raises(UsageError, match="--model none"):
        transfer(["voice.wav"], "none", tmp_path / "out.wav", **options)
    assert not list(tmp_path.iterdir())
