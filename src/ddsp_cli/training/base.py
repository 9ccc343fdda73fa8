"""The base: one network trained on many instruments, from which a new instrument starts.

What instruments have in common need not be learned again from half a minute of sound. The base is fitted to measured
controls alone (`training.pretrain`), with a vector for each instrument (`engine.networks.InstrumentVectors`). A new
instrument begins with the vector of the one whose controls are nearest to its recordings, fitted to them by gradient
descent, and learns from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli.config import InstrumentsConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.losses import ControlLoss
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import instrument_vectors, model_at_vector
from ddsp_cli.training.batches import RandomCrops, Windows
from ddsp_cli.training.pretrain import Inputs, TargetCrops, fit_controls

#: Length of the vector of an instrument.
VECTOR_DIMS = 16

#: Crops of a step, and their length.
BATCH_SIZE, CROP_S = 24, 2.0

#: Windows with a smaller voiced share are left out.
LEAST_VOICED = 0.1

#: Largest number of windows that are compared with each instrument of the base.
COMPARED_WINDOWS = 24


#: Fitting a vector: steps, and the learning rate of entries that differ by about 1 between instruments.
VECTOR_STEPS, VECTOR_RATE = 60, 0.1


@dataclass(frozen=True)
class Start:
    """The starting point of a new instrument.

    Attributes:
      weights: of the decoder by name; those of the room are not among them.
      nearest: the instrument of the base whose controls are nearest to the recordings.
      vector: [D] the place in the space of the base.
      errors_db: instrument → mean error of its controls on the recordings.
      error_db: that of the vector.
    """

    weights: dict[str, np.ndarray]
    nearest: str
    vector: np.ndarray
    errors_db: dict[str, float]
    error_db: float


def start_from_base(
    base: ModelConfig, weights: Mapping[str, np.ndarray], windows: Windows, instrument: str,
    vector_steps: int = VECTOR_STEPS, seed: int = 0,
) -> Start:  # fmt: skip
    """Finds where in the space of a base a new instrument begins.

    An instrument that the base knows begins with its own vector. Any other begins with that of the nearest one, which
    is then fitted to the recordings by gradient descent, while the network stays as it is.

    Args:
      base: configuration of the base.
      weights: of the base, by name.
      windows: of the new instrument, with targets.
      instrument: the name of the new one.
      vector_steps: of gradient descent.
      seed: of the crops.

    Returns:
      Weights of a model of one instrument, and their place.

    Raises:
      ModelError: the weights do not fit, or the base is none.
    """
    if not base.instruments:
        raise ModelError("the base has no instruments")
    model = Autoencoder(base, seed=0)
    model.set_weights_by_name(weights)
    rows = np.unique(np.linspace(0, len(windows) - 1, min(COMPARED_WINDOWS, len(windows))).astype(int))
    inputs = {name: ops.convert_to_tensor(values[rows]) for name, values in windows.inputs.items()}
    targets = {name: ops.convert_to_tensor(values[rows]) for name, values in windows.targets.items()}
    loss = ControlLoss(base, balance_weight=0.0)

    def error_db(vector: np.ndarray) -> float:
        given = ops.broadcast_to(ops.convert_to_tensor(vector), (*inputs["f0_hz"].shape[:2], len(vector)))
        return float(loss.call(model.raw_controls({**inputs, "instrument": given}), targets))

    known = instrument_vectors(base, weights)
    errors_db = {name: error_db(vector) for name, vector in known.items()}
    nearest = instrument if instrument in errors_db else min(errors_db, key=lambda name: errors_db[name])
    vector, found_db = known[nearest], errors_db[nearest]
    if instrument not in known and vector_steps:
        fitted = fit_vector(model, windows, vector, vector_steps, seed)
        fitted_db = error_db(fitted)
        if fitted_db < found_db:
            vector, found_db = fitted, fitted_db
    _, found = model_at_vector(base, weights, vector)
    kept = {name: value for name, value in found.items() if name.startswith("decoder/")}
    return Start(kept, nearest, np.asarray(vector, np.float32), errors_db, found_db)


def fit_vector(base: Autoencoder, windows: Windows, vector: np.ndarray, n_steps: int, seed: int = 0) -> np.ndarray:
    """Fits a vector [D] to the measured controls of recordings; the network of the base stays as it is.

    Args:
      base: with its weights.
      windows: of the recordings, with targets.
      vector: to begin with.
      n_steps: of gradient descent.
      seed: of the crops.
    """
    fit = VectorFit(base, vector)
    rate = keras.optimizers.schedules.CosineDecay(VECTOR_RATE, n_steps, alpha=0.1)
    fit.compile(optimizer=keras.optimizers.Adam(rate), jit_compile=False)
    crops = TargetCrops(RandomCrops(windows, min(8, len(windows)), CROP_S, seed, n_steps))
    fit.fit(crops, verbose=0, shuffle=False)
    return np.asarray(ops.convert_to_numpy(fit.vector), np.float32)


class VectorFit(keras.Model):
    """A vector of a base, compared with measured levels; nothing else is trained.

    Args:
      base: with its weights.
      vector: [D] to begin with.
    """

    def __init__(self, base: Autoencoder, vector: np.ndarray) -> None:
        super().__init__()
        self._raw_controls = base.raw_controls  # not the model, whose weights would be trained
        self._loss = ControlLoss(base.config)
        self.vector = self.add_weight(
            shape=vector.shape, initializer=keras.initializers.Constant(vector), name="vector", dtype="float32"
        )
        self.built = True

    def call(self, features: Inputs) -> Inputs:
        """Predicts raw controls, see `Autoencoder.raw_controls`."""
        shape = (*ops.shape(features["f0_hz"])[:2], self.vector.shape[0])
        return self._raw_controls({**features, "instrument": ops.broadcast_to(self.vector, shape)})

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Error of the predicted controls `y_pred` in dB against the targets `y`, see `ControlLoss`."""
        return self._loss.call(y_pred, y)


