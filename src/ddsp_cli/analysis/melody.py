"""Measure a melody: its notes, its tuning, its course without vibrato, and whether it is sung or spoken.

Notes are the path through the semitones that costs least, found by the Viterbi algorithm: a frame costs what its
distance to the semitone is beyond `FREE_SEMITONES`, a change of semitone costs `CHANGE_S`. Vibrato swings back before a
change would pay, a note does not.

Pure functions on melodies, [F] arrays of MIDI numbers, NaN where there is no pitch; durations are in seconds, so any
frame rate will do. Shapes: F frames, N notes, D semitones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from ddsp_cli.arrays import DoubleArray, IntArray, RealArray, percentiles, runs

#: A pitch this far from its semitone costs nothing, so a note between two semitones does not alternate.
FREE_SEMITONES = 0.6

#: Cost of a change of semitone, in semitones · s. Two changes gain 0.013 for a swing of vibrato (± 1 semitone at
#: 6 Hz), and 0.03 for a note of 75 ms a semitone away.
CHANGE_S = 0.015

#: A frame costs at most this much, in semitones: a short leap of the tracker is not followed.
MAX_COST_SEMITONES = 4.0

#: A vibrato wide enough to change the semitone alternates between two neighbours: at least `MIN_SWINGS` pieces between
#: others, each of `SWING_S` at most, over an interval of `SWING_SEMITONES` or more. Two notes a semitone apart swing
#: over little more than one.
MIN_SWINGS, SWING_S, SWING_SEMITONES = 2, 0.16, 1.5

#: A stretch shorter than `PASSING_S` in which less than `STEADY_SHARE` of the frames lie within `STEADY_SEMITONES` of
#: their median is passed in a slide and is no note. A straight slide has 0.5.
PASSING_S = 0.15

STEADY_SEMITONES = 0.25

STEADY_SHARE = 0.62

#: A slide belongs to a note up to this far away; a slide further away is separate, between two notes.
MAX_SLIDE_SEMITONES = 1.5


class Notes(msgspec.Struct, frozen=True):
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
    """Returns the notes of several melodies as those of one; their frames are counted from the start of each."""
    names = ("starts", "stops", "semitone", "centre_midi")
    return Notes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def find_notes(midi: RealArray, frame_rate_hz: int, tuning_semitones: float = 0.0) -> Notes:
    """Finds the notes of a melody.

    Args:
      midi: [F] pitch, NaN where there is none; a note never lasts through NaN.
      frame_rate_hz: frames per second.
      tuning_semitones: how far the melody's A is above 440 Hz.

    Returns:
      The notes. Frames of slides belong to none.
    """
    found: list[tuple[int, int, int, float]] = []
    for first, end in zip(*runs(~np.isnan(midi)), strict=True):
        stretch = np.asarray(midi[first:end], np.float64) - tuning_semitones
        path = _semitone_path(stretch, CHANGE_S * frame_rate_hz)
        edges = np.concatenate([[0], np.flatnonzero(np.diff(path)) + 1, [len(path)]])
        pieces = _without_swings(list(itertools.pairwise(edges)), path, stretch, SWING_S * frame_rate_hz)
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
    """Returns the semitone of each frame [F] of a stretch of pitch without NaN."""
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


def _without_swings(
    pieces: list[tuple[int, int]], path: IntArray, stretch: DoubleArray, longest_frames: float
) -> list[tuple[int, int]]:
    """Joins pieces (start, end) of a path [F] that alternate because a vibrato in the stretch [F] is wide."""
    joined: list[tuple[int, int]] = []
    first = 0
    while first < len(pieces):
        last = first
        semitones = {int(path[pieces[first][0]])}
        while last + 1 < len(pieces):
            semitones.add(int(path[pieces[last + 1][0]]))
            is_long = last > first and pieces[last][1] - pieces[last][0] > longest_frames
            if max(semitones) - min(semitones) != 1 or is_long:
                break
            last += 1
        inner = pieces[first + 1 : last]
        turns = [stretch[a:b].max() if path[a] > path[a - 1] else stretch[a:b].min() for a, b in inner]
        if len(inner) < MIN_SWINGS or np.median(np.abs(np.diff(turns))) < SWING_SEMITONES:
            joined.append(pieces[first])
            first += 1
        else:
            joined.append((pieces[first][0], pieces[last][1]))
            first = last + 1
    return joined


def _is_steady(piece: DoubleArray, frame_rate_hz: int) -> bool:
    """Whether a stretch near one semitone is a note and not passed in a slide."""
    if len(piece) >= PASSING_S * frame_rate_hz:
        return True
    near = np.abs(piece - percentiles(piece, 50.0)) <= STEADY_SEMITONES
    return bool(near.mean() >= STEADY_SHARE)


def nearest_note(notes: Notes, midi: RealArray) -> IntArray:
    """Returns the note that each frame belongs to, the frames of slides included.

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


# --- pitch without vibrato ------------------------------------------------------------------------------------------

#: Vibrato swings 5 to 7 times a second: the median is over more than one swing, the mean over two.
MEDIAN_S = 0.25

MEAN_S = 0.36

#: A frame further from a note belongs to another one.
SAME_NOTE_SEMITONES = 0.8

_ROWS_AT_ONCE = 4096


