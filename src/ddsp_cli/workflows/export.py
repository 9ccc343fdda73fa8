"""`ddsp export`: an instrument in the format of another program."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from ddsp_cli import __version__
from ddsp_cli.atomic import folder_beside, writing
from ddsp_cli.config import dump_yaml, to_plain
from ddsp_cli.errors import Kind, OutputError, UsageError, did_you_mean
from ddsp_cli.workflows import models

#: Formats that can be written, and the module that writes each.
FORMATS = {name: f"ddsp_cli.exporters.{name}" for name in ("savedmodel", "litert", "onnx", "vst")}
CARD = "card.yaml"


@dataclass(frozen=True)
class ExportResult:
    """Where an export stands and what its verification measured."""

    folder: Path
    format: str
    size_bytes: int
    checks: dict[str, float]


def export(model: str, format: str, out: Path | None = None, force: bool = False) -> ExportResult:
    """Writes an instrument in another format, verified against the instrument itself.

    Args:
      model: a name, a folder, or a `.tflite` of DDSP-VST.
      format: one of `FORMATS`.
      out: the folder to write; by default `NAME_FORMAT` in the current one.
      force: replace what stands there.

    Raises:
      UsageError: an unknown format.
      ModelError: no such instrument, or one that cannot be written in this format.
      OutputError: the place is taken or cannot be written, or the export failed its verification.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no export format {format}", did_you_mean(format, FORMATS))
    place = models.find_playable(model)
    folder = out or Path(f"{models.title(place)}_{format}")
    if folder.exists() and not force:
        raise OutputError(
            f"{folder} exists already", "Replace it with force=True, or choose another place.", kind=Kind.EXISTS
        )
    loaded = models.open_at(place)
    if format != "vst":
        _ = loaded.card.model.sizes  # a file of unknown make cannot be written anew; said before anything is loaded
    with writing(folder), folder_beside(folder) as staging:
        exported = importlib.import_module(FORMATS[format]).export(loaded, staging)
        card = {
            "exported_with": f"ddsp {__version__}",
            "format": format,
            "checks": exported.checks,
            "contract": exported.contract,
            "instrument": to_plain(loaded.card),
        }
        (staging / CARD).write_text(dump_yaml(card), encoding="utf-8")
        size = sum(entry.stat().st_size for entry in staging.rglob("*") if entry.is_file())
    return ExportResult(folder, format, size, exported.checks)
