"""Curves as files: what an instrument is to play, written to be edited and read back to be played."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import runs
from ddsp_cli.atomic import beside, writing
from ddsp_cli.audio.write import check_writable
from ddsp_cli.errors import InputError, UsageError

SUFFIXES = (".csv", ".npz")

#: Where a curve may lie; beyond it a number is a slip of the keyboard.
MOST_HZ = 20000.0

LEVEL_DB = (-120.0, 60.0)

#: An hour of frames at 250 Hz is 40 MB of text; nothing that a person edits is larger.
MAX_FILE_BYTES = 1 << 29


def write_controls(path: Path, adapted: Adapted, level: str, force: bool = False) -> None:
    """Writes `time_s`, `f0_hz`, the level (`power_db` or `loudness_db`) and `gate`, a row per frame.

    Args:
      path: ends in .csv or .npz.
      adapted: what is played.
      level: the name of the measure that drives the instrument.
      force: replace an existing file.

    Raises:
      OutputError: the file cannot be written.
    """
    check_writable(path, force)
    times_s = np.arange(len(adapted)) / adapted.frame_rate_hz
    columns = {"time_s": times_s, "f0_hz": adapted.f0_hz, level: adapted.level_db, "gate": adapted.gate}
    with writing(path), beside(path) as part, part.open("wb") as stream:
        if path.suffix.lower() == ".npz":
            np.savez(stream, allow_pickle=False, **columns)
        else:
            table = np.stack(list(columns.values()), axis=1)
            np.savetxt(stream, table, "%.9g", delimiter=",", header=",".join(columns), comments="", encoding="utf-8")


def read_controls(path: Path, level: str, frame_rate_hz: int) -> Adapted:
    """Reads curves, brings them onto a regular grid and checks that they can be played.

    Columns `time_s`, `f0_hz` and the level are needed; `gate` is 1 where it is missing. Rows may stand at any
    rising times: between them level and gate are straight lines, and pitch is one on a logarithmic scale.

    Args:
      path: a .csv with a head line, or a .npz of arrays with these names.
      level: `loudness_db` or `power_db`, what the instrument takes.
      frame_rate_hz: of the result.

    Raises:
      InputError: the file is missing, not such a table, or holds impossible numbers.
      UsageError: another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} is neither .csv nor .npz")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than curves can be")
        columns = _read_npz(path) if path.suffix.lower() == ".npz" else _read_csv(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    other = {"loudness_db": "power_db", "power_db": "loudness_db"}[level]
    if level not in columns and other in columns:
        raise InputError(
            f"{path} holds {other}, this instrument plays by {level}", "Write the curves with this instrument."
        )
    for name in ("time_s", "f0_hz", level):
        if name not in columns:
            raise InputError(f"{path} has no column {name}", f"Columns: time_s, f0_hz, {level}, gate.")
    times_s, f0_hz, level_db = columns["time_s"], columns["f0_hz"], columns[level]
    gate = columns.get("gate", np.ones(len(times_s)))
    _check(path, times_s, f0_hz, level_db, gate)
    # Rows of a file that was written here lie on the grid already; rounding must not take the last one away.
    grid_s = np.arange(round(times_s[-1] * frame_rate_hz) + 1) / frame_rate_hz
    gate = np.clip(np.interp(grid_s, times_s, gate), 0.0, 2.0).astype(np.float32)
    sounding = gate > 0
    return Adapted(
        f0_hz=np.exp(np.interp(grid_s, times_s, np.log(f0_hz))).astype(np.float32),
        level_db=np.interp(grid_s, times_s, level_db).astype(np.float32),
        gate=gate,
        transpose_semitones=0.0,
        segments=Segments(*runs(sounding), sounding, -np.inf, -80.0),
        frame_rate_hz=frame_rate_hz,
    )


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = [name.strip() for name in next(csv.reader(io.StringIO(text)), [])]
        if not text.partition("\n")[2].strip():
            raise ValueError("it has no rows")
        table = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2, dtype=np.float64)
    except (ValueError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} is not a table of numbers: {' '.join(str(problem).split())}") from problem
    if not names or table.shape[1] != len(names):
        raise InputError(f"{path} has {len(names)} names in its first line and {table.shape[1]} columns")
    return {name: table[:, i] for i, name in enumerate(names)}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name], np.float64) for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as problem:
        raise InputError(f"{path} is not a file of arrays: {' '.join(str(problem).split())}") from problem


def _check(path: Path, times_s: np.ndarray, f0_hz: np.ndarray, level_db: np.ndarray, gate: np.ndarray) -> None:
    arrays = {"time_s": times_s, "f0_hz": f0_hz, "level": level_db, "gate": gate}
    for name, array in arrays.items():
        if array.shape != (len(times_s),) or not len(array):
            raise InputError(f"{path}: {name} is empty or not as long as time_s")
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds a number that is none", _row(~np.isfinite(array)))
    checks = (
        (np.diff(times_s, prepend=-1e-9) <= 0, "time_s does not rise from 0"),
        (times_s > 86400.0, "time_s goes beyond a day"),
        ((f0_hz <= 0) | (f0_hz > MOST_HZ), f"f0_hz is not between 0 and {MOST_HZ:g}"),
        ((level_db < LEVEL_DB[0]) | (level_db > LEVEL_DB[1]), f"the level is not between {LEVEL_DB[0]:g} and "
         f"{LEVEL_DB[1]:g} dB"),
        ((gate < 0) | (gate > 2), "gate is not between 0 and 2"),
    )  # fmt: skip
    for wrong, words in checks:
        if wrong.any():
            raise InputError(f"{path}: {words}", _row(wrong))


def _row(wrong: np.ndarray) -> str:
    return f"First in row {int(np.argmax(wrong)) + 2} (the first line is 1)."
