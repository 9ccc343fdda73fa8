"""The windows of a data set as inputs and targets of a training, and copies of them. Imports no framework.

Shapes: N windows, B batch, F frames, S samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ddsp_cli.analysis.features import fill_f0
from ddsp_cli.analysis.mfcc import mfcc
from ddsp_cli.analysis.recording_checks import bandwidth_hz
from ddsp_cli.arrays import decimated, evenly_spread
from ddsp_cli.bundle.layout import CONDITION, unconditioned
from ddsp_cli.config import ANALYSIS_RATE_HZ, ModelConfig
from ddsp_cli.dataset.loader import Examples, StreamedExamples
from ddsp_cli.errors import DatasetError
from ddsp_cli.scaling import scale_db, scale_f0, unscale_db

#: Inputs [B, F, C] by name, and sound [B, S].
Batch = tuple[dict[str, np.ndarray], np.ndarray]

AnyWindows: TypeAlias = "Windows | StreamedWindows"

#: Shift of a copy in semitones, up or down, and the range of its gain.
SHIFT_SEMITONES = (0.2, 1.0)
GAIN_DB = (-3.0, 3.0)

#: Every fourth copy is softer, with a gain in this range. Half a minute holds few soft notes, and the noise that the
#: network plays in others is up to 12 dB too loud. With one soft copy in four the loss of half a minute on held-out
#: recordings falls by 0.6 (flute) and 1.3 (tenor saxophone); with soft copies alone that of an oboe grows by 0.4.
SOFT_EVERY, SOFT_GAIN_DB = 4, (-20.0, -8.0)

#: Windows with a smaller voiced share are left out of measurements.
LEAST_VOICED = 0.2


def spread(rows: np.ndarray, n: int) -> np.ndarray:
    """Returns at most `n` of the rows, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))]


