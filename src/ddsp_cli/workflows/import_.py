"""`ddsp import`: an instrument of another program, or a shared one, as an instrument of this program.

A shared instrument is a ZIP file whose name ends in `.ddsp`, as `ddsp models share` writes it, or a copied folder. Its
files are copied without a change, and checked against the checksums in the card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddsp_cli import bundle, importers
from ddsp_cli.atomic import check_replaceable, folder_beside, writing
from ddsp_cli.bundle import CARD, renamed
from ddsp_cli.errors import ModelError, UsageError
from ddsp_cli.importers.files import Archive, Files, Folder
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path

#: Files of an instrument; others in an archive are left out.
NAMES = frozenset({CARD, bundle.WEIGHTS, bundle.NETWORK, bundle.IMPULSE_RESPONSE, bundle.PREVIEW})


@dataclass(frozen=True)
class ImportResult:
    """An imported instrument.

    Attributes:
      folder: its folder.
      name: of the instrument.
      kind: format of the original, in words.
      size_bytes: of its files.
      description: where weights and statistics come from.
      lowest_midi, highest_midi: its range, where it is known.
    """

    folder: Path
    name: str
    kind: str
    size_bytes: int
    description: str
    lowest_midi: float
    highest_midi: float


def import_instrument(
    path: PathLike,
    name: str | None = None,
    out: PathLike | None = None,
    force: bool = False,
    *,
    library: bool = False,
) -> ImportResult:
    """Makes an instrument that plays, trains on and exports of a model of another program, or of a shared one.

    Weights are kept in single precision, exactly as in the original; a shared instrument is copied unchanged.

    Args:
      path: a `.tflite` of DDSP-VST, a folder with a magenta/ddsp checkpoint, a ZIP archive of either; a `.ddsp` file,
        or the folder of an instrument.
      name: of the instrument; only shared instruments bring one along.
      out: its folder; by default `models/NAME`.
      force: replace an instrument that exists.
      library: put it into the user's library, where it is found from every folder.

    Raises:
      UsageError: no name, one that cannot be one, or that of a bundled instrument.
      ModelError: nothing that can be imported.
      OutputError: an instrument is there already, or it cannot be written.
    """
    path, is_ours = Path(path), is_shared(Path(path))
    if name is None:
        if not is_ours:
            raise UsageError("the instrument needs a name", "Give a plain name, such as viola.", parameter="name")
        name = path.stem if path.suffix.lower() == models.SHARED_SUFFIX else path.resolve().name
    if out is not None and library:
        raise UsageError("a folder and the library cannot both be given", parameter="library")
    if out is None:
        try:
            models.check_new_name(name)
        except UsageError as problem:
            problem.parameter = "name"
            raise
    folder = as_path(out) or (models.library() if library else models.OWN) / name
    with writing(folder):
        check_replaceable(folder, bundle.INSTRUMENT, force)
    if is_ours and path.is_dir() and folder.exists() and folder.samefile(path):
        raise UsageError(f"{path} is there already", parameter="path")
    if is_ours:
        card, kind = _copy(path, name, folder), "instrument"
    else:
        found, kind = importers.load(path)
        card = renamed(found.card, name)
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(lock_file(folder), str(folder), "program", "place"):
            bundle.save(
                folder,
                card,
                found.weights,
                found.impulse_response,
                network=found.network,
                half_precision=False,
                force=force,
            )
    lowest_midi, highest_midi = card.statistics.range_midi
    return ImportResult(
        folder=folder,
        name=name,
        kind=kind,
        size_bytes=sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file()),
        description=card.description,
        lowest_midi=lowest_midi,
        highest_midi=highest_midi,
    )


def _copy(path: Path, name: str, folder: Path) -> bundle.Card:
    """Returns a shared instrument, checked and put in its place."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        exclusive(lock_file(folder), str(folder), "program", "place"),
        writing(folder),
        folder_beside(folder, bundle.INSTRUMENT) as staging,
    ):
        return unpack(path, staging, name).card


def is_shared(path: Path) -> bool:
    """Whether a path is an instrument of this program: an archive with the suffix `.ddsp`, or a folder with a card."""
    return path.suffix.lower() == models.SHARED_SUFFIX or (path.is_dir() and (path / CARD).is_file())


def unpack(path: Path, folder: Path, name: str | None = None) -> bundle.Bundle:
    """Writes the files of an instrument into an empty folder.

    Args:
      path: of a shared instrument, see `is_shared`.
      folder: where to write them.
      name: of the instrument; by default its own.

    Returns:
      The instrument, read from the folder.

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
