"""`ddsp` for tests in a separate process, without its start: a process that has loaded the modules is forked.

To start Python and load the program takes half a second of processor time, and hundreds of commands are run. A command
run by `ddsp` has its own working directory, environment, standard streams and exit code as any other; what it may not
load, how signals end it, and what closed streams do is tested with real starts (`test_imports`, `test_faults`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

#: Loaded before any command: what a transfer loads, and nothing that starts a thread or reads the environment.
LOADED = ("cli", "cli.transfer", "cli.models", "workflows.transfer", "workflows.performance", "workflows.models",
          "analysis.extract", "synthesis.instrument", "audio.read", "audio.write", "importers")  # fmt: skip

_forked: list[subprocess.Popen[str]] = []


def ddsp(
    *arguments: object, cwd: Path, stdin: bytes = b"", timeout: float = 120.0, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs `ddsp` with arguments, and waits for its end.

    Args:
      arguments: of the command; paths and numbers are written as text.
      cwd: where it runs.
      stdin: what it reads from standard input.
      timeout: seconds after which it is killed.
      environment: variables that are added to those of this process.
    """
    words = [str(argument) for argument in arguments]
    if not hasattr(os, "fork"):
        return subprocess.run([sys.executable, "-m", "ddsp_cli", *words], cwd=cwd, input=stdin, timeout=timeout,
                              env=os.environ | environment, capture_output=True, check=False)  # fmt: skip
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(tempfile.NamedTemporaryFile()) for _ in range(3)]
        streams[0].write(stdin)
        streams[0].flush()
        request = {"arguments": words, "cwd": str(cwd.resolve()), "environment": dict(os.environ | environment),
                   "streams": [stream.name for stream in streams]}  # fmt: skip
        code = _ask(request, timeout)
        out, errors = (Path(stream.name).read_bytes() for stream in streams[1:])
        return subprocess.CompletedProcess(["ddsp", *words], code, out, errors)


def run_as_text(*arguments: object, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """As `ddsp`; output as text."""
    done = ddsp(*arguments, cwd=cwd, **more)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _ask(request: dict[str, Any], timeout: float) -> int:
    if not _forked or _forked[0].poll() is not None:
        _forked[:] = [subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, encoding="utf-8", start_new_session=True)]  # fmt: skip
        atexit.register(_stop, _forked[0])
    process = _forked[0]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
    late.start()
    try:
        return int(process.stdout.readline())
    finally:
        late.cancel()


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def _serve() -> None:
    """Forks once for each line of standard input, and answers with the process ID and the exit code."""
    import importlib

    for name in LOADED:
        importlib.import_module(f"ddsp_cli.{name}")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_a_command(request)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def _be_a_command(request: dict[str, Any]) -> None:
    code: Any = 1
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for number, place in enumerate(request["streams"]):
            opened = os.open(place, os.O_WRONLY if number else os.O_RDONLY)
            os.dup2(opened, number)
            os.close(opened)
        encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
        sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors or None, closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)
        sys.argv = ["ddsp", *request["arguments"]]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from ddsp_cli.cli import main

        try:
            main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve()
