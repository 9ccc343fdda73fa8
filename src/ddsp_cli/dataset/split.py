"""Choose the gain of each recording, and which recordings form the validation split."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ddsp_cli.dataset import segments
from ddsp_cli.dataset.cache import CutRecording
from ddsp_cli.dataset.statistics import Counts
from ddsp_cli.dataset.writer import Portion

#: Level of the loudest notes (95th percentile of power) of each folder after matching, in dBFS.
TARGET_DB = -14.0

#: Highest level of a note after matching; clicks are limited.
PEAK_LIMIT = 0.99

#: Largest gain: more would raise noise.
MAX_GAIN_DB = 40.0

#: Where in a single recording its validation part may begin, as shares before 1 - validation_share and after.
CUT_TOLERANCE = 0.05


def folder_gains_db(recordings: Iterable[CutRecording]) -> Iterator[tuple[Path, float]]:
    """Computes one gain per source folder: sessions get the same level, and the dynamics inside each stay.

    Args:
      recordings: usable ones, those of a folder one after the other.

    Yields:
      Folder of the recordings, and the gain in dB that brings their loudest notes to `TARGET_DB`, less where a peak
      would pass `PEAK_LIMIT`.
    """
    for folder, members in itertools.groupby(recordings, key=lambda recording: recording.job.path.parent):
        notes, peak = Counts(), 0.0
        for recording in members:
            frames = recording.frames()
            notes.add(frames["power_db"][frames["f0_hz"] > 0])
            peak = max(peak, recording.loud_peak)
        wanted_db = TARGET_DB - float(notes.percentiles(np.array([95]))[0])
        room_db = 20.0 * float(np.log10(PEAK_LIMIT / peak))
        gain_db = round(min(wanted_db, room_db, MAX_GAIN_DB) - 5e-5, 4)  # rounded down: never above the room
        yield folder, gain_db


def choose_validation(lengths: Callable[[], Iterable[tuple[str, int, int]]], n: int, share: float) -> Iterator[int]:
    """Chooses the recordings for validation: about `share` of the sound of each folder, whole recordings only.

    The choice depends on names and lengths alone. Of two or more recordings at least one is chosen and one is not.

    Args:
      lengths: gives folder, frames and number of each recording, by folder and then by a hash of the name; called
        several times.
      n: how many recordings there are.
      share: of the frames.

    Yields:
      Numbers of recordings; none for a single recording or a share of 0.
    """
    if n < 2 or share <= 0:
        return
    in_folder: Counter[str] = Counter()
    for folder, n_frames, _ in lengths():
        in_folder[folder] += n_frames
    seen = chosen = n_chosen = 0
    last: str | None = None
    for folder, n_frames, number in lengths():
        if folder != last:  # what one folder could not give exactly is carried over to the next
            last = folder
            seen += in_folder[folder]
        if chosen + n_frames / 2 <= share * seen and n_chosen < n - 1:
            chosen += n_frames
            n_chosen += 1
            yield number
    if not n_chosen:
        # the first in order of those whose length is nearest to what is wanted
        yield min(lengths(), key=lambda row: abs(row[1] - share * seen))[2]


def split_one(recording: CutRecording, share: float, gain_db: float) -> tuple[list[Portion], list[Portion]]:
    """Splits a single recording near its end, at its quietest place, into a part for training and `share` of it."""
    low = 1.0 - share - CUT_TOLERANCE
    cut = segments.quietest_cut(recording.frames()["power_db"], max(low, 0.5), min(low + 2 * CUT_TOLERANCE, 0.98))
    gain = as_gain(gain_db)
    return [Portion(recording, 0, cut, gain)], [Portion(recording, cut, recording.n_frames, gain)]


def as_gain(gain_db: float) -> float:
    """A gain in dB as a factor."""
    return float(10.0 ** (gain_db / 20.0))
