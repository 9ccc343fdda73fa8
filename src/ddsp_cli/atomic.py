"""Write files and folders so that a reader finds the old one or the new one, never half of either.

Everything is written in a hidden workspace beside its target, flushed to disk, and renamed:

    PARENT/.ddsp-0123456789ab/   one workspace per file or folder that is being written
      lock                       held as long as the writing process runs
      new, new.wav               the folder or file being written
      plan.json                  before a folder is replaced: its name, and which of its entries are carried over
      old                        the folder that is being replaced
    replaced                   the same, when the new one is in its place

A file is replaced by one rename. A folder needs two (the old one out, the new one in), and a process can be killed
between them. `recover` finds workspaces whose process has ended, moves the old folder back or completes the exchange,
and removes the workspace. It runs whenever a command searches for an instrument or a data set, or writes beside one.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ddsp_cli.errors import Kind, OutputError
from ddsp_cli.lock import remove_locked, try_lock

_WORKSPACE = re.compile(r"\.ddsp-[0-9a-f]{12}")
_LOCK_FILE = re.compile(r"\.ddsp-[0-9a-f]{12}\.lock")

#: Where a file system has no locks, a workspace counts as abandoned when it has not changed for a day.
ABANDONED_AFTER_S = 86400.0

#: Files that desktops put into every folder they show.
DESKTOP_FILES = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".directory")

#: Errors of file systems that cannot flush a file or a folder.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}

_swept: set[Path] = set()


class FolderKind(msgspec.Struct, frozen=True):
    """Distinguishes folders that this program wrote from all others.

    Attributes:
      what: in words, for error messages: "an instrument".
      recognise: whether an existing folder is of this kind.
      entries: patterns (`fnmatch`) of the names that the program writes into it. Others belong to the user and are
        kept when the folder is replaced.
      caches: names of folders in it that are not flushed to disk: their files are checked when they are read.
    """

    what: str
    recognise: Callable[[Path], bool]
    entries: tuple[str, ...]
    caches: tuple[str, ...] = ()

    def foreign_entries(self, folder: Path) -> list[str]:
        """Returns names in the folder that the program did not write."""
        patterns = (*self.entries, *DESKTOP_FILES)
        names = (entry.name for entry in folder.iterdir())
        return sorted(name for name in names if not any(fnmatch.fnmatchcase(name, p) for p in patterns))


class _Plan(msgspec.Struct):
    target: str
    carry_over: list[str] = []


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError inside the block into an `OutputError` that names the path.

    Raises:
      OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as problem:
        raise OutputError(f"{path} cannot be written: {problem.strerror or problem}") from problem


@contextlib.contextmanager
def beside(path: Path, name: str = "", *, durable: bool = True) -> Iterator[Path]:
    """Gives the block a temporary path; renames that file to `path` when the block ends without an exception.

    A link at `path` is followed: its target is replaced, the link stays.

    Args:
      path: replaced by one rename; unchanged when the block raises.
      name: a fixed name of the temporary file, for folders that one locked program writes again and again. Without
        it the file is written in a separate workspace.
      durable: flush the file and its folder to disk before and after the rename. Not needed for caches whose content
        is checked when it is read.

    Raises:
      OSError: the file cannot be flushed or renamed.
    """
    if not name or path.is_symlink():
        path = Path(os.path.realpath(path))
    with _fixed_part(path.with_name(name)) if name else _workspace_part(path) as part:
        yield part
        if durable:
            _flush(part)
        os.replace(part, path)
        if durable:
            _flush(path.parent)


@contextlib.contextmanager
def _fixed_part(part: Path) -> Iterator[Path]:
    try:
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _workspace_part(path: Path) -> Iterator[Path]:
    with _workspace(path.parent) as work:
        yield work / f"new{path.suffix}"


def write_bytes(path: Path, content: bytes, name: str = "", *, durable: bool = True) -> None:
    """Writes a file, see `beside`.

    Raises:
      OSError: the file cannot be written.
    """
    with beside(path, name, durable=durable) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def folder_beside(folder: Path, kind: FolderKind | None = None) -> Iterator[Path]:
    """Gives the block an empty folder; puts it in the place of `folder` when the block ends without an exception.

    Args:
      folder: created or replaced; unchanged when the block raises. A link is followed.
      kind: which of the old folder's entries are the program's own; the others are carried over into the new folder.

    Raises:
      OSError: the folder cannot be created or renamed.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _workspace(folder.parent) as work:
        new = work / "new"
        new.mkdir()
        yield new
        _exchange(new, folder, work, kind)


def replace_folder(new: Path, folder: Path, kind: FolderKind | None = None) -> None:
    """Puts a finished folder in the place of `folder`, see `folder_beside`. Both are on one file system.

    Raises:
      OSError: it cannot be renamed; `folder` is unchanged.
    """
    folder = Path(os.path.realpath(folder))
    with _workspace(folder.parent) as work:
        _exchange(new, folder, work, kind)


