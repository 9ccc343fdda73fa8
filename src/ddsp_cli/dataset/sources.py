"""Find the recordings and shards of a data set, and name each without the folders of this machine."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ddsp_cli.audio import read
from ddsp_cli.dataset import nsynth
from ddsp_cli.dataset.ledger import Ledger, clean
from ddsp_cli.errors import InputError, UsageError, closest
from ddsp_cli.remote import as_place, base_name, files, is_address, reading

#: Names of shards, of `ddsp_prepare_tfrecord` and of this program.
SHARD_NAME = re.compile(r".*\.tfrecord(-\d{5}-of-\d{5})?$")

#: Number of names that a mistyped pattern is compared with.
MAX_SUGGESTED_FROM = 10_000


@dataclass
class Inputs:
    """Files with the names that the data set gives them, in a fixed order.

    Attributes:
      recordings: sound files, with what is held out and left out.
      shards: of data sets made by magenta/ddsp.
    """

    recordings: Ledger = field(default_factory=Ledger)
    shards: dict[Path, str] = field(default_factory=dict)


def find(paths: Sequence[Path]) -> Inputs:
    """Finds sound files among files and folders; a folder without any may hold shards instead, and NSynth be either.

    Raises:
      UsageError: nothing was given.
      InputError: a path is missing, a folder holds neither, or the metadata of NSynth is damaged.
      DatasetError: a shard is damaged.
    """
    if not paths:
        raise UsageError("no recordings were given", "Name files or folders of recordings.")
    inputs = Inputs()
    for given in paths:
        if is_address(given):
            _find_at(str(given), inputs)
            continue
        root = given.resolve().name
        shards = _shards(given)
        if shards and nsynth.is_shard(shards[0]):
            for path in shards:
                inputs.recordings.add_notes(path, nsynth.notes(path), path.name)
        elif shards:
            for path in shards:
                if path not in inputs.shards:
                    inputs.shards[path] = _free_label(path, given, root, inputs.shards.values())
        elif given.is_dir():
            n_before = len(inputs.recordings)
            inputs.recordings.add(((path, path.relative_to(given).as_posix()) for path in read.walk_audio(given)), root)
            if len(inputs.recordings) == n_before and next(read.walk_audio(given), None) is None:
                raise read.no_sound_in(given)
            inputs.recordings.set_labels(nsynth.labels(given))
        elif not given.exists():
            raise InputError(f"{given} does not exist")
        else:
            inputs.recordings.add([(given, "")], root)
    return inputs


def _find_at(address: str, inputs: Inputs) -> None:
    """Finds the sound files, or the notes of NSynth, at an address."""
    root, place = base_name(address), as_place(address)
    if SHARD_NAME.match(place.name):
        with reading(place):
            if not nsynth.is_shard(place):
                raise InputError(f"{address} holds shards of another program", "Copy them to this machine first.")
            inputs.recordings.add_notes(place, nsynth.notes(place), root)
        return
    n_before = len(inputs.recordings)
    found = ((path, name) for path, name in files(address) if not name or _is_sound(name))
    inputs.recordings.add(found, root)
    if len(inputs.recordings) == n_before and not any(_is_sound(name) for _, name in files(address)):
        raise read.no_sound_in(place)
    with reading(place):
        inputs.recordings.set_labels(nsynth.labels(place))


def _is_sound(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and PurePosixPath(name).suffix.lower() in read.READABLE_SUFFIXES


def _free_label(path: Path, given: Path, root: str, taken: Collection[str]) -> str:
    """The name of a shard in the data set."""
    stem = label = clean(f"{root}/{path.relative_to(given).as_posix()}" if given.is_dir() else root)
    count = 1
    while label in taken:
        count += 1
        label = f"{stem} ({count})"
    return label


def pick(inputs: Inputs, hold_out: Sequence[str] = (), leave_out: Sequence[str] = ()) -> Inputs:
    """Selects recordings by patterns: file names or ends of paths, with `*`, `?` and `[…]` as in a shell.

    Args:
      inputs: as found.
      hold_out: recordings for the validation split.
      leave_out: recordings not to use, even where a pattern of `hold_out` matches too.

    Returns:
      The same inputs, marked.

    Raises:
      UsageError: a pattern matches no recording.
    """
    for pattern in hold_out:
        inputs.recordings.mark(_matching(inputs, pattern, "hold_out"), hold_out=True)
    for pattern in leave_out:
        inputs.recordings.mark(_matching(inputs, pattern, "leave_out"), leave_out=pattern)
    return inputs


def _matching(inputs: Inputs, pattern: str, parameter: str) -> list[str]:
    """Names of the recordings that a pattern matches."""
    # Posix, so that small and capital letters differ on Windows too.
    wanted = pattern.replace(os.sep, "/")
    # A recording is called as the data set calls it, which is the same on every machine, or as it was given.
    found = [
        name for path, name in inputs.recordings.names() if _matches(wanted, name) or _matches(wanted, path.as_posix())
    ]
    if not found:
        known = itertools.islice((path.name for path, _ in inputs.recordings.names()), MAX_SUGGESTED_FROM)
        near = closest(pattern, sorted(known))
        raise UsageError(
            f"{pattern!r} matches none of the recordings",
            f"Did you mean {' or '.join(near)}?" if near else "Give a file name, or a pattern such as '*_forte_*'.",
            parameter=parameter,
        )
    return found


def _matches(pattern: str, path: str) -> bool:
    # macOS writes é as two characters into archives and on some disks, keyboards as one.
    pattern, path = (unicodedata.normalize("NFC", text) for text in (pattern, path))
    return bool(PurePosixPath(pattern).parts) and PurePosixPath(path).match(pattern)


def _shards(given: Path) -> list[Path]:
    """The shards that a path stands for; none where it is a sound file or a folder with sound files."""
    if given.is_file():
        return [given] if SHARD_NAME.match(given.name) else []
    if not given.is_dir():
        return []
    found = sorted(path for path in given.iterdir() if SHARD_NAME.match(path.name) and path.is_file())
    return found if found and next(read.walk_audio(given), None) is None else []


def dataset_name(name: str, paths: Sequence[Path]) -> str:
    """The name of a data set: as given, else that of the first input.

    Raises:
      UsageError: it could not be the name of a folder.
    """
    if not name:
        if is_address(paths[0]):
            return PurePosixPath(base_name(str(paths[0]))).stem.lstrip(".") or "recordings"
        first = Path(paths[0]).resolve()
        name = first.name if first.is_dir() else first.stem if len(paths) == 1 else first.parent.name
        return name.lstrip(".") or "recordings"
    if name in {".", ".."} or any(letter in name for letter in "/\\:\0\n\r"):
        raise UsageError(f"{name!r} cannot be the name of a data set", "Use letters, digits, - and _.")
    return name
