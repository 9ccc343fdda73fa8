"""The process in which an instrument is prepared and trained: `python -m ddsp_cli.studio.trainer FOLDER ACTION`.

It calls the same workflows as `ddsp prepare` and `ddsp train`, and tells how far it is in `progress.json` in the folder
of the project. So the server loads no training framework, and a page that is closed does not end the work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from ddsp_cli.atomic import write_bytes
from ddsp_cli.errors import DdspError

#: Interval at which progress is written.
TOLD_EVERY_S = 0.4


class Project(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of a project, `project.json`.

    Attributes:
      name: of the instrument.
      preset: what it is trained with.
      start_from: the instrument that it begins with; empty for none.
      instrument: its folder.
      steps: of training in all; 0 for the preset's.
      created: seconds since 1970.
    """

    name: str
    preset: str
    start_from: str
    instrument: str
    steps: int = 0
    created: float = 0.0


class Told(msgspec.Struct):
    """Progress of a project, `progress.json`.

    Attributes:
      action: `prepare` or `train`.
      doing: in words.
      done, total: in seconds of sound, or in steps.
      loss, best_loss: of the training; None where there is none.
      error, hint: why it ended, if it failed.
      ended: it is over, well or not.
      finished: the training came to its end.
    """

    action: str
    doing: str = ""
    done: float = 0.0
    total: float = 0.0
    loss: float | None = None
    best_loss: float | None = None
    error: str = ""
    hint: str = ""
    ended: bool = False
    finished: bool = False


class _Progress:
    """Writes `progress.json`, at most once in `TOLD_EVERY_S`.

    Args:
      folder: of the project.
      action: what is done.
    """

    def __init__(self, folder: Path, action: str) -> None:
        self._path, self._next = folder / "progress.json", 0.0
        self.told = Told(action, "starting")
        self.write()

    def __call__(self, **changes: Any) -> None:
        """Updates fields."""
        before, self.told = self.told, msgspec.structs.replace(self.told, **changes)
        if time.monotonic() >= self._next or before.doing != self.told.doing:  # a new phase may be silent for minutes
            self.write()

    def write(self) -> None:
        """Writes the file now."""
        self._next = time.monotonic() + TOLD_EVERY_S
        with contextlib.suppress(OSError):  # the next one may succeed; the work goes on
            write_bytes(self._path, msgspec.json.encode(self.told), durable=False)


def prepare(folder: Path, project: Project, progress: _Progress) -> None:
    """Prepares the data set of the project's recordings."""
    from ddsp_cli.config import load_preset
    from ddsp_cli.workflows.prepare import prepare as run

    def tell(what: str, done: float, total: float) -> None:
        progress(doing=what, done=done, total=total)

    result = run(
        folder / "recordings",
        name=project.name,
        out=folder / "dataset",
        sample_rate_hz=None if project.start_from else load_preset(project.preset).model.sample_rate_hz,
        like=project.start_from or None,
        force=True,
        licence="own recordings",
        progress=tell,
    )
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    plain = {name: value for name, value in values.items() if not isinstance(value, Path)}
    plain["report"] = result.report.name if result.report is not None else ""
    write_bytes(folder / "prepared.json", msgspec.json.encode(plain))


def train(folder: Path, project: Project, progress: _Progress) -> bool:
    """Trains the instrument, or resumes; returns whether the training is finished."""
    from ddsp_cli.training.checkpoint import TrainProgress
    from ddsp_cli.workflows.train import train as run

    def tell(event: TrainProgress) -> None:
        changes: dict[str, Any] = {"done": event.step, "total": event.total}
        if event.event in {"phase", "damaged", "pretrain"}:
            changes["doing"] = event.message
        else:
            changes |= {"doing": "training", "loss": _finite(event.loss), "best_loss": _finite(event.best_loss)}
        progress(**changes)

    result = run(
        project.name,
        dataset=folder / "dataset",
        preset=project.preset,
        steps=project.steps or None,
        out=project.instrument,
        start_from=project.start_from or None,
        progress=tell,
    )
    return result.finished


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def main(folder: Path, action: str) -> int:
    """Does the work and records its outcome."""
    # A server that was started in the background ignores SIGINT, and a child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    progress = _Progress(folder, action)
    try:
        project = msgspec.json.decode((folder / "project.json").read_bytes(), type=Project)
        finished = True
        if action == "train":
            finished = train(folder, project, progress)
        else:
            prepare(folder, project, progress)
        progress(doing="finished" if finished else "stopped", ended=True, finished=finished)
    except KeyboardInterrupt:
        progress(doing="stopped", ended=True)
    except DdspError as problem:
        progress(error=problem.message, hint=problem.hint, ended=True)
    except Exception as problem:
        progress(error=f"something went wrong inside ddsp ({type(problem).__name__})", ended=True)
        raise
    finally:
        progress.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