def remove_folder(folder: Path, kind: FolderKind) -> None:
    """Removes what the program wrote into a folder, and the folder, unless it holds entries of the user.

    Of a link to a folder only the link is removed.

    Raises:
      OSError: it cannot be removed; `folder` is unchanged.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    with folder_beside(folder, kind):
        pass  # an empty folder takes its place, into which entries of the user are carried over
    if not any(folder.iterdir()):
        folder.rmdir()


def check_replaceable(folder: Path, kind: FolderKind, force: bool) -> None:
    """Checks before any work that a result may take the place of `folder`.

    Raises:
      OutputError: the place is taken by a file, by a folder of another kind, or (without `force`) at all.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder", "Choose another place.")
    if not any(folder.iterdir()):
        return
    if not kind.recognise(folder):
        raise OutputError(
            f"{folder} exists and is not {kind.what}, so it is not replaced", "Choose another place, or a folder in it."
        )
    if not force:
        raise OutputError(
            f"{folder} exists already", "Replace it with force=True, or choose another name.", kind=Kind.EXISTS
        )


def recover(parent: Path) -> None:
    """Completes or undoes the work of killed processes in a folder; does nothing while they run.

    Args:
      parent: the folder that holds the targets, such as `models`. It may be missing or unreadable.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if _WORKSPACE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _settle_abandoned(Path(entry.path))
            elif _LOCK_FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError), Path(entry.path).open("r+b") as stream:
                    if try_lock(stream):
                        remove_locked(Path(entry.path), stream)


@contextlib.contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """Makes a hidden folder in `parent`, locked while the block runs and removed after it."""
    if parent not in _swept:
        _swept.add(parent)
        recover(parent)
    work, lock = _make_workspace(parent)
    try:
        yield work
    finally:
        _settle(work, lock)


def _make_workspace(parent: Path) -> tuple[Path, BinaryIO]:
    while True:
        work = parent / f".ddsp-{secrets.token_hex(6)}"
        work.mkdir()
        try:
            lock = (work / "lock").open("x+b")
        except FileNotFoundError:  # another process removed the empty folder
            continue
        if try_lock(lock) is not False and (work / "lock").exists():
            return work, lock
        lock.close()  # another process took it for abandoned in between


def _settle_abandoned(work: Path) -> None:
    path = work / "lock"
    if not os.path.lexists(path):
        work.rmdir()  # killed before it was locked; fails where there is anything inside
        return
    if path.is_symlink() or not path.is_file():
        return
    lock = path.open("r+b")
    locked = try_lock(lock)
    if locked is None:
        locked = time.time() - max(entry.stat().st_mtime for entry in (work, *work.iterdir())) > ABANDONED_AFTER_S
    if not locked:
        lock.close()
        return
    _settle(work, lock)


def _settle(work: Path, lock: BinaryIO) -> None:
    """Leaves the old or the new folder at its place, with every entry of the user, and removes the workspace."""
    try:
        old = work / "old"
        if old.is_dir() and not old.is_symlink():
            plan = msgspec.json.decode((work / "plan.json").read_bytes(), type=_Plan)
            if any(name != Path(name).name or name in {"", ".", ".."} for name in (plan.target, *plan.carry_over)):
                return  # not written by this program
            target = work.parent / plan.target
            if not os.path.lexists(target):
                old.rename(target)
            else:
                for name in plan.carry_over:
                    if os.path.lexists(old / name) and not os.path.lexists(target / name):
                        (old / name).rename(target / name)
                old.rename(work / "replaced")  # so that a folder half removed is never moved back
        # The lock file goes last: without it the rest could not be recognised as a workspace.
        for entry in list(os.scandir(work)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != "lock":
                Path(entry.path).unlink()
        lock.close()  # Windows removes no open file
        (work / "lock").unlink()
        work.rmdir()
    except (OSError, msgspec.MsgspecError):
        pass  # nothing is removed that could not be put back; the next command tries again
    finally:
        lock.close()


def _exchange(new: Path, folder: Path, work: Path, kind: FolderKind | None) -> None:
    _flush_tree(new, skip=kind.caches if kind is not None else ())
    if os.path.lexists(folder):
        plan = _Plan(folder.name, kind.foreign_entries(folder) if kind is not None else [])
        (work / "plan.json").write_bytes(msgspec.json.encode(plan))
        _flush_tree(work, only_files=True)
        folder.rename(work / "old")
    new.rename(folder)
    _flush(folder.parent)


def _flush_tree(folder: Path, only_files: bool = False, skip: tuple[str, ...] = ()) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not only_files and entry.name not in skip:
                    _flush_tree(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                _flush(Path(entry.path))
    _flush(folder)


def _flush(path: Path) -> None:
    """Flushes a file or the entries of a folder to disk, where the file system can do that.

    Raises:
      OSError: the flush failed. A full disk or quota shows here and not in a write, where writes are delayed.
    """
    if path.is_dir():
        if os.name == "nt":  # has no way to flush a folder; renames are journalled
            return
        descriptor = os.open(path, os.O_RDONLY)
    else:
        # Windows flushes only files opened for writing; elsewhere the file may be read-only
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0) if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)
