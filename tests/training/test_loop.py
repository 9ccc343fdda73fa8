"""A training resumes exactly where it stopped, recovers from an infinite loss, and converges."""

from __future__ import annotations

import math
import shutil
import threading
from types import SimpleNamespace
from unittest import mock

import keras
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file

from ddsp_cli.backend import COMPILING
from ddsp_cli.bundle.layout import base_config
from ddsp_cli.config import LossConfig, Preset, TrainingConfig
from ddsp_cli.engine import Autoencoder, Reverb
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import model_at_vector
from ddsp_cli.training import checkpoint, loop, pretrain
from ddsp_cli.training.batches import RandomCrops
from ddsp_cli.training.checkpoint import CHECKPOINT, RunState, read_state
from ddsp_cli.training.run_log import RunFolder
from ddsp_cli.training.start import Start
from ddsp_cli.training.windows import Windows, validation_batches
from fixtures import small_model
from training_fixtures import op_by_op, tones

PRESET = Preset(
    description="small",
    model=small_model(),
    training=TrainingConfig(
        batch_size=4, crop_s=0.06, learning_rate=3e-3, validation_steps=2, loss=LossConfig(fft_sizes=(256,))
    ),
)
#: Validated after each step, where a test needs several checkpoints.
OFTEN = replace(PRESET, training=replace(PRESET.training, validation_steps=1))
FRESH = RunState(preset="", dataset="", seed=0)


@pytest.fixture(autouse=True, scope="module")
def short_runs():
    with op_by_op(), mock.patch.object(RunFolder, "_write_clip"):
        yield


def run(folder, total, state=FRESH, events=None, preset=PRESET, on_kept=lambda model, now: None):
    windows = Windows(tones(8, seconds=0.12), preset.model, 250)
    job = loop.Job(
        preset, windows, validation_batches(windows, 8), RunFolder(folder, 16000, tensorboard=False), total, 0
    )
    report = events.append if events is not None else lambda event: None
    return loop.run(job, state, on_kept, report)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """The folder and the end of a training of two steps, each of them validated."""
    folder = tmp_path_factory.mktemp("two steps")
    return folder, run(folder, 2, preset=OFTEN)


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """The folder and the end of a training of one step."""
    folder = tmp_path_factory.mktemp("one step")
    return folder, run(folder, 1)


def test_resuming_equals_training_without_a_stop(tmp_path, two_steps):
    folder, through = two_steps
    run(tmp_path / "halves", 1, preset=OFTEN)
    halves = run(tmp_path / "halves", 2, read_state(tmp_path / "halves"), preset=OFTEN)
    assert [replace(point, wall_s=0) for point in halves.history] == [
        replace(point, wall_s=0) for point in through.history
    ]
    assert sorted(point.wall_s for point in halves.history) == [point.wall_s for point in halves.history]
    assert (halves.step, halves.best_loss) == (2, through.best_loss)
    a, b = (load_file(place / CHECKPOINT) for place in (folder, tmp_path / "halves"))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert any(name.startswith("optimizer/") for name in a)


def test_a_kill_before_the_first_checkpoint_with_history_changes_nothing(tmp_path, one_step):
    def kill(model, now):
        raise KeyboardInterrupt

    events = []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", 1, events=events, on_kept=kill)
    assert all(math.isnan(event.best_loss) for event in events)
    begun = read_state(tmp_path / "killed")
    assert begun == FRESH
    killed, (folder, through) = run(tmp_path / "killed", 1, begun), one_step
    assert killed.history[0].validation_loss == through.history[0].validation_loss == killed.best_loss
    a, b = (load_file(place / CHECKPOINT) for place in (tmp_path / "killed", folder))
    assert all(np.array_equal(a[name], b[name]) for name in b)


def test_steps_are_counted_exactly_and_each_takes_its_own_batch(tmp_path, monkeypatch):
    whole, taken = RandomCrops.batch, []
    monkeypatch.setattr(RandomCrops, "batch", lambda self, step: taken.append(step) or whole(self, step))
    events = []
    state = run(tmp_path, 3, events=events)
    assert sorted(set(taken)) == [0, 1, 2]
    assert state.step == 3
    assert state.finished
    assert [point.step for point in state.history] == [2, 3]
    assert max(event.step for event in events) == 3


