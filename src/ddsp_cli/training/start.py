"""Fit the vector of a new instrument, in the space of a base, to its recordings. Imports no training framework.

The fit starts at the instrument of the base whose controls are nearest to the measured ones, and takes
Levenberg-Marquardt steps (Marquardt 1963). Iteratively reweighted least squares (Holland and Welsch 1977) minimise the
absolute error in dB, and a cost limits the distance from the start. The network stays fixed and a vector has few
entries, so the derivatives are finite differences of the forward pass, all in one batch. The fit takes a second or two,
less than loading and compiling a framework, so a first clip can be played at once.

Shapes: I vectors, D entries, W windows, F frames, K harmonics, M noise bands, C = K + M + 1 levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle.layout import CONDITION, VECTORS
from ddsp_cli.config import ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import NOTE_BIAS, decode, instrument_vectors, model_at_vector
from ddsp_cli.synthesis.ops import NumpyOps
from ddsp_cli.training.windows import Windows, spread

#: Largest number of windows that are compared, and of frames in each: those with the most notes.
COMPARED_WINDOWS, COMPARED_FRAMES = 10, 60

#: Number of steps of the fit, and step size of the finite differences. Vectors of two instruments differ by about 1.
VECTOR_STEPS, DIFFERENCE = 8, 0.02

#: Initial damping, relative to the diagonal. A step without improvement multiplies it by the factor, a good step
#: divides it. After `MAX_FAILURES` steps without improvement in a row the fit ends.
DAMPING, DAMPING_FACTOR, MAX_FAILURES = 0.1, 5.0, 3

#: Cost of the distance from the nearest instrument: 0.3 dB for the usual distance between instruments. Without it the
#: vector of a clarinet moved 18 times as far, in a direction that hardly changes the sound.
PRIOR_DB = 0.02

#: Errors below this count by their square, larger errors by their absolute value (Huber loss).
SMALL_DB = 1.0

#: Weights of the noise bands and of the level of all harmonics, relative to the harmonics, as in `ControlLoss`.
NOISE_WEIGHT, LEVEL_WEIGHT = 0.5, 1.0

#: Floor of amplitudes in the logarithm (-120 dB), below that of the targets (`training.targets.FLOOR_DB`), so that
#: controls softer than these count as errors.
SOFTEST = 1e-6


@dataclass(frozen=True)
class Start:
    """The starting point of a new instrument.

    Attributes:
      weights: of the decoder by name, without those of the room.
      nearest: the instrument of the base whose controls are nearest to the recordings.
      vector: [D] the vector in the space of the base.
      errors_db: instrument of the base → mean error of its controls on the recordings.
      error_db: mean error at the vector.
    """

    weights: dict[str, np.ndarray]
    nearest: str
    vector: np.ndarray
    errors_db: dict[str, float]
    error_db: float


def find_start(
    base: ModelConfig,
    weights: Mapping[str, np.ndarray],
    windows: Windows,
    instrument: str,
    vector_steps: int = VECTOR_STEPS,
) -> Start:
    """Finds the vector in the space of a base at which a new instrument starts.

    An instrument of the base starts at its own vector. For any other a vector is fitted to its recordings.

    Args:
      base: configuration of the base.
      weights: of the base, by name.
      windows: of the new instrument, with targets.
      instrument: name of the new instrument.
      vector_steps: number of steps of the fit; 0 takes the vector of the nearest instrument.

    Raises:
      ModelError: the model is not a base.
    """
    if not base.instruments:
        raise ModelError("the base has no instruments")
    comparison = Comparison(base, weights, windows)
    known = instrument_vectors(base, weights)
    errors = comparison.mean_errors_db(np.stack(list(known.values())))
    errors_db = {name: float(error) for name, error in zip(known, errors, strict=True)}
    nearest = instrument if instrument in known else min(errors_db, key=lambda name: errors_db[name])
    vector, error_db = np.asarray(known[nearest], np.float32), errors_db[nearest]
    if instrument not in known:
        vector, error_db = fit_vector(comparison, vector, vector_steps)
    return Start(weights_at_vector(base, weights, vector), nearest, vector, errors_db, error_db)


def weights_at_vector(
    base: ModelConfig, weights: Mapping[str, np.ndarray], vector: FloatArray
) -> dict[str, np.ndarray]:
    """Returns the weights of a base at a vector [D], by name, without those of the room."""
    _, found = model_at_vector(base, weights, vector)
    return {name: value for name, value in found.items() if name.startswith("decoder/")}


def interpolate_from_base(
    base: ModelConfig,
    base_weights: Mapping[str, np.ndarray],
    vector: FloatArray,
    trained: Mapping[str, np.ndarray],
    share: float,
) -> dict[str, np.ndarray]:
    """Interpolates between a base at a vector and the weights of an instrument that was trained from there.

    Args:
      base: configuration of the base.
      base_weights: of the base, by name.
      vector: [D] where the training started.
      trained: weights of the instrument, by name.
      share: of the change that is kept, 0..1.

    Returns:
      All weights of the instrument. Those that the base lacks, such as those of the room, stay as they are; the note
      bias starts at 0.
    """
    start = weights_at_vector(base, base_weights, vector)
    changed = dict(trained)
    for name, value in trained.items():
        first = np.zeros_like(value) if name == NOTE_BIAS else start.get(name)
        if first is not None:
            changed[name] = (first + share * (value - first)).astype(np.float32)
    return changed


def fit_vector(comparison: Comparison, vector: FloatArray, n_steps: int) -> tuple[FloatArray, float]:
    """Fits a vector [D] to measured levels, from a first vector on; returns it and its mean error in dB."""
    damping, failures, first = DAMPING, 0, vector
    errors_db = comparison.errors_db(vector[None])[0]
    best_db = least = comparison.mean_db(errors_db)
    shifts = DIFFERENCE * np.eye(len(vector), dtype=np.float32)
    slopes: FloatArray | None = None
    for _ in range(n_steps):
        if slopes is None:
            slopes = (comparison.errors_db(vector + shifts) - errors_db) / np.float32(DIFFERENCE)  # [D, W·F, C]
            weighted = comparison.weights / np.maximum(np.abs(errors_db), SMALL_DB)
            flat = slopes.reshape(len(vector), -1)
            normal = (flat * weighted.reshape(-1)) @ flat.T + PRIOR_DB * np.eye(len(vector))
            gradient = flat @ (weighted * errors_db).reshape(-1) + PRIOR_DB * (vector - first)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + np.mean(np.diag(normal))), gradient)
        tried = (vector - step).astype(np.float32)
        tried_errors_db = comparison.errors_db(tried[None])[0]
        tried_db = comparison.mean_db(tried_errors_db)
        cost = tried_db + 0.5 * PRIOR_DB * float(np.sum((tried - first) ** 2))
        if cost < least:
            vector, errors_db, best_db, least, slopes = tried, tried_errors_db, tried_db, cost, None
            damping, failures = damping / DAMPING_FACTOR, 0
            continue
        damping, failures = damping * DAMPING_FACTOR, failures + 1
        if failures == MAX_FAILURES:
            break
    return vector, best_db


def conditioned_weights(weights: Mapping[str, np.ndarray], vector: FloatArray, n: int) -> dict[str, np.ndarray]:
    """Returns the weights of a base whose n instruments all have one vector [D], by name, without those of the room."""
    kept = {name: value for name, value in weights.items() if name.startswith("decoder/")}
    return kept | {VECTORS: np.tile(np.asarray(vector, np.float32), (n, 1))}


class Comparison:
    """Compares the controls of a base at a vector with levels measured in recordings.

    Args:
      base: configuration of the base.
      weights: of the base, by name.
      windows: of the recordings, with targets; only some of them are compared.

    Attributes:
      weights: [W·F, C] of the errors; harmonics, bands and level have the sums of `engine.losses.ControlLoss`.
    """

    def __init__(self, base: ModelConfig, weights: Mapping[str, np.ndarray], windows: Windows) -> None:
        self._model, self._network = base, {name: np.asarray(value, np.float32) for name, value in weights.items()}
        rows, starts, self._n_frames = _most_voiced(windows)
        found = windows.cut_inputs(rows, starts, self._n_frames)
        flat = {name: np.ascontiguousarray(value.reshape(-1, value.shape[-1])) for name, value in found.items()}
        self._inputs = {name: flat[name] for name in windows.inputs}
        self._measured = flat["harmonic_weight"] > 0.0
        level_db = _power_sum_db(flat["harmonic_db"], self._measured)
        self._measured_db = np.concatenate([flat["harmonic_db"], flat["noise_db"], level_db], axis=1)
        parts = [flat["harmonic_weight"], flat["noise_weight"], self._measured.any(axis=1, keepdims=True).astype("f")]
        shares = (1.0, NOISE_WEIGHT, LEVEL_WEIGHT)
        normal = [share * part / max(1.0, float(part.sum())) for share, part in zip(shares, parts, strict=True)]
        self.weights: FloatArray = np.concatenate(normal, axis=1).astype(np.float32)

    def errors_db(self, many: FloatArray) -> FloatArray:
        """Returns the errors in dB, [I, W·F, C], of the levels that the base plays at vectors [I, D]."""
        n = len(self._inputs["f0_hz"])
        inputs = {name: np.tile(value, (len(many), 1)) for name, value in self._inputs.items()}
        inputs[CONDITION] = np.repeat(np.asarray(many, np.float32), n, axis=0)
        state = np.zeros((1, self._model.sizes.rnn_units), np.float32)
        given: dict[str, FloatArray] = {name: inputs[name] for name in self._model.inputs}
        ops = SequencesOps(self._n_frames)
        controls, _ = decode(ops, self._model, self._network, given, inputs["f0_hz"], state)
        harmonic_db = _decibels(controls["amplitude"] * controls["harmonic_distribution"])
        played_db = [
            harmonic_db,
            _decibels(controls["noise_magnitudes"]),
            _power_sum_db(harmonic_db, np.tile(self._measured, (len(many), 1))),
        ]
        return np.concatenate(played_db, axis=1).reshape(len(many), n, -1) - self._measured_db

    def mean_db(self, errors_db: FloatArray) -> float:
        """Returns the weighted mean of the absolute errors [W·F, C]."""
        return float(np.sum(self.weights * np.abs(errors_db)))

    def mean_errors_db(self, many: FloatArray) -> FloatArray:
        """Returns the mean error of each of the vectors [I, D] in dB, [I]."""
        return np.array([self.mean_db(self.errors_db(vector[None])[0]) for vector in many], np.float32)


class SequencesOps(NumpyOps):
    """Operations on several sequences of equal length, which follow each other along the first axis.

    Args:
      n_frames: of each sequence.
    """

    def __init__(self, n_frames: int) -> None:
        super().__init__()
        self._n_frames = n_frames

    def gru(
        self, x: FloatArray, state: FloatArray, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """See `Ops.gru`; every sequence begins with the state [1, U], and the last ones are [n, U]."""
        units = len(recurrent)
        projected = (x @ kernel + bias[0]).reshape(-1, self._n_frames, 3 * units)
        states = np.empty((*projected.shape[:2], units), np.float32)
        last = np.broadcast_to(state, (len(projected), units))
        for i in range(self._n_frames):
            hidden = last @ recurrent + bias[1]
            gates = self.unary("sigmoid", projected[:, i, : 2 * units] + hidden[:, : 2 * units])
            reset = gates[:, units:] * hidden[:, 2 * units :]
            candidate = np.tanh(projected[:, i, 2 * units :] + reset)
            last = candidate + gates[:, :units] * (last - candidate)
            states[:, i] = last
        return states.reshape(-1, units), np.asarray(last)


def _most_voiced(windows: Windows) -> tuple[np.ndarray, np.ndarray, int]:
    """Chooses windows with notes [W], evenly spread; returns also first frame [W] and length of their voiced parts."""
    n_frames = min(COMPARED_FRAMES, windows.n_frames)
    voiced = np.cumsum(np.pad(windows.voiced, ((0, 0), (1, 0))), axis=1)
    inside: np.ndarray = voiced[:, n_frames:] - voiced[:, :-n_frames]
    usable = np.flatnonzero(inside.max(axis=1) >= inside.max() / 2)
    rows = spread(usable, COMPARED_WINDOWS)
    return rows, inside[rows].argmax(axis=1), n_frames


def _decibels(amplitude: FloatArray) -> FloatArray:
    return np.asarray(20.0 * np.log10(np.maximum(amplitude, SOFTEST)), np.float32)


def _power_sum_db(levels_db: FloatArray, measured: np.ndarray) -> FloatArray:
    """Returns the level in dB, [F, 1], of all measured harmonics [F, K] together."""
    power = np.sum(np.where(measured, 10.0 ** (levels_db / 10.0), 0.0), axis=1, keepdims=True)
    return np.asarray(10.0 * np.log10(power + 1e-12), np.float32)
