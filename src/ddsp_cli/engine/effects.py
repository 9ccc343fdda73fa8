"""Processors that change sound: rooms, filters, delays. Shapes: B batch, F frames, S samples, M bands, L taps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.engine.core.filters import fft_convolve, frequency_filter
from ddsp_cli.engine.core.oscillators import variable_length_delay
from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, finite, positive, takes, whole
from ddsp_cli.engine.processors import Controls, Processor, Shape
from ddsp_cli.engine.synths import Scaled, optional_count

#: Decay of an untrained noise room over its length; 120 dB in 1.5 s is a reverberation time of 0.75 s.
INITIAL_DECAY_DB = 120.0


class LearnedRoom(Processor):
    """The base of rooms: convolution with an impulse response, added to the dry sound (effects.py:28-117).

    The response is learned, one for all sounds; with `from_network` a network gives one for each example of a batch
    (the original's `trainable=False`). With `add_dry` its first tap is 0, since the dry sound is added at delay 0.

    Args:
      length_samples: L, taps of the response.
      from_network: take the response from further signals, and have no weights.
      add_dry: add the dry sound to the wet.

    Attributes:
      pace: how far its weights may go in a training step compared with those of a network. Magnitudes in dB may go as
        far; a step of every tap of a response, however small, is noise in the room.
    """

    settings: ClassVar[tuple[str, ...]] = ("length_samples", "from_network", "add_dry")
    sizes_by = {"L": "length_samples"}
    pace = 1.0

    def __init__(self, length_samples: int, from_network: bool = False, add_dry: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_samples = whole(length_samples, "length_samples", smallest=2)
        self.from_network = from_network
        self.add_dry = add_dry

    def signal_names(self) -> list[str]:
        """Returns the names of the signals that `get_controls` must have."""
        names = self._all_signal_names()
        return names if self.from_network else names[:1]

    def impulse_response(self) -> Tensor:
        """Returns the learned wet impulse response [L], linear; with `add_dry` its first tap is 0.

        Raises:
          ValueError: a network gives the response.
        """
        self._check_source()
        return self._masked(self._response()[None])[0]

    def reverberance(self, responses: Tensor | None = None) -> Tensor:
        """Computes the energy of the wet response, the last tap weighted ten times as much as the first.

        For broadband sound this is the energy of the wet sound as a share of the dry sound's. As a penalty it keeps the
        room from reverberation that no recording needs, and from resonances at the notes.

        Args:
          responses: [B, L], those that a network gave, whose mean counts; None for the learned response.

        Returns:
          a scalar, 0 or more.

        Raises:
          ValueError: a network gives the response, and there are no `responses`.
        """
        ir = self.impulse_response()[None] if responses is None else self._masked(responses)
        weights = constant(np.linspace(1.0, 10.0, ir.shape[-1]))
        return ops.mean(ops.sum(ops.square(ir) * weights, axis=-1))

    @takes(audio="B S", ir="B? L")
    def get_signal(self, audio: Tensor, ir: Tensor) -> Tensor:
        """Convolves audio with a response.

        Args:
          audio: [B, S].
          ir: [B or 1, L], linear; with `add_dry` its first tap counts as 0.

        Returns:
          audio [B, S].
        """
        wet = fft_convolve(audio, self._masked(ir), delay_compensation=0)
        return audio + wet if self.add_dry else wet

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape of the audio."""
        return shapes[0]

    def _response(self, *given: Tensor) -> Tensor:
        """Returns the response [L] from the weights, or [B, L] from the signals of a network."""
        raise NotImplementedError

    def _controls(self, audio: Tensor, *given: Tensor | None) -> Controls:
        came = [signal for signal in given if signal is not None]
        if not self.from_network:
            if came:
                raise ArgumentError(
                    f"{type(self).__name__}: its response is learned, so it takes audio alone; "
                    "with from_network=True it takes a response for each example"
                )
            return {"audio": audio, "ir": self._response()[None]}
        if len(came) < len(given):
            names = ", ".join(self._all_signal_names())
            raise ArgumentError(f"{type(self).__name__}: with from_network=True it takes {names}")
        return {"audio": audio, "ir": self._response(*came)}

    def _all_signal_names(self) -> list[str]:
        return list(type(self).get_controls.arguments.specs)  # type: ignore[attr-defined]

    def _check_source(self) -> None:
        if self.from_network:
            raise ArgumentError(f"{type(self).__name__}: a network gives its response, there is no learned one")

    def _masked(self, ir: Tensor) -> Tensor:
        return ops.concatenate([ops.zeros_like(ir[:, :1]), ir[:, 1:]], axis=-1) if self.add_dry else ir


@keras.saving.register_keras_serializable("ddsp")
class Reverb(LearnedRoom):
    """A room whose impulse response is learned tap by tap (paper section 3.5; effects.py:28).

    Args:
      length_samples: L, taps of the response.
      from_network: see `LearnedRoom`.
      add_dry: see `LearnedRoom`.
    """

    pace = 1e-3

    def __init__(
        self, length_samples: int = 48000, from_network: bool = False, add_dry: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(length_samples, from_network, add_dry, **kwargs)
        if not from_network:
            self.ir = self.add_weight(
                shape=(length_samples,), initializer=keras.initializers.RandomNormal(0.0, 1e-6, seed=0), name="ir"
            )

    @takes(audio="B S", ir="B L")
    def get_controls(self, audio: Tensor, ir: Tensor | None = None) -> Controls:
        """Adds the response to the audio.

        Args:
          audio: [B, S].
          ir: [B, L], with `from_network` only: linear, not scaled.

        Returns:
          `audio`, and `ir` [1 or B, L].
        """
        return self._controls(audio, ir)

    def _response(self, *given: Tensor) -> Tensor:
        return given[0] if given else ops.convert_to_tensor(self.ir)


@keras.saving.register_keras_serializable("ddsp")
class FilteredNoiseReverb(LearnedRoom):
    """A room of noise, shaped by learned magnitudes over time and frequency (effects.py:202).

    Its response is noise, so it cannot copy a tone, as a response learned tap by tap can.

    The original draws new noise at each call, so the response it exports is not the one it was trained with. Here the
    noise is fixed by the seed: one room, the same in training and in every export.

    Before training the response decays, where the original's is as loud at its end as at its beginning: magnitudes that
    no recording trains would stay, a second and a half of hiss behind each note.

    The room is the same at all multiples of 16 kHz: below 8 kHz they have the noise of that rate. A response of other
    noise changes the level of each partial by several dB, and a network that was trained at 16 kHz does not fit it.

    Attributes:
      noise: [1, L], of the seed.

    Args:
      length_samples: L, taps of the response.
      n_frames: N, frames of the magnitudes; each shapes about L/N taps.
      n_bands: M, bands of the magnitudes, from 0 Hz to Nyquist.
      initial_bias: added to the raw magnitudes.
      window_size_samples: length of the filters' Hann window; 0 for the full length, 2(M - 1).
      seed: of the noise.
      from_network: see `LearnedRoom`.
      add_dry: see `LearnedRoom`.
      sample_rate_hz: of the sound.
    """

    settings: ClassVar[tuple[str, ...]] = (
        *LearnedRoom.settings,
        "n_frames",
        "n_bands",
        "initial_bias",
        "window_size_samples",
        "seed",
        "sample_rate_hz",
    )
    sizes_by = {**LearnedRoom.sizes_by, "N": "n_frames", "M": "n_bands"}

    def __init__(
        self,
        length_samples: int = 24000,
        n_frames: int = 500,
        n_bands: int = 32,
        initial_bias: float = -3.0,
        window_size_samples: int = 257,
        seed: int = 0,
        from_network: bool = False,
        add_dry: bool = True,
        sample_rate_hz: int = ANALYSIS_RATE_HZ,
        **kwargs: Any,
    ) -> None:
        super().__init__(length_samples, from_network, add_dry, **kwargs)
        self.n_frames = whole(n_frames, "n_frames")
        self.n_bands = whole(n_bands, "n_bands", smallest=2)
        self.initial_bias = finite(initial_bias, "initial_bias")
        self.window_size_samples = whole(window_size_samples, "window_size_samples", smallest=0)
        self.seed = seed
        self.sample_rate_hz = whole(sample_rate_hz, "sample_rate_hz")
        if not from_network:
            self.magnitudes = self.add_weight(shape=(n_frames, n_bands), initializer=self._decaying, name="magnitudes")
        self.noise = self._draw_noise()

    def _draw_noise(self) -> np.ndarray:
        # NumPy's generator gives the same noise on every backend and machine.
        noise = np.random.default_rng(self.seed).uniform(-1.0, 1.0, (1, self.length_samples)).astype(np.float32)
        ratio, rest = divmod(self.sample_rate_hz, ANALYSIS_RATE_HZ)
        if ratio < 2 or rest:
            return noise
        n_low = self.length_samples // ratio
        low = np.random.default_rng(self.seed).uniform(-1.0, 1.0, n_low).astype(np.float32)
        spectrum = np.fft.rfft(noise[0])
        # the last bin of the lower rate stands for two
        spectrum[: (n_low + 1) // 2] = np.fft.rfft(low)[: (n_low + 1) // 2] * math.sqrt(ratio)
        # at 16 kHz the filters are late by as many samples, which are longer
        late_samples = (ratio - 1) * self.late_samples
        return np.roll(np.fft.irfft(spectrum, self.length_samples), late_samples)[None].astype(np.float32)

    @property
    def late_samples(self) -> int:
        """By how much its filters delay the noise, see `scaling.impulse_delay`."""
        _, lags = scaling.impulse_window(2 * (self.n_bands - 1), self.window_size_samples)
        return int(-lags[0]) - scaling.impulse_delay(lags)

    def _decaying(self, shape: tuple[int, int], dtype: str | None = None) -> Any:
        """Returns raw magnitudes [n_frames, n_bands] that fall by `INITIAL_DECAY_DB`: far below 0 a unit is 20 dB."""
        scatter = np.random.default_rng(self.seed).normal(0.0, 1e-2, shape)
        fall = np.linspace(0.0, INITIAL_DECAY_DB / 20.0, shape[0])[:, None]
        return ops.convert_to_tensor((scatter - fall).astype(np.float32), dtype)

    @takes(audio="B S", magnitudes="B N M")
    def get_controls(self, audio: Tensor, magnitudes: Tensor | None = None) -> Controls:
        """Adds the response to the audio.

        Args:
          audio: [B, S].
          magnitudes: [B, N, M], with `from_network` only: any real numbers.

        Returns:
          `audio`, and `ir` [1 or B, L].
        """
        return self._controls(audio, magnitudes)

    def _response(self, *given: Tensor) -> Tensor:
        raw = given[0] if given else ops.convert_to_tensor(self.magnitudes)[None]
        magnitudes = scaling.exp_sigmoid(raw + self.initial_bias, xp=ops)
        noise = ops.tile(ops.convert_to_tensor(self.noise), (ops.shape(magnitudes)[0], 1))
        ir = frequency_filter(noise, magnitudes, self.window_size_samples)
        return ir if given else ir[0]


@keras.saving.register_keras_serializable("ddsp")
class ExpDecayReverb(LearnedRoom):
    """A room of noise that decays exponentially, with two learned numbers (effects.py:121-165).

    As in `FilteredNoiseReverb` the noise is fixed by the seed.

    Args:
      length_samples: L, taps of the response.
      gain: initial value of the raw gain; 2 is a linear gain of 1.49.
      decay: initial value d of the raw decay; the response falls by a factor of exp(-(2 + exp(d))) over its length.
      seed: of the noise.
      from_network: see `LearnedRoom`.
      add_dry: see `LearnedRoom`.
    """

    settings: ClassVar[tuple[str, ...]] = (*LearnedRoom.settings, "seed")

    def __init__(
        self,
        length_samples: int = 48000,
        gain: float = 2.0,
        decay: float = 4.0,
        seed: int = 0,
        from_network: bool = False,
        add_dry: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(length_samples, from_network, add_dry, **kwargs)
        self.initial = {"gain": finite(gain, "gain"), "decay": finite(decay, "decay")}
        self.seed = seed
        if not from_network:
            self.gain = self.add_weight(shape=(), initializer=keras.initializers.Constant(gain), name="gain")
            self.decay = self.add_weight(shape=(), initializer=keras.initializers.Constant(decay), name="decay")
        self._noise = np.random.default_rng(seed).uniform(-1.0, 1.0, length_samples).astype(np.float32)

    @takes(audio="B S", gain="B 1", decay="B 1")
    def get_controls(self, audio: Tensor, gain: Tensor | None = None, decay: Tensor | None = None) -> Controls:
        """Adds the response to the audio.

        Args:
          audio: [B, S].
          gain: [B, 1], with `from_network` only: any real number, scaled to 0..2.
          decay: [B, 1], with `from_network` only: any real number d; the response falls by a factor of
            exp(-(2 + exp(d))) over its length.

        Returns:
          `audio`, and `ir` [1 or B, L].
        """
        return self._controls(audio, gain, decay)

    def _response(self, *given: Tensor) -> Tensor:
        gain, decay = given or (ops.convert_to_tensor(self.gain), ops.convert_to_tensor(self.decay))
        time = np.linspace(0.0, 1.0, self.length_samples, dtype=np.float32)
        envelope = ops.exp(-(2.0 + ops.exp(decay)) * ops.convert_to_tensor(time))
        return scaling.exp_sigmoid(gain, xp=ops) * envelope * ops.convert_to_tensor(self._noise)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), **self.initial}


@keras.saving.register_keras_serializable("ddsp")
class FIRFilter(Scaled):
    """A filter whose magnitudes may change with every frame (effects.py:281).

    Args:
      n_bands: M; None accepts any number.
      window_size_samples: length of the filters' Hann window; 0 for the full length, 2(M - 1).
      scale_fn: of raw magnitudes, see `synths.Scaled`.
    """

    settings = ("n_bands", "window_size_samples")
    sizes_by = {"M": "n_bands"}

    def __init__(self, n_bands: int | None = 65, window_size_samples: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_bands = optional_count(n_bands, "n_bands", smallest=2)
        self.window_size_samples = whole(window_size_samples, "window_size_samples", smallest=0)

    @takes(audio="B S", magnitudes="B F M | B M")
    def get_controls(self, audio: Tensor, magnitudes: Tensor) -> Controls:
        """Scales raw magnitudes.

        Args:
          audio: [B, S].
          magnitudes: [B, F, M] or [B, M], any real number.

        Returns:
          `audio`, and `magnitudes`, linear gain in 0..2, of their shape.
        """
        return {"audio": audio, "magnitudes": self.scale(magnitudes)}

    @takes(audio="B S", magnitudes="B F M | B M")
    def get_signal(self, audio: Tensor, magnitudes: Tensor) -> Tensor:
        """Filters audio.

        Args:
          audio: [B, S].
          magnitudes: [B, F, M] or [B, M], linear gain of M bands from 0 Hz to Nyquist.

        Returns:
          audio [B, S].
        """
        return frequency_filter(audio, magnitudes, self.window_size_samples)

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape of the audio."""
        return shapes[0]


@keras.saving.register_keras_serializable("ddsp")
class ModDelay(Scaled):
    """A delay of moving length: vibrato, chorus, flanger (effects.py:326).

    Args:
      sample_rate_hz: of the audio.
      center_ms: the delay at phase 0, 0 or more.
      depth_ms: by how much phase 1 lengthens it, 0 or more.
      add_dry: add the sound to its delayed self.
      scale_fn: of the raw gain, see `synths.Scaled`.
    """

    settings = ("sample_rate_hz", "center_ms", "depth_ms", "add_dry")

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        center_ms: float = 15.0,
        depth_ms: float = 10.0,
        add_dry: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.center_ms = finite(center_ms, "center_ms", smallest=0)
        self.depth_ms = finite(depth_ms, "depth_ms", smallest=0)
        self.add_dry = add_dry
        positive(center_ms + depth_ms, "center_ms + depth_ms")

    @takes(audio="B S", gain="B F 1", phase="B F 1")
    def get_controls(self, audio: Tensor, gain: Tensor, phase: Tensor) -> Controls:
        """Scales raw controls.

        Args:
          audio: [B, S].
          gain: [B, F, 1], any real number.
          phase: [B, F, 1], any real number.

        Returns:
          `audio`, `gain` [B, F, 1] in 0..2, and `phase` [B, F, 1] in 0..1.
        """
        return {"audio": audio, "gain": self.scale(gain), "phase": ops.sigmoid(phase)}

    @takes(audio="B S", gain="B F 1", phase="B F 1")
    def get_signal(self, audio: Tensor, gain: Tensor, phase: Tensor) -> Tensor:
        """Delays audio.

        Args:
          audio: [B, S].
          gain: [B, F, 1], linear gain of the delayed sound.
          phase: [B, F, 1], 0 for a delay of center_ms to 1 for center_ms + depth_ms.

        Returns:
          audio [B, S].
        """
        n_samples = ops.shape(audio)[1]
        gain, phase = (resample(control, n_samples)[..., 0] for control in (gain, phase))
        longest_ms = self.center_ms + self.depth_ms
        share = (self.center_ms + self.depth_ms * phase) / longest_ms
        longest_samples = max(1, int(self.sample_rate_hz * longest_ms / 1000.0))
        wet = gain * variable_length_delay(share, audio, longest_samples)
        return audio + wet if self.add_dry else wet

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape of the audio."""
        return shapes[0]
