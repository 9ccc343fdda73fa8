"""ONNX, for everything that runs ONNX Runtime: two or three files, any number of frames per call, state in and out.

    controls.onnx   f0_hz [frames], LEVEL [frames], state [U]
                    → amplitude [frames, 1], harmonic_distribution [frames, K], noise_magnitudes [frames, M],
                      next_state [U]
    audio.onnx      the same and noise [frames, H] in [-1, 1), last_f0_hz [1], last_amplitudes [K], phase_turns [1],
                    noise_tail [N], and with a room its room_tail [L - 1]
                    → audio [samples], and next_… of every state

    dry.onnx        audio.onnx without the room, for hosts that stream by single frames: the room is a Fourier
                    transform of its whole length at each call. Only where there is a room.

LEVEL is `power_db` or `loudness_db`, whichever drives the model. States start at 0. One frame per call streams;
all frames in one call render a phrase. The sound lags one hop: its first hop is the silence before the first frame,
so drop it, and give the last frame twice to hear its end. Opset 17.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import packages
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.config.model import ROOMS
from ddsp_cli.exporters import audio_graph, checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import CONTROL_NAMES, SynthState, state_shapes, synthesise
from ddsp_cli.synthesis.ops import layer_norm

CONTROLS, AUDIO, DRY = "controls.onnx", "audio.onnx", "dry.onnx"
FRAMES, SAMPLES = "frames", "samples"


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes the graphs, plays a phrase on each in ONNX Runtime and compares with the bundle.

    There is a graph of the controls, one of the sound, and one of the dry sound where the instrument has a room. The
    controls are streamed frame by frame; the sound is rendered in two unequal calls.

    Raises:
      ModelError: not one harmonic and one noise synthesiser.
      OutputError: the written file does not agree with the bundle.
    """
    model = bundle.card.model
    kinds = {CONTROLS: (False, False), AUDIO: (True, has_room(bundle))}
    if has_room(bundle):
        kinds[DRY] = (True, False)
    contract = {}
    for name, kind in kinds.items():
        content, contract[name] = build(bundle, *kind)
        (folder / name).write_bytes(content)
    write_impulse_responses(bundle, folder)
    played = checks.phrase(bundle)
    frames = {"f0_hz": played.f0_hz, model.level: played.level_db}
    found = run(folder / CONTROLS, frames, [1] * checks.CHECKED_FRAMES)
    found["state"] = found.pop("next_state")
    difference = checks.controls_difference(found, checks.expected_controls(bundle, played))
    cut = checks.CHECKED_FRAMES // 3
    measured_db = {}
    for name, (audio, room) in kinds.items():
        if audio:
            sound = run(folder / name, frames | {"noise": played.noise}, [cut, checks.CHECKED_FRAMES - cut])["audio"]
            expected = checks.expected_audio(bundle, played, room)[: -model.hop_samples]
            measured_db[name] = checks.audio_difference_db(sound[model.hop_samples :], expected)
    measured = {
        "controls_difference": difference,
        "audio_difference_db": max(measured_db.values()),
        "checked_frames": float(checks.CHECKED_FRAMES),
        "opset": float(OPSET),
    }
    return checks.Exported(measured, contract)


def has_room(bundle: Bundle) -> bool:
    """Whether the processor graph has a learned room."""
    nodes = bundle.card.model.processors.values()
    return bundle.impulse_response is not None and any(isinstance(node, ROOMS) for node in nodes)


def build(bundle: Bundle, audio: bool, room: bool) -> tuple[bytes, dict[str, Any]]:
    """Writes one of the files.

    Args:
      bundle: the instrument.
      audio: whether it gives sound, or controls.
      room: whether the sound includes the reverb.

    Returns:
      The file, and its `inputs` and `outputs` with their shapes.
    """
    model = bundle.card.model
    ops = OnnxOps()
    units, hop = model.sizes.rnn_units, model.hop_samples
    f0_hz = ops.reshape(ops.input("f0_hz", (FRAMES,)), (-1, 1))
    level = ops.reshape(ops.input(model.level, (FRAMES,)), (-1, 1))
    state = ops.reshape(ops.input("state", (units,)), (1, units))
    scaled_level = audio_graph.scaled_from_db(ops, level)
    scaled = {"f0_scaled": audio_graph.scaled_from_f0(ops, f0_hz), "pw_scaled": scaled_level, "ld_scaled": scaled_level}
    controls, next_state = audio_graph.decode_controls(ops, bundle, scaled, f0_hz, state)
    if audio:
        noise = ops.input("noise", (FRAMES, hop))
        shapes = state_shapes(model)
        states = {name: ops.reshape(ops.input(name, (int(np.prod(s)),)), s) for name, s in shapes.items()}
        sound, new = synthesise(ops, model, controls, f0_hz, noise, SynthState(**states))
        dry = ops.reshape(sound, (-1,))
        if room:
            dry = _room(ops, dry, bundle)
        ops.output("audio", dry, (SAMPLES,))
        for field in fields(new):
            ops.output(f"next_{field.name}", getattr(new, field.name), (int(np.prod(shapes[field.name])),))
    else:
        harmonic, bands = audio_graph.synthesisers(model)
        for name, width in zip(CONTROL_NAMES, (1, harmonic.n_harmonics, bands.n_bands), strict=True):
            ops.output(name, controls[name], (FRAMES, width))
    ops.output("next_state", next_state, (units,))
    content = ops.finish(bundle.card.name, f"{bundle.card.name}, a ddsp instrument", _metadata(bundle))
    return content, ops.interface()


