"""Finds out what a file or folder is and hands it to its importer."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ddsp_cli.bundle import CARD, Bundle
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import archive, checkpoint, tflite

HINT = "It takes a DDSP-VST model (.tflite), or a magenta/ddsp checkpoint as a folder or a ZIP archive."


def load(path: Path) -> tuple[Bundle, str]:
    """Reads an instrument of another program.

    Returns:
      The instrument, and in words what it was.

    Raises:
      ModelError: there is nothing there, or nothing that can be imported.
    """
    try:
        return _load(path)
    except OSError as problem:
        raise ModelError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def _load(path: Path) -> tuple[Bundle, str]:
    if not path.exists():
        raise ModelError(f"there is no {path}", HINT)
    if path.is_dir():
        return _load_folder(path)
    if tflite.is_model(path):
        return tflite.load(path), "DDSP-VST model"
    if path.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            archive.unpack(path, Path(folder), lambda name: checkpoint.is_part(name) or tflite.is_part(name))
            try:
                return _load_folder(Path(folder))
            except ModelError as problem:
                raise problem.reworded(problem.message.replace(folder, str(path))) from problem
    if checkpoint.is_part(path.name):
        return checkpoint.load(path.parent), "magenta/ddsp checkpoint"
    raise ModelError(f"{path} is no model that can be imported", HINT)


def _load_folder(folder: Path) -> tuple[Bundle, str]:
    if (folder / CARD).is_file():
        raise ModelError(
            f"{folder} is an instrument already", "It can be played as it is: give its folder as the model."
        )
    if checkpoint.is_checkpoint(folder):
        return checkpoint.load(folder), "magenta/ddsp checkpoint"
    models = [entry for entry in sorted(folder.iterdir()) if tflite.is_model(entry)]
    if len(models) > 1:
        names = ", ".join(entry.name for entry in models[:5])
        raise ModelError(f"{folder} holds several models: {names}", "Import one of the files.")
    if models:
        return tflite.load(models[0]), "DDSP-VST model"
    raise ModelError(f"{folder} holds no model that can be imported", HINT)
