"""Training losses. Shapes: B batch, S samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine.core.spectra import safe_log, stft_magnitude


@keras.saving.register_keras_serializable("ddsp")
class SpectralLoss(keras.losses.Loss):
    """Multi-scale spectral loss (paper section 4.2; losses.py:132).

    For every FFT size the mean absolute difference of magnitudes, and of their natural logarithms, summed over sizes.

    Args:
      fft_sizes: window lengths in samples, 75 % overlap.
      mag_weight: weight of the linear term.
      logmag_weight: weight of the logarithmic term; the original's class default is 0, its models use 1.
      log_floor: magnitudes below it count as it in the logarithmic term. At 0, the original's definition, the
        difference between silence and a whisper at -120 dB outweighs every audible one.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
        mag_weight: float = 1.0,
        logmag_weight: float = 0.0,
        log_floor: float = 0.0,
        name: str = "spectral_loss",
    ) -> None:
        super().__init__(name=name, reduction=None)
        self.fft_sizes = tuple(fft_sizes)
        self.mag_weight = mag_weight
        self.logmag_weight = logmag_weight
        self.log_floor = log_floor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch, a scalar.

        Args:
          y_true, y_pred: audio [B, S].
        """
        total = ops.zeros(())
        for size in self.fft_sizes:
            target, value = stft_magnitude(y_true, size), stft_magnitude(y_pred, size)
            if self.mag_weight > 0:
                total = total + self.mag_weight * ops.mean(ops.abs(target - value))
            if self.logmag_weight > 0:
                difference = safe_log(self._floored(target)) - safe_log(self._floored(value))
                total = total + self.logmag_weight * ops.mean(ops.abs(difference))
        return total

    def _floored(self, magnitude: Any) -> Any:
        return ops.maximum(magnitude, self.log_floor) if self.log_floor > 0 else magnitude

    def get_config(self) -> dict[str, Any]:
        return {
            "fft_sizes": list(self.fft_sizes),
            "mag_weight": self.mag_weight,
            "logmag_weight": self.logmag_weight,
            "log_floor": self.log_floor,
            "name": self.name,
        }
