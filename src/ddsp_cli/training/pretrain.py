"""Pretraining: fit the decoder to harmonics and noise measured in the recordings, before any sound is rendered.

A spectral loss on sound has two weaknesses at the start. Where the noise is loud, harmonics below it get no gradient;
they fall to the floor of the bounded scaling, where they never get one again. And every step renders and analyses
sound. Measured amplitudes have neither: the error is a difference of levels in dB, which has the same gradient however
soft the harmonic, and a step is the decoder alone.

Shapes: N windows, B batch, F frames, K harmonics, M noise bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.losses import ControlLoss
from ddsp_cli.training.batches import RandomCrops
from ddsp_cli.training.targets import measure_targets
from ddsp_cli.training.windows import Windows

#: Steps between two records of the fit, from which it can be resumed: a quarter of a minute.
KEEP_STEPS = 100

#: Crops of a pretraining step: longer than those of training, as the recurrent state settles within them.
CROP_S = 2.0

LEARNING_RATE = 3e-3

WARMUP_STEPS = 50
CLIP_NORM = 3.0

#: Arrays of a batch by name.
Inputs = dict[str, np.ndarray]


def can_pretrain(model: ModelConfig) -> bool:
    """Whether a model has the two synthesisers whose controls can be measured."""
    return model.only(HarmonicConfig) is not None and model.only(FilteredNoiseConfig) is not None


class BrokenLossError(Exception):
    """The loss or a weight is NaN or infinite, or the model fell silent: the last checkpoint has to be restored."""


class LossWatch(keras.callbacks.Callback):
    """Collects the training loss of every step and ends `fit` at the first that is NaN or infinite.

    Args:
      step_done: called after every step with the losses so far.

    Raises:
      BrokenLossError: inside `fit`.
    """

    def __init__(self, step_done: Callable[[list[float]], None]) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._step_done = step_done
        self._mean = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # `fit` gives running means; the loss of one step shows a break at once
        mean = float((logs or {})["loss"])
        loss = mean * (batch + 1) - self._mean * batch
        self._mean = mean
        if not math.isfinite(loss):
            raise BrokenLossError
        self.losses.append(loss)
        self._step_done(self.losses)


class ControlFit(keras.Model):
    """The decoder of a model, compared with measured levels in place of sound.

    Args:
      model: whose decoder (and encoder) learn; the rest of it takes no part.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self._raw_controls = model.raw_controls  # not the model, whose room would count as untrained weights
        self.parts = [part for part in (model.decoder, model.encoder, model.instruments) if part is not None]
        self._loss = ControlLoss(model.config, balance_weight=0.0)  # a mean error in dB; the balance counts with sound
        self.built = True

    def call(self, features: dict[str, Any]) -> dict[str, Any]:
        """Predicts raw controls, see `Autoencoder.raw_controls`."""
        return self._raw_controls(features)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the error in dB of the predicted controls `y_pred` against the targets `y`, see `ControlLoss`."""
        return self._loss.call(y_pred, y)


class TargetCrops(keras.utils.PyDataset):
    """The crops of `RandomCrops`, from its first step on, without sound: inputs and targets.

    Args:
      crops: of windows whose targets were measured.
    """

    def __init__(self, crops: RandomCrops) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._crops = crops

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        windows = self._crops.windows.in_memory()
        found = windows.cut_inputs(*self._crops.places(self._crops.first_step + index), self._crops.crop_frames)
        return {name: found[name] for name in windows.inputs}, {name: found[name] for name in windows.targets}


def pretrain(
    model: Autoencoder,
    windows: Windows,
    n_steps: int,
    batch_size: int,
    seed: int,
    compiled: bool,
    report: Callable[[int], None],
    learning_rate: float = LEARNING_RATE,
    resume: Callable[[ControlFit], int] = lambda fit: 0,
    keep: Callable[[ControlFit, int], None] = lambda fit, n_done: None,
) -> float:
    """Fits the decoder of a model to the controls measured in the training set.

    Args:
      model: with random weights; its decoder (and encoder) are changed.
      windows: the training set; its targets are measured unless they were.
      n_steps: how many steps.
      batch_size: crops in a batch.
      seed: of the crops.
      compiled: compile the steps.
      report: called with the number of steps done.
      learning_rate: the highest.
      resume: restores a fit that was interrupted; returns the number of its steps.
      keep: called with the fit and the number of steps done, every `KEEP_STEPS` before the last.

    Returns:
      The mean error of the last tenth of the steps, in dB.

    Raises:
      ValueError: the model has no harmonic or no noise synthesiser.
      BrokenLossError: the error became NaN or infinite.
    """
    if not can_pretrain(windows.model):
        raise ValueError("pretraining needs a harmonic and a noise synthesiser")
    windows.measure_targets(measure_targets)
    fit = make_fit(model, n_steps, compiled, learning_rate)
    n_done, losses = resume(fit), []

    def report_more(n_more: int) -> None:
        report(n_done + n_more)

    while n_done < n_steps:
        n = min(KEEP_STEPS, n_steps - n_done)
        losses += take_steps(fit, TargetCrops(RandomCrops(windows, batch_size, CROP_S, seed, n, n_done)), report_more)
        n_done += n
        if n_done < n_steps:
            keep(fit, n_done)
    return float(np.mean(losses[-max(1, n_steps // 10) :]))


def fit_controls(
    model: Autoencoder,
    crops: keras.utils.PyDataset,
    n_steps: int,
    compiled: bool,
    report: Callable[[int], None],
    learning_rate: float = LEARNING_RATE,
) -> float:
    """Fits the decoder of a model to batches of inputs and targets; arguments and result as `pretrain`."""
    losses = take_steps(make_fit(model, n_steps, compiled, learning_rate), crops, report)
    return float(np.mean(losses[-max(1, n_steps // 10) :]))


def make_fit(model: Autoencoder, n_steps: int, compiled: bool, learning_rate: float) -> ControlFit:
    """Returns the fit of a model before its first step, compiled for so many; arguments as `pretrain`."""
    fit = ControlFit(model)
    rate = keras.optimizers.schedules.CosineDecay(
        learning_rate / 100.0, max(1, n_steps - WARMUP_STEPS), alpha=0.03, warmup_target=learning_rate,
        warmup_steps=min(WARMUP_STEPS, n_steps // 2),
    )  # fmt: skip
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM)
    optimizer.build(fit.trainable_variables)
    fit.compile(optimizer=optimizer, jit_compile=compiled)
    return fit


def take_steps(fit: ControlFit, crops: keras.utils.PyDataset, report: Callable[[int], None]) -> list[float]:
    """Takes a step for each batch of crops; returns the error of each in dB."""
    watch = LossWatch(lambda losses: report(len(losses)))
    fit.fit(crops, callbacks=[watch], verbose=0, shuffle=False)
    return watch.losses
