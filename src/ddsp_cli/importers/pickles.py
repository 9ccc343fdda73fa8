"""Reads pickled statistics as plain data: numbers, text, lists, dictionaries and numeric arrays.

A pickle is a program that can call anything. It is read by the standard library's `pickle.Unpickler`, restricted in
three ways:

- `find_class` returns an inert stand-in for the few names that statistics hold (NumPy's dtype, scalar and array
  constructors, `QuantileTransformer`) and refuses all others. A stand-in stores its arguments and its state and does
  nothing with them; arrays are made of them afterwards, with type and size checked.
- Before that, `pickletools.genops` lists the instructions without running them. Their number, the memo's indices, the
  size of integers, and the size and depth of the values that they build, with shared parts counted each time, are
  bounded; persistent ids, extension codes, sets and out-of-band buffers are refused.
- The result is copied with a bounded number of values and levels.

Format: Python documentation, "pickle", and the comments of `pickletools.py`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ddsp_cli.errors import ModelError

MAX_BYTES = 16 << 20
MAX_INSTRUCTIONS = 200_000
MAX_VALUES = 200_000
MAX_DEPTH = 32
#: Generators of random numbers have a state of 128 bits.
MAX_INTEGER = 1 << 256

#: NumPy's type codes that are read: float, signed, unsigned and bool.
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}

_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
#: Instructions that change the container below their arguments.
_CHANGES = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}
_ALLOWED = _PUTS | _GETS | _CHANGES | {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """An object of a known class: its attributes as they were stored."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


def load(data: bytes) -> Any:
    """Reads a pickle.

    Args:
      data: the file's contents, of any protocol.

    Returns:
      Numbers, text, lists, tuples, dictionaries, float64 arrays, and transformers as `Record`.

    Raises:
      ModelError: damaged, too large, or anything but plain data.
    """
    if len(data) > MAX_BYTES:
        raise ModelError("the statistics file is larger than any statistics")
    try:
        _check_instructions(data)
        return _Copy().plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), 0)
    except ModelError:
        raise
    except Exception as problem:  # a damaged pickle can raise anything
        raise ModelError(f"the statistics file is damaged: {str(problem)[:200]}") from problem


# --- before: values that the instructions would build -------------------------------------------------------


def _check_instructions(data: bytes) -> None:
    """Refuses a pickle whose instructions, or the values that they build, are not those of statistics.

    Each entry of the simulated stack is the size and the depth of a value, None for a mark.
    """
    stack: list[tuple[int, int] | None] = []
    memo: dict[int, tuple[int, int] | None] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if count > MAX_INSTRUCTIONS:
            raise ModelError("the statistics file is longer than any statistics")
        if name not in _ALLOWED:
            raise ModelError(f"the statistics file holds more than data ({name})", "It may be malicious.")
        if name in _PUTS:
            index = len(memo) if name == "MEMOIZE" else int(argument)
            if index > count:
                raise ModelError("the statistics file is damaged: its memo indices are not consecutive")
            memo[index] = stack[-1]
        elif name in _GETS:
            stack.append(memo[int(argument)])
        else:
            if isinstance(argument, int) and abs(argument) > MAX_INTEGER:
                raise ModelError("the statistics file holds an integer of more than 256 bits")
            _move(opcode, stack)


def _move(opcode: pickletools.OpcodeInfo, stack: list[tuple[int, int] | None]) -> None:
    """Takes an instruction's arguments from the simulated stack and puts down its result."""
    needs, gives = opcode.stack_before, opcode.stack_after
    taken: list[tuple[int, int]] = []
    n_fixed = len(needs)
    if pickletools.markobject in needs:
        n_fixed = needs.index(pickletools.markobject)
        while (item := stack.pop()) is not None:
            taken.append(item)
    for _ in range(n_fixed):
        item = stack.pop()
        if item is None:
            raise ModelError("the statistics file is damaged: a mark where a value should be")
        taken.append(item)
    if not gives:
        return
    if gives == [pickletools.markobject]:
        stack.append(None)
        return
    size = 1 + sum(size for size, _ in taken)
    if opcode.name in _CHANGES:
        container = taken.pop()
        depth = max([container[1], *(1 + depth for _, depth in taken)])
    else:
        depth = 1 + max((depth for _, depth in taken), default=0)
    if size > MAX_VALUES or depth > MAX_DEPTH:
        raise ModelError("the statistics file holds more values, or more levels, than any statistics")
    stack.append((size, depth))


# --- during: inert records for the names in it -----------------------------------------------------------


class _StandIn:
    """Inert record in place of a name in a pickle and of a call of it: keeps arguments and state, runs nothing."""

    kind: ClassVar[str] = ""

    def __new__(cls, *arguments: Any) -> _StandIn:
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *arguments: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _stand_in(kind: str) -> type[_StandIn]:
    return type(kind, (_StandIn,), {"kind": kind})


