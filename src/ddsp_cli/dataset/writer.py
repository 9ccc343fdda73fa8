"""Join recordings, cut them into windows of equal length, measure their levels and write TFRecord shards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddsp_cli.analysis import loudness
from ddsp_cli.audio import highpass
from ddsp_cli.checksum import sha256
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.cache import CutRecording, Job
from ddsp_cli.dataset.manifest import Split
from ddsp_cli.dataset.segments import FADE_S, GRID_FRAMES
from ddsp_cli.dataset.statistics import NoteFigures

#: Largest shard, exceeded by one window at most.
SHARD_BYTES = 100_000_000

#: Knee and ceiling of the soft limiter.
KNEE, CEILING = 0.9, 0.99

#: Seconds of silence for each second of sound, at least REST_S at once: recordings in rooms are never silent.
REST_SHARE, REST_S = 0.03, 2.0


@dataclass(frozen=True)
class Portion:
    """A part of a recording that goes into a split: frames [start, end) of what was kept, and its gain.

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
      jobs: gives those of the recordings in the data set, named such as `wavs/flute/a.wav`; called several times.

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
        """Number of the instrument that plays in a recording."""
        return self.names.index(self._of(job))


class _Queue:
    """A queue that takes blocks of samples or frames and returns windows of fixed length."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.n_waiting = 0
        self._parts: deque[np.ndarray] = deque()

    def push(self, values: np.ndarray) -> None:
        self._parts.append(values)
        self.n_waiting += len(values)

    def pop(self) -> np.ndarray:
        """The next window [length] float32, padded with zeros."""
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


class SplitWriter:
    """Writes the shards of one split.

    Loudness and power are measured on the audio as it is written (after gain, cuts and joins), so that features and
    audio agree.

    Args:
      folder: where the shards go.
      name: "train" or "validation".
      sample_rate_hz: the model's rate.
      spec: how the features are measured.
      window_s: length of an example.
      lowest_hz: F0 of the lowest note; a high-pass filter removes what is below it.
      instruments: what frames are labelled with; None, or one without names, for no label.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        sample_rate_hz: int,
        spec: FeatureSpec,
        window_s: float,
        lowest_hz: float,
        instruments: Instruments | None = None,
    ) -> None:
        self._folder, self._name, self._rate_hz, self._spec = folder, name, sample_rate_hz, spec
        self._lowest_hz = lowest_hz
        n_frames = round(window_s * spec.frame_rate_hz)
        self._n_frames = n_frames
        self._queues = {key: _Queue(n_frames) for key in tfrecord.FRAME_FEATURES}
        self._instruments = instruments if instruments is not None and instruments.names else None
        self._instrument = 0
        if self._instruments:
            self._queues[tfrecord.INSTRUMENT] = _Queue(n_frames)
        self._queues[tfrecord.AUDIO] = _Queue(round(window_s * sample_rate_hz))
        self._queues[tfrecord.AUDIO_16K] = _Queue(round(window_s * ANALYSIS_RATE_HZ))
        self._levels = {"loudness_db": loudness.loudness_stream(spec), "power_db": loudness.power_stream(spec)}
        self._shards: list[Path] = []
        self._n_examples = 0
        self.figures = NoteFigures()

    def write(self, portions: Iterable[Portion], rests: bool = False) -> Split:
        """Writes portions in their order; the last window is padded with silence.

        Args:
          portions: what to write.
          rests: insert silence between them, see `REST_SHARE`.

        Returns:
          What the manifest says about the split.

        Raises:
          OSError: the disk is full, or cannot be written to.
        """
        n_frames = n_rest = 0
        for portion in portions:
            self._push(portion)
            n_frames += portion.end - portion.start
            owed = int(REST_SHARE * n_frames - n_rest) // GRID_FRAMES * GRID_FRAMES
            if rests and owed >= REST_S * self._spec.frame_rate_hz:
                self._silence(owed)
                n_rest += owed
        self._silence(-(n_frames + n_rest) % self._n_frames)
        for key, level in self._levels.items():
            self._queues[key].push(level.finish())
        while any(queue.n_waiting for queue in self._queues.values()):
            self._emit()
        used_s = n_frames / self._spec.frame_rate_hz
        return Split(n_examples=self._n_examples, used_s=used_s, shards=self._close())

    def _push(self, portion: Portion) -> None:
        frames = portion.recording.frames()
        for key in ("f0_hz", "f0_confidence"):
            self._queues[key].push(frames[key][portion.start : portion.end])
        if self._instruments:
            self._instrument = self._instruments.index(portion.recording.job)
            self._label(portion.end - portion.start)
        audio_16k = self._audio(portion, ANALYSIS_RATE_HZ)
        # Both come in blocks of 4 s, so neither is ever far ahead of the other. The sound at 16 kHz is what was
        # measured, not a resampled copy of the cut one.
        pairs: Iterable[tuple[np.ndarray, np.ndarray]] = (
            ((block, block) for block in audio_16k)
            if self._rate_hz == ANALYSIS_RATE_HZ
            else zip(self._audio(portion, self._rate_hz), audio_16k, strict=True)
        )
        for block, block_16k in pairs:
            self._queues[tfrecord.AUDIO].push(block)
            self._queues[tfrecord.AUDIO_16K].push(block_16k)
            for key, level in self._levels.items():
                self._queues[key].push(level.push(block_16k))
            while all(queue.n_waiting >= queue.length for queue in self._queues.values()):
                self._emit()

    def _silence(self, n_frames: int) -> None:
        """Silence of a whole number of samples at every rate."""
        audio_16k = np.zeros(n_frames * self._spec.hop_samples, np.float32)
        self._queues[tfrecord.AUDIO].push(np.zeros(n_frames * self._rate_hz // self._spec.frame_rate_hz, np.float32))
        self._queues[tfrecord.AUDIO_16K].push(audio_16k)
        for key in ("f0_hz", "f0_confidence"):
            self._queues[key].push(np.zeros(n_frames, np.float32))
        if self._instruments:
            self._label(n_frames)
        for key, level in self._levels.items():
            self._queues[key].push(level.push(audio_16k))

    def _label(self, n_frames: int) -> None:
        """Labels frames with the instrument that played last, silence after it included."""
        self._queues[tfrecord.INSTRUMENT].push(np.full(n_frames, self._instrument, np.float32))

    def _audio(self, portion: Portion, rate_hz: int) -> Iterator[np.ndarray]:
        """The audio of a portion with its gain, high-pass filtered, with a short fade at either end."""
        n_samples = (portion.end - portion.start) * rate_hz // self._spec.frame_rate_hz
        n_fade = round(FADE_S * rate_hz)
        position = 0
        blocks = portion.recording.audio(rate_hz, portion.start, portion.end)
        for block in highpass.remove_rumble(blocks, self._lowest_hz, rate_hz):
            index = np.arange(position, position + len(block))
            ramp = np.minimum(index + 0.5, n_samples - index - 0.5) / n_fade
            played = block * (portion.gain * np.minimum(ramp, 1.0))
            peak = max(portion.recording.peak * portion.gain, float(np.abs(played).max(initial=0.0)))
            yield (soft_limit(played) if peak > CEILING else played).astype(np.float32)
            position += len(block)

    def _emit(self) -> None:
        example = {key: queue.pop() for key, queue in self._queues.items()}
        sounding = example["power_db"] > self._spec.floor_db
        example["f0_hz"] = np.where(sounding, example["f0_hz"], np.float32(0.0))
        example["f0_confidence"] = np.where(sounding, example["f0_confidence"], np.float32(0.0))
        content = tfrecord.encode_example(example)
        if self._n_examples % max(1, SHARD_BYTES // len(content)) == 0:  # all examples have the same length
            self._shards.append(self._folder / f"{self._name}-{len(self._shards):05d}.part")
        self._n_examples += 1
        self.figures.add(example)
        with self._shards[-1].open("ab") as stream:
            tfrecord.write_record(stream, content)

    def _close(self) -> dict[str, str]:
        """Gives the shards their final names, as `ddsp_prepare_tfrecord` names them; name → SHA-256."""
        named = {}
        for index, part in enumerate(self._shards):
            shard = part.with_name(f"{self._name}.tfrecord-{index:05d}-of-{len(self._shards):05d}")
            named[shard.name] = sha256(part.rename(shard))
        return named