def test_the_loss_falls(tmp_path):
    quick = replace(PRESET, training=replace(PRESET.training, learning_rate=3e-2))
    state = run(tmp_path, 6, preset=quick)
    assert state.best_loss < 0.8 * state.history[0].validation_loss
    rows = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "step,loss,validation_loss,wall_s"
    assert len(rows) == 4


def test_a_broken_loss_goes_back_to_the_last_checkpoint(tmp_path, monkeypatch):
    whole, events = RandomCrops.batch, []

    def batch(self, step):
        inputs, audio = whole(self, step)
        if step == 1 and not any(event.event == "rollback" for event in events):
            audio = np.full_like(audio, np.nan)
        return inputs, audio

    monkeypatch.setattr(RandomCrops, "batch", batch)
    state = run(tmp_path, 2, events=events, preset=OFTEN)
    assert [event.step for event in events if event.event == "rollback"] == [1]
    assert (state.step, state.rollbacks) == (2, 1)
    assert all(math.isfinite(point.loss) for point in state.history)


def test_a_loss_that_stays_broken_ends_with_a_sentence(tmp_path, monkeypatch):
    whole = RandomCrops.batch
    monkeypatch.setattr(
        RandomCrops, "batch", lambda self, step: (whole(self, step)[0], np.full_like(whole(self, step)[1], np.nan))
    )
    monkeypatch.setattr(loop, "MAX_ROLLBACKS", 1)
    with pytest.raises(ModelError, match="became infinite"):
        run(tmp_path, 1)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, one_step):
    shutil.copytree(one_step[0], tmp_path, dirs_exist_ok=True)
    other = msgspec.structs.replace(PRESET, model=small_model(inputs=["pw_scaled"]))
    with pytest.raises(ModelError, match="belongs to another model"):
        run(tmp_path, 2, read_state(tmp_path), preset=other)


def test_a_torn_checkpoint_is_named(tmp_path):
    assert read_state(tmp_path) is None
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        read_state(tmp_path)


def test_a_training_ends_when_it_no_longer_helps(tmp_path):
    impatient = replace(PRESET, training=replace(PRESET.training, learning_rate=1e-12, patience=2))
    events = []
    state = run(tmp_path, 90, events=events, preset=impatient)
    best = min(state.history, key=lambda point: point.validation_loss)
    assert state.finished
    assert state.step == best.step + 2 * 2 < 90
    assert events[-1].event == "enough"
    events.clear()
    assert run(tmp_path, 180, state, events, preset=impatient) == state  # and it stays so
    assert [event.event for event in events] == ["enough"], "and says why"


def test_a_model_that_fell_silent_goes_back(tmp_path, monkeypatch):
    """Silence has a finite loss."""
    fit, falls = keras.Model.fit, [1]

    def silenced(self, crops, **kwargs):
        fit(self, crops, **kwargs)
        if crops.first_step in falls:
            falls.remove(crops.first_step)
            self.decoder.dense_out.bias.assign(self.decoder.dense_out.bias * 0 - 100.0)

    monkeypatch.setattr(keras.Model, "fit", silenced)
    events = []
    state = run(tmp_path, 2, events=events, preset=OFTEN)
    assert [event.step for event in events if event.event == "rollback"] == [1]
    assert state.rollbacks == 1
    assert [point.step for point in state.history] == [1, 2]


def test_the_last_weights_are_kept_where_the_preset_says_so(tmp_path):
    for keep, kept_steps in (("best", [1]), ("last", [1, 2, 3])):
        training = replace(PRESET.training, validation_steps=1, patience=1, keep=keep)
        events, kept = [], []
        with mock.patch.object(loop, "validate", side_effect=[(1.0, 1.0), (3.0, 1.0), (2.0, 1.0)]):
            state = run(
                tmp_path / keep, 3, events=events, preset=replace(PRESET, training=training),
                on_kept=lambda model, now, kept=kept: kept.append(now.step),
            )  # fmt: skip
        assert kept == kept_steps
        assert state.kept == state.history[0 if keep == "best" else -1]
        assert state.best_loss == 1.0
        assert state.step == (2 if keep == "best" else 3), "early stopping counts only where the best are kept"
        assert ("kept" in [event.event for event in events]) == (keep == "last")


