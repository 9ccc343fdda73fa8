"""DDSP-VST models become instruments: our own exports and Magenta's file; other and hostile files are refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import time
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ddsp_cli import importers
from ddsp_cli.bundle.folder import EXPORT_CARD, EXPORT_CARD_BEGINS
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import checks, litert, vst
from ddsp_cli.importers import tflite
from ddsp_cli.importers.flatbuffer import read
from ddsp_cli.importers.tflite import find_weights
from ddsp_cli.workflows import models
from fixtures import impulse_response
from format_fixtures import GOLDEN, plugin_bundle, unknown_graph
from hostile import heavy_graphs, metadata_attacks, tflite_attacks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tflite")
    vst.export(plugin_bundle(), folder)
    return folder / "Flöte 1.tflite"


def alone(model: Path, folder: Path) -> Path:
    """The file without the files beside it."""
    return Path(shutil.copy(model, folder / model.name))


def test_our_own_comes_back(model: Path) -> None:
    found = importers.read(model)[0]
    original = plugin_bundle()
    for name, value in original.weights.items():
        np.testing.assert_array_equal(found.weights[name], value, err_msg=name)
    assert found.card.model.inputs == original.card.model.inputs
    assert found.card.statistics.pitch_midi == original.card.statistics.pitch_midi
    assert found.impulse_response is not None
    np.testing.assert_allclose(found.impulse_response, impulse_response(), atol=1e-7)


def test_without_room_and_metadata(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.tflite"
    data = model.read_bytes()
    path.write_bytes(data[: data.rindex(b"PK\x03\x04")])
    found = importers.read(path, verify=False)[0]
    assert found.impulse_response is None
    assert "pitch assumed" in found.card.description
    assert "reverb" not in found.card.model.processors


def test_magenta_metadata(model: Path, tmp_path: Path) -> None:
    """Only the plug-in's own keys: a range becomes a curve that stays within it."""
    path = tmp_path / "m.tflite"
    data = model.read_bytes()
    path.write_bytes(data[: data.rindex(b"PK\x03\x04")])
    figures = {
        "mean_min_pitch_note": 62.0,
        "mean_max_pitch_note": 81.0,
        "mean_min_power_note": -34.0,
        "mean_max_power_note": -14.0,
    }
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("METADATA.json", json.dumps(figures))
    statistics = importers.read(path, verify=False)[0].card.statistics
    assert (statistics.pitch_midi[5], statistics.pitch_midi[95]) == (62.0, 81.0)
    assert (statistics.power_db[0], statistics.power_db[100]) == (-34.0, -14.0)
    assert (np.diff(statistics.pitch_midi) >= 0).all()


@pytest.mark.parametrize(
    "figures",
    [
        {"mean_min_pitch_note": "low"},
        {"mean_min_pitch_note": 1e99, "mean_max_pitch_note": 3.0},
        {"mean_min_power_note": float("nan"), "mean_max_power_note": 0.0},
        {"percentiles": {"pitch_midi": [1.0]}},
    ],
)
def test_senseless_metadata(model: Path, tmp_path: Path, figures: dict[str, object]) -> None:
    path = tmp_path / "m.tflite"
    data = model.read_bytes()
    path.write_bytes(data[: data.rindex(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", json.dumps(figures))
    with pytest.raises(ModelError):
        importers.read(path, verify=False)[0]


def test_a_file_that_does_something_else(model: Path, tmp_path: Path) -> None:
    """Known layers with an unknown scaling between them: the weights give another output, so the file is run."""
    data = bytearray(alone(model, tmp_path).read_bytes())
    bias = np.float32(-5.0).tobytes()
    assert data.count(bias) == 1
    at = data.index(bias)
    data[at : at + 4] = np.float32(-4.0).tobytes()
    (tmp_path / "other.tflite").write_bytes(data)
    found = importers.read(tmp_path / "other.tflite")[0]
    assert found.network == bytes(data)
    played = checks.phrase(found)
    noise, known = (
        checks.expected_controls(instrument, played)["noise_magnitudes"] for instrument in (found, plugin_bundle())
    )
    raw = np.log((known.astype(np.float64) / 2) ** (-1 / np.log(10)) - 1)  # σ⁻¹ of it, but for the sign
    expected = 2 / (1 + np.exp(raw - 1)) ** np.log(10)
    np.testing.assert_allclose(noise, expected, rtol=1e-2, atol=1e-6)


def test_a_file_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"\x10\0\0\0TFL3" + bytes(64))
    with pytest.raises(ModelError, match="does not run"):
        tflite.run((tmp_path / "x.tflite").read_bytes())


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "controls.tflite").write_bytes(litert.build(plugin_bundle(), audio=False)[0])
    with pytest.raises(ModelError) as problem:
        importers.read(tmp_path / "controls.tflite")[0]
    assert "f0_hz" in problem.value.message
    assert "DDSP-VST" in problem.value.hint
    (tmp_path / "text.tflite").write_text("no model at all")
    with pytest.raises(ModelError, match="not a TensorFlow Lite file"):
        importers.read(tmp_path / "text.tflite")[0]


def test_zip_and_folder(model: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(model, "Flute/Flute.tflite")
    found, kind = importers.read(tmp_path / "a.zip")
    assert kind == "DDSP-VST model"
    assert found.impulse_response is None
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.tflite", "b.tflite"):
        shutil.copy(model, folder / name)
    with pytest.raises(ModelError, match="several models"):
        importers.read(folder)


def test_an_export_of_several_graphs_says_what_can_be_imported(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flute_litert"
    folder.mkdir()
    for name in ("audio.tflite", "controls.tflite"):
        shutil.copy(model, folder / name)
    (folder / EXPORT_CARD).write_text(EXPORT_CARD_BEGINS, encoding="utf-8")
    with pytest.raises(ModelError, match="an export that cannot be imported") as problem:
        importers.read(folder)
    assert "format vst" in problem.value.hint


def test_played_without_import(model: Path) -> None:
    place = models.find_playable(str(model))
    assert (models.title(place), models.open_at(place).card.name) == ("Flöte 1", "Flöte 1")
    assert [one.places for one in models.choose_all([model, model])] == [(model,)]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the numbers made with magenta/ddsp, beside the checkout")
def test_magenta_file() -> None:
    """Weights in a WHILE loop; 50 frames that Magenta's own interpreter played."""
    found = importers.read(GOLDEN / "vst_predict_controls.tflite")[0]
    reference = np.load(GOLDEN / "vst_tflite_50frames.npz")
    frames = {name: reference[name][:, 0] for name in ("f0_scaled", "pw_scaled")}
    controls = tflite.controls(found, frames)
    names = {"amplitude": "ctl_amps", "harmonic_distribution": "ctl_hd", "noise_magnitudes": "ctl_noise"}
    for name, golden in (names | {"state": "ctl_state"}).items():
        np.testing.assert_allclose(controls[name], reference[golden], atol=5e-6, err_msg=name)
    buffer = io.BytesIO((GOLDEN / "metadata.json").read_bytes())
    assert found.card.statistics.pitch_midi[5] == pytest.approx(json.load(buffer)["mean_min_pitch_note"], abs=1e-3)


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
