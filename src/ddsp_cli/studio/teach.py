"""Training projects of the studio: recordings, data set, training, each project in its own folder.

    teach/NAME/  project.json  recordings/  dataset/  prepared.json  progress.json  child.json  child.log

An instrument is prepared and trained in a separate process, `python -m ddsp_cli.studio.teach FOLDER ACTION`, which
calls the workflows of `ddsp prepare` and `ddsp train` and writes its progress into `progress.json`. So the server loads
no training framework, and a training continues when the page is closed. A server that ends stops it as Ctrl-C would:
its last checkpoint is kept, and it can be resumed. The instrument is written into the user's library, where every
command finds it.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.bundle import CARD
from ddsp_cli.config import load_preset, preset_names
from ddsp_cli.dataset.manifest import MANIFEST
from ddsp_cli.errors import DdspError, InputError, Kind, OutputError, UsageError
from ddsp_cli.limits import read_regular
from ddsp_cli.reports.pages import TRAINING_PAGE
from ddsp_cli.studio.takes import plain_name, remove_abandoned, size_of_files
from ddsp_cli.training.checkpoint import LOG, run_folder
from ddsp_cli.workflows import models

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")

_CLIP = re.compile(r"original\.wav|step_\d{6,9}\.(wav|png)")

#: All recordings of a project together.
MAX_PROJECT_BYTES = 16 << 30

#: Time for the last checkpoint when the server ends.
STOP_S = 30.0

#: Interval at which progress is written.
PROGRESS_INTERVAL_S = 0.4

_MAX_FILE_BYTES = 64 << 20


#: What a project begins with that learns from random weights, as `ddsp train` calls it.
NOTHING = "none"


class Project(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of a project, `project.json`.

    Attributes:
      name: of the instrument.
      preset: of the training.
      start_from: the instrument that it begins with; `NOTHING` for random weights, empty for the base where the preset
        is of its kind, and random weights otherwise.
      instrument: its folder.
      steps: of training in all; 0 for as many as suit preset and recordings.
      created: seconds since 1970.
    """

    name: str
    preset: str
    start_from: str
    instrument: str
    steps: int = 0
    created: float = 0.0


