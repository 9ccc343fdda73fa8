"""Training losses. Shapes: B batch, S samples, T spectral frames, N bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine.core.distance import OVERLAP, SpectralDistance
from ddsp_cli.engine.core.spectra import a_weighted_loudness, safe_log, stft_magnitude

LOSS_TYPES = ("L1", "L2", "COSINE")


def mean_difference(target: Any, value: Any, loss_type: str = "L1") -> Any:
    """One number for how far apart two arrays are (losses.py:30).

    Args:
      target, value: [..., N].
      loss_type: `L1` mean absolute, `L2` mean squared, `COSINE` one minus the mean cosine along the last axis.

    Raises:
      ValueError: no such type.
    """
    if loss_type == "L1":
        return ops.mean(ops.abs(target - value))
    if loss_type == "L2":
        return ops.mean(ops.square(target - value))
    if loss_type == "COSINE":
        return 1.0 - ops.mean(ops.sum(ops.normalize(target, axis=-1) * ops.normalize(value, axis=-1), axis=-1))
    raise ValueError(f"unknown loss type {loss_type!r}; known are {', '.join(LOSS_TYPES)}")


@keras.saving.register_keras_serializable("ddsp")
class SpectralLoss(keras.losses.Loss):
    """Multi-scale spectral loss (paper section 4.2; losses.py:132).

    For every FFT size differences of the spectrograms, summed over sizes. Each term with weight 0 costs nothing.

    Args:
      fft_sizes: window lengths in samples, 75 % overlap.
      mag_weight: weight of the magnitudes.
      logmag_weight: weight of their natural logarithms; the original's class default is 0, its models use 1.
      log_floor: magnitudes below it count as it in the logarithmic term. At 0, the original's definition, the
        difference between silence and a whisper at -120 dB outweighs every audible one.
      loss_type: `L1`, `L2` or `COSINE`, see `mean_difference`.
      delta_time_weight, delta_freq_weight: of the differences between neighbours in time, in frequency.
      cumsum_freq_weight: of the magnitudes summed up along frequency.
      loudness_weight: of the A-weighted loudness in dB, once and not per size.
      sample_rate_hz: for the loudness.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
        mag_weight: float = 1.0,
        logmag_weight: float = 0.0,
        log_floor: float = 0.0,
        name: str = "spectral_loss",
        *,
        loss_type: str = "L1",
        delta_time_weight: float = 0.0,
        delta_freq_weight: float = 0.0,
        cumsum_freq_weight: float = 0.0,
        loudness_weight: float = 0.0,
        sample_rate_hz: int = 16000,
    ) -> None:
        super().__init__(name=name, reduction=None)
        if loss_type not in LOSS_TYPES:
            raise ValueError(f"unknown loss type {loss_type!r}; known are {', '.join(LOSS_TYPES)}")
        self.fft_sizes = tuple(fft_sizes)
        self.mag_weight = mag_weight
        self.logmag_weight = logmag_weight
        self.log_floor = log_floor
        self.loss_type = loss_type
        self.delta_time_weight = delta_time_weight
        self.delta_freq_weight = delta_freq_weight
        self.cumsum_freq_weight = cumsum_freq_weight
        self.loudness_weight = loudness_weight
        self.sample_rate_hz = sample_rate_hz

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch, a scalar.

        Args:
          y_true, y_pred: audio [B, S]; gradients are those along `y_pred`.
        """
        y_true = ops.stop_gradient(ops.convert_to_tensor(y_true))
        y_pred = ops.convert_to_tensor(y_pred)
        total = ops.zeros(())
        lean = self.loss_type != "COSINE"
        if lean and (self.mag_weight > 0 or self.logmag_weight > 0):
            distance = SpectralDistance(
                self.fft_sizes, self.mag_weight, self.logmag_weight, self.log_floor, self.loss_type == "L2"
            )
            total = total + distance(y_true, y_pred)
        terms = self._terms(lean)
        for size in self.fft_sizes if terms else ():
            target, value = stft_magnitude(y_true, size, OVERLAP), stft_magnitude(y_pred, size, OVERLAP)
            for weight, view in terms:
                total = total + weight * mean_difference(view(target), view(value), self.loss_type)
        if self.loudness_weight > 0:
            target, value = (a_weighted_loudness(y, self.sample_rate_hz, size=2048) for y in (y_true, y_pred))
            total = total + self.loudness_weight * mean_difference(target, value, self.loss_type)
        return total

    def _terms(self, lean: bool) -> list[tuple[float, Callable[[Any], Any]]]:
        """Weights, and what is compared of magnitudes [B, T, N]; without what `SpectralDistance` does where lean."""
        terms: list[tuple[float, Callable[[Any], Any]]] = [
            (self.delta_time_weight, lambda x: x[:, 1:] - x[:, :-1]),
            (self.delta_freq_weight, lambda x: x[:, :, 1:] - x[:, :, :-1]),
            (self.cumsum_freq_weight, lambda x: ops.cumsum(x, axis=2)),
        ]
        if not lean:
            terms += [(self.mag_weight, lambda x: x), (self.logmag_weight, lambda x: safe_log(self._floored(x)))]
        return [(weight, view) for weight, view in terms if weight > 0]

    def _floored(self, magnitude: Any) -> Any:
        return ops.maximum(magnitude, self.log_floor) if self.log_floor > 0 else magnitude

    def get_config(self) -> dict[str, Any]:
        names = (
            "mag_weight", "logmag_weight", "log_floor", "name", "loss_type", "delta_time_weight", "delta_freq_weight",
            "cumsum_freq_weight", "loudness_weight", "sample_rate_hz",
        )  # fmt: skip
        return {"fft_sizes": list(self.fft_sizes), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class EmbeddingLoss(keras.losses.Loss):
    """Distance in the embedding of a frozen model: the paper's perceptual loss, over any Keras model (losses.py:318).

    Args:
      model: takes audio [B, S], gives one embedding or a list of them. Its weights are not trained.
      weight: of the loss.
      loss_type: see `mean_difference`.
    """

    def __init__(
        self, model: keras.Model, weight: float = 1.0, loss_type: str = "L1", name: str = "embedding_loss"
    ) -> None:
        super().__init__(name=name, reduction=None)
        model.trainable = False
        self.model = model
        self.weight = weight
        self.loss_type = loss_type

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch of audio [B, S], a scalar: summed over the embeddings."""
        targets = keras.tree.flatten(self.model(ops.stop_gradient(y_true), training=False))
        values = keras.tree.flatten(self.model(y_pred, training=False))
        total = ops.zeros(())
        for target, value in zip(targets, values, strict=True):
            total = total + mean_difference(target, value, self.loss_type)
        return self.weight * total

    def get_config(self) -> dict[str, Any]:
        model = keras.saving.serialize_keras_object(self.model)
        return {"model": model, "weight": self.weight, "loss_type": self.loss_type, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EmbeddingLoss:
        return cls(keras.saving.deserialize_keras_object(config.pop("model")), **config)
