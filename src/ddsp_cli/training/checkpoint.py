"""The state of a training: the record of its validations, its checkpoints on disk, and the progress that it reports.

A checkpoint holds all variables of model and optimiser and the record of the run in one safetensors file. It is written
beside its place, flushed and renamed, so that a kill loses steps and never the run. It carries a SHA-256 digest of its
own bytes; the checkpoint before it is kept, and a training resumes from it where the newest is damaged. Neither
TensorFlow nor Keras is imported to read one, so that a mistake is answered before they load.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from ddsp_cli.atomic import FolderKind, beside
from ddsp_cli.config import Config
from ddsp_cli.errors import Kind, ModelError, OutputError

if TYPE_CHECKING:
    import keras


CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"

#: The table of validations beside the checkpoint, see `run_log`; earlier versions had no `wall_s`.
LOG = "log.csv"
LOG_COLUMNS = ("step", "loss", "validation_loss", "wall_s")

#: The digest is taken with zeros in its own place. Entries of the metadata are JSON without spaces; the quotes inside
#: the record are escaped, so the pattern fits the entry alone.
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_DIGEST = b'"sha256":"' + b"0" * 64 + b'"'


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a training, or the first clip of one that was ended before its first checkpoint."""
    return any((folder / name).is_file() for name in (CHECKPOINT, PREVIOUS, "clips/original.wav"))


#: The kind of folder in which a training keeps its own files; `run_log` and `reports.pages` write into it too.
RUN = FolderKind(
    "the folder of a training",
    _is_run,
    (CHECKPOINT, PREVIOUS, LOG, "clips", "tensorboard", "training.html", "training.png", ".*.new", ".new*"),
)


def run_folder(folder: Path) -> Path:
    """Returns the folder of the run's own files, beside the folder of its instrument."""
    return folder.with_name(folder.name + ".run")


class Point(Config):
    """One validation.

    Attributes:
      step: steps done.
      loss: mean training loss since the validation before.
      validation_loss: mean over the validation batches.
      wall_s: seconds of training until then; 0 in runs of versions that did not note it.
      level: energy of the rendering as a share of the recordings'.
    """

    step: int
    loss: float
    validation_loss: float
    wall_s: float = 0.0
    level: float = 1.0


