"""The benchmarks that attack and kill the commands, with few tries: no traceback, no lost file, no remains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals and shells")]


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_attacks():
    table = run("attack.py", "--tries", "0.03", "--only", "bits,sounds,MIDI,curves,places,streams")
    total = next(line for line in table.splitlines() if line.startswith("| all |"))
    assert int(total.split("|")[2]) > 100


def test_kills():
    assert "kills" in run("kill_commands.py", "--kills", "20", "--calls", "6", "--commands", "import,export,transfer")
