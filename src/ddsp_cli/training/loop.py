"""One training from its configuration to its end: build, resume, fit, roll back when the loss breaks.

What is watched between the steps of `fit`, and how a model is judged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import msgspec
import numpy as np

from ddsp_cli.config import Preset, TrainingConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.errors import ModelError
from ddsp_cli.training import checkpoint
from ddsp_cli.training.batches import Batch, RandomCrops, Windows
from ddsp_cli.training.harmonic_init import let_harmonics_fall
from ddsp_cli.training.optimizer import make_optimizer
from ddsp_cli.training.run_log import RunFolder
from ddsp_cli.training.state import Point, RunState

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


#: XLA makes a step a third faster, and costs seconds of compilation; PyTorch's compiler costs minutes.
COMPILED_BACKENDS = ("tensorflow", "jax")

#: A run whose loss breaks this often is not going to become an instrument.
MAX_ROLLBACKS = 3

OnBest = Callable[[Autoencoder, RunState], None]

Report = Callable[[TrainProgress], None]


@dataclass(frozen=True)
class Job:
    """Everything a training needs.

    Attributes:
      preset: model and training configuration.
      train, validation: windows to learn from, batches to judge by.
      folder: of the run.
      total_steps: wanted.
      seed: of weights, noise and crops.
      initial: weights by name to begin with, in place of random ones.
      n_shares: how many take part in each batch, see `backend.share_batches`.
    """

    preset: Preset
    train: Windows
    validation: list[Batch]
    folder: RunFolder
    total_steps: int
    seed: int
    initial: Mapping[str, np.ndarray] | None = None
    n_shares: int = 1


def build(
    preset: Preset, seed: int, rollbacks: int = 0, total_steps: int | None = None, n_shares: int = 1
) -> Autoencoder:
    """A compiled model with fresh weights; every rollback so far halves the learning rate.

    Args:
      total_steps: of the training; None takes the preset's.
      n_shares: see `Job`.
    """
    keras.utils.set_random_seed(seed)
    training = preset.training
    kind = Autoencoder
    if n_shares == 2 and keras.config.backend() == "tensorflow":
        from ddsp_cli.training.split_batch import InHalves

        kind = InHalves
    model = kind(preset.model, training.loss, seed=seed)
    optimizer = make_optimizer(model, training, total_steps or training.steps, slower=0.5**rollbacks)
    model.compile(optimizer=optimizer, jit_compile=keras.config.backend() in COMPILED_BACKENDS)
    return model


def run(job: Job, state: RunState, on_best: OnBest, report: Report) -> RunState:
    """Trains until `job.total_steps`, or until it no longer helps, from the checkpoint in the run's folder if any.

    Args:
      state: of that checkpoint; without history the training begins anew.
      on_best: called with the model whenever the validation loss is the best so far.
      report: receives progress.

    Raises:
      ModelError: more than `MAX_ROLLBACKS` times the loss broke or the model fell silent; or the checkpoint belongs to
        another model.
      KeyboardInterrupt: passed on; the last checkpoint stands.
    """
    model = _resumed(job, state)
    if not state.history:
        # Before the first instrument: killed between that and its checkpoint, the run is known as its maker.
        checkpoint.save(job.folder.path, model, state)
        job.folder.clear()
    if had_enough(job.preset.training, state):
        report(progress_of(state, job.total_steps, [], "enough"))
    if not state.history and job.initial is not None:
        state = _judge_parent(job, model, state, on_best, report)
    while state.step < job.total_steps and not had_enough(job.preset.training, state):
        try:
            state = _advance(job, model, state, on_best, report)
        except BrokenLossError:
            state = msgspec.structs.replace(state, rollbacks=state.rollbacks + 1)
            if state.rollbacks > MAX_ROLLBACKS:
                raise ModelError(
                    f"the loss became infinite, or the model silent, {state.rollbacks} times, "
                    f"the last time after step {state.step}",
                    "Look for broken recordings in the data set, or lower learning_rate in the preset.",
                ) from None
            report(progress_of(state, job.total_steps, [], "rollback"))
            model = _resumed(job, state)
    return state


def _judge_parent(job: Job, model: Autoencoder, state: RunState, on_best: OnBest, report: Report) -> RunState:
    """What a training begins with is its first instrument: it ends with nothing worse."""
    try:
        loss, level = validate(model, job.validation)
    except BrokenLossError:  # it cannot play these recordings, and may yet learn to
        return state
    state = msgspec.structs.replace(state, best_loss=loss, history=[Point(0, loss, loss, level=level)])
    on_best(model, state)
    checkpoint.save(job.folder.path, model, state)
    report(progress_of(state, job.total_steps, [], "best"))
    return state


def had_enough(training: TrainingConfig, state: RunState) -> bool:
    """Whether the last `patience` validations brought nothing better: more would be learning by heart."""
    since = [point.validation_loss for point in state.history[-training.patience :]]
    return 0 < training.patience < len(state.history) and min(since) > state.best_loss


def _resumed(job: Job, state: RunState) -> Autoencoder:
    model = build(job.preset, job.seed, state.rollbacks, job.total_steps, job.n_shares)
    if state.history:
        checkpoint.restore(job.folder.path, model)
    elif job.initial is not None:
        model.set_weights_by_name(job.initial)
    else:
        model.adapt(job.train.inputs)
        let_harmonics_fall(model, job.preset.training.harmonic_fall)
    return model


def _advance(job: Job, model: Autoencoder, state: RunState, on_best: OnBest, report: Report) -> RunState:
    """Trains up to the next validation, validates, and leaves everything on disk."""
    started = time.monotonic()
    training = job.preset.training
    n_steps = min(training.validation_steps, job.total_steps - state.step)
    watch = Watch(lambda losses: report(progress_of(state, job.total_steps, losses, "step")))
    crops = RandomCrops(job.train, training.batch_size, training.crop_s, job.seed, n_steps, first_step=state.step)
    model.fit(crops, callbacks=[watch], verbose=0, shuffle=False)
    validation_loss, level = validate(model, job.validation)
    best = validation_loss < state.best_loss
    # Silence is on the way from noise to notes, and then an improvement; after notes it is none.
    if not best and level < SILENT_LEVEL <= max((point.level for point in state.history), default=0.0):
        raise BrokenLossError
    step = state.step + n_steps
    wall_s = state.wall_s + time.monotonic() - started
    state = msgspec.structs.replace(
        state,
        step=step,
        wall_s=wall_s,
        history=[*state.history, Point(step, float(np.mean(watch.losses)), validation_loss, round(wall_s, 2), level)],
        best_loss=min(validation_loss, state.best_loss),
    )
    state = msgspec.structs.replace(state, finished=step >= job.total_steps or had_enough(training, state))
    # The instrument first: a kill between the two only means that it is written once more.
    if best:
        on_best(model, state)
    checkpoint.save(job.folder.path, model, state)
    job.folder.write(state, model, job.validation[0])
    stopped = state.finished and step < job.total_steps
    event = "enough" if stopped else "best" if best else "validation"
    report(progress_of(state, job.total_steps, watch.losses, event))
    return state