class ProjectProgress(msgspec.Struct):
    """Progress of a project, `progress.json`.

    Attributes:
      action: `prepare` or `train`.
      doing: in words.
      done, total: in seconds of sound, or in steps.
      loss, best_loss: of the training; None before the first step.
      error, hint: why it ended, if it failed.
      ended: it is over, well or not.
      finished: the training came to its end.
      restartable: it failed because it cannot be resumed, and can be started again from its beginning.
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
    restartable: bool = False


class Teacher:
    """The projects of a studio.

    Args:
      folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        remove_abandoned(folder, "*/*.part")
        self._lock = threading.Lock()

    def projects(self) -> list[dict[str, Any]]:
        """Describes each project for the page, the newest first."""
        names = [path.parent.name for path in self._folder.glob("*/project.json")] if self._folder.is_dir() else []
        found = []
        for name in names:
            with contextlib.suppress(DdspError, OSError):  # it is being removed
                found.append(self.describe(name))
        return sorted(found, key=lambda one: -one["created"])

    def choices(self) -> dict[str, Any]:
        """Lists the choices of a new project."""
        return {"presets": [{"name": name, "description": load_preset(name).description} for name in preset_names()]}

    def create(self, name: str, preset: str, start_from: str) -> dict[str, Any]:
        """Makes a project.

        Raises:
          UsageError: the name is no plain one, or is taken.
        """
        if not _NAME.fullmatch(name):
            raise UsageError("the name of an instrument has letters, digits, - and _, 40 at most", parameter="name")
        models.check_new_name(name)
        if preset not in preset_names():
            raise UsageError(f"there is no preset called {preset[:40]!r}", parameter="preset")
        if start_from not in {"", NOTHING, *models.names()}:
            raise UsageError(f"there is no instrument called {start_from[:40]!r}", parameter="start_from")
        target = models.library() / name
        if target.exists() or (self._folder / name).exists():
            raise UsageError(f"there is an instrument or a project called {name} already", "Choose another name.")
        with writing(self._folder):
            (self._folder / name / "recordings").mkdir(parents=True)
        self._write(Project(name, preset, start_from, str(target.resolve()), created=time.time()))
        return self.describe(name)

    def describe(self, name: str) -> dict[str, Any]:
        """Describes a project: recordings, data set, progress of the training."""
        folder, project = self._folder / name, self._project(name)
        reported = _decode(folder / "progress.json", ProjectProgress)
        running = self._running(name)
        if reported is not None and not reported.ended and not running:
            reported = msgspec.structs.replace(
                reported,
                ended=True,
                error="it ended before it was done",
                hint="Start it again: it resumes where it was.",
            )
        run = run_folder(Path(project.instrument))
        return {
            "name": name,
            "preset": project.preset,
            "start_from": project.start_from,
            "steps": project.steps,
            "created": project.created,
            "recordings": [path.name for path in sorted((folder / "recordings").iterdir())],
            "prepared": _decode(folder / "prepared.json", dict) if (folder / "dataset" / MANIFEST).is_file() else None,
            "report": self._page(name, "dataset").is_file(),
            "running": running,
            "now": msgspec.to_builtins(reported) if reported is not None else None,
            "curve": _curve(run / LOG),
            "clips": sorted(path.name for path in run.glob("clips/*.wav") if _CLIP.fullmatch(path.name)),
            "playable": (Path(project.instrument) / CARD).is_file(),
        }

    def receiving(self, name: str) -> Path:
        """Makes the path for an incoming recording.

        Raises:
          OutputError: the project is full.
          UsageError: it is being worked on.
        """
        folder = self._folder / name / "recordings"
        self._project(name)
        self._check_idle(name)
        if size_of_files(folder) > MAX_PROJECT_BYTES:
            raise OutputError(f"the recordings of a project may take {MAX_PROJECT_BYTES >> 30} GiB")
        return self._folder / name / f"{secrets.token_hex(8)}.part"

    def add(self, name: str, part: Path, given: str) -> dict[str, Any]:
        """Adds a recording that has arrived; one that cannot be read is removed.

        Raises:
          InputError: it is not a sound file.
        """
        shown = plain_name(given)
        suffix = Path(shown).suffix.lower()
        stem = re.sub(r"[^\w()+-]+", "_", Path(shown).stem)[:60] or "recording"
        folder = self._folder / name / "recordings"
        suffix = suffix if suffix in read.READABLE_SUFFIXES else ".wav"
        try:
            with self._lock:  # sounds that arrive at once take a number each
                taken = {path.name.lower() for path in folder.iterdir()}
                n = next(n for n in range(1, 100000) if not any(one.startswith(f"{n:03d}_") for one in taken))
                target = folder / f"{n:03d}_{stem}{suffix}"
                part.rename(target)
            read.probe(target)
        except InputError as problem:
            target.unlink(missing_ok=True)
            raise problem.reworded(problem.message.replace(str(target), shown)) from problem
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return self.describe(name)

    def remove_recording(self, name: str, recording: str) -> dict[str, Any]:
        """Removes a recording of a project."""
        self._project(name)
        self._check_idle(name)
        for path in (self._folder / name / "recordings").iterdir():
            if path.name == recording:
                path.unlink()
        return self.describe(name)

    def remove(self, name: str) -> None:
        """Removes a project; the instrument stays in the library."""
        self._project(name)
        self._check_idle(name)
        with writing(self._folder / name):
            shutil.rmtree(self._folder / name)

    def start(self, name: str, action: str, steps: int | None = None, again: bool = False) -> dict[str, Any]:
        """Prepares or trains in a separate process, or resumes.

        Args:
          name: of the project.
          action: `prepare` or `train`.
          steps: of training in all, see `Project`; None for as many as before.
          again: train from the beginning, and replace the instrument of the training before.

        Raises:
          UsageError: it runs already, or there is nothing to work on.
        """
        folder, project = self._folder / name, self._project(name)
        with self._lock:
            self._check_idle(name)
            if action == "train" and not (folder / "dataset" / MANIFEST).is_file():
                raise UsageError("the recordings are not prepared yet", "Check them first.")
            if not any((folder / "recordings").iterdir()):
                raise UsageError("there are no recordings yet", "Drop some first.")
            if steps is not None:
                self._write(msgspec.structs.replace(project, steps=steps))
            write_bytes(
                folder / "progress.json", msgspec.json.encode(ProjectProgress(action, "starting")), durable=False
            )
            with (folder / "child.log").open("ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "ddsp_cli.studio.teach", str(folder.resolve()), action]
                    + (["again"] if again else []),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
                    **_own_group(),
                )
            self._children[name] = child
            with contextlib.suppress(psutil.Error):
                born = psutil.Process(child.pid).create_time()
                write_bytes(folder / "child.json", msgspec.json.encode({"pid": child.pid, "born": born}), durable=False)
        return self.describe(name)

    def stop(self, name: str) -> None:
        """Stops the work on a project as Ctrl-C does; the last checkpoint is kept."""
        self._project(name)
        child = self._process(name)
        if child is not None:
            with contextlib.suppress(psutil.Error, OSError):
                child.send_signal(signal.SIGINT if os.name == "posix" else signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]

    def close(self) -> None:
        """Stops all work, and waits until it is on disk."""
        names = [name for name in list(self._children) if self._running(name)]
        for name in names:
            self.stop(name)
        ends = time.monotonic() + STOP_S
        for name in names:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._children[name].wait(max(0.0, ends - time.monotonic()))

    def page(self, name: str, which: str) -> bytes:
        """Returns the report of `ddsp prepare`, or the page of `ddsp train`.

        Raises:
          InputError: the file is not written yet.
        """
        path = self._page(name, which)
        if not path.is_file():
            raise InputError("there is no such page yet")
        return read_regular(path, _MAX_FILE_BYTES)

    def clip(self, name: str, clip: str) -> bytes:
        """Reads a clip of the training: a WAV file, or its picture.

        Raises:
          InputError: there is no such clip.
        """
        path = run_folder(Path(self._project(name).instrument)) / "clips" / clip
        if not _CLIP.fullmatch(clip) or not path.is_file():
            raise InputError("there is no such clip")
        return read_regular(path, _MAX_FILE_BYTES)

    # --- files ---

    def _page(self, name: str, which: str) -> Path:
        if which == "training":
            return run_folder(Path(self._project(name).instrument)) / TRAINING_PAGE
        prepared = _decode(self._folder / self._project(name).name / "prepared.json", dict)
        return self._folder / name / "dataset" / Path(str((prepared or {}).get("report") or "none")).name

    def _project(self, name: str) -> Project:
        project = _decode(self._folder / name / "project.json", Project) if _NAME.fullmatch(name) else None
        if project is None:
            raise InputError("there is no such project")
        return project

    def _write(self, project: Project) -> None:
        write_bytes(self._folder / project.name / "project.json", msgspec.json.encode(project))

    def _check_idle(self, name: str) -> None:
        if self._running(name):
            raise UsageError(f"{name} is being worked on", "Wait, or stop it first.")

    def _running(self, name: str) -> bool:
        return self._process(name) is not None

    def _process(self, name: str) -> Any:
        """Returns the process of a project, also of an earlier server; None if no process runs."""
        child = self._children.get(name)
        if child is not None:
            return child if child.poll() is None else None
        known = _decode(self._folder / name / "child.json", dict)
        try:
            assert known is not None
            found = psutil.Process(int(known["pid"]))
            return found if found.create_time() == known["born"] and found.status() != psutil.STATUS_ZOMBIE else None
        except (AssertionError, psutil.Error, KeyError, TypeError, ValueError):
            return None


