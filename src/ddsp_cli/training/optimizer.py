"""The optimiser: Adam with the schedule of a preset, and a learning rate of its own for the room."""

from __future__ import annotations

from typing import Any

import keras

from ddsp_cli.config import TrainingConfig
from ddsp_cli.engine import Autoencoder

#: Shares of the learning rate at which the warm-up of a cosine schedule begins, and at which it ends.
WARMUP_SHARE = 0.05
FINAL_SHARE = 0.02


class PacedAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) whose learning rate is multiplied for some variables.

    A step of Adam is about as long as its learning rate whatever the gradient: a parameter that has far to go, such as
    the decay of a room over 100 dB, takes thousands of steps at the rate that suits a network.

    Args:
      learning_rate: a number or a schedule.
      paces: multipliers of the trainable variables, in their order.
    """

    def __init__(self, learning_rate: Any, paces: list[float], **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.paces = paces

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        pace = self.paces[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * pace)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "paces": self.paces}


def schedule(training: TrainingConfig, total_steps: int, slower: float = 1.0) -> Any:
    """The learning rate by step, as a Keras schedule.

    Args:
      training: its `schedule` is `cosine` with linear warm-up (Loshchilov & Hutter 2017), or `exponential`.
      total_steps: of the whole training.
      slower: factor of all learning rates.
    """
    rate = training.learning_rate * slower
    if training.schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(rate, training.decay_steps, training.decay_rate)
    warmup = min(training.warmup_steps, total_steps // 2)
    return keras.optimizers.schedules.CosineDecay(
        rate * WARMUP_SHARE if warmup else rate,
        max(1, total_steps - warmup),
        alpha=FINAL_SHARE,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(
    model: Autoencoder, training: TrainingConfig, total_steps: int, slower: float = 1.0
) -> keras.optimizers.Optimizer:
    """Builds the optimiser of a training, with variables for all weights of the model."""
    room = model.room
    of_room = {id(variable) for variable in room.trainable_variables} if room else set()
    pace = training.room_pace * room.pace if room else 1.0
    paces = [pace if id(variable) in of_room else 1.0 for variable in model.trainable_variables]
    optimizer = PacedAdam(
        schedule(training, total_steps, slower), paces, beta_2=training.beta_2, global_clipnorm=training.clip_norm
    )
    optimizer.build(model.trainable_variables)
    return optimizer
