"""The decoder: pitch, level and timbre at frame rate in, controls of the synthesisers out.

`decode` is the forward pass, written once over a vocabulary of operations (`ops`): the player computes it in NumPy, the
exporters write it down in their formats. `Decoder` is the player's: it carries the recurrent state from block to block.

Architecture (magenta/ddsp 3.7.0, decoders.py:27-109, nn.py:844-862): one stack of dense layers per input, their outputs
through a GRU, stacks and GRU through a last stack, one dense layer into the controls. Ours may add a bias for each
semitone to that layer (`DecoderConfig.note_bias`). An input may be the latent z of an encoder: MFCCs through a separate
GRU and a dense layer (`engine.TimbreEncoder`).

A base, the network of many instruments, plays any vector in its space, those between instruments too:
`model_at_vector`.

Shapes: F frames, I inputs or instruments, D entries of a vector, C cepstral coefficients, Z latent channels,
U recurrent units, K harmonics, M noise bands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import CONDITION, VECTORS, control_columns, decoder_outputs, fold_condition
from ddsp_cli.config import EncoderConfig, FilteredNoiseConfig, HarmonicConfig, ModelConfig, ProcessorConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.ops import NumpyOps, Ops, Tensor

#: The synthesisers that the player has, and the controls that the decoder must predict for them.
SYNTHESISERS: dict[type[ProcessorConfig], tuple[str, ...]] = {
    HarmonicConfig: ("amplitude", "harmonic_distribution"),
    FilteredNoiseConfig: ("noise_magnitudes",),
}

#: Weight of a bias for each semitone, [N, outputs], of a decoder that has one.
NOTE_BIAS = "decoder/note_bias"


# --- the forward pass ---------------------------------------------------------------------------------------------


def decode(
    ops: Ops,
    model: ModelConfig,
    weights: Mapping[str, FloatArray],
    inputs: Mapping[str, Tensor],
    f0_hz: Tensor,
    state: Tensor,
    columns: Mapping[str, slice] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Computes the decoder and scales its outputs to controls (synths.py:94-121, 176-192).

    Args:
      ops: the operations to compute with.
      model: sizes, and the synthesisers that the outputs are for.
      weights: by the names of `weight_shapes`.
      inputs: by the names in `model.inputs`: [F, 1] each, scaled as in training, and z [F, Z].
      f0_hz: [F, 1]; decides which harmonics lie below half the sample rate.
      state: of the GRU before the first frame, [1, U].
      columns: of `playable_columns`, where a caller has them: to find them takes as long as a layer of one frame.

    Returns:
      Controls by name, those of the synthesisers that the model has: `amplitude` [F, 1], `harmonic_distribution`
      [F, K] of sum 1 (0 where every harmonic is above half the sample rate), `noise_magnitudes` [F, M]. And the
      state after the last frame, [1, U].
    """
    hidden, state = _hidden(ops, model, weights, inputs, state)
    raw = _dense(ops, weights, "decoder/dense_out", hidden)
    if model.sizes.note_bias:
        raw = ops.binary("add", raw, ops.dense(note_weights(ops, inputs["f0_scaled"]), weights[NOTE_BIAS]))
    columns = playable_columns(model) if columns is None else columns
    controls = {name: ops.columns(raw, span.start, span.stop) for name, span in columns.items()}
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    if harmonic:
        controls["amplitude"] = _exp_sigmoid(ops, controls["amplitude"])
        distribution = _exp_sigmoid(ops, controls["harmonic_distribution"])
        if harmonic[1].normalize_below_nyquist:
            k = ops.constant(np.arange(1, harmonic[1].n_harmonics + 1, dtype=np.float32)[None])
            audible = ops.less(ops.binary("mul", f0_hz, k), ops.constant(model.sample_rate_hz / 2.0))
            distribution = ops.binary("mul", distribution, audible)
        # Each audible harmonic is at least CONTROL_FLOOR, so a lower sum means that none is audible.
        total = ops.binary("maximum", ops.sum(distribution), ops.constant(scaling.CONTROL_FLOOR))
        controls["harmonic_distribution"] = ops.binary("div", distribution, total)
    if noise:
        biased = ops.binary("add", controls["noise_magnitudes"], ops.constant(noise[1].initial_bias))
        controls["noise_magnitudes"] = _exp_sigmoid(ops, biased)
    return controls, state


