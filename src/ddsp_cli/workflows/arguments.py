"""Convert and check arguments of workflows."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from ddsp_cli.errors import UsageError, did_you_mean
from ddsp_cli.remote import as_place

#: The most characters of a wrong value that an error quotes.
_SHOWN = 200

PathLike: TypeAlias = str | os.PathLike[str]


def as_path(path: PathLike | None) -> Path | None:
    """Returns a path, or None."""
    return None if path is None else Path(path)


def as_places(places: PathLike | Sequence[PathLike]) -> list[Path]:
    """Returns a list of paths and addresses, of one or several; an address may contain a pattern."""
    return [as_place(places)] if isinstance(places, str | os.PathLike) else [as_place(place) for place in places]


def as_paths(paths: PathLike | Sequence[PathLike]) -> list[Path]:
    """Returns a list of paths, of one path or several."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]


def as_list(words: str | Sequence[str]) -> list[str]:
    """Returns a list of words, of one word or several."""
    return [words] if isinstance(words, str) else list(words)


def word(value: str | int, parameter: str, known: Iterable[str]) -> str:
    """Returns the one of some words, all in small letters, that a text is in any case, or a number as it is written.

    Raises:
      UsageError: it is none of them; `parameter` names the argument.
    """
    known, text = tuple(known), f"{value}"
    if text.lower() not in known:
        raise UsageError(f"{text[:_SHOWN]} is not known", did_you_mean(text, known), parameter=parameter)
    return text.lower()


def number(value: object, parameter: str, low: float, high: float) -> float:
    """Returns a finite number within a range.

    Raises:
      UsageError: the value is not such a number; `parameter` names the argument.
    """
    try:
        found = float(value)  # type: ignore[arg-type]
        shown = f"{value}"[:_SHOWN]
    except (TypeError, ValueError):
        found, shown = math.nan, f"{value}"[:_SHOWN]
    except OverflowError:
        found, shown = math.inf, "an integer of more than 308 digits"
    if not math.isfinite(found):
        hint = _pointed(value) or f"Give a number, {_between(low, high)}."
        raise UsageError(f"{shown} is not a number", hint, parameter=parameter)
    if not low <= found <= high:
        raise UsageError(f"{shown} is out of range", f"Give a number, {_between(low, high)}.", parameter=parameter)
    return found


def whole_number(value: object, parameter: str, low: float, high: float) -> int:
    """Returns a whole number within a range.

    Raises:
      UsageError: the value is not such a number; `parameter` names the argument.
    """
    found = number(value, parameter, low, high)
    if not found.is_integer():
        raise UsageError(f"{f'{value}'[:_SHOWN]} is not a whole number", parameter=parameter)
    return int(found)


def _between(low: float, high: float) -> str:
    """Returns a range as in the help; whole numbers have all their digits."""
    return "..".join(f"{end:.0f}" if end == round(end) else f"{end:.9g}" for end in (low, high))


def _pointed(value: object) -> str:
    """Returns a hint where a text is a number with a comma for the point, else nothing."""
    is_pointed = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", value) is not None
    return f"Write a point for the comma: {str(value).strip().replace(',', '.')}." if is_pointed else ""


def number_or_word(value: object, parameter: str, low: float, high: float, words: tuple[str, ...]) -> float | str:
    """Checks for one of some words in any case, or a finite number within a range.

    Raises:
      UsageError: it is neither; `parameter` names the argument.
    """
    if isinstance(value, str):
        if value.lower() in words:
            return value.lower()
        try:
            float(value)
        except ValueError:
            either = _pointed(value) or (did_you_mean(value, words) if len(value) > 2 else "")
            hint = either or f"Give {', '.join(words)}, or a number, {_between(low, high)}."
            raise UsageError(f"{value[:_SHOWN]} is not a number", hint, parameter=parameter) from None
    return number(value, parameter, low, high)
