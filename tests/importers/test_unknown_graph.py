"""Plug-in models whose graph is not known: run as they are, and refused where running them makes no sound."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from ddsp_cli import bundle, importers
from ddsp_cli.config import HarmonicConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import checks, vst
from ddsp_cli.exporters.litert import TfliteOps
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.litert_decoder import INPUTS, OUTPUTS, LiteRtDecoder
from ddsp_cli.workflows import evaluate, models, train_plan
from ddsp_cli.workflows.export import export
from ddsp_cli.workflows.import_ import import_instrument
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import impulse_response, melody
from format_fixtures import plugin_bundle, unknown_graph


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "Strange flöte.tflite"
    path.write_bytes(unknown_graph())
    return path


def test_plays_what_it_was_made_from(model: Path) -> None:
    """Another spelling of the same network gives the same controls, for any block sizes."""
    found = importers.read(model)[0]
    assert found.network == model.read_bytes()
    assert found.card.model.decoder is None
    assert "unknown graph" in found.card.description
    played = checks.phrase(plugin_bundle())
    expected = checks.expected_controls(plugin_bundle(), played)
    for name, value in checks.expected_controls(found, played).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
    network = LiteRtDecoder(unknown_graph())
    parts = [network.controls(played.f0_hz[i : i + 1], played.level_db[i : i + 1]) for i in range(20)]
    at_once = LiteRtDecoder(unknown_graph()).controls(played.f0_hz[:20], played.level_db[:20])
    for name, value in at_once.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)


def test_import_plays_judges_and_goes_back(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "reverb_ir_16000_hz.wav", impulse_response(), 16000, subtype="FLOAT")
    result = import_instrument(model, "strange")
    assert "file itself" in result.description
    assert {path.name for path in result.folder.iterdir()} == {"model.yaml", "network.tflite", "impulse_response.wav"}
    loaded = bundle.load(result.folder)
    assert (loaded.card.model.decoder, loaded.network, loaded.weights) == (None, unknown_graph(), {})
    soundfile.write(tmp_path / "voice.wav", melody(), 16000)
    for given, name in (("strange", "a.wav"), (str(model), "b.wav")):
        transfer_files([tmp_path / "voice.wav"], given, out=tmp_path / name)
    sound = [soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav")]
    np.testing.assert_array_equal(*sound)
    assert np.abs(sound[0]).max() > 0.01
    (judged,) = evaluate.evaluate("strange", audio=[tmp_path / "voice.wav"])
    assert np.isfinite(judged.figures["spectral_loss"])
    exported = export("strange", "vst")
    assert exported.checks["controls_difference"] <= 1e-6
    written = exported.folder / "strange.tflite"
    assert written.read_bytes()[: len(unknown_graph())] == unknown_graph()
    again = import_instrument(exported.folder, "again")
    assert bundle.load(again.folder).card.statistics == loaded.card.statistics


@pytest.mark.parametrize("kind", ["litert", "onnx", "savedmodel"])
def test_cannot_be_written_in_another_format(kind: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown graph"):
        export(str(model), kind, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cannot_be_trained_on(model: Path) -> None:
    with pytest.raises(ModelError, match="unknown graph"):
        train_plan.make_plan("mine", None, "vst", 1, None, 0, model)


def built(**changes: Callable[[TfliteOps], int]) -> bytes:
    """Makes a file with the contract that computes constants only, with some outputs changed."""
    ops = TfliteOps()
    given = {name: ops.input(name, (size,)) for name, size in INPUTS.items()}
    makers = dict(zip(("amplitude", "harmonics", "noise", "state"), OUTPUTS, strict=True))
    for role, name in makers.items():
        size = OUTPUTS[name]
        value = changes[role](ops) if role in changes else ops.constant(np.full(size, 1 / size))
        nothing = ops.binary("mul", given["call_f0_scaled:0"], ops.constant([0.0]))  # a graph has to hang together
        ops.output(name, ops.binary("add", value, nothing), (size,))
    return ops.finish("nothing")


def test_the_least_of_networks_plays(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(built())
    found = importers.read(tmp_path / "x.tflite")[0]
    audio = np.concatenate(list(Instrument(found).render(np.full(9, 440.0), np.full(9, -20.0))))
    assert audio.shape == (9 * 320,)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            lambda: built(noise=lambda ops: ops.constant(np.full(65, np.nan))),
            "magnitudes contains NaN or infinity",
        ),
        (lambda: built(amplitude=lambda ops: ops.constant([-1.0])), "amplitude falls below 0"),
        (lambda: built(harmonics=lambda ops: ops.constant(np.ones(60))), "add up to more than 1"),
        (lambda: vst.build(plugin_bundle())[0].replace(b"call_state:0", b"call_stage:0"), "call_stage:0"),
        (lambda: unknown_graph()[:-4000], "damaged"),
    ],
)
def test_what_cannot_be_played_is_one_sentence(content: Callable[[], bytes], why: str, tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(content())
    with pytest.raises(ModelError) as problem:
        import_instrument(tmp_path / "x.tflite", "x", out=tmp_path / "x")
    assert str(tmp_path / "x.tflite") in problem.value.message
    assert why in problem.value.message
    assert not (tmp_path / "x").exists()


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    ops = TfliteOps()
    given = [ops.input(name, (256 if "state" in name else size,)) for name, size in INPUTS.items()]
    for name, size in OUTPUTS.items():
        ops.output(name, ops.binary("add", given[0], ops.constant(np.zeros(size))), (size,))
    (tmp_path / "x.tflite").write_bytes(ops.finish("small"))
    with pytest.raises(ModelError, match=r"takes .*call_state:0 \[256\], not .*call_state:0 \[512\]"):
        importers.read(tmp_path / "x.tflite")[0]


def test_nan_and_infinity_are_silent() -> None:
    """As in the plug-in: one harmonic that is no number silences the frame's tone."""
    content = built(harmonics=lambda ops: ops.constant([np.nan] + [0.0] * 59))
    found = LiteRtDecoder(content).controls(np.array([440.0]), np.array([-20.0]))
    assert not found["amplitude"].any()
    assert not found["harmonic_distribution"].any()
    assert found["noise_magnitudes"].all()


