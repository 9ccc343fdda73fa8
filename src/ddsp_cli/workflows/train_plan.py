"""What `ddsp train` will do, settled and checked before anything heavy is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ddsp_cli import bundle
from ddsp_cli.config import FeatureSpec, ModelConfig, Preset, dump_yaml, load_preset
from ddsp_cli.dataset.manifest import MANIFEST, load_manifest
from ddsp_cli.dataset.store import check_features
from ddsp_cli.errors import DatasetError, ModelError, OutputError
from ddsp_cli.runtime.graph import check_graph
from ddsp_cli.training.state import RunState, read_state
from ddsp_cli.workflows import catalogue

#: What stands already would be forgotten at the learning rate that suits random weights.
FINE_TUNING_SHARE = 0.3


@dataclass(frozen=True)
class Plan:
    """What is to be trained from what, before anything heavy is loaded."""

    instrument: str
    source: Path
    folder: Path
    settings: Preset
    preset_name: str
    parent: bundle.Bundle | None
    spec: FeatureSpec
    total_steps: int
    seed: int

    @property
    def run_folder(self) -> Path:
        return self.folder.with_name(self.folder.name + ".run")


def make_plan(
    instrument: str,
    dataset: Path | None,
    preset: str,
    steps: int | None,
    out: Path | None,
    seed: int,
    start_from: str | Path | None,
) -> Plan:
    """Resolves names and defaults of `workflows.train.train`.

    Raises:
      ModelError: an unknown preset or instrument, or rates that do not meet.
    """
    settings, parent, spec = load_preset(preset), None, FeatureSpec()
    if start_from is not None:
        parent = catalogue.open_at(catalogue.find_playable(start_from))
        _ = parent.card.model.sizes  # weights to begin with; an instrument of unknown make has none
        training = msgspec.structs.replace(
            settings.training, learning_rate=settings.training.learning_rate * FINE_TUNING_SHARE
        )
        settings = msgspec.structs.replace(
            settings, model=parent.card.model, description=parent.card.description, training=training
        )
        spec = parent.card.features
    check_rates(settings.model)
    check_graph(settings.model)  # said now, and not when the training is over
    return Plan(
        instrument,
        dataset or Path("datasets") / instrument,
        out or Path("models") / instrument,
        settings,
        preset,
        parent,
        spec.at(settings.model.frame_rate_hz),
        steps or settings.training.steps,
        seed,
    )


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


def new_state(plan: Plan) -> RunState:
    """The record of a run that begins anew.

    Raises:
      DatasetError: there is no data set, or it does not suit the model.
    """
    manifest = load_manifest(plan.source)
    check_features(manifest, plan.spec, plan.source)
    if not manifest.validation.n_examples:
        raise DatasetError(
            f"{plan.source} keeps no recordings apart to judge by",
            "Prepare it again with a validation share above 0, or with --hold-out.",
        )
    rate_hz = plan.settings.model.sample_rate_hz
    if manifest.sample_rate_hz != rate_hz:
        raise DatasetError(
            f"{plan.source} holds sound at {manifest.sample_rate_hz} Hz, the preset needs {rate_hz}",
            f"Prepare it again with --sample-rate {rate_hz} --force.",
        )
    digest = hashlib.sha256((plan.source / MANIFEST).read_bytes()).hexdigest()
    return RunState(
        preset=dump_yaml(plan.settings.model),
        dataset=digest,
        seed=plan.seed,
        started_from=plan.parent.card.name if plan.parent else "",
    )


def state_to_start_from(plan: Plan, fresh: RunState, *, resume: bool, force: bool) -> RunState:
    """The record of the run to go on with, or that of a new one.

    Args:
      fresh: of the new one.

    Raises:
      ModelError: the run that stands there was started with something else.
      OutputError: an instrument stands there that no run of ours made.
    """
    found = read_state(plan.run_folder) if resume else None
    if found is not None and not found.history and not plan.folder.exists():
        found = None  # it was broken off before it had made anything
    if found is None:
        if plan.folder.exists() and not force:
            why = " and there is no training of it to go on with" if resume else ""
            raise OutputError(
                f"{plan.folder} exists already{why}", "Use --force to replace it, or --out for another place."
            )
        return fresh
    given = (("started_from", "--from"), ("preset", "preset"), ("dataset", "data set"), ("seed", "seed"))
    for name, word in given:
        if getattr(found, name) not in {getattr(fresh, name), None}:
            raise ModelError(
                f"the training in {plan.run_folder} was started with another {word}",
                f"Start again with --fresh --force, or give the {word} it was started with.",
            )
    return found
