"""Failures that a user can cause, and the exit codes they end with.

The library raises a `DdspError`; only the command line catches it (`cli/__init__.py` is the one error boundary).
Messages and hints name arguments as Python does, never options of the command line: `parameter` and `kind` are there
for the command line to add those (`cli/options.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Self


class ExitCode(IntEnum):
    """Exit codes of `ddsp`. Documented in the README; tests hold each to its number."""

    OK = 0
    INTERNAL = 1  # a defect of this program: an unexpected exception
    USAGE = 2  # an option or argument is invalid
    INPUT = 3  # audio that is missing, unreadable or holds nothing to work with
    MODEL = 4  # an instrument or preset that is unknown, corrupt or of the wrong kind
    DATASET = 5  # a data set that is missing, corrupt or made with other settings
    OUTPUT = 6  # a result that cannot be written, or would overwrite something
    PARTIAL = 7  # some of several inputs could not be played, the rest is done
    INTERRUPTED = 130  # Ctrl-C


class Kind(StrEnum):
    """The kind of an error, for callers that word the hint themselves; only errors that an argument cures have one."""

    NONE = ""
    EXISTS = "exists"  # the output exists and may not be replaced
    NO_INPUT = "no-input"  # neither a recording nor curves were given
    AUTOTUNE = "autotune"  # an option of autotune was given, but autotune is off
    REVERB = "reverb"  # no instrument shall play, only a room be added
    HIDES_BUNDLED = "hides-bundled"  # a new instrument would have the `name` of a bundled one
    NO_ROOM = "no-room"  # a recording shall come into a room, but no room was named
    SCORE = "score"  # `path` holds notes where a recording was expected
    SEVERAL_VOICES = "several-voices"  # one line is needed where there are several
    NOTE_TABLE = "note-table"  # `path` holds the notes of a recording where a recording was expected
    NOTHING_TO_COMPARE = "nothing-to-compare"  # no recordings and no data set to evaluate an instrument with
    CURVES = "curves"  # `path` holds curves where a recording was expected
    UNKNOWN_INSTRUMENT = "unknown-instrument"  # no instrument has this name, nor a similar one; `searched` folders
    BLEND = "blend"  # `mix` is a blend of instruments where one was expected
    NO_INSTRUMENTS = "no-instruments"  # there is no instrument at all
    SHARE = "share"  # several names where one is expected
    NO_NAME = "no-name"  # no instrument was named
    CHECKPOINT = "checkpoint"  # `path` is a magenta/ddsp checkpoint, which has to be imported first
    NOT_PLAYED = "not-played"  # a network of several instruments, such as the base, was to be played
    SHARED_FILE = "shared-file"  # `path` is an instrument in one file, which has to be imported first
    FOREIGN_MODEL = "foreign-model"  # a model of another program, which has to be imported first
    UNKNOWN_DATASET = "unknown-dataset"  # no data set has this name, nor a similar one
    FOREIGN_SHARDS = "foreign-shards"  # `path` holds TFRecord shards of another program, which have to be prepared
    DATASET_DAMAGED = "dataset-damaged"  # or of a format of the past
    OTHER_FEATURES = "other-features"  # the data set was measured with other settings than the model needs
    OTHER_RATE = "other-rate"  # the data set has another sample rate than the preset, which needs `rate_hz`
    NO_VALIDATION = "no-validation"  # the data set has no validation split
    OTHER_RUN = "other-run"  # the training in that folder was started with another `argument`
    CREPE_WEIGHTS = "crepe-weights"  # the tracker needs `file` from `url`, in `folder` or elsewhere
    CHECKPOINT_UNUSABLE = "checkpoint-unusable"  # a training cannot be resumed


class DdspError(Exception):
    """A failure that a user can correct: one sentence names the fault, one the remedy.

    Args:
      message: the fault, as a sentence without a final full stop.
      hint: what to do about it; may be empty.
      kind: what went wrong, for programs.
      parameter: name of the argument that is wrong, as Python spells it; empty where no argument is wrong.
      **details: values for the fields that the kind names in backticks.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(
        self, message: str, hint: str = "", *, kind: Kind = Kind.NONE, parameter: str = "", **details: object
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
        self.parameter = parameter
        self.details = details

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def reworded(self, message: str) -> Self:
        """Returns the same failure with another message."""
        return type(self)(message, self.hint, kind=self.kind, parameter=self.parameter, **self.details)


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
    """Returns the `known` names most like `name`, best first; empty if no name is similar."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
    return [by_lower[match] for match in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a hint sentence for a mistyped name: the closest known ones, else all of them."""
    names = sorted(known)
    matches = closest(name, names)
    if matches:
        return f"Did you mean {' or '.join(matches)}?"
    if names:
        return f"Known names: {', '.join(names)}."
    return ""
