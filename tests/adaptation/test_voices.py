"""Polyphonic sound, voice by voice, and its main voice: notes, rests, levels and octaves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.f0_cleanup import to_midi
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.adaptation.voices import LEGATO_GAP_S, MAX_VOICES, adapt_voices, assign_voices, follow_lead, separate
from ddsp_cli.analysis.polyphony import FRAME_S, NoteShare, PolyNote
from ddsp_cli.errors import InputError
from ddsp_cli.scaling import hz_to_midi
from performance_fixtures import STATISTICS, change, performance


@dataclass(frozen=True)
class Key:
    key: int
    start_s: float
    stop_s: float


@pytest.mark.parametrize("seed", range(5))
def test_every_note_has_its_place(seed):
    random = np.random.default_rng(seed)
    starts = np.sort(random.uniform(0.0, 10.0, 80))
    notes = [Key(int(random.integers(40, 80)), start, start + length)
             for start, length in zip(starts, random.uniform(0.05, 0.8, 80), strict=True)]  # fmt: skip
    voices, n_cut = assign_voices(notes)
    assert n_cut == 0
    assert sorted((note.key, note.start_s) for voice in voices for note in voice) == sorted(
        (note.key, note.start_s) for note in notes
    )
    for voice in voices:
        for before, after in itertools.pairwise(voice):
            assert before.stop_s <= after.start_s
    most = max(sum(note.start_s <= at < note.stop_s - LEGATO_GAP_S for note in notes) for at in starts)
    assert most <= len(voices) <= most + 3
    lost_s = sum(note.stop_s - note.start_s for note in notes) - sum(
        note.stop_s - note.start_s for voice in voices for note in voice
    )
    assert 0.0 <= lost_s <= 80 * LEGATO_GAP_S


def test_two_lines_that_do_not_cross_stay_two_lines():
    high = [Key(72 + i % 3, 0.5 * i, 0.5 * i + 0.5) for i in range(8)]
    low = [Key(50 - i % 3, 0.5 * i, 0.5 * i + 0.5) for i in range(8)]
    assert assign_voices([*low, *high])[0] == [high, low]


def test_families_stay_together():
    notes = [Key(60, 0.0, 0.5), Key(61, 0.0, 0.5), Key(61, 0.5, 1.0), Key(60, 0.5, 1.0)]
    family = {notes[0]: "a", notes[1]: "b", notes[2]: "a", notes[3]: "b"}
    voices, _ = assign_voices(notes, family.__getitem__)
    assert {tuple(voice) for voice in voices} == {(notes[0], notes[2]), (notes[1], notes[3])}


def test_there_are_no_more_voices_than_the_most():
    voices, n_cut = assign_voices([Key(30 + i, 0.0, 1.0) for i in range(MAX_VOICES + 3)])
    assert (len(voices), n_cut) == (MAX_VOICES, 3)


def poly(key, start_s, stop_s):
    return PolyNote(start_s, stop_s, key, 0.9, np.zeros(round((stop_s - start_s) / FRAME_S)))


def share_of(note, power, loudness=None):
    n_frames = round((note.stop_s - note.start_s) * 250)
    return NoteShare(
        round(note.start_s * 250), np.full(n_frames, power), np.full(n_frames, power if loudness is None else loudness)
    )


def separated(difference_db=10.0):
    """A melody of two notes over a held one, `difference_db` softer."""
    features = performance(250)
    notes = [poly(67, 1.0, 2.0), poly(69, 2.0, 3.0), poly(48, 1.0, 3.0)]
    below = 10.0 ** (-difference_db / 10.0)
    shares = [share_of(note, share / (1.0 + below)) for note, share in zip(notes, (1.0, 1.0, below), strict=True)]
    return features, separate(features, notes, shares)


def test_a_voice_has_its_notes_and_its_part_of_the_level():
    features, (high, low) = separated()
    at = {second: round(second * 250) for second in (0.5, 1.5, 2.5, 3.5)}
    assert 69.0 + 12.0 * np.log2(high.f0_hz[at[1.5]] / 440.0) == pytest.approx(67.0, abs=0.01)
    assert 69.0 + 12.0 * np.log2(high.f0_hz[at[2.5]] / 440.0) == pytest.approx(69.0, abs=0.01)
    assert 69.0 + 12.0 * np.log2(low.f0_hz[at[2.5]] / 440.0) == pytest.approx(48.0, abs=0.01)
    assert high.f0_hz[at[0.5]] == low.f0_hz[at[3.5]] == 0.0
    together_db = 10.0 * np.log10(10.0 ** (high.power_db / 10.0) + 10.0 ** (low.power_db / 10.0))
    inside = slice(at[1.5], at[1.5] + 50)
    np.testing.assert_allclose(together_db[inside], features.power_db[inside], atol=0.01)
    np.testing.assert_allclose((high.power_db - low.power_db)[inside], 10.0, atol=0.01)


def test_hum_is_no_voice():
    """Most of the power where a note fades, and more than 40 dB below the music in loudness."""
    features = performance(250)
    tone, hum = poly(64, 1.0, 2.0), poly(31, 1.5, 3.5)
    (voice,) = separate(features, [tone, hum], [share_of(tone, 0.3, 0.99995), share_of(hum, 0.7, 0.00005)])
    midi = hz_to_midi(voice.f0_hz[voice.f0_hz > 0])
    np.testing.assert_allclose(midi, 64.0, atol=0.01)
    soft = share_of(hum, 0.01)
    assert len(separate(features, [tone, hum], [share_of(tone, 0.99), soft])) == 2
    frame = round(1.6 * 250)
    assert voice.loudness_db[frame] == pytest.approx(features.loudness_db[frame], abs=0.01)
    assert voice.power_db[frame] == pytest.approx(features.power_db[frame] - 5.2, abs=0.1)


def test_voices_keep_their_balance_and_their_intervals():
    _, voices = separated()
    high, low = adapt_voices(voices, STATISTICS, "power_db", AdaptSettings(dynamics=0.0))
    assert high.transpose_semitones == low.transpose_semitones
    frame = round(1.5 * 250)
    assert 12.0 * np.log2(high.f0_hz[frame] / low.f0_hz[frame]) == pytest.approx(19.0, abs=0.05)

    def sounding_db(adapted):
        return adapted.level_db[frame] + 20.0 * np.log10(adapted.gate[frame])

    assert sounding_db(high) - sounding_db(low) == pytest.approx(10.0, abs=1.0)


def test_no_notes_are_refused():
    with pytest.raises(InputError, match="no notes"):
        adapt_voices([], STATISTICS, "power_db")


#: Start, end and MIDI number of a melody with a rest between its third and its fourth note.
MELODY = ((0.5, 1.0, 67), (1.0, 1.5, 69), (1.5, 2.0, 71), (3.0, 3.5, 69))

CHORD = ((0.5, 3.8, 48), (0.5, 3.8, 52), (0.5, 3.8, 55))


def sung_note(start_s, stop_s, key, vibrato_cents=0.0):
    times_s = np.arange(round((stop_s - start_s) / FRAME_S)) * FRAME_S
    return PolyNote(start_s, stop_s, key, 0.8, vibrato_cents * np.sin(2 * np.pi * 5.5 * times_s))


def mixture(backing_db, tracked=True, vibrato_cents=20.0):
    """Features, notes and shares of the melody over three held notes, each of them at `backing_db` against it."""
    features = performance(250, notes=((0.5, 3.8, 60.0),), note_db=-20.0)
    notes = [sung_note(*note, vibrato_cents) for note in MELODY] + [sung_note(*note) for note in CHORD]
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
    """Both equally loud, an octave apart, no F0 tracked."""
    features, notes, shares = mixture(0.0, tracked=False)
    lead = follow_lead(features, notes[:4] + notes[4:5], shares[:4] + shares[4:5])
    sounding = to_midi(lead.f0_hz[at(0.6) : at(1.9)])
    assert sounding.min() > 66.0


def test_a_single_voice_is_not_changed():
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
    """The second note of the melody is not among the detected notes."""
    features, notes, shares = mixture(-10.0)
    lead = follow_lead(features, notes[:1] + notes[2:], shares[:1] + shares[2:])
    np.testing.assert_allclose(to_midi(lead.f0_hz[at(1.05) : at(1.45)]), MELODY[1][2], atol=0.3)
