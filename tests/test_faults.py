"""Faults around the program: signals, closed and full streams, links, permissions, disks. By the real command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from ddsp_cli.errors import ExitCode
from ddsp_cli.limits import undisturbed_start
from ddsp_cli.workflows import models
from fixtures import make_bundle, melody

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and streams differ")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    soundfile.write(folder / "voice.wav", melody(), 16000)
    soundfile.write(folder / "long.wav", np.tile(melody(), 800), 16000)
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ddsp_cli", *map(str, arguments)]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_leave_nothing_half_written(desk, tmp_path, name):
    number = getattr(signal, name)
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("transfer", desk / "long.wav", "--model", "testophone", "--out", out),
        cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not out.is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + number, text
    assert text.decode().startswith("Interrupted.")
    assert b"Traceback" not in text
    assert list(tmp_path.iterdir()) == []


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            INTERRUPT

sys.meta_path.insert(0, Interrupter())
from ddsp_cli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "interrupt", ["os.kill(os.getpid(), signal.SIGINT)", "raise ImportError('half loaded') from KeyboardInterrupt()"]
)
def test_ctrl_c_while_the_program_loads_is_one_sentence(interrupt):
    script = INTERRUPTED_IMPORT.replace("INTERRUPT\n", f"{interrupt}\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, b"", b"Interrupted.\n")


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """The handler of Python; dask-jobqueue replaces it in a process that imports it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_ctrl_c_waits_until_children_have_started():
    begun = []
    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with undisturbed_start():
            os.kill(os.getpid(), signal.SIGINT)
            begun.append(subprocess.run([sys.executable, "-c", blocked], capture_output=True, check=True).stdout)
            # a thread of a library that does not block the signal receives it
            other = threading.Thread(target=signal.pthread_sigmask, args=(signal.SIG_UNBLOCK, {signal.SIGINT}))
            other.start()
            other.join()
            begun.append(b"not interrupted")
    assert begun == [b"True\n", b"not interrupted"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_children_may_be_started_in_any_thread():
    def start() -> None:
        with undisturbed_start():
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    masks: list[set[signal.Signals]] = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [signal.SIGINT in mask for mask in masks] == [True]


@pytest.mark.parametrize("moment_s", [0.0, 0.3])
def test_ctrl_c_while_processes_start_is_one_sentence(desk, tmp_path, moment_s):
    """A terminal sends it to the processes too, while they load their modules."""
    takes = [tmp_path / f"{i}.wav" for i in range(2)]
    for take in takes:
        take.hardlink_to(desk / "long.wav")
    process = subprocess.Popen(
        command("transfer", *takes, "--model", "testophone", "--out", tmp_path / "out"),
        cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while len(parent.children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(moment_s)
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, text
    assert text.decode() == "Interrupted. Sound files that were finished are kept.\n"


STUCK_COMPILER = """
import sys, threading, time
from ddsp_cli import cli
from ddsp_cli.backend import COMPILING

def run(arguments, debug):
    threading.Thread(target=time.sleep, args=(60.0,), name=COMPILING).start()
    print("a result", end="")
    return cli._interrupted("train")

cli.run_command = run
cli.main()
"""


def test_the_end_does_not_wait_for_the_compiler(tmp_path):
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK_COMPILER], capture_output=True, timeout=60)
    assert time.monotonic() - began < 30
    assert (done.returncode, done.stdout) == (ExitCode.INTERRUPTED, b"a result"), "what was printed is not lost"
    assert done.stderr.startswith(b"Interrupted. The same command resumes from the last checkpoint, or begins again")


def test_a_signal_that_was_ignored_stays_ignored(desk, tmp_path):
    """As under nohup."""
    words = command("transfer", desk / "voice.wav", "--model", "testophone", "--out", tmp_path / "out.wav")
    ignoring = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words]
    process = subprocess.Popen(ignoring, cwd=desk, stdout=subprocess.DEVNULL)
    time.sleep(0.1)
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    assert process.returncode == ExitCode.OK
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def shell(desk: Path, line: str, **names: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A command line of a shell, in which `$DDSP` is the program."""
    variables = {"DDSP": f"{sys.executable} -m ddsp_cli", **{name: str(value) for name, value in names.items()}}
    words = ["bash", "-c", line]
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    return subprocess.run(words, cwd=desk, env=os.environ | variables, capture_output=True, timeout=120)


PLAY = "$DDSP transfer voice.wav --model testophone --out $OUT"

#: Closed and full standard streams → exit code, and whether the sound has to be there.
STREAMS = {
    "no stderr": (f"{PLAY} 2>&-", ExitCode.OK),
    "no stdout": (f"{PLAY} >&-", ExitCode.OK),
    "no stream at all": (f"{PLAY} <&- >&- 2>&-", ExitCode.OK),
    "full stdout": (f"{PLAY} >/dev/full", ExitCode.OUTPUT),
    "full stderr": (f"{PLAY} 2>/dev/full", ExitCode.OK),
}


@pytest.mark.parametrize(("line", "code"), STREAMS.values(), ids=STREAMS)
def test_the_sound_is_whole_whatever_the_streams_are(desk, tmp_path, line, code):
    done = shell(desk, line, OUT=tmp_path / "out.wav")
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert soundfile.info(tmp_path / "out.wav").frames == len(melody())
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


#: What is written to or read from streams → exit code.
ENDS = {
    "list to a full disk": ("$DDSP models >/dev/full", ExitCode.OUTPUT),
    "help to a full disk": ("$DDSP --help >/dev/full", ExitCode.OUTPUT),
    "list to a reader that ends": ("set -o pipefail; $DDSP models | true", ExitCode.OK),
    "help to a reader that ends": ("set -o pipefail; $DDSP --help | true", ExitCode.OK),
    "list to nobody": ("$DDSP models >&-", ExitCode.OK),
    "error to nobody": ("$DDSP transfer nowhere.wav --model testophone 2>&-", ExitCode.INPUT),
    "error to a full disk": ("$DDSP transfer nowhere.wav --model testophone 2>/dev/full", ExitCode.INPUT),
    "sound to a full disk": ("$DDSP transfer voice.wav --model testophone --out - >/dev/full", ExitCode.OUTPUT),
    "sound to nobody": ("$DDSP transfer voice.wav --model testophone --out - >&-", ExitCode.OUTPUT),
    "sound from nobody": ("$DDSP transfer - --model testophone --out $OUT <&-", ExitCode.INPUT),
}


@pytest.mark.parametrize(("line", "code"), ENDS.values(), ids=ENDS)
def test_streams_that_fail(desk, tmp_path, line, code):
    done = shell(desk, line, OUT=tmp_path / "out.wav")
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"went wrong inside" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["/dev/stdin < voice.wav", "<(cat voice.wav)", "pipe"])
def test_pipes_are_inputs(desk, tmp_path, source):
    line = {"pipe": "cat voice.wav | $DDSP transfer /dev/stdin --model testophone --out $OUT"}.get(
        source, f"$DDSP transfer --model testophone --out $OUT {source}"
    )
    done = shell(desk, line, OUT=tmp_path / "out.wav")
    assert done.returncode == ExitCode.OK, done.stderr
    assert soundfile.info(tmp_path / "out.wav").frames == len(melody())


def test_a_link_at_the_output_is_followed(desk, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.wav").symlink_to(tmp_path / "elsewhere" / "real.wav")
    done = shell(desk, PLAY, OUT=tmp_path / "out.wav")
    assert done.returncode == ExitCode.OK, done.stderr
    assert (tmp_path / "out.wav").is_symlink()
    assert soundfile.info(tmp_path / "elsewhere" / "real.wav").frames == len(melody())


def test_little_memory_is_one_sentence(desk, tmp_path):
    """With less and less memory: it works, or says so; never a defect, never half a file."""
    if sys.platform != "linux":
        pytest.skip("limits of memory differ")
    for kilobytes in (400_000, 250_000, 160_000, 100_000):
        out = tmp_path / f"{kilobytes}.wav"
        done = shell(desk, f"ulimit -v {kilobytes}; {PLAY}", OUT=out)
        assert b"went wrong inside" not in done.stderr, done.stderr
        assert out.exists() == (done.returncode == ExitCode.OK)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".wav"] == []


@pytest.mark.parametrize("place", ["input", "--out", "--model", "--room"])
def test_names_that_no_file_system_takes(desk, tmp_path, place):
    long = "x" * 300 + ".wav"
    names = {"input": "voice.wav", "--model": "testophone", "--out": str(tmp_path / "out.wav"), "--room": "none"}
    names[place] = long
    words = [names.pop("input"), *(word for pair in names.items() for word in pair)]
    done = subprocess.run(command("transfer", *words), cwd=desk, capture_output=True, timeout=120)
    assert done.returncode in {2, 3, 4, 6}, done.stderr
    assert b"went wrong inside" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_warnings_of_libraries_cannot_command_a_terminal(desk):
    words = "import warnings; from ddsp_cli import cli; "
    words += "cli.run_command = lambda *_: warnings.warn('\\x1b[2Jhm\\nhm') or 0; cli.main()"
    done = subprocess.run([sys.executable, "-c", words], cwd=desk, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == b"Warning: ?[2Jhm hm\n"


def test_unreadable_instruments_hide_no_bundled_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    iterdir = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self == models.OWN:
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "flute" in {entry.name for entry in models.catalogue()}
    assert models.find("flute").name == "flute"
