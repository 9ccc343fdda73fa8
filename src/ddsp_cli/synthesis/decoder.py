"""The recurrent decoder in NumPy: frames in, synthesiser controls out, state carried from block to block.

Architecture: one stack of dense layers per input, their outputs through a GRU, stacks and GRU through a last
stack, one dense layer into the controls (magenta/ddsp 3.7.0, decoders.py:27-109, nn.py:844-862). An input may be the
latent of an encoder. Legend of shapes: F frames, I inputs, C cepstral coefficients, U recurrent units, K harmonics,
M noise bands.


What a network is made of, in NumPy: dense layers and a gated recurrent unit, their weights taken by name.

Legend of shapes: F frames, U recurrent units.


The encoder of timbre in NumPy: MFCCs in, the latent z out, state carried from block to block.

As `engine.TimbreEncoder`. Legend of shapes: F frames, C coefficients, Z latent channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import control_columns, decoder_outputs
from ddsp_cli.config import EncoderConfig, FilteredNoiseConfig, HarmonicConfig, ModelConfig, ProcessorConfig
from ddsp_cli.errors import ModelError

NORM_EPSILON = np.float32(1e-3)  # Keras LayerNormalization default

LEAKY_SLOPE = np.float32(0.2)  # tf.nn.leaky_relu default

#: The synthesisers that the player has, and what the decoder must predict for them.
SYNTHESISERS: dict[type[ProcessorConfig], tuple[str, ...]] = {
    HarmonicConfig: ("amplitude", "harmonic_distribution"),
    FilteredNoiseConfig: ("noise_magnitudes",),
}


class Weights:
    """The bundle's arrays, taken by name and checked for shape."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._weights = weights
        self.taken: set[str] = set()

    def take(self, name: str, *shape: int) -> np.ndarray:
        if name not in self._weights:
            raise ModelError(f"the instrument lacks the weight {name}", "It is incomplete; install or train it again.")
        value = self._weights[name]
        if value.shape != shape:
            raise ModelError(f"weight {name} has shape {list(value.shape)}, its configuration asks for {list(shape)}")
        self.taken.add(name)
        return np.ascontiguousarray(value, np.float32)


class Layer:
    """Dense, layer normalisation, leaky rectifier."""

    def __init__(self, weights: Weights, name: str, n_in: int, n_out: int) -> None:
        self.kernel = weights.take(f"{name}/dense/kernel", n_in, n_out)
        self.bias = weights.take(f"{name}/dense/bias", n_out)
        self.gamma = weights.take(f"{name}/norm/gamma", n_out)
        self.beta = weights.take(f"{name}/norm/beta", n_out)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x @ self.kernel
        y += self.bias
        y -= y.mean(axis=-1, keepdims=True)
        variance = np.mean(y * y, axis=-1, keepdims=True)
        y *= self.gamma / np.sqrt(variance + NORM_EPSILON)
        y += self.beta
        return np.maximum(y, y * LEAKY_SLOPE)


