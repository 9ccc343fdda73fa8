"""Finds the layers of a decoder in the graph of a TensorFlow Lite file, by following the data through it.

From each input through dense layers and normalisations to where the stacks join, on through the GRU (in a WHILE loop in
Magenta's files, unrolled in ours) and the last stack to the raw controls. Operators are found by what they do, not by
their place in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.errors import ModelError
from ddsp_cli.importers.files import MAX_BYTES
from ddsp_cli.importers.flatbuffer import Operator, Subgraph
from ddsp_cli.scaling import LEAKY_SLOPE
from ddsp_cli.synthesis.litert_decoder import AMPLITUDE, DISTRIBUTION, F0, LEVEL, NEW_STATE, NOISE, STATE

#: Network input → tensor of the file.
INPUTS = {"f0_scaled": F0, "pw_scaled": LEVEL}
OUTPUTS = {"amplitude": AMPLITUDE, "harmonic_distribution": DISTRIBUTION, "noise_magnitudes": NOISE, "state": NEW_STATE}

#: Operations that change the shape of data only.
_PASSING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "STRIDED_SLICE", "SLICE", "TRANSPOSE"}
#: Operations of a normalisation.
_NORMALISING = {*_PASSING, "MEAN", "SQUARED_DIFFERENCE", "ADD", "RSQRT", "MUL", "SUB", "SQRT", "DIV"}
MAX_LAYERS = 16
MAX_CHANNELS = 8192


@dataclass(frozen=True)
class Sizes:
    """Shape of a decoder; `inputs` in the order in which the stacks are joined."""

    inputs: tuple[str, ...]
    channels: int
    layers: int
    units: int
    harmonics: int
    bands: int


@dataclass(frozen=True)
class _Dense:
    """A fully connected operator with constant weights: `kernel` [in, out] and `bias` [out], views of the file."""

    operator: Operator
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def n_in(self) -> int:
        return int(self.kernel.shape[0])

    @property
    def n_out(self) -> int:
        return int(self.kernel.shape[1])


def find_weights(graphs: list[Subgraph]) -> tuple[dict[str, np.ndarray], Sizes]:
    """Weights by the names of a bundle, and the decoder's shape.

    Raises:
      ModelError: the graph is not that of a DDSP decoder of power and pitch.
    """
    try:
        return _Finder(graphs).run()
    except (IndexError, KeyError) as problem:  # operators without inputs or outputs, stacks that end in one place
        raise ModelError("its graph is not that of a decoder") from problem


class _Finder:
    def __init__(self, graphs: list[Subgraph]) -> None:
        self._graphs = graphs
        self._main = graphs[0]
        self._producers = [{out: op for op in graph.operators for out in op.outputs} for graph in graphs]
        self._used: dict[tuple[int, int], list[Operator]] = {}
        for number, graph in enumerate(graphs):
            for op in graph.operators:
                for index in set(op.inputs):
                    self._used.setdefault((number, index), []).append(op)
        self.weights: dict[str, np.ndarray] = {}

    def run(self) -> tuple[dict[str, np.ndarray], Sizes]:
        inputs = {self._main.tensors[i].name: i for i in self._main.inputs if i >= 0}
        outputs = {self._main.tensors[i].name: i for i in self._main.outputs if i >= 0}
        if inputs.keys() != {*INPUTS.values(), STATE} or outputs.keys() != {*OUTPUTS.values()}:
            raise ModelError(
                f"its inputs are {_names(inputs)}, not {_names([*INPUTS.values(), STATE])}",
                "Only models of the DDSP-VST plug-in, 50 frames of power and pitch a second, can be imported.",
            )
        ends = {}
        layers = set()
        for name, tensor in INPUTS.items():
            ends[name], n_layers, channels = self._stack(f"decoder/input_stacks/{name}", inputs[tensor])
            layers.add((n_layers, channels))
        if len(layers) != 1:
            raise ModelError("its input stacks differ in shape")
        (n_layers, channels), units = layers.pop(), self._size(outputs[OUTPUTS["state"]])
        joins = [op for op in self._main.operators if op.kind == "CONCATENATION" and {*ends.values()} <= {*op.inputs}]
        if len(joins) != 2 or len(joins[0].inputs) != len(ends) or len(joins[1].inputs) != len(ends) + 1:
            raise ModelError("its stacks are joined in an unknown way")
        by_end = {end: name for name, end in ends.items()}
        order = tuple(by_end[i] for i in joins[0].inputs)
        if tuple(by_end.get(i) for i in joins[1].inputs[:-1]) != order:
            raise ModelError("its stacks are joined in an unknown order")
        self._gru(len(order) * channels, units, joins[0].outputs[0], inputs[STATE])
        end, n_out_layers, _ = self._stack("decoder/out_stack", joins[1].outputs[0])
        if n_out_layers != n_layers:
            raise ModelError("its last stack has another depth than the first ones")
        last = self._next_dense(0, end)
        if last is None:
            raise ModelError("it has no output layer")
        harmonics, bands = (
            self._size(outputs[OUTPUTS[name]]) for name in ("harmonic_distribution", "noise_magnitudes")
        )
        if last.n_out != 1 + harmonics + bands or bands < 2:
            raise ModelError("its outputs do not fit its output layer")
        self.weights |= {"decoder/dense_out/kernel": last.kernel, "decoder/dense_out/bias": last.bias}
        # A graph may use one large tensor in many places: together its layers are no larger than a file may be.
        if sum(value.nbytes for value in self.weights.values()) > MAX_BYTES:
            raise ModelError("its layers are larger than those of any instrument")
        weights = {name: np.ascontiguousarray(value, np.float32) for name, value in self.weights.items()}
        return weights, Sizes(order, channels, n_layers, units, harmonics, bands)

    def _stack(self, name: str, start: int) -> tuple[int, int, int]:
        """Follows dense layers with normalisations; returns where they end, how many, how wide."""
        at, n_layers, channels = start, 0, 0
        while n_layers < MAX_LAYERS and (dense := self._next_dense(0, at)) is not None:
            normal = self._normalised(dense.operator.outputs[0], dense.n_out)
            if normal is None:
                break
            gamma, beta, at = normal
            prefix, channels = f"{name}/{n_layers}", dense.n_out
            self.weights |= {f"{prefix}/dense/kernel": dense.kernel, f"{prefix}/dense/bias": dense.bias}
            self.weights |= {f"{prefix}/norm/gamma": gamma, f"{prefix}/norm/beta": beta}
            n_layers += 1
        if not 1 <= n_layers < MAX_LAYERS or channels > MAX_CHANNELS:
            raise ModelError(f"no dense layers with normalisation follow {self._main.tensors[start].name!r}")
        return at, n_layers, channels

    def _normalised(self, start: int, width: int) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Scale, offset and end of the normalisation and rectifier that follow a tensor."""
        gamma = beta = None
        reached, pending = {start}, [start]
        while pending:
            for op in self._used.get((0, pending.pop(0)), []):
                if op.kind == "LEAKY_RELU":
                    if gamma is None or beta is None or abs(op.options.get("alpha", 0.0) - LEAKY_SLOPE) > 1e-6:
                        return None
                    return gamma, beta, op.outputs[0]
                if op.kind not in _NORMALISING or op.outputs[0] in reached:
                    continue
                vector = self._vector(op, width)
                if vector is not None and op.kind == "MUL":
                    gamma = vector
                elif vector is not None and op.kind == "ADD":
                    beta = vector
                reached.add(op.outputs[0])
                pending.append(op.outputs[0])
        return None

    def _vector(self, op: Operator, width: int) -> np.ndarray | None:
        values = [self._constant(0, i) for i in op.inputs]
        found = [value.reshape(-1) for value in values if value is not None and value.size == width]
        return found[0] if found else None

    def _gru(self, n_in: int, units: int, joined: int, state: int) -> None:
        """The two dense layers of a GRU, told apart by whether they see the input or the state."""
        cells: dict[int, _Dense] = {}
        for number, graph in enumerate(self._graphs):
            for op in graph.operators:
                dense = self._dense(number, op)
                if dense is not None and dense.n_out == 3 * units:
                    cells[self._origin(number, op.inputs[0])] = dense
        fresh, held = cells.get(joined), cells.get(state)
        if fresh is None or held is None or len(cells) != 2:
            raise ModelError("it has no GRU that could be found")
        if fresh.n_in != n_in or held.n_in != units:
            raise ModelError("its GRU has an unknown shape")
        self.weights |= {
            "decoder/rnn/kernel": fresh.kernel,
            "decoder/rnn/recurrent_kernel": held.kernel,
            "decoder/rnn/bias": np.stack([fresh.bias, held.bias]),
        }

    def _origin(self, graph: int, tensor: int) -> int:
        """Traces data back to its source in the main graph, through reshapes and into loops; -1 where it is unknown."""
        for _ in range(64):
            op = self._producers[graph].get(tensor)
            if op is not None and op.kind in _PASSING and op.inputs:
                tensor = op.inputs[0]
            elif op is None and graph != 0:
                loop = self._loop(graph)
                places = self._graphs[graph].inputs
                if loop is None or tensor not in places or places.index(tensor) >= len(loop.inputs):
                    return -1
                graph, tensor = 0, loop.inputs[places.index(tensor)]
            else:
                return tensor if graph == 0 else -1
        return -1

    def _loop(self, graph: int) -> Operator | None:
        loops = [op for op in self._main.operators if op.kind == "WHILE" and op.options.get("body") == graph]
        return loops[0] if len(loops) == 1 else None

    def _next_dense(self, graph: int, tensor: int) -> _Dense | None:
        """The dense layer that takes a tensor, reshaped or not."""
        pending, seen = [tensor], {tensor}
        while pending:
            for op in self._used.get((graph, pending.pop(0)), []):
                dense = self._dense(graph, op)
                if dense is not None and op.inputs[0] in seen:
                    return dense
                if op.kind in _PASSING and op.outputs and op.outputs[0] not in seen:
                    seen.add(op.outputs[0])
                    pending.append(op.outputs[0])
        return None

    def _dense(self, graph: int, op: Operator) -> _Dense | None:
        if op.kind != "FULLY_CONNECTED" or len(op.inputs) < 2 or not op.outputs:
            return None
        kernel = self._constant(graph, op.inputs[1])
        if kernel is None or kernel.ndim != 2 or kernel.dtype != np.float32:
            return None
        n_out = kernel.shape[0]
        bias = self._constant(graph, op.inputs[2]) if len(op.inputs) > 2 else None
        if bias is None:
            bias = np.zeros(n_out, np.float32)
        if bias.size != n_out:
            raise ModelError("a layer's bias does not fit its weights")
        return _Dense(op, kernel.T, bias.reshape(-1))

    def _constant(self, graph: int, tensor: int) -> np.ndarray | None:
        return self._graphs[graph].tensors[tensor].value if tensor >= 0 else None

    def _size(self, tensor: int) -> int:
        shape = self._main.tensors[tensor].shape
        if any(axis < 1 or axis > MAX_CHANNELS for axis in shape) or len(shape) > 4:
            raise ModelError("an output has an unknown shape")
        return int(np.prod(shape))


def _names(names: object) -> str:
    return ", ".join(sorted(str(name)[:40] for name in names)) or "none"  # type: ignore[attr-defined]
