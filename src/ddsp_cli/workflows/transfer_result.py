"""What comes out of a transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class TransferResult:
    """One performance, played, or one recording in a room.

    Attributes:
      input, output: files.
      plot, controls: a picture and a table of curves, where they were asked for.
      instrument: its name; empty where a recording only came into a room.
      seconds: length of the sound.
      wall_s: how long it took.
      transpose_semitones: what was added to the pitch.
      key: the scale that was tuned to; empty where nothing was.
      n_notes: phrases found between rests.
      peak: of the file, 1 is full scale.
      gain_db: 0, or by how much the sound was turned down to fit.
      sample_rate_hz: of the output.
      tail_s: how long the room goes on into rests.
      remarks: what makes this performance hard to follow, as sentences.
    """

    input: Path
    output: Path
    plot: Path | None
    controls: Path | None
    instrument: str
    seconds: float
    wall_s: float
    transpose_semitones: float
    key: str
    n_notes: int
    peak: float
    gain_db: float
    sample_rate_hz: int
    tail_s: float
    remarks: tuple[str, ...] = ()
