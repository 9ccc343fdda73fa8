"""Correct octave errors of a tracked F0 by its harmonicity, and remove blips.

A tracker that takes another harmonic, or half of F0, for F0 leaves energy beside or between the multiples
(`analysis.harmonics`). Where another F0, that of the notes around it or one an octave away, accounts for the sound
and the tracked one does not, it is taken instead. Shapes: F frames of the features, L frames of the harmonicity.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddsp_cli.analysis import harmonics
from ddsp_cli.analysis.harmonics import FRAME_RATE_HZ, Harmonicity
from ddsp_cli.arrays import AnyArray, BoolArray, FloatArray

#: F0 with a lower inharmonic ratio accounts for the sound; with one above `DOUBTFUL` it does not.
EXPLAINED = 0.1

DOUBTFUL = 0.3

#: Notes have at least this odd harmonic ratio (the fundamental is odd). Of the single voices in the training sets 1 %
#: of the frames have less than 0.03; tracked an octave too low, 90 % have less than 0.02.
LEAST_ODD = 0.02

#: A note tracked an octave too high has this half-harmonic ratio, and this fundamental ratio at its true F0. The second
#: condition distinguishes it from two voices a fifth apart, whose common lower octave nobody plays.
LEAST_HALF_HARMONIC, LEAST_FUNDAMENTAL = 0.3, 0.01

#: F0 of a note before or after is a candidate up to this distance.
REACH_S = 0.2

#: Shorter runs between two jumps are errors of the tracker, at any F0.
BLIP_S = 0.04

JUMP_SEMITONES = 2.0

#: Ratios that trackers confuse. A correction nearer than `RATIO_CENTS` to one of them multiplies the tracked F0 by it,
#: and keeps its course.
RATIOS = np.array([0.25, 1.0 / 3.0, 0.5, 2.0, 3.0, 4.0])

RATIO_CENTS = 60.0


@dataclass(frozen=True)
class Corrected:
    """A corrected F0.

    Attributes:
      f0_hz: [F], 0 in unvoiced frames.
      harmonicity: of the corrected F0.
      corrected: [F] bool, where another F0 was taken.
      removed: [F] bool, where a blip was made unvoiced.
    """

    f0_hz: FloatArray
    harmonicity: Harmonicity
    corrected: BoolArray
    removed: BoolArray


def correct_octaves(
    read: Callable[[int, int], FloatArray], n_samples: int, f0_hz: FloatArray, frame_rate_hz: int
) -> Corrected:
    """Corrects a tracked F0.

    Args:
      read: (start, end) → the samples [start, end) at 16 kHz, both inside the recording.
      n_samples: of the recording.
      f0_hz: [F], 0 in unvoiced frames.
      frame_rate_hz: of f0_hz.
    """
    found = harmonics.measure_harmonicity(read, n_samples, f0_hz, frame_rate_hz)
    inharmonic, odd = found.inharmonic_ratio, found.odd_harmonic_ratio
    n_frames = len(inharmonic)
    pitch_hz = harmonics.from_feature_frames(f0_hz, n_frames, frame_rate_hz)
    high = (pitch_hz > 0) & (inharmonic > DOUBTFUL)
    low = (pitch_hz > 0) & (inharmonic <= DOUBTFUL) & (odd < LEAST_ODD) & (found.energy > 0)
    sure = (pitch_hz > 0) & (inharmonic < EXPLAINED) & (odd >= LEAST_ODD)
    better_hz = np.zeros(n_frames)
    least = np.where(high, inharmonic, np.inf)
    before_hz, after_hz = _nearest(pitch_hz, sure)
    octave_down = np.where(high & (found.half_harmonic_ratio >= LEAST_HALF_HARMONIC), pitch_hz / 2.0, 0.0)
    candidates = [
        (np.where(high | low, before_hz, 0.0), 0.0),
        (np.where(high | low, after_hz, 0.0), 0.0),
        (octave_down, LEAST_FUNDAMENTAL),
        (np.where(low, pitch_hz * 2.0, 0.0), 0.0),
    ]
    for candidate_hz, least_fundamental in candidates:
        other = (candidate_hz > 0) & (np.abs(_semitones(candidate_hz, pitch_hz)) > 1.0)
        if not other.any():
            continue
        curve_hz = harmonics.to_feature_frames(np.where(other, candidate_hz, 0.0), len(f0_hz), frame_rate_hz)
        tried = harmonics.measure_harmonicity(read, n_samples, curve_hz, frame_rate_hz)
        accepted = other & (tried.inharmonic_ratio < EXPLAINED) & (tried.odd_harmonic_ratio >= LEAST_ODD)
        accepted &= tried.fundamental_ratio >= least_fundamental
        accepted &= (tried.inharmonic_ratio < least - 0.1) | low
        better_hz = np.where(accepted, candidate_hz, better_hz)
        least = np.where(accepted, tried.inharmonic_ratio, least)
        low &= ~accepted
    corrected_hz = _apply(f0_hz, better_hz, pitch_hz, frame_rate_hz)
    corrected = corrected_hz != f0_hz
    kept_hz, removed = _remove_blips(corrected_hz, frame_rate_hz)
    if corrected.any():
        found = harmonics.measure_harmonicity(read, n_samples, kept_hz, frame_rate_hz)
    return Corrected(kept_hz, found, corrected & ~removed, removed)


def _nearest(pitch_hz: AnyArray, sure: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Returns the last sure F0 before each frame and the first after it, within `REACH_S`, else 0."""
    reach = round(REACH_S * FRAME_RATE_HZ)
    index = np.arange(len(pitch_hz))

    def held(order: AnyArray) -> AnyArray:
        known = np.maximum.accumulate(np.where(sure[order], index, -1))
        near = (known >= 0) & (index - known <= reach)
        values = np.where(near, pitch_hz[order][np.maximum(known, 0)], 0.0)
        return values[order]

    return held(index), held(index[::-1])


