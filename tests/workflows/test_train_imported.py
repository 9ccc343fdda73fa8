"""Training of imported instruments: a plug-in model, and a checkpoint with another definition of loudness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import bundle, importers
from ddsp_cli.analysis.extract import measure
from ddsp_cli.bundle.layout import ARTICULATION, VARIATION
from ddsp_cli.config import LossConfig, Preset, TrainingConfig, dump_yaml
from ddsp_cli.errors import DatasetError, ModelError
from ddsp_cli.exporters import vst
from ddsp_cli.workflows.evaluate import evaluate
from ddsp_cli.workflows.import_ import import_instrument
from ddsp_cli.workflows.prepare import prepare
from ddsp_cli.workflows.train import TrainResult, train
from fixtures import melody, small_model
from format_fixtures import loudness_model, plugin_bundle, write_checkpoint

TRAINING = TrainingConfig(steps=1, batch_size=2, crop_s=0.2, learning_rate=2e-3, loss=LossConfig(fft_sizes=(512, 128)))
STEPS = 8


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uncompiled: None) -> Path:
    """A folder with twenty seconds of `takes` and `quick.yaml`."""
    monkeypatch.chdir(tmp_path)
    Path("takes").mkdir()
    for i, notes in enumerate(((60, 62, 64, 65, 67), (67, 65, 64, 62, 60), (72, 67, 64, 60, 55))):
        soundfile.write(f"takes/take {i}.wav", melody(notes, note_s=1.2, rest_s=0.2), 16000)
    quick = Preset(description="quick", model=small_model(), training=TRAINING)
    Path("quick.yaml").write_text(dump_yaml(quick), encoding="utf-8")
    return tmp_path


def train_further(parent: str) -> TrainResult:
    """Trains one step, validates, trains some more; returns the losses."""
    train("mine", preset="quick.yaml", start_from=parent, steps=1)
    result = train("mine", preset="quick.yaml", start_from=parent, steps=STEPS)
    assert result.finished
    assert result.steps == STEPS
    assert result.kept_loss < 0.95 * result.first_loss
    return result


@pytest.mark.slow
def test_a_plugin_model(home: Path) -> None:
    """Known graphs become weights, so a data set like any other teaches them, also straight from the file."""
    prepare([home / "takes"], name="mine", workers=1, report=False)
    vst.export(plugin_bundle(), home)
    result = train_further("Flöte 1.tflite")
    card = bundle.load_card(result.folder)
    assert card.training.started_from == "Flöte 1"
    assert "reverb" in card.model.processors
    parent, child = importers.read(home / "Flöte 1.tflite", verify=False)[0].weights, bundle.load(result.folder).weights
    assert parent.keys() == {name for name in child if not name.startswith((VARIATION, ARTICULATION))}
    moved = [np.abs(child[name] - value).max() for name, value in parent.items()]
    assert 1e-4 < max(moved) < 0.2  # nothing of the parent is silenced, however high the notes it goes on with
    assert vst.export(bundle.load(result.folder), home).checks["controls_difference"] <= 1e-4


@pytest.mark.slow
def test_a_checkpoint_of_the_first_generation(home: Path) -> None:
    """Its definition of loudness differs, so data sets measured otherwise are refused."""
    write_checkpoint(home / "v1", loudness_model(), first_generation=True)
    import_instrument(home / "v1", "old")
    prepare([home / "takes"], name="mine", workers=1, report=False)
    with pytest.raises(DatasetError) as problem:
        train("mine", preset="quick.yaml", start_from="old")
    assert "loudness a-weighted-2022 against a-weighted-2020" in problem.value.message
    assert "like=NAME" in problem.value.hint
    assert not Path("models/mine").exists()
    result = prepare([home / "takes"], name="mine", workers=1, report=False, like="old", force=True)
    assert result.folder == Path("datasets/mine")
    trained = train_further("old")
    spec = bundle.load_card(trained.folder).features
    assert (spec.loudness, spec.floor_db) == ("a-weighted-2020", -120.0)
    (judged,) = evaluate("mine")
    assert np.isfinite(judged.figures["spectral_loss"])


def test_like_takes_rate_and_loudness(home: Path) -> None:
    write_checkpoint(home / "v1", loudness_model(), first_generation=True)
    import_instrument(home / "v1", "old")
    card = bundle.load_card(Path("models/old"))
    loud = bundle.revise(card, model=small_model(sample_rate_hz=48000))
    bundle.save(Path("models/fast"), loud, bundle.load(Path("models/old")).weights)
    from ddsp_cli.dataset.manifest import load_manifest

    prepare([home / "takes"], name="a", workers=1, report=False, like="fast")
    found = load_manifest(Path("datasets/a"))
    assert (found.sample_rate_hz, found.features.loudness) == (48000, "a-weighted-2020")
    assert found.features.frame_rate_hz == 250
    with pytest.raises(ModelError, match="no instrument called nobody"):
        prepare([home / "takes"], name="b", like="nobody")


def test_judged_by_the_loudness_it_knows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are measured as a performance would be."""
    write_checkpoint(home / "v1", loudness_model(), first_generation=True)
    import_instrument(home / "v1", "old")
    asked = []

    def noted(audio, spec=None):  # type: ignore[no-untyped-def]
        asked.append(spec)
        return measure(audio, spec)

    monkeypatch.setattr("ddsp_cli.workflows.evaluate.measure", noted)
    evaluate("old", audio=[home / "takes" / "take 0.wav"])
    assert {spec.loudness for spec in asked} == {"a-weighted-2020"}
