"""Decisions about a set of takes: at which level each comes in, and which are kept apart for validation."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ddsp_cli.dataset import segments
from ddsp_cli.dataset.cache import Take
from ddsp_cli.dataset.writer import Portion

#: Where the loudest notes (95th percentile of power) of each folder are brought to, in dBFS.
TARGET_DB = -14.0

#: No note may get larger by matching levels; a click that would is rounded off.
PEAK_LIMIT = 0.99

#: More than this would raise noise, not music.
MAX_GAIN_DB = 40.0

#: Where in a single recording its validation part may begin, as shares before 1 - validation_share and after.
CUT_TOLERANCE = 0.05


def folder_gains_db(takes: Sequence[Take]) -> dict[Path, float]:
    """One gain per source folder, so that sessions come together and the dynamics inside each stay.

    Args:
      takes: usable ones.

    Returns:
      Folder of the recordings → gain in dB that brings their loudest notes to `TARGET_DB`, less where a peak would
      pass `PEAK_LIMIT`.
    """
    groups: dict[Path, list[Take]] = defaultdict(list)
    for take in takes:
        groups[take.job.path.parent].append(take)
    gains = {}
    for folder, members in groups.items():
        notes = []
        for take in members:
            frames = take.frames()
            notes.append(frames["power_db"][frames["f0_hz"] > 0])
        wanted_db = TARGET_DB - float(np.percentile(np.concatenate(notes), 95))
        room_db = 20.0 * float(np.log10(PEAK_LIMIT / max(take.loud_peak for take in members)))
        gains[folder] = round(min(wanted_db, room_db, MAX_GAIN_DB) - 5e-5, 4)  # rounded down: never above the room
    return gains


def choose_validation(takes: Sequence[Take], share: float) -> set[int]:
    """Which takes are for validation: about `share` of the seconds of each folder, whole recordings only.

    The choice follows from the names and lengths alone. Of two or more takes at least one is chosen and one is not.

    Returns:
      Indices into `takes`; empty for a single take or a share of 0.
    """
    if len(takes) < 2 or share <= 0:
        return set()
    order = sorted(range(len(takes)), key=lambda i: (_folder(takes[i]), _hash(takes[i].job.name)))
    chosen: set[int] = set()
    seen_s = chosen_s = 0.0
    folder: str | None = None
    groups: list[list[int]] = []
    for index in order:
        if _folder(takes[index]) != folder:
            folder = _folder(takes[index])
            groups.append([])
        groups[-1].append(index)
    for group in groups:
        # What one folder could not give exactly is carried over to the next.
        seen_s += sum(takes[index].used_s for index in group)
        for index in group:
            if chosen_s + takes[index].used_s / 2 <= share * seen_s and len(chosen) < len(takes) - 1:
                chosen.add(index)
                chosen_s += takes[index].used_s
    if not chosen:
        target_s = share * seen_s
        chosen = {min(order, key=lambda i: (abs(takes[i].used_s - target_s), _hash(takes[i].job.name)))}
    return chosen


def portions(
    takes: Sequence[Take], gains_db: dict[Path, float], share: float, held_out: Collection[str] = ()
) -> tuple[list[Portion], list[Portion]]:
    """What goes into training and what into validation.

    Args:
      takes: usable ones.
      gains_db: see `folder_gains_db`.
      share: of the seconds that is for validation. A single take is parted near its end, at its quietest place there.
      held_out: names of the takes that are for validation, whatever their share; where empty, some are chosen.
    """
    if len(takes) == 1 and share > 0 and not held_out:
        take = takes[0]
        low = 1.0 - share - CUT_TOLERANCE
        cut = segments.quietest_cut(take.frames()["power_db"], max(low, 0.5), min(low + 2 * CUT_TOLERANCE, 0.98))
        gain = _gain(take, gains_db)
        return [Portion(take, 0, cut, gain)], [Portion(take, cut, take.n_frames, gain)]
    named = {index for index, take in enumerate(takes) if take.job.name in held_out}
    validation = named if held_out else choose_validation(takes, share)
    parts: tuple[list[Portion], list[Portion]] = ([], [])
    for index, take in enumerate(takes):
        parts[index in validation].append(Portion(take, 0, take.n_frames, _gain(take, gains_db)))
    return parts


def _gain(take: Take, gains_db: dict[Path, float]) -> float:
    return float(10.0 ** (gains_db.get(take.job.path.parent, 0.0) / 20.0))


def _folder(take: Take) -> str:
    return take.job.name.rpartition("/")[0]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
