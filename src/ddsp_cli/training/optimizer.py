"""How fast a training learns: the schedule of a preset, and a pace of its own for the room."""

from __future__ import annotations

from typing import Any

import keras

from ddsp_cli.config import TrainingConfig
from ddsp_cli.engine import Autoencoder

#: A cosine begins its warm-up, and a preset's last step ends, at these shares of the learning rate.
WARMUP_SHARE = 0.05
FINAL_SHARE = 0.02


class PacedAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) whose learning rate is multiplied for some variables.

    Adam's steps are as long as its learning rate whatever the gradient, so a control that has far to go, such as the
    decay of a room over 100 dB, takes thousands of steps at the rate that suits a network.

    Args:
      paces: of the trainable variables, in their order.
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
    """Learning rate by step.

    Args:
      training: whose `schedule` is `cosine`, down to almost nothing at the last step, or `exponential`.
      total_steps: of the whole training.
      slower: multiplies it all.
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
    """The optimiser of a training, with variables for all weights of the model."""
    room = model.room
    of_room = {id(variable) for variable in room.trainable_variables} if room else set()
    pace = training.room_pace * room.pace if room else 1.0
    paces = [pace if id(variable) in of_room else 1.0 for variable in model.trainable_variables]
    optimizer = PacedAdam(
        schedule(training, total_steps, slower), paces, beta_2=training.beta_2, global_clipnorm=training.clip_norm
    )
    optimizer.build(model.trainable_variables)
    return optimizer
