"""`ddsp train`: train an instrument on a data set.

Everything is resolved and checked before a framework is loaded (`train_plan`). Then the training loop runs, the weights
that are kept become a bundle, which `train_finish` completes, and the run leaves a page beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from ddsp_cli import __version__, atomic, backend, bundle
from ddsp_cli.bundle.card import describe_ranges, missing_recordings
from ddsp_cli.bundle.layout import learned
from ddsp_cli.dataset.manifest import load_manifest
from ddsp_cli.errors import DatasetError, Kind, OutputError, UsageError
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.packages import require
from ddsp_cli.remote import as_place
from ddsp_cli.reports.pages import TrainingSummary, write_training_report
from ddsp_cli.scaling import midi_to_hz, unscale_db
from ddsp_cli.synthesis.decoder import zero_note_bias
from ddsp_cli.training import checkpoint, compile_cache, resources
from ddsp_cli.training.checkpoint import RunState, TrainProgress
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path
from ddsp_cli.workflows.train_plan import LITTLE_S, Plan, hides_bundled, make_plan, new_state, state_to_start_from

if TYPE_CHECKING:
    from ddsp_cli.dataset.loader import Dataset
    from ddsp_cli.dataset.manifest import Manifest
    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.training.loop import Job, OnKept
    from ddsp_cli.training.parallel import Group
    from ddsp_cli.training.run_log import RunFolder
    from ddsp_cli.training.start import Start
    from ddsp_cli.training.windows import AnyWindows, Windows

#: Weights that were trained on little material are moved back towards the base, so that notes unlike those of the
#: recordings keep more of what the base knows: to this share of the change for 30 s of notes, to all of it for
#: `LITTLE_S` (weight interpolation: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The mean
#: loss of half a minute of eight instruments on held-out recordings falls by 0.05, their level error by 0.1 dB.
LITTLE_CHANGE, LITTLE_CHANGE_NOTES_S = (0.8, 1.0), (30.0, LITTLE_S)


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training.

    Attributes:
      folder: of the instrument.
      run_folder: of the run's own files.
      steps, wall_s: of the training.
      parameters: weights of the network and its room.
      first_loss, kept_loss: validation loss at the first validation and of the weights that the instrument has.
      metrics: quality on the validation split; empty when the run was interrupted.
      page: the training's page; None where writing it was interrupted too.
      finished: False after Ctrl-C.
      follows: another process of the same training wrote everything.
    """

    folder: Path
    run_folder: Path
    steps: int
    wall_s: float
    parameters: int
    first_loss: float
    kept_loss: float
    metrics: dict[str, float]
    page: Path | None
    finished: bool = True
    follows: bool = False


def train(
    instrument: str,
    dataset: PathLike | None = None,
    preset: PathLike = "hifi",
    steps: int | None = None,
    out: PathLike | None = None,
    resume: bool = True,
    seed: int = 0,
    force: bool = False,
    start_from: PathLike | None = None,
    timbre: str | None = None,
    listen: bool = True,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Trains an instrument, or resumes a training that was interrupted.

    Args:
      instrument: its name; by default `datasets/NAME` is read and `models/NAME` written.
      dataset: another data set, here or at an address.
      preset: a preset's name or YAML file.
      steps: in all, counted from the beginning; None takes the preset's.
      out: another folder for the instrument. The run keeps its own files in `<out>.run` beside it.
      resume: resume the run in that folder; otherwise start again.
      seed: of weights, noise and the order of the data.
      force: replace an instrument that this run did not make, or take the name of a bundled one.
      start_from: an instrument whose model and weights a new run begins with; "base" for the network trained on all
        bundled instruments (`training.base`), or the folder of another base; "none" for random weights. By default
        the base, where the preset is of its kind.
      timbre: a folder of the recordings, such as those of one player or one place. A timbre and a room are learned for
        each folder, and the instrument plays those of this one. By default all folders are learned as one. Only for a
        run that begins with a base.
      listen: render a validation clip into the run's folder now and then.
      progress: receives reports.

    Returns:
      The outcome, also after Ctrl-C where there is an instrument by then.

    Raises:
      DatasetError: the data set is missing, damaged, or does not suit the model.
      ModelError: an unknown preset or instrument, a run started with something else, or a loss that stays broken.
      OutputError: an instrument is there already, or a folder cannot be written.
      UsageError: Keras or its backend is not installed, or the name cannot be that of an instrument, or is that of a
        bundled one.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    require("training", "keras", backend)
    if out is None:
        models.check_name(instrument)
    plan = make_plan(
        instrument, None if dataset is None else as_place(dataset), str(preset), steps, as_path(out), seed, start_from,
        timbre,
    )  # fmt: skip
    hides = hides_bundled(plan)
    if hides and not force:
        raise UsageError(
            f"{plan.instrument} is the name of a bundled instrument, which yours would hide",
            f"Choose another name, such as my-{plan.instrument}, or force=True to play yours in its place.",
            kind=Kind.HIDES_BUNDLED,
            name=plan.instrument,
        )
    members = resources.members_from_environment()
    if members is not None:
        _check_members(members, backend, plan)
    fresh = new_state(plan)
    follows = members is not None and members.index > 0
    report = progress if progress is not None and not follows else (lambda _: None)
    with atomic.writing(plan.folder):
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.nullcontext()
        if follows
        else exclusive(lock_file(plan.folder), str(plan.folder), "training", "folder")
    ):
        if not follows:
            atomic.recover(plan.folder.parent)
        state = state_to_start_from(plan, fresh, report, resume=resume, force=force)
        if hides:
            message = (
                f"{plan.instrument} is also a bundled instrument, and {plan.folder} will be played in its place; "
                "another name keeps both"
            )
            report(TrainProgress(state.step, plan.total_steps, event="phase", message=message))
        return _train(plan, state, listen, report, members)


