"""Damaged files through the readers; longer campaigns: benchmarks/fuzz.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.parametrize(("kind", "n_cases"), [("audio", 1000), ("datasets", 200)])
def test_damaged_files_end_in_a_clear_error_or_a_right_result(kind, n_cases):
    counts = {"audio": "0", "datasets": "0"} | {kind: str(n_cases)}
    ran = subprocess.run(
        [sys.executable, str(FUZZ), "--audio", counts["audio"], "--datasets", counts["datasets"], "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    line = next(line for line in ran.stdout.splitlines() if line.startswith(f"{n_cases} damaged {kind}"))
    ended = {word: int(count) for count, word in re.findall(r"(\d+) (read|refused)", line)}
    assert sum(ended.values()) == n_cases and min(ended.values()) > n_cases / 50
