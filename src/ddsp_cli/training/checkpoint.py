"""The whole state of a training on disk: written beside its place, flushed, renamed. A kill loses steps, never the run.

One safetensors file holds every variable of model and optimiser (random state and step count are among them) with
the run's own record in its metadata, so that the two cannot come apart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli.config import Config
from ddsp_cli.errors import ModelError

FILE = "checkpoint.safetensors"


class Point(Config):
    """One validation."""

    step: int
    loss: float
    validation_loss: float


class RunState(Config):
    """What a run has to remember besides its variables."""

    preset: str  # the YAML text it was started with
    dataset: str  # digest of the data set
    seed: int
    epoch: int = 0
    steps_per_epoch: int = 100
    wall_s: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    history: list[Point] = []
    rollbacks: int = 0
    finished: bool = False

    @property
    def step(self) -> int:
        return self.epoch * self.steps_per_epoch


def _variables(model: keras.Model) -> dict[str, Any]:
    # Random state is among the non-trainable variables: the noise after a restart is the noise not yet drawn.
    # Running means of metrics are not here; they begin anew with each epoch.
    owners = {
        "weight": model.trainable_variables,
        "state": model.non_trainable_variables,
        "optimizer": model.optimizer.variables,
    }
    return {f"{owner}/{i:03d}": v for owner, found in owners.items() for i, v in enumerate(found)}


def save(folder: Path, model: keras.Model, state: RunState) -> None:
    """Replaces the checkpoint in `folder` in one step."""
    from safetensors.numpy import save_file

    arrays = {name: np.array(ops.convert_to_numpy(v), order="C") for name, v in _variables(model).items()}
    target = folder / FILE
    beside = folder / f".{FILE}.new"
    record = msgspec.json.encode(state).decode()
    save_file(arrays, beside, metadata={"state": record})
    with beside.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(beside, target)


def read_state(folder: Path) -> RunState | None:
    """The record of the checkpoint in `folder`, or None where there is none.

    Raises:
      ModelError: there is one, and it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
        return msgspec.json.decode(metadata.get("state", ""), type=RunState)
    except (SafetensorError, OSError, msgspec.DecodeError) as problem:
        raise ModelError(f"{path} is not a readable checkpoint", "Start again with --fresh.") from problem


def restore(folder: Path, model: keras.Model) -> None:
    """Sets every variable of model and optimiser from the checkpoint in `folder`.

    Raises:
      ModelError: the checkpoint belongs to another model.
    """
    from safetensors.numpy import load_file

    arrays = load_file(folder / FILE)
    variables = _variables(model)
    if arrays.keys() != variables.keys() or any(
        tuple(v.shape) != arrays[name].shape for name, v in variables.items()
    ):
        raise ModelError(f"{folder / FILE} belongs to another model", "Start again with --fresh.")
    for name, variable in variables.items():
        variable.assign(arrays[name])
