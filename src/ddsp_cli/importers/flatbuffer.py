"""Reads TensorFlow Lite files (FlatBuffers, schema 3) of strangers: lazily, within bounds, in plain Python.

The generated reader of the schema follows every offset it meets; a damaged file sends it through gigabytes. This
one reads the few tables that a network needs and refuses sizes that no network of ours has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddsp_cli.errors import ModelError

IDENTIFIER = b"TFL3"
MAX_TABLES = 8192
MAX_NAME_BYTES = 4096
_FLOAT32, _INT32 = 0, 2

#: Codes of the operators that matter here (tensorflow/lite/schema/schema.fbs, BuiltinOperator).
OPERATORS = {
    0: "ADD", 2: "CONCATENATION", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 18: "MUL", 22: "RESHAPE", 28: "TANH",
    36: "GATHER", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE", 49: "SPLIT",
    65: "SLICE", 70: "EXPAND_DIMS", 74: "SUM", 75: "SQRT", 76: "RSQRT", 78: "POW", 98: "LEAKY_RELU",
    99: "SQUARED_DIFFERENCE", 102: "SPLIT_V", 119: "WHILE", 126: "BATCH_MATMUL",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An entry of a subgraph's table; `value` where it is a float32 or int32 constant."""

    name: str
    shape: tuple[int, ...]
    is_float32: bool
    value: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """`options` holds `alpha` of LEAKY_RELU, `body` of WHILE."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subgraph:
    """Tensors by index, operators in the order in which they run."""

    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]


def read(data: bytes) -> list[Subgraph]:
    """The subgraphs of a file, the main one first.

    Raises:
      ModelError: not a TensorFlow Lite file, or a damaged one.
    """
    if data[4:8] != IDENTIFIER:
        raise ModelError("it is not a TensorFlow Lite file")
    try:
        model = _Table.root(data)
        buffers = [table.vector_bytes(0) for table in model.tables(4)]
        codes = [_kind(table) for table in model.tables(1)]
        graphs = [_subgraph(table, buffers, codes) for table in model.tables(2)]
    except (struct.error, IndexError, ValueError, OverflowError, UnicodeDecodeError) as problem:
        raise ModelError(f"the TensorFlow Lite file is damaged: {problem}") from problem
    if not graphs:
        raise ModelError("the TensorFlow Lite file holds no graph")
    return graphs


@dataclass(frozen=True)
class _Table:
    """A FlatBuffers table: fields by their number in the schema."""

    data: bytes
    at: int

    @staticmethod
    def root(data: bytes) -> _Table:
        return _Table(data, _get("<I", data, 0))

    def _field(self, number: int) -> int | None:
        """Where a field stands, or None where it is left out."""
        fields = self.at - _get("<i", self.data, self.at)
        place = 4 + 2 * number
        if place + 2 > _get("<H", self.data, fields):
            return None
        offset = _get("<H", self.data, fields + place)
        return self.at + offset if offset else None

    def scalar(self, number: int, layout: str, default: Any = 0) -> Any:
        place = self._field(number)
        return default if place is None else _get(layout, self.data, place)

    def table(self, number: int) -> _Table | None:
        place = self._field(number)
        return None if place is None else _Table(self.data, place + _get("<I", self.data, place))

    def _vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """Start and length of a vector that lies within the file; (0, 0) where it is left out."""
        place = self._field(number)
        if place is None:
            return 0, 0
        start = place + _get("<I", self.data, place)
        length = _get("<I", self.data, start)
        if start + 4 + length * item_bytes > len(self.data):
            raise ValueError("a list reaches beyond its end")
        return start + 4, length

    def vector_bytes(self, number: int) -> bytes:
        start, length = self._vector(number, 1)
        return self.data[start : start + length]

    def integers(self, number: int) -> tuple[int, ...]:
        start, length = self._vector(number, 4)
        if length > MAX_TABLES:
            raise ValueError("a list is longer than in any network")
        return struct.unpack_from(f"<{length}i", self.data, start) if length else ()

    def tables(self, number: int) -> list[_Table]:
        start, length = self._vector(number, 4)
        if length > MAX_TABLES:
            raise ValueError("a list is longer than in any network")
        places = range(start, start + 4 * length, 4)
        return [_Table(self.data, place + _get("<I", self.data, place)) for place in places]

    def text(self, number: int) -> str:
        start, length = self._vector(number, 1)
        if length > MAX_NAME_BYTES:
            raise ValueError("a name is too long")
        return self.data[start : start + length].decode("utf-8")


def _get(layout: str, data: bytes, at: int) -> Any:
    if at < 0:
        raise ValueError("an offset leads out of it")
    return struct.unpack_from(layout, data, at)[0]


def _kind(code: _Table) -> str:
    number = max(code.scalar(0, "<b"), code.scalar(3, "<i"))
    return OPERATORS.get(number, f"operator {number}")


def _subgraph(table: _Table, buffers: list[bytes], codes: list[str]) -> Subgraph:
    tensors = [_tensor(entry, buffers) for entry in table.tables(0)]
    operators = [_operator(entry, codes) for entry in table.tables(3)]
    inputs, outputs = table.integers(1), table.integers(2)
    for index in (*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs))):
        if not -1 <= index < len(tensors):
            raise ValueError("an operator names a tensor that does not exist")
    return Subgraph(tensors, inputs, outputs, operators)


def _tensor(table: _Table, buffers: list[bytes]) -> Tensor:
    shape, kind, index = table.integers(0), table.scalar(1, "<b"), table.scalar(2, "<I")
    if index >= len(buffers):
        raise ValueError("a tensor names a buffer that does not exist")
    value = None
    if buffers[index] and kind in {_FLOAT32, _INT32}:
        value = np.frombuffer(buffers[index], "<f4" if kind == _FLOAT32 else "<i4").reshape(shape)
    return Tensor(table.text(3), shape, kind == _FLOAT32, value)


def _operator(table: _Table, codes: list[str]) -> Operator:
    index = table.scalar(0, "<I")
    if index >= len(codes):
        raise ValueError("an operator has no code")
    options: dict[str, Any] = {}
    details = table.table(4)
    if details is not None and codes[index] == "LEAKY_RELU":
        options["alpha"] = details.scalar(0, "<f", 0.0)
    if details is not None and codes[index] == "WHILE":
        options["body"] = details.scalar(1, "<i")
    return Operator(codes[index], table.integers(1), table.integers(2), options)
