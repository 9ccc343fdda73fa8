"""The files a run leaves to be looked at and listened to: `log.csv`, `clips/`, TensorBoard events."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ddsp_cli.training.batches import Batch, as_arrays
from ddsp_cli.training.state import RunState

#: A clip is rendered at the first validation and then at every tenth.
CLIP_EVERY_VALIDATIONS = 10


class RunFolder:
    """The folder of a run, beside the instrument it makes.

    Args:
      path: the folder; made where it is missing.
      sample_rate_hz: of the clips.
      tensorboard: also write TensorBoard events, which needs TensorFlow to be there.
    """

    def __init__(self, path: Path, sample_rate_hz: int, tensorboard: bool = True) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        path.mkdir(parents=True, exist_ok=True)
        self._board = _summary_writer(path / "tensorboard") if tensorboard else None

    def write(self, state: RunState, model: keras.Model, batch: Batch) -> None:
        """Brings all records up to the last validation in `state`."""
        point = state.history[-1]
        self._write_log(state)
        if self._board is not None:
            import tensorflow as tf

            with self._board.as_default(step=point.step):
                tf.summary.scalar("loss/training", point.loss)
                tf.summary.scalar("loss/validation", point.validation_loss)
            self._board.flush()
        if len(state.history) % CLIP_EVERY_VALIDATIONS == 1 or state.finished:
            self._write_clip(point.step, model, batch)

    def _write_log(self, state: RunState) -> None:
        beside = self.path / ".log.csv.new"
        with beside.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["step", "loss", "validation_loss"])
            rows.writerows([p.step, f"{p.loss:.5f}", f"{p.validation_loss:.5f}"] for p in state.history)
        os.replace(beside, self.path / "log.csv")

    def _write_clip(self, step: int, model: keras.Model, batch: Batch) -> None:
        import soundfile

        from ddsp_cli.plots import plot_pair

        inputs, audio = batch
        one, _ = as_arrays(({name: values[:1] for name, values in inputs.items()}, audio[:1]))
        rendering = np.asarray(keras.ops.convert_to_numpy(model(one, training=False)["audio"]))[0]
        clips = self.path / "clips"
        clips.mkdir(exist_ok=True)
        soundfile.write(clips / "original.wav", audio[0], self.sample_rate_hz)
        soundfile.write(clips / f"step_{step:06d}.wav", np.clip(rendering, -1, 1), self.sample_rate_hz)
        plot_pair(clips / f"step_{step:06d}.png", audio[0], rendering, self.sample_rate_hz)
        if self._board is not None:
            import tensorflow as tf

            with self._board.as_default(step=step):
                sounds = np.stack([audio[0], rendering])[..., None]
                tf.summary.audio("validation", np.clip(sounds, -1, 1), self.sample_rate_hz)
            self._board.flush()


def _summary_writer(path: Path) -> Any:
    try:
        import tensorflow as tf
    except ImportError:
        return None
    return tf.summary.create_file_writer(str(path))
