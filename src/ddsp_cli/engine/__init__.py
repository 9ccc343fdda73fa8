"""The DDSP engine: differentiable synthesis on `keras.ops`, usable on its own.

from ddsp_cli import engine

audio = engine.Harmonic(sample_rate_hz=16000, hop_samples=64)(amplitude, distribution, f0_hz)
"""

from ddsp_cli.engine import core
from ddsp_cli.engine.autoencoder import Autoencoder
from ddsp_cli.engine.effects import ExpDecayReverb, FilteredNoiseReverb, FIRFilter, LearnedRoom, ModDelay, Reverb
from ddsp_cli.engine.graph import ProcessorGroup, group_from_config, group_from_yaml
from ddsp_cli.engine.losses import EmbeddingLoss, LossGroup, SpectralLoss, mean_difference
from ddsp_cli.engine.networks import (
    Decoder,
    DilatedConvDecoder,
    FcStack,
    InstrumentVectors,
    MfccEncoder,
    RnnFcDecoder,
    TimbreEncoder,
)
from ddsp_cli.engine.processors import Add, Crop, Mix, Processor
from ddsp_cli.engine.synths import FilteredNoise, Harmonic, Sinusoidal, Wavetable

__all__ = [
    "Add",
    "Autoencoder",
    "Crop",
    "Decoder",
    "DilatedConvDecoder",
    "EmbeddingLoss",
    "ExpDecayReverb",
    "FIRFilter",
    "FcStack",
    "FilteredNoise",
    "FilteredNoiseReverb",
    "Harmonic",
    "InstrumentVectors",
    "LearnedRoom",
    "LossGroup",
    "MfccEncoder",
    "Mix",
    "ModDelay",
    "Processor",
    "ProcessorGroup",
    "Reverb",
    "RnnFcDecoder",
    "Sinusoidal",
    "SpectralLoss",
    "TimbreEncoder",
    "Wavetable",
    "core",
    "group_from_config",
    "group_from_yaml",
    "mean_difference",
]
