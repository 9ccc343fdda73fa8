"""Kills `ddsp train` at random moments and starts it again, until it has been killed so many times.

    python benchmarks/kill_train.py [--kills 30] [--seed 0] [--steps 500] [--keep DIR]

Every round trains the same small model on the same notes: killed (SIGKILL) after a random time, again and again, until
a run comes through. Its curve of losses, its instrument and its last checkpoint then have to be those of an undisturbed
training, bit by bit; after each kill nothing is lost but the steps since the last checkpoint; nothing is left beside.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from safetensors.numpy import load_file

from ddsp_cli import bundle
from ddsp_cli.training.checkpoint import CHECKPOINT, RunState, read_state
from ddsp_cli.workflows.prepare import prepare
from prepare import melody
from small import PRESET


class Training:
    """One command, its instrument and the folder of its run.

    Args:
      place: holds the data set `notes` and `small.yaml`.
      name: of the folder of instruments.
      n_steps: to train.
    """

    def __init__(self, place: Path, name: str, n_steps: int) -> None:
        self.models = place / name
        self.instrument, self.run = self.models / "notes", self.models / "notes.run"
        self.command = [sys.executable, "-m", "ddsp_cli", "train", "--instrument", "notes",
                        "--dataset", str(place / "notes"), "--preset", str(place / "small.yaml"),
                        "--out", str(self.instrument), "--steps", str(n_steps)]  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        """Starts the real command."""
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def state(self) -> RunState:
        """Reads the state of the last checkpoint; an empty state without one."""
        return read_state(self.run) or RunState(preset="", dataset="", seed=0)

    def curve(self) -> list[tuple[int, float, float]]:
        """Reads step, loss and validation loss of every validation."""
        return [(point.step, point.loss, point.validation_loss) for point in self.state().history]

    def files(self) -> list[str]:
        """Returns names of the files, without those of each start: a file for TensorBoard, and a clip."""
        found = (path.relative_to(self.models) for path in self.models.rglob("*") if path.is_file())
        return sorted(p.as_posix() for p in found if p.parts[1] not in {"tensorboard", "clips"} or p.name[0] == ".")


def first_validation_s(training: Training, process: subprocess.Popen[str]) -> float:
    """Waits until a training has left its first checkpoint."""
    begun = time.monotonic()
    while training.state().step == 0:
        if process.poll() is not None:
            sys.exit(process.communicate()[1])
        time.sleep(0.05)
    return time.monotonic() - begun


def differences(one: Training, other: Training) -> list[str]:
    """Returns the differences between two finished trainings."""
    found = ["the curve of losses"] if one.curve() != other.curve() else []
    for what, name in (
        ("the last checkpoint", f"notes.run/{CHECKPOINT}"),
        ("the instrument", "notes/" + bundle.WEIGHTS),
    ):
        a, b = (load_file(training.models / name) for training in (one, other))
        if a.keys() != b.keys() or any(not np.array_equal(a[key], b[key]) for key in a):
            found.append(what)
    return found + (["the files"] if one.files() != other.files() else [])


def main() -> None:
    """Prints what happened; ends with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        work(given.keep, given)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            work(Path(temporary), given)


def work(place: Path, given: argparse.Namespace) -> None:
    """Runs the whole benchmark in one folder."""
    chance = random.Random(given.seed)
    (place / "takes").mkdir()
    for i in range(3):
        soundfile.write(place / "takes" / f"{i}.wav", melody(16000, 12.0, i), 16000)
    prepare([place / "takes"], name="notes", out=place / "notes", workers=1)
    (place / "small.yaml").write_text(PRESET, encoding="utf-8")
    whole = Training(place, "whole", given.steps)
    begun = time.monotonic()
    process = whole.start()
    first_s = first_validation_s(whole, process)
    if process.wait():
        sys.exit(process.communicate()[1])
    usual_s, curve = time.monotonic() - begun, whole.curve()
    each_s = (usual_s - first_s) / max(1, len(curve) - 1)
    print(
        f"an undisturbed training of {given.steps} steps takes {usual_s:.0f} s, {first_s:.0f} s of them until its "
        f"first checkpoint; loss {curve[0][2]:.3f} → {curve[-1][2]:.3f}",
        flush=True,
    )
    n_kills = n_rounds = n_early = 0
    while n_kills < given.kills:
        n_rounds += 1
        killed = Training(place, "killed", given.steps)
        while True:
            before = killed.state().step
            process = killed.start()
            try:
                # from the first imports to the fourth checkpoint of this life
                process.wait(chance.uniform(0.2 * first_s, first_s + 3 * each_s) if n_kills < given.kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                n_kills += 1
                now = killed.state().step
                n_early += now == before
                if now < before or killed.curve() != curve[: len(killed.curve())]:
                    sys.exit(f"kill {n_kills} threw the training back from step {before} to {now}, or bent its curve")
                print(f"kill {n_kills}: {before} → {now} steps on disk", flush=True)
                continue
            if process.returncode:
                sys.exit(f"a run after {n_kills} kills failed: {process.communicate()[1]}")
            break
        if found := differences(whole, killed):
            sys.exit(f"after {n_kills} kills these differ from an undisturbed training: {', '.join(found)}")
        beside = sorted(entry.name for entry in killed.models.iterdir())
        if beside != ["notes", "notes.run"]:
            sys.exit(f"something is left beside the instrument: {beside}")
        shutil.rmtree(killed.models)
    print(
        f"{n_kills} kills in {n_rounds} trainings, {n_early} of them before a new checkpoint: curves, instruments and "
        "checkpoints are those of an undisturbed training, bit by bit; nothing is left beside them"
    )


if __name__ == "__main__":
    main()
