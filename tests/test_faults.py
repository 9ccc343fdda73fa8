"""Faults around the program: signals, closed and full streams, links, permissions, disks. By the real command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.errors import ExitCode
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
