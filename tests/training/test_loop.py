"""A training goes on exactly where it stopped, comes back from a broken loss, and learns."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file

from ddsp_cli.config import LossConfig, Preset, TrainingConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.training import loop
from ddsp_cli.training.batches import RandomCrops, Windows, validation_batches
from ddsp_cli.training.records import RunFolder
from ddsp_cli.training.state import CHECKPOINT, RunState, read_state
from fixtures import small_model
from training_fixtures import tones

PRESET = Preset(
    description="small",
    model=small_model(),
    training=TrainingConfig(batch_size=4, crop_s=0.5, learning_rate=3e-3, loss=LossConfig(fft_sizes=(256, 64))),
)
FRESH = RunState(preset="", dataset="", seed=0)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_VALIDATION", 3)
    monkeypatch.setattr(loop, "COMPILED_BACKENDS", ())  # compiling takes longer than these few steps
    monkeypatch.setattr(RunFolder, "_write_clip", lambda *args: None)


def run(folder, total, state=FRESH, events=None, preset=PRESET):
    windows = Windows(tones(8), preset.model, 250)
    job = loop.Job(
        preset, windows, validation_batches(windows, 4), RunFolder(folder, 16000, tensorboard=False), total, 0
    )
    report = events.append if events is not None else lambda event: None
    return loop.run(job, state, lambda model, now: None, report)


def test_going_on_is_the_same_as_not_stopping(tmp_path):
    through = run(tmp_path / "through", 6)
    run(tmp_path / "halves", 3)
    halves = run(tmp_path / "halves", 6, read_state(tmp_path / "halves"))
    assert [replace(point, wall_s=0) for point in halves.history] == [
        replace(point, wall_s=0) for point in through.history
    ]
    assert sorted(point.wall_s for point in halves.history) == [point.wall_s for point in halves.history]
    assert (halves.step, halves.best_loss) == (6, through.best_loss)
    a, b = (load_file(tmp_path / name / CHECKPOINT) for name in ("through", "halves"))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert any(name.startswith("optimizer/") for name in a)


def test_every_step_takes_its_own_batch(tmp_path, monkeypatch):
    whole, taken = RandomCrops.batch, []
    monkeypatch.setattr(RandomCrops, "batch", lambda self, step: taken.append(step) or whole(self, step))
    run(tmp_path, 5)
    assert sorted(set(taken)) == [0, 1, 2, 3, 4]


def test_steps_are_counted_exactly(tmp_path):
    events = []
    state = run(tmp_path, 4, events=events)
    assert state.step == 4
    assert state.finished
    assert [point.step for point in state.history] == [3, 4]
    assert max(event.step for event in events) == 4


def test_the_loss_falls(tmp_path):
    state = run(tmp_path, 30)
    assert state.best_loss < 0.8 * state.history[0].validation_loss
    rows = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "step,loss,validation_loss,wall_s"
    assert len(rows) == 11


def test_a_broken_loss_goes_back_to_the_last_checkpoint(tmp_path, monkeypatch):
    whole, events = RandomCrops.batch, []

    def batch(self, step):
        inputs, audio = whole(self, step)
        if step == 4 and not any(event.event == "rollback" for event in events):
            audio = np.full_like(audio, np.nan)
        return inputs, audio

    monkeypatch.setattr(RandomCrops, "batch", batch)
    state = run(tmp_path, 6, events=events)
    assert [event.step for event in events if event.event == "rollback"] == [3]
    assert (state.step, state.rollbacks) == (6, 1)
    assert all(math.isfinite(point.loss) for point in state.history)


def test_a_loss_that_stays_broken_ends_with_a_sentence(tmp_path, monkeypatch):
    whole = RandomCrops.batch
    monkeypatch.setattr(
        RandomCrops, "batch", lambda self, step: (whole(self, step)[0], np.full_like(whole(self, step)[1], np.nan))
    )
    monkeypatch.setattr(loop, "MAX_ROLLBACKS", 1)
    with pytest.raises(ModelError, match="became infinite"):
        run(tmp_path, 3)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, 1)
    other = msgspec.structs.replace(PRESET, model=small_model(inputs=["pw_scaled"]))
    with pytest.raises(ModelError, match="belongs to another model"):
        run(tmp_path, 2, read_state(tmp_path), preset=other)


def test_a_torn_checkpoint_is_named(tmp_path):
    assert read_state(tmp_path) is None
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        read_state(tmp_path)