def test_an_instrument_that_is_trained_further_never_ends_worse(tmp_path):
    """The learning rate here breaks everything at once."""
    wild = replace(PRESET, training=replace(PRESET.training, learning_rate=1.0, clip_norm=1e9))
    parent = loop.build(PRESET, seed=7).get_weights_by_name()
    windows = Windows(tones(8, seconds=0.12), PRESET.model, 250)
    records = RunFolder(tmp_path, 16000, tensorboard=False)
    job = loop.Job(wild, windows, validation_batches(windows, 8), records, 2, 0, parent)
    kept = []
    state = loop.run(job, FRESH, lambda model, now: kept.append(model.get_weights_by_name()), lambda event: None)
    assert [point.step for point in state.history] == [0, 2]
    assert state.best_loss == state.history[0].validation_loss < state.history[1].validation_loss
    (best,) = kept
    assert all(np.array_equal(best[name], parent[name]) for name in parent)
    assert read_state(tmp_path).step == 2


def test_with_a_base_there_is_an_instrument_before_the_first_step(tmp_path):
    config = base_config(PRESET.model, ["a", "b"], 16)
    vector = np.ones(16, np.float32)
    _, weights = model_at_vector(config, Autoencoder(config, seed=1).get_weights_by_name(), vector)
    decoder = {name: value for name, value in weights.items() if name.startswith("decoder/")}
    start = Start(decoder, "b", vector, {"a": 2.0, "b": 1.0}, 1.0)
    windows = Windows(tones(4, seconds=0.3), PRESET.model, 250)
    made = []
    job = loop.Job(
        PRESET, windows, validation_batches(windows, 8), RunFolder(tmp_path, 16000, tensorboard=False), 2, 0,
        start=start,
    )  # fmt: skip
    state = loop.run(job, FRESH, lambda *found: made.append((found[0].get_weights_by_name(), found[1])), lambda _: None)
    played, first = made[0]
    assert (first.step, first.history, first.nearest) == (0, [], "b")
    assert all(np.array_equal(played[name], value) for name, value in decoder.items())
    assert state.vector == first.vector == [1.0] * 16
    assert read_state(tmp_path).vector == state.vector  # a resumed run has it


def test_a_kill_after_the_parent_was_judged_changes_nothing(tmp_path, monkeypatch):
    """A validation draws noise; the noise after it is the same in a run that was killed."""
    parent = loop.build(PRESET, seed=7).get_weights_by_name()
    windows = Windows(tones(8, seconds=0.12), PRESET.model, 250)

    def fine_tune(folder):
        records = RunFolder(folder, 16000, tensorboard=False)
        job = loop.Job(PRESET, windows, validation_batches(windows, 8), records, 1, 0, parent)
        return loop.run(job, read_state(folder) or FRESH, lambda model, now: None, lambda event: None)

    def kill(*args):
        raise KeyboardInterrupt

    through = fine_tune(tmp_path / "through")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", kill)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(tmp_path / "killed")
    assert [point.step for point in read_state(tmp_path / "killed").history] == [0]
    killed = fine_tune(tmp_path / "killed")
    assert [(p.step, p.loss, p.validation_loss) for p in killed.history] == [
        (p.step, p.loss, p.validation_loss) for p in through.history
    ]


def test_a_model_that_is_silent_from_the_beginning_may_learn(tmp_path):
    silent = loop.build(PRESET, seed=0)
    silent.decoder.dense_out.bias.assign(silent.decoder.dense_out.bias * 0 - 30.0)
    windows = Windows(tones(8, seconds=0.12), PRESET.model, 250)
    records = RunFolder(tmp_path, 16000, tensorboard=False)
    parent = silent.get_weights_by_name()
    job = loop.Job(OFTEN, windows, validation_batches(windows, 8), records, 2, 0, parent)
    state = loop.run(job, FRESH, lambda model, now: None, lambda event: None)
    assert state.history[0].level < 1e-4
    assert (state.step, state.rollbacks) == (2, 0)


def test_the_room_learns_at_its_own_pace(tmp_path):
    moved = {}
    for pace in (1.0, 10.0):
        preset = replace(PRESET, training=replace(PRESET.training, room_pace=pace, clip_norm=1e9))
        model = loop.build(preset, seed=0)
        before = model.get_weights_by_name()
        windows = Windows(tones(4), preset.model, 250)
        inputs, audio = windows.cut(np.arange(4), np.zeros(4, int), 10)
        model.train_on_batch(inputs, audio)
        after = model.get_weights_by_name()
        moved[pace] = {name: np.median(np.abs(after[name] - before[name])) for name in before}
    for name in moved[1.0]:
        assert moved[10.0][name] == pytest.approx(moved[1.0][name] * (10 if "decoder" not in name else 1), rel=0.05)


