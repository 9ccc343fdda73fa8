"""What is wrong with a recording as it comes in: clipping, hum of the mains. Shapes: S samples, C channels."""

from __future__ import annotations

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ

#: So many samples in a row at full scale are no wave any more.
CLIPPED_SAMPLES = 3

FULL_SCALE = 0.999

#: Clipped places nearer to each other than this are one place.
APART_S = 0.25

#: Frequencies of the mains, and how many multiples are looked at.
MAINS_HZ = (50, 60)

N_MULTIPLES = 4

#: Hum is heard from about here: over its surroundings, and in dBFS.
HUM_OVER_DB = 15.0

HUM_LEAST_DB = -75.0


class ClippingWatch:
    """Finds where a recording was driven beyond full scale. Shown the blocks [S, C] as they were decoded."""

    def __init__(self) -> None:
        self._n_samples = 0
        self._at: list[np.ndarray] = []

    def __call__(self, block: np.ndarray) -> None:
        """The next samples. Runs across the edge of two blocks are not seen; blocks last seconds."""
        if len(block) >= CLIPPED_SAMPLES and max(block.max(), -block.min()) >= FULL_SCALE:
            for channel in block.T:
                for full in (channel >= FULL_SCALE, channel <= -FULL_SCALE):
                    runs = full[2:] & full[1:-1] & full[:-2]
                    self._at.append(np.flatnonzero(runs) + self._n_samples)
        self._n_samples += len(block)

    def places_s(self, rate_hz: int) -> list[tuple[float, float]]:
        """Start and end of each clipped place in seconds, in order."""
        places: list[tuple[float, float]] = []
        for at_s in np.unique(np.concatenate([np.zeros(0, np.int64), *self._at])) / rate_hz:
            if places and at_s - places[-1][1] < APART_S:
                places[-1] = (places[-1][0], float(at_s))
            else:
                places.append((float(at_s), float(at_s)))
        return places


class HumWatch:
    """Listens for 50 or 60 Hz and their multiples beneath the music. Shown the sound at 16 kHz, block by block.

    Each second is analysed alone; hum is what stands out in the quietest fifth of the seconds at each frequency, which
    no melody does. Memory: 1 kB a second.
    """

    def __init__(self) -> None:
        size = ANALYSIS_RATE_HZ
        self._window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
        self._rest = np.zeros(0, np.float32)
        self._seconds: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> None:
        """The next samples [S]."""
        audio = np.concatenate([self._rest, block])
        n_whole = len(audio) // ANALYSIS_RATE_HZ
        for start in range(0, n_whole * ANALYSIS_RATE_HZ, ANALYSIS_RATE_HZ):
            second = audio[start : start + ANALYSIS_RATE_HZ] * self._window
            # Bins are 1 Hz apart; only the lowest are needed, so the sound may be thinned before it is analysed.
            thinned = second.reshape(-1, 16).mean(axis=1)
            self._seconds.append(np.abs(np.fft.rfft(thinned)[:256]).astype(np.float32))
        self._rest = audio[n_whole * ANALYSIS_RATE_HZ :].copy()

    def finish(self) -> tuple[int, float] | None:
        """Frequency of the mains in Hz and level of its strongest multiple in dBFS; None where nothing hums."""
        if len(self._seconds) < 5:
            return None
        quiet = np.percentile(np.stack(self._seconds), 20, axis=0)
        # a sine of amplitude 1 reads 250 here: 1000 samples, half of that for one side, half for the window
        level_db = 20.0 * np.log10(np.maximum(quiet / 250.0, 1e-9))
        found: list[tuple[float, int]] = []
        for mains_hz in MAINS_HZ:
            loudest = [
                level_db[at]
                for at in range(mains_hz, min(256, mains_hz * N_MULTIPLES + 1), mains_hz)
                if level_db[at] - _around_db(level_db, at) > HUM_OVER_DB and level_db[at] > HUM_LEAST_DB
            ]
            if len(loudest) >= 2:
                found.append((float(max(loudest)), mains_hz))
        return (max(found)[1], max(found)[0]) if found else None


def _around_db(level_db: np.ndarray, at: int) -> float:
    """The usual level 4 to 12 Hz beside a frequency."""
    return float(np.median(np.concatenate([level_db[max(at - 12, 0) : at - 3], level_db[at + 4 : at + 13]])))
