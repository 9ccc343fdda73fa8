"""Articulation: onsets and releases of notes, with noise of bow, breath or tongue, and the order of the harmonics.

The network receives level and F0. Both say little about the beginning of a note, and it averages over the rest. So
the difference between recordings and their resynthesis is measured as a function of the time since the onset
(`training.articulation`), for soft and hard beginnings after a rest and for bound notes, and is added to the controls.
Ends of notes are recognised by the fall of the level, since live playing cannot know the end of a note in advance.

Onsets are found in the curves that are played (`synthesis.onsets`).

Shapes: F frames, T steps of time, L steps of the fall, G bands of noise, H groups of harmonics, K harmonics, M noise
bands of the instrument.
"""

from __future__ import annotations

import functools

import msgspec
import numpy as np

from ddsp_cli.arrays import DoubleArray, FloatArray, RealArray, db_to_gain
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import ARTICULATION
from ddsp_cli.scaling import NOISE_VARIANCE
from ddsp_cli.synthesis.onsets import Onsets

#: Steps of the time since the onset. After the last one all values are 0.
STEP_TIME_S, N_STEPS = 0.02, 12

#: Steps of the fall of the level below its peak of the last `FALL_S`; less than one step is the note itself.
FALL_STEP_DB, N_FALLS = 6.0, 4

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


class Articulator:
    """Adds the articulation of an instrument to the controls of one performance.

    Args:
      articulation: of the instrument.
      sample_rate_hz: of the instrument.
    """

    def __init__(self, articulation: Articulation, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        onset_db = np.concatenate([articulation.onset_noise_db, articulation.onset_harmonic_db], axis=2)
        fall_db = np.concatenate([articulation.fall_noise_db, articulation.fall_harmonic_db], axis=1)
        # Values are 0 for unknown onsets, after the last step, and before the first fall.
        self._onset_db = np.pad(onset_db.astype(np.float64), ((1, 0), (0, 2), (0, 0)))
        self._fall_db = np.pad(fall_db.astype(np.float64), ((1, 0), (0, 0)))

    def push(self, onsets: Onsets, controls: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Changes the controls of the next frames; the power of each frame is kept.

        Args:
          onsets: of the frames.
          controls: of the decoder, scaled: `amplitude` [F, 1], `harmonic_distribution` [F, K], `noise_magnitudes`
            [F, M], those that there are.

        Returns:
          The controls.
        """
        added_db = self._at(onsets)
        rows = np.flatnonzero(added_db.any(axis=1))
        if not len(rows):
            return controls
        noise_db, harmonic_db = added_db[rows, :N_BANDS], added_db[rows, N_BANDS:]
        changed = {name: np.array(values, np.float32) for name, values in controls.items()}
        if "harmonic_distribution" in changed:
            gains_db = harmonic_db @ group_weights(changed["harmonic_distribution"].shape[1])
            changed["harmonic_distribution"][rows] *= db_to_gain(gains_db)
        if "noise_magnitudes" in changed:
            gains_db = noise_db @ band_weights(changed["noise_magnitudes"].shape[1], self._sample_rate_hz)
            changed["noise_magnitudes"][rows] *= db_to_gain(gains_db)
        before, after = (_power({name: values[rows] for name, values in c.items()}) for c in (controls, changed))
        kept = np.sqrt(before / np.maximum(after, 1e-30))[:, None].astype(np.float32)
        for name in ("harmonic_distribution", "noise_magnitudes"):
            if name in changed:
                changed[name][rows] *= kept
        return changed

    def _at(self, onsets: Onsets) -> DoubleArray:
        """Returns corrections of bands and groups, [F, G + H] in dB, for time since the onset and fall of the level."""
        steps = np.round(onsets.since_s / STEP_TIME_S, 3)
        index = np.minimum(steps.astype(int), N_STEPS)
        share = (np.minimum(steps, N_STEPS) - index)[:, None]
        found = (1.0 - share) * self._onset_db[onsets.kinds, index] + share * self._onset_db[onsets.kinds, index + 1]
        steps = np.minimum(onsets.fallen_db / FALL_STEP_DB, N_FALLS)
        index = np.minimum(steps.astype(int), N_FALLS - 1)
        share = (steps - index)[:, None]
        return np.asarray(found + (1.0 - share) * self._fall_db[index] + share * self._fall_db[index + 1])


def open_articulator(bundle: Bundle) -> Articulator | None:
    """Makes the articulator of a performance; None for an instrument without articulation."""
    found = articulation_of(bundle)
    return None if found is None else Articulator(found, bundle.card.model.sample_rate_hz)


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


def _power(controls: dict[str, FloatArray]) -> DoubleArray:
    """Returns the power [F] of the sound that the controls make."""
    total: DoubleArray = np.zeros(len(next(iter(controls.values()))))
    if "harmonic_distribution" in controls:
        amplitudes = controls["amplitude"].astype(np.float64) * controls["harmonic_distribution"]
        total += 0.5 * np.sum(amplitudes**2, axis=1)
    if "noise_magnitudes" in controls:
        total += NOISE_VARIANCE * np.mean(controls["noise_magnitudes"].astype(np.float64) ** 2, axis=1)
    return total
