"""One process at a time: locks that the operating system releases when the process ends, however it ends.

Kept instead of the package filelock, which leaves its lock files behind, cannot name the process that holds one, and
fails on file systems without locks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddsp_cli.errors import OutputError

#: Interval between two attempts to lock a file.
WAIT_S = 0.05

#: Attempts of `exclusive` before it gives up.
N_TRIES = 4


def stored(path: Path) -> Path:
    """Returns a path with its last name as it is stored: where capitals do not count, `Viola` may open `viola`."""
    with contextlib.suppress(OSError):
        entries = list(path.parent.iterdir())
        if path not in entries and path.exists():
            alike = (entry for entry in entries if entry.name.casefold() == path.name.casefold())
            return next((one for one in alike if one.samefile(path)), path)
    return path


def lock_file(folder: Path) -> Path:
    """Returns the lock file of an instrument or data set, hidden beside it; its name is short for any folder name."""
    folder = stored(Path(os.path.realpath(folder)))
    return folder.with_name(f".ddsp-{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:12]}.lock")


@contextlib.contextmanager
def exclusive(path: Path, what: str, program: str, option: str = "") -> Iterator[None]:
    """Holds a lock file while the block runs, and removes it afterwards.

    Args:
      path: the lock file, see `lock_file`.
      what: the thing being written, for the error message.
      program: the command that writes it, for the error message.
      option: its option for writing elsewhere, for the error message; empty where it has none.

    Raises:
      OutputError: another process holds the lock, or the file cannot be created.
    """
    try:
        stream = _acquire(path, what, program, option)
    except OSError as problem:
        raise OutputError(f"{what} cannot be written: {problem.strerror or problem}") from problem
    try:
        yield
    finally:
        remove_locked(path, stream)


def remove_locked(path: Path, stream: BinaryIO) -> None:
    """Removes a lock file that this process holds, and closes it.

    Removed before it is closed, it cannot be another process's by then. Windows removes no open file, and none either
    that another process has opened after it was closed here.
    """
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            stream.close()
        path.unlink()
    stream.close()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Waits until no other process runs such a block with this lock file; the file stays.

    Where the file cannot be created the block runs at once.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only folder, or the file of another user
            stream = stack.enter_context(path.open("a+b"))
            while try_lock(stream) is False:
                time.sleep(WAIT_S)
        yield


def _acquire(path: Path, what: str, program: str, option: str) -> BinaryIO:
    n_refused = 0
    while True:
        stream = path.open("a+b")
        try:
            if try_lock(stream) is False:
                n_refused += 1
                if n_refused < N_TRIES:  # `atomic.recover` of another process holds it for a moment
                    stream.close()
                    time.sleep(WAIT_S)
                    continue
                raise OutputError(
                    f"another {program} is writing {what} just now{_holder(stream)}",
                    f"Wait until it has ended, or give another {option}." if option else "Wait until it has ended.",
                )
            # The previous holder may have removed the file after it was opened here and before it was locked.
            if path.exists() and os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                stream.truncate(0)
                stream.write(f"{os.getpid()}\n".encode())
                stream.flush()
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _holder(stream: BinaryIO) -> str:
    try:
        stream.seek(0)
        number = stream.read(20).strip()
    except OSError:  # Windows does not let a locked file be read
        return ""
    return f" (process {int(number)})" if number.isdigit() else ""


if sys.platform == "win32":
    import msvcrt

    def try_lock(stream: BinaryIO) -> bool | None:
        """Locks an open file without waiting.

        Returns:
          True: locked until the file is closed. False: another process has locked it. None: its file system has no
          locks.
        """
        stream.seek(0)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    #: Errors of file systems that have no locks; there the program runs without one.
    _NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

    def try_lock(stream: BinaryIO) -> bool | None:
        """Locks an open file without waiting.

        Returns:
          True: locked until the file is closed. False: another process has locked it. None: its file system has no
          locks.
        """
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in _NO_LOCKS:
                return None
            if problem.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        return True
