"""Train one model on several processes, on one machine or several: each has a share of every batch.

TensorFlow's collective operations (gRPC, or NCCL between GPUs) average the gradients; every process then changes its
own copy of the weights in the same way. Batches, their order and the learning rate do not depend on the number of
processes. The first process writes; the others only learn. Who takes part says `launcher`.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import keras
from keras import ops

from ddsp_cli.errors import ModelError
from ddsp_cli.training.launcher import Members
from ddsp_cli.training.split_batch import SplitBatchAutoencoder

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
        """The kind of model that these processes train.

        Args:
          n_shares: into how many parts a batch is split for validation, as in one process.
        """
        return type("SharedBatchAutoencoder", (SharedBatchAutoencoder,), {"processes": self, "n_shares": n_shares})

    def failures(self) -> tuple[type[Exception], ...]:
        """The exceptions that TensorFlow raises when another process has ended."""
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
        """The mean of each tensor over all processes."""
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
    """An `Autoencoder` that learns from its process's share of each batch what one process learns from all of it."""

    processes: Group
    n_shares: int

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on a batch of inputs [B, F, C] by name and audio [B, S]; metrics by name."""
        part = self._parts(data, self.processes.n)[self.processes.index]
        numbers, gradients = self._half_gradients(*part)
        found = self.processes.mean([*numbers, *(ops.convert_to_tensor(gradient) for gradient in gradients)])
        self._apply_gradients([found[len(numbers) :]])
        return self._update_metrics([tuple(found[: len(numbers)])], data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Metrics of a batch, by name: each process computes all of it, so that it does not depend on their number."""
        parts = [self._half_loss(*half, training=False) for half in self._parts(data, self.n_shares)]
        means = self.processes.mean([sum(of_halves) / len(parts) for of_halves in zip(*parts, strict=True)])
        return self._update_metrics([tuple(means)], data)
