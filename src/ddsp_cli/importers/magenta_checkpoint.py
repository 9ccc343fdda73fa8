"""A checkpoint of magenta/ddsp as an instrument.

    ckpt-N.index, ckpt-N.data-…    the weights, in TensorFlow's own format (`tensor_bundle`)
    operative_config-N.gin         the model: sizes, order of inputs, processors (`gin`)
    dataset_statistics.pkl         statistics of the recordings; may be missing (`pickles`)

Weights are matched by their place in the object graph and by shape; a weight of the model that is not understood is
an error.

Two generations measure loudness differently (facts in `analysis.loudness`): since 2.0 `F0LoudnessPreprocessor` has the
parameter `compute_loudness`, which its operative configuration therefore names; models without it are of the first
generation, trained on A-weighted decibels averaged over bins and scaled by 120 dB instead of 80.

Source: magenta/ddsp 3.7.0, training/decoders.py, training/preprocessing.py, effects.py, and its gin files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import (
    FeatureSpec,
    FilteredNoiseConfig,
    FilteredNoiseReverbConfig,
    HarmonicConfig,
    ModelConfig,
    ReverbConfig,
    explain,
)
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import card, gin, pickles, tensor_bundle
from ddsp_cli.importers.files import Files
from ddsp_cli.importers.gin import GinConfig, Reference
from ddsp_cli.scaling import CONTROL_FLOOR, DB_RANGE, MAX_AMPLITUDE
from ddsp_cli.synthesis.synths import FilteredNoise

STATISTICS = "dataset_statistics.pkl"
MAX_GIN_BYTES = 4 * gin.MAX_CHARACTERS
_INDEX = re.compile(r"(?P<prefix>(?!\.).*ckpt-(?P<step>\d{1,9}))\.index")
_WANTED = re.compile(r"(?!\.)(.*ckpt-\d+\.(index|data-\d{5}-of-\d{5})|.*\.gin|dataset_statistics\.pkl)")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
#: Variables that only training needs.
_IGNORED = re.compile(
    r"(^|/)(optimizer|save_counter|step|global_step|_CHECKPOINTABLE_OBJECT_GRAPH)(/|$)|OPTIMIZER_SLOT"
)

_LAYER = r"layer_with_weights-(?P<layer>\d+)/layer_with_weights-(?P<part>[01])/(?P<kind>kernel|bias|gamma|beta)"
_PLACES = {
    re.compile(rf"(.*/)?decoder/input_stacks/(?P<stack>\d+)/{_LAYER}"): "input",
    re.compile(rf"(.*/)?decoder/out_stack/{_LAYER}"): "out",
    re.compile(r"(.*/)?decoder/rnn/(rnn/)?(cell/)?(?P<kind>kernel|recurrent_kernel|bias)"): "rnn",
    re.compile(r"(.*/)?decoder/dense_out/(dense/)?(?P<kind>kernel|bias)"): "dense_out",
    re.compile(r"(.*/)?processor_group/([^/]*/)*_?(?P<kind>ir|magnitudes)"): "room",
}

FIRST_RANGE_DB = 120.0
FIRST_WINDOW_SAMPLES = 2048
_SPLITS = ("amps", "harmonic_distribution", "noise_magnitudes")
_INPUTS = {"ld_scaled", "pw_scaled", "f0_scaled"}

#: Settings that a checkpoint may name, with the values that the engine has.
_SCALING = {
    "exp_sigmoid.exponent": 10.0,
    "exp_sigmoid.max_value": MAX_AMPLITUDE,
    "exp_sigmoid.threshold": CONTROL_FLOOR,
}


def load(files: Files, index: str | None = None) -> Bundle:
    """Reads a checkpoint.

    Args:
      files: among which the checkpoint is.
      index: its `.index` file; of several checkpoints the one trained longest if None.

    Raises:
      ModelError: not a checkpoint, damaged, hostile, or of a model that this program cannot play.
    """
    names = files.names()
    found = [match for name in names if (match := _INDEX.fullmatch(name)) and index in {None, name}]
    configs = [name for name in names if name.endswith(".gin") and not name.startswith(".")]
    if not found or not configs:
        what = "checkpoint (ckpt-N.index)" if not found else "gin file"
        raise ModelError(f"there is no {what}", "It takes the files that magenta/ddsp's training leaves.")
    newest = max(found, key=lambda match: int(match["step"]))
    config = next((name for name in configs if name.startswith("operative_config")), configs[0])
    described = describe(gin.parse(files.read(config, MAX_GIN_BYTES).decode("utf-8", "replace")))
    tensors = tensor_bundle.read(files, newest["prefix"], lambda name: not _IGNORED.search(name))
    weights = _weights({name.removesuffix(_VALUE): value for name, value in tensors.items()}, described)
    mapping, source = _statistics(files)
    statistics, where = card.read_statistics(mapping)
    response = _impulse_response(described, weights)
    described.fold(weights)
    preset = "vst" if described.model.level == "power_db" else "solo"
    return card.make_bundle(
        described.model,
        described.features,
        statistics,
        weights,
        response,
        f"Imported from the magenta/ddsp checkpoint {newest['prefix']}. {described.remark}{source}{where}",
        card.training_record(preset, int(newest["step"]), described.origin),
    )


def is_checkpoint(names: Iterable[str]) -> bool:
    """Whether files of these names include a checkpoint."""
    return any(_INDEX.fullmatch(name) for name in names)


def is_part(name: str) -> bool:
    """Whether a file of this name belongs to a checkpoint."""
    return _WANTED.fullmatch(name) is not None


def _statistics(files: Files) -> tuple[Mapping[str, Any], str]:
    """Returns the contents of `dataset_statistics.pkl`, and a remark for the card where it is missing."""
    if STATISTICS not in files.names():
        return {}, f"There was no {STATISTICS}. "
    found = pickles.load(files.read(STATISTICS, pickles.MAX_BYTES))
    if not isinstance(found, dict):
        raise ModelError(f"{STATISTICS} holds no dictionary of statistics")
    return found, ""


def _weights(found: dict[str, np.ndarray], described: Described) -> dict[str, np.ndarray]:
    """Returns weights by the names of a bundle.

    Raises:
      ModelError: a place that is not known, two weights for one name, or values that are not finite.
    """
    weights: dict[str, np.ndarray] = {}
    for place, value in sorted(found.items()):
        name = _name_of(place, described)
        if name is None:
            raise ModelError(f"it has a weight that is not understood: {place[:120]}, shape {list(value.shape)}")
        if name in weights:
            raise ModelError(f"it has two weights for {name}")
        if not np.isfinite(value).all():
            raise ModelError(f"its weight {place[:120]} holds NaN or infinity")
        weights[name] = value
    return weights


def _name_of(place: str, described: Described) -> str | None:
    """Returns the name in a bundle of the weight at a place in the object graph, or None."""
    for pattern, where in _PLACES.items():
        match = pattern.fullmatch(place)
        if match is None:
            continue
        if where == "rnn":
            return f"decoder/rnn/{match['kind']}"
        if where == "dense_out":
            return f"decoder/dense_out/{match['kind']}"
        if where == "room":
            return f"{card.ROOM}/{match['kind']}"
        part = "dense" if match["part"] == "0" else "norm"
        if (part == "dense") != (match["kind"] in {"kernel", "bias"}):
            return None
        stack = "decoder/out_stack"
        if where == "input":
            number = int(match["stack"])
            if number >= len(described.model.inputs):
                return None
            stack = f"decoder/input_stacks/{described.model.inputs[number]}"
        return f"{stack}/{match['layer']}/{part}/{match['kind']}"
    return None


def _impulse_response(described: Described, weights: dict[str, np.ndarray]) -> np.ndarray | None:
    """Returns the room as this program renders it, [L]; shapes of its weights are checked on the way."""
    node = described.model.processors.get(card.ROOM)
    name = f"{card.ROOM}/{'ir' if isinstance(node, ReverbConfig) else 'magnitudes'}"
    strange = [other for other in weights if other.startswith(f"{card.ROOM}/") and (node is None or other != name)]
    if strange:
        raise ModelError(f"it has a weight that its gin file does not name: {strange[0]}")
    if node is None:
        return None
    if name not in weights:
        raise ModelError(f"its room lacks the weight {name}")
    value = weights[name]
    if isinstance(node, ReverbConfig):
        if value.shape != (node.length_samples,):
            raise ModelError(f"its room has shape {list(value.shape)}, its gin file says {node.length_samples} samples")
        response = value.copy()
        response[0] = 0.0
        return response
    assert isinstance(node, FilteredNoiseReverbConfig)
    if value.shape != (node.n_frames, node.n_bands):
        raise ModelError(f"its room has shape {list(value.shape)}, its gin file says {[node.n_frames, node.n_bands]}")
    magnitudes = scaling.exp_sigmoid(value + np.float32(node.initial_bias))
    return _noise_response(node, np.asarray(magnitudes, np.float32))


def _noise_response(node: FilteredNoiseReverbConfig, magnitudes: np.ndarray) -> np.ndarray:
    """Renders the room of a `FilteredNoiseReverb` as the engine does (effects.py:202-278), [S] with sample 0 silent.

    Args:
      node: its configuration.
      magnitudes: [n_frames, n_bands] of the filters, positive.

    Raises:
      ModelError: the number of frames does not divide the number of samples.
    """
    hop = -(-node.length_samples // node.n_frames)
    if -(-node.length_samples // hop) != node.n_frames:
        raise ModelError(f"its room has {node.length_samples} samples, which {node.n_frames} frames do not cover")
    noise = np.zeros(node.n_frames * hop, np.float32)
    # The engine's noise, seed 0.
    noise[: node.length_samples] = np.random.default_rng(0).uniform(-1.0, 1.0, (1, node.length_samples))[0]
    synth = FilteredNoise(hop, node.n_bands, node.window_size_samples)
    response = np.concatenate([synth.push(magnitudes, noise.reshape(node.n_frames, hop)), synth.finish()])
    response = response[: node.length_samples]
    response[0] = 0.0
    return response


# --- the gin file ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """A model as its gin file has it.

    Attributes:
      model, features: in this program's terms.
      first_generation: its loudness is of the first kind.
      remark: for the card.
      origin: the program that trained it.
    """

    model: ModelConfig
    features: FeatureSpec
    first_generation: bool
    remark: str
    origin: str

    def fold(self, weights: dict[str, np.ndarray]) -> None:
        """Lets a model of the first generation take loudness scaled by 80 dB, as every other does.

        Its own input ld / 120 + 1 is 2/3 of ours, ld / 80 + 1, plus 1/3: a straight line, which the first layer that
        sees the input absorbs exactly.
        """
        if not self.first_generation or "ld_scaled" not in self.model.inputs:
            return
        scale, offset = DB_RANGE / FIRST_RANGE_DB, 1.0 - DB_RANGE / FIRST_RANGE_DB
        name = "decoder/input_stacks/ld_scaled/0/dense"
        if self.model.sizes.layers_per_stack:
            _fold(weights, f"{name}/kernel", f"{name}/bias", 0, scale, offset)
            return
        row = self.model.inputs.index("ld_scaled")
        _fold(weights, "decoder/rnn/kernel", "decoder/rnn/bias", row, scale, offset)
        _fold(weights, "decoder/dense_out/kernel", "decoder/dense_out/bias", row, scale, offset)


def _fold(weights: dict[str, np.ndarray], kernel: str, bias: str, row: int, scale: float, offset: float) -> None:
    """Folds x → scale·x + offset of one input into a layer: `kernel` [n_in, n_out], `bias` [n_out] or [2, n_out]."""
    if kernel not in weights or bias not in weights:
        raise ModelError(f"it lacks the weight {kernel} or {bias}")
    shape, bias_shape = weights[kernel].shape, weights[bias].shape
    if len(shape) != 2 or row >= shape[0] or bias_shape not in (shape[1:], (2, *shape[1:])):
        raise ModelError(f"its weight {kernel} has shape {list(shape)}, and its bias {list(bias_shape)}")
    changed = weights[kernel].astype(np.float64)
    extra = weights[bias].astype(np.float64)
    (extra if extra.ndim == 1 else extra[0])[:] += offset * changed[row]
    changed[row] *= scale
    weights[kernel], weights[bias] = changed.astype(np.float32), extra.astype(np.float32)


def describe(gin: GinConfig) -> Described:
    """Reads a model's shape.

    Raises:
      ModelError: a model that this program cannot play; with the binding that says so.
    """
    if isinstance(gin.get("Autoencoder.encoder"), Reference):
        raise ModelError("it has an encoder (z), and this program plays models of pitch and level only")
    decoder = gin.get("Autoencoder.decoder")
    if not isinstance(decoder, Reference) or decoder.name.split(".")[-1] != "RnnFcDecoder":
        raise ModelError(f"its decoder is {_shown(decoder)}, not RnnFcDecoder")
    for name, wanted in _SCALING.items():
        value = gin.get(name, wanted)
        if not isinstance(value, int | float) or abs(value - wanted) > 1e-9:
            raise ModelError(f"{name} is {_shown(value)}, and this program plays {wanted} only")
    inputs, splits = _inputs(gin), _splits(gin)
    sample_rate_hz, frame_rate_hz = _rates(gin)
    first = "ld_scaled" in inputs and not gin.has("F0LoudnessPreprocessor.compute_loudness")
    try:
        model = msgspec.convert(
            {
                "sample_rate_hz": sample_rate_hz,
                "frame_rate_hz": frame_rate_hz,
                "inputs": inputs,
                "decoder": {
                    "channels": gin.get("RnnFcDecoder.ch", 512),
                    "rnn_units": gin.get("RnnFcDecoder.rnn_channels", 512),
                    "layers_per_stack": gin.get("RnnFcDecoder.layers_per_stack", 3),
                },
                "processors": msgspec.to_builtins(_processors(gin, splits)),
            },
            ModelConfig,
            strict=True,
        )
    except (msgspec.ValidationError, TypeError) as problem:  # TypeError: a value that no configuration can hold
        raise ModelError(f"its gin file describes a model that cannot be played: {explain(problem)[0]}") from problem
    if gin.get("RnnFcDecoder.rnn_type", "gru") != "gru":
        raise ModelError("its recurrent layer is not a GRU")
    generation = "Loudness of magenta/ddsp 1.x. " if first else ""
    return Described(
        model, _features(first, frame_rate_hz), first, generation, f"magenta/ddsp {'1.x' if first else ''}".strip()
    )


def _features(first: bool, frame_rate_hz: int) -> FeatureSpec:
    if not first:
        return FeatureSpec(frame_rate_hz=frame_rate_hz)
    return FeatureSpec(
        frame_rate_hz=frame_rate_hz,
        loudness="a-weighted-2020",
        loudness_window_samples=FIRST_WINDOW_SAMPLES,
        floor_db=-FIRST_RANGE_DB,
    )


def _inputs(gin: GinConfig) -> list[str]:
    keys = gin.get("RnnFcDecoder.input_keys", ("ld_scaled", "f0_scaled"))
    if not isinstance(keys, tuple | list) or not all(isinstance(key, str) for key in keys):
        raise ModelError("RnnFcDecoder.input_keys is not a list of names")
    unknown = [key for key in keys if key not in _INPUTS]
    if unknown or len(set(keys)) != len(keys) or "f0_scaled" not in keys or len(keys) != 2:
        raise ModelError(
            f"its decoder takes {', '.join(map(_shown, keys))}, and this program plays pitch and one level"
        )
    return list(keys)


def _splits(gin: GinConfig) -> dict[str, int]:
    splits = gin.get("RnnFcDecoder.output_splits")
    try:
        found = msgspec.convert(dict(splits), dict[str, int], strict=True)
    except (TypeError, ValueError) as problem:  # msgspec's ValidationError is a ValueError
        raise ModelError("RnnFcDecoder.output_splits is not a list of names and sizes") from problem
    if tuple(found) != _SPLITS or found["amps"] != 1 or not all(1 <= size <= 4096 for size in found.values()):
        raise ModelError(f"its decoder gives {', '.join(map(_shown, found))}, and not {', '.join(_SPLITS)}")
    return found


def _rates(gin: GinConfig) -> tuple[int, int]:
    """Returns samples and frames a second."""
    sample_rate_hz = gin.get("Harmonic.sample_rate", 16000)
    for name in ("OnlineF0PowerPreprocessor", "F0LoudnessPreprocessor", "F0PowerPreprocessor"):
        if gin.has(f"{name}.frame_rate"):
            return sample_rate_hz, gin.get(f"{name}.frame_rate")
    samples = gin.get("Harmonic.n_samples")
    frames = next((gin.get(f"{name}.time_steps") for name in ("F0LoudnessPreprocessor", "DefaultPreprocessor")
                   if gin.has(f"{name}.time_steps")), None)  # fmt: skip
    if not all(isinstance(n, int) and n > 0 for n in (sample_rate_hz, samples, frames)):
        raise ModelError("its gin file says neither frame_rate nor n_samples and time_steps")
    if sample_rate_hz * frames % samples:
        raise ModelError(f"its {frames} frames in {samples} samples are not a whole number of frames a second")
    return sample_rate_hz, sample_rate_hz * frames // samples


def _processors(gin: GinConfig, splits: dict[str, int]) -> dict[str, Any]:
    """Returns the graph, which must be the usual one: harmonics and noise, added, with or without a room."""
    dag = gin.get("ProcessorGroup.dag")
    try:
        kinds = [reference.name.split(".")[-1] for reference, *_ in dag]
    except (AttributeError, TypeError) as problem:
        raise ModelError("ProcessorGroup.dag is not a list of processors") from problem
    kinds = ["Harmonic" if kind == "Additive" else kind for kind in kinds if kind != "Crop"]
    if sorted(kinds[:2]) != ["FilteredNoise", "Harmonic"] or kinds[2:3] != ["Add"] or len(kinds) > 4:
        raise ModelError(f"its processors are {', '.join(map(_shown, kinds))}, which cannot be played")
    room: Any = None
    if kinds[3:] == ["Reverb"]:
        _must(gin, "Reverb.add_dry", True)
        room = ReverbConfig(inputs=[card.DRY], length_samples=gin.get("Reverb.reverb_length", 48000))
    elif kinds[3:] == ["FilteredNoiseReverb"]:
        _must(gin, "FilteredNoiseReverb.add_dry", True)
        room = FilteredNoiseReverbConfig(
            inputs=[card.DRY],
            length_samples=gin.get("FilteredNoiseReverb.reverb_length", 48000),
            n_frames=gin.get("FilteredNoiseReverb.n_frames", 1000),
            n_bands=gin.get("FilteredNoiseReverb.n_filter_banks", 16),
            initial_bias=gin.get("FilteredNoiseReverb.initial_bias", -3.0),
            window_size_samples=gin.get("FilteredNoiseReverb.window_size", 257),
        )
    elif kinds[3:]:
        raise ModelError(f"its room is {_shown(kinds[3])}, and only Reverb and FilteredNoiseReverb can be played")
    for kind in ("Harmonic", "Additive", "FilteredNoise"):
        scale = gin.get(f"{kind}.scale_fn", Reference("exp_sigmoid", False))
        if not isinstance(scale, Reference) or scale.name.split(".")[-1] != "exp_sigmoid":
            raise ModelError(f"{kind}.scale_fn is {_shown(scale)}, and only exp_sigmoid can be played")
    harmonic = HarmonicConfig(
        inputs=["amplitude", "harmonic_distribution", "f0_hz"],
        n_harmonics=splits["harmonic_distribution"],
        amp_resample_method=gin.get("Harmonic.amp_resample_method", "window"),
        normalize_below_nyquist=gin.get("Harmonic.normalize_below_nyquist", True),
    )
    noise = FilteredNoiseConfig(
        inputs=["noise_magnitudes"],
        n_bands=splits["noise_magnitudes"],
        initial_bias=gin.get("FilteredNoise.initial_bias", -5.0),
        window_size_samples=gin.get("FilteredNoise.window_size", 257),
    )
    return card.processors(harmonic, noise, room)


def _must(gin: GinConfig, name: str, wanted: Any) -> None:
    if gin.get(name, wanted) is not wanted:
        raise ModelError(f"{name} is {_shown(gin.get(name))}, and only {wanted} can be played")


def _shown(value: Any) -> str:
    text = f"@{value.name}" if isinstance(value, Reference) else str(value)
    return " ".join(text.split())[:60]  # an error is one line
