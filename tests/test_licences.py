"""The list of licences and the SBOM name the installed packages that pyproject.toml requires."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(licences, tmp_path_factory):
    out = tmp_path_factory.mktemp("licences")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["licences.py", "--out", str(out)])
        licences.main()
    return json.loads((out / "sbom.json").read_text("utf-8")), (out / "licences.md").read_text("utf-8")


def test_every_requirement_is_named_with_a_licence(licences, written):
    bill, table = written
    listed = {one["name"]: one for one in bill["components"]}
    for extra, requirements in licences.project().items():
        for name in licences.needs(requirements):
            assert listed[name]["version"] == metadata.version(name)
            assert extra or listed[name]["scope"] == "required"
            assert f"| {name} | {metadata.version(name)} | " in table
            assert "unknown" not in licences.licence(metadata.distribution(name))
    assert {"miniaudio", "starlette", "uvicorn", "wsproto", "psutil", "onnxruntime"} <= set(listed)
    assert not {"pytest", "playwright", "axe-playwright-python", "moto"} & set(listed)


def test_references_lead_to_components(written):
    bill, _ = written
    known = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in bill["dependencies"]} <= known
    assert {other for entry in bill["dependencies"] for other in entry["dependsOn"]} <= known


def test_what_comes_with_the_program_is_named(written):
    """Instruments, and the networks of other authors, which NOTICE names too."""
    bill, table = written
    models = {one["name"] for one in bill["components"] if one["type"] == "machine-learning-model"}
    assert models == {card.parent.name for card in (ROOT / "models").glob("*/model.yaml")}
    assert "unknown" not in table.partition("## Instruments")[2]
    own = {inner["name"] for inner in bill["metadata"]["component"]["components"]}
    networks = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.onnx"))
    folder = "src/ddsp_cli/analysis/pitch/data/"
    assert networks == [folder + "basic_pitch.onnx", folder + "swift_f0_frame.onnx"]
    assert all(any(author in name for name in own) for author in ("Basic Pitch", "SwiftF0"))
    assert all(network in (ROOT / "NOTICE").read_text("utf-8") for network in networks)


def test_lgpl_parts_are_named(written):
    assert all(name in written[1] for name in ("libsndfile", "libsoxr"))
