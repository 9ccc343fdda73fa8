"""Data parallelism on one processor: each half of a batch in a program of its own, for TensorFlow without a GPU.

XLA compiles a step to one program, which runs its operations one after the other; several cores work only within large
matrix products. Two programs with half a batch each fill two cores: a step takes two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine import Autoencoder

Half = tuple[dict[str, Any], Any, dict[str, Any]]


class SplitBatchAutoencoder(Autoencoder):
    """An `Autoencoder` that splits each batch, of an even number of examples, and learns the same from it.

    The halves only read weights, so that TensorFlow may run them in parallel; whatever changes variables (the random
    state, the optimiser, metrics) runs before and after.
    """

    def compile(self, *, optimizer: keras.optimizers.Optimizer, jit_compile: bool) -> None:
        """As `keras.Model.compile`, with a program for each part of a step."""
        import tensorflow as tf

        super().compile(optimizer=optimizer, jit_compile=False)
        self._half_gradients = tf.function(self._loss_and_gradients, jit_compile=jit_compile, autograph=False)
        self._half_loss = tf.function(self._loss_and_energies, jit_compile=jit_compile, autograph=False)
        self._apply_gradients = tf.function(self._apply_mean, jit_compile=jit_compile, autograph=False)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on a batch of inputs [B, F, C] by name and audio [B, S]; metrics by name."""
        found = [self._half_gradients(*half) for half in self._halves(data)]
        self._apply_gradients([gradients for _, gradients in found])
        return self._update_metrics([numbers for numbers, _ in found], data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Metrics of a batch, by name."""
        return self._update_metrics([self._half_loss(*half, training=False) for half in self._halves(data)], data)

    def _halves(self, data: Any) -> list[Half]:
        return self._parts(data, 2)

    def _parts(self, data: Any, n: int) -> list[Half]:
        """Equal parts of a batch, with what is drawn at random for each."""
        inputs, audio, _ = keras.utils.unpack_x_y_sample_weight(data)
        batch = (inputs, audio, self.group.draw(ops.shape(audio)[0], audio.shape[-1]))
        splits = zip(*(ops.split(value, n) for value in keras.tree.flatten(batch)), strict=True)
        return [keras.tree.pack_sequence_as(batch, list(half)) for half in splits]

    def _loss_and_gradients(self, inputs: Mapping[str, Any], audio: Any, drawn: Mapping[str, Any]) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            numbers = self._loss_and_energies(inputs, audio, drawn)
        return numbers, tape.gradient(numbers[0], self.trainable_variables)

    def _loss_and_energies(
        self, inputs: Mapping[str, Any], audio: Any, drawn: Mapping[str, Any], training: bool = True
    ) -> tuple[Any, Any, Any]:
        rendered = self(inputs, given=drawn)
        loss = self.objective(audio, rendered["audio"], training=training)
        if training:
            loss = loss + self.control_penalty(inputs, rendered)
        return loss, *self.energies(audio, rendered["audio"])

    def _apply_mean(self, gradients: list[list[Any]]) -> None:
        mean = [sum(of_halves) / len(gradients) for of_halves in zip(*gradients, strict=True)]
        self.optimizer.apply(mean, self.trainable_variables)

    def _update_metrics(self, numbers: list[tuple[Any, Any, Any]], data: Any) -> dict[str, Any]:
        loss, energy, wanted = (sum(of_halves) / len(numbers) for of_halves in zip(*numbers, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(data[1])[0])
        self.note_level(energy, wanted)
        return dict(self.get_metrics_result())
