"""The records of a run: complete files at little cost, without any effect on the training."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from ddsp_cli.audio.write import written_by_ddsp
from ddsp_cli.training import loop, run_log
from ddsp_cli.training.checkpoint import CHECKPOINT, Point, RunState, read_state
from ddsp_cli.training.run_log import RunFolder
from ddsp_cli.training.windows import Windows, validation_batches
from training_fixtures import small_preset, tones

pytestmark = pytest.mark.usefixtures("uncompiled")
PRESET = small_preset(validation_steps=1)


def run(folder: RunFolder, n_steps: int) -> RunState:
    windows = Windows(tones(4, seconds=0.24), PRESET.model, 250)
    windows.audio[1:] *= 0.1
    job = loop.Job(PRESET, windows, validation_batches(windows, 4), folder, n_steps, 0)
    return loop.run(job, RunState(preset="", dataset="", seed=0), lambda model, now: None, lambda event: None)


def clips_of(folder: RunFolder) -> list[str]:
    return sorted(entry.name for entry in (folder.path / "clips").iterdir())


def test_a_clip_changes_nothing_of_the_training(tmp_path, monkeypatch):
    """Rendering a clip draws noise; a run that resumes from the checkpoint before it must give the same result."""
    monkeypatch.setattr(run_log, "CLIP_EVERY_S", 0.0)
    monkeypatch.setattr(run_log, "CLIP_SHARE", 1e9)
    heard = run(RunFolder(tmp_path / "heard", 16000, tensorboard=False), 2)
    unheard = run(RunFolder(tmp_path / "unheard", 16000, tensorboard=False, listen=False), 2)
    assert [point.loss for point in heard.history] == [point.loss for point in unheard.history]
    a, b = (load_file(tmp_path / name / CHECKPOINT) for name in ("heard", "unheard"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert len(list((tmp_path / "heard/clips").glob("step_*.wav"))) == 2
    assert not (tmp_path / "unheard/clips").exists()


def test_clips_are_the_loudest_window_and_what_is_made_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "CLIP_EVERY_S", 1e9)  # however slow this machine is
    folder = RunFolder(tmp_path, 16000, tensorboard=False)
    run(folder, 3)
    assert clips_of(folder) == [
        "original.wav", "step_000001.png", "step_000001.wav", "step_000003.png", "step_000003.wav"
    ], "the first and the last validation; the one between came too soon"  # fmt: skip
    original, rate = soundfile.read(tmp_path / "clips/original.wav")
    np.testing.assert_allclose(original, tones(4, seconds=0.24).audio[0], atol=1e-4)
    assert rate == 16000
    made, _ = soundfile.read(tmp_path / "clips/step_000003.wav")
    assert made.shape == original.shape
    assert np.abs(made).max() > 0
    assert all(written_by_ddsp(path) for path in (tmp_path / "clips").glob("*.wav"))


def test_dear_clips_come_seldom(tmp_path, monkeypatch):
    folder, clock, written = RunFolder(tmp_path, 16000, tensorboard=False), [1000.0], []

    def dear(step, model, batch):
        written.append(step)
        clock[0] += 20.0  # seconds for a clip: fifty times as long has to pass

    monkeypatch.setattr(run_log.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(folder, "_write_clip", dear)
    for step in range(1, 301):
        clock[0] += 10.0
        points = [Point(step, 1.0, 1.0)]
        folder.write(RunState(preset="", dataset="", seed=0, history=points, finished=step == 300), None, None)
    assert written == [1, 101, 201, 300]


def test_a_log_that_somebody_has_open_waits_for_the_next_validation(tmp_path, monkeypatch):
    """As Windows answers while a spreadsheet shows it."""
    folder = RunFolder(tmp_path, 16000, tensorboard=False, listen=False)
    state = RunState(preset="", dataset="", seed=0, history=[Point(1, 2.0, 1.0)])

    def refuse(*args):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", refuse)
        folder.write(state, None, None)
    assert not list(tmp_path.iterdir())
    folder.write(state, None, None)
    assert (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()[1].startswith("1,2.0")
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.csv"]


def test_a_fresh_run_removes_the_clips_of_the_run_before(tmp_path, monkeypatch):
    run(RunFolder(tmp_path, 16000, tensorboard=False), 1)
    assert "step_000001.wav" in clips_of(RunFolder(tmp_path, 16000, tensorboard=False))

    def kill(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "advance", kill)
    with pytest.raises(KeyboardInterrupt):
        run(RunFolder(tmp_path, 16000, tensorboard=False), 1)
    assert not read_state(tmp_path).history
    assert clips_of(RunFolder(tmp_path, 16000, tensorboard=False)) == ["original.wav"]


def test_tensorboard_gets_figures_sounds_and_pictures(tmp_path):
    pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(RunFolder(tmp_path, 16000), 1)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    kinds = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    assert kinds["loss/training"] == kinds["loss/validation"] == "scalars"
    assert (kinds["validation/sound"], kinds["validation/spectrogram"]) == ("audio", "images")
    width, height = events.Tensors("validation/spectrogram")[0].tensor_proto.string_val[:2]
    assert (int(width), int(height)) == (990, 630)


def test_a_fresh_run_removes_the_events_of_the_run_before(tmp_path):
    pytest.importorskip("tensorflow")
    names = []
    for _ in range(2):
        run(RunFolder(tmp_path, 16000, listen=False), 1)
        (events,) = (tmp_path / "tensorboard").iterdir()
        names.append(events.name)
    assert names[0] != names[1]


def test_records_without_times_are_still_read():
    old = b'{"preset": "", "dataset": "", "seed": 0, "history": [{"step": 3, "loss": 2.0, "validation_loss": 1.0}]}'
    assert msgspec.json.decode(old, type=RunState).history == [Point(3, 2.0, 1.0, 0.0)]
