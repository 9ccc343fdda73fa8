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

from ddsp_cli.atomic import beside
from ddsp_cli.errors import Kind, ModelError
from ddsp_cli.training.state import CHECKPOINT, RunState


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
    record = msgspec.json.encode(state).decode()
    with beside(folder / CHECKPOINT, f".{CHECKPOINT}.new") as part:
        save_file(arrays, part, metadata={"state": record})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())


def restore(folder: Path, model: keras.Model) -> None:
    """Sets every variable of model and optimiser from the checkpoint in `folder`.

    Raises:
      ModelError: the checkpoint belongs to another model.
    """
    from safetensors.numpy import load_file

    arrays = load_file(folder / CHECKPOINT)
    variables = _variables(model)
    if arrays.keys() != variables.keys() or any(tuple(v.shape) != arrays[name].shape for name, v in variables.items()):
        raise ModelError(
            f"{folder / CHECKPOINT} belongs to another model",
            "Start again with resume=False.",
            kind=Kind.CHECKPOINT_UNUSABLE,
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
