"""benchmarks/time_to_quality.py: what it reads off a run, and the picture it draws."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from ddsp_cli.errors import ModelError
from ddsp_cli.training.checkpoint import CHECKPOINT, Point, RunState

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "time_to_quality.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("time_to_quality", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_run(folder: Path, losses: list[float], each_s: float) -> Path:
    """A run with a validation every so many seconds; 0 for one that noted no times."""
    folder.mkdir()
    history = [Point(100 * i, loss, loss, each_s * i) for i, loss in enumerate(losses, 1)]
    state = RunState(preset="", dataset="", seed=0, best_loss=min(losses), history=history)
    save_file({"x": np.zeros(1)}, folder / CHECKPOINT, metadata={"state": msgspec.json.encode(state).decode()})
    return folder


def test_the_lowest_so_far_counts(script, tmp_path):
    found = script.curve(make_run(tmp_path / "a.run", [9.0, 7.0, 8.0, 6.5], 60.0))
    np.testing.assert_allclose(found[1], [9.0, 7.0, 7.0, 6.5])
    assert [script.at(*found, minute) for minute in (1, 3.5, 4)] == [9.0, 7.0, 6.5]
    assert math.isnan(script.at(*found, 0.5))
    assert math.isnan(script.at(*found, 5))
    assert [script.first_below(*found, loss) for loss in (8.6, 7.0, 6.6)] == [2.0, 2.0, 4.0]
    assert math.isnan(script.first_below(*found, 6.0))


def test_a_run_that_knows_no_times_is_refused(script, tmp_path):
    with pytest.raises(ModelError, match="know their time"):
        script.curve(make_run(tmp_path / "old.run", [9.0], 0.0))
    with pytest.raises(ModelError, match="know their time"):
        script.curve(tmp_path / "nowhere")


def test_table_and_picture(tmp_path):
    make_run(tmp_path / "a.run", np.linspace(12, 6.4, 200).tolist(), 15.0)
    done = subprocess.run(
        [sys.executable, SCRIPT, "a.run", "--out", "new/curves.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("original", "a "))] == [
        "original", "a", "original", "a"
    ]  # fmt: skip
    assert 5_000 < (tmp_path / "new/curves.png").stat().st_size < 150_000
