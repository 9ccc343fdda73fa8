"""Runs a TensorFlow Lite file of a stranger in a process of its own and compares it with what was read from it.

In a process of its own, because the interpreter is native code: a file made to crash it shall not take us along.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ddsp_cli import formulas
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.importers.tflite_graph import INPUTS, OUTPUTS, STATE
from ddsp_cli.runtime.network import Network

TOLERANCE = 1e-4
N_FRAMES = 24
TIMEOUT_S = 60.0

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


def compare(bundle: Bundle, path: Path) -> float:
    """Streams a few frames through the file and through the network that was read from it.

    Returns:
      The largest difference of any control.

    Raises:
      ModelError: the file does not run, or does something else.
    """
    swing = np.sin(np.linspace(0.0, 6.0, N_FRAMES))
    frames = {"f0_scaled": (0.48 + 0.09 * swing), "pw_scaled": (0.6 + 0.3 * swing[::-1])}
    frames = {name: values.astype(np.float32) for name, values in frames.items()}
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "result.npz"
        np.savez(given, **{INPUTS[name]: values for name, values in frames.items()})  # type: ignore[arg-type]
        command = [sys.executable, "-c", _SCRIPT, str(path), str(given), str(result), STATE, OUTPUTS["state"]]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as problem:
            raise ModelError(f"{path} does not come to an end when it is run") from problem
        if done.returncode != 0 or not result.is_file():
            raise ModelError(f"{path} does not run", "The file is damaged, or made for another program.")
        with np.load(result, allow_pickle=False) as archive:
            found = {name: archive[OUTPUTS[name]] for name in OUTPUTS}
    expected = controls(bundle, frames)
    if any(found[name].shape != value.shape for name, value in expected.items()):
        raise ModelError(f"{path} has outputs of an unknown shape")
    difference = max(float(np.abs(found[name] - value).max()) for name, value in expected.items())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path} is a network of an unknown make: what was read from it differs from what it does by "
            f"{difference:.2g}"
        )
    return difference


def controls(bundle: Bundle, frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the network gives for scaled inputs [F]: controls and the state after each frame, as the file does."""
    model = bundle.card.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    network = Network(bundle)
    rows, states = [], []
    for row in np.stack([frames[name] for name in model.inputs], axis=-1):
        rows.append(network.step(row[None]))
        states.append(network.gru.state.copy())
    raw = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    f0_hz = np.asarray(formulas.midi_to_hz(frames["f0_scaled"] * np.float32(formulas.F0_RANGE_MIDI)))[:, None]
    return {
        "amplitude": np.asarray(formulas.exp_sigmoid(raw["amplitude"])),
        "harmonic_distribution": np.asarray(
            formulas.harmonic_distribution(raw["harmonic_distribution"], f0_hz, model.sample_rate_hz)
        ),
        "noise_magnitudes": np.asarray(
            formulas.exp_sigmoid(raw["noise_magnitudes"] + np.float32(noise[1].initial_bias))
        ),
        "state": np.stack(states),
    }
