"""`ddsp train`: a data set and a preset become an instrument."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddsp_cli import __version__, backend, bundle
from ddsp_cli.config import FeatureSpec, ModelConfig, Preset, dump_yaml, load_preset
from ddsp_cli.errors import DatasetError, ModelError, OutputError

if TYPE_CHECKING:
    from ddsp_cli.dataset.manifest import Manifest
    from ddsp_cli.dataset.store import Dataset
    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.training.callbacks import TrainProgress
    from ddsp_cli.training.state import RunState

PREVIEW_S = 6.0


@dataclass(frozen=True)
class TrainResult:
    """What a training ended with.

    Attributes:
      folder: of the instrument; run_folder: of the run's own files.
      steps, wall_s, parameters: what it took.
      first_loss, best_loss: validation loss at the first validation and at the best.
      metrics: quality on recordings not trained on; empty when the run was broken off.
      finished: False after Ctrl-C.
    """

    folder: Path
    run_folder: Path
    steps: int
    wall_s: float
    parameters: int
    first_loss: float
    best_loss: float
    metrics: dict[str, float]
    finished: bool = True


def train(
    instrument: str,
    dataset: Path | None = None,
    preset: str = "vst",
    steps: int | None = None,
    out: Path | None = None,
    resume: bool = True,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Trains an instrument, or goes on with a training that was broken off.

    Args:
      instrument: its name; `datasets/NAME` is read and `models/NAME` written where nothing else is said.
      dataset: another data set.
      preset: a preset's name or YAML file.
      steps: in all, counted from the beginning; None takes the preset's.
      out: another place for the instrument. The run keeps its own files in `<out>.run` beside it.
      resume: go on with the run that stands there; otherwise start again.
      seed: of weights, noise and the order of the data.
      force: replace an instrument that this run did not make.
      progress: receives what happens.

    Raises:
      DatasetError, ModelError, OutputError: see their messages.
    """
    settings = load_preset(preset)
    folder = out or Path("models") / instrument
    run_folder = folder.with_name(folder.name + ".run")
    source = dataset or Path("datasets") / instrument
    check_rates(settings.model)
    state = _state_to_start_from(folder, run_folder, source, settings, seed, resume=resume, force=force)
    total = steps or settings.training.steps
    return _train(instrument, source, settings, total, folder, run_folder, state, progress or (lambda _: None), preset)


def check_rates(model: ModelConfig) -> None:
    """Frame rate and sample rate must meet on whole samples, at 16 kHz and at the model's rate.

    Raises:
      ModelError: they do not.
    """
    base = FeatureSpec().frame_rate_hz
    if base % model.frame_rate_hz or model.sample_rate_hz % model.frame_rate_hz:
        raise ModelError(
            f"frame_rate_hz {model.frame_rate_hz} must divide {base} and the sample rate {model.sample_rate_hz}"
        )


def _state_to_start_from(
    folder: Path, run_folder: Path, source: Path, settings: Preset, seed: int, *, resume: bool, force: bool
) -> RunState:
    from ddsp_cli.dataset.manifest import MANIFEST, load_manifest
    from ddsp_cli.dataset.store import check_features
    from ddsp_cli.training.state import RunState, read_state

    manifest = load_manifest(source)
    check_features(manifest, FeatureSpec().at(settings.model.frame_rate_hz), source)
    if manifest.sample_rate_hz != settings.model.sample_rate_hz:
        raise DatasetError(
            f"{source} holds sound at {manifest.sample_rate_hz} Hz, the preset needs {settings.model.sample_rate_hz}",
            f"Prepare it again with --sample-rate {settings.model.sample_rate_hz} --force.",
        )
    digest = hashlib.sha256((source / MANIFEST).read_bytes()).hexdigest()
    fresh = RunState(preset=dump_yaml(settings.model), dataset=digest, seed=seed)
    found = read_state(run_folder) if resume else None
    if found is None:
        if folder.exists() and not force:
            raise OutputError(
                f"{folder} exists already and there is no training of it to go on with"
                if resume
                else f"{folder} exists already",
                "Use --force to replace it, or --out for another place.",
            )
        return fresh
    for name, wanted, word in (
        ("preset", fresh.preset, "preset"),
        ("dataset", fresh.dataset, "data set"),
        ("seed", fresh.seed, "seed"),
    ):
        if getattr(found, name) != wanted:
            raise ModelError(
                f"the training in {run_folder} was started with another {word}",
                f"Start again with --fresh --force, or give the {word} it was started with.",
            )
    return found


