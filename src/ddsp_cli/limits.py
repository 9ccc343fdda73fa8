"""Run a function in a child process with limits on time and memory: for readers of untrusted files.

A damaged or hostile file can make a reader, above all a native one, crash, loop or allocate without end. In a child
process it ends the child, and the caller gets a `LimitReached` with the reason.

    run("package.module:function", {"path": "x"})    one call
    with Worker("package.module:Class") as worker:   several calls, state kept between them
        values, arrays = worker.call({"n": 1}, {"x": np.zeros(4)})

The function takes and returns JSON values and a dictionary of numeric arrays. Both cross the pipes as data, never as
pickles, so that a child that a file has taken over cannot take over its parent.

| limit | POSIX | Windows |
|---|---|---|
| time of a call | the parent ends the child; `RLIMIT_CPU` if the parent is gone | the parent ends the child |
| memory | `RLIMIT_AS` (Linux), and the parent watches the resident size | the parent watches the resident size |
| files written, core dumps | none (`RLIMIT_FSIZE`, `RLIMIT_CORE`) | |

Children of `multiprocessing` that work for their parent are started within `undisturbed_start`, and call
`settle_child`, or `end_with_parent` alone; `usable_cores` says how many make sense.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import stat
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Self

import numpy as np

from ddsp_cli import errors
from ddsp_cli.errors import DdspError, Kind, ModelError

Arrays = Mapping[str, np.ndarray]
Reply = tuple[Any, dict[str, np.ndarray]]

#: Largest time for the start of Python and the import of the function; it does not count as time of a call.
START_TIMEOUT_S = 120.0
#: Interval between two checks of the time and the memory of a child.
POLL_S = 0.02
#: Processor time beyond that of a call, after which the system ends a child whose parent was killed.
SPARE_CPU_S = 2
MAX_HEADER_BYTES = 64 << 20
_KINDS = "biuf"  # NumPy's letters for bool, int, unsigned and float: what may cross a pipe

#: One math thread is enough for a reader, and each further one reserves address space.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Limits of one call in a child process.

    Attributes:
      time_s: wall-clock time of a call.
      memory_bytes: in addition to the memory of the child after its modules are loaded.
      reply_bytes: size of the arrays that come back.
    """

    time_s: float = 20.0
    memory_bytes: int = 1 << 30
    reply_bytes: int = 1 << 29


class LimitReached(Exception):
    """A call was ended by a limit, or ended its process; the text says which, as the end of a sentence about it."""


def run(target: str, values: Any = None, arrays: Arrays | None = None, limits: Limits | None = None) -> Reply:
    """Calls a function once in a child process.

    Args:
      target: `package.module:function`; it takes `(values, arrays)` and returns the same two.
      values: anything that JSON holds.
      arrays: numeric arrays by name.
      limits: the usual ones by default.

    Returns:
      Values and arrays that the function returned.

    Raises:
      DdspError: the one that the function raised.
      LimitReached: the call took too long or too much memory, or its process crashed.
    """
    with Worker(target, limits) as worker:
        return worker.call(values, arrays)


class Worker:
    """A child process that answers calls, one at a time; a class as target keeps its state between them.

    Args:
      target: `package.module:function`, or a class whose one instance is called.
      limits: for each call.

    Raises:
      DdspError: the one that the import of the target raised.
      RuntimeError: the process did not start, or there is no such target.
    """

    def __init__(self, target: str, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        paths = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from ddsp_cli import limits; limits.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT | {"PYTHONPATH": paths},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        import psutil  # while the child starts

        self._memory_bytes: Callable[[], int] = lambda: psutil.Process(self._process.pid).memory_info().rss
        self._resting_bytes = 0
        try:
            ready, _ = self._exchange({"target": target} | asdict(self._limits), {}, START_TIMEOUT_S)
            _raise_error(ready)
        except BaseException as problem:
            self.close()
            if isinstance(problem, LimitReached):
                raise RuntimeError(f"a process for {target} did not start: {problem}") from problem
            raise
        with contextlib.suppress(psutil.Error):
            self._resting_bytes = self._memory_bytes()

    def call(self, values: Any = None, arrays: Arrays | None = None) -> Reply:
        """Calls the target once.

        Raises:
          DdspError: the one that the target raised.
          LimitReached: see `run`; the process has ended then, and further calls raise it as well.
        """
        reply, found = self._exchange(values, arrays or {}, self._limits.time_s)
        _raise_error(reply)
        return reply["result"], found

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, values: Any, arrays: Arrays, time_s: float) -> Reply:
        """Sends a message and waits for the reply, while time and memory are watched."""
        found: list[Reply] = []

        def talk() -> None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(OSError, ValueError, EOFError):
                _send(self._process.stdin, values, arrays)
                found.append(_receive(self._process.stdout, self._limits.reply_bytes))

        ends = time.monotonic() + time_s
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                reason = self._over_limit(ends, time_s) if thread.is_alive() else None
                if reason:
                    self.close()
                    raise LimitReached(reason)
        except BaseException:  # Ctrl-C as well: no child outlives its parent
            self.close()
            raise
        if not found:
            self.close()
            raise LimitReached(_ending(self._process.returncode))
        return found[0]

    def _over_limit(self, ends: float, time_s: float) -> str | None:
        import psutil

        if time.monotonic() > ends:
            return f"took longer than {time_s:.0f} s"
        try:
            used = self._memory_bytes() - self._resting_bytes
        except psutil.Error:  # it has just ended
            return None
        return _out_of_memory(self._limits.memory_bytes) if used > self._limits.memory_bytes else None


