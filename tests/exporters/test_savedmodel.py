"""SavedModel: written, reopened, compared; both generations of presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import EncoderConfig, ModelConfig
from fixtures import impulse_response, make_card, small_model
from format_fixtures import loudness_model


def timbre_model() -> ModelConfig:
    """With an encoder."""
    encoder = EncoderConfig(z_dims=3, rnn_units=8, n_mfccs=6)
    return small_model(inputs=["pw_scaled", "f0_scaled", "z"], encoder=encoder)


def noise_first() -> ModelConfig:
    """Whose decoder puts out the noise before the harmonics."""
    nodes = small_model().processors
    return small_model(processors={name: nodes[name] for name in ("noise", "harmonic", "dry", "reverb")})


def trained(model: ModelConfig) -> Bundle:
    """An instrument as training leaves it: weights of the room and the response they make."""
    from ddsp_cli import backend

    backend.load()
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(model, seed=0)
    weights = autoencoder.get_weights_by_name()
    if "reverb/ir" in weights:
        weights["reverb/ir"] = impulse_response()
        autoencoder.set_weights_by_name(weights)
    return Bundle(make_card(model), weights, autoencoder.impulse_response())


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_model, loudness_model, timbre_model, noise_first])
def test_agrees(make: Callable[[], ModelConfig], tmp_path: Path) -> None:
    import tensorflow as tf

    from ddsp_cli.exporters import savedmodel

    model = make()
    found = savedmodel.export(trained(model), tmp_path)
    assert found.checks["audio_difference_db"] <= -60
    assert found.checks["controls_difference"] <= 1e-4
    signatures: Any = tf.saved_model.load(str(tmp_path)).signatures
    assert {*signatures} >= {*found.contract}
    curves = {"f0_hz": tf.fill((2, 12), 440.0), model.level: tf.fill((2, 12), -20.0)}
    if model.encoder:
        curves["z"] = signatures["encode"](sound=tf.random.normal((2, 12 * 320)))["z"]
        assert curves["z"].shape == (2, 12, 3)
    audio = signatures["serving_default"](**curves)["audio"].numpy()
    assert audio.shape == (2, 12 * model.hop_samples)
    assert np.isfinite(audio).all()
