"""The DDSP engine: differentiable synthesis on `keras.ops`, usable on its own.

from ddsp_cli import engine

audio = engine.Harmonic(sample_rate_hz=16000, hop_samples=64)(amplitude, distribution, f0_hz)
"""

from ddsp_cli.engine.autoencoder import Autoencoder
from ddsp_cli.engine.decoders import FcStack, RnnFcDecoder
from ddsp_cli.engine.effects import FilteredNoiseReverb, Reverb
from ddsp_cli.engine.graph import ProcessorGroup
from ddsp_cli.engine.losses import SpectralLoss
from ddsp_cli.engine.processors import Add, Crop, Processor
from ddsp_cli.engine.synths import FilteredNoise, Harmonic

__all__ = [
    "Add",
    "Autoencoder",
    "Crop",
    "FcStack",
    "FilteredNoise",
    "FilteredNoiseReverb",
    "Harmonic",
    "Processor",
    "ProcessorGroup",
    "Reverb",
    "RnnFcDecoder",
    "SpectralLoss",
]
