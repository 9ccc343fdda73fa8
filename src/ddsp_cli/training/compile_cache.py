"""Keep the programs that XLA compiled for a training, so that the next training need not compile them again.

Compiling takes up to a quarter of a training on half a minute of sound. TensorFlow can store compiled programs in a
folder and load them from there (`--tf_xla_persistent_cache_directory`, read when it loads); the names of their files
say what was compiled. But it does not compare processors, ends with an error at a damaged file, and does not limit the
size. So it is given a folder that holds programs of this processor and version only, each with the digest it was
stored with, and that no other process uses at the same time:

    ddsp/xla/KEY/              in the user's folder for caches, `$DDSP_CACHE`; KEY: see `_key`
      lock                     held as long as the process runs
      xla_compile_cache__….pb  written by TensorFlow
      xla_compile_cache__….sha256

Programs are code that is run, so the folder is used only if no other user can write to it. Without a cache (another
training uses it, no space, a read-only home, a GPU) everything is compiled, as the first time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddsp_cli.checksum import sha256
from ddsp_cli.limits import usable_cores
from ddsp_cli.lock import try_lock
from ddsp_cli.training.resources import has_gpu
from ddsp_cli.user_folders import cache_folder

#: Variable from which TensorFlow reads options for XLA, and the one that names the folder.
VARIABLE, OPTION = "TF_XLA_FLAGS", "tf_xla_persistent_cache_directory"

#: A larger cache loses its oldest programs. Those of one model take 10 to 20 MB.
MOST_BYTES = 120_000_000

#: The cache is used if so much can be written to it: TensorFlow ends with an error where it cannot store a program.
LEAST_FREE_BYTES = 40_000_000

#: Names under which TensorFlow is installed.
_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly")

#: The folder that TensorFlow was given and its lock file, which stays locked until the process ends.
_used: tuple[Path, BinaryIO] | None = None


@contextlib.contextmanager
def opened() -> Iterator[bool]:
    """Gives the cache to TensorFlow, which reads its options for XLA in `backend.load`, called inside the block.

    Yields:
      Whether there are programs of earlier trainings.
    """
    given = os.environ.get(VARIABLE)
    folder = None
    with contextlib.suppress(OSError, RuntimeError):  # a read-only or missing home
        folder = _used[0] if _used is not None else _open(given or "")
    if folder is None:
        yield False
        return
    has_programs = any(folder.glob("*.pb"))
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    os.environ[VARIABLE] = f'{given or ""} --{OPTION}="{quoted}"'.strip()
    try:
        yield has_programs
    finally:  # programs that are started later have no lock
        if given is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = given


def keep() -> None:
    """Keeps the programs that were compiled since `opened`."""
    if _used is None:
        return
    with contextlib.suppress(OSError):
        for program in _used[0].glob("*.pb"):
            digest = program.with_suffix(".sha256")
            if not digest.exists():
                digest.write_text(sha256(program), encoding="ascii")


def _open(given: str) -> Path | None:
    """Locks the folder of this processor, and leaves only whole programs in it; None where it cannot be used."""
    global _used
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow" or "tensorflow" in sys.modules or has_gpu():
        return None
    if OPTION in given or (given and not given.startswith("-")):  # the user's own folder, or a file of options
        return None
    key = _key()
    if key is None:
        return None
    folder = cache_folder("xla").absolute() / key
    if sys.platform == "win32" and not str(folder).isascii():  # TensorFlow reads variables in the code page
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        return None
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context((folder / "lock").open("a+b"))
        if try_lock(stream) is not True:
            return None
        _remove_damaged(folder)
        probe = folder / "probe"
        try:
            probe.write_bytes(bytes(LEAST_FREE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
        stack.pop_all()  # the file stays open
    _used = folder, stream
    return folder


def _is_private(folder: Path) -> bool:
    """Whether this user alone can write to a folder; on Windows, below the user's profile, always."""
    if sys.platform == "win32":
        return True
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _remove_damaged(folder: Path) -> None:
    """Removes programs whose digest is missing or another, remains of a killed process, and the oldest ones."""
    whole = []
    for program in folder.glob("*.pb"):
        with contextlib.suppress(OSError):
            if program.with_suffix(".sha256").read_text(encoding="ascii", errors="replace") == sha256(program):
                whole.append(program)
    n_bytes = 0
    kept = {folder / "lock"}
    for program in sorted(whole, key=lambda path: path.stat().st_mtime, reverse=True):
        n_bytes += program.stat().st_size
        if n_bytes <= MOST_BYTES:
            kept |= {program, program.with_suffix(".sha256")}
    for path in folder.iterdir():
        if path not in kept:
            path.unlink()


def _key() -> str | None:
    """Returns a name for all that changes a compiled program, besides the model: processor, versions, options.

    Returns None where TensorFlow or llvmlite, which knows the processor as XLA does, is missing.
    """
    try:
        from llvmlite import binding

        processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    except (ImportError, RuntimeError, OSError):
        return None
    version = None
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            break
    if version is None:
        return None
    options = [os.environ.get(name, "") for name in (VARIABLE, "XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS")]
    parts = [version, sys.platform, platform.machine(), *processor, usable_cores(), *options]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
