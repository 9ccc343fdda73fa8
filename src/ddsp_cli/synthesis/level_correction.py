"""The level that is asked for is the level that sounds: gain that evens out where an instrument plays otherwise.

An instrument follows the level it is given as well as it has learned to: late in quick attacks, too soft in registers
that it hardly knows. And its room adds to what it plays, here a resonance, there the end of the note before; a player
hears that and plays accordingly. Shapes: S samples, N levels at the rate of the gate.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.analysis.loudness import FrameStream, envelope_stream, loudness_stream
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec, ModelConfig
from ddsp_cli.synthesis.oscillators import Ramp
from ddsp_cli.synthesis.reverb import Room

#: No further than this is anything turned up or down.
MOST_DB = 9.0

#: The room may change that by no more than this: what it covers is not to be played much softer still.
MOST_FOR_ROOM_DB = 4.0

#: The gain is averaged over this long.
SMOOTH_S = 0.04


def measured_as(spec: FeatureSpec, level: str, sample_rate_hz: int, hop_samples: int) -> FrameStream | None:
    """What measures the level that drives an instrument in its own sound; None where that cannot be done.

    Power is measured in the shorter window of the envelope, at any rate; loudness, whose window is about as short, at
    16 kHz and as it is defined since 2022.

    Args:
      spec: windows and floor.
      level: `power_db` or `loudness_db`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.
    """
    if level == "power_db":
        return envelope_stream(sample_rate_hz, hop_samples, spec.floor_db)
    if (
        sample_rate_hz == ANALYSIS_RATE_HZ
        and spec.loudness == "a-weighted-2022"
        and ANALYSIS_RATE_HZ % hop_samples == 0
    ):
        return loudness_stream(spec.at(ANALYSIS_RATE_HZ // hop_samples))
    return None


class Leveller:
    """Takes dry sound and the levels it should have, gives it with those levels, later.

    Args:
      measure: the level of the sound, see `measured_as`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.
      room: that the sound will be heard in, and what measures it there; None for none.
    """

    def __init__(
        self,
        measure: FrameStream,
        sample_rate_hz: int,
        hop_samples: int,
        room: tuple[Room, FrameStream] | None = None,
    ) -> None:
        self._measure, self._room = measure, room
        half = max(1, round(SMOOTH_S * sample_rate_hz / hop_samples / 2))
        self._kernel = np.hanning(2 * half + 3)[1:-1]
        self._half = half
        self._ramp = Ramp(hop_samples)
        self._dry = np.zeros(0, np.float32)
        self._gain = np.zeros(0, np.float32)
        # Levels that are wanted, of the dry sound, and in the room.
        self._levels_db = [np.zeros(0)] * (2 if room is None else 3)
        # Corrections and their weights, after as many of no weight as the average looks back.
        self._corrections = np.zeros((2, half))

    def push(self, dry: np.ndarray, want_db: np.ndarray) -> np.ndarray:
        """The next samples [S] and levels [N], -inf in rests; gives the samples that are settled."""
        self._dry = np.concatenate([self._dry, dry])
        levels_db = [want_db, self._measure.push(dry)]
        if self._room is not None:
            room, measure = self._room
            levels_db.append(measure.push(room.push(dry)))
        return self._advance(levels_db, last=False)

    def finish(self, want_db: np.ndarray) -> np.ndarray:
        """The rest, so that as many samples have come out as went in."""
        levels_db = [want_db, self._measure.finish()]
        if self._room is not None:
            levels_db.append(self._room[1].finish())
        return self._advance(levels_db, last=True)

    def _advance(self, levels_db: list[np.ndarray], last: bool) -> np.ndarray:
        waiting = [np.concatenate(pair) for pair in zip(self._levels_db, levels_db, strict=True)]
        n = min(len(levels) for levels in waiting)
        self._levels_db = [levels[n:] for levels in waiting]
        weight = np.isfinite(waiting[0][:n]).astype(np.float64)
        correction = self._correction(*(np.where(weight > 0, levels[:n], 0.0) for levels in waiting))
        corrections = np.concatenate([self._corrections, np.stack([correction * weight, weight])], axis=1)
        if last:
            corrections = np.pad(corrections, ((0, 0), (0, self._half)))
        self._corrections = corrections[:, max(corrections.shape[1] - 2 * self._half, 0) :]
        if corrections.shape[1] > 2 * self._half:
            total, weights = (np.convolve(row, self._kernel, "valid") for row in corrections)
            gain_db = total / np.maximum(weights, 1e-3)
            self._gain = np.concatenate([self._gain, self._ramp.push(10.0 ** (gain_db / 20.0))])
        if last:
            self._gain = np.concatenate([self._gain, self._ramp.finish()])
            self._gain = np.pad(self._gain, (0, max(0, len(self._dry) - len(self._gain))), constant_values=1.0)
        n = min(len(self._gain), len(self._dry))
        out = self._dry[:n] * self._gain[:n]
        self._dry, self._gain = self._dry[n:], self._gain[n:]
        return np.asarray(out, np.float32)

    @staticmethod
    def _correction(want_db: np.ndarray, dry_db: np.ndarray, wet_db: np.ndarray | None = None) -> np.ndarray:
        """Gain in dB [n] that brings what is heard to what is wanted, within bounds."""
        correction = want_db - dry_db
        if wet_db is not None:
            for_room = np.clip(dry_db - wet_db, -MOST_FOR_ROOM_DB, MOST_FOR_ROOM_DB)
            correction = correction + for_room
        return np.clip(correction, -MOST_DB, MOST_DB)


def make_leveller(
    spec: FeatureSpec, model: ModelConfig, hop_samples: int, response: np.ndarray | None
) -> Leveller | None:
    """The leveller of an instrument; None where its level cannot be measured, see `measured_as`.

    Args:
      spec: how the levels that it plays by are measured.
      model: names its level and rate.
      hop_samples: samples between two levels.
      response: of the room that it will be heard in, [L]; None for none.
    """
    dry, wet = (measured_as(spec, model.level, model.sample_rate_hz, hop_samples) for _ in range(2))
    if dry is None or wet is None:
        return None
    return Leveller(dry, model.sample_rate_hz, hop_samples, None if response is None else (Room(response), wet))
