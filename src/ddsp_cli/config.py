"""Everything that is configured: presets, features, training. Frozen structures read from strict YAML.

An unknown key, a wrong type or a number out of range is an error that names the place and the closest
known key. Ranges and defaults are declared here once. Shapes: B batch, F frames, S samples, K harmonics,
M noise bands.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta

from ddsp_cli.errors import DdspError, ModelError, closest, did_you_mean

PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]

#: The rate at which sound is measured, whatever rate the model sings at.
ANALYSIS_RATE_HZ = 16000

SAMPLE_RATES_HZ = (16000, 24000, 32000, 44100, 48000)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all configuration: immutable and strict."""


class FeatureSpec(Config):
    """How pitch, loudness and power are measured. Stored with data and model, compared wherever they meet.

    Frame i is centred on sample i·hop of the 16 kHz signal and F = ceil(S / hop).
    """

    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    pitch: str = "swift-f0"
    # As magenta/ddsp measures since 2.0, or as its models before that were trained (features.loudness).
    loudness: Literal["a-weighted-2022", "a-weighted-2020"] = "a-weighted-2022"
    loudness_window_samples: PositiveInt = 512
    power_window_samples: PositiveInt = 1024
    floor_db: float = -80.0

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


# --- processors ----------------------------------------------------------------------------------


class ProcessorConfig(Config, tag_field="type"):
    """A node of the processor graph: what it is, and the names of the signals it takes."""

    inputs: list[str]


class HarmonicConfig(ProcessorConfig, tag="Harmonic"):
    n_harmonics: PositiveInt = 60
    amp_resample_method: Literal["linear", "window"] = "window"
    normalize_below_nyquist: bool = True


class SinusoidalConfig(ProcessorConfig, tag="Sinusoidal"):
    """Takes raw amplitudes and raw frequencies."""

    n_sinusoids: PositiveInt = 60
    hz_min: NonNegativeFloat = 0.0
    hz_max: PositiveFloat = 8000.0
    amp_resample_method: Literal["nearest", "linear", "cubic", "window"] = "window"


class WavetableConfig(ProcessorConfig, tag="Wavetable"):
    """Takes a raw amplitude, raw tables and f0_hz."""

    n_points: Annotated[int, Meta(ge=2)] = 512


class FilteredNoiseConfig(ProcessorConfig, tag="FilteredNoise"):
    n_bands: Annotated[int, Meta(ge=2)] = 65
    initial_bias: float = -5.0
    window_size_samples: Annotated[int, Meta(ge=0)] = 0


class ReverbConfig(ProcessorConfig, tag="Reverb"):
    length_samples: PositiveInt = 48000


class FilteredNoiseReverbConfig(ProcessorConfig, tag="FilteredNoiseReverb"):
    length_samples: PositiveInt = 24000
    n_frames: PositiveInt = 500
    n_bands: Annotated[int, Meta(ge=2)] = 32
    initial_bias: float = -3.0
    window_size_samples: Annotated[int, Meta(ge=0)] = 257


class ExpDecayReverbConfig(ProcessorConfig, tag="ExpDecayReverb"):
    length_samples: PositiveInt = 48000
    gain: float = 2.0
    decay: float = 4.0


class FIRFilterConfig(ProcessorConfig, tag="FIRFilter"):
    """Takes audio and raw magnitudes."""

    n_bands: Annotated[int, Meta(ge=2)] = 65
    window_size_samples: Annotated[int, Meta(ge=0)] = 0


class ModDelayConfig(ProcessorConfig, tag="ModDelay"):
    """Takes audio, a raw gain and a raw phase."""

    center_ms: NonNegativeFloat = 15.0
    depth_ms: PositiveFloat = 10.0
    add_dry: bool = True


class AddConfig(ProcessorConfig, tag="Add"):
    pass


class MixConfig(ProcessorConfig, tag="Mix"):
    """Takes two signals and a raw level."""


class CropConfig(ProcessorConfig, tag="Crop"):
    length_samples: PositiveInt = 320
    location: Literal["front", "back"] = "back"


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


class DecoderConfig(Config):
    """The recurrent decoder of the paper (section 3.2 and appendix B.2)."""

    channels: PositiveInt = 512
    rnn_units: PositiveInt = 512
    layers_per_stack: Annotated[int, Meta(ge=0)] = 3


