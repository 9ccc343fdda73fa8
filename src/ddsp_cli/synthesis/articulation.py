"""Articulation: onsets and releases of notes, with noise of bow, breath or tongue, and the order of the harmonics.

The network receives level and F0. Both say little about the beginning of a note, and it averages over the rest. So
the difference between recordings and their resynthesis is measured as a function of the time since the onset
(`training.articulation`), for soft and hard beginnings after a rest and for bound notes, and is added to the controls.
Ends of notes are recognised by the fall of the level, since live playing cannot know the end of a note in advance.

Onsets are found in the curves that are played, frame by frame: a stream finds the same as a whole performance, and live
playing adds no latency.

Shapes: F frames, T steps of time, L steps of the fall, G bands of noise, H groups of harmonics, K harmonics, M noise
bands of the instrument.
"""

from __future__ import annotations

import functools
import math
from collections import deque

import msgspec
import numpy as np

from ddsp_cli.arrays import DoubleArray, FloatArray, RealArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import ARTICULATION
from ddsp_cli.scaling import NOISE_VARIANCE

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

#: Steps of the time since the onset. After the last one all values are 0.
STEP_TIME_S, N_STEPS = 0.02, 12

#: A note after a rest begins hard where the level rises by this much in `STEP_TIME_S`.
HARD_DB = 8.0

#: How a note began: softly or hard after a rest, or bound to the one before.
UNKNOWN, SOFT, HARD, BOUND = 0, 1, 2, 3

#: Steps of the fall of the level below its peak of the last `FALL_S`; less than one step is the note itself.
FALL_STEP_DB, N_FALLS, FALL_S = 6.0, 4, 0.3

#: Edges of the bands of noise in Hz, and the last harmonic of each group.
BAND_EDGES_HZ = (250.0, 700.0, 1400.0, 2800.0, 4000.0, 5600.0, 8000.0, 11300.0, 20000.0)
GROUP_ENDS = (1, 2, 4, 8, 16, 32)

#: Values beyond these are errors of the measurement.
MAX_NOISE_DB, MAX_HARMONIC_DB = 12.0, 6.0


class Articulation(msgspec.Struct, frozen=True):
    """Changes of the controls at onsets and releases of notes, in dB.

    Attributes:
      onset_noise_db: [3, T, G] of soft, hard and bound beginnings, by time since the onset.
      onset_harmonic_db: [3, T, H] likewise, of the harmonics against their sum.
      fall_noise_db: [L, G] by the fall of the level.
      fall_harmonic_db: [L, H] likewise.
    """

    onset_noise_db: FloatArray
    onset_harmonic_db: FloatArray
    fall_noise_db: FloatArray
    fall_harmonic_db: FloatArray

    def as_weights(self) -> dict[str, FloatArray]:
        """Returns the arrays by their names in a bundle."""
        return {
            f"{ARTICULATION}{name}": np.asarray(value, np.float32)
            for name, value in msgspec.structs.asdict(self).items()
        }


N_BANDS, N_GROUPS = len(BAND_EDGES_HZ) - 1, len(GROUP_ENDS)

SHAPES = {
    "onset_noise_db": (3, N_STEPS, N_BANDS),
    "onset_harmonic_db": (3, N_STEPS, N_GROUPS),
    "fall_noise_db": (N_FALLS, N_BANDS),
    "fall_harmonic_db": (N_FALLS, N_GROUPS),
}


