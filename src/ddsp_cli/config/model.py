"""A model: how its sound is measured, what its network takes, and the graph of processors behind it.

Structures are immutable and strict; ranges and defaults are declared here once.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddsp_cli.errors import ModelError

# --- ranges ----------------------------------------------------------------------------------------------------------

PositiveInt = Annotated[int, Meta(ge=1, le=1_000_000_000)]
PositiveFloat = Annotated[float, Meta(gt=0, le=1e9)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=1e9)]

# A configuration also comes from untrusted files. The upper bounds are far beyond any useful model, and keep the memory
# that a file can request within bounds.
NetworkSize = Annotated[int, Meta(ge=1, le=8192)]  # units, channels, latent dimensions
NHarmonics = Annotated[int, Meta(ge=1, le=4096)]
NBands = Annotated[int, Meta(ge=2, le=8193)]
WindowSamples = Annotated[int, Meta(ge=0, le=65536)]  # 0: derived from the number of bands
ImpulseResponseSamples = Annotated[int, Meta(ge=1, le=60 * 48000)]
Decibels = Annotated[float, Meta(ge=-300, le=300)]
Gain = Annotated[float, Meta(ge=-1000, le=1000)]

Name = Annotated[str, Meta(max_length=1000)]
Text = Annotated[str, Meta(max_length=20_000)]

#: The rate at which sound is measured, for every sample rate of the model.
ANALYSIS_RATE_HZ = 16000

SAMPLE_RATES_HZ = (16000, 24000, 32000, 44100, 48000)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all configuration: immutable and strict."""


#: Level of silence in dB, the lowest that features and curves have.
FLOOR_DB = -80.0


class FeatureSpec(Config):
    """Settings of the measurement of F0, loudness and power. Stored with data and model, compared wherever they meet.

    Frame i is centred on sample i·hop of the 16 kHz signal and F = ceil(S / hop).
    """

    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    pitch: Name = "swift-f0"
    # As magenta/ddsp measures since 2.0, or as its models before that were trained (analysis.loudness).
    loudness: Literal["a-weighted-2022", "a-weighted-2020"] = "a-weighted-2022"
    loudness_window_samples: Annotated[int, Meta(ge=1, le=65536)] = 512
    power_window_samples: Annotated[int, Meta(ge=1, le=65536)] = 1024
    floor_db: Decibels = FLOOR_DB

    @property
    def hop_samples(self) -> int:
        """Samples of the 16 kHz signal between two frames."""
        return ANALYSIS_RATE_HZ // self.frame_rate_hz

    def at(self, frame_rate_hz: int) -> "FeatureSpec":
        """Returns the same measurement at another frame rate."""
        return msgspec.structs.replace(self, frame_rate_hz=frame_rate_hz)

    def differences(self, other: "FeatureSpec") -> list[str]:
        """Describes the differences that make the two incompatible (the tracker is not one of them)."""
        fields = ("frame_rate_hz", "loudness", "loudness_window_samples", "power_window_samples", "floor_db")
        return [
            f"{name} {getattr(self, name)} against {getattr(other, name)}"
            for name in fields
            if getattr(self, name) != getattr(other, name)
        ]


# --- processors ------------------------------------------------------------------------------------------------------


class ProcessorConfig(Config, tag_field="type"):
    """A node of the processor graph: its kind, and the names of the signals it takes."""

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
      input_channels: of each input that the network predicts; null for audio, F0 and external inputs.
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

# --- networks --------------------------------------------------------------------------------------------------------


class DecoderConfig(Config):
    """The recurrent decoder of the paper (section 3.2 and appendix B.2).

    Attributes:
      channels: width of the dense layers.
      rnn_units: of the GRU.
      layers_per_stack: number of dense layers in each stack.
      note_bias: add a bias for each semitone, interpolated between semitones, to the last layer. The timbre of an
        instrument differs from one note to the next, and a network of one scaled pitch is smooth over pitch.
    """

    channels: NetworkSize = 512
    rnn_units: NetworkSize = 512
    layers_per_stack: Annotated[int, Meta(ge=0, le=64)] = 3
    note_bias: bool = False