def _room(ops: OnnxOps, dry: str, bundle: Bundle) -> str:
    """Adds reverb to dry sound [S]; the past of the sound is one more state."""
    assert bundle.impulse_response is not None
    response = np.array(bundle.impulse_response, np.float32)
    response[:1] = 0.0
    n_past = len(response) - 1
    line = ops.concat([ops.input("room_tail", (n_past,)), dry], 0)
    ops.output("next_room_tail", ops.rows(line, -n_past, None), (n_past,))
    return ops.binary("add", dry, ops.convolve(line, response))


def _metadata(bundle: Bundle) -> dict[str, str]:
    model, statistics = bundle.card.model, bundle.card.statistics
    levels = statistics.level(model.level)
    return {
        "name": bundle.card.name,
        "licence": bundle.card.licence,
        "sample_rate_hz": str(model.sample_rate_hz),
        "frame_rate_hz": str(model.frame_rate_hz),
        "level": model.level,
        "pitch_midi_range": f"{statistics.pitch_midi[5]:.2f} {statistics.pitch_midi[95]:.2f}",
        "level_db_range": f"{levels[5]:.2f} {levels[95]:.2f}",
    }


def run(path: Path, frames: dict[str, FloatArray], calls: list[int]) -> dict[str, FloatArray]:
    """Plays frames in calls of the given lengths, feeding the states back, from 0.

    Args:
      path: of the file.
      frames: input → values, [F] or [F, n].
      calls: numbers of frames, F together.

    Returns:
      Outputs of all calls joined, and the last value of each state.
    """
    session = packages.load_onnx_runtime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    states = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name not in frames}
    names = [entry.name for entry in session.get_outputs()]
    parts: dict[str, list[FloatArray]] = {name: [] for name in names if not name.startswith("next_")}
    start = 0
    for n_frames in calls:
        given = {name: values[start : start + n_frames].astype(np.float32) for name, values in frames.items()}
        found = dict(zip(names, session.run(names, given | states), strict=True))
        states = {name: found[f"next_{name}"] for name in states}
        for name, collected in parts.items():
            collected.append(found[name])
        start += n_frames
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return joined | {f"next_{name}": value for name, value in states.items()}


#: The lowest version of the operators that has a Fourier transform (DFT). ONNX Runtime reads it from 1.13 on, and
#: onnxruntime-web reads it.
OPSET = 17
IR_VERSION = 8

_UNARY = {"sigmoid": "Sigmoid", "tanh": "Tanh", "sin": "Sin", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
          "floor": "Floor"}  # fmt: skip
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max"}