class Windows:
    """All windows of one split as network inputs at the model's frame rate.

    Attributes:
      audio: [N, S] at the model's sample rate.
      sound: [N, S] target of renderings: `audio`, or the same at `render_rate_hz`.
      inputs: name → [N, F, 1]; `mfcc` [N, F, C] where the model has an encoder.
      voiced: [N, F] whether F0 was measured in the frame.
      n_frames: F.
      f0_step: values of F0 in a frame, as the data set has them.
      fine_f0_hz: [N, F·f0_step], nowhere 0.
      bandwidth_hz: [N] upper edge of the spectrum, see `analysis.recording_checks`.
      targets: name → [N, F, C], cut with the inputs; see `training.targets.Targets`. Empty unless they were measured.

    Args:
      examples: measured at `frame_rate_hz`.
      model: the model to train.
      frame_rate_hz: of the examples; a multiple of the model's.
      render_rate_hz: at which sound is rendered in training; None for the model's rate.
    """

    def __init__(
        self, examples: Examples, model: ModelConfig, frame_rate_hz: int, render_rate_hz: int | None = None
    ) -> None:
        step = frame_rate_hz // model.frame_rate_hz
        self.model = model
        self.audio = self.sound = examples.audio
        self.hop_samples = model.hop_samples
        if render_rate_hz is not None and render_rate_hz != model.sample_rate_hz:
            self.sound = decimated(self.audio, model.sample_rate_hz, render_rate_hz)
            self.hop_samples = render_rate_hz // model.frame_rate_hz
        self.voiced = examples.f0_hz[:, ::step] > 0.0
        self.targets: dict[str, np.ndarray] = {}
        fine_level_db = getattr(examples, model.level)
        fine_f0_hz = fill_f0(examples.f0_hz, fine_level_db)
        f0_hz, level_db = fine_f0_hz[:, ::step], fine_level_db[:, ::step]
        self.n_frames = min(f0_hz.shape[1], self.audio.shape[1] // model.hop_samples)
        self.f0_step = step
        self.fine_f0_hz = np.ascontiguousarray(fine_f0_hz[:, : self.n_frames * step], np.float32)
        self.bandwidth_hz = np.array([bandwidth_hz(audio, model.sample_rate_hz) for audio in self.audio])
        curves = {
            "f0_hz": f0_hz,
            "f0_scaled": scale_f0(f0_hz),
            "pw_scaled": scale_db(level_db),
            "ld_scaled": scale_db(level_db),
        }
        self.inputs = {
            name: np.ascontiguousarray(curves[name][:, : self.n_frames], np.float32)[..., None]
            for name in ("f0_hz", *model.scaled_inputs)
        }
        self.voiced = self.voiced[:, : self.n_frames]
        if model.encoder:
            found = [mfcc(audio, model.frame_rate_hz, model.encoder.n_mfccs)
                     for audio in self._resampled(ANALYSIS_RATE_HZ)]  # fmt: skip
            self.inputs["mfcc"] = np.stack(found)[:, : self.n_frames]
        if model.instruments:
            index = _instrument_index(examples, model.instruments.names)[:, ::step]
            self.inputs[CONDITION] = np.ascontiguousarray(index[:, : self.n_frames], np.float32)[..., None]

    def __len__(self) -> int:
        return len(self.audio)

    def of_instrument(self, index: int) -> Windows:
        """Returns the windows of one instrument of the model, as those of a model of this instrument alone."""
        found = self._select(self.rows_of(index))
        found.model = unconditioned(self.model)
        del found.inputs[CONDITION]
        return found

    def as_instrument(self, index: int) -> Windows:
        """Returns the windows of one instrument of the model; if there are none all windows, as if it played them."""
        rows = self.rows_of(index)
        found = self._select(rows if len(rows) else np.arange(len(self)))
        found.inputs[CONDITION] = np.full_like(found.inputs[CONDITION], index)
        return found

    def rows_of(self, index: int) -> np.ndarray:
        """Returns the windows in which most frames belong to an instrument of the model."""
        return np.flatnonzero((self.inputs[CONDITION] == index).mean(axis=(1, 2)) > 0.5)

    def voiced_rows(self, n: int | None = None, least_share: float = LEAST_VOICED) -> np.ndarray:
        """Returns the windows whose voiced share is above `least_share`: all, or at most `n`, evenly spread."""
        rows = np.flatnonzero(self.voiced.mean(axis=1) > least_share)
        return rows if n is None else spread(rows, n)

    def _select(self, rows: np.ndarray) -> Windows:
        found = copy.copy(self)
        for name in ("audio", "sound", "voiced", "fine_f0_hz", "bandwidth_hz"):
            setattr(found, name, getattr(self, name)[rows])
        found.inputs = {name: values[rows] for name, values in self.inputs.items()}
        found.targets = {name: values[rows] for name, values in self.targets.items()}
        return found

    def level_db(self, row: int) -> np.ndarray:
        """Returns the level [F] of a window that drives the model, in dB."""
        scaled = self.inputs[self.model.level_input][row, :, 0]
        return np.asarray(unscale_db(scaled), np.float32)

    def _resampled(self, rate_hz: int) -> Iterator[np.ndarray]:
        """Yields the audio [S] of each window at another rate."""
        import soxr

        for audio in self.audio:
            yield soxr.resample(audio, self.model.sample_rate_hz, rate_hz).astype(np.float32)

    def cut(self, rows: np.ndarray, starts: np.ndarray, n_frames: int) -> Batch:
        """Cuts crops out of windows.

        Args:
          rows: [B] which windows.
          starts: [B] first frame of each crop.
          n_frames: F.

        Returns:
          Inputs [B, F, 1] (`mfcc` [B, F, C]) by name, and sound [B, S].
        """
        hop = self.hop_samples
        samples = starts[:, None] * hop + np.arange(n_frames * hop)
        return self.cut_inputs(rows, starts, n_frames), self.sound[rows[:, None], samples]

    def cut_inputs(self, rows: np.ndarray, starts: np.ndarray, n_frames: int) -> dict[str, np.ndarray]:
        """Returns the inputs of `cut` and the targets, without the audio."""
        frames = starts[:, None] + np.arange(n_frames)
        return {name: values[rows[:, None], frames] for name, values in {**self.inputs, **self.targets}.items()}

    def in_memory(self) -> Windows:
        """Returns the windows as arrays: all of them, see `StreamedWindows`."""
        return self

    def measure_targets(self, measure: Callable[[Windows], Any]) -> None:
        """Measures the targets of all windows with `training.targets.measure_targets`, unless that was done."""
        if not self.targets:
            self.targets = vars(measure(self))


class StreamedWindows:
    """`Windows` of a split that is too large for memory: the windows of a batch are read as it is cut.

    Args:
      examples: in their shards.
      model, frame_rate_hz, render_rate_hz: as for `Windows`.
    """

    #: Windows, evenly spread, that are kept in memory as a sample of the sound.
    N_SAMPLE = 256

    def __init__(
        self, examples: StreamedExamples, model: ModelConfig, frame_rate_hz: int, render_rate_hz: int | None = None
    ) -> None:
        self.model = model
        self._examples, self._rates_hz = examples, (frame_rate_hz, render_rate_hz)
        self._sample = self._read(evenly_spread(len(examples), self.N_SAMPLE))
        self.inputs, self.n_frames = self._sample.inputs, self._sample.n_frames
        self._measure: Callable[[Windows], Any] | None = None

    def __len__(self) -> int:
        return len(self._examples)

    def _read(self, rows: np.ndarray) -> Windows:
        return Windows(self._examples.take(rows), self.model, *self._rates_hz)

    def in_memory(self) -> Windows:
        """Returns a sample of the windows as arrays."""
        return self._sample

    def measure_targets(self, measure: Callable[[Windows], Any]) -> None:
        """Measures the targets of each batch as it is cut."""
        self._measure = measure

    def cut(self, rows: np.ndarray, starts: np.ndarray, n_frames: int) -> Batch:
        """See `Windows.cut`."""
        windows = self._read(rows)
        if self._measure is not None:
            windows.measure_targets(self._measure)
        return windows.cut(np.arange(len(rows)), starts, n_frames)


def windows_of(
    examples: Examples | StreamedExamples, model: ModelConfig, frame_rate_hz: int, render_rate_hz: int | None = None
) -> AnyWindows:
    """Makes `Windows` if the examples are in memory, else `StreamedWindows`."""
    if isinstance(examples, StreamedExamples):
        return StreamedWindows(examples, model, frame_rate_hz, render_rate_hz)
    return Windows(examples, model, frame_rate_hz, render_rate_hz)


def _instrument_index(examples: Examples, names: Sequence[str]) -> np.ndarray:
    """Returns the index of each frame's instrument in the model's list of names, [N, F].

    Raises:
      DatasetError: the data set has no instruments, or one that the model does not name.
    """
    unknown = sorted(set(examples.instruments) - set(names))
    if examples.instrument is None or unknown:
        held = f"has {', '.join(unknown)}" if unknown else "does not tell instruments apart"
        raise DatasetError(
            f"the model is conditioned on {', '.join(names)}; the data set {held}",
            "Prepare a folder that holds a folder of recordings for each instrument.",
        )
    place = np.array([list(names).index(name) for name in examples.instruments])
    return place[examples.instrument.astype(int)]


def validation_batches(windows: Windows, batch_size: int, limit: int = 32, multiple: int = 1) -> list[Batch]:
    """Returns batches of whole windows, evenly spread over the split.

    Args:
      windows: of the validation split.
      batch_size: the largest size of a batch.
      limit: how many windows are taken at most.
      multiple: the size of every batch is a multiple of it.

    Returns:
      Batches of equal size.
    """
    rows = evenly_spread(len(windows), limit)
    rows = np.resize(rows, max(len(rows), multiple))
    size = min(batch_size, len(rows)) // multiple * multiple
    rows = rows[: len(rows) // size * size]
    return [windows.cut(part, np.zeros(size, int), windows.n_frames) for part in np.split(rows, len(rows) // size)]


# --- copies at other pitches -----------------------------------------------------------------------------------------


def with_copies(examples: Examples, sample_rate_hz: int, n_copies: int, seed: int, floor_db: float) -> Examples:
    """Adds copies of all windows at other pitches and levels, for a training on little material.

    A copy is resampled by up to a semitone: F0, resonances and all times change by the same factor, as if an instrument
    of slightly different size were played. Gain and measured level change alike, in every fourth copy to soft notes. A
    shorter copy ends in silence.

    Args:
      examples: of one instrument, or of several.
      sample_rate_hz: of their sound.
      n_copies: of each window.
      seed: of shifts and gains.
      floor_db: lowest level, that of silence.

    Returns:
      [N · (1 + n_copies)] windows, those of the recordings first.
    """
    random = np.random.default_rng(seed)
    parts = [examples]
    for i in range(n_copies):
        semitones = random.choice([-1.0, 1.0], len(examples)) * random.uniform(*SHIFT_SEMITONES, len(examples))
        is_soft = i % SOFT_EVERY == SOFT_EVERY - 1
        gains_db = random.uniform(*(SOFT_GAIN_DB if is_soft else GAIN_DB), len(examples))
        parts.append(_copy(examples, sample_rate_hz, 2.0 ** (semitones / 12.0), gains_db, floor_db))
    return replace(
        examples,
        audio=np.concatenate([part.audio for part in parts]),
        f0_hz=np.concatenate([part.f0_hz for part in parts]),
        f0_confidence=np.concatenate([part.f0_confidence for part in parts]),
        loudness_db=np.concatenate([part.loudness_db for part in parts]),
        power_db=np.concatenate([part.power_db for part in parts]),
        instrument=None if examples.instrument is None else np.concatenate([part.instrument for part in parts]),
    )


def _copy(
    examples: Examples, sample_rate_hz: int, speeds: np.ndarray, gains_db: np.ndarray, floor_db: float
) -> Examples:
    """Makes a copy of each window, played at `speeds` [N] times the speed."""
    import soxr

    audio = np.zeros_like(examples.audio)
    for i, (speed, gain_db) in enumerate(zip(speeds, gains_db, strict=True)):
        faster = soxr.resample(examples.audio[i], speed * sample_rate_hz, sample_rate_hz)[: audio.shape[1]]
        audio[i, : len(faster)] = faster * 10.0 ** (gain_db / 20.0)
    n_frames = examples.f0_hz.shape[1]
    frames = np.round(np.arange(n_frames) * speeds[:, None]).astype(int)
    inside = frames < n_frames
    rows, frames = np.arange(len(examples))[:, None], np.minimum(frames, n_frames - 1)

    def level(values_db: np.ndarray) -> np.ndarray:
        louder_db = np.maximum(values_db[rows, frames] + gains_db[:, None], floor_db)
        return np.where(inside, louder_db, floor_db).astype(np.float32)

    return Examples(
        audio=audio,
        f0_hz=np.where(inside, examples.f0_hz[rows, frames] * speeds[:, None], 0.0).astype(np.float32),
        f0_confidence=np.where(inside, examples.f0_confidence[rows, frames], 0.0).astype(np.float32),
        loudness_db=level(examples.loudness_db),
        power_db=level(examples.power_db),
        instrument=None if examples.instrument is None else examples.instrument[rows, frames],
        instruments=examples.instruments,
    )