def test_a_cosine_goes_up_and_then_down_to_almost_nothing():
    training = TrainingConfig(schedule="cosine", learning_rate=1e-3, warmup_steps=10)
    rate = loop.schedule(training, 100)
    rates = [float(rate(step)) for step in range(101)]
    assert np.argmax(rates) == 10
    assert rates[10] == pytest.approx(1e-3)
    assert rates[0] < 1e-4
    assert rates[100] < 3e-5
    assert np.all(np.diff(rates[10:]) < 0)


def test_a_penalty_for_the_room_is_learned_from_and_not_judged_by():
    losses = {}
    for penalty in (0.0, 100.0):
        loss = replace(PRESET.training.loss, room_penalty=penalty)
        model = loop.build(replace(PRESET, training=replace(PRESET.training, loss=loss)), seed=0)
        windows = Windows(tones(4), PRESET.model, 250)
        inputs, audio = windows.cut(np.arange(4), np.zeros(4, int), 10)
        size = float(model.room.reverberance())
        losses[penalty] = []
        for step in (model.test_on_batch, model.train_on_batch):
            model.reset_metrics()
            losses[penalty].append(float(step(inputs, audio, return_dict=True)["loss"]))
    (judged, learned), (judged_too, penalised) = losses.values()
    assert judged_too == pytest.approx(judged, rel=1e-5)
    assert penalised - learned == pytest.approx(100.0 * size, rel=0.02)


def test_reverberance_is_energy_that_counts_more_when_it_is_late():
    room = Reverb(length_samples=100)
    energies = []
    for place in (1, 99):
        room.ir.assign(np.eye(100)[place] * 0.5)
        energies.append(float(room.reverberance()))
    assert energies == pytest.approx([0.25 * (1 + 9 / 99), 2.5], rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, 1e10])
def test_weights_that_no_instrument_can_store_never_count_as_best(tmp_path, monkeypatch, value):
    """The loss may be finite: a weight of 1e10 is infinite in half precision."""
    fit, breaks, kept = keras.Model.fit, [1], []

    def broken(self, crops, **kwargs):
        fit(self, crops, **kwargs)
        if crops.first_step in breaks:
            breaks.remove(crops.first_step)
            kernel = self.decoder.dense_out.kernel
            kernel.assign(np.where(np.arange(kernel.shape[1]) == 1, value, np.array(kernel)))

    monkeypatch.setattr(keras.Model, "fit", broken)
    monkeypatch.setattr(loop, "validate", lambda model, batches: (1.0 / (len(kept) + 1), 1.0))  # finite, and better
    events = []
    state = run(
        tmp_path, 2, events=events, preset=OFTEN, on_kept=lambda model, now: kept.append(model.get_weights_by_name())
    )
    assert [event.step for event in events if event.event == "rollback"] == [1]
    assert [point.step for point in state.history] == [1, 2]
    assert len(kept) == 2
    assert all(np.abs(weight).max() < 100 for weights in kept for weight in weights.values())


def test_a_flipped_bit_in_the_checkpoint_costs_one_validation(tmp_path, two_steps):
    """The exponent of a weight was damaged: training continued, and its result was saved as the best."""
    folder, through = two_steps
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-101] ^= 0x40
    path.write_bytes(content)
    found = checkpoint.read(tmp_path)
    assert (found.state.step, found.damaged) == (1, path)
    flipped = run(tmp_path, 2, found.state, preset=OFTEN)
    assert [(p.step, p.validation_loss) for p in flipped.history] == [
        (p.step, p.validation_loss) for p in through.history
    ]


