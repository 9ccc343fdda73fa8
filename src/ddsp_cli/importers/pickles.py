"""Reads pickled statistics as plain data: numbers, texts, lists, dictionaries, arrays of numbers.

A pickle is a program. This is an interpreter of the few instructions that such data needs; names in it are never
imported and nothing in it is ever called. Python's own unpickler is not used.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddsp_cli.errors import ModelError

MAX_BYTES = 16 * 1024 * 1024
MAX_INSTRUCTIONS = 200_000

_KINDS = {"f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_CLASSES = {"QuantileTransformer"}  # of magenta/ddsp and of scikit-learn, by their last name
_UNUSED = "numpy.random"

_MARK = object()
#: Instructions that push their argument.
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": lambda: _MARK,
}  # fmt: skip
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names."""

    module: str
    name: str


@dataclass
class _Dtype:
    kind: str
    order: str = "<"

    def read(self, raw: Any) -> np.ndarray:
        if isinstance(raw, str):
            raw = raw.encode("latin1")
        order = ">" if self.order == ">" else "<"
        return np.frombuffer(raw, np.dtype(order + self.kind)).astype(np.float64)


@dataclass
class _Array:
    value: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass
class Record:
    """An object of a known class: its attributes as they were stored."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


def load(data: bytes) -> Any:
    """Reads a pickle.

    Returns:
      Plain values; arrays as float64, transformers as `Record`.

    Raises:
      ModelError: damaged, too large, or anything but plain data.
    """
    if len(data) > MAX_BYTES:
        raise ModelError("the statistics file is larger than any statistics")
    try:
        found = _plain(_Machine().run(data))
        return {key: _plain(value) for key, value in found.items()} if isinstance(found, dict) else found
    except ModelError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as problem:
        raise ModelError(f"the statistics file is damaged: {problem}") from problem
    except Exception as problem:  # pickletools raises whatever decoding its arguments raises
        raise ModelError(f"the statistics file cannot be read: {problem}") from problem


class _Machine:
    """The stack machine of `pickle`, without anything that calls."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_INSTRUCTIONS:
                raise ModelError("the statistics file is longer than any statistics")
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            self._step(name, argument)
        raise ModelError("the statistics file ends too early")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in {"PROTO", "FRAME"}:
            return
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[int(argument)])
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name in {"TUPLE", "LIST"}:
            items = self._to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in {"APPEND", "APPENDS"}:
            items = [stack.pop()] if name == "APPEND" else self._to_mark()
            _of(stack[-1], list).extend(items)
        elif name in {"SETITEM", "SETITEMS", "DICT"}:
            self._set_items(name)
        else:
            self._objects(name, argument)

    def _set_items(self, name: str) -> None:
        items = [self._stack.pop(), self._stack.pop()][::-1] if name == "SETITEM" else self._to_mark()
        if name == "DICT":
            self._stack.append({})
        target = _of(self._stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_of(key, str)] = value

    def _objects(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            stack.append(_Name(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = _of(stack.pop(), str), _of(stack.pop(), str)
            stack.append(_Name(module, attribute))
        elif name == "REDUCE":
            arguments, function = _of(stack.pop(), tuple), _of(stack.pop(), _Name)
            stack.append(_make(function, arguments))
        elif name == "NEWOBJ":
            stack.pop()
            stack.append(_record(_of(stack.pop(), _Name)))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise ModelError(f"the statistics file holds more than data ({name})")

    def _to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ModelError(f"the statistics file is damaged: {type(value).__name__} where {kind.__name__} should be")
    return value


def _make(function: _Name, arguments: tuple[Any, ...]) -> Any:
    """What a call in the pickle stands for, for the few calls that stand for data."""
    if function.module.startswith("numpy.random."):
        return Record(_UNUSED)  # the generator that a transformer was fitted with
    if function.module.split(".")[0] == "numpy":
        if function.name == "dtype":
            kind = _of(arguments[0], str).lstrip("<>|=")
            if kind not in _KINDS:
                raise ModelError(f"the statistics file holds values of type {kind!r}")
            return _Dtype(kind)
        if function.name == "scalar":
            return float(_of(arguments[0], _Dtype).read(arguments[1])[0])
        if function.name == "_reconstruct":
            return _Array()
        if function.name == "_frombuffer":
            raw, dtype, shape, order = arguments[:4]
            if order not in {"C", "F"}:
                raise ModelError("the statistics file holds an array in an unknown order")
            return _Array(_of(dtype, _Dtype).read(raw).reshape(shape, order=order))
    if (function.module, function.name) == ("_codecs", "encode") and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if (function.module, function.name) in {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")}:
        return _record(_of(arguments[0], _Name))
    raise ModelError(f"the statistics file wants to call {function.module}.{function.name}", "It may be malicious.")


def _record(name: _Name) -> Record:
    if name.name not in _CLASSES:
        raise ModelError(f"the statistics file holds an object of {name.module}.{name.name}", "It may be malicious.")
    return Record(name.name)


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Dtype):
        target.order = str(_of(state, tuple)[1])
    elif isinstance(target, _Array):
        _, shape, dtype, fortran, raw = _of(state, tuple)
        target.value = _of(dtype, _Dtype).read(raw).reshape(shape, order="F" if fortran else "C")
    elif isinstance(target, Record):
        if target.kind == _UNUSED:
            return
        target.state = dict(_of(state, dict))
    else:
        raise ModelError("the statistics file is damaged: an instruction without an object")


def _plain(value: Any) -> Any:
    """Arrays out of their shells; one level deep, since a few bytes can describe endless nesting."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Record):
        shells = {key: item.value if isinstance(item, _Array) else item for key, item in value.state.items()}
        return Record(value.kind, shells)
    return None if isinstance(value, _Name | _Dtype) else value
