"""The engine that learns and every program that plays are programs of one model: they must sound the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ddsp_cli import bundle as bundles
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import HarmonicConfig, ModelConfig, ReverbConfig, load_preset
from ddsp_cli.exporters import litert, onnx, vst
from ddsp_cli.scaling import scale_db, scale_f0
from ddsp_cli.synthesis.decoder import NOTE_BIAS
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.stream import open_decoder
from ddsp_cli.synthesis.synths import white_noise
from fixtures import impulse_response, make_card, small_model

N_FRAMES = 60

INSTRUMENTS = Path(__file__).parents[1] / "models"


def solo_like() -> ModelConfig:
    """250 frames a second, amplitudes crossfaded by windows, a room learned tap by tap."""
    processors = dict(small_model().processors)
    processors["harmonic"] = HarmonicConfig(inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=30)
    processors["reverb"] = ReverbConfig(inputs=["dry"], length_samples=3000)
    return small_model(frame_rate_hz=250, inputs=["ld_scaled", "f0_scaled"], processors=processors)


def permuted(model: ModelConfig, order: str) -> ModelConfig:
    """With the processors in another order the columns change, for engine and player alike."""
    return msgspec.structs.replace(model, processors={name: model.processors[name] for name in order.split()})


def renamed(model: ModelConfig) -> ModelConfig:
    """Signals under other names, two of them under each other's."""
    nodes = dict(model.processors)
    nodes["harmonic"] = msgspec.structs.replace(
        nodes["harmonic"], inputs=["harmonic_distribution", "amplitude", "f0_hz"]
    )
    nodes["noise"] = msgspec.structs.replace(nodes["noise"], inputs=["breath"])
    return msgspec.structs.replace(model, processors=nodes)


def with_note_bias(model: ModelConfig) -> ModelConfig:
    """A bias for each semitone, in columns of another order than that of the plug-in."""
    decoder = msgspec.structs.replace(model.sizes, note_bias=True)
    return msgspec.structs.replace(permuted(model, "noise harmonic dry reverb"), decoder=decoder)


MODELS = {
    "vst": small_model(),
    "solo": solo_like(),
    "noise first": permuted(small_model(), "noise harmonic dry reverb"),
    "room first": permuted(small_model(), "reverb dry noise harmonic"),
    "renamed": renamed(small_model()),
    "note bias": with_note_bias(small_model()),
}


def trained(model: ModelConfig) -> tuple[Any, Bundle]:
    """An engine of random weights, and the instrument that training would make of it."""
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(model, seed=1)
    weights = autoencoder.get_weights_by_name()
    if "reverb/ir" in weights:
        weights["reverb/ir"] = impulse_response(3000)
    if NOTE_BIAS in weights:
        weights[NOTE_BIAS] = np.random.default_rng(2).normal(0.0, 0.5, weights[NOTE_BIAS].shape).astype(np.float32)
    autoencoder.set_weights_by_name(weights)
    return autoencoder, Bundle(make_card(model), weights, autoencoder.impulse_response())


def performance() -> tuple[np.ndarray, np.ndarray]:
    """Upper harmonics pass half the sample rate on the way; [F] in Hz and in dB."""
    return np.linspace(200, 3000, N_FRAMES, dtype=np.float32), np.linspace(-60, -5, N_FRAMES, dtype=np.float32)


def learned(autoencoder: Any, noise: np.ndarray) -> dict[str, Any]:
    """Everything that the engine makes of the performance and of noise [F, H]."""
    f0_hz, level_db = performance()
    scaled = scale_db(level_db)
    curves = {"f0_hz": f0_hz, "f0_scaled": scale_f0(f0_hz), "pw_scaled": scaled, "ld_scaled": scaled}
    inputs = ("f0_hz", *autoencoder.config.inputs)
    features = {name: curves[name][None, :, None].astype(np.float32) for name in inputs}
    return autoencoder(features, given={"noise": {"noise": noise.reshape(1, -1)}})


