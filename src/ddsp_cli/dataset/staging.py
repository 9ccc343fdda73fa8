"""Where a data set comes about: a hidden folder beside its place, locked, and found again after a kill.

datasets/.NAME.lock           held while a run lasts
datasets/.NAME.preparing/     settings.json, what it is being made with
                              parts/, each recording cut
                              measured/, each recording measured
                              set/, what becomes datasets/NAME
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddsp_cli.atomic import replace_folder, write_bytes, writing
from ddsp_cli.lock import exclusive

SETTINGS = "settings.json"

#: Below the data set: measurements by checksum of the recording, for the next time it grows.
MEASURED = "measured"


@dataclass(frozen=True)
class Staging:
    """The folders of a data set that is being made.

    Attributes:
      root: the hidden folder.
      folder: where the data set will stand.
    """

    root: Path
    folder: Path

    @property
    def parts(self) -> Path:
        """Recordings that were cut."""
        return self.root / "parts"

    @property
    def measured(self) -> Path:
        """Recordings that were measured."""
        return self.root / MEASURED

    @property
    def result(self) -> Path:
        """What becomes the data set."""
        return self.root / "set"

    def start(self, settings: bytes, fresh: bool) -> None:
        """Makes the folders; what an earlier run left with the same settings stays.

        Raises:
          OSError: they cannot be made.
        """
        noted = self.root / SETTINGS
        if fresh or not noted.is_file() or noted.read_bytes() != settings:
            shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.result, ignore_errors=True)
        for folder in (self.parts, self.measured, self.result):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.parts, self.measured):
            for litter in folder.glob(".*"):  # half-written when the run before was killed
                litter.unlink(missing_ok=True)
        if not noted.is_file():
            write_bytes(noted, settings)

    def reuse_measurements(self) -> None:
        """Takes over what was measured for the data set that stands there."""
        for known in (self.folder / MEASURED).glob("*.measured"):
            target = self.measured / known.name
            if not target.exists():
                _second(known, target)

    def publish(self, wanted: set[str]) -> None:
        """Moves the finished data set into its place, with the measurements named in `wanted` (checksums).

        Raises:
          OSError: it cannot be moved.
        """
        kept = self.result / MEASURED
        kept.mkdir()
        for digest in sorted(wanted):
            source = self.measured / f"{digest}.measured"
            if source.is_file():
                _second(source, kept / source.name)  # not moved: being killed here must lose nothing
        replace_folder(self.result, self.folder)
        self.remove()

    def remove(self) -> None:
        """Leaves nothing behind."""
        shutil.rmtree(self.root, ignore_errors=True)
        for put_aside in self.folder.parent.glob(f".{glob.escape(self.folder.name)}-old-*"):
            if self.folder.is_dir():
                shutil.rmtree(put_aside, ignore_errors=True)

    def has_work(self) -> bool:
        """Whether something was finished that a next run can go on from."""
        return any(self.measured.glob("*.measured")) or any(self.parts.glob("*.json"))


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Staging]:
    """The staging of a data set, for this process alone.

    Raises:
      OutputError: another run is at it, or the place cannot be written.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / f".{folder.name}.lock", str(folder), "ddsp prepare", "--name"):
        place = Staging(folder.parent / f".{folder.name}.preparing", folder)
        try:
            yield place
        finally:
            if place.root.is_dir() and not place.has_work():
                place.remove()


def _second(source: Path, target: Path) -> None:
    """A second name for a file that nobody will change, or a copy where files have only one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
