"""Arrays of long recordings in temporary files that are mapped into memory.

A curve of a day takes 17 MB at 50 frames a second. Arrays up to `KEPT_BYTES` are ordinary ones. A longer one is in a
temporary file and is used like any other; its pages leave the process when `release` is called, which the loops over
long arrays do. The file has no name (on Windows it is deleted with its last handle), so nothing is left behind.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from typing import IO, Any

import numpy as np

from ddsp_cli.arrays import AnyArray, FloatArray
from ddsp_cli.errors import OutputError

#: Arrays up to this size stay in memory: 35 min of a curve at 250 frames a second, 2.9 h at 50.
KEPT_BYTES = 1 << 21

#: Bytes of one write that reserves space for a file.
_BYTES_AT_ONCE = 1 << 20

#: Content of the temporary files, for error messages.
_WHAT = "the curves of a long recording"

_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def empty(n_values: int, dtype: type[np.generic] = np.float32) -> Any:
    """Makes an array [n] whose values are not set (0 where it is in a file).

    Raises:
      OutputError: the disk has no space for it.
    """
    n_bytes = n_values * np.dtype(dtype).itemsize
    if n_bytes <= KEPT_BYTES:
        return np.empty(n_values, dtype)
    with tempfile.TemporaryFile() as file:
        # Writing to a mapped file on a full disk kills the process, so its space is reserved first.
        for start in range(0, n_bytes, _BYTES_AT_ONCE):
            _write(file, bytes(min(_BYTES_AT_ONCE, n_bytes - start)))
        return _mapped(file, n_bytes, dtype)


def copy(values: AnyArray) -> Any:
    """Returns a copy of an array [n]."""
    out = empty(len(values), values.dtype.type)
    out[:] = values
    return out


class GrowingArray:
    """An array [n] of float32 that arrives in blocks."""

    def __init__(self) -> None:
        self._parts: list[FloatArray] = []
        self._file: IO[bytes] | None = None
        self._n_bytes = 0

    def push(self, block: FloatArray) -> None:
        """Takes the next values [n].

        Raises:
          OutputError: the disk has no space for them.
        """
        self._parts.append(np.asarray(block, np.float32))
        self._n_bytes += self._parts[-1].nbytes
        if self._file is None and self._n_bytes > KEPT_BYTES:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        if self._file is not None:
            for part in self._parts:
                _write(self._file, part.tobytes())
            self._parts.clear()

    def finish(self) -> FloatArray:
        """Returns all values."""
        if self._file is None:
            return np.concatenate([np.zeros(0, np.float32), *self._parts])
        return _mapped(self._file, self._n_bytes, np.float32)


def release() -> None:
    """Removes the pages of all mapped arrays from memory; their values stay in the files."""
    advice = getattr(mmap, "MADV_DONTNEED", None)  # elsewhere the system does it when memory is short
    if advice is not None:
        for mapped in _maps:
            mapped.madvise(advice)


def _mapped(file: IO[bytes], n_bytes: int, dtype: type[np.generic]) -> Any:
    try:
        file.flush()
        mapped = mmap.mmap(file.fileno(), n_bytes)
    except OSError as problem:
        raise no_space(_WHAT, problem.strerror or str(problem)) from problem
    _maps.add(mapped)
    return np.frombuffer(mapped, dtype)


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
    except OSError as problem:
        raise no_space(_WHAT, problem.strerror or str(problem)) from problem


def no_space(what: str, why: str) -> OutputError:
    """Makes the error of a full folder of temporary files: it has no space for `what`, because of `why`."""
    return OutputError(
        f"{tempfile.gettempdir()} has no space for {what}: {why}",
        "Free some space, or set TMPDIR to a folder that has some.",
    )
