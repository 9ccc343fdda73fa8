"""Find the onsets of notes in the curves that drive an instrument.

Notes begin after a rest or bound to the note before. Onsets are found frame by frame: a stream finds the same as a
whole performance, and live playing adds no latency. The articulation (`synthesis.articulation`) and the timbre of each
note (`synthesis.variation`) begin there.

Shape: F frames.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np

from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray
from ddsp_cli.bundle import Bundle

#: A note begins where the level rises by this much within `RISE_S`, after it has fallen by `DIP_DB` from the peak of
#: the note before, and is not more than `QUIET_DB` below the soft notes of the instrument.
RISE_DB, RISE_S, DIP_DB, QUIET_DB = 9.0, 0.2, 9.0, 12.0

#: The percentile of the level that counts as a soft note.
SOFT_PERCENTILE = 5

#: A bound note begins where F0 moves by this interval within `STEP_S`, and as far from its mean over `BEFORE_S`:
#: more than in a vibrato. Onsets are at least `SHORTEST_S` apart.
STEP_SEMITONES, STEP_S, BEFORE_S, SHORTEST_S = 0.8, 0.04, 0.2, 0.1

#: Levels below this count as silence.
SILENT_DB = -120.0

#: A note after a rest begins hard where the level rises by this much in `HARD_S`.
HARD_DB, HARD_S = 8.0, 0.02

#: How a note began: softly or hard after a rest, or bound to the one before.
UNKNOWN, SOFT, HARD, BOUND = 0, 1, 2, 3

#: The fall of the level is counted from its peak within this time.
FALL_S = 0.3


class Onsets(msgspec.Struct, frozen=True):
    """Beginning and fall of the note that each frame belongs to.

    Attributes:
      kinds: [F] how it began: `UNKNOWN`, `SOFT`, `HARD` or `BOUND`.
      since_s: [F] seconds since then.
      fallen_db: [F] how far the level lies below its peak of the last `FALL_S` within the note.
    """

    kinds: np.ndarray
    since_s: DoubleArray
    fallen_db: DoubleArray

    @property
    def begins(self) -> BoolArray:
        """The frames in which a note begins, [F]."""
        return (self.kinds != UNKNOWN) & (self.since_s == 0.0)


class OnsetDetector:
    """Finds the onsets of notes in the curves that drive an instrument, frame by frame.

    Args:
      frame_rate_hz: of the level.
      soft_db: the level of soft notes of the instrument.
    """

    def __init__(self, frame_rate_hz: float, soft_db: float) -> None:
        self._rate, self._least_db = frame_rate_hz, soft_db - QUIET_DB
        self._step = max(1, round(STEP_S * frame_rate_hz))
        self._rise: deque[float] = deque(maxlen=max(2, round(RISE_S * frame_rate_hz)))
        self._fall: deque[float] = deque(maxlen=max(2, round(FALL_S * frame_rate_hz)))
        self._pitches: deque[float] = deque(maxlen=self._step + max(1, round(BEFORE_S * frame_rate_hz)))
        self._peak_db = self._valley_db = SILENT_DB  # of the note, and the lowest level since its peak
        self._is_first = True
        self._kind, self._since = UNKNOWN, 0

    def push(self, f0_hz: FloatArray, level_db: FloatArray, gate: FloatArray | None) -> Onsets:
        """Finds the onsets in the next frames.

        Args:
          f0_hz: [F·p]; of each frame the last value counts, which is known with it.
          level_db: [F].
          gate: [F·n], or None; of each frame the largest value counts.
        """
        n_frames = len(level_db)
        played_db = np.asarray(level_db, np.float64)
        if gate is not None:
            played_db = played_db + 20.0 * np.log10(np.maximum(gate.reshape(n_frames, -1).max(axis=1), 1e-9))
        played_db = np.maximum(played_db, SILENT_DB)
        midi = 12.0 * np.log2(np.maximum(f0_hz.reshape(n_frames, -1)[:, -1].astype(np.float64), 1.0))
        kinds, since, fallen_db = np.zeros(n_frames, int), np.zeros(n_frames), np.zeros(n_frames)
        for i, (db, pitch) in enumerate(zip(played_db.tolist(), midi.tolist(), strict=True)):
            self._since += 1
            if self._begins(db):
                is_hard = (db - self._rise[-1]) * HARD_S * self._rate >= HARD_DB
                self._kind, self._since, self._peak_db, self._valley_db = HARD if is_hard else SOFT, 0, db, db
                for past in (self._rise, self._fall, self._pitches):
                    past.clear()
            elif self._is_bound(db, pitch):
                self._kind, self._since = BOUND, 0
            self._follow(db, pitch)
            kinds[i], since[i], fallen_db[i] = self._kind, self._since / self._rate, max(self._fall) - db
        return Onsets(kinds, since, fallen_db)

    def _follow(self, level_db: float, pitch: float) -> None:
        if self._is_first and level_db < self._least_db:  # a silence at the start comes after a rest
            self._peak_db = 0.0
        self._is_first = False
        self._valley_db = min(self._valley_db, level_db)
        if level_db >= self._peak_db:
            self._peak_db = self._valley_db = level_db
        self._rise.append(level_db)
        self._fall.append(level_db)
        self._pitches.append(pitch)

    def _begins(self, level_db: float) -> bool:
        if level_db < self._least_db or not self._rise:
            return False
        return level_db - min(self._rise) >= RISE_DB and self._peak_db - self._valley_db >= DIP_DB

    def _is_bound(self, level_db: float, pitch: float) -> bool:
        if level_db < self._least_db or self._since < SHORTEST_S * self._rate or len(self._pitches) <= self._step:
            return False
        before = list(self._pitches)
        moved = pitch - before[-self._step]
        away = pitch - math.fsum(before[: -self._step]) / (len(before) - self._step)
        return min(abs(moved), abs(away)) >= STEP_SEMITONES and moved * away > 0.0


def detector_of(bundle: Bundle) -> OnsetDetector:
    """Makes the detector of onsets for an instrument."""
    model = bundle.card.model
    return OnsetDetector(model.frame_rate_hz, float(bundle.card.statistics.level(model.level)[SOFT_PERCENTILE]))
