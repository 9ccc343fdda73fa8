"""Unpacks ZIP archives of strangers: only plain files, only by safe names, only so many bytes."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from ddsp_cli.errors import ModelError

MAX_MEMBERS = 1000
MAX_MEMBER_BYTES = 512 * 1024 * 1024
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
#: Weights barely shrink; what grows a hundredfold is no model.
MAX_RATIO = 100
_CHUNK_BYTES = 1 << 20


def unpack(source: Path, folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """Unpacks the wanted members of an archive, all into one folder, under their last names.

    Args:
      source: the archive.
      folder: an empty one.
      wanted: tells by the last part of its name whether a member is unpacked.

    Raises:
      ModelError: not a ZIP archive, damaged, or one that tries something: names that leave the folder, links,
        two members of one name, sizes beyond bounds.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            chosen = _check(source, archive.infolist(), wanted)
            return [_write(archive, member, folder / name) for name, member in chosen.items()]
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OSError) as problem:
        raise ModelError(f"{source} is not a readable ZIP archive: {problem}") from problem
    except Exception as problem:  # zlib, lzma and bz2 each bring an error of their own
        if isinstance(problem, ModelError):
            raise
        raise ModelError(f"{source} is a damaged ZIP archive: {problem}") from problem


def _check(source: Path, members: list[zipfile.ZipInfo], wanted: Callable[[str], bool]) -> dict[str, zipfile.ZipInfo]:
    if len(members) > MAX_MEMBERS:
        raise ModelError(f"{source} has {len(members)} members, more than any model")
    chosen: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        path = PurePosixPath(member.filename)
        windows = PureWindowsPath(member.filename)
        if path.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in member.filename:
            raise ModelError(f"{source} holds a file that would leave its folder: {member.filename!r}")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise ModelError(f"{source} holds a link or a device: {member.filename!r}")
        if member.is_dir() or not wanted(windows.name):
            continue
        if member.file_size > MAX_MEMBER_BYTES or member.file_size > MAX_RATIO * max(member.compress_size, 1024):
            raise ModelError(f"{source} holds a file of an impossible size: {member.filename!r}")
        if windows.name in chosen:
            raise ModelError(f"{source} holds two files named {windows.name!r}", "Unpack it and import one folder.")
        chosen[windows.name] = member
    if sum(member.file_size for member in chosen.values()) > MAX_TOTAL_BYTES:
        raise ModelError(f"{source} unpacks to more than any model needs")
    return chosen


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> Path:
    """Copies one member, no further than it said it would go."""
    left = member.file_size
    with archive.open(member) as stream, target.open("xb") as out:
        while chunk := stream.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise ModelError(f"{member.filename!r} is larger than its archive says")
            out.write(chunk)
    return target