def _own_group() -> dict[str, Any]:
    """Returns arguments for a new process group: Ctrl-C reaches the server alone, which stops its children itself."""
    if os.name == "posix":
        return {"start_new_session": True}
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]


def _decode(path: Path, kind: Any) -> Any:
    """Reads a small JSON file; None if it is missing or damaged."""
    try:
        return msgspec.json.decode(read_regular(path, 1 << 22), type=kind) if path.is_file() else None
    except (msgspec.MsgspecError, DdspError, OSError):
        return None


def _curve(path: Path) -> list[list[float]]:
    """Returns step, training loss and validation loss of every validation so far."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_regular(path, _MAX_FILE_BYTES).decode("utf-8", "replace"))))
        return [[float(row["step"]), float(row["loss"]), float(row["validation_loss"])] for row in rows]
    except (DdspError, OSError, KeyError, TypeError, ValueError):
        return []


# --- the process that prepares and trains ----------------------------------------------------------------------------


class _Progress:
    """Writes `progress.json`, at most once in `PROGRESS_INTERVAL_S`.

    Args:
      folder: of the project.
      action: `prepare` or `train`.
    """

    def __init__(self, folder: Path, action: str) -> None:
        self._path, self._next = folder / "progress.json", 0.0
        self.state = ProjectProgress(action, "starting")
        self.write()

    def __call__(self, **changes: Any) -> None:
        """Updates fields."""
        before, self.state = self.state, msgspec.structs.replace(self.state, **changes)
        if time.monotonic() >= self._next or before.doing != self.state.doing:  # a new phase may be silent for minutes
            self.write()

    def write(self) -> None:
        """Writes the file now."""
        self._next = time.monotonic() + PROGRESS_INTERVAL_S
        with contextlib.suppress(OSError):  # the next one may succeed; the work continues
            write_bytes(self._path, msgspec.json.encode(self.state), durable=False)


def prepare(folder: Path, project: Project, progress: _Progress) -> None:
    """Prepares the data set of the project's recordings."""
    from ddsp_cli.config import load_preset
    from ddsp_cli.workflows.prepare import prepare as run

    def report(what: str, done: float, total: float) -> None:
        progress(doing=what, done=done, total=total)

    like = project.start_from if project.start_from not in {"", NOTHING} else None
    result = run(
        folder / "recordings",
        name=project.name,
        out=folder / "dataset",
        sample_rate_hz=None if like else load_preset(project.preset).model.sample_rate_hz,
        like=like,
        force=True,
        licence="own recordings",
        progress=report,
    )
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    plain = {name: value for name, value in values.items() if not isinstance(value, Path)}
    plain["report"] = result.report.name if result.report is not None else ""
    write_bytes(folder / "prepared.json", msgspec.json.encode(plain))


