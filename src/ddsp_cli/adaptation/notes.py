"""Find the notes of a melody: stretches of pitch that stay near one semitone.

The path through the semitones that costs least is found by the Viterbi algorithm: a frame costs what its distance to
the semitone is beyond `FREE_SEMITONES`, a change of semitone costs `CHANGE_S`. Vibrato swings back before a change
would pay, a note does not. Shapes: F frames, N notes, D semitones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import DoubleArray, IntArray, RealArray, percentiles, runs

#: A pitch this far from its semitone costs nothing, so a note between two semitones does not alternate.
FREE_SEMITONES = 0.6

#: Cost of a change of semitone, in semitones · s. Two changes gain 0.013 for a swing of vibrato (± 1 semitone at
#: 6 Hz), and 0.03 for a note of 75 ms a semitone away.
CHANGE_S = 0.015

#: A frame costs at most this much, in semitones: a short leap of the tracker is not followed.
MAX_COST_SEMITONES = 4.0

#: A stretch shorter than `PASSING_S` in which less than `STEADY_SHARE` of the frames lie within `STEADY_SEMITONES` of
#: their median is passed in a slide and is no note. A straight slide has 0.5.
PASSING_S = 0.15

STEADY_SEMITONES = 0.25

STEADY_SHARE = 0.62

#: A slide belongs to a note up to this far away; beyond that it is a slide of its own between two notes.
MAX_SLIDE_SEMITONES = 1.5


@dataclass(frozen=True)
class Notes:
    """The notes of a melody, in order, none over another.

    Attributes:
      starts: [N], first frame of each.
      stops: [N], frame after the last.
      semitone: [N], MIDI number of the nearest semitone in the melody's own tuning.
      centre_midi: [N], median pitch.
    """

    starts: IntArray
    stops: IntArray
    semitone: IntArray
    centre_midi: DoubleArray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_frames(self) -> IntArray:
        """[N], length of each note."""
        return self.stops - self.starts


def joined_notes(parts: list[Notes]) -> Notes:
    """The notes of several melodies as those of one; their frames are counted from the start of each."""
    names = ("starts", "stops", "semitone", "centre_midi")
    return Notes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def find_notes(midi: RealArray, frame_rate_hz: int, tuning_semitones: float = 0.0) -> Notes:
    """Finds the notes of a melody.

    Args:
      midi: [F] pitch, NaN where there is none; a note never lasts through NaN.
      frame_rate_hz: frames per second.
      tuning_semitones: how far the melody's A lies above 440 Hz.

    Returns:
      The notes. Frames of slides belong to none.
    """
    found: list[tuple[int, int, int, float]] = []
    for first, end in zip(*runs(~np.isnan(midi)), strict=True):
        stretch = np.asarray(midi[first:end], np.float64) - tuning_semitones
        path = _semitone_path(stretch, CHANGE_S * frame_rate_hz)
        edges = np.concatenate([[0], np.flatnonzero(np.diff(path)) + 1, [len(path)]])
        pieces = list(itertools.pairwise(edges))
        steady = [_is_steady(stretch[start:stop], frame_rate_hz) for start, stop in pieces]
        if not any(steady):
            steady = [stop - start == max(b - a for a, b in pieces) for start, stop in pieces]
        for (start, stop), is_note in zip(pieces, steady, strict=True):
            if is_note:
                centre = float(percentiles(stretch[start:stop], 50.0))
                found.append((first + start, first + stop, round(centre), centre + tuning_semitones))
    columns = list(zip(*found, strict=True)) if found else [(), (), (), ()]
    starts, stops, semitone = (np.asarray(column, np.int64) for column in columns[:3])
    return Notes(starts, stops, semitone, np.asarray(columns[3], np.float64))


def _semitone_path(stretch: DoubleArray, change_frames: float) -> IntArray:
    """The semitone of each frame [F] of a stretch of pitch without NaN."""
    lowest = int(np.floor(stretch.min()))
    semitones = np.arange(lowest, int(np.ceil(stretch.max())) + 1)
    costs = np.clip(np.abs(semitones - stretch[:, None]) - FREE_SEMITONES, 0.0, MAX_COST_SEMITONES)
    # Cost of the best path to each semitone before each frame, less that to the best of them, which is 0.
    totals = np.zeros((len(stretch) + 1, len(semitones)))
    minimum, least = np.minimum, np.minimum.reduce
    for cost, before, after in zip(costs, totals, totals[1:], strict=False):
        minimum(before, change_frames, out=after)
        after += cost
        after -= least(after)
    best = totals.argmin(axis=1).tolist()
    changed = (totals[:-1] > change_frames).tolist()
    path = np.empty(len(stretch), np.int64)
    state = best[-1]
    for i in range(len(stretch) - 1, -1, -1):
        path[i] = state
        if changed[i][state]:
            state = best[i]
    return path + lowest


def _is_steady(piece: DoubleArray, frame_rate_hz: int) -> bool:
    """Whether a stretch near one semitone is a note and not passed in a slide."""
    if len(piece) >= PASSING_S * frame_rate_hz:
        return True
    near = np.abs(piece - percentiles(piece, 50.0)) <= STEADY_SEMITONES
    return bool(near.mean() >= STEADY_SHARE)


def nearest_note(notes: Notes, midi: RealArray) -> IntArray:
    """The note that each frame belongs to, the frames of slides included.

    A frame outside the notes belongs to the one before or after it in the same stretch of pitch, whichever is nearer in
    pitch, if it is within `MAX_SLIDE_SEMITONES`.

    Args:
      notes: of the melody.
      midi: [F] pitch, NaN where there is none.

    Returns:
      [F], index of the note; -1 without pitch, and in slides far from both notes.
    """
    owner = np.full(len(midi), -1, np.int64)
    for i, (start, stop) in enumerate(zip(notes.starts, notes.stops, strict=True)):
        owner[start:stop] = i
    for first, end in zip(*runs(~np.isnan(midi)), strict=True):
        for a, b in zip(*runs(owner[first:end] < 0), strict=True):
            start, stop = first + a, first + b
            sides = [owner[start - 1] if a > 0 else -1, owner[stop] if stop < end else -1]
            distance = np.stack(
                [
                    np.abs(midi[start:stop] - notes.centre_midi[side]) if side >= 0 else np.full(stop - start, np.inf)
                    for side in sides
                ]
            )
            nearer = np.asarray(sides)[np.argmin(distance, axis=0)]
            owner[start:stop] = np.where(distance.min(axis=0) <= MAX_SLIDE_SEMITONES, nearer, -1)
    return owner
