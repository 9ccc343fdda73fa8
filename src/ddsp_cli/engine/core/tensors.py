"""Tensors: conversion to float32, checks of shapes, constants, and work in pieces of bounded memory.

Every function of `core`, and every processor, takes anything that converts to a tensor of the Keras backend: NumPy
arrays and lists of any precision, tensors, variables. It computes in float32, also under a mixed-precision policy, and
checks shapes when it is called. Dimensions that are unknown while a graph is built are not checked.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import keras
import numpy as np
from keras import ops

from ddsp_cli.errors import closest, did_you_mean

#: A tensor of the Keras backend, or anything that converts to one.
Tensor: TypeAlias = Any

#: Elements of the largest array of a piece: 8 MB in float32, which fits the cache of most processors.
BLOCK_ELEMENTS = 2**21


class ArgumentError(ValueError):
    """An argument that a function of the engine cannot take; the message names it, and the expected values."""

    #: Keras puts the message of an error inside a layer into a long report of the call, unless it carries this mark.
    _keras_call_info_injected = True


P = ParamSpec("P")
R = TypeVar("R")

# --- values ------------------------------------------------------------------------------------------


def constant(values: Any) -> Tensor:
    """Converts fixed numbers to a float32 tensor of the backend."""
    return ops.convert_to_tensor(np.asarray(values, np.float32))


def counting(n: int, start: int = 0) -> Tensor:
    """Returns the n float32 numbers start, start + 1, …"""
    return constant(np.arange(start, start + n))


def as_float32(value: Any, name: str = "the argument") -> Tensor:
    """Converts a value to a float32 tensor.

    Args:
      value: a tensor, an array, a variable, or nested lists of real numbers.
      name: its name in an error.

    Returns:
      the tensor, of the shape of `value`.

    Raises:
      ValueError: `value` is None, complex, or does not hold numbers.
    """
    if value is None:
        raise ArgumentError(f"{name} is None; it must be an array of numbers")
    if isinstance(value, keras.KerasTensor):
        return value if value.dtype == "float32" else ops.cast(value, "float32")
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return ops.convert_to_tensor(np.asarray(value, np.float32))
    if isinstance(value, str | bytes):
        raise ArgumentError(f"{name} is a {type(value).__name__}; it must be an array of numbers")
    try:
        tensor = ops.convert_to_tensor(value)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as problem:
        raise ArgumentError(
            f"{name} is a {type(value).__name__} that does not convert to an array of numbers"
        ) from problem
    if "complex" in dtype or "string" in dtype:
        raise ArgumentError(f"{name} holds {dtype} values; it must hold real numbers")
    return tensor if dtype == "float32" else ops.cast(tensor, "float32")


def whole(value: Any, name: str, smallest: int = 1) -> int:
    """Checks a count: a whole number that is not too small.

    Args:
      value: an integer, or a float without a fraction such as 64.0.
      name: its name in an error.
      smallest: the least value allowed.

    Returns:
      `value` as an int.

    Raises:
      ValueError: it is not a whole number, or smaller than `smallest`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or float(value) % 1 != 0:
        raise ArgumentError(f"{name} must be a whole number, not {value!r}")
    if value < smallest:
        raise ArgumentError(f"{name} must be {smallest} or more, not {value!r}")
    return int(float(value))


def positive(value: Any, name: str) -> float:
    """Checks a rate or a width: a finite number above 0.

    Raises:
      ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < float("inf"):
        raise ArgumentError(f"{name} must be a number above 0, not {value!r}")
    return value  # type: ignore[return-value]


def finite(value: Any, name: str, smallest: float = -math.inf) -> float:
    """Checks a weight, a bias or a level: a finite number that is not too small.

    Raises:
      ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ArgumentError(f"{name} must be a finite number, not {value!r}")
    if value < smallest:
        raise ArgumentError(f"{name} must be {smallest:g} or more, not {value!r}")
    return value  # type: ignore[return-value]


def one_of(value: Any, name: str, known: Sequence[str]) -> str:
    """Checks a choice.

    Raises:
      ValueError: `value` is not among `known`; the closest are named.
    """
    if value not in known:
        close = closest(str(value), known)
        hint = f". Did you mean {' or '.join(close)}?" if close else ""
        raise ArgumentError(f"{name} {value!r} is unknown; it must be one of {', '.join(known)}{hint}")
    return value


# --- shapes ------------------------------------------------------------------------------------------


def static_shape(value: Any) -> tuple[int | None, ...] | None:
    """Returns the known dimensions of a tensor, None for each unknown one; None for a tensor of unknown rank."""
    try:
        return tuple(n if isinstance(n, int) else None for n in value.shape)
    except (ValueError, AttributeError, TypeError):  # TensorFlow's shape of unknown rank
        return None


def check_shapes(
    owner: str,
    shapes: Mapping[str, tuple[int | None, ...] | None],
    specs: Mapping[str, str],
    sizes: Mapping[str, tuple[str, int]] | None = None,
) -> None:
    """Compares shapes with their declarations.

    Args:
      owner: of the tensors, to begin an error with.
      shapes: name → shape, None for unknown dimensions, or None for an unknown rank.
      specs: name → declaration. `B F 1` has three dimensions, of which the last is 1; a letter stands for one number in
        all of them; `B?` is that number or 1; `|` separates alternatives; `...` is any shape.
      sizes: letter → (name of the setting that fixes it, its value).

    Raises:
      ValueError: a shape does not agree with its declaration; both are named.
    """
    letters = {letter: (value, f"{name} is {value}") for letter, (name, value) in (sizes or {}).items()}
    for name, shape in shapes.items():
        alternatives = [spec.split() for spec in specs[name].split("|")]
        if shape is None or ["..."] in alternatives:
            continue
        fitting = [dims for dims in alternatives if len(dims) == len(shape)]
        if not fitting:
            raise ArgumentError(_mismatch(owner, name, shape, specs))
        reasons = [_disagreement(shape, dims, letters) for dims in fitting]
        if all(reason is not None for reason in reasons):
            raise ArgumentError(_mismatch(owner, name, shape, specs, reasons[0] or ""))
        for dim, size in zip(fitting[reasons.index(None)], shape, strict=True):
            if not dim.isdigit() and size is not None and not dim.endswith("?"):
                letters.setdefault(dim, (size, f"{dim} is {size} in {name}"))


