"""Several processes learn what one learns; one that is killed ends all of them, and the checkpoint goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from ddsp_cli.config import dump_yaml
from ddsp_cli.errors import UsageError
from ddsp_cli.training import checkpoint
from ddsp_cli.training.launcher import Members, from_environment, take_one_gpu
from ddsp_cli.workflows.prepare import prepare
from ddsp_cli.workflows.train import train
from fixtures import melody
from training_fixtures import small_preset

#: The command without XLA, whose compilation takes longer than these steps.
DDSP = "from ddsp_cli.training import loop; loop.COMPILED_BACKENDS = (); from ddsp_cli.cli import main; main()"


def test_who_takes_part_is_read_from_the_launcher():
    assert from_environment({}) is None
    assert from_environment({"WORLD_SIZE": "1", "RANK": "0"}) is None
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    assert from_environment(torchrun) == Members(2, 1, ("127.0.0.1:29501", "127.0.0.1:29502"))
    kubernetes = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 2}}
    assert from_environment({"TF_CONFIG": json.dumps(kubernetes)}) == Members(3, 2, ("a:1", "b:1", "c:1"))
    assert from_environment({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}) == Members(4, 3)
    assert from_environment({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # in a batch script, without srun


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2", "RANK": "0"},
        {"WORLD_SIZE": "two", "RANK": "0", "MASTER_PORT": "1"},
        {"WORLD_SIZE": "2", "RANK": "2", "MASTER_PORT": "1"},
        {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "1"},
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
    ],
)
def test_variables_that_do_not_suffice_are_refused(environment):
    with pytest.raises(UsageError) as caught:
        from_environment(environment)
    assert caught.value.hint


def test_each_process_takes_one_gpu():
    for environment, wanted in (
        ({"LOCAL_RANK": "3"}, "3"),
        ({"SLURM_LOCALID": "1"}, "1"),
        ({"LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "5"}, "5"),
        ({}, None),
    ):
        take_one_gpu(environment)
        assert environment.get("CUDA_VISIBLE_DEVICES") == wanted


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `datasets/tone` and `small.yaml`."""
    home = tmp_path_factory.mktemp("home")
    (home / "takes").mkdir()
    for i, notes in enumerate(((60, 62, 64, 65, 67), (67, 65, 64, 62, 60), (72, 67, 64, 60, 55))):
        soundfile.write(home / "takes" / f"take {i}.wav", melody(notes, note_s=1.2, rest_s=0.2), 16000)
    prepare([home / "takes"], name="tone", out=home / "datasets" / "tone", workers=1)
    preset = small_preset(steps=6, batch_size=4, validation_steps=3)
    (home / "small.yaml").write_text(dump_yaml(preset), encoding="utf-8")
    return home


def start(home: Path, n: int, out: str, *more: str) -> list[subprocess.Popen[str]]:
    """Starts `ddsp train` in n processes, as a launcher does."""
    command = [sys.executable, "-c", DDSP, "train", "--instrument", "tone", "--preset", "small.yaml", "--no-listen",
               "--out", out, *more]  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(n):
        variables = {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started.append(
            subprocess.Popen(
                command, cwd=home, env=os.environ | variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    return started


def finish(started: list[subprocess.Popen[str]], timeout_s: float = 240.0) -> list[tuple[int, str]]:
    """Exit code and standard error of each process."""
    try:
        errors = [one.communicate(timeout=timeout_s)[1] for one in started]
        return [(one.returncode, error) for one, error in zip(started, errors, strict=True)]
    finally:
        for one in started:
            one.kill()


def losses(home: Path, out: str) -> list[list[float]]:
    with (home / f"{out}.run" / "log.csv").open(encoding="utf-8") as stream:
        return [[float(row["loss"]), float(row["validation_loss"])] for row in csv.DictReader(stream)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow's collectives are tested on Linux and macOS")
def test_two_and_four_processes_learn_what_one_learns(home):
    for n in (1, 2, 4):
        ended = finish(start(home, n, f"models/of {n}"))
        assert [code for code, _ in ended] == [0] * n, ended
    wanted = losses(home, "models/of 1")
    assert len(wanted) == 2
    for n in (2, 4):
        found = losses(home, f"models/of {n}")
        assert [pytest.approx(row, abs=1e-3) for row in wanted] == found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_ends_all_and_another_number_goes_on(home):
    started = start(home, 2, "models/killed", "--steps", "100000")
    run = home / "models" / "killed.run"
    until = time.monotonic() + 200
    while not ((state := checkpoint.read_state(run) if run.exists() else None) and state.step >= 3):
        assert time.monotonic() < until
        assert all(one.poll() is None for one in started), finish(started)
        time.sleep(0.2)
    started[1].send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    (code, error), (other, _) = finish(started, 150)
    assert time.monotonic() - killed_at < 120
    assert other == -signal.SIGKILL
    assert code not in (0, -signal.SIGKILL)
    assert "another of the 2 processes of this training ended" in error
    assert "Traceback" not in error
    state = checkpoint.read_state(run)
    assert state is not None
    ((code, error),) = finish(start(home, 1, "models/killed", "--steps", str(state.step + 3)))
    assert code == 0, error
    after = checkpoint.read_state(run)
    assert after is not None
    assert after.step == state.step + 3
    assert after.history[: len(state.history)] == state.history


def test_a_batch_that_cannot_be_shared_is_refused(home, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "3"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    with pytest.raises(UsageError, match="a batch of 4 cannot be shared by 3 processes"):
        train("tone", preset="small.yaml")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("ddsp_cli.workflows.train.require", lambda *_: None)
    with pytest.raises(UsageError, match="several processes cannot train on jax"):
        train("tone", preset="small.yaml")
