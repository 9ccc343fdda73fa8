"""What happens between the steps: checks, validation, checkpoints, records. Each is one Keras callback."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import msgspec
import numpy as np

from ddsp_cli.training import checkpoint
from ddsp_cli.training.batches import Batch
from ddsp_cli.training.records import RunFolder
from ddsp_cli.training.state import Point, RunState


@dataclass(frozen=True)
class TrainProgress:
    """What a training says of itself while it runs.

    Attributes:
      step, total: steps done and wanted.
      loss: mean training loss of the last steps.
      validation_loss: of the last validation, NaN before the first.
      best_loss: the lowest validation loss so far.
      event: `step`, `validation`, `best` or `rollback`.
    """

    step: int
    total: int
    loss: float
    validation_loss: float
    best_loss: float
    event: str = "step"


class StopRun(Exception):
    """Raised inside `fit` to end it: the loss broke, and the last checkpoint is to be taken up again."""


class Run(keras.callbacks.Callback):
    """Keeps a run: loss per step, validation per epoch, best weights, checkpoint, records.

    Args:
      state: of the run as it was last saved.
      folder: where the run keeps its files.
      validation: batches that the model does not learn from.
      total_steps: wanted in the end.
      on_best: called when the validation loss is the best so far.
      report: receives progress.
    """

    def __init__(
        self,
        state: RunState,
        folder: RunFolder,
        validation: list[Batch],
        total_steps: int,
        on_best: Callable[[RunState], None],
        report: Callable[[TrainProgress], None],
    ) -> None:
        super().__init__()
        self.state = state
        self.folder = folder
        self.validation = validation
        self.total_steps = total_steps
        self.on_best = on_best
        self.report = report
        self._losses: list[float] = []
        self._mean = 0.0
        self._started = time.monotonic()

    @property
    def _last_validation(self) -> float:
        return self.state.history[-1].validation_loss if self.state.history else math.nan

    def _say(self, step: int, event: str) -> None:
        loss = float(np.mean(self._losses[-20:])) if self._losses else math.nan
        self.report(TrainProgress(step, self.total_steps, loss, self._last_validation, self.state.best_loss, event))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._mean = 0.0
        self._losses = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # `fit` reports the running mean of the epoch; one step's own loss is what shows a break at once
        mean = float((logs or {})["loss"])
        loss = mean * (batch + 1) - self._mean * batch
        self._mean = mean
        if not math.isfinite(loss):
            raise StopRun
        self._losses.append(loss)
        self._say(self.state.step + batch + 1, "step")
        if self.state.step + batch + 1 >= self.total_steps:
            self.model.stop_training = True  # ends the epoch here, with its validation

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        validation_loss = validate(self.model, self.validation)
        if not math.isfinite(validation_loss):
            raise StopRun
        loss = float(np.mean(self._losses))
        step = self.state.step + len(self._losses)
        now = time.monotonic()
        best = validation_loss < self.state.best_loss
        self.state = msgspec.structs.replace(
            self.state,
            step=step,
            wall_s=self.state.wall_s + now - self._started,
            history=[*self.state.history, Point(step, loss, validation_loss)],
            best_loss=min(validation_loss, self.state.best_loss),
            best_step=step if best else self.state.best_step,
            finished=step >= self.total_steps,
        )
        self._started = now
        # The instrument first: a kill between the two only means that it is written once more.
        if best:
            self.on_best(self.state)
        checkpoint.save(self.folder.path, self.model, self.state)
        self.folder.write(self.state, self.model, self.validation[0])
        self._say(step, "best" if best else "validation")


def validate(model: keras.Model, batches: list[Batch]) -> float:
    """Mean loss over batches of equal size; the weights are left as they were."""
    model.reset_metrics()
    loss = math.nan
    for inputs, audio in batches:
        loss = float(model.test_on_batch(inputs, audio, return_dict=True)["loss"])  # a running mean
    model.reset_metrics()
    return loss
