"""Read and write curves: editable tables of F0 and level to play. Shapes: F frames, R rows of a table."""

from __future__ import annotations

import csv
import io
import lzma
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ddsp_cli.adaptation import CURVE_SUFFIXES
from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import BoolArray, DoubleArray, RealArray, runs
from ddsp_cli.atomic import beside, writing
from ddsp_cli.audio.write import check_writable
from ddsp_cli.config import FLOOR_DB
from ddsp_cli.errors import InputError, UsageError

#: Limits of a curve; a number beyond them is a slip of the keyboard.
MAX_F0_HZ = 20000.0

LEVEL_RANGE_DB = (-120.0, 60.0)

MAX_GATE = 2.0

#: An hour of frames at 250 Hz is 40 MB of text; nothing that a person edits is larger.
MAX_FILE_BYTES = 1 << 29

#: A day of frames at 250 Hz.
MAX_SECONDS, MAX_ROWS = 86400.0, 86400 * 250 + 1

#: The first line of a table has four names.
MAX_HEAD_CHARACTERS = 4096

#: `time_s` rises, so it cannot be compressed further than this; the other columns have the same length.
MAX_PACKING = 100

_DELIMITERS = (";", "\t", ",")


def write_controls(path: Path, adapted: Adapted, level: str, force: bool = False) -> None:
    """Writes `time_s`, `f0_hz`, the level (`power_db` or `loudness_db`) and `gate`, one row per frame.

    Args:
      path: ends in .csv or .npz.
      adapted: the curves.
      level: the measure that drives the instrument.
      force: replace an existing file.

    Raises:
      OutputError: the file cannot be written.
    """
    check_writable(path, force)
    times_s = np.arange(len(adapted)) / adapted.frame_rate_hz
    columns: dict[str, RealArray] = {
        "time_s": times_s,
        "f0_hz": adapted.f0_hz,
        level: adapted.level_db,
        "gate": adapted.gate,
    }
    with writing(path), beside(path) as part, part.open("wb") as stream:
        if path.suffix.lower() == ".npz":
            np.savez(stream, allow_pickle=False, **columns)
        else:
            table = np.stack(list(columns.values()), axis=1)
            np.savetxt(stream, table, "%.9g", delimiter=",", header=",".join(columns), comments="", encoding="utf-8")


def read_controls(path: Path, level: str, frame_rate_hz: int) -> Adapted:
    """Reads curves, brings them onto a regular grid and checks that they can be played.

    Columns `time_s`, `f0_hz` and the level are needed; `gate` is 1 where it is missing. Rows may have any rising
    times: between them level and gate are interpolated linearly, F0 on a logarithmic scale. A row whose F0 is 0 or
    empty is a rest.

    Args:
      path: a .csv with a first line of names (commas, semicolons or tabs between columns), or a .npz of arrays [R] with
        these names.
      level: `loudness_db` or `power_db`, the level of the instrument.
      frame_rate_hz: of the result.

    Raises:
      InputError: the file is missing, not such a table, or contains impossible numbers.
      UsageError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in CURVE_SUFFIXES:
        raise UsageError(f"{path} is neither .csv nor .npz")
    other = {"loudness_db": "power_db", "power_db": "loudness_db"}[level]
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than curves can be ({MAX_FILE_BYTES >> 20} MiB)")
        names = ("time_s", "f0_hz", level, other, "gate")
        columns = _read_npz(path, names) if suffix == ".npz" else _read_csv(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if level not in columns and other in columns:
        raise InputError(
            f"{path} contains {other}, this instrument plays by {level}", "Write the curves with this instrument."
        )
    for name in ("time_s", "f0_hz", level):
        if name not in columns:
            raise InputError(f"{path} has no column {name}", f"Columns: time_s, f0_hz, {level}, gate.")
    times_s, f0_hz, level_db = columns["time_s"], columns["f0_hz"].copy(), columns[level].copy()
    gate = columns["gate"].copy() if "gate" in columns else np.ones(len(times_s))
    rest = np.isnan(f0_hz) | (f0_hz == 0.0)
    if len(f0_hz) == len(times_s) == len(level_db) == len(gate) and not rest.all():
        f0_hz[rest] = np.exp(np.interp(np.flatnonzero(rest), np.flatnonzero(~rest), np.log(np.abs(f0_hz[~rest]))))
        level_db[rest & np.isnan(level_db)] = FLOOR_DB
        gate[rest] = 0.0
    _check(path, times_s, f0_hz, level_db, gate)
    # Rows that were written here lie on the grid already; rounding must not take the last one away.
    grid_s = np.arange(round(times_s[-1] * frame_rate_hz) + 1) / frame_rate_hz
    grid_gate = np.clip(np.interp(grid_s, times_s, gate), 0.0, MAX_GATE).astype(np.float32)
    sounding = grid_gate > 0
    return Adapted(
        f0_hz=np.exp(np.interp(grid_s, times_s, np.log(f0_hz))).astype(np.float32),
        level_db=np.interp(grid_s, times_s, level_db).astype(np.float32),
        gate=grid_gate,
        transpose_semitones=0.0,
        segments=Segments(*runs(sounding), sounding, -np.inf, FLOOR_DB),
        frame_rate_hz=frame_rate_hz,
    )


def _read_csv(path: Path) -> dict[str, DoubleArray]:
    """Returns the columns [R] of a table by name; empty cells are NaN."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            head = stream.readline(MAX_HEAD_CHARACTERS)
            if len(head) >= MAX_HEAD_CHARACTERS:
                raise ValueError(f"its first line is longer than {MAX_HEAD_CHARACTERS} characters")
            rows = stream.read()
        delimiter = next((each for each in _DELIMITERS if each in head), ",")
        names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        if "#" in rows:  # comments
            rows = re.sub(r"#.*", "", rows)
        if not rows.strip():
            raise ValueError("it has no rows")
        if delimiter == ";":
            rows = rows.replace(",", ".")
        cell, blanks = re.escape(delimiter), "[ ]*" if delimiter == "\t" else r"[ \t]*"
        rows = re.sub(rf"(?m)(?<={cell}){blanks}(?={cell}|$)|^{blanks}(?={cell})", "nan", rows)
        table = np.loadtxt(io.StringIO(rows), delimiter=delimiter, ndmin=2, dtype=np.float64, comments=None)
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not text in UTF-8", "Save it as CSV in UTF-8.") from problem
    except (ValueError, csv.Error) as problem:
        raise InputError(f"{path} is not a table of numbers: {' '.join(str(problem).split())}") from problem
    if not names or table.shape[1] != len(names):
        raise InputError(f"{path} has {len(names)} names in its first line and {table.shape[1]} columns")
    return {name: table[:, i] for i, name in enumerate(names)}


