"""Resources of a training, known before a framework loads: memory of a step, processes, GPUs.

A preset of absurd size is refused. Which processes take part is read from the environment that a launcher made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, Preset
from ddsp_cli.dataset.manifest import WINDOW_S
from ddsp_cli.errors import ModelError, UsageError

#: A step that takes more is refused; no device that the program runs on has as much.
MAX_STEP_GB = 128.0

#: Bytes of a float32, and how many arrays of a size the forward and the backward pass hold at the same time.
FLOAT_BYTES, N_COPIES = 4, 3

#: Floats of a weight: its value, its gradient, two moments of Adam.
PER_WEIGHT = 4

_WHAT = {
    "oscillators": ("n_harmonics", "batch_size", "crop_s"),
    "noise": ("n_bands", "batch_size", "crop_s"),
    "loss": ("fft_sizes", "batch_size", "crop_s"),
    "network": ("channels", "rnn_units", "layers_per_stack"),
}


def step_memory_gb(preset: Preset) -> dict[str, float]:
    """Estimates the memory of a training step in GB, part by part, to a factor of about two.

    Returns:
      `oscillators` (an amplitude and a phase per harmonic and sample), `noise` (magnitudes and filtered frames), `loss`
      (spectrograms with 75 % overlap: two complex values per sample and FFT size), `network` (weights, and the states
      of each frame).
    """
    model, training = preset.model, preset.training
    n_samples = training.batch_size * min(training.crop_s, WINDOW_S) * (training.render_rate_hz or model.sample_rate_hz)
    n_frames = training.batch_size * min(training.crop_s, WINDOW_S) * model.frame_rate_hz
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    n_harmonics = harmonic[1].n_harmonics if harmonic else 0
    n_bands = noise[1].n_bands if noise else 0
    sizes = model.sizes
    n_stacked = len(model.inputs) * sizes.channels
    n_hidden = max(0, sizes.layers_per_stack - 1) * sizes.channels**2
    n_weights = (
        (len(model.inputs) + 1) * n_hidden
        + 3 * sizes.rnn_units * (sizes.rnn_units + n_stacked)
        + (n_stacked + sizes.rnn_units) * sizes.channels
        + sizes.channels * (1 + n_harmonics + n_bands)
    )
    states = n_frames * (4 * sizes.rnn_units + (sizes.layers_per_stack + 1) * (n_stacked + sizes.channels))
    floats = {
        "oscillators": N_COPIES * n_samples * n_harmonics,
        "noise": N_COPIES * 4 * n_frames * n_bands,
        "loss": N_COPIES * n_samples * 4 * len(training.loss.fft_sizes),
        "network": PER_WEIGHT * n_weights + N_COPIES * states,
    }
    return {name: count * FLOAT_BYTES / 1e9 for name, count in floats.items()}


def check_cost(preset: Preset) -> None:
    """Refuses a preset whose training step would not fit into memory.

    Raises:
      ModelError: it would take more than `MAX_STEP_GB`.
    """
    parts = step_memory_gb(preset)
    total = sum(parts.values())
    if total > MAX_STEP_GB:
        most = max(parts, key=lambda name: parts[name])
        raise ModelError(
            f"a training step of this preset would take about {total:,.0f} GB of memory, {parts[most]:,.0f} GB of it "
            f"for the {most}; {MAX_STEP_GB:.0f} GB are the most",
            f"Lower {', '.join(_WHAT[most][:-1])} or {_WHAT[most][-1]}.",
        )


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


def members_from_environment(environment: Mapping[str, str] = os.environ) -> Members | None:
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
    """Reads variables that name the first process alone, so that all processes have to be on its machine."""
    n = int(environment["WORLD_SIZE"])
    if int(environment.get("LOCAL_WORLD_SIZE", n)) != n:
        raise UsageError(
            "torchrun does not give the addresses of the processes on other machines",
            "Start the training with srun, or set TF_CONFIG on each machine.",
        )
    host, port = environment.get("MASTER_ADDR", "127.0.0.1"), int(environment["MASTER_PORT"])
    # torchrun itself listens on MASTER_PORT
    return Members(n, int(environment["RANK"]), tuple(f"{host}:{port + 1 + i}" for i in range(n)))


#: Devices of the drivers of NVIDIA, of AMD, and of Windows below Linux.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))


def has_gpu() -> bool:
    """Whether this machine has the driver of a GPU that TensorFlow may find."""
    return any(device.exists() for device in _GPU_DEVICES)


def take_one_gpu(environment: MutableMapping[str, str] = os.environ) -> None:
    """Leaves each process of a machine one of its GPUs, unless the launcher did; before a framework is loaded."""
    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if local is not None and "CUDA_VISIBLE_DEVICES" not in environment:
        environment["CUDA_VISIBLE_DEVICES"] = local
