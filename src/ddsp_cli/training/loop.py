"""The training loop: build or resume a model, fit it between validations, save the best, recover from a broken loss.

`keras.Model.fit` runs the steps between two validations. What happens at a validation is written here and not with the
callbacks of Keras, because a run that was killed has to resume exactly:

- `EarlyStopping` and `ReduceLROnPlateau` count in memory and begin at zero after a restart; `should_stop_early` counts
  in the history that the checkpoint holds.
- `ModelCheckpoint` and `BackupAndRestore` write weights and training state into files that a kill can part, and check
  none of them; `checkpoint` writes one file with a digest.
- `CSVLogger` appends, and would log the steps after the last checkpoint twice; `run_log` writes the history.
- `TerminateOnNaN` prints to standard output and only ends `fit`; `LossWatch` raises.

The optimiser is Adam with the schedule of a preset, and a separate learning rate for the room.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli.backend import COMPILING
from ddsp_cli.config import Preset, TrainingConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.errors import ModelError
from ddsp_cli.training import checkpoint
from ddsp_cli.training.batches import RandomCrops, as_arrays
from ddsp_cli.training.checkpoint import Event, Point, Report, RunState, TrainProgress, progress_of
from ddsp_cli.training.output_layer import init_harmonic_rolloff
from ddsp_cli.training.pretrain import BrokenLossError, ControlFit, LossWatch, can_pretrain, pretrain
from ddsp_cli.training.run_log import RunFolder
from ddsp_cli.training.start import Start
from ddsp_cli.training.targets import measure_targets
from ddsp_cli.training.windows import AnyWindows, Batch

if TYPE_CHECKING:
    from ddsp_cli.training.parallel import Group

#: A model whose rendering has less than this share of the recordings' energy (-40 dB) has collapsed to silence.
SILENT_LEVEL = 1e-4

#: Backends whose steps are compiled. XLA makes a step a third faster and costs seconds of compilation; PyTorch's
#: compiler costs minutes.
COMPILED_BACKENDS = ("tensorflow", "jax")

#: As many steps of pretraining take less time with TensorFlow's own operations than XLA takes to compile them.
FEW_STEPS = 200

#: Most steps of the fit to measured controls for each step on sound, where a training is shorter than its preset says:
#: a training of a few steps is for trying out. A step of the fit takes 0.13 s on two cores (preset hifi).
MAX_FIT_SHARE = 10

#: Largest number of rollbacks after a broken loss.
MAX_ROLLBACKS = 3

#: The largest weight that an instrument can store: its weights are float16.
MAX_WEIGHT = float(np.finfo(np.float16).max)

#: Used as the lowest F0 where that is not known.
LOWEST_HZ = 1.0

OnKept = Callable[[Autoencoder, RunState], None]


@dataclass(frozen=True)
class Job:
    """Settings and data of a training.

    Attributes:
      preset: model and training configuration.
      train: windows to learn from.
      validation: batches to validate on.
      folder: of the run.
      total_steps: steps wanted, counted from the beginning of the run.
      seed: of weights, noise and crops.
      initial: weights by name to begin with; None for random ones.
      start: the place in a base to begin with; None for none.
      n_shares: into how many parts a batch is split, see `backend.share_batches`.
      processes: that train together; None for this one alone.
      separate_rooms: learn a room for each instrument of the model, see `Autoencoder`.
      favoured: windows from which half of each batch is drawn, see `RandomCrops`.
    """

    preset: Preset
    train: AnyWindows
    validation: list[Batch]
    folder: RunFolder
    total_steps: int
    seed: int
    initial: Mapping[str, np.ndarray] | None = None
    n_shares: int = 1
    start: Start | None = None
    processes: Group | None = None
    separate_rooms: bool = False
    favoured: np.ndarray | None = None

    @property
    def lowest_hz(self) -> float:
        """The lowest F0 that is rendered; of windows that are not all in memory it is not known."""
        if self.train.in_memory() is not self.train:
            return LOWEST_HZ
        lowest = [values["f0_hz"].min() for values in (self.train.inputs, *(batch for batch, _ in self.validation))]
        return float(min(lowest))

    def crops(self, n_steps: int, first_step: int = 0) -> RandomCrops:
        """Returns the batches of `n_steps` steps."""
        training = self.preset.training
        return RandomCrops(
            self.train, training.batch_size, training.crop_s, self.seed, n_steps, first_step, self.favoured
        )


def build(
    preset: Preset,
    seed: int,
    rollbacks: int = 0,
    total_steps: int | None = None,
    n_shares: int = 1,
    lowest_hz: float = LOWEST_HZ,
    processes: Group | None = None,
    separate_rooms: bool = False,
) -> Autoencoder:
    """Builds and compiles a model with random weights.

    Args:
      preset: model and training configuration.
      seed: of weights and noise.
      rollbacks: so far; each halves the learning rate.
      total_steps: of the training; None takes the preset's.
      n_shares, processes, separate_rooms: see `Job`.
      lowest_hz: the lowest F0 of the recordings, see `Autoencoder`.
    """
    keras.utils.set_random_seed(seed)
    training = preset.training
    kind = Autoencoder
    if processes is not None:
        kind = processes.model_type(n_shares)
    elif n_shares == 2 and keras.config.backend() == "tensorflow":
        from ddsp_cli.training.parallel import SplitBatchAutoencoder

        kind = SplitBatchAutoencoder
    model = kind(
        preset.model, training.loss, seed=seed, render_rate_hz=training.render_rate_hz, lowest_hz=lowest_hz,
        separate_rooms=separate_rooms,
    )  # fmt: skip
    optimizer = make_optimizer(model, training, total_steps or training.steps, slower=0.5**rollbacks)
    model.compile(optimizer=optimizer, jit_compile=is_compiled())
    return model


def is_compiled() -> bool:
    """Whether steps are compiled on this backend."""
    return keras.config.backend() in COMPILED_BACKENDS


def run(job: Job, state: RunState, on_kept: OnKept, report: Report) -> RunState:
    """Trains until `job.total_steps` or early stopping, from the checkpoint in the run's folder where there is one.

    Args:
      job: of the training.
      state: of that checkpoint; without history the training begins from random or initial weights.
      on_kept: called with the model whenever the instrument gets its weights, see `TrainingConfig.keep`.
      report: receives progress.

    Returns:
      The state of the last checkpoint.

    Raises:
      ModelError: the loss broke or the model fell silent more than `MAX_ROLLBACKS` times; or the checkpoint belongs to
        another model.
      KeyboardInterrupt: passed on; the last checkpoint is kept.
    """
    if job.preset.training.loss.control_weight:
        job.train.measure_targets(measure_targets)
    model, state = _begin(job, state, on_kept, report)
    if not state.history:
        # Before the first instrument: killed between that and its checkpoint, the run is known as its maker.
        job.folder.save(model, state)
    if should_stop_early(job.preset.training, state):
        report(progress_of(state, job.total_steps, [], "enough"))
    if not state.history and job.initial is not None:
        state = _validate_parent(job, model, state, on_kept, report)
    while state.step < job.total_steps and not should_stop_early(job.preset.training, state):
        try:
            state = advance(job, model, state, on_kept, report)
        except BrokenLossError:
            state = msgspec.structs.replace(state, rollbacks=state.rollbacks + 1)
            if state.rollbacks > MAX_ROLLBACKS:
                raise ModelError(
                    f"the loss became infinite, or the model silent, {state.rollbacks} times, "
                    f"the last time after step {state.step}",
                    "Look for broken recordings in the data set, or lower learning_rate in the preset.",
                ) from None
            report(progress_of(state, job.total_steps, [], "rollback"))
            model, state = _begin(job, state, on_kept, report)
    return state


def _begin(job: Job, state: RunState, on_kept: OnKept, report: Report) -> tuple[Autoencoder, RunState]:
    """Returns the model of the last checkpoint, or one ready for the first step on sound, and the state of the run.

    With a base there is an instrument to play before anything is trained.
    """
    model = _resume(job, state)
    if not state.history:
        job.folder.clear()
    if state.history or job.initial is not None:
        if not should_stop_early(job.preset.training, state):
            with _compiling_ahead(job, model):
                pass
        return model, state
    if job.start is not None:
        model.set_weights_by_name(model.get_weights_by_name() | job.start.weights)
        vector = [round(float(value), 5) for value in job.start.vector]
        state = msgspec.structs.replace(state, nearest=job.start.nearest, vector=vector)
        job.folder.save(model, state)
        on_kept(model, state)
    with _compiling_ahead(job, model):
        state = fit_measured_controls(job, model, state, report)
    return model, state


@contextlib.contextmanager
def _compiling_ahead(job: Job, model: Autoencoder) -> Iterator[None]:
    """Compiles a step on sound beside the pretraining: XLA uses one core, and takes as long as a hundred steps.

    XLA cannot be interrupted, so it runs in a separate thread, which is left behind if something is raised, such as
    KeyboardInterrupt. A program that ends waits for it; `ddsp` does not.
    """
    compile_ahead = getattr(model, "compile_ahead", None)
    if compile_ahead is None or job.processes is not None or not is_compiled():
        yield
        return
    run_once = compile_ahead(*as_arrays(job.crops(1).batch(0)))

    def run_quietly() -> None:
        with contextlib.suppress(Exception):  # the first step will raise it
            run_once()

    thread = threading.Thread(target=run_quietly, name=COMPILING)
    thread.start()
    yield
    thread.join()


def should_stop_early(training: TrainingConfig, state: RunState) -> bool:
    """Returns whether the last `patience` validations all had a higher loss than the best before them."""
    since = [point.validation_loss for point in state.history[-training.patience :]]
    if training.keep == "last":
        return False
    return 0 < training.patience < len(state.history) and min(since) > state.best_loss


def validate(model: keras.Model, batches: list[Batch]) -> tuple[float, float]:
    """Returns the mean loss over batches of equal size, and the level of the rendering; no weight changes.

    Returns:
      The loss, and the energy of the rendering as a share of the recordings'.

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