class Stack:
    """A row of layers; the identity where there are none."""

    def __init__(self, weights: Weights, name: str, n_in: int, channels: int, n_layers: int) -> None:
        widths = [n_in] + [channels] * n_layers
        self.layers = [Layer(weights, f"{name}/{j}", widths[j], widths[j + 1]) for j in range(n_layers)]
        self.n_out = widths[-1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer(x)
        return x


class Gru:
    """Gated recurrent unit as Keras computes it with `reset_after=True`; gates in the order z, r, h.

    The input's share of all frames is one matrix product; only the recurrence runs frame by frame, in buffers
    made once, since at 512 units a frame takes tens of microseconds and allocation would double that.
    """

    def __init__(self, weights: Weights, name: str, n_in: int, units: int) -> None:
        self.units = units
        self.kernel = weights.take(f"{name}/kernel", n_in, 3 * units).copy()
        # Transposed: a matrix-vector product over contiguous rows is the faster one.
        self.recurrent = weights.take(f"{name}/recurrent_kernel", units, 3 * units).T.copy()
        bias = weights.take(f"{name}/bias", 2, 3 * units)
        self.input_bias, self.recurrent_bias = bias[0].copy(), bias[1].copy()
        # σ(x) = (tanh(x/2) + 1) / 2: the halving of the two gates is folded into the weights.
        self.kernel[:, : 2 * units] *= 0.5
        self.recurrent[: 2 * units] *= 0.5
        self.input_bias[: 2 * units] *= 0.5
        self.recurrent_bias[: 2 * units] *= 0.5
        self.reset()

    def reset(self) -> None:
        self.state = np.zeros(self.units, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[F, n_in] → [F, U]; the state goes on from the last call."""
        units = self.units
        projected = x @ self.kernel
        projected += self.input_bias
        # The recurrent bias of the two gates can join the input's share; that of the candidate is inside r·(…).
        projected[:, : 2 * units] += self.recurrent_bias[: 2 * units]
        candidate_bias = self.recurrent_bias[2 * units :]
        states = np.empty((len(x), units), np.float32)
        hidden = np.empty(3 * units, np.float32)
        gates, candidate = hidden[: 2 * units], hidden[2 * units :]
        update, reset = gates[:units], gates[units:]
        half = np.float32(0.5)
        state = self.state
        for frame, row, new in zip(projected, projected[:, 2 * units :], states, strict=True):
            np.dot(self.recurrent, state, out=hidden)
            gates += frame[: 2 * units]
            np.tanh(gates, out=gates)
            gates += 1.0
            gates *= half
            candidate += candidate_bias
            candidate *= reset
            candidate += row
            np.tanh(candidate, out=candidate)
            # h' = z·h + (1 − z)·ĥ = ĥ + z·(h − ĥ)
            np.subtract(state, candidate, out=new)
            new *= update
            new += candidate
            state = new
        if len(x):
            self.state = states[-1].copy()
        return states


class Encoder:
    """The encoder of one instrument, with the state of one performance.

    Args:
      weights: of the bundle.
      config: sizes.
    """

    def __init__(self, weights: Weights, config: EncoderConfig) -> None:
        self.mean = weights.take("encoder/mean", config.n_mfccs)
        self.spread = weights.take("encoder/spread", config.n_mfccs)
        self.gru = Gru(weights, "encoder/rnn", config.n_mfccs, config.rnn_units)
        self.kernel = weights.take("encoder/dense_out/kernel", config.rnn_units, config.z_dims)
        self.bias = weights.take("encoder/dense_out/bias", config.z_dims)

    def __call__(self, mfcc: np.ndarray | None, n_frames: int) -> np.ndarray:
        """MFCCs [F, C] of the next frames to z [F, Z]; where there are none, those of the training set on average."""
        measured = np.tile(self.mean, (n_frames, 1)) if mfcc is None else mfcc
        return np.asarray(self.gru((measured - self.mean) / self.spread) @ self.kernel + self.bias)


class Frames:
    """Frames [n, C] that arrive in blocks of any size, taken so many at a time.

    Args:
      blocks: where they come from.
    """

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._waiting: list[np.ndarray] = []
        self._last: np.ndarray | None = None

    def take(self, n_frames: int) -> np.ndarray | None:
        """The next ones, [n_frames, C]. After their end the last one lasts; None where there never was one."""
        parts = self._waiting
        n_have = sum(map(len, parts))
        while n_have < n_frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            n_have += len(block)
        if n_have < n_frames:
            last = parts[-1][-1:] if n_have else self._last
            if last is None:
                return None
            parts.append(np.repeat(last, n_frames - n_have, axis=0))
        frames = np.concatenate(parts)
        self._waiting, self._last = [frames[n_frames:]] if n_have > n_frames else [], frames[n_frames - 1 : n_frames]
        return frames[:n_frames]


def playable_columns(model: ModelConfig) -> dict[str, slice]:
    """Finds the columns of the decoder's output that drive the player's synthesisers.

    Returns:
      `amplitude`, `harmonic_distribution`, `noise_magnitudes` → columns, those that the model has.

    Raises:
      ModelError: the model has no synthesiser, or one whose controls the decoder does not predict.
    """
    columns: dict[str, slice] = {}
    for kind, controls in SYNTHESISERS.items():
        found = model.only(kind)
        if found is None:
            continue
        own = control_columns(model, found[0])
        missing = [control for control in controls if control not in own]
        if missing:
            raise ModelError(f"processor {found[0]} does not get its {missing[0]} from the decoder")
        columns |= own
    if not columns:
        raise ModelError("the model has neither a harmonic nor a noise synthesiser")
    return columns


def network_inputs(model: ModelConfig, f0_hz: np.ndarray, level_db: np.ndarray) -> np.ndarray:
    """What the network takes, scaled as in training.

    Args:
      model: names the inputs and their order.
      f0_hz: [F] in Hz, nowhere 0.
      level_db: [F] in dB, of the kind that `model.level` names.

    Returns:
      [F, I] float32, without z.
    """
    columns = {
        "f0_scaled": lambda: scaling.scale_f0(f0_hz),
        "ld_scaled": lambda: scaling.scale_db(level_db),
        "pw_scaled": lambda: scaling.scale_db(level_db),
    }
    return np.stack([np.asarray(columns[name](), np.float32) for name in model.scaled_inputs], axis=-1)


class Network:
    """The decoder of one instrument, with the recurrent state of one performance.

    Args:
      bundle: weights and configuration.

    Raises:
      ModelError: a weight is missing or has another shape than the configuration says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model = model = bundle.card.model
        weights = Weights(bundle.weights)
        decoder = model.sizes
        self.columns = playable_columns(model)
        self.encoder = Encoder(weights, model.encoder) if model.encoder else None
        widths = {name: model.encoder.z_dims if name == "z" and model.encoder else 1 for name in model.inputs}
        self.stacks = {
            name: Stack(weights, f"decoder/input_stacks/{name}", width, decoder.channels, decoder.layers_per_stack)
            for name, width in widths.items()
        }
        n_stacked = sum(stack.n_out for stack in self.stacks.values())
        self.gru = Gru(weights, "decoder/rnn", n_stacked, decoder.rnn_units)
        self.out_stack = Stack(
            weights,
            "decoder/out_stack",
            n_stacked + decoder.rnn_units,
            decoder.channels,
            decoder.layers_per_stack,
        )
        n_out = sum(decoder_outputs(model).values())
        self.kernel = weights.take("decoder/dense_out/kernel", self.out_stack.n_out, n_out)
        self.bias = weights.take("decoder/dense_out/bias", n_out)
        ours = (name for name in bundle.weights if name.startswith(("decoder/", "encoder/")))
        unknown = sorted(name for name in ours if name not in weights.taken)
        if unknown:
            raise ModelError(f"the instrument has a weight that its configuration does not name: {unknown[0]}")

    @property
    def state(self) -> np.ndarray:
        """Of the recurrence after the last frame, [U]."""
        return self.gru.state

    def controls(
        self, f0_hz: np.ndarray, level_db: np.ndarray, mfcc: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the synthesisers play in the next frames.

        Args:
          f0_hz: [F], nowhere 0.
          level_db: [F] in dB, of the kind that `model.level` names.
          mfcc: see `step`.

        Returns:
          See `physical`.
        """
        return physical(self._model, self.step(network_inputs(self._model, f0_hz, level_db), mfcc), f0_hz)

    def step(self, inputs: np.ndarray, mfcc: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The next frames.

        Args:
          inputs: [F, I] float32, columns in the order of `model.scaled_inputs`.
          mfcc: [F, C], the timbre that an encoder follows; the average of the training set if None.

        Returns:
          Raw controls by name: `amplitude` [F, 1], `harmonic_distribution` [F, K], `noise_magnitudes` [F, M].
        """
        signals = {name: inputs[:, i : i + 1] for i, name in enumerate(self._model.scaled_inputs)}
        if self.encoder is not None:
            signals["z"] = self.encoder(mfcc, len(inputs))
        joined = np.concatenate([stack(signals[name]) for name, stack in self.stacks.items()], axis=-1)
        recurrent = self.gru(joined)
        raw = self.out_stack(np.concatenate([joined, recurrent], axis=-1)) @ self.kernel
        raw += self.bias
        return {control: raw[:, columns] for control, columns in self.columns.items()}


def physical(model: ModelConfig, raw: dict[str, np.ndarray], f0_hz: np.ndarray) -> dict[str, np.ndarray]:
    """Raw network output to controls (synths.py:94-121, 176-192).

    Args:
      model: its synthesisers say how.
      raw: as `Network.step` gives it.
      f0_hz: [F] in Hz.

    Returns:
      By name: `amplitude` [F, 1], `harmonic_distribution` [F, K] of sum 1, `noise_magnitudes` [F, M]; float32.
    """
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    found = {}
    if harmonic:
        found["amplitude"] = scaling.exp_sigmoid(raw["amplitude"])
        found["harmonic_distribution"] = scaling.harmonic_distribution(
            raw["harmonic_distribution"],
            np.asarray(f0_hz, np.float32)[:, None],
            model.sample_rate_hz,
            harmonic[1].normalize_below_nyquist,
        )
    if noise:
        found["noise_magnitudes"] = scaling.exp_sigmoid(raw["noise_magnitudes"] + np.float32(noise[1].initial_bias))
    return {name: np.asarray(value, np.float32) for name, value in found.items()}