def _disagreement(shape: tuple[int | None, ...], dims: list[str], letters: Mapping[str, tuple[int, str]]) -> str | None:
    """Says why a shape does not match a declaration: a clause, empty where the declaration says it; None if it does."""
    for dim, size in zip(dims, shape, strict=True):
        letter = dim.removesuffix("?")
        if size is None or (dim != letter and size == 1):
            continue
        if letter.isdigit():
            if size != int(letter):
                return ""
        elif size == 0 and letter != "B":
            return f"; {letter} must be 1 or more"
        elif letter in letters and letters[letter][0] != size:
            return f", where {letters[letter][1]}"
    return None


def _shown(spec: str) -> str:
    return " or ".join(f"[{', '.join(dims.split())}]" for dims in spec.replace("B?", "B").split("|"))


def _mismatch(owner: str, name: str, shape: tuple[int | None, ...], specs: Mapping[str, str], reason: str = "") -> str:
    listed = ", ".join(f"{other} {_shown(spec)}" for other, spec in specs.items())
    rest = f". {owner} takes {listed}" if len(specs) > 1 else ""
    return f"{owner}: {name} has shape {list(shape)}, expected {_shown(specs[name])}{reason}{rest}"


class Arguments:
    """Converts and checks the tensors among the arguments of a function, by declarations; see `takes`.

    Attributes:
      specs: argument → declaration, as `check_shapes` reads them.
    """

    def __init__(self, function: Callable[..., Any], specs: Mapping[str, str]) -> None:
        self.specs = dict(specs)
        self.signature = inspect.signature(function)
        self.is_method = next(iter(self.signature.parameters)) == "self"
        self.name = function.__name__

    def bind(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """Returns the arguments of a call (of a method with `self`), its tensors converted and checked.

        Raises:
          TypeError: arguments are missing, unknown, or too many.
          ValueError: a tensor is not an array of real numbers, or has another shape than declared.
        """
        owner = f"{type(args[0]).__name__}" if self.is_method else self.name
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as problem:
            known = [name for name in self.signature.parameters if name != "self"]
            unknown = [name for name in kwargs if name not in known]
            hint = " " + did_you_mean(unknown[0], known) if unknown else ""
            raise TypeError(f"{owner}: {problem}; {self.name} takes {', '.join(known)}.{hint}") from None
        given = [name for name in self.specs if self._is_given(bound, name)]
        for name in given:
            bound.arguments[name] = as_float32(bound.arguments[name], f"{owner}: {name}")
        sizes = args[0].sizes() if self.is_method else {}
        check_shapes(owner, {name: static_shape(bound.arguments[name]) for name in given}, self.specs, sizes)
        return bound

    def _is_given(self, bound: inspect.BoundArguments, name: str) -> bool:
        """Returns whether a tensor is given; optional ones may be None."""
        optional = self.signature.parameters[name].default is None
        return name in bound.arguments and not (optional and bound.arguments[name] is None)


def takes(**specs: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function whose tensor arguments are converted to float32 and checked when it is called.

    Args:
      **specs: argument → declaration of its shape, as `check_shapes` reads it. A method's object names the letters that
        its settings fix by a method `sizes()`.

    Returns:
      the decorator. It keeps signature and docstring; `function.arguments` holds the `Arguments`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        arguments = Arguments(function, specs)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = arguments.bind(*args, **kwargs)
            return function(*bound.args, **bound.kwargs)

        checked.arguments = arguments  # type: ignore[attr-defined]
        return checked

    return decorate


# --- pieces of bounded memory ------------------------------------------------------------------------


def in_blocks(function: Callable[..., Any], arrays: tuple[Any, ...], elements_per_row: int) -> Any:
    """Applies a function row by row, some rows at a time, one piece after the other.

    Args:
      function: takes arrays [n, ...] and returns arrays [n, ...] (one, or a tuple); each row of a result depends on
        the same row of the arguments only.
      arrays: [N, ...] each.
      elements_per_row: size of the largest intermediate result of one row.

    Returns:
      the result of the function for all N rows.
    """
    block = max(1, BLOCK_ELEMENTS // elements_per_row)
    n_rows = ops.shape(arrays[0])[0]
    if isinstance(n_rows, int):
        if n_rows <= block:
            return function(*arrays)
        block = -(-n_rows // -(-n_rows // block))  # pieces of nearly equal size
    missing = -n_rows % block
    folded = [_fold(array, missing, block) for array in arrays]
    results = ops.map(lambda piece: function(*piece), tuple(folded))
    if isinstance(results, (tuple, list)):
        return tuple(_unfold(result, n_rows) for result in results)
    return _unfold(results, n_rows)


def _fold(array: Any, missing: Any, block: int) -> Any:
    rest = tuple(array.shape[1:])
    if not (isinstance(missing, int) and missing == 0):
        array = ops.concatenate([array, ops.zeros((missing, *rest), array.dtype)], axis=0)
    return ops.reshape(array, (-1, block, *rest))


def _unfold(array: Any, n_rows: Any) -> Any:
    return ops.reshape(array, (-1, *array.shape[2:]))[:n_rows]
