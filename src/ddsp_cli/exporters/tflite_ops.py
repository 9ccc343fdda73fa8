"""Writes TensorFlow Lite / LiteRT files operator by operator, without a converter.

Every operator is one of the simplest, in version 1, so that any runtime back to 2020 takes the file; names, shapes
and the order of tensors are those that are given. One frame at a time: F is 1 and every shape is static.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.synthesis.ops import layer_norm

_FLOAT, _INT, _BOOL = np.float32, np.int32, np.bool_

_UNARY = {"sigmoid": "LOGISTIC", "tanh": "TANH", "sin": "SIN", "exp": "EXP", "log": "LOG", "sqrt": "SQRT",
          "rsqrt": "RSQRT", "floor": "FLOOR"}  # fmt: skip
_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "pow": "POW", "maximum": "MAXIMUM"}
_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16  # force_align of Buffer.data in the schema


class TfliteOps:
    """The vocabulary of `synthesis.ops.Ops` as a LiteRT graph. Tensors are indices into the file's table."""

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
        """Declares an output of the file: `x` in another shape, under a name of its own."""
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
