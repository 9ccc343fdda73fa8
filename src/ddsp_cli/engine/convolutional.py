"""A decoder of dilated convolutions that looks back only. Shapes: B batch, F frames, C channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("ddsp")
class CausalConv(keras.layers.Layer):
    """A dilated convolution over the current and past frames: [B, F, C] → [B, F, channels].

    Args:
      channels: of the output.
      kernel_size: frames looked at.
      dilation: distance between them.
    """

    def __init__(self, channels: int, kernel_size: int = 3, dilation: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel_size = kernel_size
        self.dilation = dilation

    @property
    def n_past(self) -> int:
        """Frames before the current one that matter."""
        return (self.kernel_size - 1) * self.dilation

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(shape=(self.kernel_size, input_shape[-1], self.channels), name="kernel")
        self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")

    def call(self, x: Any, past: Any = None) -> Any:
        """`past` [B, n_past, C] comes before x; zeros where it is not given."""
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
        names = ("channels", "kernel_size", "dilation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class DilatedConvDecoder(keras.layers.Layer):
    """Stacks of causal convolutions with growing dilation, in place of a GRU (decoders.py:206).

    Args:
      inputs: name → channels of the inputs.
      outputs: name → channels of the outputs.
      channels, kernel_size: of every convolution.
      layers_per_stack: the dilation grows by the factor `dilation` from layer to layer.
      n_stacks: how often that is repeated.
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
        super().__init__(**kwargs)
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)
        self.channels = channels
        self.kernel_size = kernel_size
        self.layers_per_stack = layers_per_stack
        self.n_stacks = n_stacks
        self.dilation = dilation
        dilations = [dilation**i for _ in range(n_stacks) for i in range(layers_per_stack)]
        self.dense_in = keras.layers.Dense(channels, name="dense_in")
        self.convs = [CausalConv(channels, kernel_size, d, name=f"conv_{i}") for i, d in enumerate(dilations)]
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-3, name=f"norm_{i}") for i in range(len(dilations))]
        self.dense_out = keras.layers.Dense(sum(outputs.values()), name="dense_out")

    def build(self, input_shape: Any = None) -> None:
        self.dense_in.build((None, None, sum(self.inputs.values())))
        for layer in (*self.convs, *self.norms, self.dense_out):
            layer.build((None, None, self.channels))
        self.built = True

    @property
    def receptive_frames(self) -> int:
        """How many frames an output depends on, the current one among them."""
        return 1 + sum(conv.n_past for conv in self.convs)

    def initial_state(self, n_examples: int = 1) -> list[Any]:
        """What the stream has seen before its start: nothing."""
        return [ops.zeros((n_examples, conv.n_past, self.channels)) for conv in self.convs]

    def call(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Features [B, F, C] by name to raw controls [B, F, C] by name."""
        return self.stream(features, [None] * len(self.convs))[0]

    def stream(self, features: Mapping[str, Any], state: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """The next frames of a stream: controls, and the state for the frames after; as one call on all frames."""
        x = self.dense_in(ops.concatenate([features[name] for name in self.inputs], axis=-1))
        new_state = []
        for conv, norm, past in zip(self.convs, self.norms, state, strict=True):
            seen = x if past is None else ops.concatenate([past, x], axis=1)
            new_state.append(seen[:, -conv.n_past :] if conv.n_past else seen[:, :0])
            x = x + ops.leaky_relu(norm(conv(x, past)), negative_slope=0.2)
        raw = self.dense_out(x)
        controls, start = {}, 0
        for name, size in self.outputs.items():
            controls[name] = raw[..., start : start + size]
            start += size
        return controls, new_state

    def get_config(self) -> dict[str, Any]:
        names = ("inputs", "outputs", "channels", "kernel_size", "layers_per_stack", "n_stacks", "dilation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
