"""docs/scale.md is true: its commands run as written, on a small archive and a server of this machine.

Those that need several GPUs, a cluster of several computers, or CREPE are not in ```sh blocks. Training is cut short by
`--steps` and a preset of a few hundred weights after the written options.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from ddsp_cli import cli
from ddsp_cli.config import dump_yaml
from ddsp_cli.dataset import load_manifest
from page_fixtures import ROOT, commands, known_options, options
from scale_fixtures import serve_s3, write_nsynth
from test_readme import desk
from training_fixtures import small_preset

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")

__all__ = ["desk"]


def lines(of_the_table: bool) -> list[list[str]]:
    """The commands of the page: those of the paper's table, or the others."""
    return [words for words in commands(PAGE) if ("acoustic" in words) == of_the_table]


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
        for n, words in enumerate(lines(of_the_table=False), start=1):
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


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_the_table_of_the_paper_is_computed_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NSynth's layout in small, with a tiny preset; notes of other kinds and pitches are left out."""
    for name, level in (("nsynth-train", 0.25), ("nsynth-valid", 0.2), ("nsynth-test", 0.3)):
        write_nsynth(tmp_path, name, level)
    audio = tmp_path / "nsynth-train" / "audio"
    others = (
        "bass_electronic_000-060",
        "bass_synthetic_000-060",
        *(f"flute_acoustic_003-{n:03}" for n in (9, 23, 85, 99, 101)),
    )
    for name in others:
        shutil.copy(audio / "keyboard_acoustic_000-060-100.wav", audio / f"{name}-100.wav")
    (tmp_path / "small.yaml").write_text(dump_yaml(small_preset()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for _, *arguments in lines(of_the_table=True):
        more = {"train": ["--preset", "small.yaml", "--steps", "1", "--no-listen"], "prepare": ["--workers", "1"]}
        assert cli.run_command([*arguments, *more.get(arguments[0], [])], False) == 0
    manifest = load_manifest(Path("datasets", "acoustic"))
    splits = Counter(recording.split for recording in manifest.recordings)
    assert splits == {"train": 10, "validation": 5, "none": len(others)}
    (row,) = json.loads(Path("judged", "evaluation.json").read_text(encoding="utf-8"))["recordings"]
    assert 0 < row["loudness_l1_db"] < 100
    assert 0 <= row["f0_outliers"] <= 1
    assert row.get("f0_l1_semitones", 0.0) >= 0, "where a resynthesis has a pitch"


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
