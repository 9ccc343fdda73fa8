"""Train the base: one network for many instruments, from which a new instrument starts.

Half a minute of sound is too little to train a network from random weights. The base is trained on many instruments,
with a vector for each (`engine.networks.InstrumentVectors`): first on measured controls (`fit_base`, like
`training.pretrain`), then on sound (`fit_base_to_sound`), with a separate room for each instrument. `training.start`
finds the vector at which a new instrument starts.

Shapes: I instruments, B batch, F frames, S samples, N frames and M bands of a room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.bundle.layout import base_config
from ddsp_cli.config import ModelConfig, TrainingConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.training.loop import PacedAdam, schedule
from ddsp_cli.training.pretrain import Inputs, LossWatch, fit_controls
from ddsp_cli.training.windows import Batch, Windows

#: Length of the vector of an instrument.
VECTOR_DIMS = 16

#: Number of crops in a step on measured controls, and their length.
BATCH_SIZE, CROP_S = 24, 2.0

#: Share of the preset's learning rate for steps on sound: these adjust a network that is already trained.
SOUND_RATE_SHARE = 0.5

#: Windows with a smaller voiced share are left out.
LEAST_VOICED = 0.1


def fit_base(
    model: ModelConfig,
    windows: Mapping[str, Windows],
    n_steps: int,
    seed: int = 0,
    compiled: bool = True,
    report: Callable[[int], None] = lambda step: None,
) -> tuple[ModelConfig, dict[str, np.ndarray], float]:
    """Fits one network to the measured controls of many instruments, with equal weight for each.

    Args:
      model: of one instrument.
      windows: instrument → windows of the same model, with targets.
      n_steps: number of steps.
      seed: of weights and crops.
      compiled: compile the steps.
      report: called with the number of steps done.

    Returns:
      The configuration of the base, its weights by name, and the mean error of the last tenth of the steps in dB.
    """
    config = base_config(model, list(windows), VECTOR_DIMS)
    keras.utils.set_random_seed(seed)
    base = Autoencoder(config, seed=seed)
    crops = MixedCrops(list(windows.values()), BATCH_SIZE, CROP_S, seed, n_steps)
    error_db = fit_controls(base, crops, n_steps, compiled, report)
    return config, base.get_weights_by_name(), error_db


def fit_base_to_sound(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    training: TrainingConfig,
    windows: Mapping[str, Windows],
    n_steps: int,
    seed: int = 0,
    compiled: bool = True,
    report: Callable[[int], None] = lambda step: None,
) -> tuple[dict[str, np.ndarray], float]:
    """Trains a base on the sound of its instruments, with equal weight for each.

    Args:
      config: of the base.
      weights: of the base by name, as `fit_base` returns them.
      training: of the preset of its instruments: loss, optimiser, batches.
      windows: instrument → windows, with targets and with sound at `training.render_rate_hz`.
      n_steps: number of steps.
      seed: of noise and crops.
      compiled: compile the steps.
      report: called with the number of steps done.

    Returns:
      The weights of the base by name, and the mean loss of the last tenth of the steps. The rooms are left out.
    """
    keras.utils.set_random_seed(seed)
    lowest_hz = min(float(one.inputs["f0_hz"].min()) for one in windows.values())
    base = Autoencoder(
        config, training.loss, seed=seed, render_rate_hz=training.render_rate_hz, lowest_hz=lowest_hz,
        separate_rooms=True,
    )  # fmt: skip
    learned = base.named_variables()
    for name, variable in learned.items():
        variable.assign(weights[name])
    rate = schedule(training, n_steps, slower=SOUND_RATE_SHARE)
    paces = [training.room_pace if variable is base.rooms else 1.0 for variable in base.trainable_variables]
    optimizer = PacedAdam(rate, paces, beta_2=training.beta_2, global_clipnorm=training.clip_norm)
    base.compile(optimizer=optimizer, jit_compile=compiled)
    crops = MixedSound(list(windows.values()), training.batch_size, training.crop_s, seed, n_steps)
    watch = LossWatch(lambda losses: report(len(losses)))
    base.fit(crops, callbacks=[watch], verbose=0, shuffle=False)
    found = {name: np.asarray(ops.convert_to_numpy(value), np.float32) for name, value in learned.items()}
    return {**weights, **found}, float(np.mean(watch.losses[-max(1, n_steps // 10) :]))


class MixedCrops(keras.utils.PyDataset):
    """Batches of crops, inputs and targets, in which all instruments appear equally often.

    Args:
      windows: of each instrument, in the order of their index.
      batch_size: crops in a batch.
      crop_s: length of a crop.
      seed: of the random choice of crops.
      n_steps: number of batches.
    """

    def __init__(self, windows: Sequence[Windows], batch_size: int, crop_s: float, seed: int, n_steps: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._windows = [(one, one.voiced_rows(least_share=LEAST_VOICED)) for one in windows]
        self._batch_size, self._seed, self._n_steps = batch_size, seed, n_steps
        first = windows[0]
        self._n_frames = min(first.n_frames, round(crop_s * first.model.frame_rate_hz))

    def __len__(self) -> int:
        return self._n_steps

    def __getitem__(self, index: int) -> tuple[Inputs, Any]:
        parts = [
            {**windows.cut_inputs(rows, starts, self._n_frames), "instrument": self._index(i)}
            for i, windows, rows, starts in self.places(index)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        targets = {name: joined.pop(name) for name in self._windows[0][0].targets}
        return joined, targets

    def places(self, index: int) -> list[tuple[int, Windows, np.ndarray, np.ndarray]]:
        """Draws the crops of a step: instrument, its windows, the window [1] and the first frame [1] of each crop."""
        random = np.random.default_rng([self._seed, index])
        found = []
        for i in np.resize(random.permutation(len(self._windows)), self._batch_size):
            windows, usable = self._windows[i]
            rows = random.choice(usable, 1)
            found.append((int(i), windows, rows, random.integers(0, windows.n_frames - self._n_frames + 1, 1)))
        return found

    def _index(self, i: int) -> np.ndarray:
        return np.full((1, self._n_frames, 1), i, np.float32)


class MixedSound(MixedCrops):
    """Batches of `MixedCrops` with their sound: inputs and targets in one mapping, and sound [B, S]."""

    def __getitem__(self, index: int) -> Batch:
        inputs, sounds = [], []
        for i, windows, rows, starts in self.places(index):
            found, sound = windows.cut(rows, starts, self._n_frames)
            inputs.append({**found, "instrument": self._index(i)})
            sounds.append(sound)
        return {name: np.concatenate([part[name] for part in inputs]) for name in inputs[0]}, np.concatenate(sounds)
