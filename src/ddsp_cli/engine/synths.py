"""Processors that make sound from controls. Shapes: B batch, F frames, S = F·hop samples, K harmonics, M bands."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.engine.core.filters import frequency_filter
from ddsp_cli.engine.core.oscillators import harmonic_synthesis, sinusoidal_synthesis, wavetable_synthesis
from ddsp_cli.engine.core.resample import METHODS
from ddsp_cli.engine.core.scaling import (
    ScaleFunction,
    deserialized_scale,
    frequency_function,
    remove_above_nyquist,
    scale_function,
    serialized_scale,
)
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, finite, one_of, positive, takes, whole
from ddsp_cli.engine.processors import Controls, Processor, Shape, times


def optional_count(value: int | None, name: str, smallest: int = 1) -> int | None:
    """Checks a count that may be None; see `core.tensors.whole`."""
    return None if value is None else whole(value, name, smallest)


class Scaled(Processor):
    """A processor whose raw controls are scaled by a function of the user's choice.

    Args:
      scale_fn: `exp_sigmoid`, `sigmoid`, `softplus`, `tanh`, `none` (controls are scaled already), or a function of a
        tensor. `get_config` can keep a function if it is registered with Keras.
    """

    def __init__(self, scale_fn: ScaleFunction = "exp_sigmoid", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale_fn = deserialized_scale(scale_fn)
        self.scale = scale_function(self.scale_fn)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), "scale_fn": serialized_scale(self.scale_fn)}


@keras.saving.register_keras_serializable("ddsp")
class Harmonic(Scaled):
    """A harmonic oscillator bank: sinusoids at integer multiples of F0 (paper section 3.1; synths.py:51).

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_harmonics: K; None accepts any number.
      amp_resample_method: `window`, `linear`, `cubic` or `nearest`, how amplitudes move between frames.
      normalize_below_nyquist: leave harmonics above Nyquist out before the distribution is normalised.
      scale_fn: of raw amplitude and distribution, see `Scaled`.
    """

    settings = ("sample_rate_hz", "hop_samples", "n_harmonics", "amp_resample_method", "normalize_below_nyquist")
    sizes_by = {"K": "n_harmonics"}

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        hop_samples: int = 64,
        n_harmonics: int | None = 60,
        amp_resample_method: str = "window",
        normalize_below_nyquist: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.hop_samples = whole(hop_samples, "hop_samples")
        self.n_harmonics = optional_count(n_harmonics, "n_harmonics")
        self.amp_resample_method = one_of(amp_resample_method, "amp_resample_method", METHODS)
        self.normalize_below_nyquist = normalize_below_nyquist

    @takes(amplitude="B F 1", harmonic_distribution="B F K", f0_hz="B F 1")
    def get_controls(self, amplitude: Tensor, harmonic_distribution: Tensor, f0_hz: Tensor) -> Controls:
        """Scales raw controls.

        Args:
          amplitude: [B, F, 1], any real number.
          harmonic_distribution: [B, F, K], any real number.
          f0_hz: [B, F, 1] in Hz, 0 or more.

        Returns:
          `amplitude` [B, F, 1] in 0..2, `harmonic_distribution` [B, F, K], of sum 1 over the harmonics below Nyquist,
          and `f0_hz`.
        """
        distribution = scaling.harmonic_distribution(
            harmonic_distribution, f0_hz, self.sample_rate_hz, self.normalize_below_nyquist, xp=ops, scale=self.scale
        )
        return {"amplitude": self.scale(amplitude), "harmonic_distribution": distribution, "f0_hz": f0_hz}

    @takes(amplitude="B F 1", harmonic_distribution="B F K", f0_hz="B F 1")
    def get_signal(self, amplitude: Tensor, harmonic_distribution: Tensor, f0_hz: Tensor) -> Tensor:
        """Renders controls.

        Args:
          amplitude: [B, F, 1], linear, 0..2.
          harmonic_distribution: [B, F, K], share of the amplitude of each harmonic; it is not normalised.
          f0_hz: [B, F, 1] in Hz, 0 or more.

        Returns:
          audio [B, S].
        """
        return harmonic_synthesis(
            f0_hz, amplitude * harmonic_distribution, self.hop_samples, self.sample_rate_hz, self.amp_resample_method
        )

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns [B, F·hop]."""
        return shapes[0][0], times(shapes[0][1], self.hop_samples)


