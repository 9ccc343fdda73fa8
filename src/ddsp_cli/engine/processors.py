"""What every processor is, and those that only combine or cut signals. Shapes: B batch, F frames, S samples."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from ddsp_cli.engine.core.resample import resample


class Processor(keras.layers.Layer):
    """A differentiable piece of signal processing, in two steps that can be used alone.

    `get_controls(*raw)` scales whatever comes in to physical, constrained controls (a dict by name);
    `get_signal(**controls)` turns controls into audio [B, S]; calling the processor does both.
    """

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Raw inputs to constrained controls."""
        raise NotImplementedError

    def get_signal(self, **controls: Any) -> Any:
        """Controls to audio [B, S]."""
        raise NotImplementedError

    def call(self, *signals: Any) -> Any:
        return self.get_signal(**self.get_controls(*signals))


@keras.saving.register_keras_serializable("ddsp")
class Add(Processor):
    """The sum of two or more signals of one shape."""

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        if len(signals) < 2:
            raise ValueError("Add takes two or more signals")
        return {f"signal_{i}": signal for i, signal in enumerate(signals)}

    def get_signal(self, **controls: Any) -> Any:
        first, *others = controls.values()
        for other in others:
            first = first + other
        return first


@keras.saving.register_keras_serializable("ddsp")
class Crop(Processor):
    """Cuts samples off one end of a signal (processors.py of the original).

    Args:
      length_samples: how many.
      location: `front` or `back`.
    """

    def __init__(self, length_samples: int, location: str = "back", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if location not in ("front", "back"):
            raise ValueError(f"location is front or back, not {location!r}")
        self.length_samples = length_samples
        self.location = location

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        (audio,) = signals
        return {"audio": audio}

    def get_signal(self, **controls: Any) -> Any:
        audio = controls["audio"]
        return audio[:, self.length_samples :] if self.location == "front" else audio[:, : -self.length_samples]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length_samples": self.length_samples, "location": self.location}


@keras.saving.register_keras_serializable("ddsp")
class Mix(Processor):
    """Crossfade of two signals by a learned level, at constant power (processors.py of the original).

    The original's two gains are √m and 1 - √(1 - m), whose power dips in between; these are a sine and a cosine.
    """

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Two signals [B, S] and a raw level [B, F, 1]: low is all of the second, high all of the first."""
        first, second, level = signals
        return {"first": first, "second": second, "mix_level": ops.sigmoid(level)}

    def get_signal(self, **controls: Any) -> Any:
        first, second = controls["first"], controls["second"]
        angle = resample(controls["mix_level"], ops.shape(first)[1])[..., 0] * (0.5 * math.pi)
        return first * ops.sin(angle) + second * ops.cos(angle)
