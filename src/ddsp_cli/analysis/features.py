"""`Features`: what is measured from sound at frame rate, and the grid that all measurements share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.config import FeatureSpec


def n_frames(n_samples: int, hop_samples: int) -> int:
    """Frames of a signal: F = ceil(S / hop); frame i is centred on sample i·hop."""
    return -(-n_samples // hop_samples)


@dataclass(frozen=True)
class Features:
    """Frame-rate measurements of one recording. All arrays float32, shape [F].

    Attributes:
      f0_hz: fundamental frequency in Hz; 0 where there is no pitch.
      f0_confidence: 0..1; a frame is voiced from 0.5 on.
      loudness_db: A-weighted loudness, floor -80 dB (a full-scale sine at 1 kHz is about +19.8 dB).
      power_db: RMS power in dBFS, floor -80 dB.
      spec: how they were measured.
      n_samples: length of the recording at 16 kHz.
      envelope_db: RMS power in a shorter window (`loudness.envelope_stream`); None where nobody measured it.
    """

    f0_hz: np.ndarray
    f0_confidence: np.ndarray
    loudness_db: np.ndarray
    power_db: np.ndarray
    spec: FeatureSpec
    n_samples: int
    envelope_db: np.ndarray | None = None

    def __post_init__(self) -> None:
        expected = n_frames(self.n_samples, self.spec.hop_samples)
        for name in ("f0_hz", "f0_confidence", "loudness_db", "power_db", "envelope_db"):
            values = getattr(self, name)
            if values is not None and values.shape != (expected,):
                raise ValueError(f"{name} has shape {values.shape}, the grid has {expected} frames")

    def __len__(self) -> int:
        return len(self.f0_hz)

    @property
    def times_s(self) -> np.ndarray:
        """Centre of each frame in seconds, shape [F]."""
        return np.arange(len(self)) / self.spec.frame_rate_hz

    def at(self, frame_rate_hz: int) -> Features:
        """The frames of a coarser grid whose centres all lie on this one (250 Hz → 50 Hz takes every fifth).

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


def hold_f0(f0_hz: np.ndarray, default_hz: float = 440.0) -> np.ndarray:
    """Fills frames without pitch with the last one before them (the first one after, at the start).

    A network that sees pitch fall to 0 in every rest glides into and out of each note; held pitch does not.

    Args:
      f0_hz: [..., F], 0 where unvoiced.
      default_hz: what a row without any pitch gets.

    Returns:
      [..., F], nowhere 0.
    """
    voiced = f0_hz > 0
    index = np.where(voiced, np.arange(f0_hz.shape[-1]), -1)
    index = np.maximum.accumulate(index, axis=-1)
    first = np.argmax(voiced, axis=-1)[..., None]
    filled = np.take_along_axis(f0_hz, np.where(index < 0, first, index), axis=-1)
    return np.where(voiced.any(axis=-1, keepdims=True), filled, np.float32(default_hz)).astype(f0_hz.dtype)
