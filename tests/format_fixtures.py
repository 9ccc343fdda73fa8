"""Instruments of plug-in size and checkpoints of Magenta's make, for tests of exporters and importers."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ModelConfig, ReverbConfig, load_preset
from ddsp_cli.exporters import vst
from ddsp_cli.exporters.litert import TfliteOps
from fixtures import impulse_response, make_card, random_weights, small_model
from hostile import BundleEntry, tensor_index

#: Numbers made by running magenta/ddsp; beside a checkout, not inside it.
GOLDEN = Path(__file__).resolve().parents[1].parent / "shared" / "golden" / "magenta_ckpt"


def in_memory(model: ModelConfig, name: str = "testophone", seed: int = 0, room: bool = True) -> Bundle:
    """An instrument of random weights that is not on disk."""
    weights = random_weights(model, seed)
    response = impulse_response() if room else None
    return Bundle(make_card(model, name), weights, response)


@functools.cache
def plugin_bundle() -> Bundle:
    """An instrument of the size that the plug-in asks for."""
    return in_memory(load_preset("vst").model, "Flöte 1")


class _OtherSpelling(TfliteOps):
    """Writes max(x, slope·x) where a leaky rectifier is meant: the same numbers by a graph that is not known."""

    def leaky_relu(self, x: int, slope: float) -> int:
        return self.binary("maximum", x, self.binary("mul", x, self.constant([[slope]])))


@functools.cache
def unknown_graph() -> bytes:
    """Makes a file with the plug-in's contract that computes the same as `plugin_bundle`, by an unknown graph."""
    with mock.patch.object(vst, "TfliteOps", _OtherSpelling):
        return vst.build(plugin_bundle())[0]


def loudness_model(**changes: Any) -> ModelConfig:
    """A small model in the way of `solo`: loudness, 250 frames a second, overlapping windows, tap-by-tap room."""
    import msgspec

    model = small_model()
    nodes = dict(model.processors)
    nodes["harmonic"] = msgspec.structs.replace(nodes["harmonic"], amp_resample_method="window")
    nodes["reverb"] = ReverbConfig(inputs=["dry"], length_samples=4000)
    changes = {"inputs": ["ld_scaled", "f0_scaled"], "frame_rate_hz": 250, "processors": nodes} | changes
    return msgspec.structs.replace(model, **changes)


GIN = """
import ddsp
import ddsp.training as ddsp2

# Macros:
n_samples = 64000

Autoencoder.decoder = @decoders.RnnFcDecoder()
Autoencoder.encoder = None
Autoencoder.preprocessor = @preprocessing.F0LoudnessPreprocessor()
{generation}
F0LoudnessPreprocessor.time_steps = 1000
exp_sigmoid.exponent = 10.0
FilteredNoise.n_samples = %n_samples
FilteredNoise.scale_fn = @core.exp_sigmoid
FilteredNoise.window_size = 0
FilteredNoise.initial_bias = -5.0
Harmonic.n_samples = %n_samples
Harmonic.sample_rate = 16000
Harmonic.amp_resample_method = 'window'
ProcessorGroup.dag = \\
    [(@synths.Harmonic(), ['amps', 'harmonic_distribution', 'f0_hz']),
     (@synths.FilteredNoise(), ['noise_magnitudes']),
     (@processors.Add(), ['filtered_noise/signal', 'harmonic/signal']),
     (@effects.Reverb(), ['add/signal'])]
Reverb.add_dry = True
Reverb.reverb_length = 4000
RnnFcDecoder.ch = 16
RnnFcDecoder.input_keys = ('ld_scaled', 'f0_scaled')
RnnFcDecoder.layers_per_stack = {layers}
RnnFcDecoder.output_splits = \\
    (('amps', 1), ('harmonic_distribution', 20), ('noise_magnitudes', 17))
RnnFcDecoder.rnn_channels = 16
RnnFcDecoder.rnn_type = 'gru'
"""


