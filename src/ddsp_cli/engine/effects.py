"""Processors that change sound: learned rooms. Shapes: B batch, S samples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli import formulas
from ddsp_cli.engine.core.filters import fft_convolve, frequency_filter
from ddsp_cli.engine.processors import Processor


class LearnedRoom(Processor):
    """Convolution with an impulse response that is learned, added to the dry sound.

    The response's first tap is 0: what is there at delay 0 is the dry sound itself (effects.py:28-117).
    """

    def impulse_response(self) -> Any:
        """The wet impulse response as it stands, [length], tap 0 masked."""
        raise NotImplementedError

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        (audio,) = signals
        return {"audio": audio, "ir": self.impulse_response()[None, :]}

    def get_signal(self, **controls: Any) -> Any:
        audio, ir = controls["audio"], controls["ir"]
        ir = ops.concatenate([ops.zeros_like(ir[:, :1]), ir[:, 1:]], axis=-1)
        return audio + fft_convolve(audio, ir, delay_compensation=0)


@keras.saving.register_keras_serializable("ddsp")
class Reverb(LearnedRoom):
    """A room whose impulse response is learned tap by tap (effects.py:28).

    Args:
      length_samples: of the response.
    """

    def __init__(self, length_samples: int = 48000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_samples = length_samples
        self.ir = self.add_weight(
            shape=(length_samples,), initializer=keras.initializers.RandomNormal(0.0, 1e-6, seed=0), name="ir"
        )

    def impulse_response(self) -> Any:
        return ops.concatenate([ops.zeros((1,)), self.ir[1:]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length_samples": self.length_samples}


@keras.saving.register_keras_serializable("ddsp")
class FilteredNoiseReverb(LearnedRoom):
    """A room that is noise through learned, time-varying bands: it can be a room but not a copy of a tone.

    The original draws new noise at each call, so the response it exports is not the one it was trained with
    (effects.py:202-278). Here the noise is fixed by the seed: one room, the same in training and in every export.

    Args:
      length_samples: of the response.
      n_frames, n_bands: shape of the learned magnitudes.
      initial_bias: added to the raw magnitudes.
      window_size_samples: Hann window of the filters.
      seed: of the noise.
    """

    def __init__(
        self,
        length_samples: int = 24000,
        n_frames: int = 500,
        n_bands: int = 32,
        initial_bias: float = -3.0,
        window_size_samples: int = 257,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.length_samples = length_samples
        self.n_frames = n_frames
        self.n_bands = n_bands
        self.initial_bias = initial_bias
        self.window_size_samples = window_size_samples
        self.seed = seed
        self.magnitudes = self.add_weight(
            shape=(n_frames, n_bands),
            initializer=keras.initializers.RandomNormal(0.0, 1e-2, seed=seed),
            name="magnitudes",
        )
        # NumPy's generator gives the same noise on every backend and machine.
        self._noise = np.random.default_rng(seed).uniform(-1.0, 1.0, (1, length_samples)).astype(np.float32)

    def impulse_response(self) -> Any:
        magnitudes = formulas.exp_sigmoid(self.magnitudes + self.initial_bias, xp=ops)
        noise = ops.convert_to_tensor(self._noise)
        ir = frequency_filter(noise, magnitudes[None], self.window_size_samples)[0]
        return ops.concatenate([ops.zeros((1,)), ir[1:]])

    def get_config(self) -> dict[str, Any]:
        names = ("length_samples", "n_frames", "n_bands", "initial_bias", "window_size_samples", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