def test_without_litert_is_one_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_instrument(model, "strange")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else find(name))
    for use in (lambda: importers.read(model)[0], lambda: Instrument(bundle.load(Path("models/strange")))):
        with pytest.raises(ModelError) as problem:
            use()
        assert "pip install ai-edge-litert" in problem.value.hint


def test_a_network_that_was_put_into_a_bundle_is_tried_as_well(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is tried in a separate process before it is opened: a hostile bundle has valid checksums."""
    folder = import_instrument(model, "strange").folder
    loud = built(harmonics=lambda ops: ops.constant(np.ones(60)))
    bundle.save(folder, bundle.load_card(folder), {}, network=loud, force=True)
    monkeypatch.setattr(LiteRtDecoder, "__init__", lambda *args: pytest.fail("it was opened"))
    with pytest.raises(ModelError, match=r"network\.tflite cannot be played: its harmonics add up to more than 1"):
        models.open_at(models.find_playable("strange"))


@pytest.mark.parametrize("change", [{"sample_rate_hz": 48000}, {"frame_rate_hz": 250}, {"n_harmonics": 100}])
def test_a_card_that_does_not_fit_the_file_is_refused(change: dict[str, Any], model: Path) -> None:
    found = importers.read(model)[0]
    config = found.card.model
    if "n_harmonics" in change:
        nodes = {name: node for name, node in config.processors.items() if isinstance(node, HarmonicConfig)}
        changed = {name: msgspec.structs.replace(node, **change) for name, node in nodes.items()}
        change = {"processors": config.processors | changed}
    card = bundle.revise(found.card, model=msgspec.structs.replace(config, **change))
    with pytest.raises(ModelError, match="60 harmonics and 65 noise bands"):
        Instrument(dataclasses.replace(found, card=card))


def test_a_damaged_network_is_noticed(model: Path) -> None:
    folder = import_instrument(model, "strange").folder
    content = bytearray(unknown_graph())
    content[-1] ^= 1
    (folder / bundle.NETWORK).write_bytes(content)
    with pytest.raises(ModelError, match=r"network\.tflite is missing or damaged"):
        bundle.load(folder)