_DTYPE, _SCALAR, _ARRAY, _FROM_BUFFER, _ENCODE, _OBJECT = (
    _stand_in(kind) for kind in ("dtype", "scalar", "_reconstruct", "_frombuffer", "encode", "_reconstructor")
)
_RANDOM = _stand_in("random")  # the generator that a transformer was fitted with; not used
_CLASS = _stand_in("class")  # ndarray and object, as arguments of the two constructors
_TRANSFORMER = _stand_in("QuantileTransformer")  # of magenta/ddsp and of scikit-learn
_NUMPY = {"dtype": _DTYPE, "scalar": _SCALAR, "_reconstruct": _ARRAY, "_frombuffer": _FROM_BUFFER, "ndarray": _CLASS}
_PYTHON = {
    ("_codecs", "encode"): _ENCODE,
    ("copyreg", "_reconstructor"): _OBJECT,
    ("copy_reg", "_reconstructor"): _OBJECT,
    ("builtins", "object"): _CLASS,
    ("__builtin__", "object"): _CLASS,
}


class _Unpickler(pickle.Unpickler):
    """The standard unpickler; each name becomes an inert record."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy.random"):
            return _RANDOM
        if module.partition(".")[0] == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if name == _TRANSFORMER.kind:
            return _TRANSFORMER
        if (module, name) in _PYTHON:
            return _PYTHON[module, name]
        raise ModelError(f"the statistics file refers to {f'{module}.{name}'[:80]!r}", "It may be malicious.")

    def persistent_load(self, pid: Any) -> Any:
        raise ModelError("the statistics file refers to another file")


# --- after: plain values of the result ------------------------------------------------------------


class _Copy:
    """Copies the result into plain values, of a limited number."""

    def __init__(self) -> None:
        self._n_values = 0

    def plain(self, value: Any, depth: int) -> Any:
        self._n_values += 1
        if self._n_values > MAX_VALUES or depth > MAX_DEPTH:
            raise ModelError("the statistics file holds more values, or more levels, than any statistics")
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, list | tuple):
            return type(value)(self.plain(item, depth + 1) for item in value)
        if isinstance(value, dict):
            return {_of(key, str): self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, _StandIn):
            return self._made(value, depth)
        raise ModelError(f"the statistics file holds a {type(value).__name__} where data should be")

    def _made(self, value: _StandIn, depth: int) -> Any:
        """Converts the few calls in a pickle that represent data into that data."""
        if isinstance(value, _RANDOM):
            return None
        if isinstance(value, _ENCODE):
            return _bytes(value)
        if isinstance(value, _SCALAR):
            dtype, raw = value.arguments
            return float(_numbers(dtype, raw)[0])
        if isinstance(value, _ARRAY):
            _, shape, dtype, is_fortran, raw = _of(value.state, tuple)
            return _numbers(dtype, raw).reshape(_of(shape, tuple), order="F" if is_fortran else "C")
        if isinstance(value, _FROM_BUFFER):
            raw, dtype, shape, order = value.arguments
            if order not in ("C", "F"):
                raise ModelError("the statistics file holds an array in an unknown order")
            return _numbers(dtype, raw).reshape(_of(shape, tuple), order=order)
        is_transformer = isinstance(value, _TRANSFORMER)
        if is_transformer or (isinstance(value, _OBJECT) and value.arguments[:1] == (_TRANSFORMER,)):
            state = self.plain(_of(value.state, dict), depth + 1)
            return Record(_TRANSFORMER.kind, state)
        raise ModelError(f"the statistics file holds a {value.kind} where data should be")


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ModelError(f"the statistics file is damaged: {type(value).__name__} where {kind.__name__} should be")
    return value


def _bytes(value: Any) -> bytes:
    """Reads bytes, also as protocols below 3 and 5 store them."""
    if isinstance(value, _ENCODE):
        return bytes(_of(value.arguments[0], str).encode("latin1"))
    return value.encode("latin1") if isinstance(value, str) else bytes(memoryview(value))


def _numbers(dtype: Any, raw: Any) -> np.ndarray:
    """Reads numbers of a simple type, [n] float64."""
    kind = _of(_of(dtype, _DTYPE).arguments[0], str).lstrip("<>|=")
    if kind not in _KINDS:
        raise ModelError(f"the statistics file holds values of type {kind[:20]!r}")
    order = ">" if dtype.state is not None and _of(dtype.state, tuple)[1] == ">" else "<"
    return np.frombuffer(_bytes(raw), np.dtype(order + kind)).astype(np.float64)