def load(name: str) -> tuple[Any, Bundle]:
    """A bundled instrument, in the engine as well."""
    from ddsp_cli.engine import Autoencoder

    bundle = bundles.load(INSTRUMENTS / name)
    autoencoder = Autoencoder(bundle.card.model, seed=1)
    autoencoder.set_weights_by_name(bundle.weights)
    return autoencoder, bundle


def difference_db(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return 20 * float(np.log10(np.abs(found - expected).max() / np.abs(expected).max()))


@pytest.mark.parametrize("name", MODELS)
def test_engine_and_players_agree_to_minus_sixty_decibels(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    autoencoder, bundle = trained(model)
    f0_hz, level_db = performance()
    noise = white_noise(np.random.default_rng(3), N_FRAMES, model.hop_samples)
    made = learned(autoencoder, noise)
    wet, dry = (np.asarray(made[signal])[0] for signal in ("audio", "dry"))

    played = np.concatenate(list(Instrument(bundle).render(f0_hz, level_db, seed=3, block_frames=7)))
    assert difference_db(played, wet) < -60

    frames = {"f0_hz": f0_hz, model.level: level_db, "noise": noise}
    hop = model.hop_samples
    (tmp_path / "audio.onnx").write_bytes(onnx.build(bundle, audio=True, room=True)[0])
    by_onnx = onnx.run(tmp_path / "audio.onnx", frames, [20, 40])["audio"]
    assert difference_db(by_onnx[hop:], wet[:-hop]) < -60
    (tmp_path / "audio.tflite").write_bytes(litert.build(bundle, audio=True)[0])
    states = {name: f"next_{name}" for name in ("state", *litert.state_shapes(model))}
    by_litert = litert.Stream(tmp_path / "audio.tflite", states).run(frames)["audio"].reshape(-1)
    assert difference_db(by_litert[hop:], dry[:-hop]) < -60


PLAYED = sorted(path.parent.name for path in INSTRUMENTS.glob("*/model.yaml") if path.parent.name != "base")

#: The highest and the lowest: all bundled instruments are of one kind.
EXTREMES = {"flute", "double_bass"}


@pytest.mark.parametrize(
    "name", ["hifi", *(name if name in EXTREMES else pytest.param(name, marks=pytest.mark.slow) for name in PLAYED)]
)
def test_engine_and_player_agree_on_every_instrument(name: str) -> None:
    """The bundled ones without variation and articulation, which are the player's, and one of random weights at 48 kHz.

    By their energy: rounding decides at which sample a harmonic that crosses half the sample rate falls silent, and one
    that nobody has trained may be loud there.
    """
    autoencoder, bundle = trained(load_preset("hifi").model) if name == "hifi" else load(name)
    noise = white_noise(np.random.default_rng(3), N_FRAMES, bundle.card.model.hop_samples)
    instrument = Instrument(bundle)
    played = np.concatenate(list(instrument.render(*performance(), seed=3, variation=False, articulation=False)))
    expected = np.asarray(learned(autoencoder, noise)["audio"])[0]
    assert played.shape == expected.shape
    assert 10 * np.log10(np.sum((played - expected) ** 2) / np.sum(expected**2)) < -70


@pytest.mark.parametrize("order", ["harmonic noise dry reverb", "noise harmonic reverb dry"])
def test_the_plugin_gets_the_engines_controls(order: str, tmp_path: Path) -> None:
    """The export itself compares the file with the NumPy player, which is compared with the engine here."""
    model = permuted(load_preset("light").model, order)
    autoencoder, bundle = trained(model)
    assert vst.export(bundle, tmp_path).checks["controls_difference"] <= 1e-5
    made = learned(autoencoder, np.zeros((N_FRAMES, model.hop_samples), np.float32))
    controls = open_decoder(bundle).controls(*performance())
    for control, processor in (("amplitude", "harmonic"), ("harmonic_distribution", "harmonic"),
                               ("noise_magnitudes", "noise")):  # fmt: skip
        np.testing.assert_allclose(controls[control], np.asarray(made[f"{processor}/{control}"])[0], atol=1e-5)
