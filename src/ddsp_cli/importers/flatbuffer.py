"""Reads TensorFlow Lite files (FlatBuffers, schema 3) lazily, within bounds, in plain Python.

LiteRT's generated reader follows every offset that it meets; a damaged file sends it through gigabytes. This one reads
the few tables that a network needs, copies no buffer, and bounds the number of tables, names and dimensions over the
whole file, however often a file points at the same place. Operator and type codes are those of LiteRT's own schema.

Source: tensorflow/lite/schema/schema.fbs (field numbers), flatbuffers.dev "FlatBuffer Internals" (tables and vectors).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.litert_decoder import check_litert

#: Largest number of tables in a file, and of integers in its vectors. Magenta's models have 1,200 and 3,000.
MAX_TABLES = 30_000
MAX_INTEGERS = 200_000
MAX_NAME_BYTES = 4096
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Tensor:
    """An entry of a subgraph's table; `value` where it is a float32 or int32 constant, a view of the file."""

    name: str
    shape: tuple[int, ...]
    is_float32: bool
    value: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """An operator by its name in the schema; `options` holds `alpha` of LEAKY_RELU, `body` of WHILE."""

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
    """Returns the subgraphs of a file, the main one first.

    Raises:
      ModelError: not a TensorFlow Lite file, a damaged one, or LiteRT, which defines the codes, is not installed.
    """
    check_litert()
    from ai_edge_litert.schema_py_generated import Model

    if not Model.ModelBufferHasIdentifier(data, 0):
        raise ModelError("it is not a TensorFlow Lite file")
    try:
        file = _File(data)
        model = file.root()
        buffers = [table.vector_bytes(0) for table in model.tables(4)]
        codes = [_operator_name(table) for table in model.tables(1)]
        graphs = [_subgraph(table, buffers, codes) for table in model.tables(2)]
    except (struct.error, IndexError, ValueError, OverflowError, UnicodeDecodeError) as problem:
        raise ModelError(f"the TensorFlow Lite file is damaged: {problem}") from problem
    if not graphs:
        raise ModelError("the TensorFlow Lite file holds no graph")
    return graphs


class _File:
    """The bytes of a file, and how much may still be read out of it."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self._left = {"tables": MAX_TABLES, "integers": MAX_INTEGERS}

    def root(self) -> _Table:
        return _Table(self, self.get("<I", 0))

    def get(self, layout: str, at: int) -> Any:
        if at < 0:
            raise ValueError("an offset leads out of it")
        return struct.unpack_from(layout, self.data, at)[0]

    def spend(self, what: str, n: int) -> None:
        self._left[what] -= n
        if self._left[what] < 0:
            raise ValueError(f"it has more {what} than any network")


@dataclass(frozen=True)
class _Table:
    """A FlatBuffers table: fields by their number in the schema."""

    file: _File
    at: int

    def _field(self, number: int) -> int | None:
        """Finds the position of a field, or None where it is left out."""
        get = self.file.get
        fields = self.at - get("<i", self.at)
        place = 4 + 2 * number
        if place + 2 > get("<H", fields):
            return None
        offset = get("<H", fields + place)
        return self.at + offset if offset else None

    def scalar(self, number: int, layout: str, default: Any = 0) -> Any:
        place = self._field(number)
        return default if place is None else self.file.get(layout, place)

    def table(self, number: int) -> _Table | None:
        place = self._field(number)
        return None if place is None else _Table(self.file, place + self.file.get("<I", place))

    def _vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """Returns start and length of a vector, checked to be within the file; (0, 0) where it is missing."""
        place = self._field(number)
        if place is None:
            return 0, 0
        start = place + self.file.get("<I", place)
        length = self.file.get("<I", start)
        if start + 4 + length * item_bytes > len(self.file.data):
            raise ValueError("a list reaches beyond its end")
        return start + 4, length

    def vector_bytes(self, number: int) -> memoryview:
        start, length = self._vector(number, 1)
        return self.file.data[start : start + length]

    def integers(self, number: int) -> tuple[int, ...]:
        start, length = self._vector(number, 4)
        self.file.spend("integers", length)
        return struct.unpack_from(f"<{length}i", self.file.data, start) if length else ()

    def tables(self, number: int) -> list[_Table]:
        start, length = self._vector(number, 4)
        self.file.spend("tables", length)
        places = range(start, start + 4 * length, 4)
        return [_Table(self.file, place + self.file.get("<I", place)) for place in places]

    def text(self, number: int) -> str:
        start, length = self._vector(number, 1)
        if length > MAX_NAME_BYTES:
            raise ValueError("a name is too long")
        return bytes(self.file.data[start : start + length]).decode("utf-8")


def _operator_name(code: _Table) -> str:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    number = max(code.scalar(0, "<b"), code.scalar(3, "<i"))
    return next((name for name, value in vars(BuiltinOperator).items() if value == number), f"operator {number}")


def _subgraph(table: _Table, buffers: list[memoryview], codes: list[str]) -> Subgraph:
    tensors = [_tensor(entry, buffers) for entry in table.tables(0)]
    operators = [_operator(entry, codes) for entry in table.tables(3)]
    inputs, outputs = table.integers(1), table.integers(2)
    for index in (*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs))):
        if not -1 <= index < len(tensors):
            raise ValueError("an operator names a tensor that does not exist")
    return Subgraph(tensors, inputs, outputs, operators)


def _tensor(table: _Table, buffers: list[memoryview]) -> Tensor:
    from ai_edge_litert.schema_py_generated import TensorType

    shape, kind, index = table.integers(0), table.scalar(1, "<b"), table.scalar(2, "<I")
    if index >= len(buffers):
        raise ValueError("a tensor names a buffer that does not exist")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("a tensor has a size, or a number of dimensions, that no network has")
    value = None
    is_float32 = kind == TensorType.FLOAT32
    if len(buffers[index]) and (is_float32 or kind == TensorType.INT32):
        value = np.frombuffer(buffers[index], "<f4" if is_float32 else "<i4").reshape(shape)
    return Tensor(table.text(3), shape, is_float32, value)


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