def centre(midi: RealArray, frame_rate_hz: int) -> DoubleArray:
    """Removes vibrato from a melody, stretch by stretch of pitch.

    A running median finds the note, since it keeps steps as they are. The mean under a Hann window as long as two
    swings of vibrato, over the frames that belong to that note, finds its centre.

    Args:
      midi: [F].
      frame_rate_hz: frames per second.

    Returns:
      [F] float64, NaN where there is no pitch.
    """
    out = midi.astype(np.float64).copy()
    half_median = max(1, round(MEDIAN_S * frame_rate_hz / 2))
    half_mean = max(1, round(MEAN_S * frame_rate_hz / 2))
    window = np.hanning(2 * half_mean + 3)[1:-1]
    for start, stop in zip(*runs(~np.isnan(midi)), strict=True):
        stretch = np.asarray(midi[start:stop], np.float64)
        note = np.empty(len(stretch))
        for part, rows in _windows(stretch, half_median):
            note[part] = np.partition(rows, half_median, axis=1)[:, half_median]
        for part, rows in _windows(stretch, half_mean):
            weights = window * (np.abs(rows - note[part, None]) < SAME_NOTE_SEMITONES)
            total = weights.sum(axis=1)
            mean = (weights * rows).sum(axis=1) / np.maximum(total, 1e-9)
            out[start:stop][part] = np.where(total > 0, mean, note[part])
    return out


def _windows(stretch: DoubleArray, half: int) -> Iterator[tuple[slice, DoubleArray]]:
    """Yields windows [n, 2·half + 1] around each value, the ends mirrored, at most `_ROWS_AT_ONCE` at a time."""
    padded = np.pad(stretch, half, mode="reflect" if len(stretch) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    for first in range(0, len(windows), _ROWS_AT_ONCE):
        rows = windows[first : first + _ROWS_AT_ONCE]
        yield slice(first, first + len(rows)), rows


def find_tuning(midi: RealArray) -> float:
    """Estimates how far the melody's own A is above 440 Hz: the circular mean of pitch modulo a semitone.

    Args:
      midi: [F].

    Returns:
      Semitones, -0.5 to 0.5.
    """
    known = midi[~np.isnan(midi)]
    if not len(known):
        return 0.0
    return float(np.angle(np.mean(np.exp(2j * np.pi * known))) / (2.0 * np.pi))


# --- sung or spoken --------------------------------------------------------------------------------------------------

#: In speech the pitch moves: apart from vibrato it is slower than `STEADY_SEMITONES_PER_S` in less than this share of
#: the time, surely and perhaps. Speakers have 0.56 to 0.9, half of them less than 0.77, instruments 0.85 and more, in
#: staccatissimo 0.79, singers 0.75 and more.
SPEECH_SLOW_SHARE, UNCLEAR_SLOW_SHARE = 0.83, 0.855

STEADY_SEMITONES_PER_S = 4.0

#: Little of speech is in held notes: the mean of the shares in notes of at least these lengths is less than the first
#: figure surely, than the second perhaps. Nine of ten speakers have less than 0.4, singers 0.46 and more.
SPEECH_HELD_SHARE, UNCLEAR_HELD_SHARE = 0.3, 0.45

HELD_S = (0.2, 0.4)

#: Speech pauses at unvoiced consonants: the mean stretch of pitch, weighted by length, is shorter than this. Speakers
#: have 0.13 to 0.6 s: ornaments in a legato line are no speech.
SPEECH_STRETCH_S = 0.6

#: In half of speech the pitch moves by this interval within a stretch. Speakers have 0.52 and more, staccatissimo up to
#: 0.49.
SPEECH_SPAN_SEMITONES = 0.5


def slow_share(midi: RealArray, frame_rate_hz: int) -> float:
    """Measures the share of a melody [F] (NaN where there is no pitch) in which it moves slowly, vibrato left out."""
    known = ~np.isnan(midi)
    if known.sum() < 2:
        return 1.0
    slow = np.abs(np.gradient(centre(midi, frame_rate_hz))) * frame_rate_hz < STEADY_SEMITONES_PER_S
    return float((slow & known).sum() / known.sum())


def held_share(midi: RealArray, frame_rate_hz: int) -> float:
    """Measures the share of a melody [F] (NaN where there is no pitch) in held notes, the mean for each of `HELD_S`."""
    n_known = np.count_nonzero(~np.isnan(midi))
    lengths = find_notes(midi, frame_rate_hz, find_tuning(midi)).n_frames
    shares = [lengths[lengths >= seconds * frame_rate_hz].sum() / max(n_known, 1) for seconds in HELD_S]
    return float(np.mean(shares))


def has_syllables(midi: RealArray, frame_rate_hz: int) -> bool:
    """Whether the stretches between the NaN of a melody [F] are short, and pitch moves within them."""
    pieces = [(start, stop) for start, stop in zip(*runs(~np.isnan(midi)), strict=True)]
    lengths = np.array([stop - start for start, stop in pieces])
    if not len(lengths) or (lengths**2).sum() >= SPEECH_STRETCH_S * frame_rate_hz * lengths.sum():
        return False
    middle = centre(midi, frame_rate_hz)
    moves = [np.ptp(middle[start:stop]) >= SPEECH_SPAN_SEMITONES for start, stop in pieces]
    return bool(lengths[moves].sum() >= 0.5 * lengths.sum())


def judge_manner(midi: RealArray, frame_rate_hz: int) -> Literal["sung", "spoken", "unclear"]:
    """Judges whether a melody [F] (NaN where there is no pitch) was sung or played, or spoken."""
    if not has_syllables(midi, frame_rate_hz):  # the quickest of the three
        return "sung"
    slow = slow_share(midi, frame_rate_hz)
    if slow >= UNCLEAR_SLOW_SHARE:
        return "sung"
    held = held_share(midi, frame_rate_hz)
    if held >= UNCLEAR_HELD_SHARE:
        return "sung"
    return "spoken" if slow < SPEECH_SLOW_SHARE and held < SPEECH_HELD_SHARE else "unclear"
