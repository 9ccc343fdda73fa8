"""MIDI files become curves: every note with its pitch, time and velocity, one line, at any tempo."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace

import mido
import numpy as np
import pytest

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation import midi as midi_module
from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.midi import (
    Selection,
    adapt_score,
    adapt_scores,
    lead_line,
    read_midi,
    split_voices,
    velocity_db,
)
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


def read_score(path):
    return lead_line(read_midi(path))


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


def test_legato_steps_unless_it_is_to_slide(tmp_path):
    path = midi_file(tmp_path / "a.mid", [(on(60), 0), (off(60), 480), (on(67), 0), (off(67), 480)])
    midi = f0_cleanup.to_midi(adapt_score(read_score(path), STATISTICS, "power_db", 250, KEEP).f0_hz)
    assert set(np.round(midi, 3)) == {60.0, 67.0}
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


def voices(path, **selection):
    """Notes (number, start, stop) of every voice."""
    found, n_cut = split_voices(read_midi(path, Selection(**selection)))
    assert n_cut == 0
    return [[(note.midi, note.start_s, note.stop_s) for note in voice.notes] for voice in found]


def chord(*keys, ticks=480, channel=0):
    return [
        *((on(key, channel=channel), 0) for key in keys),
        *((off(key, channel=channel), ticks if i == 0 else 0) for i, key in enumerate(keys)),
    ]


def test_every_note_of_chords_has_a_voice(tmp_path):
    path = midi_file(tmp_path / "a.mid", [*chord(60, 64, 67), *chord(59, 65, 69), *chord(62)])
    found = voices(path)
    assert [voice[:2] for voice in found] == [
        [(67, 0.0, 0.5), (69, 0.5, 1.0)],
        [(64, 0.0, 0.5), (65, 0.5, 1.0)],
        [(60, 0.0, 0.5), (59, 0.5, 1.0)],
    ]
    assert sum(len(voice) == 3 for voice in found) == 1  # the last note goes on from the nearest voice
    assert found[2][2:] == [(62, 1.0, 1.5)] or found[1][2:] == [(62, 1.0, 1.5)]


def test_a_melody_over_a_held_note_is_two_voices(tmp_path):
    path = midi_file(
        tmp_path / "a.mid", [(on(48), 0), *chord(60), *chord(62), *chord(64), (off(48), 0)]
    )  # fmt: skip
    assert voices(path) == [[(60, 0.0, 0.5), (62, 0.5, 1.0), (64, 1.0, 1.5)], [(48, 0.0, 1.5)]]


def test_one_line_is_one_voice(tmp_path):
    """A legato pianist holds each key a little into the next."""
    path = midi_file(tmp_path / "a.mid", [*chord(60), *chord(62)])
    (voice,), _ = split_voices(read_midi(path))
    assert voice.notes[1].tied
    path = midi_file(tmp_path / "b.mid", [(on(60), 0), (on(62), 470), (off(60), 10), (off(62), 470)])
    (found,) = voices(path)
    assert found[0][2] == found[1][1]  # none over another


def test_the_pedal_holds_every_note(tmp_path):
    down, up = (mido.Message("control_change", control=64, value=value) for value in (127, 0))
    path = midi_file(tmp_path / "a.mid", [(down, 0), *chord(60, ticks=240), *chord(64, ticks=240), (up, 480)])
    assert voices(path) == [[(64, 0.25, 1.0)], [(60, 0.0, 1.0)]]


def test_tracks_and_channels_are_chosen(tmp_path):
    named = [mido.MetaMessage("track_name", name="Alto"), 0]
    path = midi_file(
        tmp_path / "a.mid",
        [*chord(72), *chord(74, channel=1)],
        [tuple(named), *chord(60, channel=2)],
        [(on(36, channel=9), 0), (off(36, channel=9), 480)],
    )
    assert sum(map(len, voices(path))) == 3
    assert voices(path, tracks=("alto",)) == voices(path, tracks=("2",)) == [[(60, 0.0, 0.5)]]
    assert voices(path, channels=(2,)) == [[(74, 0.5, 1.0)]]
    assert voices(path, channels=(10,)) == [[(36, 0.0, 0.5)]]
    file = read_midi(path)
    assert [str(part) for part in file.left_out] == ["track 3 (channel 10, drums)"]
    assert [part.n_notes for part in file.played] == [1, 1, 1]
    with pytest.raises(InputError, match="has no track Tenor") as problem:
        read_midi(path, Selection(tracks=("Tenor",)))
    assert "track 2 Alto (channel 3)" in problem.value.hint
    with pytest.raises(InputError, match="no notes there"):
        read_midi(path, Selection(channels=(16,)))


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_tracks_are_utf_8_or_latin_1(tmp_path, charset, form):
    content = "Flöte".encode(charset)
    named = b"\0\xff\x03" + bytes([len(content)]) + content
    path = raw(tmp_path / "a.mid", named + b"\0\x90\x3c\x64\1\x3c\0")
    (part,) = read_midi(path, Selection(tracks=(unicodedata.normalize(form, "flöte"),))).played
    assert part.name == "Flöte"


def test_the_wheel_bends_the_notes_of_its_channel_as_far_as_the_file_says(tmp_path):
    controls = [mido.Message("control_change", control=control, value=value, channel=1)
                for control, value in ((101, 0), (100, 0), (6, 12))]  # fmt: skip
    bend = mido.Message("pitchwheel", pitch=4096, channel=1)
    path = midi_file(
        tmp_path / "a.mid",
        [*((control, 0) for control in controls), (on(60), 0), (on(72, channel=1), 0), (bend, 240), (off(60), 240),
         (off(72, 1), 0)],
    )  # fmt: skip
    found, _ = split_voices(read_midi(path))
    high, low = adapt_scores(found, STATISTICS, "power_db", 250, KEEP)
    assert f0_cleanup.to_midi(high.f0_hz)[[30, 90]] == pytest.approx([72.0, 78.0], abs=1e-3)
    assert f0_cleanup.to_midi(low.f0_hz)[[30, 90]] == pytest.approx([60.0, 60.0], abs=1e-3)
    assert len(high) == len(low)


def wheel(semitones, channel=0):
    return mido.Message("pitchwheel", pitch=round(semitones / 2.0 * 8191), channel=channel)


def test_wheel_bends_its_own_channel_in_one_line_too(tmp_path):
    melody = [(on(69), 0), (off(69), 1920)]
    path = midi_file(tmp_path / "a.mid", melody, [(wheel(2.0, channel=1), 480), (on(50, channel=1), 2000)])
    adapted = adapt_score(read_score(path), STATISTICS, "power_db", 250, KEEP)
    assert f0_cleanup.to_midi(adapted.f0_hz)[:500] == pytest.approx(69.0, abs=1e-3)


def test_note_between_two_frames_begins_at_its_own_bend(tmp_path):
    # 481 ticks are 0.501 s, and the note begins in the frame at 0.5 s
    notes = [(wheel(2.0), 0), (on(60), 0), (off(60), 380), (wheel(0.0), 50), (on(64), 51), (off(64), 480)]
    file = read_midi(midi_file(tmp_path / "a.mid", notes))
    for score in (lead_line(file), *split_voices(file)[0]):
        midi = f0_cleanup.to_midi(adapt_score(score, STATISTICS, "power_db", 250, KEEP).f0_hz)
        assert midi[50] == pytest.approx(62.0, abs=1e-3)
        assert midi[120:240] == pytest.approx(64.0, abs=1e-3)


VOLUME, EXPRESSION, RESET = 7, 11, 121


def control(number, value, channel=0):
    return mido.Message("control_change", control=number, value=value, channel=channel)


def curves(path, settings=KEEP):
    """Level that drives the instrument [F] and gain in dB [F], of every voice and of the one line."""
    file = read_midi(path)
    scores, _ = split_voices(file)
    adapted = [*adapt_scores(scores, STATISTICS, "power_db", 250, settings),
               adapt_score(read_score(path), STATISTICS, "power_db", 250, settings)]  # fmt: skip
    return [(one.level_db, 20 * np.log10(one.gate + 1e-9)) for one in adapted]


def test_constant_volume_and_expression_change_nothing(tmp_path):
    notes = [(on(60, 40), 0), (off(60), 480), (on(64, 110), 0), (off(64), 480)]
    plain = curves(midi_file(tmp_path / "a.mid", notes))
    moved = [(control(VOLUME, 127), 0), (control(VOLUME, 50), 0), (control(EXPRESSION, 90), 0)]
    np.testing.assert_array_equal(curves(midi_file(tmp_path / "b.mid", [*moved, *notes])), plain)
    afterwards = [*notes, (control(VOLUME, 0), 480)]
    np.testing.assert_array_equal(curves(midi_file(tmp_path / "c.mid", afterwards)), plain)


def test_reset_centres_the_wheel_and_lifts_the_pedal(tmp_path):
    pedal = mido.Message("control_change", control=64, value=127)
    held = [(wheel(2.0), 0), (pedal, 0), (on(60), 0), (off(60), 480), (control(RESET, 0), 480), (on(72), 480),
            (off(72), 480)]  # fmt: skip
    file = read_midi(midi_file(tmp_path / "a.mid", held))
    (voice,), _ = split_voices(file)
    for score in (lead_line(file), voice):
        assert [(note.start_s, note.stop_s) for note in score.notes] == [(0.0, 1.0), (1.5, 2.0)]
        midi = f0_cleanup.to_midi(adapt_score(score, STATISTICS, "power_db", 250, KEEP).f0_hz)
        assert midi[[100, 450]] == pytest.approx([62.0, 72.0], abs=1e-3)


@pytest.mark.parametrize("number", [120, 123])
def test_all_notes_off_ends_the_notes_of_its_channel(tmp_path, number):
    """Some programs end notes by it alone, as when playing is stopped."""
    pedal = mido.Message("control_change", control=64, value=127)
    stopped = [(pedal, 0), (on(60), 0), (control(number, 0, 1), 240), (control(number, 0), 240), (on(72), 480),
               (off(72), 480)]  # fmt: skip
    file = read_midi(midi_file(tmp_path / "a.mid", stopped))
    (voice,), _ = split_voices(file)
    for score in (lead_line(file), voice):
        assert [(note.midi, note.start_s, note.stop_s) for note in score.notes] == [(60.0, 0.0, 0.5), (72.0, 1.0, 1.5)]


def test_volume_is_a_fader_that_leaves_the_playing_unchanged(tmp_path):
    tracks = [[(on(60), 0), (off(60), 960)], [(on(72, channel=1), 0), (off(72, channel=1), 960)]]
    (level_db, high_db), (_, low_db), _ = curves(midi_file(tmp_path / "a.mid", *tracks))
    tracks[1].insert(0, (control(VOLUME, 50, 1), 0))  # that of the other channel is 100 without a controller
    (softer_level_db, softer_db), (_, same_db), (_, line_db) = curves(midi_file(tmp_path / "b.mid", *tracks))
    np.testing.assert_array_equal(softer_level_db, level_db)
    np.testing.assert_array_equal(same_db, low_db)
    sounding = slice(5, 245)
    assert softer_db[sounding] - high_db[sounding] == pytest.approx(np.full(240, 40 * np.log10(0.5)), abs=1e-3)
    np.testing.assert_array_equal(line_db, high_db)  # no other note sounds in the one line


def test_expression_is_dynamics_until_a_reset(tmp_path):
    swell = [(on(60), 0), (control(EXPRESSION, 64), 480), (control(RESET, 0), 480), (off(60), 480)]
    path = midi_file(tmp_path / "a.mid", swell)
    for level_db, gain_db in curves(path):
        before, soft, after = (round(250 * at_s) for at_s in (0.48, 0.75, 1.02))
        change_db = (level_db + gain_db)[[soft, after]] - (level_db + gain_db)[before]
        settled_db = 2.0 * 0.27 / 0.4  # what a note loses anyway
        assert change_db == pytest.approx([40 * np.log10(64 / 127), -settled_db], abs=2.0)
        assert level_db[before] - level_db[soft] > 3.0  # the timbre follows
        steps_db = np.diff((level_db + gain_db)[before : after + 1])
        assert np.abs(steps_db).max() < 3.0  # no clicks
    without = curves(path, replace(KEEP, dynamics=0.0))
    plain = curves(midi_file(tmp_path / "b.mid", [(on(60), 0), (off(60), 1440)]), replace(KEEP, dynamics=0.0))
    np.testing.assert_array_equal(without, plain)


def test_a_fade_out_ends_in_silence(tmp_path):
    faded = [(on(60), 0), *((control(VOLUME, value), 10) for value in range(100, -1, -1)), (off(60), 200)]
    for _, gain_db in curves(midi_file(tmp_path / "a.mid", faded)):
        assert (np.diff(gain_db[20:300]) <= 1e-5).all()
        assert gain_db[290] < -75.0


def test_all_voices_are_transposed_by_the_same_interval(tmp_path):
    found, _ = split_voices(read_midi(midi_file(tmp_path / "a.mid", chord(40, 52))))
    shifts = {adapted.transpose_semitones for adapted in adapt_scores(found, STATISTICS, "power_db", 250)}
    assert shifts == {24.0}


def test_more_notes_than_voices_end_the_oldest(tmp_path):
    path = midi_file(tmp_path / "a.mid", chord(*range(40, 76)))
    found, n_cut = split_voices(read_midi(path))
    assert (len(found), n_cut) == (32, 4)


def raw(path, events, n_tracks=1):
    """A file with the events of its tracks as bytes."""
    body = events + b"\0\xff\x2f\0"
    path.write_bytes(
        b"MThd\0\0\0\6\0\1" + n_tracks.to_bytes(2, "big") + b"\0\x60"
        + (b"MTrk" + len(body).to_bytes(4, "big") + body) * n_tracks
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("frames", "frames_hz"), [(24, 24.0), (25, 25.0), (29, 29.97), (30, 30.0)])
def test_a_file_may_count_in_frames_of_smpte(tmp_path, frames, frames_hz):
    tempo = b"\0\xff\x51\3\1\0\0"  # has no effect
    path = raw(tmp_path / "a.mid", tempo + b"\x28\x90\x3c\x64\x50\x3c\0")
    content = bytearray(path.read_bytes())
    content[12:14] = bytes([256 - frames, 40])
    path.write_bytes(content)
    (note,) = read_score(path).notes
    assert [note.start_s * frames_hz, note.stop_s * frames_hz] == pytest.approx([1.0, 3.0], rel=1e-5)
    content[12:14] = bytes([256 - frames, 0])
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a MIDI file that can be read"):
        read_score(path)


def test_time_does_not_grow_with_the_square_of_bends_and_notes(tmp_path):
    """A file of 300 kB, which took 10 minutes when every note looked at every bend."""
    bends = b"\1\xe0\0\x40" + b"\1\0\x41" * 30_000
    notes = b"\0\x90\x3c\x64\1\x3c\0" + b"\1\x3c\x64\1\x3c\0" * 30_000
    file = read_midi(raw(tmp_path / "x.mid", bends + notes))
    begun = time.process_time()
    voices, _ = split_voices(file)
    assert time.process_time() - begun < 10.0
    assert sum(len(voice.notes) for voice in voices) == 30_001
    assert all(len(voice.bends) >= len(voice.notes) for voice in voices)  # one at the beginning of each note


def test_time_does_not_grow_with_the_square_of_pedals_and_held_keys(tmp_path):
    """Keys that one channel's pedal holds are not looked at when another channel's pedal is lifted."""
    held = b"\0\xb0\x40\x7f" + b"".join(bytes([0, 0x90, key, 100, 0, 0x80, key, 0]) for key in range(128))
    file = read_midi(raw(tmp_path / "x.mid", held + b"\1\xb1\x40\0" + b"\1\x40\0" * 200, 200))
    begun = time.process_time()
    split_voices(file)
    assert time.process_time() - begun < 20.0


def test_a_file_that_lasts_too_long_says_how_long_it_may_last(tmp_path):
    day = midi_file(tmp_path / "day.mid", [(on(60), 0), (off(60), 480), (on(60), 480 * 2 * 86400), (off(60), 480)])
    with pytest.raises(InputError, match="lasts 24 hours") as problem:
        read_midi(day)
    assert "6 hours" in problem.value.hint


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "x.mid"
    with raw(path, b"").open("r+b") as stream:
        stream.truncate((4 << 20) + 1)
    with pytest.raises(InputError, match="larger than 4 MB"):
        read_midi(path)
    monkeypatch.setattr(midi_module, "MAX_NOTES", 10)
    with pytest.raises(InputError, match="has 11 notes; at most 10 are played"):
        read_midi(raw(path, b"\1\x90\x3c\x64\1\x3c\0" * 11))
