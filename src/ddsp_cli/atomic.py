"""Files and folders that are whole or not there: written beside their place, and moved there when they are finished."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ddsp_cli.errors import OutputError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says what could not be written when something in the block cannot be.

    Raises:
      OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as problem:
        raise OutputError(f"{path} cannot be written: {problem.strerror or problem}") from problem


@contextlib.contextmanager
def beside(path: Path, name: str = "") -> Iterator[Path]:
    """Where to write a file that shall stand at `path`: it is moved there when the block ends well, else removed.

    Args:
      path: what stands there is replaced, and stays when something goes wrong.
      name: of the file while it is written; by default one of its own. A name that is always the same suits places
        where one program writes again and again: being killed leaves no heap.

    Raises:
      OSError: it cannot be moved.
    """
    # A short name: the target's can already be as long as file names may be.
    part = path.with_name(name or f".ddsp-{secrets.token_hex(6)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, see `beside`.

    Raises:
      OSError: it cannot be written.
    """
    with beside(path) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """A folder to fill that shall stand at `folder`: it is moved there when the block ends well, else removed.

    Raises:
      OSError: it cannot be made or moved.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)  # mkdtemp keeps what it makes to its user
        yield staging
        replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(staging: Path, folder: Path) -> None:
    """Moves a finished folder into place; what stood there is put aside first and removed last.

    Raises:
      OSError: it cannot be moved; what stood there stands there still.
    """
    if not folder.exists():
        staging.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        staging.rename(folder)
    except BaseException:  # Ctrl-C comes at any moment
        if not folder.exists():
            (old / folder.name).rename(folder)
        raise
    finally:
        if folder.exists():  # else it is put aside still, for `recover`
            shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Puts right what was killed inside `folder_beside`: brings back what was put aside, removes what was begun."""
    ours = re.compile(rf"\.{re.escape(folder.name)}-(old-)?[a-z0-9_]{{8}}")
    for left in list(folder.parent.glob(f".{glob.escape(folder.name)}-*")):
        if not ours.fullmatch(left.name):
            continue
        if (left / folder.name).is_dir() and not folder.exists():
            (left / folder.name).rename(folder)
        shutil.rmtree(left, ignore_errors=True)
