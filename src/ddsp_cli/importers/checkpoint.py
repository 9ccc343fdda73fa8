"""A checkpoint of magenta/ddsp as an instrument.

    ckpt-N.index, ckpt-N.data-…    the weights, TensorFlow's own format
    operative_config-N.gin         what the model was: sizes, order of inputs, processors
    dataset_statistics.pkl         what was played while it was learned; may be missing

Weights are matched by their place in the object graph and by shape; a weight of the model that is not understood is
an error. Models of both generations of loudness are read: see `checkpoint_config`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.bundle import MAX_FILE_BYTES, Bundle
from ddsp_cli.config import FilteredNoiseReverbConfig, ReverbConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import assemble, gin, pickles, statistics
from ddsp_cli.importers.checkpoint_config import Described, describe

STATISTICS = "dataset_statistics.pkl"
MAX_WEIGHT_BYTES = 1 << 30

_INDEX = re.compile(r"(?P<prefix>(?!\.).*ckpt-(?P<step>\d{1,9}))\.index")
_WANTED = re.compile(r"(?!\.)(.*ckpt-\d+\.(index|data-\d{5}-of-\d{5})|.*\.gin|dataset_statistics\.pkl)")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
#: What training needs and playing does not.
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


def load(folder: Path) -> Bundle:
    """Reads a checkpoint; of several in one folder the one trained longest.

    Raises:
      ModelError: not a checkpoint, damaged, hostile, or of a model that this program cannot play.
    """
    found = [match for entry in folder.iterdir() if (match := _INDEX.fullmatch(entry.name))]
    configs = sorted(path for path in folder.glob("*.gin") if not path.name.startswith("."))
    if not found or not configs:
        what = "checkpoint (ckpt-N.index)" if not found else "gin file"
        raise ModelError(f"{folder} holds no {what}", "It takes the files that magenta/ddsp's training leaves.")
    newest = max(found, key=lambda match: int(match["step"]))
    config = next((path for path in configs if path.name.startswith("operative_config")), configs[0])
    try:
        described = describe(gin.parse(_text(config)))
        weights = _weights(_read_checkpoint(folder / newest["prefix"]), described)
        mapping, source = _statistics(folder / STATISTICS)
        figures, where = statistics.from_mapping(mapping)
        response = _impulse_response(described, weights)
        described.fold(weights)
    except ModelError as problem:
        raise problem.reworded(f"{folder} cannot be imported: {problem.message}") from problem
    preset = "vst" if described.model.level == "power_db" else "solo"
    return assemble.make_bundle(
        described.model,
        described.features,
        figures,
        weights,
        response,
        f"Imported from the magenta/ddsp checkpoint {newest['prefix']}. {described.remark}{source}{where}",
        assemble.training_record(preset, int(newest["step"]), described.origin),
    )


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return folder.is_dir() and any(_INDEX.fullmatch(entry.name) for entry in folder.iterdir())


def is_part(name: str) -> bool:
    """Whether a file of this name belongs to a checkpoint."""
    return _WANTED.fullmatch(name) is not None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > gin.MAX_CHARACTERS:
            raise ModelError("the gin file is longer than any configuration")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        raise ModelError(f"{path.name} cannot be read: {problem.strerror or problem}") from problem


def _statistics(path: Path) -> tuple[Mapping[str, Any], str]:
    if not path.is_file():
        return {}, f"There was no {STATISTICS}. "
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelError(f"{path.name} is larger than any statistics")
    found = pickles.load(path.read_bytes())
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} holds no dictionary of statistics")
    return found, ""


def _read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Every weight of the model by its place; nothing of the optimiser."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from ddsp_cli import backend

    with backend.native_stderr_held_back():
        import tensorflow as tf
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
        names = [name for name in shapes if not _IGNORED.search(name)]
        if sum(float(np.prod(shapes[name], dtype=np.float64)) for name in names) * 4 > MAX_WEIGHT_BYTES:
            raise ModelError("the checkpoint is larger than any instrument")
        strange = [name for name in names if types[name] != tf.float32]
        if strange:
            raise ModelError(f"the checkpoint holds {strange[0]}, which is not float32")
        return {name.removesuffix(_VALUE): np.asarray(reader.get_tensor(name)) for name in names}
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError, OSError) as problem:
        raise ModelError(f"the checkpoint is damaged: {str(problem).splitlines()[0]}") from problem


def _weights(found: dict[str, np.ndarray], described: Described) -> dict[str, np.ndarray]:
    """Weights by the names of a bundle.

    Raises:
      ModelError: a place that is not known, two weights for one name, or values that are no numbers.
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
    for pattern, where in _PLACES.items():
        match = pattern.fullmatch(place)
        if match is None:
            continue
        if where == "rnn":
            return f"decoder/rnn/{match['kind']}"
        if where == "dense_out":
            return f"decoder/dense_out/{match['kind']}"
        if where == "room":
            return f"{assemble.ROOM}/{match['kind']}"
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
    """The room as this program renders it, [L]; shapes of its weights are checked on the way."""
    node = described.model.processors.get(assemble.ROOM)
    name = f"{assemble.ROOM}/{'ir' if isinstance(node, ReverbConfig) else 'magnitudes'}"
    strange = [other for other in weights if other.startswith(f"{assemble.ROOM}/") and (node is None or other != name)]
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
    from ddsp_cli import backend

    backend.load()
    from ddsp_cli.engine.graph import build_processor

    room: Any = build_processor(node, described.model, 0, assemble.ROOM)
    room.magnitudes.assign(value)
    return np.asarray(room.impulse_response(), np.float32)
