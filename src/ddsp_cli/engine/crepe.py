"""CREPE's network (Kim, Salamon, Li and Bello 2018, arXiv 1802.06182) and its published weights.

Six convolutions over 64 ms of sound and one dense layer give the activation of each of 360 pitches, 20 cents apart. The
five sizes differ in the number of filters only. The pitch tracker `analysis.pitch.crepe` finds `load_network` by an
entry point.
"""

from __future__ import annotations

import bz2
import io
from pathlib import Path

import keras
import numpy as np

from ddsp_cli.analysis.pitch.crepe import N_PITCHES, WINDOW_SAMPLES, Network
from ddsp_cli.errors import UsageError

#: Filters of each layer for the size "tiny", which has a multiplier of 4; the largest, "full", has 32.
_FILTERS = (32, 4, 4, 4, 8, 16)
_KERNELS = (512, 64, 64, 64, 64, 64)
_STRIDES = (4, 1, 1, 1, 1, 1)
MULTIPLIERS = {"tiny": 4, "small": 8, "medium": 16, "large": 24, "full": 32}

#: The largest published file has 89 MB; a larger one is another file.
MAX_WEIGHTS_BYTES = 512 * 1024 * 1024


def build(size: str) -> keras.Model:
    """Builds the network with random weights.

    Args:
      size: one of `MULTIPLIERS`.

    Returns:
      a model from frames [B, 1024] at 16 kHz, each of mean 0 and standard deviation 1, to activations [B, 360] in 0..1,
      one for each pitch from 32.7 Hz (C1) on in steps of 20 cents.
    """
    layers = keras.layers
    x = frames = keras.Input((WINDOW_SAMPLES,))
    x = layers.Reshape((WINDOW_SAMPLES, 1))(x)
    for i, (n_filters, kernel, stride) in enumerate(zip(_FILTERS, _KERNELS, _STRIDES, strict=True), 1):
        convolution = layers.Conv1D(
            n_filters * MULTIPLIERS[size], kernel, stride, padding="same", activation="relu", name=f"conv{i}"
        )
        x = layers.BatchNormalization(name=f"conv{i}-BN")(convolution(x))
        x = layers.MaxPooling1D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(N_PITCHES, activation="sigmoid", name="classifier")(x)
    return keras.Model(frames, x, name=f"crepe-{size}")


def load_network(path: Path) -> Network:
    """Loads published weights as the pitch tracker takes them: frames [B, 1024] → activations [B, 360].

    Raises:
      UsageError: the file cannot be read, or contains something else.
    """
    return load(path).predict_on_batch


def load(path: Path) -> keras.Model:
    """Loads the network with published weights.

    Args:
      path: of `model-SIZE.h5` or `model-SIZE.h5.bz2`; the size is read from the file.

    Returns:
      the model, see `build`.

    Raises:
      UsageError: the file cannot be read, or holds something else.
    """
    try:
        tensors = _read(Path(path))
        sizes = {multiplier * _FILTERS[0]: size for size, multiplier in MULTIPLIERS.items()}
        model = build(sizes[tensors["conv1"]["kernel"].shape[-1]])
        for layer in model.layers:
            if layer.weights:
                layer.set_weights([_shaped(tensors[layer.name][weight.name], weight.shape) for weight in layer.weights])
    except (OSError, EOFError, KeyError, IndexError, ValueError, RuntimeError) as problem:
        raise UsageError(
            f"{path} is not a file of CREPE weights that can be read",
            "Published are model-tiny.h5 to model-full.h5, branch models of github.com/marl/crepe.",
        ) from problem
    return model


def _read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Reads layer → tensor → values. Keras 2 stored them as LAYER/LAYER_n/TENSOR:0."""
    import h5py

    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise ValueError("too large")
    content = path.read_bytes()
    if path.suffix == ".bz2":
        content = bz2.BZ2Decompressor().decompress(content, MAX_WEIGHTS_BYTES)
    tensors: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            layer, tensor = name.split("/")[0], name.rpartition("/")[2].removesuffix(":0")
            tensors.setdefault(layer, {})[tensor] = np.asarray(item, np.float32)

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(visit)
    return tensors


def _shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reshapes a tensor: kernels of the two-dimensional original have one more axis, of length 1."""
    squeezed = values.squeeze(1) if values.ndim == len(shape) + 1 else values
    if squeezed.shape != tuple(shape):
        raise ValueError(f"a tensor has shape {squeezed.shape}, not {tuple(shape)}")
    return squeezed
