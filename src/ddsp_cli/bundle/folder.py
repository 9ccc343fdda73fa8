"""The folder of an instrument: written whole, read with every file checked against its checksum.

Below it the folder that `ddsp export` writes and `ddsp import` reads: names of its files, and the layout of its card.
Shapes: S samples.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import AnyArray, FloatArray
from ddsp_cli.atomic import FolderKind, check_replaceable, folder_beside, writing
from ddsp_cli.bundle.card import CARD, FORMAT_VERSION, NEW_CARD, Card, load_card, read_file, revise, write_card
from ddsp_cli.checksum import sha256
from ddsp_cli.config import Config
from ddsp_cli.errors import ModelError

WEIGHTS = "weights.safetensors"
NETWORK = "network.tflite"
IMPULSE_RESPONSE = "impulse_response.wav"
PREVIEW = "preview.ogg"

#: Length of a preview.
PREVIEW_S = 6.0

#: No learned room is longer; the convolution costs as much as it is long.
MAX_RESPONSE_S = 60


def _is_instrument(folder: Path) -> bool:
    """Whether a folder holds an instrument, damaged or not."""
    if not (folder / CARD).is_file():
        return False
    with (folder / CARD).open("rb") as stream:
        begins = stream.read(16)
    return begins.startswith(b"format:") or any((folder / name).is_file() for name in (WEIGHTS, NETWORK))


#: The kind of folder that `save` may replace.
INSTRUMENT = FolderKind("an instrument", _is_instrument, (CARD, NEW_CARD, WEIGHTS, NETWORK, IMPULSE_RESPONSE, PREVIEW))


@dataclass(frozen=True)
class Bundle:
    """A loaded instrument.

    Attributes:
      card: the contents of `model.yaml`.
      weights: name → float32 array; names follow `engine.networks` (e.g. `decoder/rnn/kernel`).
      impulse_response: [S] float32 at the model's rate, or None.
      path: the folder it was read from.
      network: a file run by an interpreter, where `weights` are unknown; else None.
    """

    card: Card
    weights: dict[str, FloatArray]
    impulse_response: FloatArray | None = None
    path: Path = field(default_factory=Path)
    network: bytes | None = None

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the file of weights; of a base it identifies the space of vectors. Empty before it is written."""
        return self.card.files.get(WEIGHTS, "")


def save(
    folder: Path,
    card: Card,
    weights: dict[str, FloatArray],
    impulse_response: FloatArray | None = None,
    preview: FloatArray | None = None,
    *,
    network: bytes | None = None,
    half_precision: bool = True,
    force: bool = False,
) -> Card:
    """Writes a bundle beside its place and moves it there when it is whole.

    Args:
      folder: of the bundle.
      card: `files` and `format` are filled in here.
      weights: name → array.
      impulse_response: [S] at the model's rate, computed from the weights as they are stored (`round_to_half`).
      preview: [S] at the model's rate.
      network: a file that is run in place of weights, see `Bundle`.
      half_precision: store weights as float16, which halves the size at -70 dB of error or better.
      force: replace an instrument that exists. Other entries of its folder are kept.

    Raises:
      OutputError: the place is taken, holds something that is not an instrument, or cannot be written.
      ModelError: the new bundle cannot be loaded; an older one is untouched.
    """
    import soundfile
    from safetensors.numpy import save_file

    folder = Path(folder)
    with writing(folder):
        check_replaceable(folder, INSTRUMENT, force)
    with writing(folder), folder_beside(folder, INSTRUMENT) as staging:
        if network is None:
            stored = _to_half(weights) if half_precision else weights
            # `ascontiguousarray` would give single numbers an axis
            save_file({name: np.asarray(value, order="C") for name, value in stored.items()}, staging / WEIGHTS)
        else:
            (staging / NETWORK).write_bytes(network)
        rate = card.model.sample_rate_hz
        if impulse_response is not None:
            soundfile.write(staging / IMPULSE_RESPONSE, impulse_response, rate, subtype="FLOAT")
        if preview is not None:
            soundfile.write(staging / PREVIEW, preview, rate, format="OGG", subtype="VORBIS")
        files = {entry.name: sha256(entry) for entry in sorted(staging.iterdir())}
        metrics = {name: value for name, value in card.metrics.items() if math.isfinite(value)}
        card = revise(card, format=FORMAT_VERSION, files=files, metrics=metrics)
        write_card(staging, card)
        for entry in staging.iterdir():
            entry.chmod(0o644)  # safetensors keeps what it writes to its user
        try:
            load(staging)  # before it replaces another
        except ModelError as problem:
            what = problem.message.replace(f"{staging}", "it", 1)
            raise ModelError(f"the new instrument {folder} cannot be used: {what}", problem.hint) from problem
    return card


