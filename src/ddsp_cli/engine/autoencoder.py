"""The model that is trained: decoder, processor graph, spectral loss. Shapes: B batch, F frames, S samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli.bundle.layout import decoder_outputs
from ddsp_cli.config import LossConfig, ModelConfig
from ddsp_cli.engine.decoders import RnnFcDecoder
from ddsp_cli.engine.effects import LearnedRoom
from ddsp_cli.engine.encoders import TimbreEncoder
from ddsp_cli.engine.graph import group_from_config
from ddsp_cli.engine.losses import SpectralLoss
from ddsp_cli.errors import ModelError


class Autoencoder(keras.Model):
    """Features to audio, trained end to end by how the audio sounds (Engel et al., ICLR 2020).

    Pitch and level are measured; what is learned is the decoder, the room, and, where the configuration has one, an
    encoder of timbre.

    Args:
      config: network and processor graph.
      loss: of the spectral loss.
      seed: of the noise that training draws.
    """

    def __init__(
        self, config: ModelConfig, loss: LossConfig | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.decoder = RnnFcDecoder(
            config.inputs,
            decoder_outputs(config),
            config.sizes.channels,
            config.sizes.rnn_units,
            config.sizes.layers_per_stack,
            {"z": config.encoder.z_dims} if config.encoder else None,
            name="decoder",
        )
        self.encoder = TimbreEncoder(**msgspec.structs.asdict(config.encoder)) if config.encoder else None
        self.group = group_from_config(config, seed or 0)
        terms = msgspec.structs.asdict(loss or LossConfig())
        self.room_penalty = terms.pop("room_penalty")
        self.spectral_loss = SpectralLoss(**terms, sample_rate_hz=config.sample_rate_hz)
        self.level = keras.metrics.Mean(name="level")
        self.decoder.build()
        if self.encoder is not None:
            self.encoder.build()
        self.built = True

    def adapt(self, features: Mapping[str, np.ndarray]) -> None:
        """Takes what is measured once and not learned from all features of the training set (see `call`)."""
        if self.encoder is not None:
            self.encoder.adapt(features["mfcc"])

    def call(self, features: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Controls and signals by name, and `audio` [B, S].

        Args:
          features: the configured inputs (`f0_scaled`, ...) and `f0_hz`, each [B, F, 1]; with an encoder `mfcc`
            [B, F, C], or the latent itself, `z` [B, F, Z].
          given: see `ProcessorGroup.call`.
        """
        if self.encoder is not None and "z" not in features:
            features = {**features, "z": self.encoder(features["mfcc"])}
        raw = self.decoder({name: features[name] for name in self.config.inputs})
        return self.group({**raw, "f0_hz": features["f0_hz"]}, given=given)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Multi-scale spectral loss of the audio in `y_pred` against the target audio `y` [B, S].

        Along with it the metric `level` follows the energy of the audio, as a share of the target's.
        """
        self.note_level(*self.energies(y, y_pred["audio"]))
        return self.objective(y, y_pred["audio"], training=training)

    def objective(self, target: Any, sound: Any, training: bool = True) -> Any:
        """What training makes small, a scalar: the spectral loss of `sound` [B, S], and what the room has to pay."""
        loss = self.spectral_loss.call(target, sound)
        if training and self.room_penalty and self.room is not None:
            loss = loss + self.room_penalty * self.room.reverberance()
        return loss

    def energies(self, target: Any, sound: Any) -> tuple[Any, Any]:
        """Mean energy of what is played and of what it should be, both from [B, S]."""
        return ops.mean(ops.square(sound)), ops.mean(ops.square(target))

    def note_level(self, energy: Any, wanted: Any) -> None:
        """Takes down the energy played as a share of what it should be."""
        self.level.update_state(energy / ops.maximum(wanted, 1e-12))

    @property
    def room(self) -> LearnedRoom | None:
        """The processor that is a learned room, where the graph has one."""
        rooms = [node for node in self.group.nodes.values() if isinstance(node, LearnedRoom)]
        return rooms[0] if rooms else None

    def named_variables(self) -> dict[str, Any]:
        """What a bundle keeps, by the names under which it does: all that is learned, and all that was adapted."""
        named = {f"decoder/{name}": value for name, value in self.decoder.named_weights().items()}
        if self.encoder is not None:
            named |= {f"encoder/{name}": value for name, value in self.encoder.named_weights().items()}
        for name, node in self.group.nodes.items():
            for variable in node.trainable_variables:
                named[f"{name}/{variable.name}"] = variable
        return named

    def get_weights_by_name(self) -> dict[str, np.ndarray]:
        """Copies of all named variables, float32."""
        return {
            name: np.asarray(ops.convert_to_numpy(value), np.float32) for name, value in self.named_variables().items()
        }

    def set_weights_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets all named variables.

        Raises:
          ModelError: a weight is missing, unknown, or has another shape.
        """
        variables = self.named_variables()
        for name in sorted(variables.keys() ^ weights.keys()):
            where = "the model has no such weight" if name in weights else "it is missing"
            raise ModelError(f"weight {name} does not fit this model: {where}")
        for name, variable in variables.items():
            if tuple(variable.shape) != weights[name].shape:
                raise ModelError(
                    f"weight {name} has shape {weights[name].shape}, the model needs {tuple(variable.shape)}"
                )
            variable.assign(weights[name])

    def impulse_response(self) -> np.ndarray | None:
        """The learned room's wet response [length], tap 0 masked, or None."""
        room = self.room
        return None if room is None else np.asarray(ops.convert_to_numpy(room.impulse_response()), np.float32)
