"""Find segments, stretches of sound between two rests, by loudness and confidence of pitch.

A legato phrase is one segment of many notes; `analysis.melody` finds those. Pure functions on frame arrays [F];
durations are in seconds, so any frame rate will do. Shapes: F frames, N segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ddsp_cli import spool
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import BoolArray, IntArray, RealArray, percentiles, runs, spans_to_mask, thinned

#: The loudness beside a gap is the highest within this of it.
NEAR_S = 0.1

#: The noise between segments is measured at this distance from voiced frames. Nearer lie their onsets and their
#: reverberation, and in quick playing there is nothing else: soft notes would be taken for noise.
APART_S = 0.08

#: Frames compared at once, so that a day of them takes little memory.
_FRAMES_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class SegmentSettings:
    """Thresholds of a segment. Levels are relative to the peak, so that recordings need not be loud.

    The peak is the 95th percentile of the loudness of voiced frames. A frame is possible in a segment with
    `possible_confidence` and a loudness above the lower threshold, and sure with `sure_confidence` and a loudness above
    the upper one. A stretch of possible frames is a segment if enough of them are sure, or loud.

    Attributes:
      sure_confidence: confidence of the pitch of a sure frame.
      sure_s: duration of the sure frames of a segment, in total.
      unsure_s: or duration of its possible frames that are at most `headroom_db` below the peak.
      possible_confidence: confidence of the pitch of a possible frame.
      below_peak_db: distance of the upper threshold below the peak.
      hold_below_peak_db: distance of the lower threshold below the peak.
      above_floor_db: least distance of the upper threshold above the noise between segments, in which trackers find a
        confident pitch too.
      hold_above_floor_db: least distance of the lower threshold above that noise.
      headroom_db: noise raises the upper threshold at most to this far below the peak.
      shortest_s: a shorter stretch is a click or a breath.
      bridge_s: a gap in pitch up to this long is a consonant, not a rest. Singers' notes that listeners hear as bound
        lie up to 0.16 s apart, rests last 0.24 s and more (vocadito, Bittner et al. 2021, track 1).
      bridge_loud_s: a gap up to this long is bridged where the sound lasts: no player rests during a long s.
      bridge_loud_db: the sound lasts if its median in the gap is less than this below the softer of the two sides ...
      bridge_above_floor_db: ... and at least this far above the noise between segments.
      attack_s: how long before the first voiced frame a segment begins.
      release_s: how long after the last voiced frame a fading sound may last.
    """

    sure_confidence: float = 0.75
    sure_s: float = 0.03
    unsure_s: float = 0.1
    possible_confidence: float = 0.5
    below_peak_db: float = 35.0
    hold_below_peak_db: float = 45.0
    above_floor_db: float = 6.0
    hold_above_floor_db: float = 4.0
    headroom_db: float = 15.0
    shortest_s: float = 0.055
    bridge_s: float = 0.13
    bridge_loud_s: float = 0.3
    bridge_loud_db: float = 20.0
    bridge_above_floor_db: float = 5.0
    attack_s: float = 0.016
    release_s: float = 0.08

    def with_threshold(self, below_peak_db: float) -> SegmentSettings:
        """Returns these settings with another `below_peak_db`; `hold_below_peak_db` keeps its default distance."""
        hold_db = below_peak_db + SegmentSettings.hold_below_peak_db - SegmentSettings.below_peak_db
        return replace(self, below_peak_db=below_peak_db, hold_below_peak_db=hold_db)


@dataclass(frozen=True)
class Segments:
    """The segments of a performance, in order, without overlap.

    Attributes:
      starts: [N], first frame of each, margins included.
      stops: [N], frame after the last.
      voiced: [F], frames inside segments whose pitch was measured; the others inside segments are bridged.
      on_db: loudness that a segment had to reach.
      floor_db: loudness of the noise between segments.
    """

    starts: IntArray
    stops: IntArray
    voiced: BoolArray
    on_db: float
    floor_db: float

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mask(self) -> BoolArray:
        """[F], true inside segments."""
        return spans_to_mask(self.starts, self.stops, len(self.voiced))


class _Thresholds(NamedTuple):
    """Loudness of the two thresholds (see `SegmentSettings`), of the noise between segments, and of loud frames."""

    on_db: float
    off_db: float
    floor_db: float
    loud_db: float


def _thresholds(features: Features, settings: SegmentSettings) -> _Thresholds:
    loudness = features.loudness_db
    voiced = np.empty(len(features), bool)
    for part in _blocks(len(features)):
        voiced[part] = (features.f0_hz[part] > 0) & (features.f0_confidence[part] >= settings.possible_confidence)
    if not voiced.any():
        return _Thresholds(np.inf, np.inf, float(features.spec.floor_db), np.inf)
    peak_db = float(percentiles(thinned(loudness[voiced]), 95))
    between = loudness[_apart(voiced, round(APART_S * features.spec.frame_rate_hz))]
    enough = 0.1 * features.spec.frame_rate_hz
    floor_db = float(percentiles(thinned(between), 20)) if len(between) >= enough else float(features.spec.floor_db)
    on_db = max(peak_db - settings.below_peak_db, floor_db + settings.above_floor_db)
    off_db = max(peak_db - settings.hold_below_peak_db, floor_db + settings.hold_above_floor_db)
    loud_db = peak_db - settings.headroom_db
    on_db = min(on_db, loud_db)
    return _Thresholds(on_db, min(off_db, on_db - 3.0), floor_db, loud_db)


def _blocks(n_frames: int) -> Iterator[slice]:
    """Yields frames in blocks; the pages of long curves are released after each."""
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
        yield slice(start, start + _FRAMES_AT_ONCE)
        spool.release()


def _apart(voiced: BoolArray, distance: int) -> BoolArray:
    """Marks the frames [F] that are further than `distance` frames from any voiced one."""
    counted = np.cumsum(np.pad(voiced, (distance + 1, distance)), dtype=np.int32)
    return np.asarray(counted[2 * distance + 1 :] == counted[: len(voiced)])


def find_segments(features: Features, settings: SegmentSettings | None = None) -> Segments:
    """Finds segments by hysteresis: stretches of possible frames, kept where enough of them are sure.

    Args:
      features: of the performance.
      settings: of segments.
    """
    settings = settings or SegmentSettings()
    rate_hz = features.spec.frame_rate_hz
    on_db, off_db, floor_db, loud_db = _thresholds(features, settings)
    loudness, confidence = features.loudness_db, features.f0_confidence
    possible, sure, loud = np.empty((3, len(features)), bool)
    for part in _blocks(len(features)):
        possible[part] = (features.f0_hz[part] > 0) & (confidence[part] >= settings.possible_confidence)
        possible[part] &= loudness[part] > off_db
        sure[part] = possible[part] & (confidence[part] >= settings.sure_confidence) & (loudness[part] > on_db)
        loud[part] = possible[part] & (loudness[part] > loud_db)
    starts, stops = runs(possible)
    # every stretch must itself be certain enough before it is joined to others
    keep = _counts(sure, starts, stops) >= max(1, round(settings.sure_s * rate_hz))
    keep |= _counts(loud, starts, stops) >= settings.unsure_s * rate_hz
    starts, stops = starts[keep], stops[keep]
    starts, stops = _bridge(starts, stops, loudness, floor_db + settings.bridge_above_floor_db, rate_hz, settings)
    keep = stops - starts >= settings.shortest_s * rate_hz
    starts, stops = starts[keep], stops[keep]
    voiced = possible & spans_to_mask(starts, stops, len(features))
    starts, stops = _margins(starts, stops, loudness, off_db, rate_hz, settings)
    return Segments(starts, stops, voiced, on_db, floor_db)


def _counts(mask: BoolArray, starts: IntArray, stops: IntArray) -> IntArray:
    """Counts the true frames of a mask [F] in each span, [N]; no span is empty."""
    edges = np.stack([starts, stops], axis=1).ravel()
    if not len(edges):
        return np.zeros(0, np.int64)
    return np.add.reduceat(mask, edges[:-1] if edges[-1] == len(mask) else edges, dtype=np.int64)[::2]


def _bridge(
    starts: IntArray,
    stops: IntArray,
    loudness: RealArray,
    least_db: float,
    rate_hz: int,
    settings: SegmentSettings,
) -> tuple[IntArray, IntArray]:
    """Joins segments that a consonant separates: a short gap, or a longer one in which the sound lasts."""
    if len(starts) < 2:
        return starts, stops
    gaps = starts[1:] - stops[:-1]
    apart = gaps > round(settings.bridge_s * rate_hz)
    near = round(NEAR_S * rate_hz)
    for i in np.flatnonzero(apart & (gaps <= settings.bridge_loud_s * rate_hz)):
        stop, start = int(stops[i]), int(starts[i + 1])
        sides = min(loudness[max(stop - near, 0) : stop].max(), loudness[start : start + near].max())
        usual = float(percentiles(loudness[stop:start], 50))
        apart[i] = usual < max(sides - settings.bridge_loud_db, least_db)
    return starts[np.concatenate([[True], apart])], stops[np.concatenate([apart, [True]])]


def _margins(
    starts: IntArray,
    stops: IntArray,
    loudness: RealArray,
    off_db: float,
    rate_hz: int,
    settings: SegmentSettings,
) -> tuple[IntArray, IntArray]:
    """Adds the attack and the fading release, as far as the neighbouring segments leave room."""
    n_frames = len(loudness)
    attack = round(settings.attack_s * rate_hz)
    longest = round(settings.release_s * rate_hz)
    new_starts, new_stops = starts.copy(), stops.copy()
    for i in range(len(starts)):
        stop = int(stops[i])
        limit = min(n_frames, stop + longest, int(starts[i + 1]) - attack if i + 1 < len(starts) else n_frames)
        tail = loudness[stop:limit]
        # the segment lasts while the sound fades; a new rise is breath or a consonant
        fading = (tail > off_db) & (
            tail <= np.minimum.accumulate(np.concatenate([loudness[stop - 1 : stop], tail]))[:-1] + 1.0
        )
        length = len(tail) if fading.all() else int(np.argmin(fading))
        new_stops[i] = stop + length
        new_starts[i] = max(int(starts[i]) - attack, int(new_stops[i - 1]) if i else 0)
    return new_starts, np.maximum(new_stops, new_starts)
