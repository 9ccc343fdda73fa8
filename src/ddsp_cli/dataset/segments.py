"""Choose the parts of a recording to train on: notes, a margin around them, and some of the rests; remove rumble.

Segments are pairs (start, end) of frames at 250 Hz on a grid of 20 ms, where the samples of every model rate are whole
numbers (882 at 44.1 kHz). Shapes: S samples, F frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ddsp_cli.arrays import FloatArray, percentiles, runs, spans_to_mask

Segment = tuple[int, int]

#: Segments begin and end at multiples of this many frames, 20 ms at 250 Hz.
GRID_FRAMES = 5

#: Margins kept before the first frame of a note (breath, bow) and after its last (release, room).
BEFORE_S = 0.1
AFTER_S = 0.5

#: Shorter runs of voiced frames are tracker errors, not notes.
MIN_NOTE_S = 0.06

#: Frames more than this below the loudest notes are other sounds of the room.
MAX_DYNAMICS_DB = 50.0

#: Lowest level of a note in dBFS.
MIN_NOTE_DB = -70.0

#: Length of the fades at cuts, which prevent clicks.
FADE_S = 0.005

#: A high-pass filter removes rumble, such as steps, traffic and wind. Edges of its stop band and pass band, relative to
#: the lowest note.
STOP, PASS = 0.6, 0.9

#: Attenuation of the stop band; the ripple of the pass band is then 0.01 dB.
STOP_DB = 60.0

#: Lowest edge of the stop band.
LEAST_HZ = 30.0

#: Total duration in seconds of the lowest frames, which are ignored: the tracker reads some too low.
OUTLIERS_S = 0.5


def note_frames(f0_hz: np.ndarray, power_db: np.ndarray, frame_rate_hz: int = 250) -> np.ndarray:
    """Returns frames with a note: voiced for at least `MIN_NOTE_S`, and within `MAX_DYNAMICS_DB` of the loudest notes.

    Args:
      f0_hz: [F], 0 where there is no pitch.
      power_db: [F] RMS level.
      frame_rate_hz: of both.

    Returns:
      [F] bool.
    """
    voiced = f0_hz > 0
    if not voiced.any():
        return voiced
    loudest_db = float(percentiles(power_db[voiced], 95))
    voiced = voiced & (power_db >= max(loudest_db - MAX_DYNAMICS_DB, MIN_NOTE_DB))
    return without_short_runs(voiced, round(MIN_NOTE_S * frame_rate_hz))


def without_short_runs(mask: np.ndarray, n_least: int) -> np.ndarray:
    """Returns the mask [F] without its runs of fewer than `n_least` true values."""
    starts, stops = runs(mask)
    long = stops - starts >= n_least
    return spans_to_mask(starts[long], stops[long], len(mask))


def segments(notes: np.ndarray, frame_rate_hz: int = 250, unwanted: np.ndarray | None = None) -> list[Segment]:
    """Chooses the segments of a recording to keep: notes with their margins. Longer rests lose their middle.

    Args:
      notes: [F] bool, see `note_frames`.
      frame_rate_hz: of the mask.
      unwanted: [F] bool, frames to leave out. Parts between them without a whole note are left out too.

    Returns:
      Disjoint segments in order, on the grid; the last may end up to 20 ms after the recording.
    """
    before, after = round(BEFORE_S * frame_rate_hz), round(AFTER_S * frame_rate_hz)
    n_cells = -(-len(notes) // GRID_FRAMES)
    kept = np.zeros(n_cells, bool)
    for note_start, note_end in zip(*runs(notes if unwanted is None else notes & ~unwanted), strict=True):
        kept[max(0, note_start - before) // GRID_FRAMES : -(-(note_end + after) // GRID_FRAMES)] = True
    n_least = 0
    if unwanted is not None and unwanted.any():
        cells = np.pad(unwanted, (0, n_cells * GRID_FRAMES - len(unwanted))).reshape(-1, GRID_FRAMES)
        kept &= ~cells.any(axis=1)
        n_least = round(MIN_NOTE_S * frame_rate_hz)
    found = [(int(start) * GRID_FRAMES, int(end) * GRID_FRAMES) for start, end in zip(*runs(kept), strict=True)]
    return [(start, end) for start, end in found if notes[start:end].sum() >= n_least]


def total_frames(kept: Sequence[Segment]) -> int:
    """Returns the number of frames in all segments."""
    return sum(end - start for start, end in kept)


def gather(values: np.ndarray, kept: Sequence[Segment]) -> np.ndarray:
    """Joins the frames of the segments; frames after the end of the recording are 0."""
    parts = [values[start:end] for start, end in kept]
    joined = np.concatenate(parts) if parts else values[:0]
    whole = np.zeros(total_frames(kept), joined.dtype)
    whole[: len(joined)] = joined
    return whole


def cut(
    blocks: Iterable[np.ndarray], kept: Sequence[Segment], rate_hz: int, frame_rate_hz: int
) -> Iterator[np.ndarray]:
    """Cuts the segments out of a stream of audio, with a short fade at either end of each.

    Args:
      blocks: [S] each, the recording from its start.
      kept: segments in order, on the grid.
      rate_hz: of the sound.
      frame_rate_hz: of the segments.

    Yields:
      [S] float32; in all the samples of the segments, padded with silence after the end of the recording.
    """
    bounds = [tuple(frame * rate_hz // frame_rate_hz for frame in segment) for segment in kept]
    n_fade = max(1, round(FADE_S * rate_hz))
    first, position, n_out = 0, 0, 0
    for block in blocks:
        block_end = position + len(block)
        for start, end in bounds[first:]:
            if start >= block_end:
                break
            low, high = max(start, position), min(end, block_end)
            if low < high:
                index = np.arange(low, high)
                ramp = np.minimum(index - start + 0.5, end - index - 0.5) / n_fade
                yield (block[low - position : high - position] * np.minimum(ramp, 1.0)).astype(np.float32)
                n_out += high - low
            first += end <= block_end
        position = block_end
    missing = sum(end - start for start, end in bounds) - n_out
    if missing:
        yield np.zeros(missing, np.float32)


def quietest_cut(power_db: np.ndarray, low: float, high: float, frame_rate_hz: int) -> int:
    """Finds the quietest frame at which to split a recording in two, between two shares of its length, on the grid.

    Args:
      power_db: [F] of the kept frames.
      low: least share of the length before the cut.
      high: greatest share.
      frame_rate_hz: of the frames.

    Returns:
      A frame, a multiple of `GRID_FRAMES`.
    """
    n_smooth = max(1, frame_rate_hz // 20)
    energy = 10.0 ** (power_db.astype(np.float64) / 10.0)
    smooth = np.convolve(energy, np.ones(n_smooth) / n_smooth, mode="same")
    first = int(low * len(power_db)) // GRID_FRAMES
    last = max(first + 1, int(high * len(power_db)) // GRID_FRAMES)
    return int(np.argmin(smooth[first * GRID_FRAMES : last * GRID_FRAMES : GRID_FRAMES]) + first) * GRID_FRAMES


def lowest_hz(parts: Iterable[FloatArray], frame_rate_hz: int) -> float:
    """Finds the lowest note in the F0 of several parts, in memory that does not grow with their number.

    Args:
      parts: F0 [F] each, 0 where unvoiced.
      frame_rate_hz: of the frames.

    Returns:
      The lowest F0 in Hz after the lowest `OUTLIERS_S` of the voiced frames; 0 where fewer frames are voiced.
    """
    n_kept = round(OUTLIERS_S * frame_rate_hz) + 1
    lowest = np.zeros(0, np.float32)
    for f0_hz in parts:
        lowest = np.sort(np.concatenate([lowest, f0_hz[f0_hz > 0]]))[:n_kept]
    return float(lowest[-1]) if len(lowest) == n_kept else 0.0


def remove_rumble(
    read: Callable[[int, int], FloatArray], n_samples: int, lowest_hz: float, rate_hz: int, first: int, last: int
) -> FloatArray:
    """High-pass filters a part of a sound with linear phase, its delay compensated.

    Args:
      read: (first, last) → the samples [first, last) of the sound, both inside it.
      n_samples: length of the sound; it is silent outside.
      lowest_hz: the lowest note, see `lowest_hz`.
      rate_hz: sample rate of the sound.
      first, last: which samples to filter.

    Returns:
      [last - first].
    """
    from scipy.signal import oaconvolve

    taps = _taps(lowest_hz, rate_hz)
    half = len(taps) // 2
    low, high = first - half, last + half
    inside = read(max(low, 0), min(high, n_samples))
    around = np.zeros(high - low)
    around[max(-low, 0) : max(-low, 0) + len(inside)] = inside
    filtered: FloatArray = oaconvolve(around, taps, mode="valid").astype(np.float32)
    return filtered


@functools.lru_cache(maxsize=4)  # all recordings of a data set have the same filter
def _taps(lowest_hz: float, rate_hz: int) -> FloatArray:
    """Returns the impulse response of the filter."""
    from scipy.signal import firwin, kaiserord

    stop_hz, pass_hz = max(STOP * lowest_hz, LEAST_HZ), max(PASS * lowest_hz, 1.5 * LEAST_HZ)
    n_taps, beta = kaiserord(STOP_DB, 2.0 * (pass_hz - stop_hz) / rate_hz)
    taps: FloatArray = firwin(
        n_taps | 1, (stop_hz + pass_hz) / 2.0, window=("kaiser", beta), pass_zero=False, fs=rate_hz
    )
    return taps
