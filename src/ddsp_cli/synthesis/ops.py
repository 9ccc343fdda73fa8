"""The operations that a decoder and its synthesisers are made of, and how NumPy computes them.

A forward pass is written once, over `Ops`. The player computes it (`NumpyOps`); an exporter writes it down in the
operators of its format (`exporters.onnx`, `exporters.litert`).

Shapes: F frames (always 1 in LiteRT), C channels, U recurrent units.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ddsp_cli.arrays import FloatArray, RealArray

#: An array for NumPy; a name or an index for a format.
Tensor = Any


class Ops(Protocol):
    """The vocabulary. Tensors are float32 and have frames as their first axis; broadcasting is NumPy's."""

    def constant(self, value: Any) -> Tensor:
        """Returns a tensor of fixed numbers."""

    def unary(self, kind: str, x: Tensor) -> Tensor:
        """Computes a function of each element; `kind`: sigmoid, tanh, sin, exp, log, sqrt, rsqrt, floor."""

    def binary(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        """Computes a function of pairs of elements; `kind`: add, sub, mul, div, pow, maximum."""

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        """Returns x where x > 0, else slope·x; 0 < slope < 1."""

    def less(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns 1.0 where a < b, else 0.0."""

    def mean(self, x: Tensor) -> Tensor:
        """Computes the mean over the last axis, which is kept with length 1."""

    def sum(self, x: Tensor) -> Tensor:
        """Computes the sum over the last axis, which is kept with length 1."""

    def dense(self, x: Tensor, kernel: FloatArray, bias: FloatArray | None = None) -> Tensor:
        """Returns [F, I] times kernel [I, O] plus bias [O]."""

    def layer_norm(self, x: Tensor, gamma: FloatArray, beta: FloatArray, epsilon: float) -> Tensor:
        """Returns (x − mean) / sqrt(variance + epsilon)·gamma + beta over the last axis; gamma and beta [C]."""

    def gru(
        self, x: Tensor, state: Tensor, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray
    ) -> tuple[Tensor, Tensor]:
        """Applies a gated recurrent unit as Keras does with `reset_after=True`; gates in the order z, r, h.

        z = σ(x·Wz + h·Uz + b), r = σ(x·Wr + h·Ur + b), ĥ = tanh(x·Wh + b + r·(h·Uh + b')), h' = z·h + (1 − z)·ĥ.

        Args:
          x: [F, I].
          state: before the first frame, [1, U].
          kernel: W, [I, 3U].
          recurrent: U, [U, 3U].
          bias: [2, 3U], that of the input and that of the state.

        Returns:
          The states of all frames [F, U], and the last one [1, U].
        """

    def concat(self, parts: list[Tensor], axis: int) -> Tensor:
        """Joins tensors along an axis."""

    def columns(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Returns a part of the last axis of [F, C]."""

    def rows(self, x: Tensor, start: int, stop: int | None) -> Tensor:
        """Returns a part of the first axis; negative numbers count from the end."""

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Changes the shape; one axis may be -1."""

    def sum_before(self, x: Tensor) -> Tensor:
        """Sums everything before each row along the first axis."""

    def to_double(self, x: Tensor) -> Tensor:
        """Converts to double precision, where the format has it."""

    def to_single(self, x: Tensor) -> Tensor:
        """Converts back to single precision."""


def layer_norm(ops: Ops, x: Tensor, gamma: FloatArray, beta: FloatArray, epsilon: float) -> Tensor:
    """Writes `Ops.layer_norm` in simpler operations, for formats that do not have it."""
    centred = ops.binary("sub", x, ops.mean(x))
    variance = ops.mean(ops.binary("mul", centred, centred))
    scale = ops.unary("rsqrt", ops.binary("add", variance, ops.constant(epsilon)))
    scaled = ops.binary("mul", ops.binary("mul", centred, scale), ops.constant(gamma[None]))
    return ops.binary("add", scaled, ops.constant(beta[None]))


class NumpyOps:
    """The vocabulary computed at once, on arrays.

    The GRU runs frame by frame, in buffers made once: at 512 units a frame takes tens of microseconds, and allocating
    would double that. Its copies of the weights are made at the first call and kept for the next ones.
    """

    def __init__(self) -> None:
        self._cells: dict[int, _GruCell] = {}

    def constant(self, value: Any) -> FloatArray:
        return np.asarray(value, np.float32)

    def unary(self, kind: str, x: RealArray) -> RealArray:
        if kind == "sigmoid":
            with np.errstate(over="ignore"):
                return np.asarray(1.0 / (1.0 + np.exp(-x)))
        if kind == "rsqrt":
            return np.asarray(1.0 / np.sqrt(x))
        return np.asarray(_UNARY[kind](x))

    def binary(self, kind: str, a: RealArray, b: RealArray) -> RealArray:
        return np.asarray(_BINARY[kind](a, b))

    def leaky_relu(self, x: RealArray, slope: float) -> RealArray:
        return np.maximum(x, x * np.float32(slope))

    def less(self, a: RealArray, b: RealArray) -> FloatArray:
        return (a < b).astype(np.float32)

    def mean(self, x: RealArray) -> RealArray:
        return np.asarray(x.mean(axis=-1, keepdims=True))

    def sum(self, x: RealArray) -> RealArray:
        return np.asarray(x.sum(axis=-1, keepdims=True))

    def dense(self, x: RealArray, kernel: FloatArray, bias: FloatArray | None = None) -> RealArray:
        y = x @ kernel
        if bias is not None:
            y += bias
        return np.asarray(y)

    def layer_norm(self, x: RealArray, gamma: FloatArray, beta: FloatArray, epsilon: float) -> RealArray:
        y = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(y * y, axis=-1, keepdims=True)
        y *= gamma / np.sqrt(variance + np.float32(epsilon))
        y += beta
        return np.asarray(y)

    def gru(
        self, x: FloatArray, state: FloatArray, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        cell = self._cells.get(id(kernel))
        if cell is None or cell.kernel is not kernel:
            cell = self._cells[id(kernel)] = _GruCell(kernel, recurrent, bias)
        return cell.run(x, state)

    def concat(self, parts: list[RealArray], axis: int) -> RealArray:
        return np.concatenate(parts, axis=axis)

    def columns(self, x: RealArray, start: int, stop: int) -> RealArray:
        return x[..., start:stop]

    def rows(self, x: RealArray, start: int, stop: int | None) -> RealArray:
        return x[start:stop]

    def reshape(self, x: RealArray, shape: tuple[int, ...]) -> RealArray:
        return x.reshape(shape)

    def sum_before(self, x: RealArray) -> RealArray:
        total = np.zeros_like(x)
        np.cumsum(x[:-1], axis=0, out=total[1:])
        return total

    def to_double(self, x: RealArray) -> RealArray:
        return x.astype(np.float64)

    def to_single(self, x: RealArray) -> RealArray:
        return x.astype(np.float32)


_UNARY = {"tanh": np.tanh, "sin": np.sin, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "floor": np.floor}
_BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
           "maximum": np.maximum}  # fmt: skip


class _GruCell:
    """The weights of a GRU as its loop needs them, and the buffers of that loop."""

    def __init__(self, kernel: FloatArray, recurrent: FloatArray, bias: FloatArray) -> None:
        self.kernel, self._units = kernel, recurrent.shape[0]
        gates = slice(2 * self._units)
        self._kernel = kernel.copy()
        # Transposed: a matrix-vector product over contiguous rows is the faster one.
        self._recurrent = recurrent.T.copy()
        self._input_bias, recurrent_bias = bias[0].copy(), bias[1].copy()
        # σ(x) = (tanh(x/2) + 1) / 2: the halving of the two gates is folded into the weights.
        self._kernel[:, gates] *= 0.5
        self._recurrent[gates] *= 0.5
        self._input_bias[gates] *= 0.5
        # The recurrent bias of the two gates can join the input's share; that of the candidate is inside r·(…).
        self._gate_bias = recurrent_bias[gates] * np.float32(0.5)
        self._candidate_bias = recurrent_bias[2 * self._units :]
        self._hidden = np.empty(3 * self._units, np.float32)

    # BLAS computes on lanes beyond the end of a row as well, and values there may raise the flag, once in many runs.
    @np.errstate(invalid="ignore")
    def run(self, x: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Ops.gru`."""
        units = self._units
        projected = x @ self._kernel  # the input's share of all frames is one matrix product
        projected += self._input_bias
        projected[:, : 2 * units] += self._gate_bias
        states = np.empty((len(x), units), np.float32)
        gates, candidate = self._hidden[: 2 * units], self._hidden[2 * units :]
        update, reset = gates[:units], gates[units:]
        half, last = np.float32(0.5), state[0]
        for share, candidate_share, new in zip(projected, projected[:, 2 * units :], states, strict=True):
            np.dot(self._recurrent, last, out=self._hidden)
            gates += share[: 2 * units]
            np.tanh(gates, out=gates)
            gates += 1.0
            gates *= half
            candidate += self._candidate_bias
            candidate *= reset
            candidate += candidate_share
            np.tanh(candidate, out=candidate)
            # h' = z·h + (1 − z)·ĥ = ĥ + z·(h − ĥ)
            np.subtract(last, candidate, out=new)
            new *= update
            new += candidate
            last = new
        return states, last[None].copy()