def test_the_fit_to_measured_controls_is_reported_step_by_step(monkeypatch):
    def fit(_model, _windows, n_steps, _batch_size, _seed, _compiled, report, **_):
        for n_done in range(1, n_steps + 1):
            report(n_done)

    monkeypatch.setattr(loop, "pretrain", fit)
    training = msgspec.structs.replace(PRESET.training, pretrain_steps=3)
    preset = msgspec.structs.replace(PRESET, training=training)
    windows = SimpleNamespace(in_memory=lambda: None)
    job = SimpleNamespace(preset=preset, total_steps=9, seed=0, start=None, train=windows)
    events = []
    state = loop.fit_measured_controls(job, None, FRESH, events.append)
    assert state == replace(FRESH, fit_steps=3, fit_step=3)
    assert [(event.event, event.step, event.total) for event in events] == [
        ("phase", 0, 9), ("pretrain", 1, 3), ("pretrain", 2, 3), ("pretrain", 3, 3),
    ]  # fmt: skip
    assert (
        events[0].message
        == "fitting the decoder to measured harmonics and noise, 3 steps before the first one on sound"
    )
    assert events[0].message.startswith(events[1].message)
    assert loop.fit_measured_controls(job, None, state, events.append) == state
    assert len(events) == 4, "it is complete"


def test_a_short_training_has_a_short_fit():
    training = replace(PRESET.training, pretrain_steps=1000, steps=1500)
    assert [loop.fit_steps(training, total) for total in (1, 5, 100, 1500, 9000)] == [10, 50, 1000, 1000, 1000]
    assert loop.fit_steps(replace(training, steps=5), 5) == 1000, "a preset may be short itself"


FITTED = replace(PRESET, training=replace(PRESET.training, steps=1, pretrain_steps=3))


@pytest.fixture(scope="module")
def fitted_step(tmp_path_factory):
    """The folder and the end of a training of one step after three of the fit to measured controls."""
    folder = tmp_path_factory.mktemp("fitted")
    return folder, run(folder, 1, preset=FITTED)


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_fit_that_was_killed_resumes_as_if_it_had_not_been(tmp_path, fitted_step, monkeypatch, last):
    """After each of its steps, and after it, when the model waits for its first step on sound."""
    monkeypatch.setattr(pretrain, "KEEP_STEPS", 1)
    saved = RunFolder.save

    def kill(folder, model, state):
        saved(folder, model, state)
        if state.fit_step == last:
            raise KeyboardInterrupt

    with mock.patch.object(RunFolder, "save", kill), pytest.raises(KeyboardInterrupt):
        run(tmp_path, 1, preset=FITTED)
    state, events = read_state(tmp_path), []
    assert (state.fit_step, state.fit_steps, state.history) == (last, 3, [])
    resumed, (folder, through) = run(tmp_path, 1, state, events, preset=FITTED), fitted_step
    assert [event.step for event in events if event.event == "pretrain"] == [1, 2, 3][last:]
    assert any(f"resuming after step {last}" in event.message for event in events) is (last < 3)
    assert resumed.history[0].validation_loss == through.history[0].validation_loss
    a, b = (load_file(place / CHECKPOINT) for place in (tmp_path, folder))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_fit_to_measured_controls_that_breaks_is_an_error(monkeypatch):
    def fit(*_, **__):
        raise loop.BrokenLossError

    monkeypatch.setattr(loop, "pretrain", fit)
    training = msgspec.structs.replace(PRESET.training, pretrain_steps=3)
    windows = SimpleNamespace(in_memory=lambda: None)
    preset = msgspec.structs.replace(PRESET, training=training)
    job = SimpleNamespace(preset=preset, total_steps=9, seed=0, start=None, train=windows)
    with pytest.raises(ModelError, match="measured harmonics and noise became infinite"):
        loop.fit_measured_controls(job, None, FRESH, lambda progress: None)


def test_an_interrupted_training_does_not_wait_for_the_compiler(monkeypatch):
    """XLA cannot be stopped; in `finally` the end of a training waited for it."""
    released = threading.Event()
    monkeypatch.setattr(loop, "is_compiled", lambda: True)
    model = SimpleNamespace(compile_ahead=lambda *batch: lambda: released.wait(60.0))
    job = loop.Job(PRESET, Windows(tones(2), PRESET.model, 250), [], None, 1, seed=0)
    with pytest.raises(KeyboardInterrupt), loop._compiling_ahead(job, model):
        raise KeyboardInterrupt
    (compiling,) = (thread for thread in threading.enumerate() if thread.name == COMPILING)
    released.set()
    compiling.join(10.0)
    assert not compiling.is_alive()
    with loop._compiling_ahead(job, model):
        pass
    assert not any(thread.name == COMPILING for thread in threading.enumerate()), "else it is waited for"
