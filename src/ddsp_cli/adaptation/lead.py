"""Follow the main voice of polyphonic sound: singing over a backing track, a solo with accompaniment.

The notes of the whole and their shares of it are known (`analysis.polyphony`), and what a tracker of single pitches
found. The voice is the path through notes and rests of the highest score; pitch is that of the tracker where it follows
the same voice. Shapes: F frames of the features, T steps of the path, N notes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation.f0_cleanup import JUMP_SEMITONES, JUMP_SEMITONES_PER_S, to_midi
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.polyphony import FRAME_S, NoteShare, PolyNote
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, IntArray, percentiles, runs

#: Steps of the path in a second.
STEP_RATE_HZ = 50

#: What a note scores in a step: a tenth for each dB above the loud notes (95th percentile of the loudest one in each
#: step), at most 3 dB of them; so much where the tracker hears it too, times its confidence; so much if its pitch moves
#: as a singer's does, by `MOVING_CENTS` (standard deviation) and more, and does not stay as on a keyboard or a guitar;
#: and less by its distance from the middle of the voice, in units of `REGISTER_SEMITONES`, squared, at most 4. A rest
#: scores `REST`. These figures were chosen on 6 s of three recordings (a singer of low voice, one of high voice, a
#: trumpet) over cello chords, guitar chords and a violin's double stops at 0 to -10 dB.
DB_PER_POINT, MOST_ABOVE_DB = 10.0, 3.0

TRACKED, MOVING, REGISTER, REST = 0.7, 0.8, 0.8, -0.7

MOVING_CENTS, REGISTER_SEMITONES = 5.0, 9.0

#: What it costs to go on to another note or a rest, and for each semitone between two notes.
CHANGE_COST, SEMITONE_COST = 0.7, 0.05

#: The tracker hears a note within so many semitones of it.
SAME_SEMITONES = 0.8

#: A piece of the tracker's pitch between two jumps belongs to the voice if so much of it lies on the path.
OWN_SHARE = 0.35

#: A piece of it that none of the notes explains is a note as well where the tracker is this sure, and of this length;
#: it is taken for half of the sound.
SURE_CONFIDENCE, SHORTEST_S, MISSED_SHARE = 0.8, 0.06, 0.5

#: The confidence of a pitch that only the notes have.
NOTE_CONFIDENCE = 0.9


def follow_lead(features: Features, notes: Sequence[PolyNote], shares: Sequence[NoteShare]) -> Features:
    """Makes the features of the main voice of polyphonic sound.

    Args:
      features: of the whole, F0 of a tracker of single pitches.
      notes: that sound in it.
      shares: that each has of it.

    Returns:
      F0 of the voice, 0 where it rests; levels of the whole less what other notes have of it, at the floor in rests.
    """
    n_frames, rate_hz = len(features), features.spec.frame_rate_hz
    missed = _missed_notes(features, notes)
    notes, shares = [*notes, *(note for note, _ in missed)], [*shares, *(share for _, share in missed)]
    steps = np.arange(0, n_frames, max(1, rate_hz // STEP_RATE_HZ))
    level_db, midi = _on_steps(features, notes, shares, steps)
    path = _find_path(_scores(features, notes, level_db, midi, steps), level_db, midi)
    on_frames = np.repeat(path, np.diff(np.append(steps, n_frames)))
    f0_hz, power, loudness = np.zeros((3, n_frames))
    for i in np.unique(on_frames[on_frames < len(notes)]):
        frames = np.flatnonzero(on_frames == i)
        place = np.minimum(frames - shares[i].first, len(shares[i].power) - 1)
        f0_hz[frames] = notes[i].f0_hz(frames / rate_hz)
        power[frames], loudness[frames] = shares[i].power[place], shares[i].loudness[place]
    confidence = np.where(f0_hz > 0.0, NOTE_CONFIDENCE, 0.0)
    tracked = _own_pieces(features, f0_hz)
    f0_hz[tracked] = features.f0_hz[tracked]
    confidence[tracked] = np.maximum(features.f0_confidence[tracked], confidence[tracked])

    def of_share(whole_db: FloatArray, share: DoubleArray) -> FloatArray:
        """The level of the voice; where only the tracker hears it, its share is that of the nearest note."""
        own_db = np.full(n_frames, features.spec.floor_db)
        known = np.flatnonzero(share > 0.0)
        if len(known):
            sounding = np.flatnonzero(f0_hz > 0.0)
            share_db = np.interp(sounding, known, 10.0 * np.log10(share[known]))
            own_db[sounding] = np.maximum(whole_db[sounding] + share_db, features.spec.floor_db)
        return own_db.astype(np.float32)

    return replace(
        features,
        f0_hz=f0_hz.astype(np.float32),
        f0_confidence=confidence.astype(np.float32),
        loudness_db=of_share(features.loudness_db, loudness),
        power_db=of_share(features.power_db, power),
        envelope_db=None if features.envelope_db is None else of_share(features.envelope_db, power),
    )


def _missed_notes(features: Features, notes: Sequence[PolyNote]) -> list[tuple[PolyNote, NoteShare]]:
    """Pieces of the tracker's pitch that are sure and none of the notes, as notes."""
    rate_hz = features.spec.frame_rate_hz
    midi = to_midi(features.f0_hz)
    known = np.zeros(len(features), bool)
    for note in notes:
        frames = np.arange(math.ceil(note.start_s * rate_hz), min(math.ceil(note.stop_s * rate_hz), len(features)))
        known[frames] |= np.abs(scaling.hz_to_midi(note.f0_hz(frames / rate_hz)) - midi[frames]) < SAME_SEMITONES
    found = []
    for first, stop in _tracked_pieces(features, midi):
        sure = float(percentiles(features.f0_confidence[first:stop], 50.0)) >= SURE_CONFIDENCE
        if not sure or stop - first < SHORTEST_S * rate_hz or known[first:stop].mean() >= 0.5:
            continue
        times_s = np.arange(first / rate_hz, stop / rate_hz, FRAME_S)
        key = round(float(percentiles(midi[first:stop], 50.0)))
        cents = 100.0 * (np.interp(times_s * rate_hz, np.arange(first, stop), midi[first:stop]) - key)
        share = np.full(stop - first, MISSED_SHARE, np.float32)
        found.append(
            (PolyNote(first / rate_hz, stop / rate_hz, key, SURE_CONFIDENCE, cents), NoteShare(first, share, share))
        )
    return found


