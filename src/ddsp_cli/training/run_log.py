"""The records of a run: `log.csv`, rendered `clips/`, TensorBoard events."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import beside
from ddsp_cli.audio.write import SOFTWARE
from ddsp_cli.training import checkpoint
from ddsp_cli.training.checkpoint import LOG, LOG_COLUMNS, RunState
from ddsp_cli.training.windows import Batch

if TYPE_CHECKING:
    import keras

#: Shortest interval between two clips, and their largest share of the time.
CLIP_EVERY_S = 60.0
CLIP_SHARE = 0.02


class RunFolder:
    """The folder of a run, beside its instrument.

    Args:
      path: the folder; made where it is missing.
      sample_rate_hz: of the clips.
      tensorboard: write TensorBoard events where TensorFlow is installed.
      listen: render a clip now and then.
    """

    def __init__(self, path: Path, sample_rate_hz: int, tensorboard: bool = True, listen: bool = True) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        self.listen = listen
        path.mkdir(parents=True, exist_ok=True)
        self.tensorboard = tensorboard
        self._next_clip = 0.0  # the first validation has one
        self._cleared = False

    def save(self, model: keras.Model, state: RunState) -> None:
        """Writes the checkpoint, see `checkpoint.save`."""
        checkpoint.save(self.path, model, state)

    def clear(self) -> None:
        """Removes the clips and TensorBoard events of the run before, which are of another model; once."""
        if self._cleared:
            return
        self._cleared = True
        for pattern in ("clips/step_*", "tensorboard/events.*"):
            for left in self.path.glob(pattern):
                with contextlib.suppress(PermissionError):  # somebody has it open on Windows, see `_replace`
                    left.unlink(missing_ok=True)

    @cached_property
    def _board(self) -> Any:
        # opened by the first validation: `clear` has no events of this run to spare
        return _summary_writer(self.path / "tensorboard") if self.tensorboard else None

    def write(self, state: RunState, model: keras.Model, batch: Batch) -> None:
        """Writes the records of the last validation in `state`.

        Args:
          state: of the run.
          model: in its present state; its random state is restored, so that a clip does not change the training.
          batch: of the validation; its loudest window is rendered.
        """
        point = state.history[-1]
        self._write_log(state)
        if self._board is not None:
            import tensorflow as tf

            with self._board.as_default(step=point.step):
                tf.summary.scalar("loss/training", point.loss)
                tf.summary.scalar("loss/validation", point.validation_loss)
            self._board.flush()
        started = time.monotonic()
        if self.listen and (state.finished or started >= self._next_clip):
            self._write_clip(point.step, model, batch)
            ended = time.monotonic()
            self._next_clip = ended + max(CLIP_EVERY_S, (ended - started) / CLIP_SHARE)

    def write_first_clip(self, recording: FloatArray, rendering: FloatArray) -> Path:
        """Writes a clip that was rendered before the first step, beside its recording [S]; returns its file."""
        self.clear()
        self._store_clip(0, recording, rendering)
        return self.path / "clips" / "step_000000.wav"

    def _write_log(self, state: RunState) -> None:
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(LOG_COLUMNS)
        rows.writerows([p.step, f"{p.loss:.5f}", f"{p.validation_loss:.5f}", f"{p.wall_s:.1f}"] for p in state.history)
        _replace(self.path / LOG, text.getvalue().encode())

    def _write_clip(self, step: int, model: keras.Model, batch: Batch) -> None:
        import keras

        from ddsp_cli.training.batches import as_arrays

        inputs, audio = loudest(batch)
        one, _ = as_arrays((inputs, audio))
        with random_state_kept(model):
            rendering = np.asarray(keras.ops.convert_to_numpy(model(one, training=False)["audio"]))[0]
        picture = self._store_clip(step, audio[0], rendering)
        if self._board is not None:
            import tensorflow as tf

            with self._board.as_default(step=step):
                sounds = np.stack([audio[0], rendering])[..., None]
                tf.summary.audio("validation/sound", np.clip(sounds, -1, 1), self.sample_rate_hz)
                tf.summary.image("validation/spectrogram", tf.io.decode_png(picture, channels=3)[None])
            self._board.flush()

    def _store_clip(self, step: int, recording: FloatArray, rendering: FloatArray) -> bytes:
        """Writes sound and picture of a clip; returns the picture."""
        from ddsp_cli.reports.plots import draw_pair

        rate_hz = self.sample_rate_hz
        picture = draw_pair(recording, rendering, rate_hz)
        clips = self.path / "clips"
        clips.mkdir(exist_ok=True)
        _replace(clips / "original.wav", _wav(recording, rate_hz))
        _replace(clips / f"step_{step:06d}.wav", _wav(rendering, rate_hz))
        _replace(clips / f"step_{step:06d}.png", picture)
        return picture


class FollowedRunFolder(RunFolder):
    """The folder of a run that another process writes."""

    def save(self, model: keras.Model, state: RunState) -> None:
        """Writes nothing."""

    def clear(self) -> None:
        """Removes nothing."""

    def write(self, state: RunState, model: keras.Model, batch: Batch) -> None:
        """Writes nothing."""


def loudest(batch: Batch) -> Batch:
    """Returns the loudest window of a batch, as a batch of one."""
    inputs, audio = batch
    row = int(np.argmax(np.mean(np.square(audio), axis=1)))
    return {name: values[row : row + 1] for name, values in inputs.items()}, audio[row : row + 1]


@contextlib.contextmanager
def random_state_kept(model: keras.Model) -> Iterator[None]:
    """Restores the random state of a model after a block.

    A run that resumes after a kill has not rendered the clip before it.
    """
    import keras

    kept = [(variable, np.array(keras.ops.convert_to_numpy(variable))) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def _wav(audio: np.ndarray, rate_hz: int) -> bytes:
    """Returns a WAV file of 16 bits that names this program, so that it is not taken for a recording."""
    import soundfile

    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, 1, "PCM_16", format="WAV") as file:
        file.software = SOFTWARE
        file.write(np.clip(audio, -1.0, 1.0))
    return out.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Writes a file beside its place, always under one name so that killed runs leave one file, and moves it there.

    What somebody has open cannot be replaced on Windows. A spreadsheet that shows the log, or a player, is no reason to
    end a training: the next validation writes it again.
    """
    with contextlib.suppress(PermissionError), beside(path, f".new{path.suffix}") as part:
        part.write_bytes(content)


def _summary_writer(path: Path) -> Any:
    try:
        import tensorflow as tf
    except ImportError:
        return None
    return tf.summary.create_file_writer(str(path))
