"""`ddsp import`: an instrument of another program as one of this program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ddsp_cli import bundle, importers
from ddsp_cli.atomic import check_replaceable, writing
from ddsp_cli.bundle import revise
from ddsp_cli.errors import UsageError
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path


@dataclass(frozen=True)
class ImportResult:
    """An imported instrument.

    Attributes:
      folder: where it stands.
      name: of the instrument.
      kind: what it was, in words.
      size_bytes: of its files.
      description: where weights and statistics come from.
      lowest_midi, highest_midi: its range as far as it is known.
    """

    folder: Path
    name: str
    kind: str
    size_bytes: int
    description: str
    lowest_midi: float
    highest_midi: float


def import_instrument(path: PathLike, name: str, out: PathLike | None = None, force: bool = False) -> ImportResult:
    """Turns a DDSP-VST model or a magenta/ddsp checkpoint into an instrument that plays, trains on and exports.

    Weights are kept in single precision, so that they are exactly those of the original.

    Args:
      path: a `.tflite` file, a folder with a checkpoint, or a ZIP archive of either.
      name: of the instrument.
      out: its folder; by default `models/NAME`.
      force: replace what stands there.

    Raises:
      UsageError: a name that cannot be one.
      ModelError: nothing that can be imported.
      OutputError: the place is taken, or cannot be written.
    """
    if name in {"", ".", ".."} or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise UsageError(f"{name!r} cannot be the name of an instrument", "Give a plain name, such as violin.")
    folder = as_path(out) or models.OWN / name
    with writing(folder):
        check_replaceable(folder, bundle.INSTRUMENT, force)
    found, kind = importers.load(Path(path))
    card = revise(found.card, name=name)
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
