"""What every importer needs to make a bundle of what it found."""

from __future__ import annotations

import datetime

import numpy as np

from ddsp_cli import __version__
from ddsp_cli.bundle import FORMAT_VERSION, Bundle, Card, Statistics, TrainingRecord
from ddsp_cli.config import AddConfig, AnyProcessorConfig, FeatureSpec, FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.synthesis.instrument import Instrument

#: Names of the nodes in the bundles of this program.
HARMONIC, NOISE, DRY, ROOM = "harmonic", "noise", "dry", "reverb"


def processors(
    harmonic: HarmonicConfig, noise: FilteredNoiseConfig, room: AnyProcessorConfig | None
) -> dict[str, AnyProcessorConfig]:
    """The graph of every instrument that can be imported: harmonics and noise, added, in a room or not."""
    nodes: dict[str, AnyProcessorConfig] = {HARMONIC: harmonic, NOISE: noise, DRY: AddConfig(inputs=[HARMONIC, NOISE])}
    return nodes if room is None else nodes | {ROOM: room}


def make_bundle(
    model: ModelConfig,
    features: FeatureSpec,
    statistics: Statistics,
    weights: dict[str, np.ndarray],
    impulse_response: np.ndarray | None,
    description: str,
    training: TrainingRecord,
    network: bytes | None = None,
) -> Bundle:
    """A bundle in memory, checked: graph and weights fit together.

    Raises:
      ModelError: they do not.
    """
    card = Card(
        format=FORMAT_VERSION,
        name="imported",
        description=description,
        model=model,
        features=features,
        statistics=statistics,
        training=training,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    bundle = Bundle(card, weights, impulse_response, network=network)
    Instrument(bundle)
    return bundle


def training_record(preset: str, steps: int, origin: str) -> TrainingRecord:
    """Who trained it, and that it was imported."""
    return TrainingRecord(preset=preset, steps=steps, seed=0, program=f"{origin}; imported with ddsp {__version__}")
