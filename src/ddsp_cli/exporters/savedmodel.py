"""TensorFlow SavedModel: the whole instrument, a signature for each use. Shapes: B batch, F frames, S = F·hop samples.

    serving_default   f0_hz [B, F], level [B, F]                     → audio [B, S]; new noise at each call
    audio_from_noise  f0_hz, level, noise [B, S] in [-1, 1)          → audio [B, S]; the same at each call
    controls          f0_hz, level                                   → amplitude [B, F, 1], harmonic_distribution
                                                                       [B, F, K], noise_magnitudes [B, F, M]

`level` has the name of the measure that drives the model, `power_db` or `loudness_db`. An instrument with an encoder of
timbre takes its latent as one input more, `z` [B, F, Z], and has a signature that makes it:

    encode            sound [B, F·hop at 16 kHz]                     → z [B, F, Z]
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ddsp_cli import backend
from ddsp_cli.analysis import mfcc
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ, FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.errors import ModelError, OutputError
from ddsp_cli.exporters import checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import synthesisers


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes a SavedModel into `folder`, reopens it and compares its sound and controls with the player's.

    Raises:
      ModelError: TensorFlow is not the Keras backend.
      OutputError: the file cannot be written, or does not agree with the bundle.
    """
    name = backend.load()
    import tensorflow as tf

    if name != "tensorflow":
        raise ModelError(
            f"a SavedModel needs the TensorFlow backend, Keras runs on {name}",
            "Run it with KERAS_BACKEND=tensorflow.",
        )
    synthesisers(bundle.card.model)  # checked before seconds of work
    module = _module(bundle)
    signatures = {
        "serving_default": module.audio,
        "audio_from_noise": module.audio_from_noise,
        "controls": module.controls,
    }
    if bundle.card.model.encoder:
        signatures["encode"] = module.encode
    # A player needs no gradients, and those of the recurrence cannot be traced without a length.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures, options=options)
    except (OSError, tf.errors.OpError) as problem:
        raise OutputError(f"{folder} cannot be written: {problem}") from problem
    write_impulse_responses(bundle, folder)
    logging.getLogger("absl").setLevel(logging.ERROR)  # it would warn of the gradients left out on purpose
    measured = _compare(bundle, tf.saved_model.load(str(folder)))
    return checks.Exported(measured | {"checked_frames": float(checks.CHECKED_FRAMES)}, _contract(bundle))


def _module(bundle: Bundle) -> Any:
    import tensorflow as tf

    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.scaling import scale_db, scale_f0

    config = bundle.card.model
    level = config.level
    harmonic = config.only(HarmonicConfig)
    noise = config.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    harmonic_name, noise_name = harmonic[0], noise[0]
    model = Autoencoder(config, seed=0)
    model.set_weights_by_name(bundle.weights)
    curves = [tf.TensorSpec((None, None), tf.float32, name=name) for name in ("f0_hz", level)]
    if config.encoder:
        curves.append(tf.TensorSpec((None, None, config.encoder.z_dims), tf.float32, name="z"))
    samples = tf.TensorSpec((None, None), tf.float32, name="noise")

    def features(f0_hz: Any, level_db: Any, *z: Any) -> dict[str, Any]:
        from keras import ops

        scaled = scale_db(level_db)[..., None]
        values = {"f0_scaled": scale_f0(f0_hz, ops)[..., None], "pw_scaled": scaled, "ld_scaled": scaled}
        values |= dict(zip(("z",), z, strict=False))
        return {name: values[name] for name in config.inputs} | {"f0_hz": f0_hz[..., None]}

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__(name="ddsp_instrument")
            self.model = model
            # TensorFlow only saves objects that it reaches by attributes, and Keras keeps random state elsewhere.
            self.state = [variable.value for variable in model.variables]

        @tf.function(input_signature=curves)
        def audio(self, *given: Any) -> dict[str, Any]:
            return {"audio": self.model(features(*given))["audio"]}

        @tf.function(input_signature=[*curves, samples])
        def audio_from_noise(self, *given: Any) -> dict[str, Any]:
            *wanted, noise_samples = given
            return {"audio": self.model(features(*wanted), given={noise_name: {"noise": noise_samples}})["audio"]}

        @tf.function(input_signature=curves)
        def controls(self, *given: Any) -> dict[str, Any]:
            found = self.model(features(*given))
            return {
                "amplitude": found[f"{harmonic_name}/amplitude"],
                "harmonic_distribution": found[f"{harmonic_name}/harmonic_distribution"],
                "noise_magnitudes": found[f"{noise_name}/noise_magnitudes"],
            }

    if not config.encoder or model.encoder is None:
        return Module()
    encoder, n_mfccs = model.encoder, config.encoder.n_mfccs

    class Encoding(Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, name="sound")])
        def encode(self, sound: Any) -> dict[str, Any]:
            return {"z": encoder(_mfcc(sound, config.frame_rate_hz, n_mfccs))}

    return Encoding()


def _mfcc(sound: Any, frame_rate_hz: int, n_mfccs: int) -> Any:
    """Computes `analysis.mfcc` of sound [B, S] whose length is not known while the graph is built."""
    import tensorflow as tf

    hop = ANALYSIS_RATE_HZ // frame_rate_hz
    bands, cosines = mfcc.matrices(n_mfccs)
    half = mfcc.WINDOW_SAMPLES // 2
    windows = tf.signal.frame(tf.pad(sound, [[0, 0], [half, half + hop]]), mfcc.WINDOW_SAMPLES, hop)
    windows = windows[:, : -(-tf.shape(sound)[1] // hop)] * tf.signal.hann_window(mfcc.WINDOW_SAMPLES)
    return tf.math.log(tf.maximum(tf.abs(tf.signal.rfft(windows)) @ bands, mfcc.FLOOR)) @ cosines


def _compare(bundle: Bundle, reopened: Any) -> dict[str, float]:
    """Compares the reopened model with the player on the test phrase."""
    import tensorflow as tf

    played, level = checks.phrase(bundle), bundle.card.model.level
    frames = {"f0_hz": tf.constant(played.f0_hz[None]), level: tf.constant(played.level_db[None])}
    if bundle.card.model.encoder:
        frames["z"] = reopened.signatures["encode"](sound=tf.constant(played.sound[None]))["z"]
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
    harmonic, noise = synthesisers(bundle.card.model)
    frames: dict[str, list[Any]] = {"f0_hz": ["batch", "frames"], bundle.card.model.level: ["batch", "frames"]}
    encoder = bundle.card.model.encoder
    z: dict[str, list[Any]] = {"z": ["batch", "frames", encoder.z_dims]} if encoder else {}
    frames |= z
    audio = {"audio": ["batch", "samples"]}
    controls = {
        "amplitude": ["batch", "frames", 1],
        "harmonic_distribution": ["batch", "frames", harmonic.n_harmonics],
        "noise_magnitudes": ["batch", "frames", noise.n_bands],
    }
    encode = {"encode": {"inputs": {"sound": ["batch", "samples"]}, "outputs": z}} if encoder else {}
    return encode | {
        "serving_default": {"inputs": frames, "outputs": audio},
        "audio_from_noise": {"inputs": frames | {"noise": ["batch", "samples"]}, "outputs": audio},
        "controls": {"inputs": frames, "outputs": controls},
    }
