"""Small synthetic instruments and performances for tests: random weights, seconds of sine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.config import (
    DecoderConfig,
    FeatureSpec,
    FilteredNoiseConfig,
    FilteredNoiseReverbConfig,
    HarmonicConfig,
    ModelConfig,
    load_preset,
)
from ddsp_cli.scaling import N_NOTES


def small_model(**changes: Any) -> ModelConfig:
    """The vst graph with a network of a few hundred weights."""
    import msgspec

    model = load_preset("vst").model
    processors = dict(model.processors)
    processors["harmonic"] = HarmonicConfig(
        inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=20, amp_resample_method="linear"
    )
    processors["noise"] = FilteredNoiseConfig(inputs=["noise_magnitudes"], n_bands=17)
    processors["reverb"] = FilteredNoiseReverbConfig(inputs=["dry"], length_samples=4000)
    changes = {
        "decoder": DecoderConfig(channels=16, rnn_units=16, layers_per_stack=1),
        "processors": processors,
    } | changes
    return msgspec.structs.replace(model, **changes)


def random_weights(model: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Decoder weights with the names and shapes that a bundle has."""
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def normal(name: str, *shape: int) -> None:
        weights[name] = (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    def stack(name: str, n_in: int) -> int:
        for j in range(model.decoder.layers_per_stack):
            normal(f"{name}/{j}/dense/kernel", n_in, model.decoder.channels)
            n_in = model.decoder.channels
            weights[f"{name}/{j}/dense/bias"] = random.normal(size=n_in).astype(np.float32) * 0.1
            weights[f"{name}/{j}/norm/gamma"] = np.ones(n_in, np.float32)
            weights[f"{name}/{j}/norm/beta"] = random.normal(size=n_in).astype(np.float32) * 0.1
        return n_in

    units = model.decoder.rnn_units
    n_stacked = sum(stack(f"decoder/input_stacks/{name}", 1) for name in model.inputs)
    normal("decoder/rnn/kernel", n_stacked, 3 * units)
    normal("decoder/rnn/recurrent_kernel", units, 3 * units)
    weights["decoder/rnn/bias"] = random.normal(size=(2, 3 * units)).astype(np.float32) * 0.1
    n_out_in = stack("decoder/out_stack", n_stacked + units)
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    n_out = (1 + harmonic[1].n_harmonics if harmonic else 0) + (noise[1].n_bands if noise else 0)
    normal("decoder/dense_out/kernel", n_out_in, n_out)
    weights["decoder/dense_out/bias"] = np.zeros(n_out, np.float32)
    if model.decoder.note_bias:
        weights["decoder/note_bias"] = np.zeros((N_NOTES, n_out), np.float32)
    return weights


def make_card(model: ModelConfig, name: str = "testophone", **changes: Any) -> bundle.Card:
    """A card whose instrument played from C4 to C6, at -45 to -10 dB."""
    return bundle.Card(
        **{
            "format": bundle.FORMAT_VERSION,
            "name": name,
            "description": "random weights",
            "licence": "CC0-1.0",
            "model": model,
            "features": FeatureSpec(),
            "statistics": bundle.Statistics(
                pitch_midi=np.linspace(60.0, 84.0, 101).tolist(),
                loudness_db=np.linspace(-40.0, 0.0, 101).tolist(),
                power_db=np.linspace(-45.0, -10.0, 101).tolist(),
                note_s=60.0,
            ),
            "training": bundle.TrainingRecord(preset="vst", steps=0, seed=0),
        }
        | changes
    )


def impulse_response(n_samples: int = 4000, seed: int = 1) -> np.ndarray:
    """Makes decaying noise that is 0 at sample 0, [S] float32."""
    t = np.arange(n_samples)
    response = np.random.default_rng(seed).normal(size=n_samples) * np.exp(-6.0 * t / n_samples) * 0.02
    response[0] = 0.0
    return response.astype(np.float32)


def make_bundle(folder: Path, model: ModelConfig | None = None, seed: int = 0, **card: Any) -> bundle.Bundle:
    """Writes an instrument of random weights into `folder` and loads it from there."""
    model = model or small_model()
    bundle.save(
        folder,
        make_card(model, name=folder.name, **card),
        random_weights(model, seed),
        impulse_response(),
        force=True,
    )
    return bundle.load(folder)


def melody(
    notes_midi: tuple[float, ...] = (57, 60, 64), note_s: float = 0.5, rest_s: float = 0.3, rate_hz: int = 16000,
    rolloff: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Notes of five harmonics k of amplitude k**-rolloff between rests, starting and ending in one; [S] float32."""
    rest = np.zeros(round(rest_s * rate_hz))
    t = np.arange(round(note_s * rate_hz)) / rate_hz
    fade = np.minimum(1.0, np.minimum(t, t[::-1]) / 0.03)
    parts = [rest]
    for i, note in enumerate(notes_midi):
        f0 = 440.0 * 2.0 ** ((note - 69.0) / 12.0)
        tone = sum(np.sin(2.0 * np.pi * k * f0 * t) / k**rolloff for k in range(1, 6))
        parts += [0.1 * (1 + i) * tone * fade, rest]
    return np.concatenate(parts).astype(np.float32)
