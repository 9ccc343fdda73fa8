"""The folder that `ddsp export` writes and `ddsp import` reads: names of its files, and the layout of its card."""

from __future__ import annotations

from typing import Any

from ddsp_cli.bundle.card import Card
from ddsp_cli.config import Config

EXPORT_CARD = "card.yaml"
#: How the text of an export's card begins; other programs write files of this name as well.
EXPORT_CARD_BEGINS = "exported_with: ddsp "
#: The card of an export holds that of the instrument, and the shapes of a few tensors.
MAX_EXPORT_CARD_BYTES = 3 << 20

#: Behind a plug-in model in a ZIP archive, or beside it (magenta/ddsp 3.7.0, ddsp_export.py).
METADATA = "metadata.json"
MAX_METADATA_BYTES = 1 << 20


def room_file(sample_rate_hz: int | str) -> str:
    """Name of the file of a learned room at a sample rate in Hz, or a pattern for all rates (`*`)."""
    return f"reverb_ir_{sample_rate_hz}_hz.wav"


class ExportCard(Config, frozen=True):
    """The contents of `card.yaml`.

    Attributes:
      exported_with: the program and its version.
      format: of the export, such as `vst`.
      checks: what its verification measured.
      contract: file → its inputs and outputs.
      instrument: the instrument's own card, with licence and sources.
      files: names of what was written; missing in cards of older versions.
    """

    exported_with: str
    format: str
    checks: dict[str, float]
    contract: dict[str, Any]
    instrument: Card
    files: list[str] = []