def read_regular(path: Path, max_bytes: int, error: type[DdspError] = ModelError) -> bytes:
    """Reads an untrusted file: a regular one, never a device or a FIFO, and with a limit on its size.

    Args:
      path: of the file; a link is followed.
      max_bytes: that are accepted.
      error: to raise.

    Raises:
      DdspError: it cannot be read, is not a regular file, or is larger.
    """
    try:
        # Devices act when they are opened, so the kind is looked up before as well as after.
        if stat.S_ISREG(path.stat().st_mode):
            # O_NONBLOCK: a FIFO that has taken the file's place meanwhile does not block.
            flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
            with os.fdopen(os.open(path, flags), "rb") as stream:
                found = os.fstat(stream.fileno())
                if stat.S_ISREG(found.st_mode):
                    # Files of /proc have size 0 and contents without end.
                    content = stream.read(min(max_bytes, max(found.st_size, 1 << 20)) + 1)
                    if content is None:  # a file of /proc that would block
                        raise error(f"{path} cannot be read")
                    if len(content) > max_bytes:
                        raise error(f"{path} is larger than {max_bytes / (1 << 20):.0f} MB")
                    return content
    except (OSError, ValueError) as problem:  # ValueError: a name with a zero byte
        raise error(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    raise error(f"{path} is not a regular file")


def _raise_error(reply: Any) -> None:
    if "error" in reply:
        name, message, hint, kind, parameter, details = reply["error"]
        found = getattr(errors, name, None)
        made = found if isinstance(found, type) and issubclass(found, DdspError) else DdspError
        raise made(message, hint, kind=Kind(kind), parameter=parameter, **details)
    if "limit" in reply:
        raise LimitReached(reply["limit"])
    if "defect" in reply:
        raise RuntimeError(f"in a child process:\n{reply['defect']}")


def _out_of_memory(memory_bytes: int) -> str:
    return f"needed more than {memory_bytes >> 20} MB of memory"


def _ending(code: int | None) -> str:
    return f"ended its process by signal {-code}" if code is not None and code < 0 else "ended its process"


# --- messages ----------------------------------------------------------------------------------------


def _send(stream: IO[bytes], values: Any, arrays: Arrays) -> None:
    """Sends the length of the header (64 bits), the header in JSON, then the numbers of each array, little-endian."""
    plain = {name: np.ascontiguousarray(value, value.dtype.newbyteorder("<")) for name, value in arrays.items()}
    # ascontiguousarray makes arrays of at least one dimension
    table = [[name, value.dtype.str, np.shape(arrays[name])] for name, value in plain.items()]
    header = json.dumps([values, table]).encode()
    stream.write(struct.pack("<Q", len(header)) + header)
    for value in plain.values():
        stream.write(value.reshape(-1).view(np.uint8).data)
    stream.flush()


def _receive(stream: IO[bytes], max_bytes: int) -> Reply:
    """Reads a message of `_send`.

    Raises:
      EOFError: the other end has closed.
      ValueError: not a message, or larger than it may be.
    """
    (size,) = struct.unpack("<Q", _read(stream, 8))
    if size > MAX_HEADER_BYTES:
        raise ValueError("a header is too long")
    values, table = json.loads(_read(stream, size))
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in table:
        kind = np.dtype(str(dtype))
        left = max_bytes - sum(value.nbytes for value in arrays.values())
        n_items = 1
        for axis in shape:
            n_items *= int(axis)
        if kind.kind not in _KINDS or min(shape, default=0) < 0 or n_items * kind.itemsize > left:
            raise ValueError("an array has a type or size that is not sent")
        array = np.empty(n_items, kind)
        _fill(stream, array.view(np.uint8).data)
        arrays[str(name)] = array.reshape(shape)
    return values, arrays


def _read(stream: IO[bytes], n_bytes: int) -> bytes:
    found = bytearray(n_bytes)
    _fill(stream, memoryview(found))
    return bytes(found)


def _fill(stream: IO[bytes], target: memoryview) -> None:
    done = 0
    while done < len(target):
        n_read = stream.readinto(target[done:])  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError
        done += n_read


# --- the child ---------------------------------------------------------------------------------------


def serve() -> None:
    """Answers messages on standard input until it closes; the program of the child process."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Libraries that print reach neither the pipe nor the terminal.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        settings, _ = _receive(requests, 0)
        limits = Limits(**{name: settings[name] for name in ("time_s", "memory_bytes", "reply_bytes")})
        handler: Any = None

        def start() -> Reply:
            nonlocal handler
            module, _, name = settings["target"].partition(":")
            handler = getattr(importlib.import_module(module), name)
            if isinstance(handler, type):
                handler = handler()
            _restrict(limits)
            return None, {}

        _send(replies, *_answer(start, limits))
        while True:
            values, arrays = _receive(requests, sys.maxsize)
            _restrict_time(limits)
            _send(replies, *_answer(lambda values=values, arrays=arrays: handler(values, arrays), limits))  # type: ignore[misc]


def _answer(work: Callable[[], Reply], limits: Limits) -> tuple[dict[str, Any], Arrays]:
    """Returns the return value of a call, or its failure."""
    try:
        result, arrays = work()
    except DdspError as problem:
        details = {name: str(value) for name, value in problem.details.items()}
        parts = [type(problem).__name__, problem.message, problem.hint, problem.kind, problem.parameter, details]
        return {"error": parts}, {}
    except MemoryError:
        return {"limit": _out_of_memory(limits.memory_bytes)}, {}
    except RecursionError:
        return {"limit": "is nested too deeply"}, {}
    except Exception:
        return {"defect": traceback.format_exc()}, {}
    return {"result": result}, arrays


def _restrict_time(limits: Limits) -> None:
    """Bounds the processor time of the next call, for a child whose parent was killed and cannot end it."""
    if sys.platform != "win32":
        import resource

        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + limits.time_s) + SPARE_CPU_S)


def _limit(kind: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _restrict(limits: Limits) -> None:
    """Sets the limits that the operating system enforces; does nothing on a system without them."""
    if sys.platform == "win32":
        return
    import resource

    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    statm = Path("/proc/self/statm")
    if statm.exists():  # macOS counts gigabytes that are only reserved, and does not keep this limit
        taken = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, taken + limits.memory_bytes)


def usable_cores() -> int:
    """Returns the number of cores that this process may use, which is less than there are under a CPU affinity."""
    count = getattr(os, "process_cpu_count", None)  # since Python 3.13; it also reads PYTHON_CPU_COUNT
    if count is not None:
        return count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@contextlib.contextmanager
def undisturbed_start() -> Iterator[None]:
    """Keeps Ctrl-C and the running script away from children of `multiprocessing` that are started in the context.

    Raises:
      KeyboardInterrupt: at the end, in the main thread, if Ctrl-C came meanwhile.
    """
    with _without_script(), _without_interrupts():
        yield


#: Held while `__main__` is hidden.
_hiding = threading.RLock()


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Hides `__main__`, so that children do not run the script that uses this library: they need nothing of it.

    A script without `if __name__ == "__main__"` would do all its work again in each child, and never end.
    """
    with _hiding:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C away, from the children and from this process.

    A terminal sends SIGINT to the whole group. A child that loads its modules would end with a traceback, and so would
    one that receives half of its work. The children inherit a mask that blocks the signal. Here it takes effect at the
    end of the context. Windows has no such masks: nothing happens there.

    Raises:
      KeyboardInterrupt: at the end, in the main thread, if Ctrl-C came meanwhile.
    """
    import signal

    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start ends with SIGINT unblocked
    handler = signal.getsignal(signal.SIGINT)
    # Another thread, which does not block the signal, may receive it; Python calls the handler in the main thread.
    deferred = threading.current_thread() is threading.main_thread() and callable(handler)
    received: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        if deferred:
            signal.signal(signal.SIGINT, lambda number, _: received.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if deferred:
            signal.signal(signal.SIGINT, handler)
        if received:
            signal.raise_signal(signal.SIGINT)


def settle_child() -> None:
    """Leaves Ctrl-C and standard error to the parent of this process, a child of `multiprocessing`, and ends with it.

    Ctrl-C and a terminal that closes reach the whole group; the parent alone answers, and tells its children to stop.
    Libraries write to standard error behind Python's back, across the parent's display.
    """
    import signal

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process, a child of `multiprocessing`, when its parent is killed; it would wait for work forever."""
    import multiprocessing

    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
