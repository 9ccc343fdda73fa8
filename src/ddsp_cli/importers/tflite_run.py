"""Runs a TensorFlow Lite file of a stranger in a process of its own: to compare it with what was read, or to try it.

In a process of its own, because the interpreter is native code: a file made to crash it shall not take us along.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import tflite_graph
from ddsp_cli.importers.flatbuffer import Subgraph
from ddsp_cli.synthesis.decoder import Network, physical
from ddsp_cli.synthesis.litert_decoder import INPUTS, NEW_STATE, OUTPUTS, STATE, check_litert

TOLERANCE = 1e-4
N_FRAMES = 24
TIMEOUT_S = 60.0
#: Numbers in one tensor; the largest of an instrument has under a million.
MAX_ELEMENTS = 1 << 26

_SCRIPT = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
path, given, result, state = sys.argv[1:5]
with open(path, "rb") as stream:
    content = stream.read()
run = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
run.allocate_tensors()
inputs = {entry["name"]: entry for entry in run.get_input_details()}
outputs = {entry["name"]: entry for entry in run.get_output_details()}
frames = dict(np.load(given))
held = np.zeros(inputs[state]["shape"], np.float32)
found = {name: [] for name in outputs}
for i in range(len(next(iter(frames.values())))):
    for name, values in frames.items():
        run.set_tensor(inputs[name]["index"], values[i].reshape(inputs[name]["shape"]))
    run.set_tensor(inputs[state]["index"], held)
    run.invoke()
    for name, entry in outputs.items():
        found[name].append(run.get_tensor(entry["index"]).reshape(-1))
    held = found[sys.argv[5]][-1].reshape(inputs[state]["shape"])
np.savez(result, **{name: np.stack(values) for name, values in found.items()})
"""


def check_contract(graphs: list[Subgraph]) -> None:
    """A file can be run without being understood if it takes and gives what the plug-in's models do.

    Raises:
      ModelError: it does not, or it holds what no instrument of that size can.
    """
    main = graphs[0]
    for indices, wanted, verb in ((main.inputs, INPUTS, "takes"), (main.outputs, OUTPUTS, "gives")):
        tensors = [main.tensors[i] for i in indices if i >= 0]
        sizes = {tensor.name: math.prod(tensor.shape) for tensor in tensors if tensor.is_float32}
        if len(indices) != len(wanted) or sizes != wanted:
            found = ", ".join(f"{tensor.name[:40]} {list(tensor.shape)}" for tensor in tensors[:8]) or "nothing"
            raise ModelError(
                f"its network is of an unknown make and {verb} {found}, not {_listed(wanted)} in float32",
                "Only models of the DDSP-VST plug-in, 50 frames of power and pitch a second, can be imported.",
            )
    if any(math.prod(tensor.shape) > MAX_ELEMENTS for graph in graphs for tensor in graph.tensors):
        raise ModelError("its network is larger than any instrument can be")


def run(path: Path) -> dict[str, np.ndarray]:
    """Streams `phrase` through the file.

    Returns:
      Controls and the state after each frame, by their names here, [F, n] each.

    Raises:
      ModelError: the file does not run.
    """
    check_litert()
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "result.npz"
        np.savez(given, **{tflite_graph.INPUTS[name]: values for name, values in phrase().items()})  # type: ignore[arg-type]
        command = [sys.executable, "-P", "-c", _SCRIPT, str(path), str(given), str(result), STATE, NEW_STATE]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as problem:
            raise ModelError("it does not come to an end when it is run") from problem
        if done.returncode != 0 or not result.is_file():
            raise ModelError("it does not run", "The file is damaged, or made for another program.")
        with np.load(result, allow_pickle=False) as archive:
            return {name: archive[tensor] for name, tensor in tflite_graph.OUTPUTS.items()}


def phrase() -> dict[str, np.ndarray]:
    """A few frames by the names of network inputs, [F] each."""
    swing = np.sin(np.linspace(0.0, 6.0, N_FRAMES))
    frames = {"f0_scaled": 0.48 + 0.09 * swing, "pw_scaled": 0.6 + 0.3 * swing[::-1]}
    return {name: values.astype(np.float32) for name, values in frames.items()}


def agrees(bundle: Bundle, found: dict[str, np.ndarray]) -> bool:
    """Whether the network that was read from a file gives what `run` found the file to give."""
    expected = controls(bundle, phrase())
    return all(
        found[name].shape == value.shape and float(np.abs(found[name] - value).max()) <= TOLERANCE
        for name, value in expected.items()
    )


def check_controls(found: dict[str, np.ndarray]) -> None:
    """What `run` found must be something to play.

    Raises:
      ModelError: it is not.
    """
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ModelError(f"its {name.replace('_', ' ')} is not always a number")
        if name != "state" and value.min() < -TOLERANCE:
            raise ModelError(f"its {name.replace('_', ' ')} falls below 0")
    if found["harmonic_distribution"].sum(axis=-1).max() > 1.0 + 1e-2:
        raise ModelError("its harmonics add up to more than 1")


def controls(bundle: Bundle, frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the network gives for scaled inputs [F]: controls and the state after each frame, as the file does."""
    model = bundle.card.model
    network = Network(bundle)
    rows, states = [], []
    for row in np.stack([frames[name] for name in model.inputs], axis=-1):
        rows.append(network.step(row[None]))
        states.append(network.state)
    raw = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    f0_hz = np.asarray(scaling.midi_to_hz(frames["f0_scaled"] * np.float32(scaling.F0_RANGE_MIDI)))
    return physical(model, raw, f0_hz) | {"state": np.stack(states)}


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} [{size}]" for name, size in sizes.items())
