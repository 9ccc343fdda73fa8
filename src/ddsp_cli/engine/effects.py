"""Processors that change sound: rooms, filters, delays. Shapes: B batch, F frames, S samples, M bands."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.engine.core.arrays import constant
from ddsp_cli.engine.core.filters import fft_convolve, frequency_filter
from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.wavetables import variable_length_delay
from ddsp_cli.engine.processors import Processor

#: How far an untrained room dies away over its length; 120 dB in 1.5 s is a reverberation time of 0.75 s.
INITIAL_DECAY_DB = 120.0


class LearnedRoom(Processor):
    """Convolution with an impulse response that is learned, added to the dry sound.

    The response's first tap is 0: what is there at delay 0 is the dry sound itself (effects.py:28-117).

    Attributes:
      pace: how far its weights may go in a training step beside those of a network. Magnitudes in dB may go as far;
        a step of every tap of a response, however small, is noise in the room.
    """

    pace = 1.0

    def impulse_response(self) -> Any:
        """The wet impulse response as it stands, [length], tap 0 masked."""
        raise NotImplementedError

    def reverberance(self) -> Any:
        """Energy of the wet response, the last tap counting ten times as much as the first: a scalar.

        The energy of a response is that of the room's sound, as a share of the dry sound's, for any broad sound. As a
        penalty it keeps a room from holding what the recordings never ask for, and from being a copy of the tone.
        """
        ir = self.impulse_response()
        return ops.sum(ops.square(ir) * constant(np.linspace(1.0, 10.0, ir.shape[0])))

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

    pace = 1e-3

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

    Before training the response dies away, where the original's is as loud at its end as at its beginning. What a dry
    recording never asks for is then not there; else it would stay, a second and a half of hiss behind each note.

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
            initializer=self._dying_away,
            name="magnitudes",
        )
        # NumPy's generator gives the same noise on every backend and machine.
        self._noise = np.random.default_rng(seed).uniform(-1.0, 1.0, (1, length_samples)).astype(np.float32)

    def _dying_away(self, shape: tuple[int, int], dtype: str | None = None) -> Any:
        """Raw magnitudes [n_frames, n_bands] that fall by `INITIAL_DECAY_DB`: far below 0 a unit is 20 dB."""
        scatter = np.random.default_rng(self.seed).normal(0.0, 1e-2, shape)
        fall = np.linspace(0.0, INITIAL_DECAY_DB / 20.0, shape[0])[:, None]
        return ops.convert_to_tensor((scatter - fall).astype(np.float32), dtype)

    def impulse_response(self) -> Any:
        magnitudes = scaling.exp_sigmoid(self.magnitudes + self.initial_bias, xp=ops)
        noise = ops.convert_to_tensor(self._noise)
        ir = frequency_filter(noise, magnitudes[None], self.window_size_samples)[0]
        return ops.concatenate([ops.zeros((1,)), ir[1:]])

    def get_config(self) -> dict[str, Any]:
        names = ("length_samples", "n_frames", "n_bands", "initial_bias", "window_size_samples", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class ExpDecayReverb(LearnedRoom):
    """A room that is noise dying away exponentially, with two learned numbers (effects.py:121-165).

    As in `FilteredNoiseReverb` the noise is fixed by the seed.

    Args:
      length_samples: of the response.
      gain, decay: what the raw numbers start at.
      seed: of the noise.
    """

    def __init__(
        self, length_samples: int = 48000, gain: float = 2.0, decay: float = 4.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.length_samples = length_samples
        self.initial = {"gain": gain, "decay": decay}
        self.seed = seed
        self.gain = self.add_weight(shape=(), initializer=keras.initializers.Constant(gain), name="gain")
        self.decay = self.add_weight(shape=(), initializer=keras.initializers.Constant(decay), name="decay")
        self._noise = np.random.default_rng(seed).uniform(-1.0, 1.0, length_samples).astype(np.float32)

    def impulse_response(self) -> Any:
        time = np.linspace(0.0, 1.0, self.length_samples, dtype=np.float32)
        envelope = ops.exp(-(2.0 + ops.exp(self.decay)) * ops.convert_to_tensor(time))
        ir = scaling.exp_sigmoid(self.gain, xp=ops) * envelope * ops.convert_to_tensor(self._noise)
        return ops.concatenate([ops.zeros((1,)), ir[1:]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length_samples": self.length_samples, **self.initial, "seed": self.seed}


@keras.saving.register_keras_serializable("ddsp")
class FIRFilter(Processor):
    """A filter whose magnitudes may change with every frame (effects.py:281).

    Args:
      n_bands: M, what a controller has to predict; not needed to filter.
      window_size_samples: Hann window of the filters; 0 for their full length.
    """

    def __init__(self, n_bands: int = 65, window_size_samples: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_bands = n_bands
        self.window_size_samples = window_size_samples

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Audio [B, S] and raw magnitudes [B, F, M] or [B, M]."""
        audio, magnitudes = signals
        return {"audio": audio, "magnitudes": scaling.exp_sigmoid(magnitudes, xp=ops)}

    def get_signal(self, **controls: Any) -> Any:
        return frequency_filter(controls["audio"], controls["magnitudes"], self.window_size_samples)

    def get_config(self) -> dict[str, Any]:
        names = ("n_bands", "window_size_samples")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class ModDelay(Processor):
    """A delay of moving length: vibrato, chorus, flanger (effects.py:326).

    Args:
      sample_rate_hz: of the audio.
      center_ms: the delay at phase 0.
      depth_ms: by how much phase 1 lengthens it.
      add_dry: add the sound to its delayed self.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        center_ms: float = 15.0,
        depth_ms: float = 10.0,
        add_dry: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = sample_rate_hz
        self.center_ms = center_ms
        self.depth_ms = depth_ms
        self.add_dry = add_dry

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Audio [B, S], raw gain and raw phase [B, F, 1]."""
        audio, gain, phase = signals
        return {"audio": audio, "gain": scaling.exp_sigmoid(gain, xp=ops), "phase": ops.sigmoid(phase)}

    def get_signal(self, **controls: Any) -> Any:
        audio = controls["audio"]
        n_samples = ops.shape(audio)[1]
        gain, phase = (resample(controls[name], n_samples)[..., 0] for name in ("gain", "phase"))
        longest_ms = self.center_ms + self.depth_ms
        share = (self.center_ms + self.depth_ms * phase) / longest_ms
        wet = gain * variable_length_delay(share, audio, int(self.sample_rate_hz * longest_ms / 1000.0))
        return audio + wet if self.add_dry else wet

    def get_config(self) -> dict[str, Any]:
        names = ("sample_rate_hz", "center_ms", "depth_ms", "add_dry")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
