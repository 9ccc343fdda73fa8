"""Instruments of this program that were passed on: the archive that `ddsp models share` writes, or a copied folder.

The archive is a ZIP file whose name ends in `.ddsp`, with the files of the instrument in a folder of its name. Files
are taken as they are, and checked against the checksums in the card.
"""

from __future__ import annotations

from pathlib import Path

from ddsp_cli import bundle
from ddsp_cli.bundle import CARD
from ddsp_cli.errors import ModelError
from ddsp_cli.importers.files import Archive, Files, Folder

SUFFIX = ".ddsp"

#: Files of an instrument; others in an archive are left out.
NAMES = frozenset({CARD, bundle.WEIGHTS, bundle.NETWORK, bundle.IMPULSE_RESPONSE, bundle.PREVIEW})


def is_shared(path: Path) -> bool:
    """Whether a path is an instrument of this program: such an archive by its suffix, or a folder with a card."""
    return path.suffix.lower() == SUFFIX or (path.is_dir() and (path / CARD).is_file())


def unpack(path: Path, folder: Path, name: str | None = None) -> bundle.Bundle:
    """Writes the files of an instrument into an empty folder.

    Args:
      path: what `is_shared` takes.
      folder: where they go.
      name: of the instrument; by default its own.

    Returns:
      The instrument, loaded from there.

    Raises:
      ModelError: it is missing, hostile, damaged, or incomplete.
      OSError: a file cannot be written.
    """
    if not path.exists():
        raise ModelError(f"there is no {path}")
    files: Files = Folder(path, NAMES.__contains__) if path.is_dir() else Archive(path, NAMES.__contains__)
    if CARD not in files.names():
        raise ModelError(f"{path} holds no instrument: it has no {CARD}")
    for entry in files.names():
        (folder / entry).write_bytes(files.read(entry))
    try:
        found = bundle.load(folder)
    except ModelError as problem:
        raise problem.reworded(problem.message.replace(str(folder), str(path))) from problem
    if name is not None and name != found.card.name:
        bundle.write_card(folder, bundle.renamed(found.card, name))
        found = bundle.load(folder)
    return found