class OnnxOps:
    """The vocabulary of `synthesis.ops.Ops` as an ONNX graph.

    Any number of frames at once: F is the symbolic axis `frames`. Tensors are names.
    """

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, shape: tuple[int | str, ...]) -> str:
        """Declares an input of the file; axes may be names."""
        self._inputs.append(self._value(name, shape))
        return name

    def output(self, name: str, x: str, shape: tuple[int | str, ...]) -> None:
        """Declares an output of the file: `x`, reshaped; at most one axis may be a name."""
        fixed = np.array([-1 if isinstance(axis, str) else axis for axis in shape], np.int64)
        self._nodes.append(self._onnx.helper.make_node("Reshape", [x, self._constant(fixed)], [name]))
        self._outputs.append(self._value(name, shape))

    def interface(self) -> dict[str, dict[str, list[int | str]]]:
        """Lists the names and shapes of inputs and outputs."""

        def shape(value: Any) -> list[int | str]:
            return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

        sides = {"inputs": self._inputs, "outputs": self._outputs}
        return {side: {value.name: shape(value) for value in values} for side, values in sides.items()}

    def finish(self, name: str, description: str, metadata: dict[str, str]) -> bytes:
        """Returns the file, checked by the onnx package."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ddsp")
        model.doc_string = description
        helper.set_model_props(model, metadata)
        self._onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    # --- Ops ----------------------------------------------------------------------------------------------------

    def constant(self, value: Any) -> str:
        return self._constant(np.asarray(value, np.float32))

    def unary(self, kind: str, x: str) -> str:
        if kind == "rsqrt":
            return self.node("Reciprocal", self.node("Sqrt", x))
        return self.node(_UNARY[kind], x)

    def binary(self, kind: str, a: str, b: str) -> str:
        return self.node(_BINARY[kind], a, b)

    def leaky_relu(self, x: str, slope: float) -> str:
        return self.node("LeakyRelu", x, alpha=slope)

    def less(self, a: str, b: str) -> str:
        return self.to_single(self.node("Less", a, b))

    def mean(self, x: str) -> str:
        return self.node("ReduceMean", x, axes=[-1], keepdims=1)

    def sum(self, x: str) -> str:
        return self.node("ReduceSum", x, self.integers(-1), keepdims=1)

    def dense(self, x: str, kernel: FloatArray, bias: FloatArray | None = None) -> str:
        inputs = [x, self.constant(kernel)] + ([] if bias is None else [self.constant(bias)])
        return self.node("Gemm", *inputs)

    def layer_norm(self, x: str, gamma: FloatArray, beta: FloatArray, epsilon: float) -> str:
        return layer_norm(self, x, gamma, beta, epsilon)

    def gru(self, x: str, state: str, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray) -> tuple[str, str]:
        units = recurrent.shape[0]
        # One batch; ONNX wants [directions, 3U, I] and both biases in one row. Its gates are z, r, h like Keras's.
        weights = [self.constant(kernel.T[None]), self.constant(recurrent.T[None]), self.constant(bias.reshape(1, -1))]
        sequence = self.node("Unsqueeze", x, self.integers(1))
        start = self.node("Unsqueeze", state, self.integers(0))
        outputs = [self._name(), self._name()]
        inputs = [sequence, *weights, "", start]
        self._nodes.append(
            self._onnx.helper.make_node("GRU", inputs, outputs, hidden_size=units, linear_before_reset=1)
        )
        return self.reshape(outputs[0], (-1, units)), self.reshape(outputs[1], (1, units))

    def concat(self, parts: list[str], axis: int) -> str:
        return self.node("Concat", *parts, axis=axis)

    def columns(self, x: str, start: int, stop: int) -> str:
        return self.node("Slice", x, self.integers(start), self.integers(stop), self.integers(-1))

    def rows(self, x: str, start: int, stop: int | None) -> str:
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.node("Slice", x, self.integers(start), self.integers(end), self.integers(0))

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", x, self.integers(*shape))

    def sum_before(self, x: str) -> str:
        return self.node("CumSum", x, self._constant(np.array(0, np.int64)), exclusive=1)

    def to_double(self, x: str) -> str:
        return self.node("Cast", x, to=self._onnx.TensorProto.DOUBLE)

    def to_single(self, x: str) -> str:
        return self.node("Cast", x, to=self._onnx.TensorProto.FLOAT)

    # --- beyond the vocabulary ---------------------------------------------------------------------------------------

    def integers(self, *values: int) -> str:
        """Adds a constant [n] int64."""
        return self._constant(np.array(values, np.int64))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator with one output."""
        name = self._name()
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def convolve(self, signal: str, response: FloatArray) -> str:
        """Convolves a signal by Fourier transforms.

        Args:
          signal: [S + L - 1], whose first L - 1 samples are the past.
          response: [L].

        Returns:
          [S].
        """
        size = self.node("ReduceSum", self.node("Shape", signal), self.integers(0), keepdims=0)
        octaves = self.node("Div", self.node("Log", self.to_single(size)), self.constant(np.log(2.0)))
        power = self.node("Pow", self.constant(2.0), self.node("Ceil", octaves))
        length = self.node("Cast", power, to=self._onnx.TensorProto.INT64)
        column = (1, -1, 1)
        spectra = [self.node("DFT", self.reshape(x, column), length, axis=1) for x in (signal, self.constant(response))]
        (a, b), (c, d) = ([self.columns(x, 0, 1), self.columns(x, 1, 2)] for x in spectra)
        real = self.binary("sub", self.binary("mul", a, c), self.binary("mul", b, d))
        imaginary = self.binary("add", self.binary("mul", a, d), self.binary("mul", b, c))
        product = self.concat([real, imaginary], 2)
        wave = self.reshape(self.columns(self.node("DFT", product, length, axis=1, inverse=1), 0, 1), (-1,))
        end = self.node("Reshape", size, self.integers(1))
        return self.node("Slice", wave, self.integers(len(response) - 1), end, self.integers(0))

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _value(self, name: str, shape: tuple[int | str, ...]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)

    def _constant(self, value: np.ndarray) -> str:
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._initializers.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
            self._constants[key] = name
        return self._constants[key]