def round_to_half(weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Rounds weights as `save` does: results computed from them then agree with the weights that `load` returns."""
    return {name: value.astype(np.float32) for name, value in _to_half(weights).items()}


def _to_half(weights: Mapping[str, FloatArray]) -> dict[str, AnyArray]:
    with np.errstate(over="ignore"):  # `load` refuses infinity
        return {name: value.astype(np.float16) for name, value in weights.items()}


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
    contents: dict[str, bytes] = {}
    for name, digest in card.files.items():
        if Path(name).name != name:
            raise ModelError(f"{folder / CARD} names a file outside its folder: {name}")
        path = folder / name
        if name == PREVIEW and not path.exists():  # only to listen to
            continue
        content = read_file(path) if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise ModelError(f"{path} is missing or damaged", "Copy the instrument again, or train it again.")
        if name in {WEIGHTS, NETWORK, IMPULSE_RESPONSE}:
            contents[name] = content
    response = _parse_impulse_response(contents.get(IMPULSE_RESPONSE), folder / IMPULSE_RESPONSE, card)
    if brings == NETWORK:
        return Bundle(card, {}, response, folder, contents[NETWORK])
    return Bundle(card, parse_weights(contents[WEIGHTS], folder / WEIGHTS), response, folder)


def parse_weights(content: bytes, path: Path) -> dict[str, FloatArray]:
    """Reads weights from the content of a `.safetensors` file.

    Args:
      content: of the file.
      path: of the file, for messages.

    Returns:
      Tensors in float32 by name.

    Raises:
      ModelError: the content is damaged, or holds NaN or infinity.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        weights = {name: value.astype(np.float32) for name, value in parse(content).items()}
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise ModelError(f"{path} is not a readable weights file: {problem}") from problem
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{path}: weight {name} contains NaN or infinity")
    return weights


def _parse_impulse_response(content: bytes | None, path: Path, card: Card) -> FloatArray | None:
    if content is None:
        return None
    import soundfile

    rate_hz = card.model.sample_rate_hz
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.samplerate != rate_hz or file.channels != 1:
                raise ModelError(f"{path} is not mono at {rate_hz} Hz")
            audio = file.read(MAX_RESPONSE_S * rate_hz + 1, dtype="float32")
    except (soundfile.SoundFileError, ValueError, TypeError) as problem:
        raise ModelError(f"{path} is not a readable sound: {problem}") from problem
    if len(audio) > MAX_RESPONSE_S * rate_hz:
        raise ModelError(f"{path} is longer than {MAX_RESPONSE_S} s, the limit for an impulse response")
    if not np.isfinite(audio).all():
        raise ModelError(f"{path} contains NaN or infinity", "Install or train it again.")
    return np.asarray(audio)


# --- the folder of an export -----------------------------------------------------------------------------------------


EXPORT_CARD = "card.yaml"
#: How the text of an export's card begins; other programs write files of this name as well.
EXPORT_CARD_BEGINS = "exported_with: ddsp "
#: The card of an export holds that of the instrument, and the shapes of a few tensors.
MAX_EXPORT_CARD_BYTES = 3 << 20

#: Appended to a plug-in model in a ZIP archive, or a file beside it (magenta/ddsp 3.7.0, ddsp_export.py).
METADATA = "metadata.json"
MAX_METADATA_BYTES = 1 << 20


def room_file(sample_rate_hz: int | str) -> str:
    """Returns the name of the file of a learned room at a sample rate in Hz, or a pattern for all rates (`*`)."""
    return f"reverb_ir_{sample_rate_hz}_hz.wav"


def is_export(folder: Path) -> bool:
    """Whether a folder holds the card of an export by this program."""
    try:
        with (folder / EXPORT_CARD).open("rb") as stream:
            return stream.read(len(EXPORT_CARD_BEGINS)) == EXPORT_CARD_BEGINS.encode()
    except OSError:
        return False


class ExportCard(Config, frozen=True):
    """The contents of `card.yaml`.

    Attributes:
      exported_with: the program and its version.
      format: of the export, such as `vst`.
      checks: results of its verification.
      contract: file → its inputs and outputs.
      instrument: the instrument's own card, with licence and sources.
      files: names of the written files; missing in cards of older versions.
    """

    exported_with: str
    format: str
    checks: dict[str, float]
    contract: dict[str, Any]
    instrument: Card
    files: list[str] = []
