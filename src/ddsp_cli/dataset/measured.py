"""All that is known of a recording before anything is cut, and where that is kept for the next time.

Shapes: S samples, F frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ddsp_cli.atomic import write_bytes
from ddsp_cli.dataset import segments
from ddsp_cli.dataset.manifest import Doubt, DoubtKind
from ddsp_cli.dataset.segments import runs
from ddsp_cli.dataset.takes import read_floats
from ddsp_cli.features.frames import n_frames
from ddsp_cli.features.repair import repair
from ddsp_cli.features.tracker import VOICED_CONFIDENCE

#: Monophonic moments shorter than this between two chords are left out with them.
BETWEEN_S = 0.3
LEAST_POLYPHONY_S = 0.06


@dataclass(frozen=True)
class Measured:
    """All that is known of a recording before anything is cut, [F] each.

    Attributes:
      f0_hz: mended, 0 where there is no pitch.
      confidence: of the pitch.
      power_db: RMS level.
      polyphonic: bool, where it is more than one voice.
      n_samples: length at 16 kHz.
      doubts: doubtful places.
      remarks: what is remarkable.
    """

    f0_hz: np.ndarray
    confidence: np.ndarray
    power_db: np.ndarray
    polyphonic: np.ndarray
    n_samples: int
    doubts: tuple[Doubt, ...] = ()
    remarks: tuple[str, ...] = ()


class _Notes(msgspec.Struct):
    n_samples: int
    doubts: list[Doubt]
    remarks: list[str]


def judge(
    f0_hz: np.ndarray, confidence: np.ndarray, power_db: np.ndarray, spool: Path, n_samples: int, frame_rate_hz: int,
    clipped_s: Iterable[tuple[float, float]] = (), remarks: Iterable[str] = (),
) -> Measured:  # fmt: skip
    """Mends the pitch and finds chords.

    Args:
      f0_hz, confidence, power_db: [F] as measured.
      spool: the sound at 16 kHz, float32.
      n_samples: its length.
      frame_rate_hz: of the frames.
      clipped_s: where it is clipped.
      remarks: what is already known to be remarkable.
    """

    def read(first: int, last: int) -> np.ndarray:
        return next(read_floats(spool, first, last, max(last - first, 1)), np.zeros(0, np.float32))

    repaired = repair(read, n_samples, f0_hz, frame_rate_hz)
    voiced = repaired.f0_hz > 0
    polyphonic = repaired.voices.polyphonic(len(f0_hz), frame_rate_hz)
    polyphonic = segments.without_short_runs(polyphonic & voiced, round(LEAST_POLYPHONY_S * frame_rate_hz))
    polyphonic = ~segments.without_short_runs(~polyphonic, round(BETWEEN_S * frame_rate_hz)) & polyphonic.any()
    places: tuple[tuple[DoubtKind, np.ndarray], ...] = (
        ("polyphony", polyphonic), ("octave", repaired.mended), ("jump", repaired.silenced),
    )  # fmt: skip
    doubts = [
        Doubt(kind=kind, start_s=round(start / frame_rate_hz, 2), end_s=round(end / frame_rate_hz, 2))
        for kind, mask in places
        for start, end in runs(mask)
    ]
    doubts += [Doubt(kind="clipping", start_s=round(start, 2), end_s=round(end, 2)) for start, end in clipped_s]
    confidence = np.where(voiced, confidence, np.minimum(confidence, 0.98 * VOICED_CONFIDENCE))
    return Measured(
        f0_hz=repaired.f0_hz,
        confidence=confidence.astype(np.float32),
        power_db=power_db,
        polyphonic=polyphonic,
        n_samples=n_samples,
        doubts=tuple(sorted(doubts, key=lambda doubt: (doubt.start_s, doubt.kind))),
        remarks=tuple(remarks),
    )


def remember(path: Path, measured: Measured) -> None:
    """Keeps measurements for a later run: rows of float32 [4, F] after a line of JSON."""
    notes = _Notes(measured.n_samples, list(measured.doubts), list(measured.remarks))
    rows = np.stack([measured.f0_hz, measured.confidence, measured.power_db, measured.polyphonic]).astype("<f4")
    write_bytes(path, msgspec.json.encode(notes) + b"\n" + rows.tobytes())


def known(folder: Path | None, digest: str, hop_samples: int) -> Measured | None:
    """Measurements of the same bytes by an earlier run; None where there are none, or damaged ones.

    Args:
      folder: of measurements.
      digest: SHA-256 of the recording.
      hop_samples: of the frames.
    """
    if folder is None:
        return None
    try:
        first, _, content = (folder / f"{digest}.measured").read_bytes().partition(b"\n")
        notes = msgspec.json.decode(first, type=_Notes)
        rows = np.frombuffer(content, "<f4").reshape(4, n_frames(notes.n_samples, hop_samples))
    except (OSError, ValueError):
        return None
    if not np.isfinite(rows).all():
        return None
    return Measured(rows[0], rows[1], rows[2], rows[3] > 0, notes.n_samples, tuple(notes.doubts), tuple(notes.remarks))
