"""Repair of a measured melody: octave slips, hiccups at the edges of notes, gaps. Pure functions on [F] arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import runs

#: Between two frames pitch may move by this much plus this much per second before it counts as a jump. Singers'
#: vibrato (± 1 semitone at 6 Hz) moves 38 semitones a second, an octave of glide in a tenth of a second 120.
JUMP_SEMITONES = 0.6

JUMP_SEMITONES_PER_S = 130.0

#: A piece of melody between two jumps that is shorter is a hiccup of the tracker.
SHORTEST_PIECE_S = 0.04

#: A piece an octave (or two, or a twelfth) off both its neighbours is a slip of the tracker up to this length.
LONGEST_SLIP_S = 0.25

SLIPS_SEMITONES = (12.0, -12.0, 24.0, -24.0, 19.02, -19.02)

SLIP_TOLERANCE_SEMITONES = 1.5

#: Such a piece is a note all the same, an octave that was played, if the tracker is this sure of it and it has an
#: onset: the level changes by so much within so long of its start. A tracker wavers in the middle of a tone.
OWN_CONFIDENCE = 0.9

OWN_ONSET_DB = 3.0

ONSET_S = 0.03

#: Across a gap inside a note pitch moves in a straight line by this much; further it jumps.
LARGEST_BRIDGE_SEMITONES = 2.0

#: How much of a rest before a note already has the note's pitch.
LEAD_S = 0.06


def repair(
    midi: np.ndarray, segments: Segments, frame_rate_hz: int, confidence: np.ndarray, loudness_db: np.ndarray
) -> np.ndarray:
    """Removes what a tracker invents, note by note.

    Args:
      midi: [F] pitch as MIDI numbers, meaningful where `segments.voiced`.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      confidence: [F] of the pitch, 0..1.
      loudness_db: [F] of the sound.

    Returns:
      [F], NaN where there is no pitch to rely on (to be filled by `fill`).
    """
    out = np.where(segments.voiced, midi, np.nan).astype(np.float64)
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / frame_rate_hz
    reach = max(1, round(ONSET_S * frame_rate_hz))

    def is_own(frames: np.ndarray) -> bool:
        """Whether these frames are a note in their own right."""
        around = loudness_db[max(frames[0] - reach, 0) : frames[0] + reach]
        return bool(np.median(confidence[frames]) >= OWN_CONFIDENCE and np.ptp(around) >= OWN_ONSET_DB)

    for start, stop in zip(segments.starts, segments.stops, strict=True):
        stretch = out[start:stop]
        frames = np.flatnonzero(~np.isnan(stretch))
        if len(frames):
            stretch[frames] = _repair_note(stretch[frames], frames + start, limit, frame_rate_hz, is_own)
    return out


def _repair_note(
    pitch: np.ndarray, frames: np.ndarray, limit: float, frame_rate_hz: int, is_own: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """Pitch [n] of the voiced frames of one note → the same with slips shifted and hiccups as NaN."""
    # Across a gap pitch had more time to move.
    jumps = np.abs(np.diff(pitch)) > limit * np.minimum(np.diff(frames), 4)
    borders = np.concatenate([[0], np.flatnonzero(jumps) + 1, [len(pitch)]])
    pieces = list(itertools.pairwise(borders))
    pitch = pitch.copy()
    shortest = SHORTEST_PIECE_S * frame_rate_hz
    longest_slip = LONGEST_SLIP_S * frame_rate_hz
    solid = [stop - start >= shortest for start, stop in pieces]
    if not any(solid):
        return pitch  # all of it is unsteady: better as it is than not at all
    for i, (start, stop) in enumerate(pieces):
        if not solid[i] and any(solid):
            pitch[start:stop] = np.nan
    kept = [piece for piece, is_solid in zip(pieces, solid, strict=True) if is_solid]
    for i, (start, stop) in enumerate(kept):
        if stop - start > longest_slip or len(kept) < 2:
            continue
        before = pitch[kept[i - 1][1] - 1] if i else None
        after = pitch[kept[i + 1][0]] if i + 1 < len(kept) else None
        # A neighbour that is itself short proves nothing at the edge of a note.
        if before is None and kept[i + 1][1] - kept[i + 1][0] < 2 * (stop - start):
            continue
        if after is None and kept[i - 1][1] - kept[i - 1][0] < 2 * (stop - start):
            continue
        shift = _slip(pitch[start], pitch[stop - 1], before, after)
        if shift and not is_own(frames[start:stop]):
            pitch[start:stop] += shift
    return pitch


def _slip(first: float, last: float, before: float | None, after: float | None) -> float:
    """The shift in semitones that joins a piece smoothly to all its neighbours, or 0."""
    for shift in SLIPS_SEMITONES:
        ends = [(first, before), (last, after)]
        if all(abs(own + shift - other) <= SLIP_TOLERANCE_SEMITONES for own, other in ends if other is not None):
            return shift
    return 0.0


def fill(
    midi: np.ndarray,
    segments: Segments,
    frame_rate_hz: int,
    loudness_db: np.ndarray | None = None,
    default_midi: float = 69.0,
) -> np.ndarray:
    """Pitch for every frame: bridged across gaps inside notes, held through rests.

    A small step across a gap is a straight line. A large one happens at once, where the sound is softest: a player
    changes the note there, and does not slide. A rest keeps the pitch of the note before it until shortly before the
    next one, whose pitch it then takes, so that no note starts with a glide from the last.

    Args:
      midi: [F], NaN where unknown.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      loudness_db: [F], finds the softest frame of a gap; without it the middle is taken.
      default_midi: where no note is at all.

    Returns:
      [F] float64 without NaN.
    """
    n_frames = len(midi)
    inside = segments.mask
    out = np.where(inside, midi, np.nan).astype(np.float64)
    if np.isnan(out).all():
        return np.full(n_frames, default_midi)
    lead = round(LEAD_S * frame_rate_hz)
    for start, stop in zip(*runs(np.isnan(out)), strict=True):
        if start == 0 or stop == n_frames:
            out[start:stop] = out[stop] if start == 0 else out[start - 1]
            continue
        before, after = out[start - 1], out[stop]
        if not inside[start:stop].all():
            rest = np.flatnonzero(~inside[start:stop]) + start
            turn = max(int(rest[0]), (int(rest[0]) + int(rest[-1]) + 1) // 2, int(rest[-1]) + 1 - lead)
        elif abs(after - before) <= LARGEST_BRIDGE_SEMITONES:
            out[start:stop] = np.interp(np.arange(start, stop), [start - 1, stop], [before, after])
            continue
        else:
            turn = (start + stop) // 2 if loudness_db is None else start + int(np.argmin(loudness_db[start:stop]))
        out[start:turn], out[turn:stop] = before, after
    return out


def to_midi(f0_hz: np.ndarray) -> np.ndarray:
    """[F] Hz to MIDI numbers; 0 where there is no pitch."""
    return np.asarray(scaling.hz_to_midi(np.asarray(f0_hz, np.float64)))
