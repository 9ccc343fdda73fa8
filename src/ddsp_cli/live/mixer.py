"""Play one instrument at a time and crossfade to the next, with octave, room and mute switches.

Shapes: S samples at the rate of the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ddsp_cli.arrays import DoubleArray, FloatArray
from ddsp_cli.live.performer import LIVE_SEGMENTS, LiveState

#: Input that an instrument gets, beyond its latency, before it is faded in: the pitch tracker uses the last 0.13 s.
WARM_UP_S = 0.2

CROSSFADE_S = 0.08

#: How long the mute key takes, so that it does not click.
MUTE_S = 0.02

#: Samples beyond this are bent to stay within ±1.
SOFT_CLIP = 0.9


@dataclass(frozen=True)
class Controls:
    """Settings that can be changed while playing.

    Attributes:
      instrument: index of the instrument.
      transpose: semitones.
      room: whether the instrument's room is on.
      below_peak_db: gate threshold: notes more than this below the loudest ones are silent.
      muted: whether the output is silent.
    """

    instrument: int = 0
    transpose: float = 0.0
    room: bool = True
    below_peak_db: float = LIVE_SEGMENTS.below_peak_db
    muted: bool = False


class Source(Protocol):
    """Plays blocks of input, as `Performer` does."""

    @property
    def latency_samples(self) -> int:
        """By how much the output is behind the input."""

    @property
    def state(self) -> LiveState:
        """Meter of the last frame."""

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next samples [S], gives as many."""

    def adjust(self, *, transpose: float | None = None, below_peak_db: float | None = None) -> None:
        """Changes settings."""


class Fade:
    """The time of a change from one source to the next, which gets input before it is faded in.

    Args:
      rate_hz: of the device.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._n_pushed = 0  # samples of input that the next source got
        self.is_over = False

    def share(self, n_samples: int, latency_samples: int) -> DoubleArray:
        """Returns the share of the next source in each of the next samples, [S]: 0 at first, then rising to 1.

        Args:
          n_samples: S.
          latency_samples: by how much the output of the sources is behind their input.
        """
        begin = latency_samples + round(WARM_UP_S * self._rate_hz)
        length = round(CROSSFADE_S * self._rate_hz)
        share = np.clip((np.arange(self._n_pushed, self._n_pushed + n_samples) - begin) / length, 0.0, 1.0)
        self._n_pushed += n_samples
        self.is_over = self._n_pushed >= begin + length
        return share


class Mixer:
    """Plays one of several instruments and changes between them without a break in the sound.

    Args:
      make: makes the source of an instrument from controls; its second argument is the source before it.
      controls: at the beginning. Assign others to `controls` at any time, from any thread.
      rate_hz: of the device.
    """

    def __init__(self, make: Callable[[Controls, Source | None], Source], controls: Controls, rate_hz: int) -> None:
        self.controls = controls
        self._make, self._rate_hz = make, rate_hz
        self._current, self._current_controls = make(controls, None), controls
        self._next: Source | None = None
        self._next_controls = controls
        self._fade = Fade(rate_hz)
        self._gain = 0.0 if controls.muted else 1.0

    @property
    def source(self) -> Source:
        """The instrument that plays, or the one that is being faded in."""
        return self._next or self._current

    @property
    def latency_samples(self) -> int:
        """By how many samples the output is behind the input."""
        return self.source.latency_samples

    def play(self, block: FloatArray) -> FloatArray:
        """Takes the next samples [S] of the input, gives as many of the output."""
        controls = self.controls  # another thread may change it meanwhile
        wanted = (controls.instrument, controls.room)
        if self._next is None and wanted != (self._current_controls.instrument, self._current_controls.room):
            self._next, self._next_controls = self._make(controls, self._current), controls
            self._fade = Fade(self._rate_hz)
        for source in (self._current, self._next):
            if source is not None:
                source.adjust(transpose=controls.transpose, below_peak_db=controls.below_peak_db)
        out = self._current.push(block)
        if self._next is not None:
            out = self._crossfaded(out, self._next.push(block), self._next)
        return soft_clipped(out * self._mute(len(block), 0.0 if controls.muted else 1.0))

    def _crossfaded(self, old: FloatArray, new: FloatArray, source: Source) -> FloatArray:
        """Fades from old to new at equal power: the two have unrelated phases."""
        latency = max(source.latency_samples, self._current.latency_samples)
        share = self._fade.share(len(old), latency)
        if self._fade.is_over:
            self._current, self._current_controls, self._next = source, self._next_controls, None
        angle = (0.5 * math.pi * share).astype(np.float32)
        return np.asarray(old * np.cos(angle) + new * np.sin(angle), np.float32)

    def _mute(self, n_samples: int, target: float) -> FloatArray | float:
        """Returns the gain of the mute key, [S] while it changes."""
        if self._gain == target:
            return target
        step = np.sign(target - self._gain) / (MUTE_S * self._rate_hz)
        gain = np.clip(self._gain + step * np.arange(1, n_samples + 1), 0.0, 1.0).astype(np.float32)
        self._gain = float(gain[-1]) if n_samples else self._gain
        return gain


def soft_clipped(sound: FloatArray) -> FloatArray:
    """Returns the sound [S] within ±1; unchanged up to `SOFT_CLIP`."""
    magnitude = np.abs(sound)
    if not len(sound) or magnitude.max() <= SOFT_CLIP:
        return sound
    bent = SOFT_CLIP + (1.0 - SOFT_CLIP) * np.tanh((magnitude - SOFT_CLIP) / (1.0 - SOFT_CLIP))
    return np.where(magnitude > SOFT_CLIP, np.copysign(bent, sound), sound).astype(np.float32)
