"""`--ensemble`: a section in stereo, as loud as one player, in one room."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import ddsp_cli
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.errors import UsageError
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.transfer import transfer_files
from transfer_fixtures import at_desk, desk

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


def test_a_section_is_stereo_and_as_loud_as_the_input(tmp_path):
    options = make_options(ensemble=4, tail=True)
    (result,) = transfer_files("voice.wav", "testophone", tmp_path / "out.wav", options=options, bits="float")
    sound, rate_hz = soundfile.read(result.output, dtype="float32")
    assert sound.shape[1] == 2
    assert result.n_players == 4
    assert np.abs(sound).max() < 1.0
    assert np.abs(sound[:, 0] - sound[:, 1]).max() > 0.1 * np.abs(sound).max()
    meter, known = LoudnessMeter(rate_hz, 2), LoudnessMeter(16000)
    meter.push(sound)
    known.push(soundfile.read("voice.wav", dtype="float32")[0])
    assert meter.integrated_lufs() == pytest.approx(known.integrated_lufs() - result.short_of_db, abs=0.3)
    again = transfer_files("voice.wav", "testophone", tmp_path / "again.wav", options=options, bits="float")
    np.testing.assert_array_equal(soundfile.read(again[0].output, dtype="float32")[0], sound)


def test_two_who_play_alike_are_one(monkeypatch):
    """Without detuning, delay, levels, width and noise of their own, a section is one player at a higher level."""
    from ddsp_cli.adaptation import ensemble

    for name in ("DETUNE_CENTS", "DRIFT_CENTS", "USUAL_DELAY_S", "DELAY_S", "LEVEL_DB", "LEVEL_DRIFT_DB", "WIDTH"):
        monkeypatch.setattr(ensemble, name, 0.0)
    voice = soundfile.read("voice.wav", dtype="float32")[0]
    one, _ = ddsp_cli.transfer(voice, 16000, "testophone", loudness_match=-30, room="none")
    two, _ = ddsp_cli.transfer(voice, 16000, "testophone", loudness_match=-30, room="none", ensemble=2)
    assert two.ndim == 1  # nobody sits at a side
    spectra = [np.abs(np.fft.rfft(sound[:16000] * np.hanning(16000))) for sound in (one, two)]
    tones = spectra[0] > 0.1 * spectra[0].max()
    assert np.abs(20.0 * np.log10(spectra[1][tones] / spectra[0][tones])).max() < 3.0


def test_arrays_have_two_channels():
    voice = soundfile.read("voice.wav", dtype="float32")[0]
    sound, rate_hz = ddsp_cli.transfer(voice, 16000, "testophone+otherophone", ensemble=2)
    assert (sound.shape, rate_hz) == ((2, len(voice)), 16000)


def test_it_is_a_whole_number():
    for wrong in (0, 2.5, 25, "many"):
        with pytest.raises(UsageError) as problem:
            make_options(ensemble=wrong)
        assert problem.value.parameter == "ensemble"