def check_weights(model: keras.Model) -> None:
    """Refuses weights that no instrument could store.

    The loss need not tell: minima and clipped controls hide a NaN, and a weight of 1e10 is infinite in half precision.

    Raises:
      BrokenLossError: a trainable weight is NaN, infinite, or larger than `MAX_WEIGHT`.
    """
    for variable in model.trainable_variables:
        if not np.abs(ops.convert_to_numpy(variable)).max(initial=0.0) <= MAX_WEIGHT:  # NaN compares as False
            raise BrokenLossError


def _resume(job: Job, state: RunState) -> Autoencoder:
    model = build(
        job.preset, job.seed, state.rollbacks, job.total_steps, job.n_shares, job.lowest_hz, job.processes,
        job.separate_rooms,
    )  # fmt: skip
    if state.history or state.is_fitted:
        checkpoint.restore(job.folder.path, model)
    elif job.initial is not None:
        model.set_weights_by_name(job.initial)
    else:
        model.adapt(job.train.inputs)
        init_harmonic_rolloff(model, job.preset.training.harmonic_rolloff)
    return model


def fit_measured_controls(job: Job, model: Autoencoder, state: RunState, report: Report) -> RunState:
    """Fits the decoder to measured controls, if the preset has `pretrain_steps` and its controls can be measured.

    Returns:
      The state of the run, with the steps that were taken.

    Raises:
      ModelError: the error became NaN or infinite.
    """
    n_steps = state.fit_steps or fit_steps(job.preset.training, job.total_steps)
    if not n_steps or state.is_fitted or not can_pretrain(job.preset.model):
        return state
    message = "fitting the decoder to measured harmonics and noise"
    begins = f"{message}, {n_steps} steps before the first one on sound"
    if state.fit_step:
        begins += f"; resuming after step {state.fit_step}"
    report(progress_of(state, job.total_steps, [], "phase", begins))
    batch_size = job.preset.training.batch_size
    compiled = is_compiled() and (n_steps > FEW_STEPS or keras.config.backend() != "tensorflow")

    def fitted(n_done: int) -> None:
        report(TrainProgress(n_done, n_steps, event="pretrain", message=message))

    def resume(fit: ControlFit) -> int:
        if state.fit_step:
            checkpoint.restore(job.folder.path, fit)
        return state.fit_step

    def keep(fit: ControlFit, n_done: int) -> None:
        if job.processes is None:  # another process may be reading the checkpoint to resume from
            job.folder.save(fit, msgspec.structs.replace(state, fit_steps=n_steps, fit_step=n_done))

    try:
        pretrain(
            model, job.train.in_memory(), n_steps, batch_size, job.seed, compiled, fitted, resume=resume, keep=keep
        )
    except BrokenLossError:  # another attempt takes the same steps
        raise ModelError(
            "the error of the measured harmonics and noise became infinite",
            "Look for broken recordings in the data set, or set pretrain_steps to 0 in the preset.",
        ) from None
    return msgspec.structs.replace(state, fit_steps=n_steps, fit_step=n_steps)


