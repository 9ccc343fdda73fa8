"""The files of an import, from a folder or a ZIP archive: regular files only, by safe names, with limits on size.

Nothing is unpacked to disk. A folder may hold FIFOs and links to devices, an archive links, names that leave it and
members that expand a thousandfold; each is refused before it is read.
"""

from __future__ import annotations

import io
import itertools
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from ddsp_cli.errors import ModelError
from ddsp_cli.limits import read_regular

#: Largest size of all files of an import together, and the largest number of them.
MAX_BYTES = 200 << 20
MAX_ENTRIES = 10_000
#: Weights barely shrink; a member that expands more than this is not a model.
MAX_RATIO = 100


class Files(Protocol):
    """Files by name."""

    def names(self) -> list[str]:
        """Returns all names, sorted."""

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns the contents of a file.

        Raises:
          ModelError: the file is missing, not regular, or larger than `max_bytes`.
        """


class Folder:
    """The wanted files of a folder, without those in its subfolders.

    Args:
      path: of the folder.
      wanted: whether a file of this name is taken.

    Raises:
      ModelError: it cannot be read, or holds too many of them.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        self._path = path
        self._left_bytes = MAX_BYTES
        try:
            with os.scandir(path) as entries:
                found = (entry.name for entry in entries if wanted(entry.name))
                self._names = sorted(itertools.islice(found, MAX_ENTRIES + 1))
        except OSError as problem:
            raise ModelError(f"{path} cannot be read: {problem.strerror or problem}") from problem
        if len(self._names) > MAX_ENTRIES:
            raise ModelError(f"{path} has more than {MAX_ENTRIES} files", "Import a folder with the model alone.")

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        content = read_regular(self._path / name, min(max_bytes, self._left_bytes))
        self._left_bytes -= len(content)
        return content


class Archive:
    """The wanted members of a ZIP archive, under the last parts of their names.

    Args:
      path: of the archive.
      wanted: whether a member is taken, by the last part of its name.

    Raises:
      ModelError: not a ZIP archive, damaged, or hostile: names that leave it, links, two members of one name, sizes
        that no model has.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        self._path = path
        self._left_bytes = MAX_BYTES
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(read_regular(path, MAX_BYTES)))
            self._members = _check(path, self._archive.infolist(), wanted)
        except ModelError:
            raise
        except Exception as problem:  # a damaged directory can raise anything
            raise ModelError(f"{path} is not a readable ZIP archive: {problem}") from problem

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        if name not in self._members:
            raise ModelError(f"{self._path} has no file {name}")
        member = self._members[name]
        if member.file_size > min(max_bytes, self._left_bytes):
            raise ModelError(f"{self._path} holds a file that is too large: {name!r}")
        try:
            with self._archive.open(member) as stream:
                content = stream.read(member.file_size + 1)
        except Exception as problem:  # zlib, lzma and bz2 each raise errors of their own
            raise ModelError(f"{self._path} is a damaged ZIP archive: {problem}") from problem
        if len(content) != member.file_size:
            raise ModelError(f"{self._path} is a damaged ZIP archive: {name!r} has another size than it says")
        self._left_bytes -= len(content)
        return content


def _check(path: Path, members: list[zipfile.ZipInfo], wanted: Callable[[str], bool]) -> dict[str, zipfile.ZipInfo]:
    if len(members) > MAX_ENTRIES:
        raise ModelError(f"{path} has more than {MAX_ENTRIES} files")
    chosen: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        posix, windows = PurePosixPath(member.filename), PureWindowsPath(member.filename)
        if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in member.filename:
            raise ModelError(f"{path} holds a file that would leave its folder: {member.filename[:80]!r}")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise ModelError(f"{path} holds a link or a device: {member.filename[:80]!r}")
        if member.is_dir() or not wanted(windows.name):
            continue
        if member.file_size > MAX_BYTES or member.file_size > MAX_RATIO * max(member.compress_size, 1024):
            raise ModelError(f"{path} holds a file of an impossible size: {member.filename[:80]!r}")
        if windows.name in chosen:
            raise ModelError(f"{path} holds two files named {windows.name[:80]!r}", "Unpack it and import one folder.")
        chosen[windows.name] = member
    if sum(member.file_size for member in chosen.values()) > MAX_BYTES:
        raise ModelError(f"{path} unpacks to more than {MAX_BYTES >> 20} MB, more than any model")
    return chosen
