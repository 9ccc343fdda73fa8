"""Calls in a child process: data comes back, failures come back, and limits end what goes on or grows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ddsp_cli.errors import InputError, Kind
from ddsp_cli.limits import LimitReached, Limits, Reply, Worker, run

HERE = f"{Path(__file__).stem}:"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def echo(values: Any, arrays: dict[str, np.ndarray]) -> Reply:
    sys.stdout.write("a library that prints")
    os.write(1, b"and one that writes past Python")
    return values, arrays


def fail(values: Any, arrays: dict[str, np.ndarray]) -> Reply:
    raise InputError("nothing to play", "Sing.", kind=Kind.CURVES, parameter="audio", path=Path("x"))


def misbehave(values: str, arrays: dict[str, np.ndarray]) -> Reply:
    match values:
        case "loop":
            while True:
                pass
        case "sleep":
            time.sleep(1000)
        case "grow":
            return len([bytearray(10 << 20) for _ in range(1000)]), {}
        case "allocate":
            return float(np.ones(1 << 33, np.uint8).sum()), {}
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(0)
        case "recurse":
            return misbehave(values, arrays)
        case "defect":
            return {}["nothing"], {}
        case "write":
            Path(arrays["path"].tobytes().decode()).write_bytes(b"written")
        case "flood":
            return None, {"x": np.zeros(1 << 28, np.uint8)}
    return None, {}


class Counter:
    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, values: Any, arrays: dict[str, np.ndarray]) -> Reply:
        self.n_calls += 1
        return self.n_calls, {}


@pytest.fixture(scope="module")
def child() -> Iterator[Worker]:
    sys.path.insert(0, str(Path(__file__).parent))
    with Worker(HERE + "echo") as worker:
        sys.path.pop(0)
        yield worker


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.float64(3.5), np.zeros((0, 4)), np.arange(6.0).reshape(2, 3).T,
     np.array([True, False]), np.arange(3, dtype=">i8")],
)  # fmt: skip
def test_arrays_come_back(child: Worker, array: np.ndarray) -> None:
    _, found = child.call(None, {"x": np.asarray(array)})
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].shape == np.shape(array)


def test_values_come_back(child: Worker) -> None:
    values = {"a": [1, 2.5, None, True, "Flöte\n"], "b": {}}
    assert child.call(values) == (values, {})


def test_state_is_kept() -> None:
    with Worker(HERE + "Counter") as worker:
        assert [worker.call()[0] for _ in range(3)] == [1, 2, 3]


def test_failures_come_back() -> None:
    with pytest.raises(InputError) as problem:
        run(HERE + "fail")
    assert (problem.value.message, problem.value.hint) == ("nothing to play", "Sing.")
    assert (problem.value.kind, problem.value.parameter) == (Kind.CURVES, "audio")
    assert problem.value.details == {"path": "x"}
    with pytest.raises(RuntimeError, match="KeyError"):
        run(HERE + "misbehave", "defect")
    with pytest.raises(RuntimeError, match="nowhere"):
        run("nowhere:nothing")


@pytest.mark.parametrize("what", ["loop", "sleep"])
def test_time(what: str) -> None:
    started = time.monotonic()
    with Worker(HERE + "misbehave", Limits(time_s=0.5)) as worker:
        with pytest.raises(LimitReached, match="took longer than"):
            worker.call(what)
        with pytest.raises(LimitReached):
            worker.call("nothing more")
    assert time.monotonic() - started < 20


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_CPU is of POSIX")
def test_a_child_ends_when_its_parent_was_killed() -> None:
    code = f"from ddsp_cli.limits import *; run({HERE!r} + 'misbehave', 'loop', limits=Limits(time_s=2))"
    paths = os.pathsep.join(sys.path)
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    watched = psutil.Process(parent.pid)
    while not (children := watched.children()):
        time.sleep(0.01)
    (child,) = children
    try:
        while sum(child.cpu_times()[:2]) < 0.8:  # it has started, and loops
            time.sleep(0.01)
        parent.kill()
        parent.wait()
        child.wait(timeout=300)
    except psutil.NoSuchProcess:
        pytest.skip("on a busy machine the parent ends the child first")
    finally:
        parent.kill()


@pytest.mark.parametrize("what", ["grow", "allocate"])
def test_memory(what: str) -> None:
    with pytest.raises(LimitReached, match="needed more than 256 MB"):
        run(HERE + "misbehave", what, limits=Limits(memory_bytes=256 << 20))


@pytest.mark.parametrize("what", ["grow", "allocate"])
def test_memory_is_watched_where_the_system_has_no_limit(what: str) -> None:
    """As on Windows and macOS: without `RLIMIT_AS` the parent notices."""
    with pytest.raises(LimitReached, match="needed more than 256 MB"):
        run(HERE + "without_rlimit", what, limits=Limits(memory_bytes=256 << 20))


def without_rlimit(values: str, arrays: dict[str, np.ndarray]) -> Reply:
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return misbehave(values, arrays)


@pytest.mark.parametrize("what", ["crash", "exit", "recurse"])
def test_crashes(what: str) -> None:
    with pytest.raises(LimitReached, match=r"ended its process|nested too deeply"):
        run(HERE + "misbehave", what)


def test_the_size_of_a_reply_is_bounded() -> None:
    with pytest.raises(LimitReached):
        run(HERE + "misbehave", "flood", limits=Limits(reply_bytes=1 << 20))


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is of POSIX")
def test_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(RuntimeError, match="OSError"):
        run(HERE + "misbehave", "write", {"path": np.frombuffer(str(path).encode(), np.uint8)})
    assert not path.exists() or path.read_bytes() == b""