def _hidden(
    ops: Ops, model: ModelConfig, weights: Mapping[str, FloatArray], inputs: Mapping[str, Tensor], state: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the last hidden layer [F, C], and the state after the last frame."""
    stacks = [dense_stack(ops, weights, f"decoder/input_stacks/{name}", inputs[name]) for name in model.inputs]
    joined = ops.concat(stacks, 1)
    recurrent, state = _gru(ops, weights, "decoder/rnn", joined, state)
    return dense_stack(ops, weights, "decoder/out_stack", ops.concat([*stacks, recurrent], 1)), state


def note_weights(ops: Ops, f0_scaled: Tensor) -> Tensor:
    """Returns the weights of linear interpolation between semitones, [F, 1] → [F, N]; see `scaling.N_NOTES`."""
    notes = np.arange(scaling.LOWEST_NOTE, scaling.LOWEST_NOTE + scaling.N_NOTES, dtype=np.float32)[None]
    midi = ops.binary("mul", f0_scaled, ops.constant(scaling.F0_RANGE_MIDI))
    above = ops.binary("sub", midi, ops.constant(notes))
    distance = ops.binary("maximum", above, ops.binary("mul", above, ops.constant(-1.0)))
    return ops.binary("maximum", ops.binary("sub", ops.constant(1.0), distance), ops.constant(0.0))


def hidden_layer(bundle: Bundle, f0_hz: FloatArray, level_db: FloatArray) -> FloatArray:
    """Computes the layer before the last of an instrument without an encoder, from the beginning, [F, C].

    Args:
      bundle: weights and configuration.
      f0_hz: [F], nowhere 0.
      level_db: [F] in dB, of the kind that `model.level` names.
    """
    model = bundle.card.model
    state = np.zeros((1, model.sizes.rnn_units), np.float32)
    inputs = scale_inputs(model, f0_hz, level_db)
    return np.asarray(_hidden(NumpyOps(), model, checked_weights(bundle), inputs, state)[0], np.float32)


def encode(ops: Ops, weights: Mapping[str, FloatArray], mfcc: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the latent of a timbre.

    Args:
      ops: the operations to compute with.
      weights: by the names of `weight_shapes`.
      mfcc: [F, C].
      state: of the encoder's GRU before the first frame, [1, U].

    Returns:
      z [F, Z], and the state after the last frame [1, U].
    """
    mean, spread = (ops.constant(weights[f"encoder/{name}"]) for name in ("mean", "spread"))
    normal = ops.binary("div", ops.binary("sub", mfcc, mean), spread)
    recurrent, state = _gru(ops, weights, "encoder/rnn", normal, state)
    return _dense(ops, weights, "encoder/dense_out", recurrent), state


def dense_stack(ops: Ops, weights: Mapping[str, FloatArray], name: str, x: Tensor) -> Tensor:
    """Applies N × (dense, layer normalisation, leaky rectifier); the identity where there are no layers."""
    j = 0
    while f"{name}/{j}/dense/kernel" in weights:
        x = _dense(ops, weights, f"{name}/{j}/dense", x)
        gamma, beta = (weights[f"{name}/{j}/norm/{part}"] for part in ("gamma", "beta"))
        x = ops.leaky_relu(ops.layer_norm(x, gamma, beta, scaling.NORM_EPSILON), scaling.LEAKY_SLOPE)
        j += 1
    return x


def _dense(ops: Ops, weights: Mapping[str, FloatArray], name: str, x: Tensor) -> Tensor:
    return ops.dense(x, weights[f"{name}/kernel"], weights[f"{name}/bias"])


def _gru(ops: Ops, weights: Mapping[str, FloatArray], name: str, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return ops.gru(x, state, *(weights[f"{name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")))


def _exp_sigmoid(ops: Ops, x: Tensor) -> Tensor:
    """Scales a raw control as `scaling.exp_sigmoid` does."""
    power = ops.binary("pow", ops.unary("sigmoid", x), ops.constant(math.log(10.0)))
    scaled = ops.binary("mul", power, ops.constant(scaling.MAX_AMPLITUDE))
    return ops.binary("add", scaled, ops.constant(scaling.CONTROL_FLOOR))


# --- inputs and outputs ------------------------------------------------------------------------------------------


def scale_inputs(model: ModelConfig, f0_hz: FloatArray, level_db: FloatArray) -> dict[str, FloatArray]:
    """Scales pitch and level as in training.

    Args:
      model: names the inputs.
      f0_hz: [F] in Hz, nowhere 0.
      level_db: [F] in dB, of the kind that `model.level` names.

    Returns:
      Input name → [F, 1] float32, without z.
    """
    columns = {
        "f0_scaled": lambda: scaling.scale_f0(f0_hz),
        "ld_scaled": lambda: scaling.scale_db(level_db),
        "pw_scaled": lambda: scaling.scale_db(level_db),
    }
    return {name: np.asarray(columns[name](), np.float32)[:, None] for name in model.scaled_inputs}


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


def weight_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the names and shapes of the weights of a decoder and, where the model has one, of its encoder."""
    sizes = model.sizes
    shapes: dict[str, tuple[int, ...]] = {}

    def dense(name: str, n_in: int, n_out: int) -> None:
        shapes.update({f"{name}/kernel": (n_in, n_out), f"{name}/bias": (n_out,)})

    def gru(name: str, n_in: int, n_units: int) -> None:
        shapes.update({f"{name}/kernel": (n_in, 3 * n_units), f"{name}/recurrent_kernel": (n_units, 3 * n_units)})
        shapes[f"{name}/bias"] = (2, 3 * n_units)

    def stack(name: str, n_in: int) -> int:
        for j in range(sizes.layers_per_stack):
            dense(f"{name}/{j}/dense", n_in, sizes.channels)
            n_in = sizes.channels
            shapes.update({f"{name}/{j}/norm/gamma": (n_in,), f"{name}/{j}/norm/beta": (n_in,)})
        return n_in

    if model.encoder:
        n_mfccs = model.encoder.n_mfccs
        shapes |= {"encoder/mean": (n_mfccs,), "encoder/spread": (n_mfccs,)}
        gru("encoder/rnn", n_mfccs, model.encoder.rnn_units)
        dense("encoder/dense_out", model.encoder.rnn_units, model.encoder.z_dims)
    widths = {name: model.input_sizes.get(name, 1) for name in model.inputs}
    n_joined = sum(stack(f"decoder/input_stacks/{name}", width) for name, width in widths.items())
    gru("decoder/rnn", n_joined, sizes.rnn_units)
    n_hidden = stack("decoder/out_stack", n_joined + sizes.rnn_units)
    n_outputs = sum(decoder_outputs(model).values())
    dense("decoder/dense_out", n_hidden, n_outputs)
    if sizes.note_bias:
        shapes[NOTE_BIAS] = (scaling.N_NOTES, n_outputs)
    return shapes


def zero_note_bias(model: ModelConfig) -> dict[str, FloatArray]:
    """Returns the weight of a note bias of 0, by name; nothing where the decoder has no note bias."""
    return {NOTE_BIAS: np.zeros(weight_shapes(model)[NOTE_BIAS], np.float32)} if model.sizes.note_bias else {}


def checked_weights(bundle: Bundle) -> dict[str, FloatArray]:
    """Takes the weights of decoder and encoder out of a bundle, contiguous and in single precision.

    Raises:
      ModelError: a weight is missing, unknown, or has another shape than the configuration says.
    """
    found: dict[str, FloatArray] = {}
    for name, shape in weight_shapes(bundle.card.model).items():
        if name not in bundle.weights:
            raise ModelError(f"the instrument lacks the weight {name}", "It is incomplete; install or train it again.")
        value = bundle.weights[name]
        if value.shape != shape:
            raise ModelError(f"weight {name} has shape {list(value.shape)}, its configuration requires {list(shape)}")
        found[name] = np.ascontiguousarray(value, np.float32)
    unknown = sorted(n for n in bundle.weights if n.startswith(("decoder/", "encoder/")) and n not in found)
    if unknown:
        raise ModelError(f"the instrument has a weight that its configuration does not name: {unknown[0]}")
    return found


# --- the player's decoder -----------------------------------------------------------------------------------------


class Decoder:
    """The decoder of one instrument, with the recurrent state of one performance.

    Args:
      bundle: weights and configuration.

    Raises:
      ModelError: a weight is missing, unknown, or has another shape than the configuration says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model = bundle.card.model
        self._columns = playable_columns(self._model)
        self._weights = checked_weights(bundle)
        self._ops = NumpyOps()
        self._state = np.zeros((1, self._model.sizes.rnn_units), np.float32)
        self.encoder = Encoder(self._weights, self._model.encoder) if self._model.encoder else None

    @property
    def state(self) -> FloatArray:
        """State of the GRU after the last frame, [U]."""
        return self._state[0]

    def reset(self) -> None:
        """Returns the GRU of pitch and level to the state in which a performance begins."""
        self._state = np.zeros_like(self._state)

    def controls(
        self, f0_hz: FloatArray, level_db: FloatArray, mfcc: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames.

        Args:
          f0_hz: [F], nowhere 0.
          level_db: [F] in dB, of the kind that `model.level` names.
          mfcc: [F, C], the timbre that an encoder follows; the average of the training set if None.

        Returns:
          Controls by name, see `decode`.
        """
        return self.step(scale_inputs(self._model, f0_hz, level_db), f0_hz, mfcc)

    def step(
        self, inputs: Mapping[str, FloatArray], f0_hz: FloatArray, mfcc: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames from scaled inputs, [F, 1] each; see `controls`."""
        if self.encoder is not None:
            inputs = {**inputs, "z": self.encoder(mfcc, len(f0_hz))}
        column = np.asarray(f0_hz, np.float32)[:, None]
        controls, self._state = decode(
            self._ops, self._model, self._weights, inputs, column, self._state, self._columns
        )
        return {name: np.asarray(value, np.float32) for name, value in controls.items()}


class Encoder:
    """The encoder of timbre of one instrument, with the state of one performance.

    Args:
      weights: of the bundle, checked.
      config: sizes.
    """

    def __init__(self, weights: Mapping[str, FloatArray], config: EncoderConfig) -> None:
        self._weights, self._ops = weights, NumpyOps()
        self._state = np.zeros((1, config.rnn_units), np.float32)

    def __call__(self, mfcc: FloatArray | None, n_frames: int) -> FloatArray:
        """Computes z [F, Z] of the next MFCCs [F, C]; None is the average of the training set."""
        measured = np.tile(self._weights["encoder/mean"], (n_frames, 1)) if mfcc is None else mfcc
        z, self._state = encode(self._ops, self._weights, measured, self._state)
        return np.asarray(z, np.float32)


class FrameQueue:
    """Frames [n, C] that arrive in blocks of any size and leave in blocks of a requested size.

    Args:
      blocks: where they come from.
    """

    def __init__(self, blocks: Iterable[FloatArray]) -> None:
        self._blocks = iter(blocks)
        self._waiting: list[FloatArray] = []
        self._last: FloatArray | None = None

    def take(self, n_frames: int) -> FloatArray | None:
        """Takes the next frames, [n_frames, C]; after their end the last one repeats. None where none ever came."""
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


def instrument_vectors(model: ModelConfig, weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Returns the vectors [D] of the instruments that a base learned, by name.

    Raises:
      ModelError: the model is no base.
    """
    if not model.instruments or VECTORS not in weights:
        raise ModelError("this model is not conditioned on instruments")
    return dict(zip(model.instruments.names, weights[VECTORS], strict=True))


def model_at_vector(
    model: ModelConfig, weights: Mapping[str, FloatArray], vector: FloatArray
) -> tuple[ModelConfig, dict[str, FloatArray]]:
    """Makes a model of one instrument from a base and a vector.

    Args:
      model: of the base.
      weights: of the base, by name.
      vector: [D], one that the base learned, or any other.

    Returns:
      The configuration, and the weights by name.
    """
    row = np.asarray(vector, np.float32)[None]
    constant = dense_stack(NumpyOps(), weights, f"decoder/input_stacks/{CONDITION}", row)[0]
    return fold_condition(model, weights, constant)