def _check_members(members: resources.Members, backend: str, plan: Plan) -> None:
    """Checks that several processes can train this together.

    Raises:
      UsageError: they cannot.
    """
    if backend != "tensorflow":
        raise UsageError(f"several processes cannot train on {backend}", "Set KERAS_BACKEND=tensorflow.")
    size = plan.settings.training.batch_size
    if size % members.n:
        raise UsageError(
            f"a batch of {size} cannot be shared by {members.n} processes",
            f"Start {', '.join(str(n) for n in range(1, size + 1) if size % n == 0)} of them, or change batch_size.",
        )


# --- the training itself -----------------------------------------------------------------------------------


def _train(
    plan: Plan,
    state: RunState,
    listen: bool,
    report: Callable[[TrainProgress], None],
    members: resources.Members | None = None,
) -> TrainResult:
    def phase(message: str, step: int | None = None) -> None:
        report(TrainProgress(state.step if step is None else step, plan.total_steps, event="phase", message=message))

    for text in describe_plan(plan):
        phase(text)
    phase(f"reading {plan.source}")
    material = _read_material(plan, listen, follows=members is not None and members.index > 0)
    start = None
    if plan.base is not None and not state.history:
        start = find_start(plan, material, phase)
    phase("loading the training framework")
    if members is not None:
        resources.take_one_gpu()
    with compile_cache.opened() as has_programs:
        backend.load()
    processes = None
    if members is not None:
        from ddsp_cli.training.parallel import Group

        phase(f"waiting for all {members.n} processes")
        processes = Group(members)
    follows = processes is not None and not processes.writes
    n_shares = backend.share_batches(plan.settings.training.batch_size)
    from ddsp_cli.training import loop

    job, data = _make_job(plan, state.seed, material, start, n_shares, processes), material.data
    finished = True
    if state.step < plan.total_steps:
        if has_programs:
            phase("loading the model as it was compiled for an earlier training, or compiling it in 10 to 30 s")
        elif loop.is_compiled():
            phase("compiling the model, which takes 10 to 30 s")
        write_bundle = (lambda *_: None) if follows else _bundle_writer(plan, material)
        try:
            state, finished = _run(plan, job, state, write_bundle, report)
        finally:
            compile_cache.keep()
    if processes is not None and follows:
        processes.wait()  # the first would take one that ends for a failure
        return TrainResult(plan.folder, plan.run_folder, state.step, state.wall_s, 0, math.nan, _kept_loss(state), {},
                           None, finished, follows=True)  # fmt: skip
    page, metrics = None, {}
    try:
        from ddsp_cli.workflows.train_finish import finish, is_complete

        if finished and is_complete(plan.folder):  # by a training that ended with these weights
            metrics = bundle.load_card(plan.folder).metrics
        elif finished:
            phase("comparing noise and onsets with recordings, and rendering the validation split", state.step)
            metrics = finish(plan.folder, data, material.played, keep_levels=plan.parent is not None)
        else:
            phase(f"stopped after step {state.step}; {plan.folder} can be played. Writing the page "
                  "(Ctrl-C again skips it)", state.step)  # fmt: skip
        page = _write_page(plan, state, data)
    except KeyboardInterrupt:  # the instrument is written; only its figures or the page are not
        finished = False
    if processes is not None:
        processes.wait()
    return TrainResult(
        plan.folder,
        plan.run_folder,
        state.step,
        state.wall_s,
        sum(value.size for value in learned(bundle.load(plan.folder).weights).values()),
        state.history[0].validation_loss if state.history else float("nan"),
        _kept_loss(state),
        metrics,
        page,
        finished,
    )


