"""`dataset.yaml`: contents of a prepared data set, settings of the measurement, and recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddsp_cli.atomic import FolderKind, recover
from ddsp_cli.bundle import Source, Statistics
from ddsp_cli.checksum import TEXT_MARK, is_altered
from ddsp_cli.config import Config, FeatureSpec, NonNegativeFloat, PositiveFloat, parse_yaml
from ddsp_cli.errors import DatasetError, InputError, Kind, did_you_mean
from ddsp_cli.remote import as_place, is_address, reading

FORMAT_VERSION = 1
MANIFEST = "dataset.yaml"

#: Where the recordings are listed if there are more than `MAX_LISTED`: one a line, as JSON.
RECORDINGS = "recordings.jsonl"

#: Folder of the measured features of each recording, in a data set and while one is prepared.
MEASURED = "measured"

#: The kind of folder that `ddsp prepare` may replace.
DATASET = FolderKind(
    "a data set",
    lambda folder: (folder / MANIFEST).is_file(),
    (MANIFEST, RECORDINGS, MEASURED, "report.html", "report.png", "*.tfrecord-*-of-*"),
    caches=(MEASURED,),
)

#: Length of the windows of a data set.
WINDOW_S = 4.0

#: The most recordings that the manifest itself lists.
MAX_LISTED = 2000

#: A manifest of 2,000 recordings has 1 MB (of 10,000, as earlier versions wrote them, 3 MB); larger files are refused.
MAX_MANIFEST_BYTES = 64 * 1024 * 1024

DoubtKind = Literal["polyphony", "octave", "jump", "clipping"]


class Doubt(Config, kw_only=True):
    """A doubtful place in a recording.

    Attributes:
      kind: "polyphony", "octave" (an octave error was corrected), "jump" (a spurious F0 was removed) or "clipping".
      start_s, end_s: seconds from the beginning of the recording.
    """

    kind: DoubtKind
    start_s: NonNegativeFloat
    end_s: NonNegativeFloat


class Histogram(Config, kw_only=True):
    """Histogram in seconds: the first bin begins at `start`, each is `step` wide."""

    start: float
    step: PositiveFloat
    seconds: list[NonNegativeFloat]


class NoteLabel(Config, kw_only=True):
    """Metadata of a note, from a data set such as NSynth.

    Attributes:
      pitch_midi, velocity: of the note, as in MIDI.
      instrument: name of the instrument, such as `keyboard_acoustic_004`.
      family: of the instrument, such as `keyboard`.
      source: how it was made, such as `acoustic`.
    """

    pitch_midi: Annotated[int, Meta(ge=0, le=127)]
    velocity: Annotated[int, Meta(ge=0, le=127)]
    instrument: str
    family: str
    source: str


class Recording(Config, kw_only=True):
    """One input file in a data set.

    Attributes:
      path: its name below the folder that was given.
      sha256: of the file's bytes; empty where it could not be read.
      seconds: length of the recording.
      used_s: seconds of it in the data set, rests between notes included.
      split: "both" where a single recording is split between training and validation, "none" where it is left out.
      gain_db: gain that was applied.
      note_s: seconds of notes in the used parts.
      polyphonic_s: seconds of it that are polyphonic.
      notes: the reason for leaving it out, or warnings.
      doubts: doubtful places, the longest where there are very many.
      n_doubts: how many there are of each kind.
      label: from its metadata, where there is any.
    """

    path: str
    sha256: str
    seconds: NonNegativeFloat
    used_s: NonNegativeFloat = 0.0
    split: Literal["train", "validation", "both", "none"] = "none"
    gain_db: float = 0.0
    note_s: NonNegativeFloat = 0.0
    polyphonic_s: NonNegativeFloat = 0.0
    notes: list[str] = []
    doubts: list[Doubt] = []
    n_doubts: dict[DoubtKind, int] = {}
    label: NoteLabel | None = None


class RecordingsFile(Config, kw_only=True):
    """The file that lists the recordings of a large data set, in the data set's folder.

    Attributes:
      n: how many there are.
      sha256: of the file.
    """

    n: Annotated[int, Meta(ge=1)]
    sha256: str


class Split(Config, kw_only=True):
    """One part of a data set: its shards with their SHA-256, in order."""

    n_examples: Annotated[int, Meta(ge=0)]
    used_s: NonNegativeFloat
    shards: dict[str, str]


class SourcesFile(Config, kw_only=True):
    """Authors and licences of recordings, as `ddsp prepare --sources FILE` reads them.

    Attributes:
      licence: of an instrument trained on all of them.
      sources: each body of recordings with its own licence.
      remarks: advice for players of an instrument trained on them: sentences for its card.
    """

    licence: str = "unknown"
    sources: list[Source]
    remarks: list[str] = []


class Manifest(Config, kw_only=True):
    """The contents of `dataset.yaml`."""

    format: int
    name: str
    created_with: str
    licence: str = "unknown"
    sources: list[Source] = []
    remarks: list[str] = []
    sample_rate_hz: Literal[16000, 24000, 32000, 44100, 48000]
    features: FeatureSpec
    window_s: PositiveFloat = WINDOW_S
    level: Literal["match", "keep"] = "match"
    validation_share: NonNegativeFloat = 0.1
    keep_polyphonic: bool = False
    hold_out: list[str] = []  # patterns, as given
    leave_out: list[str] = []
    lowest_hz: NonNegativeFloat = 0.0  # the lowest note; sound well below it was removed
    statistics: Statistics
    instruments: list[str] = []  # folders of the recordings, where there are several; frames carry the index
    histograms: dict[str, Histogram] = {}  # of pitch_midi, loudness_db and power_db
    train: Split
    validation: Split
    recordings: list[Recording]  # empty where there is a file of them
    recordings_file: RecordingsFile | None = None

    @property
    def n_recordings(self) -> int:
        """Number of recordings that were given."""
        return self.recordings_file.n if self.recordings_file else len(self.recordings)

    @property
    def window_frames(self) -> int:
        """Frames of an example."""
        return round(self.window_s * self.features.frame_rate_hz)

    @property
    def window_samples(self) -> int:
        """Samples of an example at the model's rate."""
        return round(self.window_s * self.sample_rate_hz)


