"""The networks of a model: a recurrent unit, decoders from features to raw controls, encoders, instrument vectors.

Differentiating a loop step by step makes every step write its share of the weight gradient, a [U, 3U] matrix, and that
traffic is most of the cost of a small GRU on a CPU. In `FastGru` the backward loop carries the state's gradient only;
the weights' gradient is one matrix product over all frames at the end.

Decoders are conditioned by encoders, timbre as a latent over time, and by tables, the instrument as a vector.

Shapes: B batch, S samples, F frames, C channels or coefficients, U recurrent units, Z latent channels, D entries of an
instrument's vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.spectra import hop_of, mfcc
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, as_float32, check_shapes, positive, static_shape, whole
from ddsp_cli.engine.processors import missing_signal, refuse_unknown
from ddsp_cli.errors import ModelError
from ddsp_cli.scaling import F0_RANGE_MIDI, LEAKY_SLOPE, LOWEST_NOTE, N_NOTES, NORM_EPSILON


def gru_sequence(projected: Any, recurrent_kernel: Any, recurrent_bias: Any) -> Any:
    """Runs a GRU (Cho et al. 2014, the `reset_after` form of Keras; gates in the order z, r, h) from state 0.

    Args:
      projected: [B, F, 3U], the inputs times the input kernel plus the input bias.
      recurrent_kernel: [U, 3U].
      recurrent_bias: [3U].

    Returns:
      states [B, F, U] after each frame.
    """
    return _gru_sequence(projected, recurrent_kernel, recurrent_bias)


def _gates(inputs: Any, hidden: Any) -> tuple[Any, Any, Any, Any]:
    """Gates z, r, the candidate n and the recurrent part of the candidate, from both projections [..., 3U]."""
    units = inputs.shape[-1] // 3
    # One sigmoid for both gates: compiled loops take half as long as with two.
    both = ops.sigmoid(inputs[..., : 2 * units] + hidden[..., : 2 * units])
    z, r, h_n = both[..., :units], both[..., units:], hidden[..., 2 * units :]
    return z, r, ops.tanh(inputs[..., 2 * units :] + r * h_n), h_n


@ops.custom_gradient
def _gru_sequence(projected: Any, recurrent_kernel: Any, recurrent_bias: Any) -> Any:
    units = recurrent_kernel.shape[0]
    inputs = ops.transpose(projected, (1, 0, 2))  # frames first, as loops want them
    initial = ops.zeros_like(inputs[0, :, :units])

    def step(carry: tuple[Any, Any], x: Any) -> tuple[Any, Any]:
        state, _ = carry
        hidden = ops.matmul(state, recurrent_kernel) + recurrent_bias
        z, _, n, _ = _gates(x, hidden)
        carry = (n + z * (state - n), hidden)  # TensorFlow's scan returns values of the form of the carry
        return carry, carry

    _, (states, hiddens) = ops.scan(step, (initial, ops.zeros_like(inputs[0])), inputs)

    def gradient(*args: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
        of_states = ops.transpose(args[-1] if upstream is None else upstream, (1, 0, 2))
        before = ops.concatenate([initial[None], states[:-1]], axis=0)
        # All frames at once: gates again, and how each projection's gradient follows from the state's.
        z, r, n, h_n = _gates(inputs, hiddens)
        of_n = (1.0 - z) * (1.0 - n * n)
        of_z = (before - n) * z * (1.0 - z)
        of_r = of_n * h_n * r * (1.0 - r)
        of_hidden = ops.stack([of_z, of_r, of_n * r], axis=-2)  # [F, B, 3, U]
        transposed = ops.transpose(recurrent_kernel)

        def back(carry: Any, frame: tuple[Any, ...]) -> tuple[Any, Any]:
            of_state, z, of_hidden = frame
            d_state = carry + of_state
            d_hidden = ops.reshape(d_state[:, None] * of_hidden, (-1, 3 * units))
            return d_state * z + ops.matmul(d_hidden, transposed), d_state

        backwards = tuple(ops.flip(values, axis=0) for values in (of_states, z, of_hidden))
        _, d_states = ops.scan(back, ops.zeros_like(initial), backwards)
        d_states = ops.flip(d_states, axis=0)
        d_hidden = ops.reshape(d_states[..., None, :] * of_hidden, (*ops.shape(d_states)[:2], 3 * units))
        d_inputs = ops.concatenate([d_hidden[..., : 2 * units], d_states * of_n], axis=-1)
        flat = ops.reshape(d_hidden, (-1, 3 * units))
        d_kernel = ops.matmul(ops.transpose(ops.reshape(before, (-1, units))), flat)
        return ops.transpose(d_inputs, (1, 0, 2)), d_kernel, ops.sum(flat, axis=0)

    return ops.transpose(states, (1, 0, 2)), gradient


@keras.saving.register_keras_serializable("ddsp")
class FastGru(keras.layers.GRU):
    """`keras.layers.GRU(units, return_sequences=True, reset_after=True)` from state 0, with the gradient above.

    Args:
      units: U.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        kwargs |= {"return_sequences": True, "reset_after": True}
        super().__init__(units, **kwargs)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Runs the GRU: [B, F, C] → [B, F, U].

        Raises:
          ModelError: an initial state or a mask was given.
        """
        if initial_state is not None or mask is not None:
            raise ModelError("a FastGru begins from state 0 and takes no mask", "Use keras.layers.GRU.")
        cell = self.cell
        bias, recurrent_bias = cell.bias[0], cell.bias[1]  # JAX and PyTorch cannot unstack a variable
        projected = ops.matmul(sequences, cell.kernel) + bias
        # a copy, because a custom gradient is a function of tensors and must not see a variable
        return gru_sequence(projected, ops.copy(cell.recurrent_kernel), recurrent_bias)


def split_controls(raw: Tensor, outputs: Mapping[str, int]) -> dict[str, Tensor]:
    """Cuts the output of a network [B, F, C] into controls by name, in the order of `outputs` (name → channels)."""
    controls, start = {}, 0
    for name, size in outputs.items():
        controls[name] = raw[..., start : start + size]
        start += size
    return controls


def _checked(owner: str, features: Mapping[str, Tensor], sizes: Mapping[str, int]) -> list[Tensor]:
    """Returns the features [B, F, C] of a network in order.

    Raises:
      ValueError: they are no mapping, a feature is missing, or has another shape.
    """
    if not isinstance(features, Mapping):
        raise ArgumentError(
            f"{owner} takes features by name, a mapping of {', '.join(sizes)}, not {type(features).__name__}"
        )
    for name in sizes:
        if name not in features:
            raise ArgumentError(missing_signal(owner, name, list(features)))
    tensors = {name: as_float32(features[name], f"{owner}: {name}") for name in sizes}
    shapes = {name: static_shape(tensor) for name, tensor in tensors.items()}
    check_shapes(owner, shapes, {name: f"B F {size}" for name, size in sizes.items()})
    return list(tensors.values())


def _channels(sizes: Any, owner: str, what: str) -> dict[str, int]:
    """Checks a mapping name → number of channels that is not empty.

    Raises:
      ValueError: it is something else.
    """
    if not isinstance(sizes, Mapping) or not sizes:
        raise ArgumentError(f"{owner}: {what} must map one or more names to numbers of channels, not {sizes!r}")
    return {name: whole(size, f"{owner}: channels of {name}") for name, size in sizes.items()}


class Decoder(keras.layers.Layer):
    """Base of all decoders: named features in, named raw controls out.

    Args:
      input_sizes: name → channels of the features, in the order in which they are concatenated.
      outputs: name → channels of the raw controls, in the order in which the last layer is split.

    The last layer computes in float32, also under a mixed-precision policy.
    """

    def __init__(self, input_sizes: Mapping[str, int], outputs: Mapping[str, int], **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        super().__init__(**kwargs)
        self.sizes = _channels(input_sizes, type(self).__name__, "inputs")
        self.outputs = _channels(outputs, type(self).__name__, "outputs")

    def projection(self) -> keras.layers.Dense:
        """Makes the last layer; a subclass makes it last, as the order of the weights is that of bundles."""
        return keras.layers.Dense(sum(self.outputs.values()), name="dense_out", dtype="float32")

    def __call__(self, features: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Converts and checks the features, then applies the network; see `call`."""
        tensors = _checked(type(self).__name__, features, self.sizes)
        return super().__call__(dict(zip(self.sizes, tensors, strict=True)), *args, **kwargs)

    def compute_output_spec(self, features: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Returns the shapes of the raw controls, for Keras' functional API on every backend."""
        batch, n_frames = next(iter(features.values())).shape[:2]
        return {name: keras.KerasTensor((batch, n_frames, size), "float32") for name, size in self.outputs.items()}


@keras.saving.register_keras_serializable("ddsp")
class FcStack(keras.layers.Layer):
    """n × (Dense → LayerNormalization → leaky ReLU 0.2), applied per frame (nn.py:844).

    Args:
      channels: width of every layer.
      n_layers: number of layers; 0 makes it the identity.
    """

    def __init__(self, channels: int, n_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = whole(channels, "channels")
        self.n_layers = whole(n_layers, "n_layers", smallest=0)
        self.dense = [keras.layers.Dense(channels, name=f"dense_{i}") for i in range(n_layers)]
        self.norm = [keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=f"norm_{i}") for i in range(n_layers)]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights for inputs of this shape."""
        shape = tuple(input_shape)
        for dense, norm in zip(self.dense, self.norm, strict=True):
            dense.build(shape)
            shape = (*shape[:-1], self.channels)
            norm.build(shape)
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Applies the stack: [B, F, C] → [B, F, channels]."""
        for dense, norm in zip(self.dense, self.norm, strict=True):
            x = ops.leaky_relu(norm(dense(x)), negative_slope=LEAKY_SLOPE)
        return x

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them."""
        named: dict[str, Any] = {}
        for i, (dense, norm) in enumerate(zip(self.dense, self.norm, strict=True)):
            named |= {f"{i}/dense/kernel": dense.kernel, f"{i}/dense/bias": dense.bias}
            named |= {f"{i}/norm/gamma": norm.gamma, f"{i}/norm/beta": norm.beta}
        return named

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), "channels": self.channels, "n_layers": self.n_layers}


@keras.saving.register_keras_serializable("ddsp")
class RnnFcDecoder(Decoder):
    """A stack per input, a GRU, a stack, and a projection (paper appendix B.2; decoders.py:27).

    Args:
      inputs: names of the inputs, in the order in which they are concatenated.
      outputs: name → channels of the outputs, in the order in which the projection is split.
      channels: width of the stacks.
      rnn_units: of the GRU.
      layers_per_stack: layers of each stack; 0 leaves the stacks out.
      input_sizes: channels of inputs that have more than one, such as a latent.
      note_bias: add a bias for each semitone to the projection, by `note_weights` of the input `f0_scaled`.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Mapping[str, int],
        channels: int = 512,
        rnn_units: int = 512,
        layers_per_stack: int = 3,
        input_sizes: Mapping[str, int] | None = None,
        note_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(inputs, str):
            raise ArgumentError(f"RnnFcDecoder: inputs must be a list of names, not {inputs!r}")
        self.input_sizes = dict(input_sizes or {})
        self.inputs = list(inputs)
        self.channels = whole(channels, "channels")
        self.rnn_units = whole(rnn_units, "rnn_units")
        self.layers_per_stack = whole(layers_per_stack, "layers_per_stack", smallest=0)
        self.has_note_bias = bool(note_bias)
        if note_bias and "f0_scaled" not in self.inputs:
            raise ArgumentError("RnnFcDecoder: a note bias needs the input f0_scaled")
        super().__init__({name: self.input_sizes.get(name, 1) for name in inputs}, outputs, **kwargs)
        self.input_stacks = [FcStack(channels, layers_per_stack, name=f"stack_{name}") for name in inputs]
        self.rnn = FastGru(rnn_units, name="rnn")
        self.out_stack = FcStack(channels, layers_per_stack, name="out_stack")
        self.dense_out = self.projection()

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        sizes = list(self.sizes.values())
        for stack, size in zip(self.input_stacks, sizes, strict=True):
            stack.build((None, None, size))
        joined = self.channels * len(sizes) if self.layers_per_stack else sum(sizes)
        self.rnn.build((None, None, joined))
        self.out_stack.build((None, None, joined + self.rnn_units))
        self.dense_out.build((None, None, self.channels if self.layers_per_stack else joined + self.rnn_units))
        if self.has_note_bias:
            shape = (N_NOTES, sum(self.outputs.values()))
            self.note_bias = self.add_weight(
                shape=shape, initializer="zeros", dtype="float32", autocast=False, name="note_bias"
            )
        self.built = True

    def call(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps features [B, F, C] by name to raw controls [B, F, C] by name."""
        processed = [stack(features[name]) for name, stack in zip(self.inputs, self.input_stacks, strict=True)]
        joined = ops.concatenate(processed, axis=-1)
        raw = self.dense_out(self.out_stack(ops.concatenate([joined, self.rnn(joined)], axis=-1)))
        if self.has_note_bias:
            raw = raw + ops.matmul(note_weights(features["f0_scaled"]), ops.convert_to_tensor(self.note_bias))
        return split_controls(raw, self.outputs)

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them, such as `rnn/kernel`."""
        named: dict[str, Any] = {}
        for name, stack in zip(self.inputs, self.input_stacks, strict=True):
            named |= {f"input_stacks/{name}/{key}": value for key, value in stack.named_weights().items()}
        cell = self.rnn.cell
        named |= {"rnn/kernel": cell.kernel, "rnn/recurrent_kernel": cell.recurrent_kernel, "rnn/bias": cell.bias}
        named |= {f"out_stack/{key}": value for key, value in self.out_stack.named_weights().items()}
        named |= {"dense_out/kernel": self.dense_out.kernel, "dense_out/bias": self.dense_out.bias}
        return named | ({"note_bias": self.note_bias} if self.has_note_bias else {})

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("inputs", "outputs", "channels", "rnn_units", "layers_per_stack", "input_sizes")
        own = {name: getattr(self, name) for name in names} | {"note_bias": self.has_note_bias}
        return {**super().get_config(), **own}


def note_weights(f0_scaled: Tensor) -> Tensor:
    """Returns the weights of linear interpolation between semitones, [B, F, 1] → [B, F, N]; see `scaling.N_NOTES`."""
    midi = ops.cast(f0_scaled, "float32") * F0_RANGE_MIDI
    notes = np.arange(LOWEST_NOTE, LOWEST_NOTE + N_NOTES, dtype=np.float32)
    return ops.relu(1.0 - ops.abs(midi - notes))


@keras.saving.register_keras_serializable("ddsp")
class CausalConv(keras.layers.Layer):
    """A dilated convolution over the current and past frames: [B, F, C] → [B, F, channels].

    Args:
      channels: of the output.
      kernel_size: number of frames in the kernel.
      dilation: distance between them.
    """

    def __init__(self, channels: int, kernel_size: int = 3, dilation: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel_size = kernel_size
        self.dilation = dilation

    @property
    def n_past(self) -> int:
        """Number of frames before the current one that the output depends on."""
        return (self.kernel_size - 1) * self.dilation

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights for inputs of this shape."""
        self.kernel = self.add_weight(shape=(self.kernel_size, input_shape[-1], self.channels), name="kernel")
        self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")

    def call(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """Applies the convolution.

        Args:
          x: [B, F, C].
          past: [B, n_past, C], the frames before x; zeros where it is None.

        Returns:
          [B, F, channels].
        """
        if past is None:
            past = ops.zeros((ops.shape(x)[0], self.n_past, x.shape[-1]), x.dtype)
        seen = ops.concatenate([past, x], axis=1)
        n_frames = ops.shape(x)[1]
        total = self.bias
        for i in range(self.kernel_size):  # a sum of matrix products: fast where grouped convolutions are not
            start = i * self.dilation
            total = total + ops.matmul(seen[:, start : start + n_frames], self.kernel[i])
        return total

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("channels", "kernel_size", "dilation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class DilatedConvDecoder(Decoder):
    """Stacks of causal convolutions with growing dilation, in place of a GRU (decoders.py:206).

    Args:
      inputs: name → channels of the inputs.
      outputs: name → channels of the outputs.
      channels: of every convolution.
      kernel_size: of every convolution.
      layers_per_stack: the dilation grows by the factor `dilation` from layer to layer.
      n_stacks: number of such stacks.
      dilation: factor.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        channels: int = 256,
        kernel_size: int = 3,
        layers_per_stack: int = 5,
        n_stacks: int = 2,
        dilation: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, **kwargs)
        self.inputs = dict(inputs)
        self.channels = whole(channels, "channels")
        self.kernel_size = whole(kernel_size, "kernel_size")
        self.layers_per_stack = whole(layers_per_stack, "layers_per_stack")
        self.n_stacks = whole(n_stacks, "n_stacks")
        self.dilation = whole(dilation, "dilation")
        dilations = [dilation**i for _ in range(n_stacks) for i in range(layers_per_stack)]
        self.dense_in = keras.layers.Dense(channels, name="dense_in")
        self.convs = [CausalConv(channels, kernel_size, d, name=f"conv_{i}") for i, d in enumerate(dilations)]
        self.norms = [
            keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=f"norm_{i}") for i in range(len(dilations))
        ]
        self.dense_out = self.projection()

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        self.dense_in.build((None, None, sum(self.inputs.values())))
        for layer in (*self.convs, *self.norms, self.dense_out):
            layer.build((None, None, self.channels))
        self.built = True

    def initial_state(self, n_examples: int = 1) -> list[Tensor]:
        """Returns the state of `stream` before the first frame: zeros [n_examples, n_past, channels] of each layer."""
        return [ops.zeros((n_examples, conv.n_past, self.channels)) for conv in self.convs]

    def call(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps features [B, F, C] by name to raw controls [B, F, C] by name."""
        return self._run([features[name] for name in self.inputs], [None] * len(self.convs))[0]

    def stream(self, features: Mapping[str, Tensor], state: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Maps the next frames of a stream; all pieces together equal one call on all frames.

        Args:
          features: [B, F, C] by name.
          state: of the piece before, or `initial_state`.

        Returns:
          raw controls [B, F, C] by name, and the state for the next piece.
        """
        return self._run(_checked(type(self).__name__, features, self.inputs), state)

    def _run(self, features: Sequence[Tensor], state: Sequence[Any]) -> tuple[dict[str, Tensor], list[Tensor]]:
        x = self.dense_in(ops.concatenate(features, axis=-1))
        new_state = []
        for conv, norm, past in zip(self.convs, self.norms, state, strict=True):
            seen = x if past is None else ops.concatenate([past, x], axis=1)
            new_state.append(seen[:, -conv.n_past :] if conv.n_past else seen[:, :0])
            x = x + ops.leaky_relu(norm(conv(x, past)), negative_slope=LEAKY_SLOPE)
        return split_controls(self.dense_out(x), self.outputs), new_state

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("inputs", "outputs", "channels", "kernel_size", "layers_per_stack", "n_stacks", "dilation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _Encoder(keras.layers.Layer):
    """The base of encoders: a GRU over C values a frame, and a projection to Z channels.

    Under a mixed-precision policy these two compute in half precision, all before them in float32.
    """

    def __init__(self, z_dims: int, rnn_units: int, n_mfccs: int, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("autocast", False)  # spectra and their normalisation need float32
        super().__init__(**kwargs)
        self.z_dims = whole(z_dims, "z_dims")
        self.rnn_units = whole(rnn_units, "rnn_units")
        self.n_mfccs = whole(n_mfccs, "n_mfccs")
        self.rnn = FastGru(rnn_units, name="rnn")
        self.dense_out = keras.layers.Dense(z_dims, name="dense_out")

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Makes all weights."""
        self.rnn.build((None, None, self.n_mfccs))
        self.dense_out.build((None, None, self.rnn_units))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("z_dims", "rnn_units", "n_mfccs")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class MfccEncoder(_Encoder):
    """A latent that changes with time, from audio (paper section 3.2 and appendix B.1; encoders.py:60).

    MFCCs are normalised over time, run through a GRU and projected to Z channels. The whole sound must be known before
    the first latent; `TimbreEncoder` does not need it.

    Args:
      z_dims: Z.
      rnn_units: number of units of the GRU.
      n_mfccs: C.
      fft_size: samples of a spectrum's window; 1024 with an overlap of 0.5 makes 125 latents in 4 s at 16 kHz.
      overlap: of neighbouring windows.
      sample_rate_hz: of the audio.
    """

    def __init__(
        self,
        z_dims: int = 16,
        rnn_units: int = 512,
        n_mfccs: int = 30,
        fft_size: int = 1024,
        overlap: float = 0.5,
        sample_rate_hz: int = 16000,
        **kwargs: Any,
    ) -> None:
        super().__init__(z_dims, rnn_units, n_mfccs, **kwargs)
        hop_of(fft_size, overlap)
        self.fft_size = whole(fft_size, "fft_size")
        self.overlap = overlap
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.gain = self.add_weight(shape=(n_mfccs,), initializer="ones", autocast=False, name="gain")
        self.shift = self.add_weight(shape=(n_mfccs,), initializer="zeros", autocast=False, name="shift")

    def call(self, audio: Tensor, n_frames: int | None = None) -> Tensor:
        """Encodes audio.

        Args:
          audio: [B, S].
          n_frames: F, to which the latent is interpolated; None keeps a latent for each spectrum.

        Returns:
          z [B, F, Z].

        Raises:
          ValueError: the shape is another one.
        """
        check_shapes("MfccEncoder", {"audio": static_shape(audio)}, {"audio": "B S"})
        coefficients = mfcc(
            audio, self.n_mfccs, self.fft_size, sample_rate_hz=self.sample_rate_hz, overlap=self.overlap
        )
        mean = ops.mean(coefficients, axis=1, keepdims=True)
        spread = ops.mean(ops.square(coefficients - mean), axis=1, keepdims=True)
        normal = (coefficients - mean) / ops.sqrt(spread + 1e-5)
        z = self.dense_out(self.rnn(normal * self.gain + self.shift))
        return z if n_frames is None else resample(z, n_frames)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("fft_size", "overlap", "sample_rate_hz")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class TimbreEncoder(_Encoder):
    """A latent that changes with time, from MFCCs frame by frame; it is causal, so it can follow a stream.

    The paper's encoder with two differences. MFCCs are normalised by their mean and standard deviation over the
    training set; a normalisation over each sound would need the sound's end, and would remove differences between
    instruments. And they are measured before (`analysis.mfcc`), on the frame grid of the model.

    Args:
      z_dims: Z.
      rnn_units: of the GRU.
      n_mfccs: C.
    """

    def __init__(self, z_dims: int = 16, rnn_units: int = 512, n_mfccs: int = 29, **kwargs: Any) -> None:
        super().__init__(z_dims, rnn_units, n_mfccs, **kwargs)
        fixed = {"shape": (n_mfccs,), "trainable": False, "autocast": False}
        self.mean = self.add_weight(**fixed, initializer="zeros", name="mean")
        self.spread = self.add_weight(**fixed, initializer="ones", name="spread")

    def adapt(self, mfcc: np.ndarray) -> None:
        """Sets mean and standard deviation to those of the training set.

        Args:
          mfcc: [..., C].
        """
        flat = mfcc.reshape(-1, self.n_mfccs)
        self.mean.assign(flat.mean(axis=0))
        self.spread.assign(np.maximum(flat.std(axis=0), 1e-3))

    def call(self, mfcc: Tensor) -> Tensor:
        """Encodes MFCCs.

        Args:
          mfcc: [B, F, C].

        Returns:
          z [B, F, Z].

        Raises:
          ValueError: the shape is another one.
        """
        check_shapes("TimbreEncoder", {"mfcc": static_shape(mfcc)}, {"mfcc": "B F C"}, {"C": ("n_mfccs", self.n_mfccs)})
        return self.dense_out(self.rnn((mfcc - self.mean) / self.spread))

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them."""
        cell = self.rnn.cell
        return {
            "mean": self.mean,
            "spread": self.spread,
            "rnn/kernel": cell.kernel,
            "rnn/recurrent_kernel": cell.recurrent_kernel,
            "rnn/bias": cell.bias,
            "dense_out/kernel": self.dense_out.kernel,
            "dense_out/bias": self.dense_out.bias,
        }


@keras.saving.register_keras_serializable("ddsp")
class InstrumentVectors(keras.layers.Layer):
    """The instrument as a condition of the decoder: a vector for each, constant over time.

    Learned vectors make a base model: one network that plays many instruments, each by D numbers, and new ones by D
    numbers more (`InstrumentVectors` is then the only layer to train). One-hot vectors have no weights.

    Args:
      n_instruments: rows of the table.
      vector_dims: D; 0 for one-hot vectors, D = n_instruments.
    """

    def __init__(self, n_instruments: int, vector_dims: int = 0, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.n_instruments = whole(n_instruments, "n_instruments")
        self.vector_dims = whole(vector_dims, "vector_dims", smallest=0)
        if vector_dims:
            self.vectors = self.add_weight(
                shape=(n_instruments, vector_dims),
                initializer=keras.initializers.RandomNormal(0.0, 1.0),
                name="vectors",
            )

    @property
    def n_channels(self) -> int:
        """D."""
        return self.vector_dims or self.n_instruments

    def call(self, instrument: Tensor) -> Tensor:
        """Looks up vectors.

        Args:
          instrument: [B, F, 1], index in 0..n_instruments - 1, a whole number; or [B, F, D], the vector itself, such
            as a mix of two. An index outside of the table has a vector of zeros.

        Returns:
          [B, F, D].

        Raises:
          ValueError: the shape is another one.
        """
        instrument = as_float32(instrument, "instrument")
        check_shapes("InstrumentVectors", {"x": static_shape(instrument)}, {"x": f"B F 1 | B F {self.n_channels}"})
        if instrument.shape[-1] == self.n_channels:
            return instrument
        one_hot = ops.one_hot(ops.cast(instrument[..., 0], "int32"), self.n_instruments, dtype="float32")
        return ops.matmul(one_hot, ops.convert_to_tensor(self.vectors)) if self.vector_dims else one_hot

    def vector(self, index: int) -> np.ndarray:
        """Returns the vector of an instrument, [D] float32."""
        if not self.vector_dims:
            return np.eye(self.n_instruments, dtype=np.float32)[index]
        return np.asarray(ops.convert_to_numpy(self.vectors), np.float32)[index]

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them."""
        return {"vectors": self.vectors} if self.vector_dims else {}

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), "n_instruments": self.n_instruments, "vector_dims": self.vector_dims}
