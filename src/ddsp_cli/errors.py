"""Failures that a user can cause, and the exit codes they end with.

Work functions raise; only the command line catches (`cli/__init__.py` holds the one error boundary).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What `ddsp` returns to the shell. Documented in the README; tests hold each to its number."""

    OK = 0
    INTERNAL = 1  # a defect of ours: an exception nobody foresaw
    USAGE = 2  # an option or argument that makes no sense
    INPUT = 3  # audio that is missing, unreadable or holds nothing to work with
    MODEL = 4  # an instrument or preset that is unknown, corrupt or of the wrong kind
    DATASET = 5  # a data set that is missing, corrupt or made with other settings
    OUTPUT = 6  # a result that cannot be written, or would overwrite something
    INTERRUPTED = 130  # Ctrl-C


class DdspError(Exception):
    """A failure with a cure: one sentence that says what is wrong, one that says what to do.

    Args:
      message: what is wrong, as a sentence without a final full stop.
      hint: what the user can do about it; may be empty.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DdspError):
    exit_code = ExitCode.USAGE


class InputError(DdspError):
    exit_code = ExitCode.INPUT


class ModelError(DdspError):
    exit_code = ExitCode.MODEL


class DatasetError(DdspError):
    exit_code = ExitCode.DATASET


class OutputError(DdspError):
    exit_code = ExitCode.OUTPUT


def closest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The `known` names most like `name`, best first; empty when none is like it."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
    return [by_lower[match] for match in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint sentence for a mistyped name: the closest known ones, else all of them."""
    names = sorted(known)
    matches = closest(name, names)
    if matches:
        return f"Did you mean {' or '.join(matches)}?"
    if names:
        return f"Known names: {', '.join(names)}."
    return ""
