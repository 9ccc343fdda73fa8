"""The card of an instrument, `model.yaml`: what it is, and how it came about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ddsp_cli.config import Config, FeatureSpec, ModelConfig, parse_yaml
from ddsp_cli.errors import ModelError

FORMAT_VERSION = 1
CARD = "model.yaml"

#: No file of a bundle is larger; what is larger is not a bundle and is not read.
MAX_FILE_BYTES = 256 * 1024 * 1024

Quantiles = Annotated[list[float], Meta(min_length=101, max_length=101)]


class Statistics(Config):
    """What the instrument played while it was learned: percentiles 0..100 over frames that hold a note."""

    pitch_midi: Quantiles
    loudness_db: Quantiles
    power_db: Quantiles
    note_s: float

    def level(self, name: str) -> np.ndarray:
        """Percentiles of `loudness_db` or `power_db`, shape [101]."""
        return np.asarray(getattr(self, name), np.float32)


class Source(Config):
    """A body of recordings that a model learned from."""

    title: str
    licence: str = "unknown"
    attribution: str = ""
    url: str = ""


class TrainingRecord(Config):
    """How a bundle came about."""

    preset: str
    steps: int
    seed: int
    wall_s: float = 0.0
    audio_s: float = 0.0
    program: str = ""
    started_from: str = ""  # the instrument whose weights it began with


class Card(Config, kw_only=True):
    """The contents of `model.yaml`."""

    format: int
    name: str
    description: str = ""
    licence: str = "unknown"
    model: ModelConfig
    features: FeatureSpec
    statistics: Statistics
    training: TrainingRecord
    metrics: dict[str, float] = {}
    sources: list[Source] = []
    remarks: list[str] = []  # what it can and cannot do
    created: str = ""
    files: dict[str, str] = {}  # name → SHA-256


def load_card(folder: Path) -> Card:
    """Reads `model.yaml` alone.

    Raises:
      ModelError: not a bundle, or one of another format version.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise ModelError(f"{folder} is not a ddsp instrument: it has no {CARD}")
    card = parse_yaml(read_file(path).decode("utf-8", "replace"), Card, str(path))
    if card.format != FORMAT_VERSION:
        raise ModelError(
            f"{folder} has bundle format {card.format}, this program reads {FORMAT_VERSION}",
            "Update ddsp." if card.format > FORMAT_VERSION else "Train or import it again.",
        )
    return card


def read_file(path: Path) -> bytes:
    """The contents of a file that is, or is part of, an instrument.

    Raises:
      ModelError: it cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path} is larger than any instrument can be")
        return path.read_bytes()
    except OSError as problem:
        raise ModelError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def revise(card: Card, **changes: Any) -> Card:
    """The card with some entries changed."""
    import msgspec

    return msgspec.structs.replace(card, **changes)
