"""Plug-in models that are hostile: lists without end, and graphs that take all memory or all time when they run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import msgspec
import pytest

from ddsp_cli import importers
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import vst
from ddsp_cli.importers.flatbuffer import read
from ddsp_cli.importers.tflite import find_weights
from format_fixtures import plugin_bundle, unknown_graph
from hostile import heavy_graphs, metadata_attacks, tflite_attacks

ATTACKS = tuple(tflite_attacks(vst.build(plugin_bundle())[0]).items())
HARMLESS = {"8,000 buffers", "8,000 operators at one place"}


@pytest.mark.parametrize(("name", "content"), ATTACKS, ids=[name for name, _ in ATTACKS])
def test_lists_without_end(name: str, content: bytes) -> None:
    started = time.process_time()
    with contextlib.suppress(ModelError):
        find_weights(read(content))
        assert name in HARMLESS
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name", heavy_graphs())
def test_graphs_without_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the contract, so they are run; in a child process, which ends when it takes too much."""
    monkeypatch.setattr(importers, "LIMITS", dataclasses.replace(importers.LIMITS, time_s=4.0))
    (tmp_path / "x.tflite").write_bytes(heavy_graphs()[name])
    with pytest.raises(ModelError, match=r"longer than 4 s|1024 MB|does not run|damaged|ended its process"):
        importers.load(tmp_path / "x.tflite")


@pytest.mark.parametrize("name", metadata_attacks())
def test_metadata(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(unknown_graph())
    (tmp_path / "metadata.json").write_bytes(metadata_attacks()[name])
    with contextlib.suppress(ModelError):
        card = importers.read(tmp_path / "x.tflite")[0].card
        assert len(json.dumps(msgspec.to_builtins(card))) < 20_000
