"""Writes ONNX graphs operator by operator. Any number of frames at once: F is the symbolic axis `frames`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.synthesis.ops import layer_norm

#: The least that has a Fourier transform (DFT); ONNX Runtime reads it since 1.13, onnxruntime-web too.
OPSET = 17
IR_VERSION = 8

_UNARY = {"sigmoid": "Sigmoid", "tanh": "Tanh", "sin": "Sin", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
          "floor": "Floor"}  # fmt: skip
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max"}


class OnnxOps:
    """The vocabulary of `synthesis.ops.Ops` as an ONNX graph. Tensors are names."""

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
