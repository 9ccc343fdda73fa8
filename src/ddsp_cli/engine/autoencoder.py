"""The model that is trained: decoder, processor graph, spectral loss; and the low band that trains it at less cost.

At 48 kHz a training step on sound takes four times as long as at 16 kHz. The levels of the high harmonics and noise
bands can be measured in recordings (`losses.ControlLoss`). The room and the balance of the parts have to be learned
from sound, and the low band suffices for that. The network is the same and its controls are those of the full band;
`LowBand` renders the controls that lie below half the lower rate, at that rate.

Shapes: B batch, F frames, S samples, K harmonics, M noise bands, N frames of a room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import msgspec
import numpy as np
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.arrays import decimated
from ddsp_cli.bundle.layout import decoder_outputs, fold_condition, learned
from ddsp_cli.config import (
    AddConfig,
    FilteredNoiseConfig,
    FilteredNoiseReverbConfig,
    HarmonicConfig,
    LossConfig,
    ModelConfig,
)
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor
from ddsp_cli.engine.effects import FilteredNoiseReverb, LearnedRoom
from ddsp_cli.engine.graph import ProcessorGroup, build_processor, group_from_config
from ddsp_cli.engine.losses import CONTROL_TARGETS, ControlLoss, SpectralLoss
from ddsp_cli.engine.networks import InstrumentVectors, RnnFcDecoder, TimbreEncoder
from ddsp_cli.engine.processors import missing_signal, refuse_unknown
from ddsp_cli.engine.synths import FilteredNoise, Harmonic
from ddsp_cli.errors import ModelError, did_you_mean

#: Name of the signal with the magnitudes of each example's room, where every instrument has its own.
ROOM_MAGNITUDES = "room_magnitudes"

#: Above the low band a room is softer by these amounts per 250 Hz, in raw units of 20 dB, at its start and at its end:
#: walls and air absorb high frequencies.
ROOM_SLOPE = (0.02, 0.08)


class Autoencoder(keras.Model):
    """Features to audio, trained end to end on the sound of its output (Engel et al., ICLR 2020).

    Pitch and level are measured; the decoder and the room are learned, and, where the configuration has them, an
    encoder of timbre and a vector for each instrument. Under a mixed-precision policy the networks compute in half
    precision, all else in float32.

    Args:
      config: network and processor graph.
      loss: weights of the spectral loss.
      seed: of the noise that training draws.
      render_rate_hz: render only the band below half of this rate, at this rate, see `LowBand`; None for all.
      lowest_hz: with `render_rate_hz`, the lowest F0 that will be rendered.
      separate_rooms: learn a room for each instrument of the configuration. A single room for recordings from several
        places adds the average of these places to every instrument.

    Attributes:
      rooms: [I, N·M] raw magnitudes of the separate rooms; None with a single room.

    Raises:
      ModelError: the processor graph is not valid, see `ProcessorGroup`, or cannot be rendered at that rate; or there
        are no instruments, or no room of magnitudes, to make separate rooms of.
    """

    def __init__(
        self,
        config: ModelConfig,
        loss: LossConfig | None = None,
        seed: int | None = None,
        render_rate_hz: int | None = None,
        lowest_hz: float = 1.0,
        separate_rooms: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(config, ModelConfig):
            raise ArgumentError(
                f"Autoencoder: config must be a ModelConfig, such as load_preset('solo').model of ddsp_cli.config, "
                f"not {type(config).__name__}"
            )
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.config = config
        self.decoder = RnnFcDecoder(
            config.inputs,
            decoder_outputs(config),
            config.sizes.channels,
            config.sizes.rnn_units,
            config.sizes.layers_per_stack,
            config.input_sizes,
            config.sizes.note_bias,
            name="decoder",
        )
        self.encoder = TimbreEncoder(**msgspec.structs.asdict(config.encoder)) if config.encoder else None
        self.instruments = None
        if config.instruments:
            self.instruments = InstrumentVectors(len(config.instruments.names), config.instruments.vector_dims)
        self.low_band = None
        if render_rate_hz is not None and render_rate_hz != config.sample_rate_hz:
            self.low_band = LowBand(config, render_rate_hz, lowest_hz)
        self.group = self.low_band.group(seed or 0) if self.low_band else group_from_config(config, seed or 0)
        terms = msgspec.structs.asdict(loss or LossConfig())
        self.room_penalty = terms.pop("room_penalty")
        self.control_weight = terms.pop("control_weight")
        self.control_loss = ControlLoss(config) if self.control_weight else None
        self.spectral_loss = SpectralLoss(**terms, sample_rate_hz=render_rate_hz or config.sample_rate_hz)
        self.level = keras.metrics.Mean(name="level")
        self.room_name = next((name for name, node in self.group.nodes.items() if node is self.room), None)
        self.rooms: Any = None
        if separate_rooms:
            self._separate_rooms()
        self.decoder.build()
        if self.encoder is not None:
            self.encoder.build()
        self.built = True

    def _separate_rooms(self) -> None:
        """Replaces the room of the graph by one that takes the magnitudes of each example's instrument."""
        shared, instruments = self.room, self.config.instruments
        if not isinstance(shared, FilteredNoiseReverb) or self.room_name is None or not instruments:
            raise ModelError("separate rooms need a model of several instruments with a FilteredNoiseReverb")
        first = np.asarray(ops.convert_to_numpy(shared.magnitudes), np.float32)  # [N, M]
        shared.trainable = False  # the graph no longer has it
        self._room_shape = first.shape
        self.rooms = self.add_weight(shape=(len(instruments.names), first.size), initializer="zeros", name="rooms")
        self.rooms.assign(np.tile(first.reshape(1, -1), (len(instruments.names), 1)))
        nodes = {name: (node, self.group.wiring[name]) for name, node in self.group.nodes.items()}
        own = FilteredNoiseReverb.from_config({**shared.get_config(), "from_network": True})
        own.noise = shared.noise  # of a low band it is that of the full one
        nodes[self.room_name] = (own, [*self.group.wiring[self.room_name], ROOM_MAGNITUDES])
        self.group = ProcessorGroup(nodes, sources=[*self.group.sources, ROOM_MAGNITUDES], name="processors")

    def adapt(self, features: Mapping[str, np.ndarray]) -> None:
        """Sets the statistics of the encoder, which are measured instead of learned.

        Args:
          features: those of the whole training set, by name, see `call`.
        """
        if self.encoder is not None:
            self.encoder.adapt(features["mfcc"])

    def call(
        self, features: Mapping[str, Tensor], given: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Renders features.

        Args:
          features: the configured inputs and `f0_hz`, each [B, F, 1]: `f0_hz` in Hz, `f0_scaled` MIDI / 127,
            `ld_scaled` and `pw_scaled` dB / 80 + 1, `instrument` an index or a vector [B, F, D]; with an encoder `mfcc`
            [B, F, C], or the latent itself, `z` [B, F, Z]. With separate rooms `instrument` is an index, and that of
            the first frame gives the room.
          given: see `ProcessorGroup.call`.

        Returns:
          controls and signals by name, raw controls as `raw/NAME`, and `audio` [B, S].

        Raises:
          ValueError: a feature is missing, or has another shape.
        """
        raw = self.raw_controls(features)
        controls = self.low_band.controls(raw, features["f0_hz"]) if self.low_band else raw
        if self.rooms is not None:
            controls = {**controls, ROOM_MAGNITUDES: self._magnitudes_of(features["instrument"])}
        rendered = self.group({**controls, "f0_hz": features["f0_hz"]}, given=given)
        return {**rendered, **{f"raw/{name}": control for name, control in raw.items()}}

    def _magnitudes_of(self, instrument: Tensor) -> Tensor:
        """Returns the raw magnitudes [B, N, M] of each example's room, from the index [B, F, 1] of its instrument."""
        assert self.rooms is not None
        index = ops.cast(ops.convert_to_tensor(instrument)[:, 0, 0], "int32")
        # a product with one-hot rows: XLA compiles its gradient to one product, that of a gather to a scatter
        rows = ops.one_hot(index, self.rooms.shape[0], dtype="float32")
        return ops.reshape(ops.matmul(rows, ops.convert_to_tensor(self.rooms)), (-1, *self._room_shape))

    def raw_controls(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicts the raw controls, before any processor scales them.

        Args:
          features: see `call`.

        Returns:
          name → [B, F, C], as `bundle.layout.decoder_outputs` lists them.

        Raises:
          ValueError: a feature is missing, or has another shape.
        """
        features = dict(features)
        if self.encoder is not None and "z" not in features:
            if "mfcc" not in features:
                raise ArgumentError(missing_signal("Autoencoder", "mfcc", list(features)))
            features["z"] = self.encoder(features["mfcc"])
        if self.instruments is not None and "instrument" in features:
            features["instrument"] = self.instruments(features["instrument"])
        if "f0_hz" not in features:
            raise ArgumentError(missing_signal("Autoencoder", "f0_hz", list(features)))
        return self.decoder({name: features[name] for name in self.config.inputs if name in features})

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Computes the loss of a batch, and updates the metric `level`, the energy of the audio against the target's.

        Args:
          x: inputs; with `CONTROL_TARGETS` among them, the error of the controls counts in training.
          y: target audio [B, S].
          y_pred: result of `call`.
          sample_weight: of each example [B], or each sample [B, S]; see `SpectralLoss.call`.
          training: add the penalty of the room.

        Returns:
          a scalar.
        """
        self.note_level(*self.energies(y, y_pred["audio"]))
        loss = self.objective(y, y_pred, training=training, weights=sample_weight)
        return loss + self.control_penalty(x, y_pred) if training else loss

    def control_penalty(self, inputs: Mapping[str, Tensor] | None, rendered: Mapping[str, Tensor]) -> Tensor:
        """Returns weighted error of the controls against measured ones, see `ControlLoss`.

        Args:
          inputs: a batch; without `CONTROL_TARGETS` in it the penalty is 0.
          rendered: result of `call`.

        Returns:
          a scalar, 0 or more.
        """
        if self.control_loss is None or inputs is None or CONTROL_TARGETS[0] not in inputs:
            return 0.0
        raw = {name: rendered[f"raw/{name}"] for name in self.decoder.outputs}
        return self.control_weight * self.control_loss.call(raw, {name: inputs[name] for name in CONTROL_TARGETS})

    def objective(
        self,
        target: Tensor,
        rendered: Mapping[str, Tensor],
        training: bool = True,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Computes the objective of training: the spectral loss, and in training the penalty of the room.

        Args:
          target: audio [B, S].
          rendered: result of `call`.
          training: add the penalty; of separate rooms the mean over the batch counts.
          weights: see `SpectralLoss.call`.

        Returns:
          a scalar.
        """
        loss = self.spectral_loss.call(target, rendered["audio"], weights)
        if not training or not self.room_penalty or self.room_name is None:
            return loss
        room = self.group.nodes[self.room_name]
        assert isinstance(room, LearnedRoom)
        responses = rendered[f"{self.room_name}/ir"] if room.from_network else None
        return loss + self.room_penalty * room.reverberance(responses)

    def energies(self, target: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean squares, scalars, of rendered sound [B, S] and of its target [B, S]."""
        return ops.mean(ops.square(sound)), ops.mean(ops.square(target))

    def note_level(self, energy: Tensor, wanted: Tensor) -> None:
        """Updates the metric `level` with the energies that `energies` returns."""
        self.level.update_state(energy / ops.maximum(wanted, 1e-12))

    @property
    def room(self) -> LearnedRoom | None:
        """The processor that is a learned room, one for all sounds, where the graph has one."""
        rooms = [node for node in self.group.nodes.values() if isinstance(node, LearnedRoom) and not node.from_network]
        return rooms[0] if rooms else None

    def named_variables(self) -> dict[str, Any]:
        """Returns all learned and adapted variables, by the names under which a bundle keeps them.

        Separate rooms are not among them: a bundle has one room, see `for_instrument`.
        """
        named = {f"decoder/{name}": value for name, value in self.decoder.named_weights().items()}
        for prefix, part in (("encoder", self.encoder), ("instruments", self.instruments)):
            if part is not None:
                named |= {f"{prefix}/{name}": value for name, value in part.named_weights().items()}
        for name, node in self.group.nodes.items():
            for variable in node.trainable_variables:
                named[f"{name}/{variable.name}"] = variable
        return named

    def get_weights_by_name(self) -> dict[str, np.ndarray]:
        """Returns copies of all named variables, float32, of the full band also where only the low one is rendered."""
        found = {
            name: np.asarray(ops.convert_to_numpy(value), np.float32) for name, value in self.named_variables().items()
        }
        return self.low_band.full_weights(found) if self.low_band else found

    def set_weights_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets all named variables.

        Args:
          weights: by the names of `named_variables`; statistics for the player (`bundle.layout`) are ignored.

        Raises:
          ModelError: a weight is missing, unknown, or has another shape.
        """
        variables = self.named_variables()
        weights = learned(weights)
        if self.low_band:
            weights = self.low_band.low_weights(weights)
        for name in sorted(variables.keys() ^ weights.keys()):
            where = "the model has no such weight" if name in weights else "it is missing"
            raise ModelError(f"weight {name} does not fit this model: {where}")
        for name, variable in variables.items():
            value = _single(weights[name], variable)
            if tuple(variable.shape) != value.shape:
                raise ModelError(f"weight {name} has shape {value.shape}, the model needs {tuple(variable.shape)}")
            variable.assign(value)

    def impulse_response(self, weights: Mapping[str, np.ndarray] | None = None) -> np.ndarray | None:
        """Computes the wet response of the learned room, of the full band also where only the low one is rendered.

        Args:
          weights: by the names of `named_variables`, such as those that a bundle stores; the present ones if None.
            With separate rooms those of `for_instrument`.

        Returns:
          [L] with tap 0 masked, or None without a room.
        """
        name = self.room_name
        if name is None:
            return None
        weights = self.get_weights_by_name() if weights is None else weights
        room = build_processor(self.config.processors[name], self.config, 0, name)
        assert isinstance(room, LearnedRoom)
        for variable in room.trainable_variables:
            variable.assign(_single(weights[f"{name}/{variable.name}"], variable))
        return np.asarray(ops.convert_to_numpy(room.impulse_response()), np.float32)

    def for_instrument(self, instrument: str) -> tuple[ModelConfig, dict[str, np.ndarray]]:
        """Makes a model of one instrument from one that is conditioned on many.

        See `bundle.layout.fold_condition`.

        Args:
          instrument: its name in the configuration.

        Returns:
          the configuration without `instruments`, and the weights by name, with the instrument's own room if rooms are
          separate.

        Raises:
          ModelError: the model is not conditioned, or does not have this instrument.
        """
        config = self.config
        if not config.instruments or self.instruments is None:
            raise ModelError("this model is not conditioned on instruments")
        names = config.instruments.names
        if instrument not in names:
            raise ModelError(f"this model has no instrument {instrument}", did_you_mean(instrument, names))
        index = names.index(instrument)
        vector = ops.convert_to_tensor(self.instruments.vector(index)[None, None])
        place = config.inputs.index("instrument")
        constant = np.asarray(ops.convert_to_numpy(self.decoder.input_stacks[place](vector)), np.float32)[0, 0]
        config, weights = fold_condition(config, self.get_weights_by_name(), constant)
        if self.rooms is not None:
            room = np.asarray(ops.convert_to_numpy(self.rooms), np.float32)[index].reshape(self._room_shape)
            own = {f"{self.room_name}/magnitudes": room}
            weights |= self.low_band.full_weights(own) if self.low_band else own
        return config, weights


# --- the low band of a full-band model -------------------------------------------------------------------------------


def _single(value: np.ndarray, variable: Any) -> np.ndarray:
    """Returns a single number without the axis that instruments of earlier versions keep it with."""
    return value.reshape(()) if tuple(variable.shape) == () and value.shape == (1,) else value


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
        """Makes the graph at the lower rate. It takes the controls that `controls` returns.

        Its rooms are those of the full band: a response of noise raises some partials and lowers others by several dB,
        so that a network trained with another noise fits a room that is not played.
        """
        group = group_from_config(self.config, seed)
        for name, node in group.nodes.items():
            if isinstance(node, Harmonic | FilteredNoise):
                node.scale = lambda x: x
            elif isinstance(node, FilteredNoiseReverb):
                node.noise = self._room_noise(name, node)
        return group

    def _room_noise(self, name: str, low: FilteredNoiseReverb) -> np.ndarray:
        """Returns the noise [1, L] from which the room of the low band is made: that of the full band, decimated."""
        full = build_processor(self.full.processors[name], self.full, 0, name)
        assert isinstance(full, FilteredNoiseReverb)
        late_samples = self.ratio * low.late_samples - full.late_samples
        noise = decimated(np.roll(full.noise, -late_samples), self.full.sample_rate_hz, self.config.sample_rate_hz)
        return noise * np.float32(math.sqrt(self.ratio))  # as loud as the noise that it replaces

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
                inside = scaling.below_nyquist(f0_hz, distribution.shape[-1], self.config.sample_rate_hz, xp=ops)
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
            if f"{name}/magnitudes" in weights  # separate rooms are not among the weights
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
        """Returns the configuration of a processor at the lower rate."""
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
