"""The level that is asked for is the level that sounds: slow gain that evens out where an instrument plays otherwise.

An instrument follows the level it is given as well as it has learned to: late in quick attacks, too soft in registers
that it hardly knows. Both levels are measured in the same window, so the correction can be as slow as a hand on a
fader. Shapes: S samples, N levels at the rate of the gate.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.features.loudness import FrameStream, loudness_stream, power_to_db
from ddsp_cli.runtime.synthesis import Ramp

#: No further than this is anything turned up or down.
MOST_DB = 9.0

#: The gain is averaged over this long.
SMOOTH_S = 0.068


def measured_as(spec: FeatureSpec, level: str, sample_rate_hz: int, hop_samples: int) -> FrameStream | None:
    """What measures the level that drives an instrument in its own sound; None where that cannot be done.

    Power can be measured at any rate, loudness at 16 kHz and as it is defined since 2022.

    Args:
      spec: windows and floor.
      level: `power_db` or `loudness_db`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.
    """
    if level == "power_db":
        window_samples = spec.power_window_samples * sample_rate_hz // ANALYSIS_RATE_HZ

        def measure(windows: np.ndarray) -> np.ndarray:
            energy = np.einsum("fs,fs->f", windows, windows, dtype=np.float64)
            return power_to_db(energy / windows.shape[-1], spec.floor_db)

        return FrameStream(window_samples, hop_samples, measure)
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
      have: measures the sound, see `measured_as`.
      sample_rate_hz: of the sound.
      hop_samples: samples between two levels.
    """

    def __init__(self, have: FrameStream, sample_rate_hz: int, hop_samples: int) -> None:
        self._have = have
        half = max(1, round(SMOOTH_S * sample_rate_hz / hop_samples / 2))
        self._kernel = np.hanning(2 * half + 3)[1:-1]
        self._half = half
        self._ramp = Ramp(hop_samples)
        self._dry = np.zeros(0, np.float32)
        self._gain = np.zeros(0, np.float32)
        self._want_db = np.zeros(0)
        self._have_db = np.zeros(0)
        # Corrections and their weights, after as many of no weight as the average looks back.
        self._corrections = np.zeros((2, half))

    def push(self, dry: np.ndarray, want_db: np.ndarray) -> np.ndarray:
        """The next samples [S] and levels [N], -inf in rests; gives the samples that are settled."""
        self._dry = np.concatenate([self._dry, dry])
        return self._advance(want_db, self._have.push(dry), last=False)

    def finish(self, want_db: np.ndarray) -> np.ndarray:
        """The rest, so that as many samples have come out as went in."""
        return self._advance(want_db, self._have.finish(), last=True)

    def _advance(self, want_db: np.ndarray, have_db: np.ndarray, last: bool) -> np.ndarray:
        self._want_db = np.concatenate([self._want_db, want_db])
        self._have_db = np.concatenate([self._have_db, have_db])
        n = min(len(self._want_db), len(self._have_db))
        want_db, self._want_db = self._want_db[:n], self._want_db[n:]
        have_db, self._have_db = self._have_db[:n], self._have_db[n:]
        weight = np.isfinite(want_db).astype(np.float64)
        correction = np.clip(np.where(weight > 0, want_db, have_db) - have_db, -MOST_DB, MOST_DB)
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
