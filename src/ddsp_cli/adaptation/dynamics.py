"""Map the levels of a performance to levels of the instrument, and silence its rests. Shapes: F frames, N values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddsp_cli import spool
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import DoubleArray, FloatArray, RealArray, percentiles, runs

#: Percentiles between which levels are matched. The ends are left out: they are single moments.
MATCHED_PERCENTILES = np.arange(5.0, 96.0, 10.0)

#: Levels further than this below the loud ones (95th percentile) are the ends of notes, or the room. They take no part
#: in the matching, and keep their distance to the notes.
DYNAMICS_DB = 25.0

#: How much the matching may compress or expand differences of level. Without bounds the small unevenness of a
#: performance at constant level would become the whole range of the instrument.
SLOPES = (0.35, 1.6)

#: How far a consonant lets the level dip below that of the vowels around it.
ARTICULATION_DB = 9.0

#: By how much the envelope may differ from the power that drives an instrument. The window of that power reaches out of
#: a segment at both ends, where the sound is not the note's.
FAST_ENVELOPE_RANGE_DB = (-20.0, 6.0)

#: The level before and after a segment falls towards silence this fast.
ATTACK_DB_PER_S = 1200.0

RELEASE_DB_PER_S = 500.0

#: Length of the ramps of the gate, outside the segment.
RAMP_S = 0.014

#: Lowest and highest percentile of its levels that drive an instrument. Softer levels are rare in recordings, so it
#: would play little but breath; louder ones were not recorded. Beyond them the tone is attenuated, or amplified by at
#: most `MAX_GAIN_DB`.
PLAYABLE_PERCENTILES = (15.0, 99.5)

MAX_GAIN_DB = 6.0

#: Levels and gates are computed this many frames at a time, so that a day of them takes little memory.
FRAMES_AT_ONCE = 1 << 15


def within_reach(level_db: RealArray, target_percentiles_db: RealArray) -> tuple[RealArray, RealArray]:
    """Limits levels to those that the instrument can play.

    Args:
      level_db: [F], requested.
      target_percentiles_db: [101], levels of the instrument.

    Returns:
      Levels [F] that drive the instrument, and the gain in dB [F] that makes up the difference.
    """
    softest, loudest = np.interp(PLAYABLE_PERCENTILES, np.arange(101), target_percentiles_db)
    played = np.clip(level_db, softest, loudest)
    return played, np.minimum(level_db - played, MAX_GAIN_DB)


class LevelMap:
    """A rising curve from levels of the performance to levels of the instrument.

    Linear between the given points, continued at slope 1 beyond them.

    Args:
      own_db: [N], levels of the performance, rising.
      target_db: [N], levels of the instrument.
    """

    def __init__(self, own_db: RealArray, target_db: RealArray) -> None:
        self.own_db = np.asarray(own_db, np.float64)
        self.target_db = np.asarray(target_db, np.float64)

    def __call__(self, level_db: RealArray) -> DoubleArray:
        """Maps levels [F]."""
        level_db = np.asarray(level_db, np.float64)
        inside = np.interp(level_db, self.own_db, self.target_db)
        beyond = level_db - np.clip(level_db, self.own_db[0], self.own_db[-1])
        return inside + beyond


def match_levels(own_db: RealArray, target_percentiles_db: RealArray, dynamics: float = 1.0) -> LevelMap:
    """Matches quantiles: soft levels of the performance become soft levels of the instrument, loud ones loud.

    Slopes stay within `SLOPES` and the medians meet, so the curve always rises and is never steep: differences of level
    keep their order, and nothing pumps.

    Args:
      own_db: [N], levels of the voiced frames.
      target_percentiles_db: [101], levels of the instrument.
      dynamics: 0 shifts only, 1 matches.
    """
    own_db = own_db[own_db >= percentiles(own_db, 95.0) - DYNAMICS_DB]
    own = percentiles(own_db, MATCHED_PERCENTILES)
    target = np.interp(MATCHED_PERCENTILES, np.arange(101), target_percentiles_db)
    own_median = float(percentiles(own_db, 50.0))
    target_median = float(np.interp(50.0, np.arange(101), target_percentiles_db))
    steps = np.diff(own)
    slopes = np.clip(np.diff(target) / np.maximum(steps, 1e-3), *SLOPES)
    slopes = 1.0 + dynamics * (slopes - 1.0)
    curve = np.concatenate([[0.0], np.cumsum(slopes * steps)])
    curve += target_median - np.interp(own_median, own, curve)
    return LevelMap(own, curve)


def fast_envelope_db(envelope_db: RealArray, power_db: RealArray) -> DoubleArray:
    """Returns the envelope [F] above the power [F] in its longer window, within `FAST_ENVELOPE_RANGE_DB`."""
    return np.clip(envelope_db.astype(np.float64) - power_db, *FAST_ENVELOPE_RANGE_DB)


def fast_envelope_gain_db(
    level_map: Callable[[RealArray], DoubleArray], level_db: RealArray, envelope_db: RealArray, power_db: RealArray
) -> DoubleArray:
    """Computes the gain [F] in dB that restores attacks and releases.

    The level that drives an instrument is the power in 64 ms, because the instrument has learned to follow that; an
    attack takes 20 ms. The gain is scaled as the rest of the dynamics.

    Args:
      level_map: from levels of the performance to levels of the instrument.
      level_db: [F] of the performance, mapped.
      envelope_db: [F] of the performance, in a shorter window.
      power_db: [F] of the performance, in the window of the level.
    """
    return np.asarray(level_map(level_db + fast_envelope_db(envelope_db, power_db)) - level_map(level_db))


def tame_consonants(level_db: RealArray, segments: Segments) -> RealArray:
    """Makes the unvoiced parts of segments softer than the voiced ones around them.

    An s between two vowels would otherwise become an accent, or vanish in a held tone. A player tongues there: the
    level dips by `ARTICULATION_DB`, deepest in the middle.

    Args:
      level_db: [F] of the performance.
      segments: stretches between rests.

    Returns:
      Levels [F].
    """
    out = spool.copy(level_db)
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        voiced = segments.voiced[start:stop]
        if not voiced.any():
            continue
        frames = np.arange(stop - start)
        ceiling = np.interp(frames, frames[voiced], level_db[start:stop][voiced])
        for first, end in zip(*runs(~voiced), strict=True):
            if first > 0 and end < len(voiced):  # before and after the voiced frames nothing is divided
                ceiling[first:end] -= ARTICULATION_DB * np.sin(
                    np.pi * (frames[first:end] - first + 0.5) / (end - first)
                )
        out[start:stop] = np.minimum(out[start:stop], ceiling)
    return out


def rest_levels(level_db: RealArray, segments: Segments, frame_rate_hz: int, floor_db: float) -> RealArray:
    """Lets levels [F] fall to the floor outside segments, by `ATTACK_DB_PER_S` before and `RELEASE_DB_PER_S` after."""
    out = spool.empty(len(level_db), level_db.dtype.type)
    out[:] = floor_db
    before, after = ATTACK_DB_PER_S / frame_rate_hz, RELEASE_DB_PER_S / frame_rate_hz
    for i in range(len(segments)):
        start, stop = int(segments.starts[i]), int(segments.stops[i])
        out[start:stop] = level_db[start:stop]
        last = int(segments.stops[i - 1]) if i else 0
        rise = level_db[start] - before * np.arange(start - last, 0, -1)
        out[last:start] = np.maximum(out[last:start], rise)
        following = int(segments.starts[i + 1]) if i + 1 < len(segments) else len(level_db)
        if stop > start:
            fall = level_db[stop - 1] - after * np.arange(1, following - stop + 1)
            out[stop:following] = np.maximum(out[stop:following], fall)
    return np.maximum(out, floor_db, out=out)


def make_gate(segments: Segments, frame_rate_hz: int) -> FloatArray:
    """Makes the gate [F]: 1 in segments, 0 in rests, ramps of `RAMP_S` between them, outside the segments."""
    ramp = max(1, round(RAMP_S * frame_rate_hz))
    kernel = 1.0 - np.abs(np.arange(-ramp, ramp + 1)) / (ramp + 1)
    inside = segments.mask
    out = spool.empty(len(inside))
    for start in range(0, len(out), FRAMES_AT_ONCE):
        part = out[start : start + FRAMES_AT_ONCE]
        part[:] = 0.0
        for offset, value in zip(range(-ramp, ramp + 1), kernel, strict=True):
            first, end = max(start - offset, 0), min(start + len(part) - offset, len(inside))
            if first < end:
                reached = part[first + offset - start : end + offset - start]
                np.maximum(reached, inside[first:end] * np.float32(value), out=reached)
    return out
