"""The base of all configuration: immutable, strict structures, ranges, and the FeatureSpec."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PositiveInt = Annotated[int, Meta(ge=1, le=1_000_000_000)]
PositiveFloat = Annotated[float, Meta(gt=0, le=1e9)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=1e9)]

# A configuration also comes from files of strangers. The upper bounds are far beyond any model that is of use, and keep
# what a file asks for within memory.
NetworkSize = Annotated[int, Meta(ge=1, le=8192)]  # units, channels, latent dimensions
NHarmonics = Annotated[int, Meta(ge=1, le=4096)]
NBands = Annotated[int, Meta(ge=2, le=8193)]
WindowSamples = Annotated[int, Meta(ge=0, le=65536)]  # 0: what follows from the number of bands
ImpulseResponseSamples = Annotated[int, Meta(ge=1, le=60 * 48000)]
Decibels = Annotated[float, Meta(ge=-300, le=300)]
Gain = Annotated[float, Meta(ge=-1000, le=1000)]

Name = Annotated[str, Meta(max_length=1000)]
Text = Annotated[str, Meta(max_length=20_000)]

#: The rate at which sound is measured, whatever rate the model sings at.
ANALYSIS_RATE_HZ = 16000

SAMPLE_RATES_HZ = (16000, 24000, 32000, 44100, 48000)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all configuration: immutable and strict."""


class FeatureSpec(Config):
    """Settings of the measurement of F0, loudness and power. Stored with data and model, compared wherever they meet.

    Frame i is centred on sample i·hop of the 16 kHz signal and F = ceil(S / hop).
    """

    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    pitch: Name = "swift-f0"
    # As magenta/ddsp measures since 2.0, or as its models before that were trained (features.loudness).
    loudness: Literal["a-weighted-2022", "a-weighted-2020"] = "a-weighted-2022"
    loudness_window_samples: Annotated[int, Meta(ge=1, le=65536)] = 512
    power_window_samples: Annotated[int, Meta(ge=1, le=65536)] = 1024
    floor_db: Decibels = -80.0

    @property
    def hop_samples(self) -> int:
        """Samples of the 16 kHz signal between two frames."""
        return ANALYSIS_RATE_HZ // self.frame_rate_hz

    def at(self, frame_rate_hz: int) -> FeatureSpec:
        """The same measurement at another frame rate."""
        return msgspec.structs.replace(self, frame_rate_hz=frame_rate_hz)

    def differences(self, other: FeatureSpec) -> list[str]:
        """Human-readable differences that make the two incompatible (the tracker is not one of them)."""
        fields = ("frame_rate_hz", "loudness", "loudness_window_samples", "power_window_samples", "floor_db")
        return [
            f"{name} {getattr(self, name)} against {getattr(other, name)}"
            for name in fields
            if getattr(self, name) != getattr(other, name)
        ]