def _train(
    instrument: str,
    source: Path,
    settings: Preset,
    total: int,
    folder: Path,
    run_folder: Path,
    state: RunState,
    report: Callable[[TrainProgress], None],
    preset_name: str,
) -> TrainResult:
    backend.load()
    from ddsp_cli.dataset import store
    from ddsp_cli.training import loop
    from ddsp_cli.training.batches import Windows, validation_batches
    from ddsp_cli.training.records import RunFolder

    data = store.load(source)
    rate_hz = data.manifest.features.frame_rate_hz
    judge = Windows(data.validation, settings.model, rate_hz)
    try:
        records = RunFolder(run_folder, settings.model.sample_rate_hz)
    except OSError as problem:
        raise OutputError(f"{run_folder} cannot be written: {problem.strerror or problem}") from problem
    job = loop.Job(
        settings,
        Windows(data.train, settings.model, rate_hz),
        validation_batches(judge, settings.training.batch_size),
        records,
        total,
        state.seed,
    )
    card = _card(instrument, settings, data.manifest, state.seed, preset_name)

    def keep(model: Autoencoder, now: RunState) -> None:
        record = bundle.TrainingRecord(
            preset=preset_name, steps=now.step, seed=now.seed, wall_s=round(now.wall_s, 1),
            audio_s=data.manifest.train.used_s, program=f"ddsp {__version__}",
        )  # fmt: skip
        metrics = {"validation_loss": round(now.best_loss, 4)}
        current = bundle.revise(card, training=record, metrics=metrics, created=_now())
        bundle.save(folder, current, model.get_weights_by_name(), model.impulse_response(), force=True)

    finished = True
    if state.step < total:
        try:
            state = loop.run(job, state, keep, report)
        except KeyboardInterrupt:
            from ddsp_cli.training.state import read_state

            kept = read_state(run_folder)
            if kept is None or not folder.exists():
                raise
            state, finished = kept, False
    metrics = finish(folder, data) if finished else {}
    return TrainResult(
        folder,
        run_folder,
        state.step,
        state.wall_s,
        sum(int(np.prod(v.shape)) for v in bundle.load(folder).weights.values()),
        state.history[0].validation_loss if state.history else float("nan"),
        state.best_loss,
        metrics,
        finished,
    )


def _card(instrument: str, settings: Preset, manifest: Manifest, seed: int, preset_name: str) -> bundle.Card:
    return bundle.Card(
        format=bundle.FORMAT_VERSION,
        name=instrument,
        description=settings.description,
        licence=manifest.licence,
        model=settings.model,
        features=manifest.features.at(settings.model.frame_rate_hz),
        statistics=manifest.statistics,
        training=bundle.TrainingRecord(preset=preset_name, steps=0, seed=seed),
        sources=manifest.sources,
    )


def finish(folder: Path, data: Dataset) -> dict[str, float]:
    """Judges the best weights as they will be played, on recordings not trained on, and adds a preview.

    Returns:
      figures by name; they also go into the bundle's card.
    """
    from ddsp_cli.workflows.evaluate import resynthesise

    loaded = bundle.load(folder)
    clip = resynthesise(loaded, data)
    metrics = {**loaded.card.metrics, **clip.quality().as_dict(), "judged_s": round(clip.seconds, 1)}
    preview = np.clip(clip.rendering[: round(PREVIEW_S * clip.rate_hz)], -1.0, 1.0)
    card = bundle.revise(loaded.card, metrics=metrics)
    bundle.save(folder, card, loaded.weights, loaded.impulse_response, preview, force=True)
    return metrics


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
