"""docs/scale.md keeps its word: its commands run as written, on a small archive and a server of this machine.

Those that need several GPUs, a cluster of several computers, or CREPE are not in ```sh blocks. Training is cut short by
`--steps` and a preset of a few hundred weights after the written options.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from ddsp_cli.config import dump_yaml
from ddsp_cli.dataset import load_manifest
from page_fixtures import ROOT, commands, known_options, options
from scale_fixtures import serve_s3, write_nsynth
from test_readme import desk
from training_fixtures import small_preset

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")

__all__ = ["desk"]


@pytest.mark.slow
def test_every_command_runs_as_written(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "small.yaml").write_text(dump_yaml(small_preset()), encoding="utf-8")
    write_nsynth(desk, "nsynth-train", level=0.25)
    write_nsynth(desk, "nsynth-test")
    with serve_s3("bucket", monkeypatch) as fs:
        for path in (desk / "wavs").glob("*.wav"):
            flac = desk / f"{path.stem}.flac"
            soundfile.write(flac, *soundfile.read(path))
            fs.put_file(str(flac), f"bucket/wavs/session/{flac.name}")
        for n, words in enumerate(commands(PAGE), start=1):
            variables = dict(word.split("=", 1) for word in words if word.split("=")[0].isupper())
            program, *arguments = [word for word in words if word.split("=")[0] not in variables]
            assert program == "ddsp"
            if arguments[0] == "train":
                arguments += ["--preset", "small.yaml", "--steps", str(n), "--out", f"models/{n}"]
            done = subprocess.run(
                [sys.executable, "-m", "ddsp_cli", *arguments], cwd=desk, env=os.environ | variables,
                capture_output=True, text=True, timeout=400,
            )  # fmt: skip
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert load_manifest(desk / "datasets" / "archive").n_recordings == 3
    nsynth = load_manifest(desk / "datasets" / "nsynth")
    assert {r.split for r in nsynth.recordings if r.path.startswith("nsynth-test/")} == {"validation"}


def test_options_exist() -> None:
    launchers = {
        "--no-python",
        "--nproc-per-node",
        "--ntasks",
        "--gpus-per-task",
        "--nthreads",
        "--n",
        "--minutes",
        "--seconds",
    }
    known = known_options("prepare") | known_options("train") | known_options("evaluate")
    assert options(PAGE) - launchers <= known
