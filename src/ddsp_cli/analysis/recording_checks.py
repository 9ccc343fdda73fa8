"""Find faults of a recording: clipping, mains hum, a file cut short. Shapes: S samples, C channels."""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, hann_window
from ddsp_cli.audio.read import Decoded
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: This many samples in a row at full scale are clipped.
CLIPPED_SAMPLES = 3

FULL_SCALE = 0.999

#: Clipped places nearer to each other than this are one place.
APART_S = 0.25

#: Frequencies of the mains, and the number of multiples that are measured.
MAINS_HZ = (50, 60)

N_MULTIPLES = 4

#: Hum is audible from about here: above its surroundings, and in dBFS.
HUM_OVER_DB = 15.0

HUM_LEAST_DB = -75.0


#: From this share of clipped samples on a recording is heavily clipped: its notes buzz.
HEAVY_CLIPPING = 0.005

#: Clipped samples no further from each other than this are stored as one span, which bounds the memory.
_SPAN_GAP_SAMPLES = 64


class ClippingWatch:
    """Finds where a recording was driven beyond full scale. Called with the blocks [S, C] as they were decoded.

    Attributes:
      n_samples: seen so far.
      n_clipped: of them, samples of which at least one channel is clipped.
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self.n_clipped = 0
        self._spans: list[tuple[int, int]] = []

    def __call__(self, block: FloatArray) -> None:
        """Takes the next samples. Runs across the edge of two blocks are not seen; blocks last seconds."""
        if len(block) >= CLIPPED_SAMPLES and max(block.max(), -block.min()) >= FULL_SCALE:
            clipped = np.zeros(len(block), bool)
            for channel in block.T:
                for full in (channel >= FULL_SCALE, channel <= -FULL_SCALE):
                    first = np.flatnonzero(full[2:] & full[1:-1] & full[:-2])
                    for offset in range(CLIPPED_SAMPLES):
                        clipped[first + offset] = True
            at = np.flatnonzero(clipped)
            self.n_clipped += len(at)
            breaks = np.flatnonzero(np.diff(at) > _SPAN_GAP_SAMPLES)
            starts, ends = at[np.r_[0, breaks + 1][: len(at)]], at[np.r_[breaks, len(at) - 1][: len(at)]]
            self._spans += [
                (int(start) + self.n_samples, int(end) + self.n_samples)
                for start, end in zip(starts, ends, strict=True)
            ]
        self.n_samples += len(block)

    @property
    def is_heavy(self) -> bool:
        """Whether so much is clipped that the notes are not those that were played."""
        return self.n_clipped > HEAVY_CLIPPING * self.n_samples

    def places_s(self, rate_hz: int) -> list[tuple[float, float]]:
        """Start and end of each clipped place in seconds, in order."""
        places: list[tuple[float, float]] = []
        for start, end in self._spans:
            start_s, end_s = start / rate_hz, max(start, end - CLIPPED_SAMPLES + 1) / rate_hz
            if places and start_s - places[-1][1] < APART_S:
                places[-1] = (places[-1][0], end_s)
            else:
                places.append((start_s, end_s))
        return places


def file_warnings(decoded: Decoded, clipping: ClippingWatch, sample_rate_hz: int) -> tuple[str, ...]:
    """Sentences about a file that was read to its end: cut short, heavily clipped.

    Args:
      decoded: what decoding it found.
      clipping: having seen all of it.
      sample_rate_hz: its own rate.
    """
    warnings = []
    if decoded.is_cut_short:
        seconds = decoded.n_samples / sample_rate_hz
        warnings.append(f"the file is cut short or damaged; its first {seconds:.1f} s could be read")
    if clipping.is_heavy:
        share = 100.0 * clipping.n_clipped / clipping.n_samples
        warnings.append(f"it is heavily clipped ({share:.1f}% of the samples); record it with less gain")
    return tuple(warnings)


class HumWatch:
    """Finds 50 or 60 Hz and their multiples beneath the music. Takes the sound at 16 kHz, block by block.

    Each second is analysed on its own; hum stands out in the quietest fifth of the seconds at each frequency, which no
    melody does. Memory: 1 kB a second.
    """

    def __init__(self) -> None:
        self._window = hann_window(ANALYSIS_RATE_HZ)
        self._rest = np.zeros(0, np.float32)
        self._seconds: list[FloatArray] = []

    def push(self, block: FloatArray) -> None:
        """Takes the next samples [S]."""
        audio = np.concatenate([self._rest, block])
        n_whole = len(audio) // ANALYSIS_RATE_HZ
        for start in range(0, n_whole * ANALYSIS_RATE_HZ, ANALYSIS_RATE_HZ):
            second = audio[start : start + ANALYSIS_RATE_HZ] * self._window
            # Bins are 1 Hz apart; only the lowest are needed, so the sound is decimated first.
            decimated = second.reshape(-1, 16).mean(axis=1)
            self._seconds.append(np.abs(np.fft.rfft(decimated)[:256]).astype(np.float32))
        self._rest = audio[n_whole * ANALYSIS_RATE_HZ :].copy()

    def finish(self) -> tuple[int, float] | None:
        """Returns the mains frequency in Hz and the level of its strongest multiple in dBFS; None without hum."""
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


def _around_db(level_db: FloatArray, at: int) -> float:
    """The median level 4 to 12 Hz beside a frequency."""
    return float(np.median(np.concatenate([level_db[max(at - 12, 0) : at - 3], level_db[at + 4 : at + 13]])))