def _semitones(a_hz: AnyArray, b_hz: AnyArray) -> AnyArray:
    both = (a_hz > 0) & (b_hz > 0)
    return np.where(both, 12.0 * np.log2(np.where(both, a_hz, 1.0) / np.where(both, b_hz, 1.0)), 0.0)


def _apply(f0_hz: AnyArray, better_hz: AnyArray, pitch_hz: AnyArray, frame_rate_hz: int) -> AnyArray:
    """Brings corrections [L] to the features: as a factor where they are near one of `RATIOS`, else as they are."""
    ratio = np.where(better_hz > 0, better_hz / np.where(pitch_hz > 0, pitch_hz, 1.0), 1.0)
    nearest = RATIOS[np.argmin(np.abs(np.log2(ratio[:, None] / RATIOS)), axis=1)]
    exact = np.abs(1200.0 * np.log2(ratio / nearest)) <= RATIO_CENTS
    factor = np.where(better_hz > 0, np.where(exact, nearest, ratio), 1.0)
    factors = harmonics.to_feature_frames(factor, len(f0_hz), frame_rate_hz)
    tracked = harmonics.to_feature_frames(pitch_hz, len(f0_hz), frame_rate_hz)
    # Within one frame of the harmonicity F0 may jump: only frames near the measured F0 are corrected.
    meant = (f0_hz > 0) & (np.abs(_semitones(f0_hz, tracked)) < 1.0)
    return np.where(meant, f0_hz * factors, f0_hz).astype(np.float32)


def _remove_blips(f0_hz: AnyArray, frame_rate_hz: int) -> tuple[AnyArray, AnyArray]:
    """Makes short runs that jump away from their neighbours unvoiced; returns F0 and where that was done."""
    previous, current = f0_hz[:-1], f0_hz[1:]
    jump = (previous > 0) & (current > 0) & (np.abs(_semitones(current, previous)) > JUMP_SEMITONES)
    edge = jump | ((previous > 0) != (current > 0))
    bounds = np.concatenate([[0], np.flatnonzero(edge) + 1, [len(f0_hz)]])
    removed = np.zeros(len(f0_hz), bool)
    jumps = np.concatenate([[False], jump, [False]])
    for start, end in itertools.pairwise(bounds):
        short = end - start < BLIP_S * frame_rate_hz
        if short and f0_hz[start] > 0 and (jumps[start] or jumps[end]):
            removed[start:end] = True
    return np.where(removed, np.float32(0.0), f0_hz), removed
