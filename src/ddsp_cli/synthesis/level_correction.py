"""Level correction: a bounded, smoothed gain that makes the level of the synthesised sound track the requested one.

A decoder follows its level input as well as it has learned to: late in quick attacks, too soft in registers with few
recordings. Its reverb adds to the level, at a resonance or while the note before decays; a player hears that and plays
accordingly. The gain stays within ±9 dB.

Shapes: S samples, N levels at the rate of the gate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddsp_cli.analysis.loudness import FrameStream, envelope_stream, loudness_stream
from ddsp_cli.arrays import FloatArray, RealArray
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec, ModelConfig
from ddsp_cli.synthesis.reverb import Room
from ddsp_cli.synthesis.synths import Ramp

#: Bound of the gain, up and down.
MAX_CORRECTION_DB = 9.0

#: Bound of the part of the gain that makes up for the reverb: notes that it covers must not become much softer still.
MAX_REVERB_CORRECTION_DB = 4.0

#: The gain is averaged over this time.
SMOOTH_S = 0.04


def level_stream(spec: FeatureSpec, level: str, sample_rate_hz: int, hop_samples: int) -> FrameStream | None:
    """Chooses how the level of the synthesised sound is measured.

    Power is measured in the shorter window of the envelope, at any rate; loudness, whose window is about as short, at
    16 kHz and by the definition of 2022.

    Args:
      spec: windows and floor.
      level: `power_db` or `loudness_db`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.

    Returns:
      A stream of levels, or None where the level cannot be measured at this rate.
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


class _WindowedLevel:
    """Averages the power of levels over a Hann window, as the meter of the sound does; rests stay rests.

    Requested levels change faster than a meter follows. Compared with it as they are, they would ask for a higher level
    at each attack, and for a lower one just before it.

    Args:
      window_frames: length of the window in levels.
    """

    def __init__(self, window_frames: float) -> None:
        self._half = max(1, round(window_frames / 2)) - 1
        kernel = np.hanning(2 * self._half + 3)[1:-1]
        self._kernel = kernel / kernel.sum()
        self._levels_db = np.full(self._half, -np.inf)  # silence before the first level

    def push(self, levels_db: RealArray) -> RealArray:
        """Takes levels [N], -inf in rests; gives those [n] whose window is complete."""
        self._levels_db = levels_db = np.concatenate([self._levels_db, levels_db])
        n_ready = len(levels_db) - 2 * self._half
        if n_ready <= 0:
            return np.zeros(0)
        self._levels_db = levels_db[n_ready:]
        own_db = levels_db[self._half : self._half + n_ready]
        power = np.convolve(10.0 ** (levels_db / 10.0), self._kernel, "valid")
        return np.where(np.isfinite(own_db), 10.0 * np.log10(np.maximum(power, np.finfo(float).tiny)), -np.inf)

    def finish(self) -> RealArray:
        """Gives the rest [n]; silence follows the last level."""
        return self.push(np.full(self._half, -np.inf))


class LevelCorrection:
    """Corrects the level of dry sound, as a stream; the smoothing delays the output.

    Args:
      measure: the level of the sound, see `level_stream`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.
      reverb: the reverb that follows, and a meter of the sound after it; None without reverb.
    """

    def __init__(
        self,
        measure: FrameStream,
        sample_rate_hz: int,
        hop_samples: int,
        reverb: tuple[Room, FrameStream] | None = None,
    ) -> None:
        self._measure, self._reverb = measure, reverb
        self._half = half = max(1, round(SMOOTH_S * sample_rate_hz / hop_samples / 2))
        self._kernel = np.hanning(2 * half + 3)[1:-1]
        self._requested = _WindowedLevel(measure.window_samples / hop_samples)
        self._ramp = Ramp(hop_samples)
        self._dry = np.zeros(0, np.float32)
        self._gain = np.zeros(0, np.float32)
        # Levels that are requested, of the dry sound, and after the reverb.
        self._levels_db: list[RealArray] = [np.zeros(0)] * (2 if reverb is None else 3)
        # Corrections and their weights, which begin with as many of weight 0 as the average reaches back.
        self._corrections = np.zeros((2, half))

    def push(self, dry: RealArray, requested_db: RealArray) -> FloatArray:
        """Takes the next samples [S] and requested levels [N], -inf in rests; gives the samples whose gain is known."""
        self._dry = np.concatenate([self._dry, dry])
        levels_db = [self._requested.push(requested_db), self._measure.push(dry)]
        if self._reverb is not None:
            reverb, measure = self._reverb
            levels_db.append(measure.push(reverb.push(dry)))
        return self._advance(levels_db, last=False)

    def finish(self, requested_db: RealArray) -> FloatArray:
        """Takes the last requested levels; gives the rest, so that the output is as long as the input."""
        requested_db = np.concatenate([self._requested.push(requested_db), self._requested.finish()])
        levels_db = [requested_db, self._measure.finish()]
        if self._reverb is not None:
            levels_db.append(self._reverb[1].finish())
        return self._advance(levels_db, last=True)

    def _advance(self, levels_db: list[RealArray], last: bool) -> FloatArray:
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
    def _correction(requested_db: RealArray, dry_db: RealArray, wet_db: RealArray | None = None) -> RealArray:
        """Returns the gain in dB [n] from the measured to the requested level, within bounds."""
        correction = requested_db - dry_db
        if wet_db is not None:
            for_reverb = np.clip(dry_db - wet_db, -MAX_REVERB_CORRECTION_DB, MAX_REVERB_CORRECTION_DB)
            correction = correction + for_reverb
        return np.clip(correction, -MAX_CORRECTION_DB, MAX_CORRECTION_DB)


def make_level_correction(
    spec: FeatureSpec, model: ModelConfig, hop_samples: int, make_reverb: Callable[[], Room] | None
) -> LevelCorrection | None:
    """Makes the level correction of an instrument.

    Args:
      spec: how the levels that drive it are measured.
      model: names its level and rate.
      hop_samples: samples between two levels.
      make_reverb: makes the room that follows; None for none.

    Returns:
      The correction, or None where its level cannot be measured, see `level_stream`.
    """
    dry, wet = (level_stream(spec, model.level, model.sample_rate_hz, hop_samples) for _ in range(2))
    if dry is None or wet is None:
        return None
    reverb = None if make_reverb is None else (make_reverb(), wet)
    return LevelCorrection(dry, model.sample_rate_hz, hop_samples, reverb)