class RunState(Config):
    """The record of a run: everything besides its variables that it needs to resume.

    Attributes:
      preset: the model, as YAML text.
      dataset: SHA-256 of the data set's manifest.
      seed: of weights, noise and crops.
      step, wall_s: steps done, and the seconds they took.
      best_loss: lowest validation loss so far; JSON has no infinity, so that it begins with the largest number.
      kept_step: the step whose weights the instrument has; 0 where an earlier version did not note it.
      history: all validations.
      rollbacks: how often the training went back to a checkpoint.
      finished: all steps are done, or early stopping ended it.
      started_from: instrument whose weights it began with, "" for none; None where an earlier version did not note it.
      base: digest of the weights of the base it began with, "" for none; None where an earlier version did not note it.
      nearest: where it began with a base, the instrument of it that is nearest.
      vector: the place in the space of that base.
      timbre: the folder of recordings whose timbre and room are played, "" if all are learned as one.
      fit_steps, fit_step: steps of the fit to measured controls that the run begins with, and those done. Until it is
        complete the checkpoint holds the variables of the fit, and not those of model and optimiser.
    """

    preset: str
    dataset: str
    seed: int
    step: int = 0
    wall_s: float = 0.0
    best_loss: float = sys.float_info.max
    kept_step: int = 0
    history: list[Point] = []
    rollbacks: int = 0
    finished: bool = False
    started_from: str | None = None
    base: str | None = None
    nearest: str = ""
    vector: list[float] = []
    timbre: str = ""
    fit_steps: int = 0
    fit_step: int = 0

    @property
    def is_fitted(self) -> bool:
        """Whether the fit to measured controls is complete."""
        return 0 < self.fit_steps == self.fit_step

    @property
    def kept(self) -> Point | None:
        """The validation of the weights that the instrument has; None before the first."""
        best = min(self.history, key=lambda point: point.validation_loss, default=None)
        return next((point for point in self.history if point.step == self.kept_step), best)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked.

    Attributes:
      path: of the file.
      state: the record of the run.
      arrays: every variable of model and optimiser, by name.
      damaged: the newest checkpoint, where it could not be used and this is the one before it.
    """

    path: Path
    state: RunState
    arrays: dict[str, np.ndarray]
    damaged: Path | None = None


def save(folder: Path, model: keras.Model, state: RunState) -> None:
    """Replaces the checkpoint in `folder` in one step, and keeps the one that was there as the previous one.

    Raises:
      OSError: the folder cannot be written.
    """
    from keras import ops

    arrays = {name: np.array(ops.convert_to_numpy(v), order="C") for name, v in _variables(model).items()}
    write(folder, arrays, state)


def write(folder: Path, arrays: dict[str, np.ndarray], state: RunState) -> None:
    """Writes arrays by name, see `save`."""
    from safetensors.numpy import save as serialise

    record = msgspec.json.encode(state).decode()
    content = serialise(arrays, metadata={"state": record, "sha256": "0" * 64})
    digest = hashlib.sha256(content).hexdigest().encode()
    with beside(folder / CHECKPOINT, f".{CHECKPOINT}.new") as part:
        with part.open("wb") as stream:
            stream.write(content.replace(_NO_DIGEST, b'"sha256":"' + digest + b'"', 1))
            stream.flush()
            os.fsync(stream.fileno())  # before the present checkpoint is moved; `beside` does it afterwards
        # Killed between the two moves there is only the previous checkpoint, from which the run resumes as well.
        with contextlib.suppress(FileNotFoundError):
            if state.history:
                os.replace(folder / CHECKPOINT, folder / PREVIOUS)
            else:
                (folder / PREVIOUS).unlink()  # of another run


def check_log(folder: Path) -> None:
    """Checks before a training that its table would replace only the table of a training.

    Raises:
      OutputError: there is another file of its name, or it cannot be read.
    """
    log = folder / LOG
    try:
        with log.open("rb") as stream:
            first = stream.readline(1000)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise OutputError(f"{log} cannot be read: {problem.strerror or problem}", "Choose another place.") from problem
    if first and not first.startswith(",".join(LOG_COLUMNS[:3]).encode()):
        raise OutputError(
            f"{log} is not the log of a training, so it is not replaced", "Move it, or train in another place."
        )


def read(folder: Path) -> Checkpoint | None:
    """Returns the newest undamaged checkpoint in `folder`; None in a folder without checkpoints.

    Raises:
      ModelError: there are checkpoints, and all are damaged.
    """
    newest, previous = folder / CHECKPOINT, folder / PREVIOUS
    if not newest.exists():
        return _read(previous) if previous.exists() else None
    try:
        return _read(newest)
    except ModelError:
        if not previous.exists():
            raise
        try:
            return replace(_read(previous), damaged=newest)
        except ModelError:
            raise _unusable(f"{newest} and the checkpoint before it are damaged") from None


def read_state(folder: Path) -> RunState | None:
    """Returns the record of the checkpoint that `read` finds."""
    found = read(folder)
    return found.state if found else None


def restore(folder: Path, model: keras.Model) -> None:
    """Sets every variable of model and optimiser from the checkpoint in `folder`.

    Raises:
      ModelError: the checkpoint is missing or damaged, or belongs to another model.
    """
    found = read(folder)
    if found is None:
        raise _unusable(f"{folder / CHECKPOINT} is missing")
    variables, arrays = _variables(model), found.arrays
    if arrays.keys() != variables.keys() or any(tuple(v.shape) != arrays[name].shape for name, v in variables.items()):
        raise _unusable(f"{found.path} belongs to another model")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    # Random state is among the non-trainable variables: the noise after a restart is the noise not yet drawn.
    # Running means of metrics are not here; they start from zero in each epoch.
    owners = {
        "weight": model.trainable_variables,
        "state": model.non_trainable_variables,
        "optimizer": model.optimizer.variables,
    }
    return {f"{owner}/{i:03d}": v for owner, found in owners.items() for i, v in enumerate(found)}


def _read(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        content = path.read_bytes()
        header = _header_end(content)
        metadata = msgspec.json.decode(content[8:header])["__metadata__"]
        if metadata.keys() != {"state"}:  # checkpoints of earlier versions have no digest
            found = _DIGEST.search(content, 0, header)
            blank = _DIGEST.sub(_NO_DIGEST, content, count=1)
            if not found or hashlib.sha256(blank).hexdigest().encode() != found[1]:
                raise _unusable(f"{path} is damaged: its content does not match its checksum")
        state = msgspec.json.decode(metadata["state"], type=RunState)
        arrays = parse(content)
    except (SafetensorError, OSError, msgspec.DecodeError, ValueError, KeyError, TypeError) as problem:
        raise _unusable(f"{path} is not a readable checkpoint") from problem
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise _unusable(f"{path} contains NaN or infinity")
    return Checkpoint(path, state, arrays)


def _unusable(message: str) -> ModelError:
    return ModelError(message, "Start again with resume=False and force=True.", kind=Kind.CHECKPOINT_UNUSABLE)


def _header_end(content: bytes) -> int:
    """Finds the byte at which the header of a safetensors file ends."""
    end = 8 + int.from_bytes(content[:8], "little")
    if not 8 < end <= len(content):
        raise ValueError("the header is longer than the file")
    return end


#: The reported loss is a mean over this many steps.
MEAN_STEPS = 20

Event = Literal["phase", "pretrain", "step", "validation", "best", "kept", "rollback", "damaged", "enough"]


@dataclass(frozen=True)
class TrainProgress:
    """One report of a training.

    Attributes:
      step, total: steps done and wanted.
      loss: mean training loss of the last `MEAN_STEPS` steps, NaN before the first step.
      validation_loss: of the last validation, NaN before the first.
      best_loss: the lowest validation loss so far, NaN before the first.
      event: `step`; `validation`, `best` where it is the best so far, `kept` where it is not and the instrument gets
        its weights all the same; `rollback` to the last checkpoint after the loss broke; `damaged`: the newest
        checkpoint cannot be used and the one before it is taken; `enough`: early stopping; `phase`: work begins that
        takes seconds or minutes, see `message`; `pretrain`: `step` and `total` are those of the fit to measured
        controls.
      message: the step that begins, for people.
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
    """Returns the progress of a run.

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
