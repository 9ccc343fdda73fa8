"""The base: one network trained on many instruments, from which a new instrument starts.

What instruments have in common need not be learned again from half a minute of sound. The base is fitted to measured
controls alone (`training.pretrain`), with a vector for each instrument (`engine.networks.InstrumentVectors`).
`training.start` finds where a new instrument begins in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import msgspec
import numpy as np

from ddsp_cli.config import InstrumentsConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.training.pretrain import Inputs, fit_controls
from ddsp_cli.training.windows import Windows

#: Length of the vector of an instrument.
VECTOR_DIMS = 16

#: Crops of a step, and their length.
BATCH_SIZE, CROP_S = 24, 2.0

#: Windows with a smaller voiced share are left out.
LEAST_VOICED = 0.1


def base_config(model: ModelConfig, names: Sequence[str]) -> ModelConfig:
    """Returns the configuration of a base of instruments with the model of one."""
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
