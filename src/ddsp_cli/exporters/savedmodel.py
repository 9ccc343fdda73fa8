"""TensorFlow SavedModel: the whole instrument with three signatures. Shapes: B batch, F frames, S = F·hop samples.

    serving_default   f0_hz [B, F], level [B, F]                     → audio [B, S]; new noise at each call
    audio_from_noise  f0_hz, level, noise [B, S] in [-1, 1)          → audio [B, S]; the same at each call
    controls          f0_hz, level                                   → amplitude [B, F, 1], harmonic_distribution
                                                                       [B, F, K], noise_magnitudes [B, F, M]

`level` has the name of the measure that drives the model, `power_db` or `loudness_db`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ddsp_cli import backend
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.errors import ModelError, OutputError
from ddsp_cli.exporters import checks, impulse
from ddsp_cli.exporters.graph import synths


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes a SavedModel into `folder`, reopens it and compares its audio and controls with the runtime's.

    Raises:
      ModelError: TensorFlow is not the Keras backend.
      OutputError: the file cannot be written, or what was written does not sound like the bundle.
    """
    name = backend.load()
    import tensorflow as tf

    if name != "tensorflow":
        raise ModelError(
            f"a SavedModel needs the TensorFlow backend, Keras runs on {name}",
            "Run it with KERAS_BACKEND=tensorflow.",
        )
    synths(bundle.card.model)  # said before seconds of work
    module = _module(bundle)
    signatures = {
        "serving_default": module.audio,
        "audio_from_noise": module.audio_from_noise,
        "controls": module.controls,
    }
    # A player needs no gradients, and those of the recurrence cannot be traced without a length.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures, options=options)
    except (OSError, tf.errors.OpError) as problem:
        raise OutputError(f"{folder} cannot be written: {problem}") from problem
    impulse.write(bundle, folder)
    logging.getLogger("absl").setLevel(logging.ERROR)  # it would warn of the gradients left out on purpose
    measured = _compare(bundle, tf.saved_model.load(str(folder)))
    return checks.Exported(measured | {"checked_frames": float(checks.CHECKED_FRAMES)}, _contract(bundle))


def _module(bundle: Bundle) -> Any:
    import tensorflow as tf

    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.formulas import scale_db, scale_f0

    config = bundle.card.model
    level = config.level
    harmonic = config.only(HarmonicConfig)
    noise = config.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    harmonic_name, noise_name = harmonic[0], noise[0]
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
            given = {noise_name: {"noise": noise_samples}}
            return {"audio": self.model(features(f0_hz, level_db), given=given)["audio"]}

        @tf.function(input_signature=[frames, levels])
        def controls(self, f0_hz: Any, level_db: Any) -> dict[str, Any]:
            found = self.model(features(f0_hz, level_db))
            return {
                "amplitude": found[f"{harmonic_name}/amplitude"],
                "harmonic_distribution": found[f"{harmonic_name}/harmonic_distribution"],
                "noise_magnitudes": found[f"{noise_name}/noise_magnitudes"],
            }

    return Module()


def _compare(bundle: Bundle, reopened: Any) -> dict[str, float]:
    """The reopened model against the runtime on the test phrase."""
    import tensorflow as tf

    played, level = checks.phrase(bundle), bundle.card.model.level
    frames = {"f0_hz": tf.constant(played.f0_hz[None]), level: tf.constant(played.level_db[None])}
    noise = tf.constant(played.noise.reshape(1, -1))
    controls = {name: value.numpy() for name, value in reopened.signatures["controls"](**frames).items()}
    expected = checks.expected_controls(bundle, played)
    del expected["state"]
    audio = reopened.signatures["audio_from_noise"](**frames, noise=noise)["audio"].numpy()[0]
    return {
        "controls_difference": checks.controls_difference(controls, expected),
        "audio_difference_db": checks.audio_difference_db(audio, checks.expected_audio(bundle, played, room=True)),
    }


def _contract(bundle: Bundle) -> dict[str, Any]:
    harmonic, noise = synths(bundle.card.model)
    frames = {"f0_hz": ["batch", "frames"], bundle.card.model.level: ["batch", "frames"]}
    audio = {"audio": ["batch", "samples"]}
    controls = {
        "amplitude": ["batch", "frames", 1],
        "harmonic_distribution": ["batch", "frames", harmonic.n_harmonics],
        "noise_magnitudes": ["batch", "frames", noise.n_bands],
    }
    return {
        "serving_default": {"inputs": frames, "outputs": audio},
        "audio_from_noise": {"inputs": frames | {"noise": ["batch", "samples"]}, "outputs": audio},
        "controls": {"inputs": frames, "outputs": controls},
    }