def _kept_loss(state: RunState) -> float:
    return state.kept.validation_loss if state.kept else math.nan


@dataclass(frozen=True)
class Material:
    """The inputs and outputs of a training, known before a framework is loaded.

    Attributes:
      data: the data set.
      train, validation: its splits as network inputs.
      played: the windows of the training split whose timbre the instrument plays.
      learned: the training split with its copies, where the preset wants any.
      records: the folder of the run.
    """

    data: Dataset
    train: AnyWindows
    validation: Windows
    played: Windows
    learned: AnyWindows
    records: RunFolder


def _read_material(plan: Plan, listen: bool, follows: bool) -> Material:
    """Loads the data set of a plan, and opens the folder of its run; `follows`: another process writes there."""
    from ddsp_cli.dataset import loader
    from ddsp_cli.dataset.loader import Examples
    from ddsp_cli.training.run_log import FollowedRunFolder, RunFolder
    from ddsp_cli.training.targets import measure_targets
    from ddsp_cli.training.windows import Windows, windows_of, with_copies

    model, render_rate_hz = plan.trained.model, plan.settings.training.render_rate_hz
    data = loader.load(plan.source, sample_rate_hz=model.sample_rate_hz)
    rate_hz = data.manifest.features.frame_rate_hz
    with atomic.writing(plan.run_folder):
        kind = FollowedRunFolder if follows else RunFolder
        records = kind(plan.run_folder, render_rate_hz or model.sample_rate_hz, listen=listen and not follows)
    train = windows_of(data.train, model, rate_hz, render_rate_hz)
    learned, n_copies = train, plan.settings.training.copies
    if n_copies and isinstance(data.train, Examples):
        examples = with_copies(data.train, model.sample_rate_hz, n_copies, plan.seed, data.manifest.features.floor_db)
        learned = Windows(examples, model, rate_hz, render_rate_hz)
    validation, played = Windows(data.validation, model, rate_hz, render_rate_hz), train.in_memory()
    if plan.base is not None:
        played.measure_targets(measure_targets)
    if plan.timbre:
        index = plan.timbres.index(plan.timbre)
        validation, played = validation.as_instrument(index), played.of_instrument(index)
        if not len(played):
            raise DatasetError(
                f"no window of the training split of {plan.source} has most of its notes in {plan.timbre}",
                "Prepare the data set with more recordings in that folder, or choose another timbre.",
            )
    return Material(data, train, validation, played, learned, records)


def find_start(plan: Plan, material: Material, phase: Callable[[str], None]) -> Start:
    """Finds the place in the base of a plan that is nearest to the recordings, and writes a clip played there."""
    from ddsp_cli.training.start import find_start as find

    assert plan.base is not None
    start = find(plan.base.card.model, plan.base.weights, material.played, plan.instrument)
    # the base has no note bias
    start = dataclasses.replace(start, weights=start.weights | zero_note_bias(plan.settings.model))
    phase(f"starting from the base, trained on {len(start.errors_db)} instruments, near {start.nearest}")
    if material.records.listen:
        phase(f"a first clip, made before any training: {_write_first_clip(plan, material, start)}")
    return start


def _write_first_clip(plan: Plan, material: Material, start: Start) -> Path:
    """Plays the loudest window of the validation split at the place in the base, without a room."""
    import soxr

    from ddsp_cli.synthesis.instrument import Instrument
    from ddsp_cli.training.run_log import loudest
    from ddsp_cli.training.windows import validation_batches

    model = plan.settings.model
    batch = validation_batches(material.validation, plan.settings.training.batch_size)[0]
    inputs, (recording,) = loudest(batch)
    level_db = unscale_db(inputs[model.level_input][0, :, 0])
    silence = np.zeros(1, np.float32)  # the response of a room that nothing has learned yet
    instrument = Instrument(bundle.Bundle(_card(plan, material.data.manifest), start.weights, silence))
    f0_hz = inputs["f0_hz"][0, :, 0]
    rendering = np.concatenate(list(instrument.render(f0_hz, level_db, room=False, variation=False)))
    rendering = soxr.resample(rendering, model.sample_rate_hz, material.records.sample_rate_hz)
    return material.records.write_first_clip(recording, rendering[: len(recording)])


