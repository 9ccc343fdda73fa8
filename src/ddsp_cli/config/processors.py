"""The processors of a preset: what each takes, with ranges and defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ddsp_cli.config.base import (
    Config,
    Gain,
    ImpulseResponseSamples,
    Name,
    NBands,
    NetworkSize,
    NHarmonics,
    NonNegativeFloat,
    PositiveFloat,
    Text,
    WindowSamples,
)


class ProcessorConfig(Config, tag_field="type"):
    """A node of the processor graph: what it is, and the names of the signals it takes."""

    inputs: Annotated[list[Name], Meta(max_length=64)]


class HarmonicConfig(ProcessorConfig, tag="Harmonic"):
    """Takes a raw amplitude, a raw harmonic distribution and f0_hz."""

    n_harmonics: NHarmonics = 60
    amp_resample_method: Literal["linear", "window"] = "window"
    normalize_below_nyquist: bool = True


class SinusoidalConfig(ProcessorConfig, tag="Sinusoidal"):
    """Takes raw amplitudes and raw frequencies."""

    n_sinusoids: NHarmonics = 60
    hz_min: NonNegativeFloat = 0.0
    hz_max: PositiveFloat = 8000.0
    amp_resample_method: Literal["nearest", "linear", "cubic", "window"] = "window"


class WavetableConfig(ProcessorConfig, tag="Wavetable"):
    """Takes a raw amplitude, raw tables and f0_hz."""

    n_points: Annotated[int, Meta(ge=2, le=65536)] = 512


class FilteredNoiseConfig(ProcessorConfig, tag="FilteredNoise"):
    """Takes raw noise magnitudes."""

    n_bands: NBands = 65
    initial_bias: Gain = -5.0
    window_size_samples: WindowSamples = 0


class ReverbConfig(ProcessorConfig, tag="Reverb"):
    """Takes audio."""

    length_samples: ImpulseResponseSamples = 48000


class FilteredNoiseReverbConfig(ProcessorConfig, tag="FilteredNoiseReverb"):
    """Takes audio."""

    length_samples: ImpulseResponseSamples = 24000
    n_frames: Annotated[int, Meta(ge=1, le=100_000)] = 500
    n_bands: NBands = 32
    initial_bias: Gain = -3.0
    window_size_samples: WindowSamples = 257


class ExpDecayReverbConfig(ProcessorConfig, tag="ExpDecayReverb"):
    """Takes audio."""

    length_samples: ImpulseResponseSamples = 48000
    gain: Gain = 2.0
    decay: Gain = 4.0


class FIRFilterConfig(ProcessorConfig, tag="FIRFilter"):
    """Takes audio and raw magnitudes."""

    n_bands: NBands = 65
    window_size_samples: WindowSamples = 0


class ModDelayConfig(ProcessorConfig, tag="ModDelay"):
    """Takes audio, a raw gain and a raw phase."""

    center_ms: Annotated[float, Meta(ge=0, le=10_000)] = 15.0
    depth_ms: Annotated[float, Meta(gt=0, le=10_000)] = 10.0
    add_dry: bool = True


class AddConfig(ProcessorConfig, tag="Add"):
    """Takes two or more signals."""


class MixConfig(ProcessorConfig, tag="Mix"):
    """Takes two signals and a raw level."""


class CropConfig(ProcessorConfig, tag="Crop"):
    """Takes audio."""

    length_samples: ImpulseResponseSamples = 320
    location: Literal["front", "back"] = "back"


class OwnProcessorConfig(ProcessorConfig, tag="Own"):
    """A processor of the user's own. Presets and `engine.group_from_yaml` read it; a bundle that names one is refused.

    Attributes:
      processor: `module:Class`, or the name of an entry point in the group `ddsp_cli.processors`.
      settings: arguments of its constructor; `sample_rate_hz` and `hop_samples` come from the model.
      input_channels: of each input that the network predicts; null for audio, F0 and what comes from outside.
    """

    processor: Annotated[str, Meta(min_length=1, max_length=1000)]
    settings: Annotated[dict[Name, bool | int | float | Text | None], Meta(max_length=64)] = {}
    input_channels: Annotated[list[NetworkSize | None], Meta(max_length=64)] = []


#: Processors that a bundle may hold; none of them imports code.
AnyProcessorConfig = (
    HarmonicConfig
    | SinusoidalConfig
    | WavetableConfig
    | FilteredNoiseConfig
    | ReverbConfig
    | ExpDecayReverbConfig
    | FilteredNoiseReverbConfig
    | FIRFilterConfig
    | ModDelayConfig
    | AddConfig
    | MixConfig
    | CropConfig
)

#: Processors that the player renders as one room, a convolution with the bundle's impulse response.
ROOMS = (ReverbConfig, FilteredNoiseReverbConfig, ExpDecayReverbConfig)
