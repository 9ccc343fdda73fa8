"""LiteRT (TensorFlow Lite) for phones and embedded hosts: two files, one frame at a time, state in and out.

    controls.tflite   f0_hz [1], LEVEL [1], state [U]
                      → amplitude [1], harmonic_distribution [K], noise_magnitudes [M], next_state [U]
    audio.tflite      the same and noise [H] in [-1, 1), last_f0_hz [1], last_amplitudes [K], phase_turns [1],
                      noise_tail [N]  → audio [H], and next_… of every state

LEVEL is `power_db` or `loudness_db`, whichever drives the model. States start at 0. The sound is dry, without the
room, and lags one hop: a frame completes the sound up to it. Builtin operators in version 1 only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.backend import native_stderr_held_back
from ddsp_cli.bundle import Bundle
from ddsp_cli.exporters import audio_graph, checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import CONTROL_NAMES, SynthState, state_shapes, synthesise
from ddsp_cli.synthesis.ops import layer_norm

CONTROLS, AUDIO = "controls.tflite", "audio.tflite"


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes both files, streams a phrase through each and compares with the bundle.

    Raises:
      ModelError: not one harmonic and one noise synthesiser.
      OutputError: the written file does not agree with the bundle.
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


_FLOAT, _INT, _BOOL = np.float32, np.int32, np.bool_

_UNARY = {"sigmoid": "LOGISTIC", "tanh": "TANH", "sin": "SIN", "exp": "EXP", "log": "LOG", "sqrt": "SQRT",
          "rsqrt": "RSQRT", "floor": "FLOOR"}  # fmt: skip
_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "pow": "POW", "maximum": "MAXIMUM"}
_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16  # force_align of Buffer.data in the schema


class TfliteOps:
    """The vocabulary of `synthesis.ops.Ops` as a LiteRT graph, without a converter.

    Every operator is one of the simplest, in version 1, so that any runtime back to 2020 takes the file; names, shapes
    and the order of tensors are those that are given. One frame at a time: F is 1 and every shape is static. Tensors
    are indices into the file's table.
    """

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 means: no constant
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    # --- inputs, outputs and the file ----------------------------------------------------------------------------

    def input(self, name: str, shape: tuple[int, ...]) -> int:
        """Declares an input of the file."""
        index = self._tensor(shape, _FLOAT, name)
        self._inputs.append(index)
        return index

    def output(self, name: str, x: int, shape: tuple[int, ...]) -> None:
        """Declares an output of the file: `x` in another shape and under another name."""
        self._outputs.append(self._reshape(x, shape, name))

    def interface(self) -> dict[str, dict[str, list[int]]]:
        """Lists the names and shapes of inputs and outputs."""
        sides = {"inputs": self._inputs, "outputs": self._outputs}
        return {
            side: {self._tensors[i].name: list(self._tensors[i].shape) for i in indices}
            for side, indices in sides.items()
        }

    def finish(self, description: str, signature: Mapping[str, str] | None = None) -> bytes:
        """Returns the file.

        Args:
          description: free text in it.
          signature: friendly name → tensor name, of all inputs and outputs, for `get_signature_runner`.
        """
        import flatbuffers

        schema = self._schema
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = self._inputs, self._outputs
        model = schema.ModelT()
        model.version, model.description = _SCHEMA_VERSION, description
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = [self._code(code) for code in self._codes]
        if signature:
            model.signatureDefs = [self._signature(signature)]
        builder = flatbuffers.Builder(sum(len(b.data) for b in self._buffers if b.data is not None) + 65536)
        builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
        return bytes(builder.Output())

    # --- Ops ----------------------------------------------------------------------------------------------------

    def constant(self, value: Any) -> int:
        return self._constant(np.asarray(value, _FLOAT))

    def unary(self, kind: str, x: int) -> int:
        return self._operator(_UNARY[kind], [x], self._shape(x))

    def binary(self, kind: str, a: int, b: int) -> int:
        options = None
        if kind in {"add", "sub", "mul", "div", "maximum"}:
            name = {"maximum": "MaximumMinimum"}.get(kind, kind.capitalize())
            options = getattr(self._schema, f"{name}OptionsT")()
        return self._operator(_BINARY[kind], [a, b], np.broadcast_shapes(self._shape(a), self._shape(b)), options)

    def leaky_relu(self, x: int, slope: float) -> int:
        options = self._schema.LeakyReluOptionsT()
        options.alpha = slope
        return self._operator("LEAKY_RELU", [x], self._shape(x), options)

    def less(self, a: int, b: int) -> int:
        shape = np.broadcast_shapes(self._shape(a), self._shape(b))
        flags = self._operator("LESS", [a, b], shape, self._schema.LessOptionsT(), _BOOL)
        options = self._schema.CastOptionsT()
        options.inDataType, options.outDataType = self._schema.TensorType.BOOL, self._schema.TensorType.FLOAT32
        return self._operator("CAST", [flags], shape, options)

    def mean(self, x: int) -> int:
        return self._reduce("MEAN", x)

    def sum(self, x: int) -> int:
        return self._reduce("SUM", x)

    def dense(self, x: int, kernel: FloatArray, bias: FloatArray | None = None) -> int:
        inputs = [x, self._constant(np.ascontiguousarray(kernel.T, _FLOAT))]
        inputs.append(-1 if bias is None else self._constant(bias.astype(_FLOAT)))
        options = self._schema.FullyConnectedOptionsT()
        return self._operator("FULLY_CONNECTED", inputs, (1, kernel.shape[1]), options)

    def layer_norm(self, x: int, gamma: FloatArray, beta: FloatArray, epsilon: float) -> int:
        return layer_norm(self, x, gamma, beta, epsilon)

    def gru(self, x: int, state: int, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray) -> tuple[int, int]:
        units = recurrent.shape[0]
        fresh, held = self.dense(x, kernel, bias[0]), self.dense(state, recurrent, bias[1])
        gates = [(self.columns(fresh, i * units, (i + 1) * units), self.columns(held, i * units, (i + 1) * units))
                 for i in range(3)]  # fmt: skip
        update = self.unary("sigmoid", self.binary("add", *gates[0]))
        reset = self.unary("sigmoid", self.binary("add", *gates[1]))
        candidate = self.unary("tanh", self.binary("add", gates[2][0], self.binary("mul", reset, gates[2][1])))
        kept = self.binary("mul", update, self.binary("sub", state, candidate))
        new = self.binary("add", candidate, kept)
        return new, new

    def concat(self, parts: list[int], axis: int) -> int:
        shapes = [self._shape(part) for part in parts]
        total = [sum(shape[axis] for shape in shapes) if i == axis else size for i, size in enumerate(shapes[0])]
        options = self._schema.ConcatenationOptionsT()
        options.axis = axis
        return self._operator("CONCATENATION", parts, tuple(total), options)

    def columns(self, x: int, start: int, stop: int) -> int:
        n_rows = self._shape(x)[0]
        return self._slice(x, (0, start), (n_rows, stop - start))

    def rows(self, x: int, start: int, stop: int | None) -> int:
        n_rows, *rest = self._shape(x)
        start, stop, _ = slice(start, stop).indices(n_rows)
        return self._slice(x, (start, *[0] * len(rest)), (stop - start, *rest))

    def reshape(self, x: int, shape: tuple[int, ...]) -> int:
        size = self.size(x)
        known = int(np.prod([axis for axis in shape if axis != -1]))
        return self._reshape(x, tuple(size // known if axis == -1 else axis for axis in shape))

    def sum_before(self, x: int) -> int:
        return self.constant(np.zeros(self._shape(x)))

    def to_double(self, x: int) -> int:
        return x

    def to_single(self, x: int) -> int:
        return x

    def size(self, x: int) -> int:
        """Counts the elements of a tensor."""
        return int(np.prod(self._shape(x)))

    # --- tables of the file -------------------------------------------------------------------------------------

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(self._tensors[index].shape)

    def _reduce(self, kind: str, x: int) -> int:
        shape = self._shape(x)
        options = self._schema.ReducerOptionsT()
        options.keepDims = True
        axis = self._constant(np.array([len(shape) - 1], _INT))
        return self._operator(kind, [x, axis], (*shape[:-1], 1), options)

    def _slice(self, x: int, begin: tuple[int, ...], size: tuple[int, ...]) -> int:
        if size == self._shape(x):
            return x
        bounds = [self._constant(np.array(values, _INT)) for values in (begin, size)]
        return self._operator("SLICE", [x, *bounds], size, self._schema.SliceOptionsT())

    def _reshape(self, x: int, shape: tuple[int, ...], name: str = "") -> int:
        options = self._schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self._operator("RESHAPE", [x, self._constant(np.array(shape, _INT))], shape, options, name=name)

    def _tensor(self, shape: tuple[int, ...], dtype: Any, name: str = "", buffer: int = 0) -> int:
        types = self._schema.TensorType
        tensor = self._schema.TensorT()
        tensor.shape, tensor.buffer = [int(size) for size in shape], buffer
        tensor.type = {_FLOAT: types.FLOAT32, _INT: types.INT32, _BOOL: types.BOOL}[dtype]
        tensor.name = name or f"t{len(self._tensors)}"
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _constant(self, value: np.ndarray) -> int:
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            buffer = _aligned_buffer(self._schema, value)
            self._buffers.append(buffer)
            index = self._tensor(value.shape, value.dtype.type, buffer=len(self._buffers) - 1)
            self._constants[key] = index
        return self._constants[key]

    def _operator(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = None, dtype: Any = _FLOAT,
        name: str = "",
    ) -> int:  # fmt: skip
        schema = self._schema
        code = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        result = self._tensor(shape, dtype, name)
        operator.inputs, operator.outputs = inputs, [result]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)
        return result

    def _code(self, builtin: int) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        return code

    def _signature(self, names: Mapping[str, str]) -> Any:
        by_tensor = {self._tensors[i].name: i for i in [*self._inputs, *self._outputs]}
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [], []
        for friendly, tensor in names.items():
            entry = self._schema.TensorMapT()
            entry.name, entry.tensorIndex = friendly, by_tensor[tensor]
            (signature.inputs if by_tensor[tensor] in self._inputs else signature.outputs).append(entry)
        return signature


def _aligned_buffer(schema: Any, value: np.ndarray) -> Any:
    """Makes a `BufferT` that packs a constant on the boundary that the schema asks for and its Python code forgets."""

    class Buffer(schema.BufferT):
        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the schema's name
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    buffer = Buffer()
    buffer.data = np.ascontiguousarray(value).tobytes()
    return buffer