class ModelConfig(Config, kw_only=True):
    """What the network takes, how large it is, and the graph of processors that turns its output into sound."""

    sample_rate_hz: Literal[16000, 24000, 32000, 44100, 48000] = 16000
    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    inputs: list[Literal["ld_scaled", "pw_scaled", "f0_scaled"]]
    decoder: DecoderConfig = DecoderConfig()
    processors: dict[str, AnyProcessorConfig]

    @property
    def hop_samples(self) -> int:
        """Audio samples between two frames, at the model's own rate."""
        return self.sample_rate_hz // self.frame_rate_hz

    @property
    def level(self) -> Literal["loudness_db", "power_db"]:
        """Which measure of level drives the model."""
        return "power_db" if "pw_scaled" in self.inputs else "loudness_db"

    def only(self, kind: type[ProcessorConfig]) -> tuple[str, Any] | None:
        """Name and configuration of the one processor of a kind, or None where there is none."""
        found = [(name, node) for name, node in self.processors.items() if isinstance(node, kind)]
        return found[0] if found else None


# --- training ------------------------------------------------------------------------------------


class LossConfig(Config):
    """Multi-scale spectral loss: L1 on magnitudes and on their logarithms, summed over FFT sizes."""

    fft_sizes: tuple[PositiveInt, ...] = (2048, 1024, 512, 256, 128, 64)
    mag_weight: NonNegativeFloat = 1.0
    logmag_weight: NonNegativeFloat = 1.0
    log_floor: NonNegativeFloat = 1e-5  # magnitudes below it count as it; 0 is the original's definition


class TrainingConfig(Config):
    """How a preset is trained. `decay_rate` per `decay_steps` as upstream's optimization/base.gin."""

    steps: PositiveInt = 30000
    batch_size: PositiveInt = 16
    crop_s: PositiveFloat = 4.0
    learning_rate: PositiveFloat = 3e-4
    decay_rate: Annotated[float, Meta(gt=0, le=1)] = 0.98
    decay_steps: PositiveInt = 10000
    clip_norm: PositiveFloat = 3.0
    loss: LossConfig = LossConfig()


class Preset(Config):
    """A named model with the training that suits it; one YAML file each."""

    description: str
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()


# --- reading -------------------------------------------------------------------------------------

T = TypeVar("T")
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")


#: libyaml where PyYAML comes with it: data sets of thousands of recordings are read six times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Nothing of ours is nested deeper; libyaml would overflow the stack.
MAX_DEPTH = 64


class UniqueKeyLoader(_Loader):  # type: ignore[misc]
    """PyYAML's safe loader, which alone would let the second of two equal keys win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.YAMLError(f"key '{key}' stands there twice (line {key_node.start_mark.line + 1})")
            if isinstance(key, str):
                seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _check_structure(text: str) -> None:
    """Refuses what could grow without bound when it is loaded.

    Raises:
      yaml.YAMLError: aliases, too many levels, or no YAML at all.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")


def parse_yaml(text: str, kind: type[T], source: str, error: type[DdspError] = ModelError) -> T:
    """Reads YAML strictly into a configuration structure.

    Args:
      text: the YAML document. Aliases are refused: they can grow without bound.
      kind: the structure to build.
      source: where the text came from, for the error sentence.
      error: what to raise; which file it was decides the exit code.
    """
    try:
        _check_structure(text)
        data = yaml.load(text, Loader=UniqueKeyLoader)
        return msgspec.convert(data, kind, strict=True)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        if isinstance(problem, msgspec.ValidationError):
            raise error(f"{source}: {problem}", _hint_for(str(problem))) from problem
        first_line = " ".join(str(problem).split())
        raise error(f"{source} is not valid YAML: {first_line}") from problem


def _hint_for(message: str) -> str:
    found = _UNKNOWN_FIELD.search(message)
    if not found:
        return ""
    matches = closest(found["name"], _all_field_names(), limit=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _all_field_names() -> set[str]:
    names: set[str] = set()
    pending: list[type] = [Config]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        names.update(getattr(kind, "__struct_fields__", ()))
    return names


def to_plain(config: Any) -> Any:
    """A structure as plain dicts, lists and numbers, for YAML or JSON."""
    return msgspec.to_builtins(config)


def dump_yaml(data: Any) -> str:
    """YAML text of plain data: keys in their given order, readable Unicode."""
    text: str = yaml.dump(to_plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def preset_names() -> list[str]:
    """Names of the presets that come with the program."""
    folder = resources.files("ddsp_cli") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """A preset by name, or from a YAML file of the user's own.

    Raises:
      ModelError: no such preset, or a file that is not a valid one.
    """
    if name in preset_names():
        text = (resources.files("ddsp_cli") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
        return parse_yaml(text, Preset, f"preset {name}")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return parse_yaml(path.read_text(encoding="utf-8"), Preset, str(path))
        except (OSError, UnicodeDecodeError) as problem:
            raise ModelError(f"preset file {path} cannot be read: {problem}") from problem
    raise ModelError(f"there is no preset called {name}", did_you_mean(name, preset_names()))
