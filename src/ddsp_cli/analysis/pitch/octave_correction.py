"""Pitch errors found by listening again: octaves mended, blips silenced.

A tracker that takes a partial for the fundamental (or half of it) leaves a trace that `voices` sees. Where another
pitch, that of the notes around it or an octave away, explains the sound and the tracked one does not, it is taken
instead. Shapes: F frames, L looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddsp_cli.analysis import harmonicity
from ddsp_cli.analysis.harmonicity import LOOKS_PER_S, Voices

#: A pitch with less stray energy than this explains the sound; one with more than `DOUBTFUL` does not.
EXPLAINED = 0.1

DOUBTFUL = 0.3

#: Notes have at least this share at their odd multiples, the fundamental among them. Of the single voices in the
#: training sets 1 % of the looks have less than 0.03, read an octave too low 90 % have less than 0.02.
LEAST_ODD = 0.02

#: A note read an octave too high has this share halfway between the multiples, and that share at its true pitch. The
#: second condition tells it from two voices a fifth apart, whose common lower octave nobody plays.
LEAST_HALFWAY = 0.3

LEAST_FIRST = 0.01

#: How far the pitch of a note before or after reaches into a doubtful place.
REACH_S = 0.2

#: Shorter runs between two jumps are errors of the tracker, whatever their pitch.
BLIP_S = 0.04

JUMP_SEMITONES = 2.0

#: Octaves, a third and a quarter of the frequency: what trackers confuse. Nearer than this to one of them, a correction
#: keeps the course of the tracked pitch.
RATIOS = np.array([0.25, 1.0 / 3.0, 0.5, 2.0, 3.0, 4.0])

RATIO_CENTS = 60.0


@dataclass(frozen=True)
class Repaired:
    """What remains of a tracked pitch.

    Attributes:
      f0_hz: [F], 0 where there is no pitch.
      voices: of the mended pitch.
      mended: [F] bool, where another pitch was taken.
      silenced: [F] bool, where a blip was taken out.
    """

    f0_hz: np.ndarray
    voices: Voices
    mended: np.ndarray
    silenced: np.ndarray


def repair(read: Callable[[int, int], np.ndarray], n_samples: int, f0_hz: np.ndarray, frame_rate_hz: int) -> Repaired:
    """Mends a tracked pitch; see `voices.explain` for the arguments."""
    found = harmonicity.explain(read, n_samples, f0_hz, frame_rate_hz)
    n_looks = len(found.stray)
    frames = np.round(np.arange(n_looks) * (frame_rate_hz / LOOKS_PER_S)).astype(np.int64)
    pitch_hz = f0_hz[np.minimum(frames, len(f0_hz) - 1)] if len(f0_hz) else np.zeros(n_looks)
    high = (pitch_hz > 0) & (found.stray > DOUBTFUL)
    low = (pitch_hz > 0) & (found.stray <= DOUBTFUL) & (found.odd < LEAST_ODD) & (found.energy > 0)
    sure = (pitch_hz > 0) & (found.stray < EXPLAINED) & (found.odd >= LEAST_ODD)
    better_hz = np.zeros(n_looks)
    stray = np.where(high, found.stray, np.inf)
    before_hz, after_hz = _nearest(pitch_hz, sure)
    octave_down = np.where(high & (found.halfway >= LEAST_HALFWAY), pitch_hz / 2.0, 0.0)
    candidates = [
        (np.where(high | low, before_hz, 0.0), 0.0),
        (np.where(high | low, after_hz, 0.0), 0.0),
        (octave_down, LEAST_FIRST),
        (np.where(low, pitch_hz * 2.0, 0.0), 0.0),
    ]
    for candidate_hz, least_first in candidates:
        # what is no other pitch is no correction
        other = (candidate_hz > 0) & (np.abs(_semitones(candidate_hz, pitch_hz)) > 1.0)
        if not other.any():
            continue
        curve_hz = harmonicity.on_frames(np.where(other, candidate_hz, 0.0), len(f0_hz), frame_rate_hz)
        tried = harmonicity.explain(read, n_samples, curve_hz, frame_rate_hz)
        accepted = other & (tried.stray < EXPLAINED) & (tried.odd >= LEAST_ODD) & (tried.first >= least_first)
        accepted &= (tried.stray < stray - 0.1) | low
        better_hz = np.where(accepted, candidate_hz, better_hz)
        stray = np.where(accepted, tried.stray, stray)
        low &= ~accepted
    mended_hz = _applied(f0_hz, better_hz, pitch_hz, frame_rate_hz)
    mended = mended_hz != f0_hz
    kept_hz, silenced = _without_blips(mended_hz, frame_rate_hz)
    if mended.any():
        found = harmonicity.explain(read, n_samples, kept_hz, frame_rate_hz)
    return Repaired(kept_hz, found, mended & ~silenced, silenced)


def _nearest(pitch_hz: np.ndarray, sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last sure pitch before each look and the first after it, within reach, else 0."""
    reach = round(REACH_S * LOOKS_PER_S)
    index = np.arange(len(pitch_hz))

    def held(order: np.ndarray) -> np.ndarray:
        known = np.maximum.accumulate(np.where(sure[order], index, -1))
        near = (known >= 0) & (index - known <= reach)
        values = np.where(near, pitch_hz[order][np.maximum(known, 0)], 0.0)
        return values[order]

    return held(index), held(index[::-1])


def _semitones(a_hz: np.ndarray, b_hz: np.ndarray) -> np.ndarray:
    both = (a_hz > 0) & (b_hz > 0)
    return np.where(both, 12.0 * np.log2(np.where(both, a_hz, 1.0) / np.where(both, b_hz, 1.0)), 0.0)


def _applied(f0_hz: np.ndarray, better_hz: np.ndarray, pitch_hz: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """Brings corrections [L] to the frames: by their ratio where it is one of trackers' errors, else as they are."""
    ratio = np.where(better_hz > 0, better_hz / np.where(pitch_hz > 0, pitch_hz, 1.0), 1.0)
    nearest = RATIOS[np.argmin(np.abs(np.log2(ratio[:, None] / RATIOS)), axis=1)]
    exact = np.abs(1200.0 * np.log2(ratio / nearest)) <= RATIO_CENTS
    factor = np.where(better_hz > 0, np.where(exact, nearest, ratio), 1.0)
    factors = harmonicity.on_frames(factor, len(f0_hz), frame_rate_hz)
    tracked = harmonicity.on_frames(pitch_hz, len(f0_hz), frame_rate_hz)
    # Within one look the tracker may jump: only frames near the pitch that was looked at are meant.
    meant = (f0_hz > 0) & (np.abs(_semitones(f0_hz, tracked)) < 1.0)
    return np.where(meant, f0_hz * factors, f0_hz).astype(np.float32)


def _without_blips(f0_hz: np.ndarray, frame_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes out short runs that jump away from both neighbours; returns f0 and where that was."""
    previous, current = f0_hz[:-1], f0_hz[1:]
    jump = (previous > 0) & (current > 0) & (np.abs(_semitones(current, previous)) > JUMP_SEMITONES)
    edge = jump | ((previous > 0) != (current > 0))
    bounds = np.concatenate([[0], np.flatnonzero(edge) + 1, [len(f0_hz)]])
    silenced = np.zeros(len(f0_hz), bool)
    jumps = np.concatenate([[False], jump, [False]])
    for start, end in itertools.pairwise(bounds):
        short = end - start < BLIP_S * frame_rate_hz
        if short and f0_hz[start] > 0 and (jumps[start] or jumps[end]):
            silenced[start:end] = True
    return np.where(silenced, np.float32(0.0), f0_hz), silenced
