"""`ddsp export`: an instrument in the format of another program."""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddsp_cli import __version__, bundle
from ddsp_cli.atomic import FolderKind, beside, check_replaceable, folder_beside, writing
from ddsp_cli.bundle.folder import EXPORT_CARD, MAX_EXPORT_CARD_BYTES, ExportCard, is_export, room_file
from ddsp_cli.config import dump_yaml, parse_yaml
from ddsp_cli.errors import Kind, OutputError, UsageError, did_you_mean
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.packages import require
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path

Exporter = Callable[[bundle.Bundle, Path], Any]

#: Formats that can be written, and the module that writes each.
FORMATS = {name: f"ddsp_cli.exporters.{name}" for name in ("savedmodel", "litert", "onnx", "vst")}

#: Modules that the exporters import.
NEEDS = {
    "savedmodel": ("keras", "tensorflow"),
    "litert": ("ai_edge_litert", "flatbuffers"),
    "onnx": ("onnx",),
    "vst": ("ai_edge_litert", "flatbuffers"),
}


#: Suffixes of files; an export is a folder.
FILE_SUFFIXES = frozenset({".tflite", ".onnx", ".pb", ".keras", ".h5", ".zip", ".ddsp"})


@dataclass(frozen=True)
class ExportResult:
    """Folder of an export, and the figures of its verification.

    Attributes:
      folder: the folder; or the one file that was added to a folder with other things in it.
      format: one of `FORMATS`.
      size_bytes: of all files that were written.
      checks: figures of the verification, by name.
    """

    folder: Path
    format: str
    size_bytes: int
    checks: dict[str, float]


def export(model: PathLike, format: str, out: PathLike | None = None, force: bool = False) -> ExportResult:
    """Writes an instrument in another format, verified against the instrument itself.

    In a folder that holds other things nothing is replaced: `vst` adds its one file there, as the plug-in wants it; the
    other formats add a folder of their own, `NAME_format`.

    Args:
      model: a name, a folder, or a `.tflite` of DDSP-VST.
      format: one of `FORMATS`.
      out: the folder to write; by default `NAME_FORMAT` in the current one.
      force: replace an earlier export.

    Raises:
      UsageError: an unknown format, one whose packages are not installed, or `out` with the suffix of a file.
      ModelError: no such instrument, or one that cannot be written in this format.
      OutputError: the place is taken or cannot be written, or the export failed its verification.
    """
    format = format.lower()
    if format not in FORMATS:
        raise UsageError(f"there is no export format {format}", did_you_mean(format, FORMATS))
    require(f"export to {format}", *NEEDS[format])
    place = models.find_playable(model)
    own_name = f"{models.title(place)}_{format}"
    folder = as_path(out) or Path(own_name)
    if folder.suffix.lower() in FILE_SUFFIXES and not folder.is_dir():
        hint = f"Name a folder, such as {own_name}."
        raise UsageError(f"{folder} has the suffix of a file, but an export is a folder", hint, parameter="out")
    with writing(folder):
        alone = _has_other_things(folder)
    if alone and format != "vst":
        folder, alone = folder / own_name, False
    with writing(folder):
        if not alone:
            check_replaceable(folder, _kind_of(folder), force)
    loaded = models.open_at(place)
    if format != "vst":
        _ = loaded.card.model.sizes  # fails for an unknown architecture, before a framework is loaded
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with writing(folder), exclusive(lock_file(folder), str(folder), "program", "place"):
        write = importlib.import_module(FORMATS[format]).export
        if alone:
            return _add_file(folder, loaded, write, force)
        with folder_beside(folder, _kind_of(folder)) as staging:
            exported = write(loaded, staging)
            files = sorted(entry.name for entry in staging.iterdir())
            card = ExportCard(f"ddsp {__version__}", format, exported.checks, exported.contract, loaded.card, files)
            (staging / EXPORT_CARD).write_text(dump_yaml(card), encoding="utf-8")
            size = sum(entry.stat().st_size for entry in staging.rglob("*") if entry.is_file())
    return ExportResult(folder, format, size, exported.checks)


def _has_other_things(folder: Path) -> bool:
    """Whether a folder exists that is not an export, and is not empty: the plug-in's own, or the user's documents."""
    return folder.is_dir() and not is_export(folder) and any(folder.iterdir())


def _kind_of(folder: Path) -> FolderKind:
    """Lists the entries of a folder that an earlier export wrote, by its card."""
    names: list[str] = []
    if is_export(folder) and (folder / EXPORT_CARD).stat().st_size <= MAX_EXPORT_CARD_BYTES:
        with contextlib.suppress(OutputError, UnicodeDecodeError):
            card = parse_yaml(
                (folder / EXPORT_CARD).read_text(encoding="utf-8"), dict, str(folder / EXPORT_CARD), OutputError
            )
            for entry in ("files", "contract"):
                names += map(str, card.get(entry) or ())
    return FolderKind("an export", is_export, (EXPORT_CARD, room_file("*"), *map(glob.escape, names)))


def _add_file(folder: Path, loaded: bundle.Bundle, write: Exporter, force: bool) -> ExportResult:
    """Adds the model of a plug-in, alone, to a folder that holds other things.

    Raises:
      OutputError: a file of its name exists, and `force` is not given or ddsp did not write it.
    """
    from ddsp_cli.exporters import vst

    target = folder / f"{vst.file_stem(loaded.card.name)}.tflite"
    if os.path.lexists(target) and not force:
        raise OutputError(
            f"{target} exists already", "Replace it with force=True, or choose another place.", kind=Kind.EXISTS
        )
    with beside(target) as part:
        work = part.with_name("export")
        work.mkdir()
        exported = write(loaded, work)
        content = (work / target.name).read_bytes()
        if os.path.lexists(target) and not vst.is_written_by_ddsp(target, content):
            raise OutputError(f"{target} exists and was not written by ddsp", "Move it away, or choose another place.")
        part.write_bytes(content)
    return ExportResult(target, "vst", len(content), exported.checks)