def _make_job(
    plan: Plan, seed: int, material: Material, start: Start | None, n_shares: int, processes: Group | None
) -> Job:
    """Makes the job of the training loop."""
    from ddsp_cli.training import loop
    from ddsp_cli.training.start import conditioned_weights
    from ddsp_cli.training.windows import Windows, validation_batches

    favoured = None
    if plan.timbre and isinstance(material.learned, Windows):
        favoured = material.learned.rows_of(plan.timbres.index(plan.timbre))
    if plan.timbre and plan.base is not None and start is not None:
        weights = conditioned_weights(plan.base.weights, start.vector, len(plan.timbres))
        start = dataclasses.replace(start, weights=weights)
    return loop.Job(
        plan.trained,
        material.learned,
        validation_batches(material.validation, plan.settings.training.batch_size, multiple=n_shares),
        material.records,
        plan.total_steps,
        seed,
        plan.parent.weights if plan.parent else None,
        n_shares,
        start,
        processes,
        separate_rooms=bool(plan.timbre),
        favoured=favoured,
    )


def describe_plan(plan: Plan) -> list[str]:
    """Reports the data set, the start and the gaps of the recordings."""
    manifest = load_manifest(plan.source)
    statistics = manifest.statistics
    amount = f"{statistics.note_s:.0f} s" if statistics.note_s < 120.0 else f"{statistics.note_s / 60.0:.0f} minutes"
    begins = f"beginning with {plan.started_from}" if plan.started_from else "from random weights"
    steps = f"up to {plan.total_steps} steps"
    first = f"learning {plan.instrument} from {amount} of notes, {describe_ranges(statistics)}, {begins}: {steps}"
    found = [first]
    if plan.timbre:
        found.append(
            f"learning a timbre and a room for each of {len(plan.timbres)} folders of recordings; "
            f"the instrument plays those of {plan.timbre}"
        )
    elif plan.base is not None and manifest.instruments:
        found.append(
            f"{len(manifest.instruments)} folders of recordings are learned as one timbre in one room; if they are of "
            "several players or places, choose one of them with the option timbre"
        )
    return [*found, *missing_recordings(statistics, plan.settings.model.level)]


def _run(
    plan: Plan, job: Job, state: RunState, write_bundle: OnKept, report: Callable[[TrainProgress], None]
) -> tuple[RunState, bool]:
    """Returns the state of the last checkpoint, and whether the training is finished (not so after Ctrl-C)."""
    from ddsp_cli.training import loop

    try:
        with _NotedInterrupts() as interrupts:

            def report_or_stop(progress: TrainProgress) -> None:
                interrupts.raise_if_lost()
                report(progress)

            return loop.run(job, state, write_bundle, report_or_stop), True
    except KeyboardInterrupt:
        kept = checkpoint.read_state(plan.run_folder)
        if kept is None or not kept.history or not plan.folder.exists():  # the instrument there is not of this run
            raise
        return kept, False
    except _failures(job) as problem:
        assert job.processes is not None
        raise job.processes.lost() from problem
    except OSError as problem:  # a full disk, most likely; the last checkpoint is kept
        raise OutputError(
            f"{plan.run_folder} cannot be written: {problem}",
            "Free some disk space, then run the same command to resume from the last checkpoint.",
        ) from problem


def _failures(job: Job) -> tuple[type[Exception], ...]:
    """Returns the exceptions that are raised when another process of the training has ended."""
    return job.processes.failures() if job.processes is not None else ()