def iter_recordings(folder: Path, manifest: Manifest) -> Iterator[Recording]:
    """Yields the recordings of a data set, one by one, in order.

    Raises:
      DatasetError: their file is missing or damaged.
    """
    listed = manifest.recordings_file
    if listed is None:
        yield from manifest.recordings
        return
    path, digest = folder / RECORDINGS, hashlib.sha256()
    decoder = msgspec.json.Decoder(Recording)
    try:
        with path.open("rb") as stream:
            for line in stream:
                digest.update(line)
                yield decoder.decode(line)
    except (OSError, msgspec.MsgspecError) as problem:
        raise _damaged(path) from problem
    if digest.hexdigest() != listed.sha256:
        raise _damaged(path)


def _damaged(path: Path) -> DatasetError:
    hint = "Prepare the data set again with force=True."
    return DatasetError(f"{path} is missing or damaged", hint, kind=Kind.DATASET_DAMAGED)


class Settings(Config, kw_only=True):
    """The settings of a data set."""

    name: str
    sample_rate_hz: int
    features: FeatureSpec
    level: Literal["match", "keep"]
    validation_share: float
    keep_polyphonic: bool
    hold_out: list[str]
    leave_out: list[str]
    licence: str
    sources: list[Source]
    remarks: list[str]

    def differences(self, manifest: Manifest) -> list[str]:
        """Names the settings in which an existing data set differs. Licence and sources do not change the sound."""
        return [
            words
            for field, words in _IN_WORDS.items()
            # patterns say the same in any order
            if _unordered(getattr(self, field)) != _unordered(getattr(manifest, field))
        ]


#: Settings that change the sound of a data set, in words.
_IN_WORDS = {
    "name": "name",
    "sample_rate_hz": "sample rate",
    "features": "choice of features",
    "level": "level",
    "validation_share": "validation share",
    "keep_polyphonic": "choice about polyphonic recordings",
    "hold_out": "choice of recordings to hold out",
    "leave_out": "choice of recordings to leave out",
}


def _unordered(value: object) -> object:
    return set(value) if isinstance(value, list) else value


def load_manifest(folder: Path) -> Manifest:
    """Reads `dataset.yaml` alone.

    Raises:
      DatasetError: no such folder, not a data set of ours, or one of another format version.
    """
    folder = as_place(folder)
    path = folder / MANIFEST
    if not is_address(folder):
        recover(folder.parent)
    with reading(folder):
        if not folder.is_dir():
            raise _not_there(folder, f"there is no data set {folder}")
        if not path.is_file():
            raise _not_there(folder, f"{folder} is not a data set: it has no {MANIFEST}")
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise DatasetError(f"{path} is larger than any manifest can be")
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as problem:
            raise DatasetError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if is_altered(text):
        raise DatasetError(
            f"{path} is damaged or was edited: its content does not match its checksum",
            f"Prepare it again with force=True; if you edited it, remove its last line ({TEXT_MARK.strip()} ...).",
        )
    manifest = parse_yaml(text, Manifest, str(path), error=DatasetError)
    if manifest.format != FORMAT_VERSION:
        raise DatasetError(
            f"{folder} has data set format {manifest.format}, this program reads {FORMAT_VERSION}",
            "Update ddsp." if manifest.format > FORMAT_VERSION else "Prepare it again with force=True.",
            kind=Kind.NONE if manifest.format > FORMAT_VERSION else Kind.DATASET_DAMAGED,
        )
    return manifest


def load_sources(path: Path) -> SourcesFile:
    """Reads a file of sources.

    Raises:
      InputError: missing, unreadable, or not of that form.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError as problem:
        raise InputError(f"the file of sources {path} cannot be read: {problem.strerror or problem}") from problem
    return parse_yaml(text, SourcesFile, str(path), error=InputError)


def dataset_names(parent: Path) -> list[str]:
    """Returns the names of the data sets in a folder."""
    try:
        return sorted(entry.name for entry in parent.iterdir() if (entry / MANIFEST).is_file())
    except OSError:
        return []


def _not_there(folder: Path, message: str) -> DatasetError:
    if folder.is_dir() and any(folder.glob("*.tfrecord*")):
        hint = "It holds shards of another program: prepare a data set from them first."
        return DatasetError(message, hint, kind=Kind.FOREIGN_SHARDS, path=folder)
    usual = Path("datasets") / folder.name
    if usual != folder and (usual / MANIFEST).is_file():  # the recordings themselves, or its name alone
        return DatasetError(message, f"Did you mean {usual}?")
    others = [name for name in dataset_names(folder.parent) if name != folder.name]
    if hint := did_you_mean(folder.name, others):
        return DatasetError(message, hint)
    return DatasetError(message, "Prepare one from a folder of recordings.", kind=Kind.UNKNOWN_DATASET)
