"""Find the recordings and shards of a data set, and name each without the folders of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ddsp_cli.audio import read
from ddsp_cli.errors import InputError, UsageError, closest

#: How `ddsp_prepare_tfrecord` and we name shards.
SHARD_NAME = re.compile(r".*\.tfrecord(-\d{5}-of-\d{5})?$")


@dataclass(frozen=True)
class Inputs:
    """Files with the names that the data set gives them, in a fixed order.

    Attributes:
      recordings: sound files.
      shards: of data sets made by magenta/ddsp.
      held_out: names of the recordings that form the validation split; if empty, some are chosen.
      left_out: name of each recording that is not used → the pattern that matches it.
    """

    recordings: dict[Path, str] = field(default_factory=dict)
    shards: dict[Path, str] = field(default_factory=dict)
    held_out: frozenset[str] = frozenset()
    left_out: dict[str, str] = field(default_factory=dict)


def find(paths: Sequence[Path]) -> Inputs:
    """Finds sound files among files and folders; a folder without any may hold shards instead.

    Raises:
      UsageError: nothing was given.
      InputError: a path is missing, or a folder holds neither.
    """
    if not paths:
        raise UsageError("no recordings were given", "Name files or folders of recordings.")
    inputs = Inputs()
    taken: set[str] = set()
    for given in map(Path, paths):
        root = given.resolve()
        shards = _shards(given)
        for path in shards or read.list_audio([given]):
            known = inputs.shards if shards else inputs.recordings
            if path in known:
                continue
            relative = path.relative_to(given).as_posix() if given.is_dir() else ""
            stem = f"{root.name}/{relative}" if relative else root.name
            label = stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            count = 1
            while label in taken:
                count += 1
                label = f"{stem} ({count})".encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            known[path] = label
            taken.add(label)
    return inputs


def pick(inputs: Inputs, hold_out: Sequence[str] = (), leave_out: Sequence[str] = ()) -> Inputs:
    """Selects recordings by patterns: file names or ends of paths, with `*`, `?` and `[…]` as in a shell.

    Args:
      inputs: as found.
      hold_out: recordings for the validation split.
      leave_out: recordings not to use, even where a pattern of `hold_out` matches too.

    Raises:
      UsageError: a pattern matches no recording.
    """
    held = _matching(inputs, hold_out, "hold_out")
    left = _matching(inputs, leave_out, "leave_out")
    return replace(inputs, held_out=frozenset(held.keys() - left.keys()), left_out=left)


def _matching(inputs: Inputs, patterns: Sequence[str], parameter: str) -> dict[str, str]:
    """The name of each recording that a pattern matches → that pattern."""
    found: dict[str, str] = {}
    for pattern in patterns:
        # Posix, so that small and capital letters differ on Windows too.
        wanted = pattern.replace(os.sep, "/")
        # A recording is called as the data set calls it, which is the same on every machine, or as it was given.
        called = ((name, given) for path, name in inputs.recordings.items() for given in (name, path.as_posix()))
        matching = [name for name, given in called if _matches(wanted, given)]
        if not matching:
            near = closest(pattern, sorted(path.name for path in inputs.recordings))
            raise UsageError(
                f"{pattern!r} matches none of the recordings",
                f"Did you mean {' or '.join(near)}?" if near else "Give a file name, or a pattern such as '*_forte_*'.",
                parameter=parameter,
            )
        for name in matching:
            found.setdefault(name, pattern)
    return found


def _matches(pattern: str, path: str) -> bool:
    return bool(PurePosixPath(pattern).parts) and PurePosixPath(path).match(pattern)


def _shards(given: Path) -> list[Path]:
    """The shards that a path stands for; none where it is a sound file or a folder with sound files."""
    if given.is_file():
        return [given] if SHARD_NAME.match(given.name) else []
    if not given.is_dir():
        return []
    found = sorted(path for path in given.iterdir() if SHARD_NAME.match(path.name) and path.is_file())
    if found:
        try:
            read.list_audio([given])
        except InputError:
            return found
    return []


def dataset_name(name: str, paths: Sequence[Path]) -> str:
    """The name of a data set: as given, else that of the first input.

    Raises:
      UsageError: it could not be the name of a folder.
    """
    if not name:
        first = Path(paths[0]).resolve()
        name = first.name if first.is_dir() else first.stem if len(paths) == 1 else first.parent.name
        return name.lstrip(".") or "recordings"
    if name in {".", ".."} or any(letter in name for letter in "/\\:\0\n\r"):
        raise UsageError(f"{name!r} cannot be the name of a data set", "Use letters, digits, - and _.")
    return name
