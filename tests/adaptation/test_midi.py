"""MIDI files become curves: every note with its pitch, time and velocity, one line, at any tempo."""

from __future__ import annotations

from dataclasses import replace

import mido
import numpy as np
import pytest

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.midi import adapt_score, read_score, velocity_db
from ddsp_cli.errors import InputError
from fixtures import make_card, small_model

STATISTICS = make_card(small_model()).statistics
KEEP = AdaptSettings(transpose=0.0)


def midi_file(path, *tracks, tempo=500_000, kind=1):
    """Tracks of (message, ticks before it); 480 ticks a beat."""
    file = mido.MidiFile(type=kind, ticks_per_beat=480)
    for i, events in enumerate(tracks):
        track = mido.MidiTrack()
        if i == 0:
            track.append(mido.MetaMessage("set_tempo", tempo=tempo))
        track += [message.copy(time=time) for message, time in events]
        file.tracks.append(track)
    file.save(path)
    return path


def on(note, velocity=80, channel=0):
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(note, channel=0):
    return mido.Message("note_off", note=note, channel=channel)


def test_notes_have_their_times_and_pitches(tmp_path):
    path = midi_file(tmp_path / "a.mid", [(on(60), 0), (off(60), 480), (on(64), 480), (off(64), 960)], tempo=1_000_000)
    score = read_score(path)
    assert [(note.midi, note.start_s, note.stop_s) for note in score.notes] == [(60, 0, 1), (64, 2, 4)]
    assert score.n_overlapping == 0
    adapted = adapt_score(score, STATISTICS, "power_db", 250, KEEP)
    midi, t = f0_cleanup.to_midi(adapted.f0_hz), np.arange(len(adapted)) / 250
    np.testing.assert_allclose(midi[t < 1.9], 60.0, atol=1e-3)
    np.testing.assert_allclose(midi[t >= 2.0], 64.0, atol=1e-3)
    assert adapted.gate[(t > 1.1) & (t < 1.9)].max() == 0.0
    assert adapted.gate[(t > 0.1) & (t < 0.9)].min() == 1.0
    assert adapted.level_db[(t > 1.3) & (t < 1.7)].max() == -80.0
    assert len(adapted) / 250 == pytest.approx(5.5)  # the room rings on


def test_velocity_is_level(tmp_path):
    events = [event for v in (20, 70, 120) for event in ((on(60, v), 480), (off(60), 480))]
    adapted = adapt_score(read_score(midi_file(tmp_path / "a.mid", events)), STATISTICS, "power_db", 250, KEEP)
    levels = [adapted.level_db[round((s + 0.25) * 250)] for s in (0.5, 1.5, 2.5)]
    assert levels[0] + 8 < levels[1] < levels[2] - 8
    target = STATISTICS.level("power_db")
    assert [velocity_db(v, target) for v in range(1, 128)] == sorted(velocity_db(v, target) for v in range(1, 128))
    assert velocity_db(1, target, 0.0) == velocity_db(127, target, 0.0)


def test_attack_swells_and_release_fades(tmp_path):
    adapted = adapt_score(
        read_score(midi_file(tmp_path / "a.mid", [(on(60), 480), (off(60), 960)])), STATISTICS, "power_db", 250, KEEP
    )
    sound = adapted.level_db + 20 * np.log10(adapted.gate + 1e-9)
    start, stop = 125, 375
    assert (np.diff(sound[start : start + 10]) > 0).all()
    assert sound[start + 15] - sound[start] > 10
    assert (np.diff(sound[stop - 12 : stop]) <= 0).all()


def test_the_newest_key_sounds_and_chords_give_their_highest(tmp_path):
    path = midi_file(
        tmp_path / "a.mid",
        [(on(60), 0), (on(67), 0), (on(64), 0), (off(60), 480), (off(64), 0), (off(67), 0), (on(62), 0), (on(65), 240),
         (off(62), 240), (off(65), 240)],
    )  # fmt: skip
    score = read_score(path)
    assert [note.midi for note in score.notes] == [67, 62, 65]
    assert score.n_overlapping == 2
    assert score.notes[2].tied
    assert not score.notes[2].ties


def test_the_pedal_holds_a_note_until_it_or_the_next_comes(tmp_path):
    down, up = (mido.Message("control_change", control=64, value=value) for value in (127, 0))
    path = midi_file(
        tmp_path / "a.mid",
        [(down, 0), (on(60), 0), (off(60), 240), (up, 240), (on(62), 480), (off(62), 240), (down, 0), (on(64), 240),
         (off(64), 240), (on(65), 240), (off(65), 240), (up, 0)],
    )  # fmt: skip
    times = [(note.midi, note.start_s, note.stop_s) for note in read_score(path).notes]
    assert times == [(60, 0.0, 0.5), (62, 1.0, 1.25), (64, 1.5, 2.0), (65, 2.0, 2.25)]


def test_legato_does_not_slide_far(tmp_path):
    path = midi_file(tmp_path / "a.mid", [(on(60), 0), (off(60), 480), (on(67), 0), (off(67), 480)])
    midi = f0_cleanup.to_midi(adapt_score(read_score(path), STATISTICS, "power_db", 250, KEEP).f0_hz)
    between = np.flatnonzero((midi > 60.1) & (midi < 66.9))
    assert 1 <= len(between) <= 10
    slow = adapt_score(read_score(path), STATISTICS, "power_db", 250, replace(KEEP, glide_s=0.2))
    midi = f0_cleanup.to_midi(slow.f0_hz)
    assert np.count_nonzero((midi > 60.1) & (midi < 66.9)) == pytest.approx(0.2 * 250, abs=4)


def test_bends_and_tracks_and_drums(tmp_path):
    bend = mido.Message("pitchwheel", pitch=4096)
    path = midi_file(
        tmp_path / "a.mid",
        [(on(60), 0), (bend, 240), (off(60), 240)],
        [(on(36, channel=9), 0), (off(36, channel=9), 960)],
        [(on(72, channel=3), 960), (off(72, channel=3), 480)],
    )
    score = read_score(path)
    assert [note.midi for note in score.notes] == [60, 72]
    midi = f0_cleanup.to_midi(adapt_score(score, STATISTICS, "power_db", 250, KEEP).f0_hz)
    assert midi[30] == pytest.approx(60.0, abs=1e-3)
    assert midi[90] == pytest.approx(61.0, abs=1e-3)


def test_register_suits_the_instrument(tmp_path):
    path = midi_file(tmp_path / "a.mid", [(on(40), 0), (off(40), 480)])
    assert adapt_score(read_score(path), STATISTICS, "power_db", 250).transpose_semitones == 24.0


@pytest.mark.parametrize(
    "content", [b"", b"MThd", b"RIFF    WAVE", b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00"]
)
def test_what_is_no_midi_file(tmp_path, content):
    path = tmp_path / "a.mid"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mid"):
        read_score(path)


def test_no_notes_and_no_file(tmp_path):
    with pytest.raises(InputError, match="no notes"):
        read_score(midi_file(tmp_path / "a.mid", [(on(36, channel=9), 0), (off(36, channel=9), 960)]))
    with pytest.raises(InputError, match="does not exist"):
        read_score(tmp_path / "b.mid")
