"""Convert and check arguments of workflows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from ddsp_cli.errors import UsageError, did_you_mean
from ddsp_cli.remote import as_place

#: So many characters of a wrong value are quoted.
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
        raise UsageError(f"{shown} is not a number", f"Give a number, {low:.9g}..{high:.9g}.", parameter=parameter)
    if not low <= found <= high:
        raise UsageError(f"{shown} is out of range", f"Give a number, {low:.9g}..{high:.9g}.", parameter=parameter)
    return found


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
            either = did_you_mean(value, words) if len(value) > 2 else ""
            hint = either or f"Give {', '.join(words)}, or a number, {low:.9g}..{high:.9g}."
            raise UsageError(f"{value[:_SHOWN]} is not a number", hint, parameter=parameter) from None
    return number(value, parameter, low, high)
