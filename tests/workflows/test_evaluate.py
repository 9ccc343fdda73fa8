"""`ddsp evaluate`: figures that follow from what was judged, files that are never half there."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from ddsp_cli.errors import ExitCode, InputError, OutputError, UsageError
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.workflows.evaluate import Clip, evaluate
from fixtures import make_bundle, melody


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("evaluate")
    made = make_bundle(home / "models" / "testophone")
    f0_hz = np.full(100, 330.0, np.float32)
    played = np.concatenate(list(Instrument(made).render(f0_hz, np.full(100, -20.0, np.float32))))
    soundfile.write(home / "own.wav", played / np.abs(played).max() * 0.5, 16000)
    soundfile.write(home / "other.wav", melody((60, 64, 67)), 44100)
    soundfile.write(home / "silence.wav", np.zeros(16000), 16000)
    return home


def test_figures_and_files(home, tmp_path):
    out = tmp_path / "out"
    found = evaluate(home / "models/testophone", [home / "own.wav", home / "other.wav"], out=out)
    assert [one.name for one in found] == ["own.wav", "other.wav"]
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["instrument"] == "testophone"
    assert [row["spectral_loss"] for row in written["recordings"]] == [one.figures["spectral_loss"] for one in found]
    assert {entry.name for entry in out.iterdir()} == {"evaluation.json", "own.png", "other.png"}
    assert found[0].figures["spectral_loss"] < found[1].figures["spectral_loss"], "it is nearest to itself"
    with pytest.raises(OutputError, match="exists already"):
        evaluate(home / "models/testophone", [home / "own.wav"], out=out)


def test_a_clip_against_itself_is_perfect():
    sound = melody((60, 64))
    figures = Clip("same", sound, sound, 16000).quality().as_dict()
    assert figures["spectral_loss"] == 0
    assert figures["pitch_within_50_cents"] == 1


def test_mistakes(home, tmp_path):
    with pytest.raises(InputError, match="no note"):
        evaluate(home / "models/testophone", [home / "silence.wav"])
    with pytest.raises(UsageError, match="a data set were given"):
        evaluate(home / "models/testophone", [home / "own.wav"], dataset=home)
    command = [sys.executable, "-m", "ddsp_cli", "evaluate", "--model", "testophone"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == ExitCode.DATASET
    assert done.stderr.startswith("Error: there is no data set")


def test_no_framework_is_loaded(home):
    code = (
        "import sys; from pathlib import Path; from ddsp_cli.workflows.evaluate import evaluate; "
        "evaluate(Path('models/testophone'), [Path('own.wav')]); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'librosa', 'torch', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=home, timeout=120).returncode == 0
