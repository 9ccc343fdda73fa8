"""Read NSynth (Engel et al., 2017) in both layouts in which it is distributed.

    nsynth-test.tfrecord            one `tf.train.Example` for each note: sound and metadata
    nsynth-test/audio/keyboard_acoustic_004-060-025.wav ...
    nsynth-test/examples.json       the metadata of each note, by its name

Pitch, velocity, instrument, family and source of a note are kept in the manifest of the data set. F0 is measured as in
any recording: the label names the note, not its course. S samples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ddsp_cli.audio.read import PLAUSIBLE_RATES_HZ
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.manifest import NoteLabel
from ddsp_cli.errors import InputError

METADATA, AUDIO = "examples.json", "audio"

#: Bytes of metadata read at once: that of the training set has 290,000 notes.
CHUNK = 1 << 20


def labels(folder: Path) -> Iterator[tuple[Path, NoteLabel]]:
    """Yields sound file and label of each note of a folder in the layout with `examples.json`.

    Raises:
      InputError: the metadata is damaged.
    """
    path = folder / METADATA
    if not path.is_file() or not (folder / AUDIO).is_dir():
        return
    try:
        with path.open(encoding="utf-8") as stream:
            for name, note in _members(stream, path):
                if (label := _label(note)) is None:
                    return  # metadata of something else
                yield folder / AUDIO / f"{name}.wav", label
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} cannot be read: {problem}") from problem


def _members(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """Yields names and values of a JSON object, one by one."""
    decoder, between, colon = json.JSONDecoder(), re.compile(r"[\s,]*"), re.compile(r"\s*:\s*")
    text = stream.read(CHUNK).lstrip()
    if not text.startswith("{"):
        return
    text = text[1:]
    at = 0
    while True:
        at = between.match(text, at).end()  # type: ignore[union-attr]
        if text.startswith("}", at):
            return
        try:
            name, end = decoder.raw_decode(text, at)
            found = colon.match(text, end)
            value, end = decoder.raw_decode(text, found.end() if found else end)
        except ValueError:
            more = stream.read(CHUNK)
            if not more:
                raise InputError(f"{path} is damaged: it ends within an entry") from None
            text, at = text[at:] + more, 0
            continue
        yield str(name), value
        at = end


def _label(note: Any) -> NoteLabel | None:
    try:
        return NoteLabel(
            pitch_midi=int(note["pitch"]),
            velocity=int(note["velocity"]),
            instrument=str(note["instrument_str"]),
            family=str(note["instrument_family_str"]),
            source=str(note["instrument_source_str"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def is_shard(path: Path) -> bool:
    """Whether a TFRecord file holds notes of NSynth.

    Raises:
      DatasetError: the shard is damaged, or its records are not examples.
    """
    for _, features in tfrecord.locate_features(path):
        return _note(features) is not None
    return False


def notes(path: Path) -> Iterator[tuple[int, str, NoteLabel]]:
    """Yields bytes before it, name and label of each note of a shard.

    Raises:
      DatasetError: the shard is damaged, or holds something else.
    """
    for offset, features in tfrecord.locate_features(path):
        if (note := _note(features)) is not None:
            yield offset, *note


def read_note(path: Path, offset: int) -> tuple[np.ndarray, int]:
    """Returns the sound [S] of the note at a place in a shard, and its sample rate.

    Raises:
      DatasetError: the record is damaged.
      InputError: it holds no sound, or a sample rate that no recording has.
    """
    features = tfrecord.read_features(path, offset)
    audio, rate_hz = features.get("audio"), features.get("sample_rate")
    if not isinstance(audio, np.ndarray) or not isinstance(rate_hz, np.ndarray) or len(rate_hz) != 1:
        raise InputError(f"{path} holds a note without sound")
    if not PLAUSIBLE_RATES_HZ[0] <= rate_hz[0] <= PLAUSIBLE_RATES_HZ[1]:
        raise InputError(f"{path} holds a note that claims a sample rate of {rate_hz[0]} Hz")
    return audio.astype(np.float32), int(rate_hz[0])


def _note(features: dict[str, Any]) -> tuple[str, NoteLabel] | None:
    """Returns the name and label of a note."""

    def text(name: str) -> str:
        return bytes(features[name][0]).decode("utf-8")

    try:
        return text("note_str"), NoteLabel(
            pitch_midi=int(features["pitch"][0]),
            velocity=int(features["velocity"][0]),
            instrument=text("instrument_str"),
            family=text("instrument_family_str"),
            source=text("instrument_source_str"),
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None
