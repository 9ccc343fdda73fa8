"""`Features`: F0, loudness and power of a recording on one grid of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import DoubleArray, FloatArray, runs
from ddsp_cli.config import FeatureSpec


def n_frames(n_samples: int, hop_samples: int) -> int:
    """Returns the number of frames of a signal: F = ceil(S / hop); frame i is centred on sample i·hop."""
    return -(-n_samples // hop_samples)


@dataclass(frozen=True)
class Features:
    """Frame-rate measurements of one recording. All arrays float32, shape [F].

    Attributes:
      f0_hz: fundamental frequency; 0 in unvoiced frames.
      f0_confidence: 0..1; a frame is voiced from 0.5 on.
      loudness_db: A-weighted loudness, floor -80 dB (a full-scale sine at 1 kHz is about +19.8 dB).
      power_db: RMS power in dBFS, floor -80 dB.
      spec: how they were measured.
      n_samples: length of the recording at 16 kHz.
      envelope_db: RMS power in shorter windows (`loudness.SharpEnvelope`); None where it was not measured.
    """

    f0_hz: FloatArray
    f0_confidence: FloatArray
    loudness_db: FloatArray
    power_db: FloatArray
    spec: FeatureSpec
    n_samples: int
    envelope_db: FloatArray | None = None

    def __post_init__(self) -> None:
        expected = n_frames(self.n_samples, self.spec.hop_samples)
        for name in ("f0_hz", "f0_confidence", "loudness_db", "power_db", "envelope_db"):
            values = getattr(self, name)
            if values is not None and values.shape != (expected,):
                raise ValueError(f"{name} has shape {values.shape}, the grid has {expected} frames")

    def __len__(self) -> int:
        return len(self.f0_hz)

    @property
    def times_s(self) -> DoubleArray:
        """Centre of each frame in seconds, shape [F]."""
        return np.arange(len(self)) / self.spec.frame_rate_hz

    def at(self, frame_rate_hz: int) -> Features:
        """Returns the frames of a coarser grid whose centres all lie on this one (250 Hz to 50 Hz takes every fifth).

        Raises:
          ValueError: the rate does not divide this one.
        """
        step, rest = divmod(self.spec.frame_rate_hz, frame_rate_hz)
        if rest or step < 1:
            raise ValueError(f"{frame_rate_hz} Hz does not divide {self.spec.frame_rate_hz} Hz")
        return Features(
            f0_hz=self.f0_hz[::step],
            f0_confidence=self.f0_confidence[::step],
            loudness_db=self.loudness_db[::step],
            power_db=self.power_db[::step],
            spec=self.spec.at(frame_rate_hz),
            n_samples=self.n_samples,
            envelope_db=None if self.envelope_db is None else self.envelope_db[::step],
        )


def fill_f0(f0_hz: FloatArray, level_db: FloatArray, default_hz: float = 440.0) -> FloatArray:
    """Fills unvoiced frames with F0 of the note before them, and from the softest frame of a gap on with the next one.

    A tracker finds F0 only some time after a note begins. If the pitch before it were held until then, the note would
    begin at that pitch. Where F0 falls to 0 in rests, a network glides into and out of each note.

    Args:
      f0_hz: [..., F], 0 where unvoiced.
      level_db: [..., F], to find the softest frame of each gap; of several the last.
      default_hz: for rows without any voiced frame.

    Returns:
      [..., F], nowhere 0. At the start and the end of a row the nearest F0 holds.
    """
    filled = np.array(f0_hz, order="C")  # so that rows are views of it
    rows, levels_db = filled.reshape(-1, filled.shape[-1]), np.asarray(level_db).reshape(-1, filled.shape[-1])
    for row, row_db in zip(rows, levels_db, strict=True):
        for start, stop in zip(*runs(row <= 0.0), strict=True):
            softest = stop - 1 - int(np.argmin(row_db[start:stop][::-1]))
            turn = start if start == 0 else stop if stop == len(row) else softest
            row[start:turn] = row[start - 1]
            row[turn:stop] = default_hz if stop == len(row) else row[stop]
    return filled
