"""Licence, sources and range survive every way round: export, import, and the file alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from ddsp_cli import bundle, importers
from ddsp_cli.bundle import Source, TrainingRecord
from ddsp_cli.errors import ModelError
from ddsp_cli.importers.card import read_origin
from ddsp_cli.importers.files import Folder
from ddsp_cli.workflows.export import export
from ddsp_cli.workflows.import_ import import_instrument
from format_fixtures import plugin_bundle, unknown_graph
from hostile import card_attacks

SOURCES = [Source("Recordings of a flute", "CC-BY-4.0", "Somebody Else, CC BY 4.0", "https://example.org/flute")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    original = plugin_bundle()
    card = bundle.revise(
        original.card,
        licence="CC-BY-SA-3.0",
        sources=SOURCES,
        remarks=["The highest notes are missing."],
        training=TrainingRecord("light", 1700, 3, 599.5, 1064.5, "ddsp 0.1.0", "oboe"),
        statistics=msgspec.structs.replace(
            original.card.statistics, pitch_midi=[61.0 + 0.32 * percentile for percentile in range(101)]
        ),
    )
    bundle.save(home / "flute", card, original.weights, original.impulse_response)
    return export(str(home / "flute"), "vst", out=home / "flute_vst").folder


def test_from_the_folder(exported: Path, tmp_path: Path) -> None:
    original = bundle.load_card(exported.parent / "flute")
    result = import_instrument(exported, "again", out=tmp_path / "again")
    card = bundle.load_card(tmp_path / "again")
    assert (card.licence, card.sources, card.remarks) == (original.licence, SOURCES, original.remarks)
    assert card.statistics == original.statistics
    assert (result.lowest_midi, result.highest_midi) == original.statistics.range_midi
    program = card.training.program
    assert msgspec.structs.replace(card.training, program="ddsp 0.1.0") == original.training
    assert program.startswith("ddsp 0.1.0; DDSP-VST model")
    once_more = export(str(tmp_path / "again"), "vst", out=tmp_path / "again_vst").folder
    (card,) = (importers.read(path)[0].card for path in once_more.glob("*.tflite"))
    assert (card.licence, card.sources, card.remarks) == (original.licence, SOURCES, original.remarks)


@pytest.mark.parametrize("name", ["Flöte 1.tflite", "another name.tflite"])
def test_from_the_file_alone(name: str, exported: Path, tmp_path: Path) -> None:
    """A file in the plug-in's folder: licence and sources are in its metadata."""
    (path,) = exported.glob("*.tflite")
    shutil.copy(path, tmp_path / name)
    shutil.copy(path, tmp_path / "a second one.tflite")
    card = importers.read(tmp_path / name, verify=False)[0].card
    assert (card.licence, card.sources) == ("CC-BY-SA-3.0", SOURCES)
    assert card.statistics == bundle.load_card(exported.parent / "flute").statistics


def test_the_card_of_another_file_is_not_taken(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_bytes((exported / "card.yaml").read_bytes())
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(unknown_graph())
    assert importers.read(tmp_path / "a.tflite", verify=False)[0].card.sources == []
    (tmp_path / "b.tflite").unlink()
    assert importers.read(tmp_path / "a.tflite", verify=False)[0].card.sources == SOURCES
    (tmp_path / "card.yaml").write_text("something: else\n")
    assert importers.read(tmp_path / "a.tflite", verify=False)[0].card.sources == []


def test_a_damaged_card_is_one_sentence(exported: Path, tmp_path: Path) -> None:
    """Not passed over in silence: who is owed would be forgotten."""
    whole = (exported / "card.yaml").read_text(encoding="utf-8")
    (tmp_path / "a.tflite").write_bytes(unknown_graph())
    refused = set()
    for name, content in card_attacks(whole).items():
        (tmp_path / "card.yaml").write_bytes(content)
        try:
            assert read_origin(Folder(tmp_path, lambda name: True), "a.tflite", {}).sources == SOURCES
        except ModelError as problem:
            assert "card.yaml" in problem.message
            refused.add(name)
    harmless = {"a card of 900 kB", "10^9 harmonics", "infinite figures", "NaN figures"}  # not what is taken from it
    assert card_attacks(whole).keys() - refused <= harmless