def base_config(model: ModelConfig, names: Sequence[str]) -> ModelConfig:
    """The configuration of a base of instruments with the model of one."""
    instruments = InstrumentsConfig(names=list(names), vector_dims=VECTOR_DIMS)
    return msgspec.structs.replace(model, inputs=[*model.inputs, "instrument"], instruments=instruments)


def fit_base(
    model: ModelConfig,
    windows: Mapping[str, Windows],
    n_steps: int,
    seed: int = 0,
    compiled: bool = True,
    report: Callable[[int], None] = lambda step: None,
) -> tuple[ModelConfig, dict[str, np.ndarray], float]:
    """Fits one network to the measured controls of many instruments, each of which counts the same.

    Args:
      model: of one instrument.
      windows: instrument → windows of the same model, with targets.
      n_steps: how many steps.
      seed: of weights and crops.
      compiled: compile the steps.
      report: called with the number of steps done.

    Returns:
      The configuration of the base, its weights by name, and the mean error of the last tenth of the steps in dB.
    """
    config = base_config(model, list(windows))
    keras.utils.set_random_seed(seed)
    base = Autoencoder(config, seed=seed)
    crops = MixedCrops(list(windows.values()), BATCH_SIZE, CROP_S, seed, n_steps)
    error_db = fit_controls(base, crops, n_steps, compiled, report)
    return config, base.get_weights_by_name(), error_db


class MixedCrops(keras.utils.PyDataset):
    """Batches of crops in which every instrument appears as often as any other: inputs and targets.

    Args:
      windows: of each instrument, in the order of their index.
      batch_size: crops in a batch.
      crop_s: length of a crop.
      seed: of the choice.
      n_steps: how many batches.
    """

    def __init__(self, windows: Sequence[Windows], batch_size: int, crop_s: float, seed: int, n_steps: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._windows = [(one, np.flatnonzero(one.voiced.mean(axis=1) > LEAST_VOICED)) for one in windows]
        self._batch_size, self._seed, self._n_steps = batch_size, seed, n_steps
        first = windows[0]
        self._n_frames = min(first.n_frames, round(crop_s * first.model.frame_rate_hz))

    def __len__(self) -> int:
        return self._n_steps

    def __getitem__(self, index: int) -> tuple[Inputs, Inputs]:
        random = np.random.default_rng([self._seed, index])
        parts = []
        for i in np.resize(random.permutation(len(self._windows)), self._batch_size):
            windows, usable = self._windows[i]
            rows = random.choice(usable, 1)
            starts = random.integers(0, windows.n_frames - self._n_frames + 1, 1)
            found = windows.cut_inputs(rows, starts, self._n_frames)
            parts.append((windows, {**found, "instrument": np.full((1, self._n_frames, 1), i, np.float32)}))
        names = ["instrument", *parts[0][0].inputs]
        joined = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
        return {name: joined[name] for name in names}, {name: joined[name] for name in parts[0][0].targets}
