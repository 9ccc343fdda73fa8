"""Processors that make sound from controls. Shapes: B batch, F frames, S = F·hop samples, K harmonics, M bands."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.engine.core.filters import frequency_filter
from ddsp_cli.engine.core.oscillators import harmonic_synthesis, sinusoidal_synthesis
from ddsp_cli.engine.core.scaling import frequencies_sigmoid, remove_above_nyquist
from ddsp_cli.engine.core.wavetables import wavetable_synthesis
from ddsp_cli.engine.processors import Processor


@keras.saving.register_keras_serializable("ddsp")
class Harmonic(Processor):
    """A harmonic oscillator bank: every partial an integer multiple of f0 (synths.py:51).

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_harmonics: K, what the controller has to predict; not needed to synthesise.
      amp_resample_method: `window`, `linear`, `cubic` or `nearest`, how amplitudes move between frames.
      normalize_below_nyquist: leave harmonics above Nyquist out before the distribution is normalised.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        hop_samples: int = 64,
        n_harmonics: int = 60,
        amp_resample_method: str = "window",
        normalize_below_nyquist: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = sample_rate_hz
        self.hop_samples = hop_samples
        self.n_harmonics = n_harmonics
        self.amp_resample_method = amp_resample_method
        self.normalize_below_nyquist = normalize_below_nyquist

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Raw amplitude [B, F, 1], raw distribution [B, F, K] and f0 in Hz [B, F, 1] to physical controls."""
        amplitude, distribution, f0_hz = signals
        return {
            "amplitude": scaling.exp_sigmoid(amplitude, xp=ops),
            "harmonic_distribution": scaling.harmonic_distribution(
                distribution, f0_hz, self.sample_rate_hz, self.normalize_below_nyquist, xp=ops
            ),
            "f0_hz": f0_hz,
        }

    def get_signal(self, **controls: Any) -> Any:
        return harmonic_synthesis(
            controls["f0_hz"],
            controls["amplitude"] * controls["harmonic_distribution"],
            self.hop_samples,
            self.sample_rate_hz,
            self.amp_resample_method,
        )

    def get_config(self) -> dict[str, Any]:
        names = ("sample_rate_hz", "hop_samples", "n_harmonics", "amp_resample_method", "normalize_below_nyquist")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class FilteredNoise(Processor):
    """White noise through a filter that changes with every frame (paper section 3.4; synths.py:143).

    Args:
      hop_samples: audio samples between two frames.
      n_bands: M, what the controller has to predict.
      initial_bias: added to the raw magnitudes, so that an untrained model is quiet.
      window_size_samples: Hann window of the filters; 0 for their full length.
      seed: of the noise; every call draws the next piece.
    """

    def __init__(
        self,
        hop_samples: int = 64,
        n_bands: int = 65,
        initial_bias: float = -5.0,
        window_size_samples: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hop_samples = hop_samples
        self.n_bands = n_bands
        self.initial_bias = initial_bias
        self.window_size_samples = window_size_samples
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Raw magnitudes [B, F, M] to linear magnitudes."""
        (magnitudes,) = signals
        return {"noise_magnitudes": scaling.exp_sigmoid(magnitudes + self.initial_bias, xp=ops)}

    def get_signal(self, **controls: Any) -> Any:
        """Filtered noise [B, S]; `noise` [B, S] may be given, else uniform noise in [-1, 1) is drawn."""
        magnitudes = controls["noise_magnitudes"]
        noise = controls.get("noise")
        if noise is None:
            batch, n_frames, _ = ops.shape(magnitudes)
            noise = self.draw(batch, n_frames * self.hop_samples)
        return frequency_filter(noise, magnitudes, self.window_size_samples, self.hop_samples)

    def draw(self, batch: Any, n_samples: int) -> Any:
        """The next piece of noise, [batch, n_samples]."""
        return keras.random.uniform((batch, n_samples), -1.0, 1.0, seed=self.random)

    def get_config(self) -> dict[str, Any]:
        names = ("hop_samples", "n_bands", "initial_bias", "window_size_samples", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class Sinusoidal(Processor):
    """A bank of sinusoids with free frequencies (synths.py:254).

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_sinusoids: K, what the controller has to predict; not needed to synthesise.
      hz_min, hz_max: range of the frequencies.
      amp_resample_method: how amplitudes move between frames.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        hop_samples: int = 64,
        n_sinusoids: int = 60,
        hz_min: float = 0.0,
        hz_max: float = 8000.0,
        amp_resample_method: str = "window",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = sample_rate_hz
        self.hop_samples = hop_samples
        self.n_sinusoids = n_sinusoids
        self.hz_min = hz_min
        self.hz_max = hz_max
        self.amp_resample_method = amp_resample_method

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Raw amplitudes and raw frequencies, both [B, F, K], to linear amplitudes and Hz."""
        amplitudes, frequencies = signals
        hz = frequencies_sigmoid(frequencies, hz_min=self.hz_min, hz_max=self.hz_max)
        audible = remove_above_nyquist(hz, scaling.exp_sigmoid(amplitudes, xp=ops), self.sample_rate_hz)
        return {"amplitudes": audible, "frequencies_hz": hz}

    def get_signal(self, **controls: Any) -> Any:
        return sinusoidal_synthesis(
            controls["frequencies_hz"],
            controls["amplitudes"],
            self.hop_samples,
            self.sample_rate_hz,
            self.amp_resample_method,
        )

    def get_config(self) -> dict[str, Any]:
        names = ("sample_rate_hz", "hop_samples", "n_sinusoids", "hz_min", "hz_max", "amp_resample_method")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class Wavetable(Processor):
    """An oscillator that plays one cycle of a wave, which may change with every frame (synths.py:198).

    The original scales tables to positive numbers, so that every wave carries a constant; here they are bipolar.

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_points: W, what the controller has to predict; not needed to synthesise.
    """

    def __init__(self, sample_rate_hz: int = 16000, hop_samples: int = 64, n_points: int = 512, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = sample_rate_hz
        self.hop_samples = hop_samples
        self.n_points = n_points

    def get_controls(self, *signals: Any) -> dict[str, Any]:
        """Raw amplitude [B, F, 1], raw tables [B, F, W] (or [B, W]) and f0 in Hz [B, F, 1]."""
        amplitude, wavetables, f0_hz = signals
        return {
            "amplitude": scaling.exp_sigmoid(amplitude, xp=ops),
            "wavetables": ops.tanh(wavetables),
            "f0_hz": f0_hz,
        }

    def get_signal(self, **controls: Any) -> Any:
        return wavetable_synthesis(
            controls["f0_hz"],
            controls["amplitude"],
            controls["wavetables"],
            self.hop_samples,
            self.sample_rate_hz,
        )

    def get_config(self) -> dict[str, Any]:
        names = ("sample_rate_hz", "hop_samples", "n_points")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
