"""One program at a time: a lock that the operating system releases when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddsp_cli.errors import OutputError

#: How often whoever waits for a turn looks whether it has come.
WAIT_S = 0.05


@contextlib.contextmanager
def exclusive(path: Path, what: str, program: str, option: str) -> Iterator[None]:
    """Holds a lock file for the length of a block, and removes it afterwards.

    Args:
      path: the lock file.
      what: what is being written, for the error sentence.
      program: the command that writes it; option: of this command, for writing elsewhere.

    Raises:
      OutputError: another process holds it, or it cannot be made.
    """
    try:
        stream = _acquire(path, what, program, option)
    except OSError as problem:
        raise OutputError(f"{what} cannot be written: {problem.strerror or problem}") from problem
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; whoever comes next uses it again
            path.unlink()
        stream.close()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Waits until no other process is inside such a block with this lock file, which stays. No file, no waiting."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that cannot be written, or a file of somebody else
            stream = stack.enter_context(path.open("a+b"))
            while not _try_lock(stream):
                time.sleep(WAIT_S)
        yield


def _acquire(path: Path, what: str, program: str, option: str) -> BinaryIO:
    while True:
        stream = path.open("a+b")
        try:
            if not _try_lock(stream):
                raise OutputError(
                    f"another {program} is writing {what} just now{_holder(stream)}",
                    f"Wait until it has ended, or give another {option}.",
                )
            # The holder before may have removed the file between our opening and locking it.
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
    except OSError:  # Windows lets nobody read what is locked
        return ""
    return f" (process {int(number)})" if number.isdigit() else ""


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: BinaryIO) -> bool:
        stream.seek(0)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    #: File systems that know no locks; going on without is better than not going on.
    _NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

    def _try_lock(stream: BinaryIO) -> bool:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in _NO_LOCKS:
                return True
            if problem.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        return True
