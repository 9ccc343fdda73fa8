"""What `ddsp prepare` answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddsp_cli.dataset.manifest import Manifest
from ddsp_cli.workflows.prepare_report import PAGE

#: From here on an instrument usually comes out well.
ENOUGH_S = 600.0


@dataclass(frozen=True)
class PrepareResult:
    """What a data set holds, for people.

    Attributes:
      folder: where it stands.
      name: of the data set.
      minutes: of sound in it, training and validation together.
      note_s: seconds of notes in the training part.
      train_s, validation_s: seconds of either part.
      n_train, n_validation: windows of 4 s of either part.
      n_recordings: how many were given.
      n_used: how many something was taken from.
      skipped: (name, reason) of each that nothing was taken from.
      notes: (name, remark) of recordings that were used and have something remarkable.
      lowest_midi, highest_midi: the notes played, 1st and 99th percentile.
      quietest_db, loudest_db: power of the notes in dBFS, 5th and 95th percentile.
      given_s: seconds of all recordings that could be read.
      polyphonic_s: seconds found to be more than one voice.
      keep_polyphonic: whether they are in the data set all the same.
      n_doubts: how many doubtful places of each kind there are.
      report: the page that shows it all, where there is one.
      unchanged: it stood there already, made from the same recordings with the same settings.
      advice: whether it is enough, as a sentence.
    """

    folder: Path
    name: str
    minutes: float
    note_s: float
    train_s: float
    validation_s: float
    n_train: int
    n_validation: int
    n_recordings: int
    n_used: int
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]
    lowest_midi: float
    highest_midi: float
    quietest_db: float
    loudest_db: float
    given_s: float
    polyphonic_s: float
    keep_polyphonic: bool
    n_doubts: Mapping[str, int]
    report: Path | None
    unchanged: bool
    advice: str


def result_of(folder: Path, manifest: Manifest, unchanged: bool) -> PrepareResult:
    """What people want to know of a data set."""
    used_s = manifest.train.used_s + manifest.validation.used_s
    notes, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    used = [recording for recording in manifest.recordings if recording.split != "none"]
    page = folder / PAGE
    n_doubts: Counter[str] = Counter()
    for recording in manifest.recordings:
        n_doubts.update(recording.n_doubts)
    return PrepareResult(
        folder=folder,
        name=manifest.name,
        minutes=used_s / 60.0,
        note_s=manifest.statistics.note_s,
        train_s=manifest.train.used_s,
        validation_s=manifest.validation.used_s,
        n_train=manifest.train.n_examples,
        n_validation=manifest.validation.n_examples,
        n_recordings=len(manifest.recordings),
        n_used=len(used),
        skipped=tuple((recording.path, "; ".join(recording.notes)) for recording in manifest.skipped),
        notes=tuple((recording.path, "; ".join(recording.notes)) for recording in used if recording.notes),
        lowest_midi=notes[1],
        highest_midi=notes[99],
        quietest_db=power[5],
        loudest_db=power[95],
        given_s=sum(recording.seconds for recording in manifest.recordings),
        polyphonic_s=sum(recording.polyphonic_s for recording in manifest.recordings),
        keep_polyphonic=manifest.keep_polyphonic,
        n_doubts=n_doubts,
        report=page if page.is_file() else None,
        unchanged=unchanged,
        advice=advice(used_s),
    )


def advice(used_s: float) -> str:
    """Whether so many seconds are enough to learn from, as a sentence."""
    if used_s >= ENOUGH_S:
        return "This is enough for a good instrument."
    if used_s >= ENOUGH_S / 4:
        return f"This will do; {ENOUGH_S / 60:.0f} minutes or more sound better."
    return f"This is little: expect a rough instrument, or record {ENOUGH_S / 60:.0f} minutes."
