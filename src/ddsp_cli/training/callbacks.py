"""What is watched between the steps of `fit`, and how a model is judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ddsp_cli.training.batches import Batch
from ddsp_cli.training.state import RunState

#: The loss that progress shows is a mean over this many steps.
SHOWN_STEPS = 20

#: A model whose sound has this share of the recordings' energy, -40 dB, has collapsed to silence.
SILENT_LEVEL = 1e-4


@dataclass(frozen=True)
class TrainProgress:
    """What a training says of itself while it runs.

    Attributes:
      step, total: steps done and wanted.
      loss: mean training loss of the last steps.
      validation_loss: of the last validation, NaN before the first.
      best_loss: the lowest validation loss so far, NaN before the first.
      event: `step`, `validation`, `best`, `rollback` or `enough`.
    """

    step: int
    total: int
    loss: float
    validation_loss: float
    best_loss: float
    event: str = "step"


def progress_of(state: RunState, total: int, losses: list[float], event: str) -> TrainProgress:
    """Progress of a run.

    Args:
      state: as of the last validation.
      total: steps wanted.
      losses: of the steps since the validation before; only a `step` event is ahead of `state` by them.
      event: see `TrainProgress`.
    """
    loss = float(np.mean(losses[-SHOWN_STEPS:])) if losses else math.nan
    validation_loss, best_loss = (
        (state.history[-1].validation_loss, state.best_loss) if state.history else (math.nan, math.nan)
    )
    done = state.step + len(losses) if event == "step" else state.step
    return TrainProgress(done, total, loss, validation_loss, best_loss, event)


class BrokenLossError(Exception):
    """The loss is NaN or infinite, or the model fell silent: the last checkpoint is to be taken up again."""


class Watch(keras.callbacks.Callback):
    """Takes down the loss of every step, reports it, and stops at one that is no number.

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
        # `fit` only tells running means; the loss of one step shows a break at once
        mean = float((logs or {})["loss"])
        loss = mean * (batch + 1) - self._mean * batch
        self._mean = mean
        if not math.isfinite(loss):
            raise BrokenLossError
        self.losses.append(loss)
        self._step_done(self.losses)


def validate(model: keras.Model, batches: list[Batch]) -> tuple[float, float]:
    """Mean loss over batches of equal size, and the energy played as a share of the recordings'; no weight changes.

    Raises:
      BrokenLossError: the loss is NaN or infinite.
    """
    model.reset_metrics()
    means: dict[str, float] = {}
    for inputs, audio in batches:
        means = model.test_on_batch(inputs, audio, return_dict=True)  # running means
    model.reset_metrics()
    loss, level = float(means["loss"]), float(means["level"])
    if not math.isfinite(loss):
        raise BrokenLossError
    return loss, level
