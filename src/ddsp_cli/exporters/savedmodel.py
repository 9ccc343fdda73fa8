"""TensorFlow SavedModel: the whole instrument with three signatures. Shapes: B batch, F frames, S = F·hop samples.

    serving_default   f0_hz [B, F], level [B, F]                     → audio [B, S]; new noise at each call
    audio_from_noise  f0_hz, level, noise [B, S] in [-1, 1)          → audio [B, S]; the same at each call
    controls          f0_hz, level                                   → amplitude [B, F, 1], harmonic_distribution
                                                                       [B, F, K], noise_magnitudes [B, F, M]

`level` has the name of the measure that drives the model, `power_db` or `loudness_db`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.errors import ModelError, OutputError

#: The reopened model must differ from the bundle by less than this, relative to the loudest sample.
TOLERANCE_DB = -60.0
CHECKED_FRAMES = 200


def export(bundle: Bundle, folder: Path) -> dict[str, float]:
    """Writes a SavedModel into `folder`, reopens it and compares its audio with the runtime's.

    Returns:
      `audio_difference_db`: peak difference relative to the peak of the audio.

    Raises:
      ModelError: TensorFlow is not the Keras backend.
      OutputError: the file cannot be written, or what was written does not sound like the bundle.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    if keras.config.backend() != "tensorflow":
        raise ModelError(
            f"a SavedModel needs the TensorFlow backend, Keras runs on {keras.config.backend()}",
            "Run it with KERAS_BACKEND=tensorflow.",
        )
    module = _module(bundle)
    signatures = {
        "serving_default": module.audio,
        "audio_from_noise": module.audio_from_noise,
        "controls": module.controls,
    }
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except (OSError, tf.errors.OpError) as problem:
        raise OutputError(f"{folder} cannot be written: {problem}") from problem
    difference_db = _difference_db(bundle, tf.saved_model.load(str(folder)))
    if not difference_db <= TOLERANCE_DB:
        raise OutputError(f"the exported model differs from the instrument by {difference_db:.1f} dB; nothing was kept")
    return {"audio_difference_db": round(difference_db, 1), "checked_frames": float(CHECKED_FRAMES)}


def _module(bundle: Bundle) -> Any:
    import tensorflow as tf

    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.formulas import scale_db, scale_f0

    config = bundle.card.model
    level = config.level
    harmonic = config.only(HarmonicConfig)
    noise = config.only(FilteredNoiseConfig)
    if harmonic is None or noise is None:
        raise ModelError("this export takes instruments with one Harmonic and one FilteredNoise")
    model = Autoencoder(config, seed=0)
    model.set_weights_by_name(bundle.weights)
    frames = tf.TensorSpec((None, None), tf.float32, name="f0_hz")
    levels = tf.TensorSpec((None, None), tf.float32, name=level)
    samples = tf.TensorSpec((None, None), tf.float32, name="noise")

    def features(f0_hz: Any, level_db: Any) -> dict[str, Any]:
        from keras import ops

        scaled = scale_db(level_db)[..., None]
        values = {"f0_scaled": scale_f0(f0_hz, ops)[..., None], "pw_scaled": scaled, "ld_scaled": scaled}
        return {name: values[name] for name in config.inputs} | {"f0_hz": f0_hz[..., None]}

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__(name="ddsp_instrument")
            self.model = model
            # TensorFlow only saves what it can reach by attributes, and Keras keeps random state elsewhere.
            self.state = [variable.value for variable in model.variables]

        @tf.function(input_signature=[frames, levels])
        def audio(self, f0_hz: Any, level_db: Any) -> dict[str, Any]:
            return {"audio": self.model(features(f0_hz, level_db))["audio"]}

        @tf.function(input_signature=[frames, levels, samples])
        def audio_from_noise(self, f0_hz: Any, level_db: Any, noise_samples: Any) -> dict[str, Any]:
            given = {noise[0]: {"noise": noise_samples}}
            return {"audio": self.model(features(f0_hz, level_db), given=given)["audio"]}

        @tf.function(input_signature=[frames, levels])
        def controls(self, f0_hz: Any, level_db: Any) -> dict[str, Any]:
            found = self.model(features(f0_hz, level_db))
            return {
                "amplitude": found[f"{harmonic[0]}/amplitude"],
                "harmonic_distribution": found[f"{harmonic[0]}/harmonic_distribution"],
                "noise_magnitudes": found[f"{noise[0]}/noise_magnitudes"],
            }

    return Module()


def _difference_db(bundle: Bundle, reopened: Any) -> float:
    """Peak difference between the reopened model and the runtime on one test phrase, in dB of the runtime's peak."""
    import tensorflow as tf

    from ddsp_cli.runtime.instrument import Instrument
    from ddsp_cli.runtime.synthesis import white_noise

    config = bundle.card.model
    statistics = bundle.card.statistics
    swing = np.sin(np.linspace(0, 6 * np.pi, CHECKED_FRAMES))
    pitch_midi = np.interp(50 + 40 * swing, np.arange(101), statistics.pitch_midi)
    level_db = np.interp(60 + 35 * swing[::-1], np.arange(101), statistics.level(config.level)).astype(np.float32)
    f0_hz = (440 * 2 ** ((pitch_midi - 69) / 12)).astype(np.float32)
    expected = np.concatenate(list(Instrument(bundle).render(f0_hz, level_db, seed=0)))
    noise = white_noise(np.random.default_rng(0), CHECKED_FRAMES, config.hop_samples).reshape(1, -1)
    values = {"f0_hz": f0_hz[None], config.level: level_db[None], "noise": noise}
    found = reopened.signatures["audio_from_noise"](**{name: tf.constant(value) for name, value in values.items()})
    difference = np.abs(found["audio"].numpy()[0] - expected).max() / max(np.abs(expected).max(), 1e-9)
    return float(20 * np.log10(max(difference, 1e-9)))
