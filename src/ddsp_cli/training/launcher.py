"""Read from the environment which processes a launcher started for a training. Imports no framework."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from ddsp_cli.errors import UsageError


@dataclass(frozen=True)
class Members:
    """The processes of a training.

    Attributes:
      n: how many.
      index: which of them this is.
      addresses: `host:port` of each; empty in a step of Slurm, whose list of nodes TensorFlow reads.
    """

    n: int
    index: int
    addresses: tuple[str, ...] = ()


def from_environment(environment: Mapping[str, str] = os.environ) -> Members | None:
    """Reads who takes part from the variables of a launcher; None for a single process.

    Raises:
      UsageError: the variables contradict each other, or do not say where the other processes are.
    """
    try:
        if "TF_CONFIG" in environment:
            found = json.loads(environment["TF_CONFIG"])
            if found["task"]["type"] != "worker":
                raise UsageError("TF_CONFIG names this process something else than a worker", "Use workers only.")
            addresses = tuple(map(str, found["cluster"]["worker"]))
            members = Members(len(addresses), int(found["task"]["index"]), addresses)
        elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            members = Members(int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_PROCID"]))
        elif int(environment.get("WORLD_SIZE", "1")) > 1:
            members = _of_torchrun(environment)
        else:
            return None
    except (ValueError, KeyError, TypeError) as problem:
        raise UsageError(
            f"the launcher's variables do not say who takes part in the training: {problem!r}",
            "Start every process with torchrun or srun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.",
        ) from problem
    if not 0 <= members.index < members.n:
        raise UsageError(
            f"this is process {members.index} of {members.n}: the launcher's variables contradict each other",
            "Number the processes from 0.",
        )
    return members if members.n > 1 else None


def _of_torchrun(environment: Mapping[str, str]) -> Members:
    """They name the first process alone, so that all have to be on its machine."""
    n = int(environment["WORLD_SIZE"])
    if int(environment.get("LOCAL_WORLD_SIZE", n)) != n:
        raise UsageError(
            "torchrun does not say where the processes of other machines are",
            "Start the training with srun, or set TF_CONFIG on each machine.",
        )
    host, port = environment.get("MASTER_ADDR", "127.0.0.1"), int(environment["MASTER_PORT"])
    # torchrun itself listens on MASTER_PORT
    return Members(n, int(environment["RANK"]), tuple(f"{host}:{port + 1 + i}" for i in range(n)))


def take_one_gpu(environment: MutableMapping[str, str] = os.environ) -> None:
    """Leaves each process of a machine one of its GPUs, unless the launcher did; before a framework is loaded."""
    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if local is not None and "CUDA_VISIBLE_DEVICES" not in environment:
        environment["CUDA_VISIBLE_DEVICES"] = local
