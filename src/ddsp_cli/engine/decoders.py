"""The network: features in, raw controls out. Shapes: B batch, F frames, C channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine.recurrent import FastGru

LAYER_NORM_EPSILON = 1e-3
LEAKY_SLOPE = 0.2


@keras.saving.register_keras_serializable("ddsp")
class FcStack(keras.layers.Layer):
    """n × (Dense → LayerNormalization → leaky ReLU 0.2), applied per frame (nn.py:844).

    Args:
      channels: width of every layer.
      n_layers: how many; 0 makes it the identity.
    """

    def __init__(self, channels: int, n_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.n_layers = n_layers
        self.dense = [keras.layers.Dense(channels, name=f"dense_{i}") for i in range(n_layers)]
        self.norm = [
            keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=f"norm_{i}") for i in range(n_layers)
        ]

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = tuple(input_shape)
        for dense, norm in zip(self.dense, self.norm, strict=True):
            dense.build(shape)
            shape = (*shape[:-1], self.channels)
            norm.build(shape)

    def call(self, x: Any) -> Any:
        for dense, norm in zip(self.dense, self.norm, strict=True):
            x = ops.leaky_relu(norm(dense(x)), negative_slope=LEAKY_SLOPE)
        return x

    def named_weights(self) -> dict[str, Any]:
        """Variables by the names under which a bundle keeps them."""
        named: dict[str, Any] = {}
        for i, (dense, norm) in enumerate(zip(self.dense, self.norm, strict=True)):
            named |= {f"{i}/dense/kernel": dense.kernel, f"{i}/dense/bias": dense.bias}
            named |= {f"{i}/norm/gamma": norm.gamma, f"{i}/norm/beta": norm.beta}
        return named

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "n_layers": self.n_layers}


@keras.saving.register_keras_serializable("ddsp")
class RnnFcDecoder(keras.layers.Layer):
    """Stack per input, GRU, stack, projection (paper appendix B.2; decoders.py:27).

    Args:
      inputs: names of the inputs, in the order in which they are concatenated.
      outputs: name → channels of the outputs, in the order in which the projection is split.
      channels, rnn_units, layers_per_stack: sizes.
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
        super().__init__(**kwargs)
        self.input_sizes = dict(input_sizes or {})
        self.inputs = list(inputs)
        self.outputs = dict(outputs)
        self.channels = channels
        self.rnn_units = rnn_units
        self.layers_per_stack = layers_per_stack
        self.input_stacks = [FcStack(channels, layers_per_stack, name=f"stack_{name}") for name in inputs]
        self.rnn = FastGru(rnn_units, name="rnn")
        self.out_stack = FcStack(channels, layers_per_stack, name="out_stack")
        self.dense_out = keras.layers.Dense(sum(outputs.values()), name="dense_out")

    def build(self, input_shape: Any = None) -> None:
        sizes = [self.input_sizes.get(name, 1) for name in self.inputs]
        for stack, size in zip(self.input_stacks, sizes, strict=True):
            stack.build((None, None, size))
        joined = self.channels * len(sizes) if self.layers_per_stack else sum(sizes)
        self.rnn.build((None, None, joined))
        self.out_stack.build((None, None, joined + self.rnn_units))
        self.dense_out.build((None, None, self.channels if self.layers_per_stack else joined + self.rnn_units))
        self.built = True

    def call(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Features [B, F, 1] by name to raw controls [B, F, C] by name."""
        processed = [stack(features[name]) for name, stack in zip(self.inputs, self.input_stacks, strict=True)]
        joined = ops.concatenate(processed, axis=-1)
        raw = self.dense_out(self.out_stack(ops.concatenate([joined, self.rnn(joined)], axis=-1)))
        result, start = {}, 0
        for name, size in self.outputs.items():
            result[name] = raw[..., start : start + size]
            start += size
        return result

    def named_weights(self) -> dict[str, Any]:
        """Variables by the names under which a bundle keeps them, e.g. `input_stacks/f0_scaled/0/dense/kernel`."""
        named: dict[str, Any] = {}
        for name, stack in zip(self.inputs, self.input_stacks, strict=True):
            named |= {f"input_stacks/{name}/{key}": value for key, value in stack.named_weights().items()}
        cell = self.rnn.cell
        named |= {"rnn/kernel": cell.kernel, "rnn/recurrent_kernel": cell.recurrent_kernel, "rnn/bias": cell.bias}
        named |= {f"out_stack/{key}": value for key, value in self.out_stack.named_weights().items()}
        named |= {"dense_out/kernel": self.dense_out.kernel, "dense_out/bias": self.dense_out.bias}
        return named

    def get_config(self) -> dict[str, Any]:
        names = ("inputs", "outputs", "channels", "rnn_units", "layers_per_stack", "input_sizes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
