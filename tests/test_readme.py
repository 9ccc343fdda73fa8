"""The README is true: its commands run as written, its tables agree with the program, its links lead somewhere.

Every command in a ```sh block is run, in order, in one folder that holds what the text speaks of: `wavs/` with a few
recordings, `voice.wav`, `humming.wav`. Exceptions, all named here: commands that set up an environment are left to the
continuous integration, which starts with them (make targets are still checked to exist), and training is cut short by
`--steps` after the written options.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.errors import ExitCode
from page_fixtures import ROOT, commands, known_options, options

README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Commands that make an environment; the tests run inside one.
SET_UP = ("pip", "pipx", "uv")

#: Every command of the program; the README shows each.
COMMANDS = ("prepare", "train", "evaluate", "transfer", "reverb", "export", "import", "models")

#: Pages whose links are followed.
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]

#: How far each `ddsp train` goes beyond the one before.
STEPS = 2


def kinds(*programs: str) -> list[list[str]]:
    return [words for words in commands(README) if words[0] in programs]


def melody(midi: list[int], seconds_each: float, rate_hz: int = 16000, seed: int = 0) -> np.ndarray:
    """A bowed sort of tone: harmonics under an envelope, a trace of noise."""
    time_s = np.arange(round(seconds_each * rate_hz)) / rate_hz
    envelope = np.clip(np.minimum(time_s / 0.05, (seconds_each - 0.1 - time_s) / 0.1), 0, 1)
    notes = []
    for pitch in midi:
        f0_hz = 440 * 2 ** ((pitch - 69) / 12)
        phase = 2 * np.pi * f0_hz * time_s + 0.05 * np.sin(2 * np.pi * 5 * time_s)
        notes.append(envelope * sum(0.3 / k * np.sin(k * phase) for k in range(1, int(7000 / f0_hz))))
    audio = np.concatenate(notes)
    return 0.5 * audio + 1e-4 * np.random.default_rng(seed).standard_normal(len(audio))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A musician's folder: recordings of an instrument, a voice, a hum."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "wavs").mkdir()
    for index, midi in enumerate(([62, 64, 66, 67, 69, 71], [74, 71, 69, 67, 66, 62], [69, 66, 62, 66, 69, 74])):
        soundfile.write(folder / "wavs" / f"take{index + 1}.wav", melody(midi, 1.5, seed=index), 16000)
    for name in ("voice", "humming"):
        soundfile.write(folder / f"{name}.wav", melody([67, 69, 71], 0.6, 22050), 22050)
    return folder


def test_every_command_is_of_a_known_kind() -> None:
    assert {words[0] for words in commands(README)} <= {"ddsp", "make", *SET_UP}
    assert {words[1] for words in kinds("ddsp")} == set(COMMANDS)
    assert ["make", "demo"] in kinds("make")
    assert ["make", "test"] in kinds("make")


def run_as_written(lines: list[list[str]], folder: Path, *train_options: str) -> None:
    """Runs the lines of `ddsp` in a folder; each training goes a little further than the one before, with options."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "DDSP_MODELS": str(folder / "library")}
    steps = 0
    for words in lines:
        arguments = words[1:]
        if words[1] == "train":
            steps += STEPS
            arguments = [*arguments, "--steps", str(steps), *train_options]
        done = subprocess.run(
            [sys.executable, "-m", "ddsp_cli", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == ExitCode.OK, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_every_ddsp_command_runs_as_written(desk: Path) -> None:
    run_as_written(kinds("ddsp"), desk)
    for name in (
        "voice_flute.wav",
        "flutes/voice_flute.wav",
        "flutes/humming_flute.wav",
        "voice_viola.wav",
        "datasets/viola/dataset.yaml",
        "models/viola/model.yaml",
        "viola_vst/viola.tflite",
        "models/viola-again/model.yaml",
        "viola.ddsp",
        "models/mine/model.yaml",
    ):
        assert (desk / name).is_file(), name


@pytest.mark.parametrize("words", kinds("make"), ids=" ".join)
def test_make_targets_exist(words: list[str]) -> None:
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exit_codes_are_the_documented_ones() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_options_exist() -> None:
    known = known_options().union(*map(known_options, COMMANDS))
    assert options(README) <= known


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_every_picture_that_is_drawn_is_shown_and_small():
    script = (ROOT / "benchmarks" / "pictures.py").read_text(encoding="utf-8")
    drawn = re.findall(r'^    "(\w+)": \(', script, re.MULTILINE)
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    assert drawn and drawn == re.findall(r"\]\(pictures/(\w+)\.png\)", page)
    for name in drawn:
        assert 3_000 < (ROOT / "docs" / "pictures" / f"{name}.png").stat().st_size < 150_000