STATISTICS = {
    "mean_min_pitch_note": np.float32(60.5),
    "mean_max_pitch_note": np.float32(80.5),
    "mean_pitch_note": 70.0,
    "mean_min_power_note": np.float64(-40.0),
    "mean_max_power_note": -15.0,
    "table": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def write_checkpoint(
    folder: Path, model: ModelConfig, first_generation: bool = False, extra: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Writes a checkpoint with the names and files of magenta/ddsp's training.

    Args:
      folder: is made.
      model: of `loudness_model`.
      first_generation: as magenta/ddsp 1.x wrote it.
      extra: more variables, by their path.

    Returns:
      Its weights by the names of a bundle.
    """
    import tensorflow as tf

    weights = random_weights(model) | {"reverb/ir": impulse_response()}
    root = tf.train.Checkpoint()

    def put(path: str, value: np.ndarray) -> None:
        node: Any = root
        *parents, leaf = path.split("/")
        for name in parents:
            if not hasattr(node, name):
                setattr(node, name, tf.train.Checkpoint())
            node = getattr(node, name)
        setattr(node, leaf, tf.Variable(value))

    for name, value in weights.items():
        put(_magenta_name(name, model), value)
    put("optimizer/iter", np.zeros((), np.int64))
    for name, value in (extra or {}).items():
        put(name, value)
    folder.mkdir(parents=True)
    root.write(str(folder / "ckpt-300"))
    generation = "" if first_generation else "F0LoudnessPreprocessor.compute_loudness = True"
    text = GIN.format(generation=generation, layers=model.decoder.layers_per_stack)
    (folder / "operative_config-0.gin").write_text(text)
    (folder / "dataset_statistics.pkl").write_bytes(pickle.dumps(STATISTICS))
    return weights


def checkpoint_files(model: ModelConfig, changes: dict[str, BundleEntry | None] | None = None) -> dict[str, bytes]:
    """The files of `write_checkpoint`, made without TensorFlow.

    Args:
      model: of `loudness_model`.
      changes: entries of the index by name, in place of those or beside them; None to leave one out.
    """
    weights = random_weights(model) | {"reverb/ir": impulse_response()}
    entries: dict[str, BundleEntry] = {}
    data = b""
    for place, name in weight_places(model).items():
        value = weights[name]
        content = np.ascontiguousarray(value, "<f4").tobytes()
        entries[place] = BundleEntry(value.shape, content, offset=len(data))
        data += content
    text = GIN.format(generation="F0LoudnessPreprocessor.compute_loudness = True", layers=model.sizes.layers_per_stack)
    all_entries = entries | (changes or {})
    return {
        "ckpt-300.index": tensor_index({name: entry for name, entry in all_entries.items() if entry is not None}),
        "ckpt-300.data-00000-of-00001": data,
        "operative_config-0.gin": text.encode(),
        "dataset_statistics.pkl": pickle.dumps(STATISTICS),
    }


def weight_places(model: ModelConfig) -> dict[str, str]:
    """The place of each weight in a checkpoint → its name in a bundle."""
    names = [*random_weights(model), "reverb/ir"]
    return {f"{_magenta_name(name, model)}/.ATTRIBUTES/VARIABLE_VALUE": name for name in names}


def _magenta_name(name: str, model: ModelConfig) -> str:
    """The place of a weight in Magenta's object graph."""
    if name == "reverb/ir":
        return "model/processor_group/reverb/_ir"
    name = name.replace("decoder/rnn/", "decoder/rnn/rnn/cell/")
    parts = name.split("/")
    if "input_stacks" in name:
        parts[2] = str(model.inputs.index(parts[2]))  # type: ignore[arg-type]
    if parts[-2] in {"dense", "norm"}:
        parts[-3:-1] = [f"layer_with_weights-{parts[-3]}", f"layer_with_weights-{'01'[parts[-2] == 'norm']}"]
    return "/".join(["model", *parts])
