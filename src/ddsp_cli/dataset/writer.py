"""Join recordings, cut them into windows of equal length, measure their levels and write TFRecord shards.

`NoteFigures` counts pitch and level of the frames with a note, for percentiles and histograms of a data set.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddsp_cli.analysis import loudness
from ddsp_cli.bundle import Statistics
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.cache import CutRecording, Job
from ddsp_cli.dataset.manifest import Histogram
from ddsp_cli.dataset.segments import FADE_S, GRID_FRAMES, remove_rumble
from ddsp_cli.scaling import hz_to_midi

#: Largest shard, exceeded by one window at most.
SHARD_BYTES = 100_000_000

#: Knee and ceiling of the soft limiter.
KNEE, CEILING = 0.9, 0.99

#: Seconds of silence for each second of sound, at least REST_S at once: recordings in rooms are never silent.
REST_SHARE, REST_S = 0.03, 2.0

#: Widths of histogram bins: pitch in semitones, level in dB.
SEMITONE, LEVEL_STEP_DB = 1.0, 2.0

#: Resolution of the counted values in semitones or dB: percentiles are off by at most half of it.
RESOLUTION = 1e-3


@dataclass(frozen=True)
class Portion:
    """A part of a recording that goes into a split: frames [start, end) of the kept sound, and its gain.

    Clicks that the gain would bring beyond full scale are limited, see `soft_limit`.
    """

    recording: CutRecording
    start: int
    end: int
    gain: float = 1.0


def soft_limit(audio: np.ndarray) -> np.ndarray:
    """Limits audio [S]: samples above `KNEE` approach `CEILING` by a tanh, samples below are unchanged."""
    level = np.abs(audio)
    room = CEILING - KNEE
    bent = KNEE + room * np.tanh((level - KNEE) / room)
    return np.where(level > KNEE, np.copysign(bent, audio), audio)


class Instruments:
    """Assigns recordings to instruments: by the families in their metadata if all have it, else by folders.

    The folder is that in which recordings lie below the folders that all have in common.

    Args:
      jobs: returns the jobs of the recordings in the data set, named such as `wavs/flute/a.wav`; called several times.

    Attributes:
      names: of the instruments, sorted; empty where there is neither, as in a data set of one instrument.
    """

    def __init__(self, jobs: Callable[[], Iterable[Job]]) -> None:
        first: list[str] | None = None
        last: list[str] = []
        n_least, self._labelled = 0, True
        for job in jobs():  # in order, so that what first and last begin with is what all do
            folders = job.name.split("/")[:-1]
            n_least = len(folders) if first is None else min(n_least, len(folders))
            first, last = (folders, folders) if first is None else (min(first, folders), max(last, folders))
            self._labelled = self._labelled and job.label is not None
        first = first or []
        differing = (i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
        self._depth = next(differing, len(first))
        self.names: list[str] = []
        if self._labelled or n_least > self._depth:
            names = sorted({self._of(job) for job in jobs()})
            self.names = names if len(names) > 1 else []

    def _of(self, job: Job) -> str:
        return job.label.family if self._labelled and job.label else job.name.split("/")[self._depth]

    def index(self, job: Job) -> int:
        """Returns the number of the instrument that plays in a recording."""
        return self.names.index(self._of(job))


# --- contents of shards --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Settings that all shards of a data set share.

    Attributes:
      sample_rate_hz: the model's rate.
      spec: how the features are measured.
      window_s: length of an example.
      lowest_hz: F0 of the lowest note; a high-pass filter removes sound below it.
      labelled: frames are labelled with the instrument that plays.
    """

    sample_rate_hz: int
    spec: FeatureSpec
    window_s: float
    lowest_hz: float
    labelled: bool = False

    @property
    def window_frames(self) -> int:
        """Frames of an example."""
        return round(self.window_s * self.spec.frame_rate_hz)

    @property
    def context_frames(self) -> int:
        """Frames on each side of a window whose sound affects its levels, on the grid."""
        reach = max(self.spec.loudness_window_samples, self.spec.power_window_samples)
        return -(-reach // (self.spec.hop_samples * GRID_FRAMES)) * GRID_FRAMES

    @functools.cached_property
    def n_in_shard(self) -> int:
        """Examples of a shard."""
        empty = {name: np.zeros(n) for name, n in self.lengths(self.window_frames).items()}
        return max(1, SHARD_BYTES // len(tfrecord.encode_example(empty)))

    def lengths(self, n_frames: int) -> dict[str, int]:
        """Returns the number of values of each feature in `n_frames`."""
        n = dict.fromkeys((*tfrecord.FRAME_FEATURES, *([tfrecord.INSTRUMENT] if self.labelled else [])), n_frames)
        n[tfrecord.AUDIO] = self.samples(n_frames, self.sample_rate_hz)
        n[tfrecord.AUDIO_16K] = self.samples(n_frames, ANALYSIS_RATE_HZ)
        return n

    def samples(self, n_frames: int, rate_hz: int) -> int:
        """Returns the number of samples of a number of frames, a multiple of `GRID_FRAMES`."""
        return n_frames * rate_hz // self.spec.frame_rate_hz


@dataclass(frozen=True)
class Piece:
    """Frames [first, last) of a portion, or as many of silence, and the number of the instrument they belong to."""

    portion: Portion | None
    first: int
    last: int
    instrument: int = 0


@dataclass(frozen=True)
class Shard:
    """The content of one shard.

    Attributes:
      path: of the file; it gets its final name when all are written.
      layout: of the data set.
      pieces: of sound, one after the other, and context before and after them within the windows of the levels.
      n_before: frames of the pieces that belong to the shard before.
      n_examples: how many.
      n_repeated: frames at its end that repeat the beginning of the split; their notes are not counted again.
    """

    path: Path
    layout: Layout
    pieces: tuple[Piece, ...]
    n_before: int
    n_examples: int
    n_repeated: int = 0


@dataclass(frozen=True)
class Written:
    """A shard that was written: its file and digest, how many examples, pitch and levels of their notes."""

    path: Path
    sha256: str
    n_examples: int
    figures: NoteFigures


class SplitPlan:
    """Divides a split into shards, which can be written in any order and by any process.

    Iterating gives the shards one by one, in memory that does not grow with their number.

    Args:
      folder: where the shards go.
      name: "train" or "validation".
      layout: of the data set.
      portions: to write, in this order.
      index: number of the instrument that plays in a recording.
      rests: insert silence between portions, see `REST_SHARE`.

    Attributes:
      n_frames: of all portions, once all shards were given.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        layout: Layout,
        portions: Iterable[Portion],
        index: Callable[[Job], int] = lambda _: 0,
        rests: bool = False,
    ) -> None:
        self.name, self.n_frames = name, 0
        self._end: int | None = None  # of the pieces and rests, once it is known
        self._folder, self._layout, self._portions, self._index, self._rests = folder, layout, portions, index, rests

    def __iter__(self) -> Iterator[Shard]:
        layout, context = self._layout, self._layout.context_frames
        n_in_shard = layout.n_in_shard
        n_whole = n_in_shard * layout.window_frames
        waiting: deque[tuple[int, Piece]] = deque()  # each with its place in the split
        end = n_given = 0
        for piece in self._padded():
            waiting.append((end, piece))
            end += piece.last - piece.first
            while end >= (n_given + 1) * n_whole + context:
                yield self._shard(waiting, n_given, n_in_shard)
                n_given += 1
        while (n_left := -(-(end - n_given * n_whole) // layout.window_frames)) > 0:
            yield self._shard(waiting, n_given, min(n_left, n_in_shard))
            n_given += 1

    def _padded(self) -> Iterator[Piece]:
        """Yields the pieces, and the first ones again, which fill up the last window.

        In half a minute of recordings the validation split is one window, so silence would be a third of it.
        """
        n_frames, first = 0, []
        for piece in self._pieces():
            if n_frames < self._layout.window_frames:
                first.append(piece)
            n_frames += piece.last - piece.first
            yield piece
        self._end = n_frames
        n_left = -n_frames % self._layout.window_frames
        for piece in itertools.cycle(first):
            if not n_left:
                break
            n = min(n_left, piece.last - piece.first)
            yield replace(piece, last=piece.first + n)
            n_left -= n

    def _pieces(self) -> Iterator[Piece]:
        n_frames = n_rest = instrument = 0
        for portion in self._portions:
            instrument = self._index(portion.recording.job)
            n_portion = portion.end - portion.start
            yield Piece(portion, 0, n_portion, instrument)
            n_frames += n_portion
            owed = int(REST_SHARE * n_frames - n_rest) // GRID_FRAMES * GRID_FRAMES
            if self._rests and owed >= REST_S * self._layout.spec.frame_rate_hz:
                yield Piece(None, 0, owed, instrument)  # silence has the label of what sounded last
                n_rest += owed
        self.n_frames = n_frames

    def _shard(self, waiting: deque[tuple[int, Piece]], index: int, n_examples: int) -> Shard:
        """Makes one shard of the pieces that wait, and removes those that no later shard needs."""
        layout = self._layout
        start = index * layout.n_in_shard * layout.window_frames
        low = max(0, start - layout.context_frames)
        end = start + n_examples * layout.window_frames
        high = end + layout.context_frames
        pieces = []
        for place, piece in waiting:
            first, last = max(low - place, 0), min(high - place, piece.last - piece.first)
            if first < last:
                pieces.append(replace(piece, first=piece.first + first, last=piece.first + last))
        while waiting and waiting[0][0] + waiting[0][1].last - waiting[0][1].first <= end - layout.context_frames:
            waiting.popleft()
        path = self._folder / f"{self.name}-{index:05d}.part"
        n_repeated = 0 if self._end is None else max(0, end - self._end)
        return Shard(path, layout, tuple(pieces), start - low, n_examples, n_repeated)


# --- writing -------------------------------------------------------------------------------------------------


class _Queue:
    """A queue that takes blocks of samples or frames and returns windows of fixed length.

    Args:
      length: of a window.
      n_skipped: how many values to drop at first.
    """

    def __init__(self, length: int, n_skipped: int) -> None:
        self.length = length
        self.n_waiting = 0
        self._n_skipped = n_skipped
        self._parts: deque[np.ndarray] = deque()

    def push(self, values: np.ndarray) -> None:
        n_skipped = min(self._n_skipped, len(values))
        self._n_skipped -= n_skipped
        self._parts.append(values[n_skipped:])
        self.n_waiting += len(values) - n_skipped

    def pop(self) -> np.ndarray:
        """Returns the next window [length] float32, padded with zeros."""
        window = np.zeros(self.length, np.float32)
        filled = 0
        while filled < self.length and self._parts:
            part = self._parts.popleft()
            used = min(len(part), self.length - filled)
            window[filled : filled + used] = part[:used]
            filled += used
            if used < len(part):
                self._parts.appendleft(part[used:])
        self.n_waiting -= filled
        return window


def write_shard(shard: Shard, check: Callable[[], None] = lambda: None) -> Written:
    """Writes a shard. The same task gives the same bytes in any process.

    Loudness and power are measured on the audio that is written (after gain, cuts and joins), so that features and
    audio agree.

    Args:
      shard: to write.
      check: called before each window; may raise to stop the work.

    Raises:
      OSError: the disk is full, or cannot be written to.
    """
    layout = shard.layout
    skipped = layout.lengths(shard.n_before)
    queues = {key: _Queue(n, skipped[key]) for key, n in layout.lengths(layout.window_frames).items()}
    levels = {"loudness_db": loudness.loudness_stream(layout.spec), "power_db": loudness.power_stream(layout.spec)}
    digest, figures = hashlib.sha256(), NoteFigures()
    n_written = 0
    with shard.path.open("wb") as stream:

        def emit() -> None:
            nonlocal n_written
            check()
            example = {key: queue.pop() for key, queue in queues.items()}
            sounding = example["power_db"] > layout.spec.floor_db
            example["f0_hz"] = np.where(sounding, example["f0_hz"], np.float32(0.0))
            example["f0_confidence"] = np.where(sounding, example["f0_confidence"], np.float32(0.0))
            n_counted = layout.window_frames - (shard.n_repeated if n_written == shard.n_examples - 1 else 0)
            figures.add({name: example[name][:n_counted] for name in tfrecord.FRAME_FEATURES})
            record = tfrecord.encode_record(tfrecord.encode_example(example))
            digest.update(record)
            stream.write(record)
            n_written += 1

        for blocks in _gathered(_sound(shard), layout.window_frames):
            for key, block in blocks.items():
                queues[key].push(block)
            for key, level in levels.items():
                queues[key].push(level.push(blocks[tfrecord.AUDIO_16K]))
            while n_written < shard.n_examples and all(queue.n_waiting >= queue.length for queue in queues.values()):
                emit()
        for key, level in levels.items():
            queues[key].push(level.finish())
        while n_written < shard.n_examples:
            emit()
    return Written(shard.path, digest.hexdigest(), n_written, figures)


def _gathered(parts: Iterable[dict[str, np.ndarray]], n_least: int) -> Iterator[dict[str, np.ndarray]]:
    """Joins blocks of features up to a number of frames: measuring each short note alone takes longer."""
    waiting: list[dict[str, np.ndarray]] = []
    n_waiting = 0
    for part in itertools.chain(parts, [None]):
        if part is not None:
            waiting.append(part)
            n_waiting += len(part["f0_hz"])
        if waiting and (part is None or n_waiting >= n_least):
            yield {key: np.concatenate([block[key] for block in waiting]) for key in waiting[0]}
            waiting, n_waiting = [], 0


def _sound(shard: Shard) -> Iterator[dict[str, np.ndarray]]:
    """Yields audio, F0, its confidence, and labels of a shard's pieces, in blocks of up to a window."""
    layout = shard.layout
    for piece in shard.pieces:
        frames = piece.portion.recording.frames() if piece.portion else None
        for first in range(piece.first, piece.last, layout.window_frames):
            last = min(first + layout.window_frames, piece.last)
            n_frames = last - first
            if piece.portion is None or frames is None:
                block = {
                    key: np.zeros(n, np.float32)
                    for key, n in layout.lengths(n_frames).items()
                    if not key.endswith("_db")
                }
            else:
                within = slice(piece.portion.start + first, piece.portion.start + last)
                block = {key: frames[key][within] for key in ("f0_hz", "f0_confidence")}
                # the sound at 16 kHz is the measured one, not a resampled copy of the cut one
                block[tfrecord.AUDIO_16K] = _played(piece.portion, layout, ANALYSIS_RATE_HZ, first, last)
                block[tfrecord.AUDIO] = (
                    block[tfrecord.AUDIO_16K]
                    if layout.sample_rate_hz == ANALYSIS_RATE_HZ
                    else _played(piece.portion, layout, layout.sample_rate_hz, first, last)
                )
            if layout.labelled:
                block[tfrecord.INSTRUMENT] = np.full(n_frames, piece.instrument, np.float32)
            yield block


def _played(portion: Portion, layout: Layout, rate_hz: int, first: int, last: int) -> np.ndarray:
    """Returns frames [first, last) of a portion as audio: high-pass filtered, with gain and short fades at its ends."""
    recording = portion.recording
    start = layout.samples(portion.start, rate_hz)
    n_samples = layout.samples(portion.end - portion.start, rate_hz)
    low, high = layout.samples(first, rate_hz), layout.samples(last, rate_hz)
    filtered = remove_rumble(
        lambda a, b: recording.audio(rate_hz, start + a, start + b), n_samples, layout.lowest_hz, rate_hz, low, high
    )
    index = np.arange(low, high)
    ramp = np.minimum(index + 0.5, n_samples - index - 0.5) / round(FADE_S * rate_hz)
    played = filtered * (portion.gain * np.minimum(ramp, 1.0))
    peak = max(recording.peak * portion.gain, float(np.abs(played).max(initial=0.0)))
    return (soft_limit(played) if peak > CEILING else played).astype(np.float32)


def name_shards(digests: Mapping[Path, str]) -> dict[str, str]:
    """Gives the shards of a split their final names, as `ddsp_prepare_tfrecord` names them.

    Args:
      digests: SHA-256 of each shard, by the path that it was written to.

    Returns:
      The same, by the final name and in order.
    """
    named = {}
    for index, part in enumerate(sorted(digests)):
        shard = part.with_name(f"{part.stem.rpartition('-')[0]}.tfrecord-{index:05d}-of-{len(digests):05d}")
        part.rename(shard)
        named[shard.name] = digests[part]
    return named


# --- percentiles and histograms --------------------------------------------------------------------------------------


class Counts:
    """Counts values to `RESOLUTION`."""

    def __init__(self) -> None:
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Adds values [n]."""
        if not len(values):
            return
        bins = np.round(values.astype(np.float64) / RESOLUTION).astype(np.int64)
        low, high = int(bins.min()), int(bins.max()) + 1
        self._grow(low, high)
        self._counts[low - self._first : high - self._first] += np.bincount(bins - low, minlength=high - low)

    def merge(self, other: Counts) -> None:
        """Adds the values that another one counted."""
        if len(other._counts):
            self._grow(other._first, other._first + len(other._counts))
            at = other._first - self._first
            self._counts[at : at + len(other._counts)] += other._counts

    def _grow(self, low: int, high: int) -> None:
        """Makes room for bins [low, high)."""
        if not len(self._counts):
            self._first = low
        first, end = min(low, self._first), max(high, self._first + len(self._counts))
        if end - first != len(self._counts):
            grown = np.zeros(end - first, np.int64)
            grown[self._first - first : self._first - first + len(self._counts)] = self._counts
            self._first, self._counts = first, grown

    @property
    def n(self) -> int:
        """Number of values added."""
        return int(self._counts.sum())

    def percentiles(self, percents: np.ndarray) -> np.ndarray:
        """Returns percentiles as `numpy.percentile` interpolates them; there must be at least one value."""
        ranks = np.asarray(percents, np.float64) / 100.0 * (self.n - 1)
        below = np.floor(ranks).astype(np.int64)
        cumulative = np.cumsum(self._counts)

        def value(rank: np.ndarray) -> np.ndarray:
            return (self._first + np.searchsorted(cumulative, rank, side="right")) * RESOLUTION

        low, high = value(below), value(np.minimum(below + 1, self.n - 1))
        return low + (high - low) * (ranks - below)

    def histogram(self, step: float, frame_rate_hz: int) -> Histogram:
        """Returns seconds in bins of a width, centred on its multiples."""
        present = np.flatnonzero(self._counts)
        bins = np.round((self._first + present) * RESOLUTION / step).astype(np.int64)
        counts = np.bincount(bins - bins.min(), self._counts[present])
        seconds = [round(float(count) / frame_rate_hz, 3) for count in counts]
        return Histogram(start=(float(bins.min()) - 0.5) * step, step=step, seconds=seconds)


class NoteFigures:
    """Counts pitch and level of every frame with a note."""

    def __init__(self) -> None:
        self.pitch_midi, self.loudness_db, self.power_db = Counts(), Counts(), Counts()

    def add(self, example: dict[str, np.ndarray]) -> None:
        """Adds the frames of one example."""
        notes = example["f0_hz"] > 0
        self.pitch_midi.add(hz_to_midi(example["f0_hz"][notes]))
        self.loudness_db.add(example["loudness_db"][notes])
        self.power_db.add(example["power_db"][notes])

    def merge(self, other: NoteFigures) -> None:
        """Adds the frames that another one counted, in any order: the result is the same."""
        self.pitch_midi.merge(other.pitch_midi)
        self.loudness_db.merge(other.loudness_db)
        self.power_db.merge(other.power_db)

    def statistics(self, frame_rate_hz: int) -> Statistics:
        """Returns percentiles 0..100 of each; there must be at least one frame with a note."""

        def percentiles(counts: Counts) -> list[float]:
            return [round(float(value), 4) for value in counts.percentiles(np.arange(101))]

        return Statistics(
            pitch_midi=percentiles(self.pitch_midi),
            loudness_db=percentiles(self.loudness_db),
            power_db=percentiles(self.power_db),
            note_s=self.pitch_midi.n / frame_rate_hz,
        )

    def histograms(self, frame_rate_hz: int) -> dict[str, Histogram]:
        """Returns seconds of notes in each semitone, and in each step of level."""
        return {
            "pitch_midi": self.pitch_midi.histogram(SEMITONE, frame_rate_hz),
            "loudness_db": self.loudness_db.histogram(LEVEL_STEP_DB, frame_rate_hz),
            "power_db": self.power_db.histogram(LEVEL_STEP_DB, frame_rate_hz),
        }
