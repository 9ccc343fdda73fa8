"""The base: one network trained on many instruments, from which a new instrument starts.

What instruments have in common need not be learned again from half a minute of sound. The base is fitted to measured
controls alone (`training.pretrain`), with a vector for each instrument (`engine.encoders.InstrumentVectors`). A new
instrument begins as the one of them whose controls are nearest to its recordings, and learns from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli.config import InstrumentsConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.losses import ControlLoss
from ddsp_cli.errors import ModelError
from ddsp_cli.training.batches import Windows
from ddsp_cli.training.pretrain import Inputs, fit_controls

#: Length of the vector of an instrument.
VECTOR_DIMS = 16

#: Crops of a step, and their length.
BATCH_SIZE, CROP_S = 24, 2.0

#: Windows with a smaller voiced share are left out.
LEAST_VOICED = 0.1

#: Largest number of windows that are compared with each instrument of the base.
COMPARED_WINDOWS = 24


@dataclass(frozen=True)
class Start:
    """The starting point of a new instrument.

    Attributes:
      weights: of the decoder by name; those of the room are not among them.
      nearest: the instrument of the base that it begins as.
      errors_db: instrument → mean error of its controls on the recordings.
    """

    weights: dict[str, np.ndarray]
    nearest: str
    errors_db: dict[str, float]


def start_from_base(base: ModelConfig, weights: Mapping[str, np.ndarray], windows: Windows, instrument: str) -> Start:
    """Chooses the instrument of a base with which a new one begins.

    Args:
      base: configuration of the base.
      weights: of the base, by name.
      windows: of the new instrument, with targets.
      instrument: the name of the new one; where the base knows it, that one is taken.

    Returns:
      Weights of a model of one instrument.

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
    loss = ControlLoss(base)
    errors_db = {}
    for i, name in enumerate(base.instruments.names):
        index = ops.full_like(inputs["f0_hz"], float(i))
        errors_db[name] = float(loss.call(model.raw_controls({**inputs, "instrument": index}), targets))
    nearest = instrument if instrument in errors_db else min(errors_db, key=lambda name: errors_db[name])
    _, found = model.for_instrument(nearest)
    kept = {name: value for name, value in found.items() if name.startswith("decoder/")}
    return Start(kept, nearest, errors_db)


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