class _NotedInterrupts:
    """Notes Ctrl-C besides raising KeyboardInterrupt, for libraries that lose the exception in a callback of theirs.

    Python drops an exception that is raised in a finalizer (TensorFlow's functions have one) or in a callback from C,
    and prints its traceback. The note lets the next step raise it again, so the traceback is not printed.
    """

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None
        self._report_unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):  # neither ignored nor default
            self._previous = handler
            signal.signal(signal.SIGINT, self._note)
            self._report_unraisable, sys.unraisablehook = sys.unraisablehook, self._drop_interrupt
        return self

    def __exit__(self, *problem: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            sys.unraisablehook = self._report_unraisable

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self._previous(number, frame)

    def _drop_interrupt(self, lost: sys.UnraisableHookArgs) -> None:
        if not (self._received and issubclass(lost.exc_type, KeyboardInterrupt)):
            self._report_unraisable(lost)

    def raise_if_lost(self) -> None:
        """Checks for an interruption, after every step.

        Raises:
          KeyboardInterrupt: Ctrl-C was pressed, and the training still runs.
        """
        if self._received:
            raise KeyboardInterrupt


def share_of_change(note_s: float) -> float:
    """Returns the share of the change from the base, 0..1, that a training on seconds of notes keeps."""
    return float(np.interp(math.log(max(1.0, note_s)), np.log(LITTLE_CHANGE_NOTES_S), LITTLE_CHANGE))


def _bundle_writer(plan: Plan, material: Material) -> OnKept:
    """Writes the instrument whenever it gets new weights."""
    from ddsp_cli.training.output_layer import mask_untrained_harmonics, smooth_noise
    from ddsp_cli.training.start import interpolate_from_base
    from ddsp_cli.training.variation import measure_variation

    variation = measure_variation(material.played)
    if variation is None and plan.timbre:  # the folder has no held notes; those of the others are better than none
        variation = measure_variation(material.train.in_memory())
    movements = {} if variation is None else variation.as_weights()

    card = _card(plan, material.data.manifest)
    share = share_of_change(card.statistics.note_s) if plan.base and not plan.timbre else 1.0
    # The harmonics of a parent were trained on notes that this data set need not have.
    lowest_hz = float(midi_to_hz(np.float64(card.statistics.pitch_midi[1]))) if plan.parent is None else 0.0

    def write(autoencoder: Autoencoder, now: RunState) -> None:
        training = msgspec.structs.replace(
            card.training, steps=now.step, wall_s=round(now.wall_s, 1), nearest=now.nearest, vector=now.vector,
            base=plan.base_digest if now.base is None else now.base,
        )  # fmt: skip
        metrics = {"validation_loss": round(now.history[-1].validation_loss, 4)} if now.history else {}
        current = bundle.revise(card, training=training, metrics=metrics, created=bundle.timestamp())
        weights = autoencoder.get_weights_by_name()
        if plan.timbre:
            _, weights = autoencoder.for_instrument(plan.timbre)
        elif plan.base and share < 1.0 and now.base == plan.base_digest:  # another base would be another network
            vector = np.array(now.vector, np.float32)
            weights = interpolate_from_base(plan.base.card.model, plan.base.weights, vector, weights, share)
        weights = mask_untrained_harmonics(weights, card.model, lowest_hz)
        if plan.parent is None:  # the noise of a parent is as its maker left it
            weights = smooth_noise(weights, card)
        stored = bundle.round_to_half(weights | movements)
        bundle.save(plan.folder, current, stored, autoencoder.impulse_response(stored), force=True)

    return write


def _card(plan: Plan, manifest: Manifest) -> bundle.Card:
    origin = plan.parent or plan.base
    began_as = origin.card if origin else None
    sources = {source.title: source for source in [*manifest.sources, *(began_as.sources if began_as else [])]}
    return bundle.Card(
        format=bundle.FORMAT_VERSION,
        name=plan.instrument,
        description=plan.settings.description,
        licence=f"{manifest.licence} (began as {began_as.name}: {began_as.licence})" if began_as else manifest.licence,
        model=plan.settings.model,
        features=plan.spec,
        statistics=manifest.statistics,
        training=bundle.TrainingRecord(
            preset=plan.preset_name,
            steps=0,
            seed=plan.seed,
            audio_s=manifest.train.used_s,
            program=f"ddsp {__version__}",
            started_from=plan.started_from,
            timbre=plan.timbre,
        ),
        sources=list(sources.values()),
        remarks=manifest.remarks,
    )


def _write_page(plan: Plan, state: RunState, data: Dataset) -> Path:
    """Writes the page of the run, with clips by the instrument in its present state."""
    from ddsp_cli.workflows.evaluate import choose_windows, resynthesise

    loaded = bundle.load(plan.folder)
    card = loaded.card
    summary = TrainingSummary(
        instrument=card.name,
        preset=card.training.preset,
        n_weights=sum(value.size for value in learned(loaded.weights).values()),
        audio_s=card.training.audio_s,
        steps=state.step,
        wall_s=state.wall_s,
        finished=state.finished,
        rollbacks=state.rollbacks,
        history=state.history,
        kept=state.kept,
        metrics=card.metrics,
    )
    clips = [resynthesise(loaded, data, np.array([row])) for row in choose_windows(data)]
    return write_training_report(plan.run_folder, summary, clips)
