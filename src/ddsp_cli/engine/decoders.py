"""Networks from features to raw controls. Shapes: B batch, F frames, C channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, as_float32, check_shapes, static_shape, whole
from ddsp_cli.engine.processors import missing_signal, refuse_unknown
from ddsp_cli.engine.recurrent import FastGru
from ddsp_cli.scaling import LEAKY_SLOPE, NORM_EPSILON


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
        """Shapes of the raw controls, for Keras' functional API on every backend."""
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
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Mapping[str, int],
        channels: int = 512,
        rnn_units: int = 512,
        layers_per_stack: int = 3,
        input_sizes: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(inputs, str):
            raise ArgumentError(f"RnnFcDecoder: inputs must be a list of names, not {inputs!r}")
        self.input_sizes = dict(input_sizes or {})
        self.inputs = list(inputs)
        self.channels = whole(channels, "channels")
        self.rnn_units = whole(rnn_units, "rnn_units")
        self.layers_per_stack = whole(layers_per_stack, "layers_per_stack", smallest=0)
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
        self.built = True

    def call(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps features [B, F, C] by name to raw controls [B, F, C] by name."""
        processed = [stack(features[name]) for name, stack in zip(self.inputs, self.input_stacks, strict=True)]
        joined = ops.concatenate(processed, axis=-1)
        raw = self.dense_out(self.out_stack(ops.concatenate([joined, self.rnn(joined)], axis=-1)))
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
        return named

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("inputs", "outputs", "channels", "rnn_units", "layers_per_stack", "input_sizes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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

    @property
    def receptive_frames(self) -> int:
        """Number of frames an output depends on, the current one included."""
        return 1 + sum(conv.n_past for conv in self.convs)

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
