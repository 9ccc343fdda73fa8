"""A few steps of training on every installed backend of Keras, each in a separate process.

`make test-backends` runs this where JAX and PyTorch are; elsewhere they are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddsp_cli.backend import native_stderr_held_back

TESTS = Path(__file__).parent.parent

#: Trains to step 4, and to step 2 and then on to 4: the same curve, a lower loss, a checkpoint.
TRAIN = """
import sys
from pathlib import Path
from ddsp_cli import backend
name = backend.load()
from ddsp_cli.config import LossConfig, Preset, TrainingConfig
from ddsp_cli.training import loop
from ddsp_cli.training.windows import Windows, validation_batches
from ddsp_cli.training.run_log import RunFolder
from ddsp_cli.training.checkpoint import RunState, read_state
from fixtures import small_model
from training_fixtures import tones

n_shares = backend.share_batches(4)
loop.COMPILED_BACKENDS = ("jax",)  # which compiles even single operations; for others it takes longer than the steps
loss = LossConfig(fft_sizes=(256,))
training = TrainingConfig(batch_size=4, crop_s=0.3, learning_rate=3e-3, validation_steps=2, loss=loss)
preset = Preset(description="small", model=small_model(), training=training)
windows = Windows(tones(3), preset.model, 250)

def run(folder, n_steps):
    records = RunFolder(Path(sys.argv[1]) / folder, 16000, tensorboard=False, listen=False)
    judge = validation_batches(windows, 4, multiple=n_shares)
    job = loop.Job(preset, windows, judge, records, n_steps, 0, n_shares=n_shares)
    state = read_state(records.path) or RunState(preset="", dataset="", seed=0)
    return loop.run(job, state, lambda model, now: None, lambda event: None)

through = run("through", 4)
run("halves", 2)
halves = run("halves", 4)
curve = [(point.loss, point.validation_loss) for point in through.history]
assert curve == [(point.loss, point.validation_loss) for point in halves.history], (curve, halves.history)
assert through.step == 4
assert curve[1][1] < curve[0][1]
print(name, n_shares, *(loss for loss, _ in curve))
"""


def train(name: str, folder: Path, **variables: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed here (make test-backends installs it)")
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"KERAS_BACKEND": name, "PYTHONPATH": paths} | variables
    command = [sys.executable, "-c", TRAIN, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_a_few_steps(name, tmp_path):
    assert train(name, tmp_path)[0] == name


@pytest.mark.slow
def test_devices_share_a_batch(tmp_path):
    """Training on two simulated devices equals training on one."""
    one = train("jax", tmp_path / "one")
    two = train("jax", tmp_path / "two", XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert (one[1], two[1]) == ("1", "2")
    assert [float(loss) for loss in two[2:]] == pytest.approx([float(loss) for loss in one[2:]], rel=1e-3)


def test_messages_of_libraries_are_shown_after_an_error_and_not_after_ctrl_c(capfd):
    for problem, shown in ((ValueError, True), (KeyboardInterrupt, False)):
        with pytest.raises(problem), native_stderr_held_back():
            os.write(2, b"noise of a library\n")
            raise problem
        assert ("noise" in capfd.readouterr().err) == shown
