"""Find faults of a recording: clipping, mains hum, a file cut short, an upper edge of its spectrum.

Lossy codecs and sample rates leave nothing above a sharp edge, which an instrument must not learn: MP3 ends at 13 to
16 kHz, a recording at 44.1 kHz at 22.05 kHz. Shapes: S samples, C channels.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, IntArray, hann_window, runs
from ddsp_cli.audio.read import Decoded
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: This many samples in a row at full scale are clipped.
CLIPPED_SAMPLES = 3

FULL_SCALE = 0.999

#: A sound that was clipped and then turned down has flat tops at one level below full scale, its ceiling. In a flat top
#: `CLIPPED_SAMPLES` or more lie within `TOP_SHARE` of the ceiling, and on both sides of it, half its length away, the
#: sound is lower by `FALL_SHARE`; a parabola falls there by only four times as much as within its top. None of 1957
#: recordings has flat tops; all of 1242 copies that were clipped at 3 to 12 dB below their peak have them
#: (`benchmarks/clipping.py`).
TOP_SHARE, FALL_SHARE = 0.002, 0.02

#: A channel is clipped there if it has this many flat tops: the highest peak of a natural sound is alone.
N_TOPS = 8

#: Resampling and lossy encoding round the tops, but samples still crowd at the ceiling, above and below the middle. It
#: lies in the upper part of the amplitudes, from this share of the highest on, and within 5 % of it lie this many times
#: as many samples as between 15 and 25 % below. A sine has 1.9 times as many; one side alone of a saxophone has 5.1. Of
#: 1957 recordings none is taken for clipped; of copies that were clipped at 12 dB below their peak and then resampled
#: or encoded 9 of 10 are noticed, at 6 dB a third (`benchmarks/clipping.py`).
CROWD_FROM, CROWDED = 0.78, 3.5

#: The densest level is looked for from this share of the highest on.
SEARCHED_FROM = 0.64

#: Amplitudes are counted in steps of 2 % from -40 dBFS on, those above this share of the highest in their block.
COUNTED_SHARE, LOWEST_COUNTED, STEP_LOG, N_STEPS = 0.3, 0.01, 0.02, 240

#: A ceiling is not looked for below this: steps of 16 bits would be as large as `TOP_SHARE`.
LOWEST_CEILING = 0.02

#: A square wave, as old synthesisers and games play it, also has flat tops, but it jumps where a clipped sound swings.
#: It is one if at least `JUMP_SHARE` of the falls below `FALL_FROM` of the ceiling (`N_TOPS` or more) reach `LANDING`
#: of it within one sample; after resampling and encoding, minus `LANDING` of it within two samples.
FALL_FROM, LANDING, JUMP_SHARE = 0.8, 0.5, 0.9

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
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self._channels: list[tuple[_Ceiling, _Ceiling]] = []

    def __call__(self, block: FloatArray) -> None:
        """Takes the next samples. Runs across the edge of two blocks are not seen; blocks last seconds."""
        while len(self._channels) < block.shape[1]:
            self._channels.append((_Ceiling(), _Ceiling()))
        for channel, (above, below) in zip(block.T, self._channels, strict=False):
            above.push(channel, self.n_samples)
            below.push(-channel, self.n_samples)
        self.n_samples += len(block)

    @property
    def n_clipped(self) -> int:
        """Samples that are clipped, in the channel that has most of them."""
        return max((_n_clipped(*sides) for sides in self._channels), default=0)

    @property
    def is_heavy(self) -> bool:
        """Whether the clipping is heavy enough to change the notes."""
        return self.n_clipped > HEAVY_CLIPPING * self.n_samples

    def places_s(self, rate_hz: int) -> list[tuple[float, float]]:
        """Returns the start and end of each clipped place in seconds, in order."""
        spans = sorted(span for pair in self._channels for one in pair if one.n_in_tops for span in one.spans)
        places: list[tuple[float, float]] = []
        for start, end in spans:
            start_s, end_s = start / rate_hz, max(start, end - CLIPPED_SAMPLES + 1) / rate_hz
            if places and start_s - places[-1][1] < APART_S:
                places[-1] = (places[-1][0], max(places[-1][1], end_s))
            else:
                places.append((start_s, end_s))
        return places


class _Ceiling:
    """The highest level of one side of a channel, and the flat tops at it.

    Attributes:
      spans: first and last sample of each stretch of them, in order.
    """

    def __init__(self) -> None:
        self._level = 0.0
        self._counts = np.zeros(N_STEPS, np.int64)
        # falls, jumps within one sample and within two that pass each step, as differences from one step to the next
        self._passing = np.zeros((3, N_STEPS + 1), np.int64)
        self._forget()

    def _forget(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self._n_tops = self._n_samples = 0

    @property
    def n_in_tops(self) -> int:
        """Samples in flat tops, whose places are known; 0 where there are too few to tell."""
        enough = self._n_tops >= (1 if self._level >= FULL_SCALE else N_TOPS)
        return self._n_samples if enough and not self._is_square_wave(self._level, 1) else 0

    def crowd(self) -> tuple[int, int] | None:
        """Counts samples near the level at which they crowd, and below it; None where that is not the highest level."""
        if not self._counts.any() or self._level >= FULL_SCALE:
            return None
        amplitudes = LOWEST_COUNTED * np.exp(STEP_LOG * (np.arange(N_STEPS) + 0.5))
        highest = amplitudes[np.flatnonzero(self._counts)[-1]]
        density = np.where(amplitudes >= SEARCHED_FROM * highest, self._counts / amplitudes, 0.0)
        level = amplitudes[int(np.argmax(density))]
        if level < max(CROWD_FROM * highest, LOWEST_CEILING) or self._is_square_wave(level, 2):
            return None
        relative = amplitudes / level
        near = int(self._counts[(relative >= 0.95) & (relative <= 1.05)].sum())
        return near, int(self._counts[(relative >= 0.75) & (relative < 0.85)].sum())

    def _is_square_wave(self, level: float, n_samples: int) -> bool:
        """Whether most falls from a level are jumps within 1 or 2 samples (`n_samples`), see `JUMP_SHARE`."""
        step = int(_steps(np.array([FALL_FROM * level]))[0])
        passing = self._passing[:, : step + 1].sum(axis=1)
        return bool(passing[n_samples] >= max(JUMP_SHARE * passing[0], N_TOPS))

    def _count_falls(self, channel: FloatArray, least: float) -> None:
        """Counts the falls of a channel [S] from at least a level, and the jumps among them, at the steps they pass."""
        starts = np.flatnonzero((channel[:-2] >= least) & (channel[1:-1] < channel[:-2]))
        high, low, later = channel[starts], channel[starts + 1], channel[starts + 2]
        passed = ((low, high), (low / LANDING, high), (low, np.minimum(high, later / -LANDING)))
        for counts, ends in zip(self._passing, passed, strict=True):
            first, last = (_steps(np.maximum(end, LOWEST_COUNTED)) + 1 for end in ends)
            passes = first < last
            counts += np.bincount(first[passes], minlength=N_STEPS + 1)
            counts -= np.bincount(last[passes], minlength=N_STEPS + 1)

    def push(self, channel: FloatArray, n_before: int) -> None:
        """Takes the next samples [S], of which `n_before` came before."""
        if not len(channel):
            return
        highest = min(float(channel.max()), 1.0)
        least = max(COUNTED_SHARE * highest, LOWEST_COUNTED)
        self._counts += np.bincount(_steps(channel[channel >= least]), minlength=N_STEPS)
        self._count_falls(channel, least)
        if highest < max(LOWEST_CEILING, (1.0 - TOP_SHARE) * self._level):
            return
        if highest > (1.0 + TOP_SHARE) * self._level:  # what lay below was no ceiling
            self._forget()
        self._level = max(self._level, highest)
        starts, stops = _flat_tops(channel, self._level)
        self._n_tops += len(starts)
        self._n_samples += int((stops - starts).sum())
        if len(starts):
            breaks = np.flatnonzero(starts[1:] - stops[:-1] >= _SPAN_GAP_SAMPLES)
            firsts, lasts = starts[np.r_[0, breaks + 1]], stops[np.r_[breaks, len(stops) - 1]] - 1
            self.spans += [(int(a) + n_before, int(b) + n_before) for a, b in zip(firsts, lasts, strict=True)]


def _steps(amplitudes: FloatArray) -> IntArray:
    """Returns the step of each amplitude, 0 to `N_STEPS` - 1."""
    steps = (np.log(amplitudes / np.float32(LOWEST_COUNTED)) / np.float32(STEP_LOG)).astype(np.int64)
    return np.clip(steps, 0, N_STEPS - 1)


def _n_clipped(above: _Ceiling, below: _Ceiling) -> int:
    """Returns samples of a channel that are clipped, above and below the middle."""
    n_in_tops = above.n_in_tops + below.n_in_tops
    crowds = (above.crowd(), below.crowd())
    if n_in_tops or crowds[0] is None or crowds[1] is None:
        return n_in_tops
    near, beneath = crowds[0][0] + crowds[1][0], crowds[0][1] + crowds[1][1]
    return near if near >= CROWDED * max(beneath, 1) else 0


def _flat_tops(channel: FloatArray, level: float) -> tuple[IntArray, IntArray]:
    """Returns starts and stops (exclusive) of the flat tops of a channel [S] at a level."""
    if level >= FULL_SCALE:
        starts, stops = runs(channel >= FULL_SCALE)
        # Beside a step of a wave that was computed in steps the sound is constant.
        left, right = np.maximum(starts - 2, 0), np.minimum(stops + 1, len(channel) - 1)
        moves = (channel[left] != channel[np.maximum(starts - 1, 0)]) | (
            channel[right] != channel[np.minimum(stops, len(channel) - 1)]
        )
        is_top = (stops - starts >= CLIPPED_SAMPLES) & (moves | (starts < 2) | (stops > len(channel) - 2))
        return starts[is_top], stops[is_top]
    starts, stops = runs(channel >= (1.0 - TOP_SHARE) * level)
    is_long = stops - starts >= CLIPPED_SAMPLES
    starts, stops = starts[is_long], stops[is_long]
    reach = -(-(stops - starts) // 2)
    left, right = starts - reach, stops - 1 + reach
    is_inside = (left >= 0) & (right < len(channel))
    starts, stops, left, right = starts[is_inside], stops[is_inside], left[is_inside], right[is_inside]
    beside = np.maximum(channel[left], channel[right])
    # Where every sample is repeated, as after a resampling by repetition, the sound does not keep falling.
    goes_on = (channel[left] < channel[starts - 1]) & (channel[right] < channel[stops])
    is_sharp = goes_on & (beside <= (1.0 - FALL_SHARE) * level)
    return starts[is_sharp], stops[is_sharp]


def file_warnings(decoded: Decoded, clipping: ClippingWatch, sample_rate_hz: int) -> tuple[str, ...]:
    """Returns sentences about a file that was read to its end: cut short, heavily clipped.

    Args:
      decoded: result of decoding it.
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
                if level_db[at] - _around_db(level_db, at) > HUM_OVER_DB
                and level_db[at] > HUM_LEAST_DB
                and level_db[at] >= level_db[at - 2 : at + 3].max()  # a held bass note lies beside it
            ]
            if len(loudest) >= 2:
                found.append((float(max(loudest)), mains_hz))
        return (max(found)[1], max(found)[0]) if found else None


