"""The protocol of pitch trackers: blocks of 16 kHz sound in, one `PitchTrack` out. Shapes: S samples, T frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ddsp_cli.arrays import FloatArray

#: A frame is voiced from this confidence on.
VOICED_CONFIDENCE = 0.5

#: swift-f0 and pYIN search this range, the former's own; the notes F♯1 to C7.
PITCH_RANGE_HZ = (46.875, 2093.75)


@dataclass(frozen=True)
class PitchTrack:
    """F0 on a tracker's own grid: frame i is centred on sample i·hop_samples + delay_samples.

    Attributes:
      f0_hz: [T] Hz, meaningful where voiced.
      confidence: [T] 0..1, voiced from 0.5 on.
      hop_samples: distance of two frames.
      delay_samples: how much later than sample i·hop_samples frame i is centred.
    """

    f0_hz: FloatArray
    confidence: FloatArray
    hop_samples: int
    delay_samples: int = 0


class Tracker(Protocol):
    """Takes a 16 kHz signal in blocks and returns its F0 at the end."""

    def push(self, block: FloatArray) -> None:
        """Takes the next samples [S] float32."""

    def finish(self) -> PitchTrack:
        """Returns F0 of everything pushed."""


def joined(parts: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Concatenates F0 and confidence of all blocks, [T] each."""
    empty = np.zeros(0, np.float32)
    return np.concatenate([empty, *(part[0] for part in parts)]), np.concatenate([empty, *(part[1] for part in parts)])