def fit_steps(training: TrainingConfig, total_steps: int) -> int:
    """Returns the steps of the fit to measured controls: fewer where fewer steps on sound are wanted than usual."""
    n_steps = training.pretrain_steps
    return n_steps if total_steps >= training.steps else min(n_steps, MAX_FIT_SHARE * total_steps)


def _validate_parent(job: Job, model: Autoencoder, state: RunState, on_kept: OnKept, report: Report) -> RunState:
    """Saves the initial weights as the first instrument, so that the result cannot be worse."""
    try:
        loss, level = validate(model, job.validation)
        check_weights(model)
    except BrokenLossError:  # it cannot play these recordings, and may yet learn to
        return state
    state = msgspec.structs.replace(state, best_loss=loss, history=[Point(0, loss, loss, level=level)])
    on_kept(model, state)
    job.folder.save(model, state)
    report(progress_of(state, job.total_steps, [], "best"))
    return state


def advance(job: Job, model: Autoencoder, state: RunState, on_kept: OnKept, report: Report) -> RunState:
    """Trains up to the next validation, validates, and writes instrument, checkpoint and log.

    Raises:
      BrokenLossError: the loss is not a number, or the model has become silent.
    """
    started = time.monotonic()
    training = job.preset.training
    if job.processes is not None:
        job.processes.share(model)
    n_steps = min(training.validation_steps, job.total_steps - state.step)
    watch = LossWatch(lambda losses: report(progress_of(state, job.total_steps, losses, "step")))
    model.fit(job.crops(n_steps, state.step), callbacks=[watch], verbose=0, shuffle=False)
    validation_loss, level = validate(model, job.validation)
    check_weights(model)
    best = validation_loss < state.best_loss
    kept = best or training.keep == "last"
    # between noise and notes a model may be silent, which is an improvement; after notes it is a failure
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
        kept_step=step if kept else state.kept_step,
    )
    state = msgspec.structs.replace(state, finished=step >= job.total_steps or should_stop_early(training, state))
    # The instrument first: a kill between the two only means that it is written once more.
    if kept:
        on_kept(model, state)
    job.folder.save(model, state)
    job.folder.write(state, model, job.validation[0])
    stopped = state.finished and step < job.total_steps
    event: Event = "enough" if stopped else "best" if best else "kept" if kept else "validation"
    report(progress_of(state, job.total_steps, watch.losses, event))
    return state


