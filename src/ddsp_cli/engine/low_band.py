"""Render the low band of a full-band model, so that a training step on sound costs as little as at a lower rate.

At 48 kHz a step on sound takes four times as long as at 16 kHz. The levels of the high harmonics and noise bands can be
measured in recordings (`losses.ControlLoss`). The room and the balance of the parts have to be learned from sound, and
the low band suffices for that. The network is the same, its controls are those of the full band, and the part of them
below half the lower rate is rendered at that rate.

Shapes: B batch, F frames, K harmonics, M noise bands, N frames of a room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from keras import ops

from ddsp_cli.config import AddConfig, FilteredNoiseConfig, FilteredNoiseReverbConfig, HarmonicConfig, ModelConfig
from ddsp_cli.engine.core.tensors import Tensor
from ddsp_cli.engine.graph import ProcessorGroup, build_processor, group_from_config
from ddsp_cli.engine.synths import FilteredNoise, Harmonic
from ddsp_cli.errors import ModelError

#: Above the low band a room is softer by so much per 250 Hz, in raw units of 20 dB, at its start and at its end: walls
#: and air absorb high frequencies.
ROOM_SLOPE = (0.02, 0.08)


class LowBand:
    """The part of a full-band model's sound below half of a lower sample rate.

    Args:
      config: of the full-band model, with a harmonic and a noise synthesiser and at most one room of filtered noise.
      sample_rate_hz: the lower rate, which divides that of the model.
      lowest_hz: the lowest F0 that will be rendered; harmonics that then lie above the low band are not computed.

    Raises:
      ModelError: the rates, numbers of bands or lengths do not divide, or a processor cannot be rendered at another
        rate.
    """

    def __init__(self, config: ModelConfig, sample_rate_hz: int, lowest_hz: float = 1.0) -> None:
        self.full = config
        self.config = low_band_config(config, sample_rate_hz, lowest_hz)
        self.ratio = config.sample_rate_hz // sample_rate_hz
        self._synths = {
            name: build_processor(node, config, 0, name)
            for name, node in config.processors.items()
            if isinstance(node, HarmonicConfig | FilteredNoiseConfig)
        }

    def group(self, seed: int) -> ProcessorGroup:
        """Makes the graph at the lower rate. It takes the controls that `controls` returns."""
        group = group_from_config(self.config, seed)
        for node in group.nodes.values():
            if isinstance(node, Harmonic | FilteredNoise):
                node.scale = lambda x: x
        return group

    def controls(self, raw: Mapping[str, Tensor], f0_hz: Tensor) -> dict[str, Tensor]:
        """Scales raw controls as the full-band model does, and keeps those of the low band.

        Args:
          raw: as the decoder predicts them, [B, F, C] each.
          f0_hz: [B, F, 1] in Hz.

        Returns:
          the scaled controls [B, F, C] by the same names. Harmonics keep their amplitudes, noise its power per Hz.
        """
        found = dict(raw)
        for name, synth in self._synths.items():
            inputs = self.full.processors[name].inputs
            if isinstance(synth, Harmonic):
                scaled = synth.get_controls(raw[inputs[0]], raw[inputs[1]], f0_hz)
                distribution = scaled["harmonic_distribution"]
                k = ops.arange(1, distribution.shape[-1] + 1, dtype="float32")
                inside = ops.cast(f0_hz * k < self.config.sample_rate_hz / 2.0, "float32")
                share = ops.sum(distribution * inside, axis=-1, keepdims=True)
                n_low = self._low(name).n_harmonics
                found |= {inputs[0]: scaled["amplitude"] * share, inputs[1]: distribution[..., :n_low]}
            else:
                magnitudes = synth.get_controls(raw[inputs[0]])["noise_magnitudes"]
                n_bands = self._low(name).n_bands
                # white noise of one variance has this much more power per Hz at the lower rate
                found[inputs[0]] = magnitudes[..., :n_bands] / math.sqrt(self.ratio)
        return found

    def widen_room(self, magnitudes: np.ndarray, n_bands: int) -> np.ndarray:
        """Adds the bands above the low band to the raw magnitudes of a room.

        Args:
          magnitudes: [N, M], raw, a unit is 20 dB.
          n_bands: of the full band.

        Returns:
          [N, n_bands]; above the low band they fall from the last band by `ROOM_SLOPE`.
        """
        n_frames, n_low = magnitudes.shape
        beyond = np.arange(1, n_bands - n_low + 1) * (self.full.sample_rate_hz / 2.0 / (n_bands - 1) / 250.0)
        slope = np.linspace(*ROOM_SLOPE, n_frames)[:, None]
        return np.concatenate([magnitudes, magnitudes[:, -1:] - slope * beyond], axis=1).astype(np.float32)

    def full_weights(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces the rooms of the low band among weights by those of the full band.

        Args:
          weights: of the model at the lower rate, by name.

        Returns:
          weights of the full-band model, by name.
        """
        return dict(weights) | {
            f"{name}/magnitudes": self.widen_room(weights[f"{name}/magnitudes"], node.n_bands)
            for name, node in self._rooms()
        }

    def low_weights(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inverts `full_weights`: cuts the rooms of a full-band model to the bands of the low band."""
        found = dict(weights)
        for name, _ in self._rooms():
            key, n_bands = f"{name}/magnitudes", self._low(name).n_bands
            if key in found and found[key].ndim == 2:
                found[key] = found[key][:, :n_bands]
        return found

    def _low(self, name: str) -> Any:
        """The configuration of a processor at the lower rate."""
        return self.config.processors[name]

    def _rooms(self) -> list[tuple[str, FilteredNoiseReverbConfig]]:
        nodes = self.full.processors.items()
        return [(name, node) for name, node in nodes if isinstance(node, FilteredNoiseReverbConfig)]


def low_band_config(config: ModelConfig, sample_rate_hz: int, lowest_hz: float = 1.0) -> ModelConfig:
    """Makes the configuration of a model whose sound is the low band of another's.

    Noise and room keep the width of their bands in Hz.

    Args:
      config: of the full-band model.
      sample_rate_hz: the lower rate.
      lowest_hz: see `LowBand`.

    Returns:
      the configuration at the lower rate.

    Raises:
      ModelError: see `LowBand`.
    """
    ratio, rest = divmod(config.sample_rate_hz, sample_rate_hz)
    if rest or ratio < 2 or sample_rate_hz % config.frame_rate_hz:
        raise ModelError(
            f"sound of {config.sample_rate_hz} Hz cannot be rendered at {sample_rate_hz} Hz",
            f"Choose a render_rate_hz that divides the sample rate and is a multiple of {config.frame_rate_hz}.",
        )
    nodes: dict[str, Any] = {}
    for name, node in config.processors.items():
        match node:
            case AddConfig():
                nodes[name] = node
            case HarmonicConfig():
                n_inside = max(1, math.ceil(sample_rate_hz / 2.0 / lowest_hz))
                nodes[name] = msgspec.structs.replace(node, n_harmonics=min(node.n_harmonics, n_inside))
            case FilteredNoiseConfig():
                nodes[name] = msgspec.structs.replace(
                    node, n_bands=_shared(name, "n_bands", node.n_bands - 1, ratio) + 1, initial_bias=0.0,
                    window_size_samples=node.window_size_samples // ratio,
                )  # fmt: skip
            case FilteredNoiseReverbConfig():
                nodes[name] = msgspec.structs.replace(
                    node,
                    n_bands=_shared(name, "n_bands", node.n_bands - 1, ratio) + 1,
                    length_samples=_shared(name, "length_samples", node.length_samples, ratio),
                    window_size_samples=_shared(name, "window_size_samples", node.window_size_samples - 1, ratio) + 1,
                    # a response of fewer taps needs larger ones for the same gain; a raw unit is 20 dB
                    initial_bias=node.initial_bias + 0.5 * math.log10(ratio),
                )
            case _:
                kind = type(node).__name__.removesuffix("Config")
                raise ModelError(f"processor {name} ({kind}) cannot be rendered at another rate")
    return msgspec.structs.replace(config, sample_rate_hz=sample_rate_hz, processors=nodes)


def _shared(name: str, what: str, value: int, ratio: int) -> int:
    share, rest = divmod(value, ratio)
    if rest:
        raise ModelError(f"processor {name}: {what} does not divide for a rendering at 1/{ratio} of the rate")
    return share
