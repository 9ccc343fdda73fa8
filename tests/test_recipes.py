"""Each bundled instrument can be made again: its recipe names its sources, and git keeps the bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ddsp_cli.dataset.manifest import load_sources

ROOT = Path(__file__).parent.parent
OPTIONS = (ROOT / "models/recipes/instruments.mk").read_text(encoding="utf-8")
INSTRUMENTS = re.findall(r"^INSTRUMENTS := (.*)$", OPTIONS, re.MULTILINE)[0].split()
BASE_ONLY = re.findall(r"^BASE_ONLY := (.*)$", OPTIONS, re.MULTILINE)[0].split()


@pytest.mark.parametrize("name", [*INSTRUMENTS, *BASE_ONLY])
def test_the_sources_of_an_instrument_are_named_with_licences(name: str) -> None:
    named = load_sources(ROOT / "models/recipes" / f"{name}.yaml")
    assert named.licence.startswith("CC")
    assert named.sources
    assert all(s.title and s.licence and s.attribution and s.url.startswith("https://") for s in named.sources)
    if any("-SA-" in source.licence for source in named.sources):
        assert "-SA-" in named.licence


def test_every_recipe_is_made_and_described() -> None:
    assert {path.stem for path in (ROOT / "models/recipes").glob("*.yaml")} == {*INSTRUMENTS, *BASE_ONLY}
    text = (ROOT / "models/RECIPES.md").read_text(encoding="utf-8")
    titles = {name for line in re.findall(r"^## (.*)$", text, re.MULTILINE) for name in line.split(", ")}
    assert titles == {*INSTRUMENTS, "base"}
    assert set(re.findall(r"^PREPARE_(\w+)", OPTIONS, re.MULTILINE)) <= set(INSTRUMENTS)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_instrument_without_recordings_is_answered_with_a_sentence() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in {"AUDIO", "MAKEFLAGS", "MAKELEVEL"}}
    done = subprocess.run(
        ["make", "instrument-violin"], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "give AUDIO=folder that holds violin/" in done.stderr
    assert "ddsp" not in done.stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_git_keeps_bundles_and_no_training_state() -> None:
    paths = {f"models/{name}/model.yaml": False for name in (*INSTRUMENTS, "base")} | {
        "models/violin.run/state.npz": True, "models/mine/model.yaml": True, "models/recipes/violin.yaml": False,
    }  # fmt: skip
    for path, ignored in paths.items():
        done = subprocess.run(["git", "check-ignore", "--no-index", "-q", path], cwd=ROOT, check=False)
        assert (done.returncode == 0) == ignored, path