@keras.saving.register_keras_serializable("ddsp")
class FilteredNoise(Scaled):
    """White noise through a filter that changes with every frame (paper section 3.4; synths.py:143).

    Args:
      hop_samples: audio samples between two frames.
      n_bands: M; None accepts any number.
      initial_bias: added to the raw magnitudes, so that an untrained model is quiet.
      window_size_samples: length of the filters' Hann window; 0 for the full length, 2(M - 1).
      seed: of the noise; every call draws the next piece. None takes a random seed.
      scale_fn: of the biased magnitudes, see `Scaled`.
    """

    settings = ("hop_samples", "n_bands", "initial_bias", "window_size_samples", "seed")
    sizes_by = {"M": "n_bands"}

    def __init__(
        self,
        hop_samples: int = 64,
        n_bands: int | None = 65,
        initial_bias: float = -5.0,
        window_size_samples: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hop_samples = whole(hop_samples, "hop_samples")
        self.n_bands = optional_count(n_bands, "n_bands", smallest=2)
        self.initial_bias = finite(initial_bias, "initial_bias")
        self.window_size_samples = whole(window_size_samples, "window_size_samples", smallest=0)
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    @takes(noise_magnitudes="B F M")
    def get_controls(self, noise_magnitudes: Tensor) -> Controls:
        """Scales raw magnitudes.

        Args:
          noise_magnitudes: [B, F, M], any real number.

        Returns:
          `noise_magnitudes` [B, F, M], linear gain in 0..2.
        """
        return {"noise_magnitudes": self.scale(noise_magnitudes + self.initial_bias)}

    @takes(noise_magnitudes="B F M", noise="B S")
    def get_signal(self, noise_magnitudes: Tensor, noise: Tensor | None = None) -> Tensor:
        """Filters noise.

        Args:
          noise_magnitudes: [B, F, M], linear gain of M bands from 0 Hz to Nyquist.
          noise: [B, S] to filter; None draws uniform noise in [-1, 1).

        Returns:
          audio [B, S].
        """
        if noise is None:
            batch, n_frames, _ = ops.shape(noise_magnitudes)
            noise = self.draw(batch, n_frames * self.hop_samples)
        return frequency_filter(noise, noise_magnitudes, self.window_size_samples, self.hop_samples)

    def draw(self, batch: Any, n_samples: int) -> Tensor:
        """Draws the next piece of noise: uniform in [-1, 1), shape [batch, n_samples]."""
        return keras.random.uniform((batch, n_samples), -1.0, 1.0, seed=self.random)

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns [B, F·hop]."""
        return shapes[0][0], times(shapes[0][1], self.hop_samples)


@keras.saving.register_keras_serializable("ddsp")
class Sinusoidal(Scaled):
    """A bank of sinusoids with free frequencies (synths.py:254).

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_sinusoids: K; None accepts any number.
      hz_min: the lowest frequency in Hz.
      hz_max: the highest frequency in Hz.
      amp_resample_method: `window`, `linear`, `cubic` or `nearest`, how amplitudes move between frames.
      frequency_scale: of raw frequencies: `sigmoid`, `softmax` or `critical_bands`, see `core.frequencies_sigmoid`.
      depth: raw channels for each frequency.
      scale_fn: of raw amplitudes, see `Scaled`.
    """

    settings = (
        "sample_rate_hz", "hop_samples", "n_sinusoids", "hz_min", "hz_max", "amp_resample_method", "frequency_scale",
        "depth",
    )  # fmt: skip
    sizes_by = {"K": "n_sinusoids", "D": "n_raw_frequencies"}

    def __init__(
        self,
        sample_rate_hz: int = 16000,
        hop_samples: int = 64,
        n_sinusoids: int | None = 60,
        hz_min: float = 0.0,
        hz_max: float = 8000.0,
        amp_resample_method: str = "window",
        frequency_scale: str = "sigmoid",
        depth: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= finite(hz_min, "hz_min") < finite(hz_max, "hz_max"):
            raise ArgumentError(f"hz_min {hz_min} must be 0 or more, and below hz_max {hz_max}")
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.hop_samples = whole(hop_samples, "hop_samples")
        self.n_sinusoids = optional_count(n_sinusoids, "n_sinusoids")
        self.hz_min = hz_min
        self.hz_max = hz_max
        self.amp_resample_method = one_of(amp_resample_method, "amp_resample_method", METHODS)
        self.frequency_scale = frequency_scale
        self.depth = whole(depth, "depth")
        self._to_hz = frequency_function(frequency_scale)

    @property
    def n_raw_frequencies(self) -> int | None:
        """Channels of the raw frequencies, K·depth."""
        return times(self.n_sinusoids, self.depth)

    @takes(amplitudes="B F K", frequencies="B F D")
    def get_controls(self, amplitudes: Tensor, frequencies: Tensor) -> Controls:
        """Scales raw controls.

        Args:
          amplitudes: [B, F, K], any real number.
          frequencies: [B, F, K·depth], any real number.

        Returns:
          `amplitudes` [B, F, K] in 0..2, 0 above Nyquist, and `frequencies_hz` [B, F, K] in hz_min..hz_max.
        """
        hz = self._to_hz(frequencies, depth=self.depth, hz_min=self.hz_min, hz_max=self.hz_max)
        audible = remove_above_nyquist(hz, self.scale(amplitudes), self.sample_rate_hz)
        return {"amplitudes": audible, "frequencies_hz": hz}

    @takes(amplitudes="B F K", frequencies_hz="B F K")
    def get_signal(self, amplitudes: Tensor, frequencies_hz: Tensor) -> Tensor:
        """Renders controls.

        Args:
          amplitudes: [B, F, K], linear.
          frequencies_hz: [B, F, K] in Hz; silent at and above Nyquist.

        Returns:
          audio [B, S].
        """
        return sinusoidal_synthesis(
            frequencies_hz, amplitudes, self.hop_samples, self.sample_rate_hz, self.amp_resample_method
        )

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns [B, F·hop]."""
        return shapes[0][0], times(shapes[0][1], self.hop_samples)


@keras.saving.register_keras_serializable("ddsp")
class Wavetable(Scaled):
    """An oscillator that plays one cycle of a wave, which may change with every frame (synths.py:198).

    The original scales tables to positive numbers, so that every wave carries a constant; here they are bipolar.

    Args:
      sample_rate_hz: of the audio.
      hop_samples: audio samples between two frames.
      n_points: W; None accepts any number.
      scale_fn: of the raw amplitude, see `Scaled`.
    """

    settings = ("sample_rate_hz", "hop_samples", "n_points")
    sizes_by = {"W": "n_points"}

    def __init__(
        self, sample_rate_hz: int = 16000, hop_samples: int = 64, n_points: int | None = 512, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.hop_samples = whole(hop_samples, "hop_samples")
        self.n_points = optional_count(n_points, "n_points", smallest=2)

    @takes(amplitude="B F 1", wavetables="B F W | B W", f0_hz="B F 1")
    def get_controls(self, amplitude: Tensor, wavetables: Tensor, f0_hz: Tensor) -> Controls:
        """Scales raw controls.

        Args:
          amplitude: [B, F, 1], any real number.
          wavetables: [B, F, W] or [B, W], any real number.
          f0_hz: [B, F, 1] in Hz, 0 or more.

        Returns:
          `amplitude` [B, F, 1] in 0..2, `wavetables` in -1..1, of their shape, and `f0_hz`.
        """
        return {"amplitude": self.scale(amplitude), "wavetables": ops.tanh(wavetables), "f0_hz": f0_hz}

    @takes(amplitude="B F 1", wavetables="B F W | B W", f0_hz="B F 1")
    def get_signal(self, amplitude: Tensor, wavetables: Tensor, f0_hz: Tensor) -> Tensor:
        """Renders controls.

        Args:
          amplitude: [B, F, 1], linear.
          wavetables: [B, F, W], or [B, W] for a constant one; one cycle each.
          f0_hz: [B, F, 1] in Hz, 0 or more.

        Returns:
          audio [B, S].
        """
        return wavetable_synthesis(f0_hz, amplitude, wavetables, self.hop_samples, self.sample_rate_hz)

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns [B, F·hop]."""
        return shapes[0][0], times(shapes[0][1], self.hop_samples)
