"""A trained instrument on disk: one folder with everything that inference needs, and how it came about.

    models/NAME/
      model.yaml             what it is: configuration, features, statistics, figures, sources, checksums
      weights.safetensors    every trained tensor, the only source of weights (half precision by default)
      network.tflite         in its place: a network of another program and of unknown make, which is run as it is
      impulse_response.wav   the learned room as the model renders it, where it has one
      preview.ogg            a few seconds of it

Neither TensorFlow nor pickle is needed to read one. Files are checked against their checksums.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ddsp_cli.atomic import folder_beside, writing
from ddsp_cli.config import Config, FeatureSpec, ModelConfig, dump_yaml, parse_yaml
from ddsp_cli.errors import ModelError, OutputError

FORMAT_VERSION = 1
CARD = "model.yaml"
WEIGHTS = "weights.safetensors"
NETWORK = "network.tflite"
IMPULSE_RESPONSE = "impulse_response.wav"
PREVIEW = "preview.ogg"

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


@dataclass(frozen=True)
class Bundle:
    """A loaded instrument.

    Attributes:
      card: what stands in `model.yaml`.
      weights: name → float32 array; names follow `engine.decoders` (e.g. `decoder/rnn/kernel`).
      impulse_response: [S] float32 at the model's rate, or None.
      path: the folder it was read from.
      network: a file that is run by an interpreter, where there is nothing to fill `weights` with; else None.
    """

    card: Card
    weights: dict[str, np.ndarray]
    impulse_response: np.ndarray | None = None
    path: Path = field(default_factory=Path)
    network: bytes | None = None


def save(
    folder: Path,
    card: Card,
    weights: dict[str, np.ndarray],
    impulse_response: np.ndarray | None = None,
    preview: np.ndarray | None = None,
    *,
    network: bytes | None = None,
    half_precision: bool = True,
    force: bool = False,
) -> Card:
    """Writes a bundle beside its place and moves it there when it is whole.

    Args:
      folder: where the bundle shall stand.
      card: `files` and `format` are filled in here.
      weights: name → array.
      impulse_response: [S] at the model's rate.
      preview: [S] at the model's rate.
      network: a file that is run in place of weights, see `Bundle`.
      half_precision: store weights as float16, which halves the size at -70 dB of error or better.
      force: replace what stands there.

    Raises:
      OutputError: the place is taken, or cannot be written.
    """
    import soundfile
    from safetensors.numpy import save_file

    folder = Path(folder)
    if folder.exists() and not force:
        raise OutputError(f"{folder} exists already", "Use --force to replace it, or give another name.")
    with writing(folder), folder_beside(folder) as staging:
        dtype = np.float16 if half_precision else np.float32
        if network is None:
            save_file({name: np.ascontiguousarray(value, dtype) for name, value in weights.items()}, staging / WEIGHTS)
        else:
            (staging / NETWORK).write_bytes(network)
        rate = card.model.sample_rate_hz
        if impulse_response is not None:
            soundfile.write(staging / IMPULSE_RESPONSE, impulse_response, rate, subtype="FLOAT")
        if preview is not None:
            soundfile.write(staging / PREVIEW, preview, rate, format="OGG", subtype="VORBIS")
        files = {entry.name: _sha256(entry) for entry in sorted(staging.iterdir())}
        card = revise(card, format=FORMAT_VERSION, files=files)
        (staging / CARD).write_text(dump_yaml(card), encoding="utf-8")
        for entry in staging.iterdir():
            entry.chmod(0o644)  # safetensors keeps what it writes to its user
    return card


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


def load(folder: Path) -> Bundle:
    """Reads a bundle and checks every file against its checksum.

    Raises:
      ModelError: a file is missing, damaged, or does not belong to the card.
    """
    folder = Path(folder)
    card = load_card(folder)
    brings = WEIGHTS if card.model.decoder else NETWORK
    if brings not in card.files:
        raise ModelError(f"{folder} names no {brings}", "The instrument is incomplete; install or train it again.")
    for name, digest in card.files.items():
        if Path(name).name != name:
            raise ModelError(f"{folder / CARD} names a file outside its folder: {name}")
        if name != PREVIEW and (not (folder / name).is_file() or _sha256(folder / name) != digest):
            raise ModelError(
                f"{folder / name} is missing or damaged", "Copy the instrument again, or train it again with --force."
            )
    response = _load_impulse_response(folder, card)
    if brings == NETWORK:
        return Bundle(card, {}, response, folder, read_file(folder / NETWORK))
    return Bundle(card, _load_weights(folder / WEIGHTS), response, folder)


def _load_weights(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        weights = {name: value.astype(np.float32) for name, value in parse(read_file(path)).items()}
    except (SafetensorError, ValueError, KeyError) as problem:
        raise ModelError(f"{path} is not a readable weights file: {problem}") from problem
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{path}: weight {name} holds NaN or infinity")
    return weights


def _load_impulse_response(folder: Path, card: Card) -> np.ndarray | None:
    if IMPULSE_RESPONSE not in card.files:
        return None
    import soundfile

    try:
        audio, rate = soundfile.read(folder / IMPULSE_RESPONSE, dtype="float32")
    except soundfile.SoundFileError as problem:
        raise ModelError(f"{folder / IMPULSE_RESPONSE} is not a readable sound: {problem}") from problem
    if rate != card.model.sample_rate_hz or audio.ndim != 1:
        raise ModelError(f"{folder / IMPULSE_RESPONSE} is not mono at {card.model.sample_rate_hz} Hz")
    return np.asarray(audio)


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


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revise(card: Card, **changes: Any) -> Card:
    """The card with some entries changed."""
    import msgspec

    return msgspec.structs.replace(card, **changes)
