"""What a run remembers besides its variables. Knows no framework, so that a mistake is answered before one loads."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from ddsp_cli.config import Config
from ddsp_cli.errors import Kind, ModelError

CHECKPOINT = "checkpoint.safetensors"


class Point(Config):
    """One validation."""

    step: int
    loss: float
    validation_loss: float
    wall_s: float = 0.0  # of training until then; 0 in runs of versions that did not note it
    level: float = 1.0  # energy played, as a share of the recordings'


class RunState(Config):
    """What a run has to remember besides its variables."""

    preset: str  # the YAML text it was started with
    dataset: str  # digest of the data set
    seed: int
    step: int = 0
    wall_s: float = 0.0
    best_loss: float = sys.float_info.max  # worse than any; JSON knows no infinity
    history: list[Point] = []
    rollbacks: int = 0
    finished: bool = False
    started_from: str | None = None  # the instrument it began with, "" for none; None where a version did not note it


def read_state(folder: Path) -> RunState | None:
    """The record of the checkpoint in `folder`, or None where there is none.

    Raises:
      ModelError: there is one, and it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
        return msgspec.json.decode(metadata.get("state", ""), type=RunState)
    except (SafetensorError, OSError, msgspec.DecodeError) as problem:
        raise ModelError(
            f"{path} is not a readable checkpoint", "Start again with resume=False.", kind=Kind.CHECKPOINT_UNUSABLE
        ) from problem
