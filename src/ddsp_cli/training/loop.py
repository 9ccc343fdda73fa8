"""One training from its configuration to its end: build, resume, fit, roll back when the loss breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import msgspec
import numpy as np

from ddsp_cli.config import Preset
from ddsp_cli.engine import Autoencoder
from ddsp_cli.errors import ModelError
from ddsp_cli.training import checkpoint
from ddsp_cli.training.batches import Batch, RandomCrops, Windows
from ddsp_cli.training.callbacks import Run, StopRun, TrainProgress
from ddsp_cli.training.records import RunFolder
from ddsp_cli.training.state import RunState

#: Steps between two validations, each of which leaves a checkpoint.
STEPS_PER_EPOCH = 100

#: XLA makes a step a third faster, and costs seconds of compilation; PyTorch's compiler costs minutes.
COMPILED_BACKENDS = ("tensorflow", "jax")

#: A run whose loss breaks this often is not going to become an instrument.
MAX_ROLLBACKS = 3


@dataclass(frozen=True)
class Job:
    """Everything a training needs.

    Attributes:
      preset: model and training configuration.
      train, validation: windows to learn from, batches to judge by.
      folder: of the run.
      total_steps: wanted.
      seed: of weights, noise and crops.
    """

    preset: Preset
    train: Windows
    validation: list[Batch]
    folder: RunFolder
    total_steps: int
    seed: int


def build(preset: Preset, seed: int, rollbacks: int = 0) -> Autoencoder:
    """A compiled model with fresh weights; every rollback so far halves the learning rate."""
    keras.utils.set_random_seed(seed)
    training = preset.training
    model = Autoencoder(preset.model, training.loss, seed=seed)
    schedule = keras.optimizers.schedules.ExponentialDecay(
        training.learning_rate * 0.5**rollbacks, training.decay_steps, training.decay_rate
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=training.clip_norm)
    model.compile(optimizer=optimizer, jit_compile=keras.config.backend() in COMPILED_BACKENDS)
    optimizer.build(model.trainable_variables)
    return model


def run(
    job: Job,
    state: RunState,
    on_best: Callable[[Autoencoder, RunState], None],
    report: Callable[[TrainProgress], None],
) -> RunState:
    """Trains until `job.total_steps`, from the checkpoint in the run's folder where there is one.

    Args:
      on_best: called with the model whenever the validation loss is the best so far.
      report: receives progress.

    Raises:
      ModelError: the loss broke `MAX_ROLLBACKS` times, or the checkpoint belongs to another model.
      KeyboardInterrupt: passed on; the last checkpoint stands.
    """
    while True:
        model = build(job.preset, job.seed, state.rollbacks)
        if state.step:
            checkpoint.restore(job.folder.path, model)
        training = job.preset.training
        crops = RandomCrops(job.train, training.batch_size, training.crop_s, job.seed, STEPS_PER_EPOCH, state.step)
        keeper = Run(state, job.folder, job.validation, job.total_steps, partial(on_best, model), report)
        epochs = -(-(job.total_steps - state.step) // STEPS_PER_EPOCH)
        try:
            model.fit(crops, epochs=epochs, callbacks=[keeper], verbose=0, shuffle=False)
            return keeper.state
        except StopRun:
            state = msgspec.structs.replace(keeper.state, rollbacks=keeper.state.rollbacks + 1)
            if state.rollbacks > MAX_ROLLBACKS:
                raise ModelError(
                    f"the loss became infinite {state.rollbacks} times, the last time after step {state.step}",
                    "Look for broken recordings with ddsp prepare, or lower learning_rate in the preset.",
                ) from None
            report(TrainProgress(state.step, job.total_steps, np.nan, np.nan, state.best_loss, "rollback"))
