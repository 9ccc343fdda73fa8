"""The card of an instrument, `model.yaml`: model, statistics, training, sources; and family, range and gaps.

The names and statistics of its recordings give the family, the ranges that were recorded, and the gaps: the sound of
notes and dynamics outside the ranges is extrapolated.

`model.yaml` ends in a comment line with a digest of the rest (`ddsp_cli.checksum`). Cards without that line, of older
versions or edited by hand, are read too.
"""

import datetime
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ddsp_cli.atomic import write_bytes
from ddsp_cli.checksum import TEXT_MARK, is_altered, seal_text
from ddsp_cli.config import Config, FeatureSpec, ModelConfig, Name, NonNegativeFloat, Text, dump_yaml, parse_yaml
from ddsp_cli.errors import ModelError
from ddsp_cli.limits import read_regular
from ddsp_cli.pitch_names import note_name

FORMAT_VERSION = 1
CARD = "model.yaml"

#: `TrainingRecord.preset` of an instrument that was mixed from others, not trained.
BLEND_PRESET = "blend"

#: The card while it is being written.
NEW_CARD = f".{CARD}.new"

#: No card is larger; the longest, with hundreds of sources, have 100 kB.
MAX_CARD_BYTES = 2 << 20

#: No other file of a bundle is larger; those of the presets have up to 25 MB.
MAX_FILE_BYTES = 256 << 20

#: Percentiles of pitch that bound the learned range; single frames beyond are errors of the tracker.
LEARNED_PERCENTILES = (1, 99)

Quantiles = Annotated[list[Annotated[float, Meta(ge=-1000, le=1000)]], Meta(min_length=101, max_length=101)]
Count = Annotated[int, Meta(ge=0, le=2**62)]


class Statistics(Config):
    """Percentiles 0..100 of F0 and level over the frames of the training data that hold a note."""

    pitch_midi: Quantiles
    loudness_db: Quantiles
    power_db: Quantiles
    note_s: NonNegativeFloat

    @property
    def range_midi(self) -> tuple[float, float]:
        """The lowest and the highest note of the recordings, see `LEARNED_PERCENTILES`."""
        low, high = LEARNED_PERCENTILES
        return self.pitch_midi[low], self.pitch_midi[high]

    def level(self, name: str) -> np.ndarray:
        """Returns the percentiles of `loudness_db` or `power_db`, shape [101]."""
        return np.asarray(getattr(self, name), np.float32)


class Source(Config):
    """A body of recordings that a model learned from."""

    title: Text
    licence: Name = "unknown"
    attribution: Text = ""
    url: Text = ""


Vector = Annotated[list[Annotated[float, Meta(ge=-1000, le=1000)]], Meta(max_length=8192)]


class TrainingRecord(Config):
    """Record of the training that made a bundle.

    Attributes:
      preset: that of the training; `BLEND_PRESET` for a mixture in the space of the base.
      steps: on sound.
      seed: of the run.
      wall_s: duration of the training.
      audio_s: length of the training audio.
      program: the one that wrote it.
      started_from: the instrument whose weights it began with, or `base`.
      nearest: where it began with a base, the instrument of it that is nearest.
      vector: of the instrument in the space of that base; empty for other instruments.
      base: SHA-256 of the weights of that base: vectors of others have other meanings.
      timbre: the folder of recordings whose timbre and room it plays, if each folder was learned separately.
    """

    preset: Name
    steps: Count
    seed: Count
    wall_s: NonNegativeFloat = 0.0
    audio_s: NonNegativeFloat = 0.0
    program: Name = ""
    started_from: Name = ""
    nearest: Name = ""
    vector: Vector = []
    base: Name = ""
    timbre: Name = ""


class Card(Config, kw_only=True):
    """The contents of `model.yaml`.

    Attributes:
      family: where its present name does not tell it, because it was given another one; see `family_of`.
    """

    format: int
    name: Name
    family: Name = ""
    description: Text = ""
    licence: Text = "unknown"
    model: ModelConfig
    features: FeatureSpec
    statistics: Statistics
    training: TrainingRecord
    metrics: Annotated[dict[Name, float], Meta(max_length=1000)] = {}
    sources: list[Source] = []
    remarks: Annotated[list[Text], Meta(max_length=1000)] = []  # abilities and limits
    created: Name = ""
    files: Annotated[dict[Name, Name], Meta(max_length=100)] = {}  # name → SHA-256


def load_card(folder: Path) -> Card:
    """Reads `model.yaml` alone.

    Raises:
      ModelError: not a bundle, one of another format version, or a damaged card.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise ModelError(f"{folder} is not a ddsp instrument: it has no {CARD}")
    text = read_regular(path, MAX_CARD_BYTES).decode("utf-8", "replace")
    if is_altered(text):
        raise ModelError(
            f"{path} is damaged or was edited: its content does not match its checksum",
            f"Copy the instrument again; if you edited the card, remove its last line ({TEXT_MARK.strip()} ...).",
        )
    card = parse_yaml(text, Card, str(path))
    if card.format != FORMAT_VERSION:
        raise ModelError(
            f"{folder} has bundle format {card.format}, this program reads {FORMAT_VERSION}",
            "Update ddsp." if card.format > FORMAT_VERSION else "Train or import it again.",
        )
    return card


def write_card(folder: Path, card: Card) -> None:
    """Writes `model.yaml` with its digest.

    Raises:
      OSError: it cannot be written.
    """
    write_bytes(folder / CARD, seal_text(dump_yaml(card)).encode(), NEW_CARD)


def read_file(path: Path) -> bytes:
    """Returns the contents of a file that is part of an instrument.

    Raises:
      ModelError: it cannot be read, is not a regular file, or is larger than `MAX_FILE_BYTES`.
    """
    return read_regular(path, MAX_FILE_BYTES)


def revise(card: Card, **changes: Any) -> Card:
    """Returns the card with some entries changed."""
    import msgspec

    return msgspec.structs.replace(card, **changes)


def timestamp() -> str:
    """Returns the present time for `Card.created`: UTC in ISO format, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def renamed(card: Card, name: str) -> Card:
    """Returns the card of an instrument under another name, which stays in its family."""
    family, plain = family_of(card), revise(card, name=name, family="")
    is_known = family in {OTHER_FAMILY, BLENDS_FAMILY, family_of(plain)}
    return plain if is_known else revise(plain, family=family)


