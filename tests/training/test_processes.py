"""Several processes train as one does; if one is killed, all end, and the training resumes from the checkpoint."""

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
from ddsp_cli.training.resources import Members, members_from_environment, take_one_gpu
from ddsp_cli.workflows.prepare import prepare
from ddsp_cli.workflows.train import train
from fixtures import melody
from training_fixtures import small_preset

#: Starts `ddsp train` several times, as a launcher does; prints the process IDs, and at last the exit codes. TensorFlow
#: is imported once and the processes are forked, because the import takes longer than the steps. They run without XLA,
#: whose compilation takes longer too, and there is no page at the end.
LAUNCHER = """
import json, os, sys
n, port, eager, home = int(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1) == "eager", sys.argv.pop(1)
import tensorflow
from ddsp_cli.cli import main
from ddsp_cli.training import loop, parallel
from ddsp_cli.workflows import train
loop.COMPILED_BACKENDS = ()
train.write_training_report = lambda *_: None
children = []
for rank in range(n):
    child = os.fork()
    if child == 0:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(n), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        os.dup2(os.open(f"{home}/{rank}.error", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        tensorflow.config.run_functions_eagerly(eager)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    children.append(child)
print(json.dumps(children), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


def test_who_takes_part_is_read_from_the_launcher():
    assert members_from_environment({}) is None
    assert members_from_environment({"WORLD_SIZE": "1", "RANK": "0"}) is None
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    assert members_from_environment(torchrun) == Members(2, 1, ("127.0.0.1:29501", "127.0.0.1:29502"))
    kubernetes = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 2}}
    assert members_from_environment({"TF_CONFIG": json.dumps(kubernetes)}) == Members(3, 2, ("a:1", "b:1", "c:1"))
    assert members_from_environment({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}) == Members(4, 3)
    assert (
        members_from_environment({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None
    )  # in a batch script, without srun


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
        members_from_environment(environment)
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
    prepare([home / "takes"], name="tone", out=home / "datasets" / "tone", workers=1, report=False)
    preset = small_preset(steps=6, batch_size=4, validation_steps=3)
    (home / "small.yaml").write_text(dump_yaml(preset), encoding="utf-8")
    return home


class Launch:
    """`ddsp train` in n processes; op by op where `eager`, which takes less time than to trace the model."""

    def __init__(self, home: Path, n: int, *more: str, eager: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-c", LAUNCHER, str(n), str(port), "eager" if eager else "graph", str(home),
                   "train", "--instrument", "tone", "--preset", "small.yaml", "--out", "models/many", "--no-listen",
                   *more]  # fmt: skip
        self._home, self._n = home, n
        self._launcher = subprocess.Popen(command, cwd=home, text=True, stdout=subprocess.PIPE)
        assert self._launcher.stdout is not None
        self.pids: list[int] = json.loads(self._launcher.stdout.readline())

    @property
    def errors(self) -> list[str]:
        """Standard error of each process."""
        return [(self._home / f"{rank}.error").read_text(encoding="utf-8") for rank in range(self._n)]

    @property
    def runs(self) -> bool:
        return self._launcher.poll() is None

    def finish(self, timeout_s: float = 240.0) -> list[int]:
        """Exit code of each process."""
        try:
            return json.loads(self._launcher.communicate(timeout=timeout_s)[0])
        finally:
            for pid in self.pids if self.runs else ():
                os.kill(pid, signal.SIGKILL)
            self._launcher.kill()


def losses(home: Path, out: str) -> list[list[float]]:
    with (home / f"{out}.run" / "log.csv").open(encoding="utf-8") as stream:
        return [[float(row["loss"]), float(row["validation_loss"])] for row in csv.DictReader(stream)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_four_processes_are_killed_and_two_resume_as_one_would(home, monkeypatch, uncompiled):
    """One run shows all: losses of 4, of 2 after them and of 1 agree; one that is killed ends all with a sentence."""
    four = Launch(home, 4, "--steps", "100000", eager=True)
    run = home / "models" / "many.run"
    until = time.monotonic() + 240
    while not ((state := checkpoint.read_state(run) if run.exists() else None) and state.step >= 3):
        assert time.monotonic() < until
        assert four.runs, four.errors
        time.sleep(0.1)
    os.kill(four.pids[3], signal.SIGKILL)
    killed_at = time.monotonic()
    *codes, killed = four.finish(150)
    assert time.monotonic() - killed_at < 120
    assert killed == -signal.SIGKILL
    assert not {0, -signal.SIGKILL} & set(codes)
    for error in four.errors[:3]:
        assert "another of the 4 processes of this training ended" in error
        assert "Traceback" not in error
    state = checkpoint.read_state(run)
    assert state is not None
    n_steps = state.step + 3
    two = Launch(home, 2, "--steps", str(n_steps))
    assert two.finish() == [0, 0], two.errors
    after = checkpoint.read_state(run)
    assert after is not None
    assert after.step == n_steps
    assert after.history[: len(state.history)] == state.history
    monkeypatch.chdir(home)
    monkeypatch.setattr("ddsp_cli.workflows.train.write_training_report", lambda *_: None)
    train("tone", preset="small.yaml", out="models/one", steps=n_steps, listen=False)
    wanted = losses(home, "models/one")
    assert len(wanted) == n_steps // 3 >= 2
    assert [pytest.approx(row, abs=1e-3) for row in wanted] == losses(home, "models/many")


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