class EncoderConfig(Config):
    """Configures the encoder of the latent z: MFCCs through a GRU (paper section 3.2 and appendix B.1)."""

    z_dims: NetworkSize = 16
    rnn_units: NetworkSize = 512
    n_mfccs: Annotated[int, Meta(ge=1, le=127)] = 29  # of 128 mel bands, without the coefficient that is level


class InstrumentsConfig(Config):
    """Conditioning of one network on many instruments: a vector for each, constant over time.

    Attributes:
      names: of the instruments, as the data set names them; the index in this list is what batches carry.
      vector_dims: length of a learned vector; 0 for one-hot vectors, which have as many entries as there are names.
    """

    names: Annotated[list[Name], Meta(min_length=2, max_length=8192)]
    vector_dims: Annotated[int, Meta(ge=0, le=8192)] = 0

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names):
            raise ValueError("`instruments` name each instrument once")
        if self.vector_dims == 1:
            raise ValueError("`vector_dims` of 1 cannot distinguish instruments; give 0 (one-hot) or 2 and more")

    @property
    def n_channels(self) -> int:
        """Entries of a vector."""
        return self.vector_dims or len(self.names)


class ModelConfig(Config, kw_only=True):
    """Configures a model: inputs and size of the network, and the graph of processors that renders its output."""

    sample_rate_hz: Literal[16000, 24000, 32000, 44100, 48000] = 16000
    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    inputs: list[Literal["ld_scaled", "pw_scaled", "f0_scaled", "z", "instrument"]]
    encoder: EncoderConfig | UnsetType = UNSET  # of z, where that is among the inputs
    instruments: InstrumentsConfig | UnsetType = UNSET  # where `instrument` is among the inputs
    decoder: DecoderConfig | None = DecoderConfig()  # None: its make is unknown, see `synthesis.litert_decoder`
    processors: Annotated[dict[Name, AnyProcessorConfig], Meta(max_length=64)]

    def __post_init__(self) -> None:
        if ("z" in self.inputs) != bool(self.encoder):
            raise ValueError("`inputs` name z if, and only if, there is an `encoder`")
        if ("instrument" in self.inputs) != bool(self.instruments):
            raise ValueError("`inputs` name instrument if, and only if, there are `instruments`")
        if len(set(self.inputs)) < len(self.inputs) or {"ld_scaled", "pw_scaled"} <= set(self.inputs):
            raise ValueError("`inputs` name each input once, and one level: ld_scaled or pw_scaled")
        if self.decoder is not None and self.decoder.note_bias and "f0_scaled" not in self.inputs:
            raise ValueError("a decoder with `note_bias` needs f0_scaled among the `inputs`")

    @property
    def hop_samples(self) -> int:
        """Audio samples between two frames, at the model's own rate."""
        return self.sample_rate_hz // self.frame_rate_hz

    @property
    def scaled_inputs(self) -> list[str]:
        """The inputs that are curves of pitch and level; neither z nor instrument is one of them."""
        return [name for name in self.inputs if name not in ("z", "instrument")]

    @property
    def input_sizes(self) -> dict[str, int]:
        """Channels of the inputs that have more than one."""
        sizes = {"z": self.encoder.z_dims} if self.encoder else {}
        return sizes | ({"instrument": self.instruments.n_channels} if self.instruments else {})

    @property
    def level(self) -> Literal["loudness_db", "power_db"]:
        """The measure of level that drives the model."""
        return "power_db" if "pw_scaled" in self.inputs else "loudness_db"

    @property
    def level_input(self) -> Literal["pw_scaled", "ld_scaled"]:
        """The input that is scaled from the level; `ld_scaled` also where the model has neither."""
        return "pw_scaled" if "pw_scaled" in self.inputs else "ld_scaled"

    @property
    def sizes(self) -> DecoderConfig:
        """Sizes of the decoder.

        Raises:
          ModelError: they are unknown; there is only a file to run.
        """
        if self.decoder is None:
            raise ModelError(
                "the network of this instrument has an unknown graph; it can be played, and exported as vst, "
                "but not trained on or exported in another format",
                "Start from another instrument.",
            )
        return self.decoder

    def only(self, kind: type[ProcessorConfig]) -> tuple[str, Any] | None:
        """Returns name and configuration of the first processor of a kind, or None; models to play have one of each."""
        found = [(name, node) for name, node in self.processors.items() if isinstance(node, kind)]
        return found[0] if found else None
