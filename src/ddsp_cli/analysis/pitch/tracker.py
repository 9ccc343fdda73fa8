"""What every pitch tracker is: blocks of 16 kHz sound in, one `PitchTrack` out. Shapes: S samples, T tracker frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: From this confidence on a frame is voiced.
VOICED_CONFIDENCE = 0.5

#: swift-f0 and pYIN search this range, the former's own; the notes F♯1 to C7.
PITCH_RANGE_HZ = (46.875, 2093.75)


@dataclass(frozen=True)
class PitchTrack:
    """Pitch on a tracker's own grid: frame i is centred on sample i·hop_samples + delay.

    Attributes:
      f0_hz: [T] Hz, meaningful where voiced.
      confidence: [T] 0..1, voiced from 0.5 on.
      hop_samples: distance of two frames.
      delay_samples: how much later than sample i·hop frame i is really centred.
    """

    f0_hz: np.ndarray
    confidence: np.ndarray
    hop_samples: int
    delay_samples: int = 0


class Tracker(Protocol):
    """Takes a 16 kHz signal in blocks, gives its pitch at the end."""

    def push(self, block: np.ndarray) -> None:
        """The next samples [S] float32."""

    def finish(self) -> PitchTrack:
        """The pitch of everything pushed."""


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """f0 and confidence of all blocks in a row, [T] each."""
    empty = np.zeros(0, np.float32)
    return np.concatenate([empty, *(part[0] for part in parts)]), np.concatenate([empty, *(part[1] for part in parts)])
