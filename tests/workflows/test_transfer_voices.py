"""Several voices, or the main voice alone (`--voices`), and sections (`--ensemble`)."""

from __future__ import annotations

import mido
import numpy as np
import pytest
import soundfile

import ddsp_cli
from ddsp_cli.adaptation.midi import read_midi, split_voices
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.errors import InputError, Kind, UsageError
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import melody
from transfer_fixtures import at_desk, desk, play

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


def triad(path, *keys, seconds=1.0):
    ticks = round(960 * seconds)
    messages = [mido.Message("note_on", note=key) for key in keys]
    messages += [mido.Message("note_off", note=key, time=ticks if i == 0 else 0) for i, key in enumerate(keys)]
    mido.MidiFile(tracks=[mido.MidiTrack(messages)], ticks_per_beat=480).save(path)
    return path


def tones_db(sound, *keys):
    """Level of the fundamental of each key in the middle of a second."""
    spectrum = np.abs(np.fft.rfft(sound[4800:12800] * np.hanning(8000)))
    bins = [round(440.0 * 2.0 ** ((key - 69) / 12.0) / 2.0) for key in keys]
    return 20.0 * np.log10([spectrum[k - 2 : k + 3].max() + 1e-9 for k in bins])


def test_a_chord_sounds_whole_and_its_highest_note_alone(tmp_path):
    source = triad(tmp_path / "chord.mid", 61, 66, 70)
    whole, result = play(tmp_path, "whole", source=source, transpose=0.0, room="none")
    lead, alone = play(tmp_path, "lead", source=source, transpose=0.0, room="none", voices="lead")
    assert (result.n_voices, alone.n_voices) == (3, 1)
    silent_db = tones_db(whole, 58, 64, 68).max()
    assert (tones_db(whole, 61, 66, 70) > silent_db + 20.0).all()
    assert tones_db(lead, 70)[0] > tones_db(lead, 61, 66).max() + 20.0
    assert any("of each the highest note" in remark for remark in alone.remarks)
    assert np.abs(whole).max() < 1.0


def test_voices_are_the_sum_of_what_each_plays_alone(tmp_path):
    parts = [play(tmp_path, f"{key}", source=triad(tmp_path / f"{key}.mid", key), transpose=0.0, room="none")[0]
             for key in (61, 70)]  # fmt: skip
    both, _ = play(tmp_path, "both", source=triad(tmp_path / "both.mid", 61, 70), transpose=0.0, room="none")
    alone_db = [tones_db(parts[0], 61)[0], tones_db(parts[1], 70)[0]]
    np.testing.assert_allclose(tones_db(both, 61, 70), alone_db, atol=0.3)


def test_curves_of_several_voices_are_refused(tmp_path):
    with pytest.raises(InputError, match="has 2 voices") as problem:
        transfer_files(
            triad(tmp_path / "two.mid", 61, 70), "testophone", tmp_path / "a.wav", controls=tmp_path / "a.csv"
        )
    assert problem.value.kind is Kind.SEVERAL_VOICES
    assert not (tmp_path / "a.csv").exists()
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize("voices", ["auto", "lead"])
@pytest.mark.parametrize("seconds", [0.0, None])
def test_notes_that_do_not_last_are_said(tmp_path, voices, seconds):
    path = triad(tmp_path / "a.mid", 60, seconds=seconds or 0.0)
    if seconds is None:  # they never end
        mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=60)])]).save(path)
    with pytest.raises(InputError, match="contains no notes that last"):
        transfer_files(path, "testophone", tmp_path / "a.wav", options=make_options(voices=voices))


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [({"voices": "choir"}, "voices"), ({"channel": 17}, "channel"), ({"channel": (1, 1.5)}, "channel")],
)
def test_impossible_options_are_refused(wrong, parameter):
    with pytest.raises(UsageError) as problem:
        make_options(**wrong)
    assert problem.value.parameter == parameter


@pytest.mark.parametrize(("choice", "parameter"), [({"track": "1"}, "track"), ({"channel": 2}, "channel")])
def test_a_recording_has_no_tracks_and_channels(tmp_path, choice, parameter):
    soundfile.write(tmp_path / "a.wav", melody(), 16000)
    with pytest.raises(UsageError, match="only MIDI files") as problem:
        transfer_files(tmp_path / "a.wav", "testophone", tmp_path / "b.wav", options=make_options(**choice))
    assert problem.value.parameter == parameter
    assert not (tmp_path / "b.wav").exists()


def test_a_recorded_chord_is_played_with_all_its_notes(tmp_path):
    chord = sum(melody((key,), note_s=1.5, rest_s=0.3) for key in (60, 64, 69))
    soundfile.write(tmp_path / "chord.wav", chord, 16000)
    source = tmp_path / "chord.wav"
    whole, result = play(tmp_path, "whole", source=source, transpose=0.0, room="none", voices="chords")
    assert result.n_voices == 3
    assert not any("voices" in remark for remark in result.remarks)
    assert (tones_db(whole, 60, 64, 69) > tones_db(whole, 62, 66, 71).max() + 15.0).all()
    lead, alone = play(tmp_path, "lead", source=source, transpose=0.0, room="none", voices="lead")
    assert alone.n_voices == 1
    assert len(lead) == len(whole)
    options = make_options(voices="chords")
    both = transfer_files(source, ["testophone", "otherophone"], tmp_path, options=options)
    assert [one.n_voices for one in both] == [3, 3]


def test_the_notes_of_a_chord_are_written(tmp_path):
    chord = sum(melody((key,), note_s=1.5, rest_s=0.3) for key in (60, 64, 69))
    soundfile.write(tmp_path / "chord.wav", chord, 16000)
    play(tmp_path, "a", source=tmp_path / "chord.wav", voices="chords", notes=tmp_path / "chord.mid")
    file = read_midi(tmp_path / "chord.mid")
    found, _ = split_voices(file)
    assert [round(note.midi) for voice in found for note in voice.notes] == [69, 64, 60]
    assert [part.channel for part in file.played] == [1, 2, 3]
    play(tmp_path, "b", source=tmp_path / "chord.wav", voices="chords", notes=tmp_path / "chord.csv")
    assert len((tmp_path / "chord.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_the_lead_of_a_recording_is_what_sings_over_the_chord(tmp_path):
    """A melody of three notes with rests over a chord that is held, each of its notes 8 dB softer."""
    sung = np.concatenate([melody((key,), note_s=0.8, rest_s=0.25) for key in (67, 71, 69)])
    held = sum(melody((key,), note_s=len(sung) / 16000 - 0.4, rest_s=0.2) for key in (48, 52, 55))
    n = min(len(sung), len(held))
    soundfile.write(tmp_path / "song.wav", sung[:n] + 0.4 * held[:n], 16000)
    sound, result = play(tmp_path, "lead", source=tmp_path / "song.wav", voices="lead", room="none", transpose=0.0,
                         notes=tmp_path / "lead.csv")  # fmt: skip
    assert (result.n_voices, result.remarks) == (1, ())
    rows = [row.split(",") for row in (tmp_path / "lead.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert [row[4] for row in rows] == ["67", "71", "69"]
    silent = np.ones(len(sound), bool)
    for _, start_s, length_s, *_ in rows:
        first = round((float(start_s) - 0.1) * 16000)
        silent[max(first, 0) : first + round((float(length_s) + 0.25) * 16000)] = False
    assert silent.mean() > 0.1
    assert np.abs(sound[silent]).max() < 1e-3


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


def test_two_equal_players_sound_as_one(monkeypatch):
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