def _around_db(level_db: FloatArray, at: int) -> float:
    """Returns the median level 4 to 12 Hz beside a frequency."""
    return float(np.median(np.concatenate([level_db[max(at - 12, 0) : at - 3], level_db[at + 4 : at + 13]])))


#: An edge is a fall by this much ...
EDGE_DB = 20.0

#: ... between the mean levels of two bands of this width ...
EDGE_BAND_HZ = 1000.0

#: ... with this distance between them. Instruments and microphones fall by less than 12 dB in this range.
EDGE_GAP_HZ = 400.0

#: Lowest edge that is searched; telephone bands are below it, and cannot be trained on.
LOWEST_EDGE_HZ = 6000.0

#: Distance of the places that are tried, and length of the spectra.
EDGE_STEP_HZ, SPECTRUM_S = 100.0, 0.085


def bandwidth_hz(audio: FloatArray, sample_rate_hz: int) -> float:
    """Measures the upper edge of the spectrum of a recording.

    Args:
      audio: [S].
      sample_rate_hz: of the audio.

    Returns:
      The frequency just below the lowest edge, or half the sample rate if there is no edge or no sound.
    """
    nyquist_hz = sample_rate_hz / 2.0
    size = int(SPECTRUM_S * sample_rate_hz)
    if len(audio) < 2 * size or nyquist_hz <= LOWEST_EDGE_HZ + EDGE_BAND_HZ + EDGE_GAP_HZ:
        return nyquist_hz
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, np.float32), size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * hann_window(size), axis=1)) ** 2
    loud = power.sum(axis=1)
    power = power[loud >= np.median(loud)].mean(axis=0)
    if not power.any():
        return nyquist_hz
    # Tones stand out of their surroundings: the median of the logarithm is the level between them.
    level_db = 10.0 * np.log10(power + 1e-18 * power.max())
    hz = np.arange(len(level_db)) * nyquist_hz / (len(level_db) - 1)
    centres_hz = np.arange(LOWEST_EDGE_HZ, nyquist_hz, EDGE_STEP_HZ)

    def band_db(first_hz: np.ndarray) -> np.ndarray:
        starts = np.searchsorted(hz, first_hz)
        stops = np.minimum(np.searchsorted(hz, first_hz + EDGE_BAND_HZ), len(hz))
        return np.array([np.median(level_db[i:j]) if j - i > 4 else np.nan for i, j in zip(starts, stops, strict=True)])

    fall_db = band_db(centres_hz - EDGE_BAND_HZ - EDGE_GAP_HZ / 2.0) - band_db(centres_hz + EDGE_GAP_HZ / 2.0)
    fall_db = np.nan_to_num(fall_db)
    edges = np.flatnonzero(fall_db >= EDGE_DB)
    if not len(edges):
        return nyquist_hz
    # the fall is complete where the edge is in the gap between the bands
    around = fall_db[edges[0] : edges[0] + round((EDGE_BAND_HZ + EDGE_GAP_HZ) / EDGE_STEP_HZ)]
    return float(centres_hz[edges[0] + int(np.argmax(around >= around.max() - 1.0))] - EDGE_GAP_HZ)
