"""Everything that is configured: presets, features, training. Frozen structures read from strict YAML.

An unknown key, a wrong type or a number out of range is an error that names the place and the closest
known key. Ranges and defaults are declared here once. Shapes: B batch, F frames, S samples, K harmonics,
M noise bands.
"""

from ddsp_cli.config.model import (
    ANALYSIS_RATE_HZ,
    FLOOR_DB,
    SAMPLE_RATES_HZ,
    AddConfig,
    AnyProcessorConfig,
    Config,
    CropConfig,
    Decibels,
    DecoderConfig,
    EncoderConfig,
    ExpDecayReverbConfig,
    FeatureSpec,
    FilteredNoiseConfig,
    FilteredNoiseReverbConfig,
    FIRFilterConfig,
    HarmonicConfig,
    InstrumentsConfig,
    MixConfig,
    ModDelayConfig,
    ModelConfig,
    Name,
    NonNegativeFloat,
    OwnProcessorConfig,
    PositiveFloat,
    PositiveInt,
    ProcessorConfig,
    ReverbConfig,
    SinusoidalConfig,
    Text,
    WavetableConfig,
)
from ddsp_cli.config.preset import LossConfig, Preset, TrainingConfig, load_preset, preset_names
from ddsp_cli.config.reading import dump_yaml, explain, parse_yaml, to_plain

__all__ = [
    "ANALYSIS_RATE_HZ", "FLOOR_DB", "SAMPLE_RATES_HZ", "AddConfig", "AnyProcessorConfig", "Config", "CropConfig",
    "Decibels", "DecoderConfig", "EncoderConfig", "ExpDecayReverbConfig", "FIRFilterConfig", "FeatureSpec",
    "FilteredNoiseConfig", "FilteredNoiseReverbConfig", "HarmonicConfig", "InstrumentsConfig", "LossConfig",
    "MixConfig", "ModDelayConfig", "ModelConfig", "Name", "NonNegativeFloat", "OwnProcessorConfig", "PositiveFloat",
    "PositiveInt", "Preset", "ProcessorConfig", "ReverbConfig", "SinusoidalConfig", "Text", "TrainingConfig",
    "WavetableConfig", "dump_yaml", "explain", "load_preset", "parse_yaml", "preset_names", "to_plain",
]  # fmt: skip
