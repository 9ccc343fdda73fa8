"""The distributions: the wheel holds program, presets and instruments; the player works without TensorFlow."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ddsp_cli
from ddsp_cli import packages
from ddsp_cli.errors import UsageError
from ddsp_cli.workflows.export import NEEDS, export
from ddsp_cli.workflows.train import train

ROOT = Path(__file__).parent.parent


PLAYER = ROOT / "packaging" / "player"


def build(project: Path, folder: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def dependencies(project: Path) -> dict[str, str]:
    """Package → requirement."""
    with (project / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["project"]["dependencies"]
    return {re.split(r"[<>=!~; \[]", entry)[0]: entry for entry in listed}


def committed(folder: str) -> set[str]:
    """Files below a folder that git tracks; all files outside a checkout."""
    done = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return set(done.stdout.splitlines())
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}


def test_wheel_holds_the_bundled_instruments(wheel: zipfile.ZipFile) -> None:
    instruments = {name.rsplit("/", 1)[0] for name in committed("models") if name.endswith("/model.yaml")}
    bundled = {name for name in committed("models") if name.rsplit("/", 1)[0] in instruments}
    assert "models/flute/model.yaml" in bundled
    shipped = {name.removeprefix("ddsp_cli/") for name in wheel.namelist() if name.startswith("ddsp_cli/models/")}
    assert shipped == bundled


def test_wheel_holds_presets_and_types(wheel: zipfile.ZipFile) -> None:
    presets = {f"ddsp_cli/presets/{path.name}" for path in (ROOT / "src/ddsp_cli/presets").glob("*.yaml")}
    assert presets
    assert presets | {"ddsp_cli/py.typed", "ddsp_cli/__main__.py"} <= set(wheel.namelist())


def test_wheel_holds_the_page_of_the_studio(wheel: zipfile.ZipFile) -> None:
    static = {f"ddsp_cli/studio/static/{path.name}" for path in (ROOT / "src/ddsp_cli/studio/static").iterdir()}
    assert {"ddsp_cli/studio/static/index.html", "ddsp_cli/studio/static/main.js"} <= static
    assert static | {"ddsp_cli/studio/voice.wav"} <= set(wheel.namelist())


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    info = f"ddsp_cli-{ddsp_cli.__version__}.dist-info/"
    assert [name for name in wheel.namelist() if not name.startswith(("ddsp_cli/", info))] == []
    entry_points = wheel.read(info + "entry_points.txt").decode()
    assert "ddsp = ddsp_cli.__main__:main" in entry_points


#: Packages that training, export, the pYIN tracker and imports of DDSP-VST models need; the player does without.
NOT_IN_PLAYER = {
    "ai-edge-litert", "flatbuffers", "h5py", "keras", "librosa", "llvmlite", "onnx", "tensorboard", "tensorflow",
}  # fmt: skip


def test_player_holds_the_same_files_but_the_base(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The base is where trainings begin."""

    def program(archive: zipfile.ZipFile) -> set[str]:
        return {name for name in archive.namelist() if ".dist-info/" not in name and "/models/base/" not in name}

    assert program(build(PLAYER, tmp_path)) == program(wheel)


def test_player_needs_all_but_the_training_framework() -> None:
    complete, player = dependencies(ROOT), dependencies(PLAYER)
    assert set(complete) - set(player) == NOT_IN_PLAYER
    assert {name: complete[name] for name in player} == player


def test_no_committed_file_is_large() -> None:
    assert [name for name in committed(".") if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 8e6] == []


def test_constraints_pin_every_dependency_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[^\s@/]+( ; .+)?", line) for line in pins)
    pinned = {line.partition("==")[0] for line in pins}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = (
        project.partition("\ndependencies = [")[2].partition("\n]")[0]
        + project.partition("\ndev = [")[2].partition("\n]")[0]
    )
    assert {name.lower().replace("_", "-") for name in re.findall(r'"([A-Za-z0-9_.-]+)', wanted)} <= pinned


def test_changelog_knows_this_version() -> None:
    assert f"## [{ddsp_cli.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_is_installed_is_accepted():
    packages.require("this test", "numpy", "pytest")


@pytest.fixture
def without_training_packages(monkeypatch):
    """As in an environment with `ddsp-cli-player` alone."""
    found = packages.importlib.util.find_spec
    absent = {"ai_edge_litert", "flatbuffers", "keras", "onnx", "tensorflow"}
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name in absent else found(name))


@pytest.mark.usefixtures("without_training_packages")
def test_training_says_what_to_install():
    with pytest.raises(UsageError, match="training needs Keras, which is not installed") as problem:
        train("anything")
    assert "pip install ddsp-cli" in problem.value.hint


@pytest.mark.usefixtures("without_training_packages")
@pytest.mark.parametrize("format", NEEDS)
def test_every_export_says_what_to_install(format, tmp_path):
    with pytest.raises(UsageError, match=f"export to {format} needs"):
        export("flute", format, tmp_path / "out")
    assert not (tmp_path / "out").exists()