#: Two neighbouring percentiles with this distance have a gap between them; smaller gaps are bridged well.
GAP_SEMITONES = 5.0

#: Recordings whose notes span less than this are remarked upon.
NARROW_SEMITONES = 18.0

#: Recordings hold one loudness only where the middle half of their levels spans less than this; attacks and releases
#: are in the other half. Tenor and alto saxophone and clarinet, recorded at one dynamic, have 3.1 to 4.1 dB; the
#: bassoon 6.4, all others 7.4 and more.
ONE_LOUDNESS_DB = 5.0


def learned_ranges_midi(statistics: Statistics) -> list[tuple[float, float]]:
    """Returns the stretches of pitch that recordings filled, lowest and highest note of each, in rising order."""
    low, high = LEARNED_PERCENTILES
    pitches = np.asarray(statistics.pitch_midi[low : high + 1], np.float64)
    parts = np.split(pitches, np.flatnonzero(np.diff(pitches) >= GAP_SEMITONES) + 1)
    return [(float(part[0]), float(part[-1])) for part in parts]


def describe_ranges(statistics: Statistics) -> str:
    """Returns ranges in words: `C4 to G4`, or `C3 and C4 to G4`."""
    ends = [(note_name(low), note_name(high)) for low, high in learned_ranges_midi(statistics)]
    *others, last = (low if low == high else f"{low} to {high}" for low, high in ends)
    return f"{', '.join(others)} and {last}" if others else last


def missing_recordings(statistics: Statistics, level: str) -> list[str]:
    """Describes gaps of the recordings of an instrument.

    Args:
      statistics: of its recordings.
      level: the measure that drives it, `loudness_db` or `power_db`.

    Returns:
      Sentences without a full stop; none where the recordings hold a wide range and several dynamics.
    """
    found = []
    lowest_midi, highest_midi = statistics.range_midi
    if highest_midi - lowest_midi < NARROW_SEMITONES or len(learned_ranges_midi(statistics)) > 1:
        was, this = ("was", "this range") if len(learned_ranges_midi(statistics)) == 1 else ("were", "these ranges")
        found.append(f"only {describe_ranges(statistics)} {was} recorded: outside {this} its tone is extrapolated")
    levels_db = statistics.level(level)
    spread_db = float(levels_db[75] - levels_db[25])
    if spread_db < ONE_LOUDNESS_DB:
        found.append(f"one loudness only: half of the recordings lies within {spread_db:.1f} dB, "
                     "so soft and loud notes have much the same timbre")  # fmt: skip
    return found


#: Words in the names of instruments.
FAMILIES = {
    "woodwind": "flute piccolo recorder shakuhachi whistle ocarina clarinet oboe bassoon contrabassoon cor anglais sax "
    "saxophone duduk shawm dulcian bagpipe",
    "brass": "horn trumpet cornet flugelhorn trombone tuba euphonium bugle",
    "strings": "violin fiddle viola cello violoncello bass contrabass viol gamba erhu hurdy gurdy",
    "plucked": "guitar lute harp mandolin banjo koto sitar ukulele oud harpsichord pizzicato",
    "voice": "voice singer soprano alto tenor baritone choir vocal",
    "keyboard": "piano organ accordion harmonica harmonium melodica synth",
}

#: The family of mixtures, and of names without a known word.
BLENDS_FAMILY, OTHER_FAMILY = "blends", "other"

#: Families, in the order in which they are listed.
FAMILY_ORDER = (*FAMILIES, BLENDS_FAMILY, OTHER_FAMILY)


def family_of_name(name: str) -> str:
    """Returns the family of an instrument from its name, such as `my-violin` or `tenor_sax`; else `other`.

    The last word that fits decides: an alto sax is no voice. A bass clarinet is no string, and an English horn no
    brass.
    """
    words = re.findall(r"[a-z]+", name.lower())
    if {"english", "horn"} <= set(words) or "anglais" in words:
        return "woodwind"
    for word in reversed(words):
        for family, known in FAMILIES.items():
            if word in known.split() or (len(word) > 3 and word.endswith("s") and word[:-1] in known.split()):
                return family
    return OTHER_FAMILY


def family_of(card: Card) -> str:
    """Returns the family of an instrument: from its card, its name, or the name of the instrument it started from."""
    if card.training.preset == BLEND_PRESET:
        return BLENDS_FAMILY
    if card.family in FAMILIES:
        return card.family
    for name in (card.name, card.training.nearest, card.training.started_from):
        family = family_of_name(name)
        if family != OTHER_FAMILY:
            return family
    return OTHER_FAMILY
