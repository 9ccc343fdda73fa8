"""The main voice of polyphonic sound: its notes, its rests, its levels; nothing of what accompanies it."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.adaptation.f0_cleanup import to_midi
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.adaptation.voices import follow_lead
from ddsp_cli.analysis.polyphony import FRAME_S, NoteShare, PolyNote
from performance_fixtures import change, performance

#: Start, end and MIDI number of a melody with a rest between its third and its fourth note.
MELODY = ((0.5, 1.0, 67), (1.0, 1.5, 69), (1.5, 2.0, 71), (3.0, 3.5, 69))

CHORD = ((0.5, 3.8, 48), (0.5, 3.8, 52), (0.5, 3.8, 55))


def poly(start_s, stop_s, key, vibrato_cents=0.0):
    times_s = np.arange(round((stop_s - start_s) / FRAME_S)) * FRAME_S
    return PolyNote(start_s, stop_s, key, 0.8, vibrato_cents * np.sin(2 * np.pi * 5.5 * times_s))


def mixture(backing_db, tracked=True, vibrato_cents=20.0):
    """Features, notes and shares of the melody over three held notes, each of them at `backing_db` against it."""
    features = performance(250, notes=((0.5, 3.8, 60.0),), note_db=-20.0)
    notes = [poly(*note, vibrato_cents) for note in MELODY] + [poly(*note) for note in CHORD]
    powers = np.zeros((len(notes), len(features)))
    for row, note in zip(powers, notes, strict=True):
        row[round(note.start_s * 250) : round(note.stop_s * 250)] = 1.0 if note.key > 60 else 10 ** (backing_db / 10)
    total = powers.sum(axis=0)
    level_db = np.where(total > 0, 10.0 * np.log10(np.maximum(total, 1e-6)) - 20.0, -70.0)
    shares = []
    for row, note in zip(powers, notes, strict=True):
        frames = slice(round(note.start_s * 250), round(note.stop_s * 250))
        shares.append(NoteShare(frames.start, row[frames] / total[frames], row[frames] / total[frames]))
    f0_hz = np.zeros(len(features))
    if tracked:  # the melody while it sounds, the highest note of the chord else
        f0_hz[total > 0] = notes[-1].f0_hz(np.zeros(1))[0]
        for note in notes[: len(MELODY)]:
            frames = np.arange(round(note.start_s * 250), round(note.stop_s * 250))
            f0_hz[frames] = note.f0_hz(frames / 250)
    confidence = np.where(f0_hz > 0, 0.9, 0.0)
    made = change(features, f0_hz=f0_hz, f0_confidence=confidence, loudness_db=level_db + 10.0, power_db=level_db)
    return made, notes, shares


def at(seconds):
    return round(seconds * 250)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("backing_db", [-5.0, -10.0, -15.0])
def test_the_melody_is_followed_and_its_rests_are_silent(backing_db, tracked):
    lead = follow_lead(*mixture(backing_db, tracked))
    for start_s, stop_s, key in MELODY:
        inner = slice(at(start_s + 0.05), at(stop_s - 0.05))
        np.testing.assert_allclose(to_midi(lead.f0_hz[inner]), key, atol=0.3)
    assert not lead.f0_hz[at(2.05) : at(2.95)].any()
    assert not lead.f0_hz[at(3.55) :].any()
    segments = find_segments(lead)
    assert len(segments) == 2
    assert segments.starts[1] / 250 == pytest.approx(3.0, abs=0.05)


def test_its_level_is_its_own():
    features, notes, shares = mixture(-5.0)
    lead = follow_lead(features, notes, shares)
    # 0 dB of the melody and three times -5 dB: the whole lies 2.9 dB above it.
    np.testing.assert_allclose(features.power_db[at(1.1) : at(1.9)] - lead.power_db[at(1.1) : at(1.9)], 2.9, atol=0.1)
    assert (lead.power_db[at(2.1) : at(2.9)] == features.spec.floor_db).all()


def test_a_voice_that_moves_is_taken_before_one_that_does_not():
    """Both as loud, an octave apart, nothing tracked."""
    features, notes, shares = mixture(0.0, tracked=False)
    lead = follow_lead(features, notes[:4] + notes[4:5], shares[:4] + shares[4:5])
    sounding = to_midi(lead.f0_hz[at(0.6) : at(1.9)])
    assert sounding.min() > 66.0


def test_a_single_voice_stays_as_it_is():
    features, notes, shares = mixture(-60.0)
    lead = follow_lead(features, notes[:4], [NoteShare(one.first, one.power**0, one.loudness**0) for one in shares[:4]])
    sung = np.concatenate([np.arange(at(start), at(stop)) for start, stop, _ in MELODY])
    np.testing.assert_array_equal(lead.f0_hz[sung], features.f0_hz[sung])
    np.testing.assert_allclose(lead.power_db[sung], features.power_db[sung], atol=1e-3)


def test_without_notes_there_is_no_voice():
    features, _, _ = mixture(-5.0, tracked=False)
    lead = follow_lead(features, [], [])
    assert not lead.f0_hz.any()
    assert (lead.loudness_db == features.spec.floor_db).all()


def test_what_only_the_tracker_is_sure_of_is_sung_too():
    """The second note of the melody is none of those that were found."""
    features, notes, shares = mixture(-10.0)
    lead = follow_lead(features, notes[:1] + notes[2:], shares[:1] + shares[2:])
    np.testing.assert_allclose(to_midi(lead.f0_hz[at(1.05) : at(1.45)]), MELODY[1][2], atol=0.3)