def articulation_of(bundle: Bundle) -> Articulation | None:
    """Reads the articulation of an instrument; None if it is missing or does not fit."""
    values = {}
    for name, shape in SHAPES.items():
        value = bundle.weights.get(f"{ARTICULATION}{name}")
        if value is None or value.shape != shape or not np.isfinite(value).all():
            return None
        bound = MAX_NOISE_DB if "noise" in name else MAX_HARMONIC_DB
        values[name] = np.clip(np.asarray(value, np.float32), -bound, bound)
    return Articulation(**values)


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

    def push(
        self, f0_hz: FloatArray, level_db: FloatArray, gate: FloatArray | None
    ) -> tuple[np.ndarray, DoubleArray, DoubleArray]:
        """Takes the next frames.

        Args:
          f0_hz: [F·p]; of each frame the last value counts, which is known with it.
          level_db: [F].
          gate: [F·n], or None; of each frame the largest value counts.

        Returns:
          How the note of each frame began [F], the seconds since then [F], and how far the level lies below its peak of
          the last `FALL_S` within the note, [F] in dB.
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
                is_hard = (db - self._rise[-1]) * STEP_TIME_S * self._rate >= HARD_DB
                self._kind, self._since, self._peak_db, self._valley_db = HARD if is_hard else SOFT, 0, db, db
                for past in (self._rise, self._fall, self._pitches):
                    past.clear()
            elif self._is_bound(db, pitch):
                self._kind, self._since = BOUND, 0
            self._follow(db, pitch)
            kinds[i], since[i], fallen_db[i] = self._kind, self._since / self._rate, max(self._fall) - db
        return kinds, since, fallen_db

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


class Articulator:
    """Adds the articulation of an instrument to the controls of one performance.

    Args:
      articulation: of the instrument.
      detector: finds the onsets.
      sample_rate_hz: of the instrument.
    """

    def __init__(self, articulation: Articulation, detector: OnsetDetector, sample_rate_hz: int) -> None:
        self._detector, self._sample_rate_hz = detector, sample_rate_hz
        onset_db = np.concatenate([articulation.onset_noise_db, articulation.onset_harmonic_db], axis=2)
        fall_db = np.concatenate([articulation.fall_noise_db, articulation.fall_harmonic_db], axis=1)
        # Values are 0 for unknown onsets, after the last step, and before the first fall.
        self._onset_db = np.pad(onset_db.astype(np.float64), ((1, 0), (0, 2), (0, 0)))
        self._fall_db = np.pad(fall_db.astype(np.float64), ((1, 0), (0, 0)))

    def push(
        self, f0_hz: FloatArray, level_db: FloatArray, gate: FloatArray | None, controls: dict[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Changes the controls of the next frames; the power of each frame is kept.

        Args:
          f0_hz: [F·p].
          level_db: [F].
          gate: [F·n], or None.
          controls: of the decoder, scaled: `amplitude` [F, 1], `harmonic_distribution` [F, K], `noise_magnitudes`
            [F, M], those that there are.

        Returns:
          The controls.
        """
        kinds, since_s, fallen_db = self._detector.push(f0_hz, level_db, gate)
        added_db = self._at(kinds, since_s, fallen_db)
        rows = np.flatnonzero(added_db.any(axis=1))
        if not len(rows):
            return controls
        noise_db, harmonic_db = added_db[rows, :N_BANDS], added_db[rows, N_BANDS:]
        changed = {name: np.array(values, np.float32) for name, values in controls.items()}
        if "harmonic_distribution" in changed:
            gains_db = harmonic_db @ group_weights(changed["harmonic_distribution"].shape[1])
            changed["harmonic_distribution"][rows] *= _gain(gains_db)
        if "noise_magnitudes" in changed:
            gains_db = noise_db @ band_weights(changed["noise_magnitudes"].shape[1], self._sample_rate_hz)
            changed["noise_magnitudes"][rows] *= _gain(gains_db)
        before, after = (_power({name: values[rows] for name, values in c.items()}) for c in (controls, changed))
        kept = np.sqrt(before / np.maximum(after, 1e-30))[:, None].astype(np.float32)
        for name in ("harmonic_distribution", "noise_magnitudes"):
            if name in changed:
                changed[name][rows] *= kept
        return changed

    def _at(self, kinds: np.ndarray, since_s: DoubleArray, fallen_db: DoubleArray) -> DoubleArray:
        """Returns corrections of bands and groups, [F, G + H] in dB, for time since the onset and fall of the level."""
        steps = np.round(since_s / STEP_TIME_S, 3)
        index = np.minimum(steps.astype(int), N_STEPS)
        share = (np.minimum(steps, N_STEPS) - index)[:, None]
        found = (1.0 - share) * self._onset_db[kinds, index] + share * self._onset_db[kinds, index + 1]
        steps = np.minimum(fallen_db / FALL_STEP_DB, N_FALLS)
        index = np.minimum(steps.astype(int), N_FALLS - 1)
        share = (steps - index)[:, None]
        return np.asarray(found + (1.0 - share) * self._fall_db[index] + share * self._fall_db[index + 1])


def open_articulator(bundle: Bundle) -> Articulator | None:
    """Makes the articulator of a performance; None for an instrument without articulation."""
    found = articulation_of(bundle)
    return None if found is None else Articulator(found, detector_of(bundle), bundle.card.model.sample_rate_hz)


def detector_of(bundle: Bundle) -> OnsetDetector:
    """Makes the detector of onsets for an instrument."""
    model = bundle.card.model
    return OnsetDetector(model.frame_rate_hz, float(bundle.card.statistics.level(model.level)[SOFT_PERCENTILE]))


@functools.lru_cache(maxsize=16)
def group_weights(n_harmonics: int) -> FloatArray:
    """Returns weights [H, K] of the groups in the level of each harmonic, linear between their centres in octaves."""
    starts = np.array([1, *(end + 1 for end in GROUP_ENDS[:-1])])
    centres = 0.5 * (np.log2(starts) + np.log2(GROUP_ENDS))
    return _between(np.log2(np.arange(1, n_harmonics + 1)), centres)


@functools.lru_cache(maxsize=16)
def band_weights(n_bands: int, sample_rate_hz: int) -> FloatArray:
    """Returns weights [G, M] of the bands in the level of each noise magnitude of an instrument."""
    edges_hz = np.array(BAND_EDGES_HZ)
    bands_hz = np.linspace(0.0, sample_rate_hz / 2.0, n_bands)
    return _between(np.log2(np.maximum(bands_hz, 1.0)), 0.5 * (np.log2(edges_hz[:-1]) + np.log2(edges_hz[1:])))


def _between(places: RealArray, centres: RealArray) -> FloatArray:
    rows = [np.interp(places, centres, row) for row in np.eye(len(centres))]
    return np.stack(rows).astype(np.float32)


def _gain(level_db: RealArray) -> FloatArray:
    return np.asarray(10.0 ** (level_db / 20.0), np.float32)


def _power(controls: dict[str, FloatArray]) -> DoubleArray:
    """Returns the power [F] of the sound that the controls make."""
    total: DoubleArray = np.zeros(len(next(iter(controls.values()))))
    if "harmonic_distribution" in controls:
        amplitudes = controls["amplitude"].astype(np.float64) * controls["harmonic_distribution"]
        total += 0.5 * np.sum(amplitudes**2, axis=1)
    if "noise_magnitudes" in controls:
        total += NOISE_VARIANCE * np.mean(controls["noise_magnitudes"].astype(np.float64) ** 2, axis=1)
    return total
