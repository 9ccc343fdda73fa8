"""LiteRT (TensorFlow Lite) for phones and embedded hosts: two files, one frame at a time, state in and out.

    controls.tflite   f0_hz [1], LEVEL [1], state [U]
                      → amplitude [1], harmonic_distribution [K], noise_magnitudes [M], next_state [U]
    audio.tflite      the same and noise [H] in [-1, 1), last_f0_hz [1], last_amplitudes [K], phase_turns [1],
                      noise_tail [N]  → audio [H], and next_… of every state

LEVEL is `power_db` or `loudness_db`, whichever drives the model. States start at 0. The sound is dry, without the
room, and lags one hop: a frame completes the sound up to it. Builtin operators in version 1 only.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.backend import native_stderr_held_back
from ddsp_cli.bundle import Bundle
from ddsp_cli.exporters import audio_graph, checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import CONTROL_NAMES, SynthState, state_shapes, synthesise
from ddsp_cli.exporters.tflite_ops import TfliteOps

CONTROLS, AUDIO = "controls.tflite", "audio.tflite"


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes both files, streams a phrase through each and compares with the bundle.

    Raises:
      ModelError: not one harmonic and one noise synthesiser.
      OutputError: what was written does not agree with the bundle.
    """
    model = bundle.card.model
    contract = {}
    for name, audio in ((CONTROLS, False), (AUDIO, True)):
        content, contract[name] = build(bundle, audio)
        (folder / name).write_bytes(content)
    write_impulse_responses(bundle, folder)
    played = checks.phrase(bundle)
    frames = {"f0_hz": played.f0_hz, model.level: played.level_db}
    found = Stream(folder / CONTROLS, {"state": "next_state"}).run(frames)
    controls = {name: found[name] for name in CONTROL_NAMES}
    controls["state"] = found["next_state"][-1]
    difference = checks.controls_difference(controls, checks.expected_controls(bundle, played))
    states = {name: f"next_{name}" for name in ("state", *state_shapes(model))}
    sound = Stream(folder / AUDIO, states).run(frames | {"noise": played.noise})["audio"].reshape(-1)
    expected = checks.expected_audio(bundle, played, room=False)[: -model.hop_samples]
    measured = {
        "controls_difference": difference,
        "audio_difference_db": checks.audio_difference_db(sound[model.hop_samples :], expected),
        "checked_frames": float(checks.CHECKED_FRAMES),
    }
    return checks.Exported(measured, contract)


def build(bundle: Bundle, audio: bool) -> tuple[bytes, dict[str, Any]]:
    """Writes one of the two files.

    Args:
      bundle: the instrument.
      audio: whether it gives sound, or controls.

    Returns:
      The file, and its `inputs` and `outputs` with their shapes.
    """
    model = bundle.card.model
    ops = TfliteOps()
    units, hop = model.sizes.rnn_units, model.hop_samples
    f0_hz = ops.reshape(ops.input("f0_hz", (1,)), (1, 1))
    level = ops.reshape(ops.input(model.level, (1,)), (1, 1))
    state = ops.reshape(ops.input("state", (units,)), (1, units))
    scaled_level = audio_graph.scaled_from_db(ops, level)
    scaled = {"f0_scaled": audio_graph.scaled_from_f0(ops, f0_hz), "pw_scaled": scaled_level, "ld_scaled": scaled_level}
    controls, next_state = audio_graph.decode_controls(ops, bundle, scaled, f0_hz, state)
    names = ["f0_hz", model.level, "state", "next_state"]
    if audio:
        noise = ops.reshape(ops.input("noise", (hop,)), (1, hop))
        shapes = state_shapes(model)
        states = {name: ops.reshape(ops.input(name, (int(np.prod(s)),)), s) for name, s in shapes.items()}
        sound, new = synthesise(ops, model, controls, f0_hz, noise, SynthState(**states))
        ops.output("audio", sound, (hop,))
        for field in fields(new):
            ops.output(f"next_{field.name}", getattr(new, field.name), (int(np.prod(shapes[field.name])),))
        names += ["noise", "audio", *shapes, *(f"next_{name}" for name in shapes)]
    else:
        for name in CONTROL_NAMES:
            ops.output(name, controls[name], (ops.size(controls[name]),))
            names.append(name)
    ops.output("next_state", next_state, (units,))
    content = ops.finish(f"{bundle.card.name}, a ddsp instrument", {name: name for name in names})
    return content, ops.interface()


class Stream:
    """Runs a model file frame by frame, feeding its states back.

    Args:
      path: of the file.
      states: input → the output that is its next value.
    """

    def __init__(self, path: Path, states: dict[str, str]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Without delegates: the file is compared, and not an accelerator's way of computing it.
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        content = path.read_bytes()  # by content, since the library cannot open every path
        with native_stderr_held_back():
            self._interpreter: Any = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
            self._interpreter.allocate_tensors()
        self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        self._outputs = {entry["name"]: entry for entry in self._interpreter.get_output_details()}
        self._states = states

    def run(self, frames: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Runs frames from states of 0.

        Args:
          frames: input → values, [F] or [F, n].

        Returns:
          Output → values, [F, n].
        """
        states = {name: np.zeros(self._inputs[name]["shape"], np.float32) for name in self._states}
        found: dict[str, list[FloatArray]] = {name: [] for name in self._outputs}
        for i in range(len(next(iter(frames.values())))):
            for name, values in frames.items():
                entry = self._inputs[name]
                self._interpreter.set_tensor(entry["index"], values[i].astype(np.float32).reshape(entry["shape"]))
            for name, value in states.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], value)
            self._interpreter.invoke()
            for name, entry in self._outputs.items():
                found[name].append(self._interpreter.get_tensor(entry["index"]))
            states = {name: found[output][-1] for name, output in self._states.items()}
        return {name: np.stack(values) for name, values in found.items()}
