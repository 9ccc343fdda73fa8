"""Choose the gain of each recording, and which recordings form the validation split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ddsp_cli.dataset import segments
from ddsp_cli.dataset.cache import CutRecording
from ddsp_cli.dataset.writer import Portion

#: Level of the loudest notes (95th percentile of power) of each folder after matching, in dBFS.
TARGET_DB = -14.0

#: Matching levels brings no note above this; a click is limited.
PEAK_LIMIT = 0.99

#: More than this would raise noise, not music.
MAX_GAIN_DB = 40.0

#: Where in a single recording its validation part may begin, as shares before 1 - validation_share and after.
CUT_TOLERANCE = 0.05


def folder_gains_db(recordings: Sequence[CutRecording]) -> dict[Path, float]:
    """One gain per source folder: sessions get the same level, and the dynamics inside each stay.

    Args:
      recordings: usable ones.

    Returns:
      Folder of the recordings → gain in dB that brings their loudest notes to `TARGET_DB`, less where a peak would
      pass `PEAK_LIMIT`.
    """
    groups: dict[Path, list[CutRecording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.job.path.parent].append(recording)
    gains = {}
    for folder, members in groups.items():
        notes = []
        for recording in members:
            frames = recording.frames()
            notes.append(frames["power_db"][frames["f0_hz"] > 0])
        wanted_db = TARGET_DB - float(np.percentile(np.concatenate(notes), 95))
        room_db = 20.0 * float(np.log10(PEAK_LIMIT / max(recording.loud_peak for recording in members)))
        gains[folder] = round(min(wanted_db, room_db, MAX_GAIN_DB) - 5e-5, 4)  # rounded down: never above the room
    return gains


def choose_validation(recordings: Sequence[CutRecording], share: float) -> set[int]:
    """Which recordings are for validation: about `share` of the seconds of each folder, whole recordings only.

    The choice depends on names and lengths alone. Of two or more recordings at least one is chosen and one is not.

    Returns:
      Indices into `recordings`; empty for a single recording or a share of 0.
    """
    if len(recordings) < 2 or share <= 0:
        return set()
    order = sorted(range(len(recordings)), key=lambda i: (_folder(recordings[i]), _hash(recordings[i].job.name)))
    chosen: set[int] = set()
    seen_s = chosen_s = 0.0
    folder: str | None = None
    groups: list[list[int]] = []
    for index in order:
        if _folder(recordings[index]) != folder:
            folder = _folder(recordings[index])
            groups.append([])
        groups[-1].append(index)
    for group in groups:
        # What one folder could not give exactly is carried over to the next.
        seen_s += sum(recordings[index].used_s for index in group)
        for index in group:
            if chosen_s + recordings[index].used_s / 2 <= share * seen_s and len(chosen) < len(recordings) - 1:
                chosen.add(index)
                chosen_s += recordings[index].used_s
    if not chosen:
        target_s = share * seen_s
        chosen = {min(order, key=lambda i: (abs(recordings[i].used_s - target_s), _hash(recordings[i].job.name)))}
    return chosen


def portions(
    recordings: Sequence[CutRecording], gains_db: dict[Path, float], share: float, held_out: Collection[str] = ()
) -> tuple[list[Portion], list[Portion]]:
    """What goes into training and what into validation.

    Args:
      recordings: usable ones.
      gains_db: see `folder_gains_db`.
      share: of the seconds that is for validation. A single recording is split near its end, at its quietest place.
      held_out: names of the recordings that are for validation, whatever their share; if empty, some are chosen.

    Returns:
      Portions for training, and portions for validation.
    """
    if len(recordings) == 1 and share > 0 and not held_out:
        recording = recordings[0]
        low = 1.0 - share - CUT_TOLERANCE
        cut = segments.quietest_cut(recording.frames()["power_db"], max(low, 0.5), min(low + 2 * CUT_TOLERANCE, 0.98))
        gain = _gain(recording, gains_db)
        return [Portion(recording, 0, cut, gain)], [Portion(recording, cut, recording.n_frames, gain)]
    named = {index for index, recording in enumerate(recordings) if recording.job.name in held_out}
    validation = named if held_out else choose_validation(recordings, share)
    parts: tuple[list[Portion], list[Portion]] = ([], [])
    for index, recording in enumerate(recordings):
        parts[index in validation].append(Portion(recording, 0, recording.n_frames, _gain(recording, gains_db)))
    return parts


def _gain(recording: CutRecording, gains_db: dict[Path, float]) -> float:
    return float(10.0 ** (gains_db.get(recording.job.path.parent, 0.0) / 20.0))


def _folder(recording: CutRecording) -> str:
    return recording.job.name.rpartition("/")[0]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