def train(folder: Path, project: Project, progress: _Progress, again: bool = False) -> bool:
    """Trains the instrument, or resumes; returns whether the training is finished."""
    from ddsp_cli.training.checkpoint import TrainProgress
    from ddsp_cli.workflows.train import train as run

    def report(event: TrainProgress) -> None:
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
        resume=not again,
        force=again,
        start_from=project.start_from or None,
        progress=report,
    )
    return result.finished


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


#: Errors of a training that another one from the beginning cures.
_RESTARTABLE = frozenset({Kind.OTHER_RUN, Kind.CHECKPOINT_UNUSABLE, Kind.EXISTS})


def main(folder: Path, action: str, again: bool = False) -> int:
    """Does the work and records its outcome.

    Args:
      folder: of the project.
      action: `prepare` or `train`.
      again: train from the beginning.
    """
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
            finished = train(folder, project, progress, again)
        else:
            prepare(folder, project, progress)
        progress(doing="finished" if finished else "stopped", ended=True, finished=finished)
    except KeyboardInterrupt:
        progress(doing="stopped", ended=True)
    except DdspError as problem:
        message, hint, restartable = problem.message, problem.hint, action == "train" and problem.kind in _RESTARTABLE
        if restartable:
            hint = "Train again from the beginning; the instrument is replaced when the new one can be played."
            if problem.details.get("argument") == "dataset":
                message = "the recordings have changed since this training began"
        progress(error=message, hint=hint, ended=True, restartable=restartable)
    except Exception as problem:
        progress(error=f"something went wrong inside ddsp ({type(problem).__name__})", ended=True)
        raise
    finally:
        progress.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], again="again" in sys.argv[3:]))
