"""Data parallelism: each part of a batch in a separate program, on one processor or on several processes.

- One processor, TensorFlow without a GPU: XLA compiles a step to one program, which runs its operations one after the
  other; several cores work only within large matrix products. Two programs with half a batch each fill two cores: a
  step takes two thirds of the time.
- Several processes, on one machine or several: each has a share of every batch. TensorFlow's collective operations
  (gRPC, or NCCL between GPUs) average the gradients; every process then changes its own copy of the weights in the same
  way. Batches, their order and the learning rate do not depend on the number of processes. The first process writes;
  the others only learn. Who takes part says `resources`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine import Autoencoder
from ddsp_cli.errors import ModelError
from ddsp_cli.training.resources import Members
from ddsp_cli.training.run_log import random_state_kept

#: Inputs by name, sound, and random numbers by name, of a part of a batch.
Part = tuple[dict[str, Any], Any, dict[str, Any]]


class SplitBatchAutoencoder(Autoencoder):
    """An `Autoencoder` that splits each batch, of an even number of examples, and learns the same from it.

    The two parts only read weights, so that TensorFlow may run them in parallel. What changes variables (the random
    state, the optimiser, metrics) runs before and after.
    """

    def compile(self, *, optimizer: keras.optimizers.Optimizer, jit_compile: bool) -> None:
        """Like `keras.Model.compile`, with a program for each part of a step."""
        import tensorflow as tf

        super().compile(optimizer=optimizer, jit_compile=False)
        self._part_gradients = tf.function(self._loss_and_gradients, jit_compile=jit_compile, autograph=False)
        # validations are few, and XLA takes longer to compile this than it saves in a training
        self._part_loss = tf.function(self._loss_and_energies, jit_compile=False, autograph=False)
        self._apply_gradients = tf.function(self._apply_mean, jit_compile=jit_compile, autograph=False)

    def compile_ahead(self, inputs: Mapping[str, Any], audio: Any) -> Callable[[], Any]:
        """Makes a call that compiles the gradients of a step. It takes seconds, and does not change the model.

        It may run in a separate thread, beside anything that does not use the model's random state.

        Args:
          inputs, audio: a batch as `train_step` gets it.
        """
        import tensorflow as tf

        with random_state_kept(self):
            part = self._parts((inputs, audio))[0]
        # batches of `fit` have no static size; a function of other shapes would be compiled again
        specs = [tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in keras.tree.flatten(part)]
        function = self._part_gradients.get_concrete_function(*keras.tree.pack_sequence_as(part, specs))
        # called within a graph, as by `train_step`: XLA would compile the same function again for that
        call = tf.function(function, autograph=False)
        return lambda: call(*part)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step on a batch of inputs [B, F, C] by name and audio [B, S]; returns metrics by name."""
        found = [self._part_gradients(*part) for part in self._parts(data)]
        self._apply_gradients([gradients for _, gradients in found])
        return self._update_metrics([numbers for numbers, _ in found], data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the metrics of a batch, by name."""
        return self._update_metrics([self._part_loss(*part, training=False) for part in self._parts(data)], data)

    def _parts(self, data: Any, n: int = 2) -> list[Part]:
        """Returns equal parts of a batch, with the random numbers of each."""
        inputs, audio, _ = keras.utils.unpack_x_y_sample_weight(data)
        batch = (inputs, audio, self.group.draw(ops.shape(audio)[0], audio.shape[-1]))
        splits = zip(*(ops.split(value, n) for value in keras.tree.flatten(batch)), strict=True)
        return [keras.tree.pack_sequence_as(batch, list(part)) for part in splits]

    def _loss_and_gradients(self, inputs: Mapping[str, Any], audio: Any, drawn: Mapping[str, Any]) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            numbers = self._loss_and_energies(inputs, audio, drawn)
        return numbers, tape.gradient(numbers[0], self.trainable_variables)

    def _loss_and_energies(
        self, inputs: Mapping[str, Any], audio: Any, drawn: Mapping[str, Any], training: bool = True
    ) -> tuple[Any, Any, Any]:
        rendered = self(inputs, given=drawn)
        loss = self.objective(audio, rendered, training=training)
        if training:
            loss = loss + self.control_penalty(inputs, rendered)
        return loss, *self.energies(audio, rendered["audio"])

    def _apply_mean(self, gradients: list[list[Any]]) -> None:
        mean = [sum(of_parts) / len(gradients) for of_parts in zip(*gradients, strict=True)]
        self.optimizer.apply(mean, self.trainable_variables)

    def _update_metrics(self, numbers: list[tuple[Any, Any, Any]], data: Any) -> dict[str, Any]:
        loss, energy, wanted = (sum(of_parts) / len(numbers) for of_parts in zip(*numbers, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(data[1])[0])
        self.note_level(energy, wanted)
        return dict(self.get_metrics_result())


#: Ports of Slurm steps begin here; the number of the job is added, so that jobs on one node do not meet.
SLURM_PORT, N_SLURM_PORTS = 20_000, 10_000


def _of_slurm() -> tuple[str, ...]:
    """Addresses of the processes of a Slurm step."""
    from tensorflow.distribute.cluster_resolver import SlurmClusterResolver

    port = SLURM_PORT + int(os.environ["SLURM_JOB_ID"]) % N_SLURM_PORTS
    cluster = SlurmClusterResolver(port_base=port, auto_set_gpu=False).cluster_spec()
    return tuple(cluster.job_tasks("worker"))


class Group:
    """The processes of a training, connected. Waits for all of them; before anything else is done with TensorFlow.

    Args:
      members: who takes part.
    """

    def __init__(self, members: Members) -> None:
        import tensorflow as tf

        self.index, self.n = members.index, members.n
        task = {"type": "worker", "index": members.index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": members.addresses or _of_slurm()}, "task": task})
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy()

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def model_type(self, n_shares: int) -> type[SharedBatchAutoencoder]:
        """Returns the kind of model that these processes train.

        Args:
          n_shares: into how many parts a batch is split for validation, as in one process.
        """
        return type("SharedBatchAutoencoder", (SharedBatchAutoencoder,), {"processes": self, "n_shares": n_shares})

    def failures(self) -> tuple[type[Exception], ...]:
        """Returns the exceptions that TensorFlow raises when another process has ended."""
        from tensorflow import errors

        return (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError,
                errors.InternalError)  # fmt: skip

    def lost(self) -> ModelError:
        """Makes the error that is shown when another process has ended."""
        return ModelError(
            f"another of the {self.n} processes of this training ended or cannot be reached, so this one stops",
            "The last checkpoint is kept: start the training again with any number of processes.",
        )

    def wait(self) -> None:
        """Waits until all processes are here, or one is gone."""
        import tensorflow as tf

        with contextlib.suppress(*self.failures()):
            tf.function(lambda: self.mean([tf.zeros(())]), autograph=False)()

    def mean(self, tensors: list[Any]) -> list[Any]:
        """Returns the mean of each tensor over all processes."""
        import tensorflow as tf

        def reduce(values: list[Any]) -> Any:
            values = [tf.identity(value) for value in values]  # on the device of this process, which tensors need here
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        return [total / self.n for total in self._strategy.run(reduce, args=(tensors,))]

    def share(self, model: keras.Model) -> None:
        """Gives all processes the variables of the first."""
        import tensorflow as tf

        @tf.function(autograph=False)
        def of_first(values: list[Any]) -> list[Any]:
            return self.mean([value * self.n if self.writes else tf.zeros_like(value) for value in values])

        variables = [*model.trainable_variables, *model.optimizer.variables]
        variables = [v for v in variables if "float" in str(v.dtype)]
        for variable, value in zip(variables, of_first([v.value for v in variables]), strict=True):
            variable.assign(value)


class SharedBatchAutoencoder(SplitBatchAutoencoder):
    """An `Autoencoder` that trains on its process's share of each batch, with the same result as one process."""

    processes: Group
    n_shares: int

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step on a batch of inputs [B, F, C] by name and audio [B, S]; returns metrics by name."""
        part = self._parts(data, self.processes.n)[self.processes.index]
        numbers, gradients = self._part_gradients(*part)
        found = self.processes.mean([*numbers, *(ops.convert_to_tensor(gradient) for gradient in gradients)])
        self._apply_gradients([found[len(numbers) :]])
        return self._update_metrics([tuple(found[: len(numbers)])], data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the metrics of a batch by name. Every process computes all of it, so their number has no effect."""
        parts = [self._part_loss(*part, training=False) for part in self._parts(data, self.n_shares)]
        means = self.processes.mean([sum(of_parts) / len(parts) for of_parts in zip(*parts, strict=True)])
        return self._update_metrics([tuple(means)], data)