def _tracked_pieces(features: Features, midi: DoubleArray) -> Iterator[tuple[int, int]]:
    """First frame and frame after the last of each piece of the tracker's pitch between two jumps."""
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / features.spec.frame_rate_hz
    for start, stop in zip(*runs((features.f0_hz > 0.0) & (features.f0_confidence >= 0.5)), strict=True):
        jumps = np.flatnonzero(np.abs(np.diff(midi[start:stop])) > limit) + start + 1
        yield from itertools.pairwise([int(start), *jumps.tolist(), int(stop)])


def _on_steps(
    features: Features, notes: Sequence[PolyNote], shares: Sequence[NoteShare], steps: IntArray
) -> tuple[DoubleArray, DoubleArray]:
    """Loudness in dB and MIDI number of each note in each step, [N, T]; -inf and 0 where it does not sound."""
    rate_hz, n_frames = features.spec.frame_rate_hz, len(features)
    level_db, midi = np.full((len(notes), len(steps)), -np.inf), np.zeros((len(notes), len(steps)))
    for i, (note, own) in enumerate(zip(notes, shares, strict=True)):
        first, stop = np.searchsorted(steps, [own.first, min(own.first + len(own.loudness), n_frames)])
        frames = steps[first:stop]
        level_db[i, first:stop] = features.loudness_db[frames] + 10.0 * np.log10(own.loudness[frames - own.first])
        midi[i, first:stop] = scaling.hz_to_midi(note.f0_hz(frames / rate_hz))
    return level_db, midi


