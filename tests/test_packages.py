"""Without TensorFlow the program plays, and says what to install for the rest."""

from __future__ import annotations

import pytest

from ddsp_cli import packages
from ddsp_cli.errors import UsageError
from ddsp_cli.workflows.export import NEEDS, export
from ddsp_cli.workflows.train import train


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