def _read_npz(path: Path, names: tuple[str, ...]) -> dict[str, DoubleArray]:
    """Reads the arrays [R] of these names. Their sizes are checked before they are unpacked; others stay unread."""
    columns: dict[str, DoubleArray] = {}
    n_rows: int | None = None
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if f"{name}.npy" in archive.namelist():
                    member = archive.getinfo(f"{name}.npy")
                    if n_rows is None and member.file_size > MAX_PACKING * member.compress_size + 4096:
                        raise ValueError(f"{name} is compressed more than a curve can be")
                    with archive.open(member) as stream:
                        columns[name] = _read_array(stream, name, n_rows)
                    n_rows = len(columns[name])
    except (
        ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
        lzma.LZMAError,
    ) as problem:  # fmt: skip
        raise InputError(f"{path} is not a file of arrays: {' '.join(str(problem).split())[:200]}") from problem
    return columns


def _read_array(stream: IO[bytes], name: str, n_rows: int | None) -> DoubleArray:
    """Returns an array [R] of numbers in NumPy's format, of `n_rows` where that is known.

    Raises:
      ValueError: not such an array.
    """
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "fiu" or len(shape) != 1:
        raise ValueError(f"{name} is not a list of numbers (shape {shape}, type {dtype})")
    if not 0 < shape[0] <= MAX_ROWS:
        raise ValueError(f"{name} has {shape[0]} rows (1 to {MAX_ROWS} are possible)")
    if n_rows is not None and shape[0] != n_rows:
        raise ValueError(f"{name} has {shape[0]} rows, time_s has {n_rows}")
    data = stream.read(shape[0] * dtype.itemsize)
    if len(data) != shape[0] * dtype.itemsize:
        raise ValueError(f"{name} is cut short")
    return np.frombuffer(data, dtype).astype(np.float64)


def _check(path: Path, times_s: DoubleArray, f0_hz: DoubleArray, level_db: DoubleArray, gate: DoubleArray) -> None:
    """Refuses curves that cannot be played."""
    arrays = {"time_s": times_s, "f0_hz": f0_hz, "level": level_db, "gate": gate}
    for name, array in arrays.items():
        if array.shape != (len(times_s),) or not len(array):
            raise InputError(f"{path}: {name} is empty or not as long as time_s")
    if np.all(np.isnan(f0_hz) | (f0_hz == 0)):
        raise InputError(f"{path}: f0_hz has no row with a pitch")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} contains NaN or infinity", _row(~np.isfinite(array)))
    checks = (
        (np.diff(times_s, prepend=-1e-9) <= 0, "time_s does not rise from 0"),
        (times_s > MAX_SECONDS, "time_s goes beyond a day"),
        ((f0_hz <= 0) | (f0_hz > MAX_F0_HZ), f"f0_hz is not between 0 and {MAX_F0_HZ:g}"),
        ((level_db < LEVEL_RANGE_DB[0]) | (level_db > LEVEL_RANGE_DB[1]),
         f"the level is not between {LEVEL_RANGE_DB[0]:g} and {LEVEL_RANGE_DB[1]:g} dB"),
        ((gate < 0) | (gate > MAX_GATE), f"gate is not between 0 and {MAX_GATE:g}"),
    )  # fmt: skip
    for wrong, words in checks:
        if wrong.any():
            raise InputError(f"{path}: {words}", _row(wrong))


def _row(wrong: BoolArray) -> str:
    return f"First in row {int(np.argmax(wrong)) + 2} (the first line is 1)."
