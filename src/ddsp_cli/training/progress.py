"""Events that a training reports while it runs. Imports no framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ddsp_cli.training.checkpoint import RunState

#: The reported loss is a mean over this many steps.
MEAN_STEPS = 20

Event = Literal["phase", "step", "validation", "best", "rollback", "damaged", "enough"]


@dataclass(frozen=True)
class TrainProgress:
    """One report of a training.

    Attributes:
      step, total: steps done and wanted.
      loss: mean training loss of the last `MEAN_STEPS` steps, NaN where there is none.
      validation_loss: of the last validation, NaN before the first.
      best_loss: the lowest validation loss so far, NaN before the first.
      event: `step`; `validation`, or `best` where it is the best so far; `rollback` to the last checkpoint after the
        loss broke; `damaged`: the newest checkpoint cannot be used and the one before it is taken; `enough`: early
        stopping; `phase`: work begins that takes seconds or minutes, see `message`.
      message: what begins, for people.
    """

    step: int
    total: int
    loss: float = math.nan
    validation_loss: float = math.nan
    best_loss: float = math.nan
    event: Event = "step"
    message: str = ""


Report = Callable[[TrainProgress], None]


def progress_of(state: RunState, total: int, losses: Sequence[float], event: Event, message: str = "") -> TrainProgress:
    """Progress of a run.

    Args:
      state: as of the last validation.
      total: steps wanted.
      losses: training loss of each step since the validation before; only a `step` event is ahead of `state` by them.
      event, message: see `TrainProgress`.
    """
    loss = float(np.mean(losses[-MEAN_STEPS:])) if losses else math.nan
    validation_loss, best_loss = (
        (state.history[-1].validation_loss, state.best_loss) if state.history else (math.nan, math.nan)
    )
    step = state.step + len(losses) if event == "step" else state.step
    return TrainProgress(step, total, loss, validation_loss, best_loss, event, message)
