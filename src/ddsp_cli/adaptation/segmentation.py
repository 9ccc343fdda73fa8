"""Where a performance has notes and where it rests, from loudness and confidence of pitch.

Pure functions on frame arrays, shape [F]; times are in seconds, so any frame rate will do. A note here is a stretch
of sound between two rests: a legato phrase is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import percentiles, runs, spans_to_mask

#: The loudness of a note beside a gap is the highest within this of it.
NEAR_S = 0.1

#: The noise between notes is listened to at this distance from them. Nearer it is their onsets and their reverberation,
#: and in quick playing there is nothing else: soft notes would be taken for noise.
APART_S = 0.08


@dataclass(frozen=True)
class SegmentSettings:
    """What counts as a note. Levels are relative, so that recordings need not be loud.

    Attributes:
      sure_confidence: a note has frames at least this sure of their pitch ...
      sure_s: ... for this long altogether,
      unsure_s: or is loud, at most `headroom_db` below the peak, and only possible for this long,
      possible_confidence: and goes on while frames are this sure.
      below_peak_db: a note rises to within this of the loudest notes (95th percentile of voiced frames),
      hold_below_peak_db: and goes on while it is within this.
      above_floor_db: a note rises this far above the noise between notes, in which trackers hear notes well,
      hold_above_floor_db: and goes on while it is this far above.
      headroom_db: a noisy recording raises the threshold at most to this far below the peak.
      shortest_s: what is shorter is a click or a breath.
      bridge_s: a gap in pitch up to this long inside a note is a consonant, not a rest. Singers' notes that listeners
        hear as bound lie up to 0.16 s apart, rests last 0.24 s and more (vocadito, Bittner et al. 2021, track 1).
      bridge_loud_s: and one up to this long, where the sound hardly falls: no player rests during a long s.
      bridge_loud_db: hardly means by less than this below the softer of the two sides,
      bridge_above_floor_db: and not down to this far above the noise between notes.
      attack_s: how far sound is let in before pitch is found.
      release_s: how far a fading sound may go on after pitch is lost.
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


@dataclass(frozen=True)
class Segments:
    """Frames that hold notes.

    Attributes:
      starts, stops: [N] int, note n is frames starts[n] to stops[n] - 1, margins included; in order, apart.
      voiced: [F] bool, frames inside notes whose pitch was measured; the others inside notes are bridged.
      on_db: the threshold that a note had to reach.
      floor_db: the noise between notes.
    """

    starts: np.ndarray
    stops: np.ndarray
    voiced: np.ndarray
    on_db: float
    floor_db: float

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mask(self) -> np.ndarray:
        """[F] bool, true inside notes."""
        return spans_to_mask(self.starts, self.stops, len(self.voiced))


class _Thresholds(NamedTuple):
    """Loudness in dB: at which notes begin, down to which they go on, of the noise between them, of loud notes."""

    on_db: float
    off_db: float
    floor_db: float
    loud_db: float


def _thresholds(features: Features, settings: SegmentSettings) -> _Thresholds:
    loudness = features.loudness_db
    voiced = (features.f0_hz > 0) & (features.f0_confidence >= settings.possible_confidence)
    if not voiced.any():
        return _Thresholds(np.inf, np.inf, float(features.spec.floor_db), np.inf)
    peak_db = float(percentiles(loudness[voiced], 95))
    between = loudness[_apart(voiced, round(APART_S * features.spec.frame_rate_hz))]
    enough = 0.1 * features.spec.frame_rate_hz
    floor_db = float(percentiles(between, 20)) if len(between) >= enough else float(features.spec.floor_db)
    on_db = max(peak_db - settings.below_peak_db, floor_db + settings.above_floor_db)
    off_db = max(peak_db - settings.hold_below_peak_db, floor_db + settings.hold_above_floor_db)
    loud_db = peak_db - settings.headroom_db
    on_db = min(on_db, loud_db)
    return _Thresholds(on_db, min(off_db, on_db - 3.0), floor_db, loud_db)


def _apart(voiced: np.ndarray, distance: int) -> np.ndarray:
    """Mask [F] of the frames that are further than this from any voiced one."""
    counted = np.cumsum(np.pad(voiced, (distance + 1, distance)), dtype=np.int32)
    return np.asarray(counted[2 * distance + 1 :] == counted[: len(voiced)])


def find_segments(features: Features, settings: SegmentSettings | None = None) -> Segments:
    """Notes by hysteresis: frames that may belong to one, kept where enough of them surely do.

    Args:
      features: of the performance.
      settings: what counts as a note.
    """
    settings = settings or SegmentSettings()
    rate_hz = features.spec.frame_rate_hz
    on_db, off_db, floor_db, loud_db = _thresholds(features, settings)
    loudness, confidence = features.loudness_db, features.f0_confidence
    possible = (features.f0_hz > 0) & (confidence >= settings.possible_confidence) & (loudness > off_db)
    sure = possible & (confidence >= settings.sure_confidence) & (loudness > on_db)
    starts, stops = runs(possible)
    # Every stretch needs some certainty of its own before it may be joined to others.
    n_sure, n_loud = (np.concatenate([[0], np.cumsum(mask)]) for mask in (sure, possible & (loudness > loud_db)))
    keep = n_sure[stops] - n_sure[starts] >= max(1, round(settings.sure_s * rate_hz))
    keep |= n_loud[stops] - n_loud[starts] >= settings.unsure_s * rate_hz
    starts, stops = starts[keep], stops[keep]
    starts, stops = _bridge(starts, stops, loudness, floor_db + settings.bridge_above_floor_db, rate_hz, settings)
    keep = stops - starts >= settings.shortest_s * rate_hz
    starts, stops = starts[keep], stops[keep]
    voiced = possible & spans_to_mask(starts, stops, len(features))
    starts, stops = _margins(starts, stops, loudness, off_db, rate_hz, settings)
    return Segments(starts, stops, voiced, on_db, floor_db)


def _bridge(
    starts: np.ndarray,
    stops: np.ndarray,
    loudness: np.ndarray,
    least_db: float,
    rate_hz: int,
    settings: SegmentSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Joins notes that only a consonant parts: a short gap, or a longer one in which the sound goes on."""
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
    starts: np.ndarray,
    stops: np.ndarray,
    loudness: np.ndarray,
    off_db: float,
    rate_hz: int,
    settings: SegmentSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Lets the attack in and the release fade out, as far as the neighbouring notes leave room."""
    n_frames = len(loudness)
    attack = round(settings.attack_s * rate_hz)
    longest = round(settings.release_s * rate_hz)
    new_starts, new_stops = starts.copy(), stops.copy()
    for i in range(len(starts)):
        stop = int(stops[i])
        limit = min(n_frames, stop + longest, int(starts[i + 1]) - attack if i + 1 < len(starts) else n_frames)
        tail = loudness[stop:limit]
        # The sound may go on as long as it fades; what swells again is breath or a consonant.
        fading = (tail > off_db) & (
            tail <= np.minimum.accumulate(np.concatenate([loudness[stop - 1 : stop], tail]))[:-1] + 1.0
        )
        length = len(tail) if fading.all() else int(np.argmin(fading))
        new_stops[i] = stop + length
        new_starts[i] = max(int(starts[i]) - attack, int(new_stops[i - 1]) if i else 0)
    return new_starts, np.maximum(new_stops, new_starts)