def _scores(
    features: Features, notes: Sequence[PolyNote], level_db: DoubleArray, midi: DoubleArray, steps: IntArray
) -> DoubleArray:
    """What each note scores in each step, but for its register, [N, T]; -inf where it does not sound."""
    sounds = np.isfinite(level_db)
    if not sounds.any():
        return level_db
    loudest_db = level_db.max(axis=0)
    above_db = level_db - float(percentiles(loudest_db[np.isfinite(loudest_db)], 95))
    heard = np.abs(to_midi(features.f0_hz[steps]) - midi) < SAME_SEMITONES
    moving = np.array([min(_movement_cents(note.cents) / MOVING_CENTS, 1.0) for note in notes])
    scores = np.minimum(above_db, MOST_ABOVE_DB) / DB_PER_POINT
    scores += TRACKED * heard * features.f0_confidence[steps] + MOVING * moving[:, None]
    return np.where(sounds, scores, -np.inf)


def _movement_cents(cents: DoubleArray) -> float:
    """How much the pitch of a note [T'] moves about a straight line, its ends left out."""
    inner = cents[3:-3] if len(cents) > 12 else cents
    if len(inner) < 4:
        return 0.0
    times = np.arange(len(inner))
    return float(np.std(inner - np.polyval(np.polyfit(times, inner, 1), times)))


def _find_path(scores: DoubleArray, level_db: DoubleArray, midi: DoubleArray) -> IntArray:
    """The note of each step [T], N for a rest: twice, the second time with the register of the first."""
    n_notes = len(scores)
    path = _best_path(scores, midi)
    sung = np.flatnonzero(path < n_notes)
    if not len(sung):
        return path
    for _ in range(2):
        middle = float(np.median(midi[path[sung], sung]))
        away = np.minimum(((midi - middle) / REGISTER_SEMITONES) ** 2, 4.0)
        path = _best_path(np.where(np.isfinite(level_db), scores - REGISTER * away, -np.inf), midi)
        sung = np.flatnonzero(path < n_notes)
        if not len(sung):
            break
    return path


def _best_path(scores: DoubleArray, midi: DoubleArray) -> IntArray:
    """The path [T] of the highest score less the cost of its changes (Viterbi)."""
    n_notes, n_steps = scores.shape
    states, best = np.array([n_notes]), np.zeros(1)
    back: list[tuple[IntArray, IntArray]] = []  # of each step: its states, and the index of the one before
    for step in range(n_steps):
        now = np.append(np.flatnonzero(np.isfinite(scores[:, step])), n_notes)
        cost = np.where(now[:, None] == states, 0.0, CHANGE_COST)
        if step:
            are_notes = (now[:, None] < n_notes) & (states < n_notes) & (now[:, None] != states)
            last_midi = np.append(midi[:, step - 1], 0.0)[states]
            cost += SEMITONE_COST * are_notes * np.abs(np.append(midi[:, step], 0.0)[now][:, None] - last_midi)
        total = best - cost
        before = np.argmax(total, axis=1)
        best = total[np.arange(len(now)), before] + np.append(scores[:, step], REST)[now]
        back.append((now, before))
        states = now
    path = np.full(n_steps, n_notes)
    place = int(np.argmax(best))
    for step in range(n_steps - 1, -1, -1):
        now, before = back[step]
        path[step] = now[place]
        place = int(before[place])
    return path


def _own_pieces(features: Features, f0_hz: DoubleArray) -> BoolArray:
    """Frames [F] of the tracker's pitch that belong to the voice with an F0 [F], 0 where it has none."""
    own = np.zeros(len(features), bool)
    midi, voice_midi = to_midi(features.f0_hz), to_midi(f0_hz)
    same = (f0_hz > 0.0) & (np.abs(midi - voice_midi) < SAME_SEMITONES)
    for first, stop in _tracked_pieces(features, midi):
        if same[first:stop].mean() >= OWN_SHARE:
            own[first:stop] = True
    return own