#: Shares of the learning rate at which the warm-up of a cosine schedule begins, and at which it ends.
WARMUP_SHARE = 0.05
FINAL_SHARE = 0.02


class PacedAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) whose learning rate is multiplied for some variables.

    A step of Adam is about as long as the learning rate for any gradient. A parameter that has to change a lot, such as
    the decay of a room over 100 dB, takes thousands of steps at a learning rate that suits a network.

    Args:
      learning_rate: a number or a schedule.
      paces: multipliers of the trainable variables, in their order.
    """

    def __init__(self, learning_rate: Any, paces: list[float], **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.paces = paces

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        pace = self.paces[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * pace)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "paces": self.paces}


def schedule(training: TrainingConfig, total_steps: int, slower: float = 1.0) -> Any:
    """Returns the learning rate by step, as a Keras schedule.

    Args:
      training: its `schedule` is `cosine` with linear warm-up (Loshchilov & Hutter 2017), or `exponential`.
      total_steps: of the whole training.
      slower: factor of all learning rates.
    """
    rate = training.learning_rate * slower
    if training.schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(rate, training.decay_steps, training.decay_rate)
    warmup = min(training.warmup_steps, total_steps // 2)
    return keras.optimizers.schedules.CosineDecay(
        rate * WARMUP_SHARE if warmup else rate,
        max(1, total_steps - warmup),
        alpha=FINAL_SHARE,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(
    model: Autoencoder, training: TrainingConfig, total_steps: int, slower: float = 1.0
) -> keras.optimizers.Optimizer:
    """Builds the optimiser of a training, with variables for all weights of the model."""
    room = model.room
    of_room = {id(variable) for variable in room.trainable_variables} if room else set()
    pace = training.room_pace * room.pace if room else 1.0
    if model.rooms is not None:
        of_room, pace = {id(model.rooms)}, training.room_pace
    paces = [pace if id(variable) in of_room else 1.0 for variable in model.trainable_variables]
    optimizer = PacedAdam(
        schedule(training, total_steps, slower), paces, beta_2=training.beta_2, global_clipnorm=training.clip_norm
    )
    optimizer.build(model.trainable_variables)
    return optimizer
