"""The plan of a training: data, model, beginning and folders, made and checked before a framework is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ddsp_cli import atomic, bundle
from ddsp_cli.bundle.layout import base_config, conditioned
from ddsp_cli.checksum import sha256
from ddsp_cli.config import FeatureSpec, ModelConfig, Preset, TrainingConfig, dump_yaml, load_preset
from ddsp_cli.dataset.loader import check_features, check_rate
from ddsp_cli.dataset.manifest import MANIFEST, load_manifest
from ddsp_cli.errors import DatasetError, Kind, ModelError, OutputError, UsageError, did_you_mean
from ddsp_cli.synthesis.instrument import check_graph
from ddsp_cli.training import checkpoint
from ddsp_cli.training.checkpoint import RunState, TrainProgress
from ddsp_cli.training.resources import check_cost
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike

#: Fine-tuning at the learning rate for random weights would undo the training of the instrument.
FINE_TUNING_SHARE = 0.3

#: A training that begins with the base has two steps for each second of notes, and at least so many. Its learning rate
#: is a share of that of the preset, for these amounts of notes. At 0.7 half a minute is overfitted: the loss of a flute
#: on held-out recordings is 0.5 higher. At 0.7 and half of the steps ten minutes of a cello have a loss of 0.1 more.
LEAST_BASE_STEPS = 100
BASE_RATE_SHARES, RATE_NOTES_S = (0.25, 0.6, 1.0), (30.0, 300.0, 600.0)

#: Data sets with fewer seconds of notes are also trained on copies, see `with_copies`.
LITTLE_S, LITTLE_COPIES = 120.0, 4


@dataclass(frozen=True)
class Plan:
    """A planned training: data, model, starting point and folders.

    Attributes:
      instrument: its name.
      source: folder of the data set.
      folder: of the instrument.
      settings: model and training configuration.
      preset_name: where they come from.
      parent: the instrument to begin with.
      base: the base to begin with.
      spec: how pitch and level have to be measured.
      total_steps: wanted.
      seed: of weights, noise and the order of the data.
      timbres: the folders of recordings, if a timbre and a room are learned for each; otherwise empty.
      timbre: the one of them that is played.
    """

    instrument: str
    source: Path
    folder: Path
    settings: Preset
    preset_name: str
    parent: bundle.Bundle | None
    spec: FeatureSpec
    total_steps: int
    seed: int
    base: bundle.Bundle | None = None
    timbres: tuple[str, ...] = ()
    timbre: str = ""

    @property
    def trained(self) -> Preset:
        """Model and training configuration of the loop: `settings`, with a vector for each of several timbres."""
        if not self.timbres:
            return self.settings
        assert self.base is not None
        assert self.base.card.model.instruments
        model = conditioned(self.settings.model, self.timbres, self.base.card.model.instruments.vector_dims)
        return msgspec.structs.replace(self.settings, model=model)

    @property
    def started_from(self) -> str:
        """Name of the instrument that it starts from, empty for random weights."""
        origin = self.parent or self.base
        return origin.card.name if origin else ""

    @property
    def base_digest(self) -> str:
        """Digest of the weights of the base that it starts from, empty for none."""
        return self.base.weights_digest if self.base else ""

    @property
    def run_folder(self) -> Path:
        return checkpoint.run_folder(self.folder)


def make_plan(
    instrument: str,
    dataset: Path | None,
    preset: str,
    steps: int | None,
    out: Path | None,
    seed: int,
    start_from: PathLike | None,
    timbre: str | None = None,
) -> Plan:
    """Resolves names and defaults; arguments as `train`.

    Raises:
      DatasetError: the data set has no such timbre.
      ModelError: an unknown preset or instrument, a model too large to train, or one that could not be played.
      UsageError: a timbre was chosen, and the training does not begin with a base.
    """
    settings, spec = load_preset(preset), FeatureSpec()
    source = dataset or Path("datasets") / instrument
    base, parent = find_origin(start_from, settings.model, preset)
    if base is not None and (source / MANIFEST).is_file():
        settings = msgspec.structs.replace(settings, training=after_base(settings.training, source, steps))
    if parent is not None:
        training = msgspec.structs.replace(
            settings.training, learning_rate=settings.training.learning_rate * FINE_TUNING_SHARE
        )
        settings = msgspec.structs.replace(
            settings, model=parent.card.model, description=parent.card.description, training=training
        )
        spec = parent.card.features
    if timbre is not None and base is None:
        raise UsageError(
            "a timbre can be chosen only in a training that begins with the base",
            "Leave it out, or train with the preset hifi from the base.",
        )
    timbres = () if timbre is None else find_timbres(source, timbre)
    check_rates(settings.model)
    check_cost(settings)
    # said now, and not when the training is over
    if parent is None:
        _check_playable(settings.model, preset)
    else:
        check_graph(settings.model)
    return Plan(
        instrument,
        source,
        out or Path("models") / instrument,
        settings,
        preset,
        parent,
        spec.at(settings.model.frame_rate_hz),
        steps or settings.training.steps,
        seed,
        base,
        timbres,
        timbre or "",
    )


def _check_playable(model: ModelConfig, preset: str) -> None:
    """Checks that the instrument of a preset could be played.

    Raises:
      ModelError: it could not; the preset is named.
    """
    if model.instruments:
        raise ModelError(
            f"preset {preset} has several instruments, and a training writes one that can be played",
            "Train it from Python, and take instruments out of it with Autoencoder.for_instrument (docs/engine.md).",
        )
    try:
        check_graph(model)
    except ModelError as problem:
        raise problem.reworded(f"preset {preset}: {problem.message}") from problem


def find_origin(
    start_from: PathLike | None, model: ModelConfig, preset: str
) -> tuple[bundle.Bundle | None, bundle.Bundle | None]:
    """Finds the base or the instrument that a training begins with.

    Args:
      start_from: as for `train`.
      model: of the preset.
      preset: its name, for messages.

    Returns:
      The base and the instrument; one of them is None, and both for random weights.

    Raises:
      ModelError: there is no instrument of that name, or one of unknown architecture; or no base for such a model.
    """
    if start_from == "none":
        return None, None
    if start_from is None or start_from == models.BASE:
        base = find_base(model)
        if base is None and start_from == models.BASE:
            raise ModelError(
                f"there is no base for the preset {preset}",
                "Take the preset hifi, or start from an instrument, or from none.",
            )
        return base, None
    base = find_own_base(start_from, model)
    if base is not None:
        return base, None
    parent = models.open_at(models.find_playable(start_from))
    _ = parent.card.model.sizes  # fails for an unknown architecture, without weights to start from
    return None, parent


def find_timbres(source: Path, wanted: str) -> tuple[str, ...]:
    """Returns the names of the folders of a data set's recordings, and checks that one of them is `wanted`.

    Raises:
      DatasetError: they are not in several folders, or there is no such folder.
    """
    names = load_manifest(source).instruments
    if not names:
        raise DatasetError(
            f"the recordings of {source} are not in several folders, so they have one timbre",
            "Prepare a folder that holds a folder of recordings for each player or place.",
        )
    if wanted not in names:
        hint = did_you_mean(wanted, names) or f"Choose one of {', '.join(names)}."
        raise DatasetError(f"{source} has no recordings in a folder {wanted}", hint)
    return tuple(names)


def find_base(model: ModelConfig) -> bundle.Bundle | None:
    """Returns the base that came with the program, where it is of the kind of a model; None otherwise."""
    place = models.base_folder()
    if place is None or not is_base(bundle.load_card(place).model, model):
        return None
    return bundle.load(place)


def find_own_base(start_from: PathLike, model: ModelConfig) -> bundle.Bundle | None:
    """Returns the base in a folder of the user's; None where it is an instrument.

    Raises:
      ModelError: there is no instrument of that name, or it is a base for another kind of model.
    """
    place = models.find_playable(start_from)
    if not place.is_dir() or not bundle.load_card(place).model.instruments:
        return None
    found = bundle.load(place)
    if not is_base(found.card.model, model):
        raise ModelError(f"{place} is a base for models of another kind", "Choose the preset that it was made with.")
    return found


def is_base(base: ModelConfig, model: ModelConfig) -> bool:
    """Whether a base is a model conditioned on many instruments that, without the condition, is the given model."""
    if not base.instruments or base.encoder or model.instruments or model.decoder is None:
        return False
    return base_config(model, base.instruments.names, base.instruments.vector_dims) == base


def after_base(training: TrainingConfig, source: Path, wanted_steps: int | None) -> TrainingConfig:
    """Returns a training that begins with a base: more steps, at a higher rate, the more notes there are.

    With little material the last weights are kept: the validation split is one or two windows, and on the held-out
    recordings the weights that it chooses (of a trombone those after 25 of 100 steps) have a loss up to 0.5 higher. If
    more steps are wanted than the amount of notes suggests, the last weights may be overfitted, and the best are kept.

    The base was trained on measured controls and on sound, so controls are not fitted again: a hundred steps of that
    raise the loss of half a minute of a clarinet on its held-out recordings by 1.1.
    """
    note_s = load_manifest(source).statistics.note_s
    is_little = note_s < LITTLE_S
    steps = min(training.steps, max(LEAST_BASE_STEPS, round(2.0 * note_s)))
    rate_share = float(np.interp(math.log(max(1.0, note_s)), np.log(RATE_NOTES_S), BASE_RATE_SHARES))
    return msgspec.structs.replace(
        training, steps=steps, pretrain_steps=0, learning_rate=training.learning_rate * rate_share,
        validation_steps=min(training.validation_steps, max(25, steps // 6)),
        warmup_steps=min(training.warmup_steps, steps // 4), copies=LITTLE_COPIES if is_little else 0,
        keep="last" if is_little and (wanted_steps or 0) <= steps else training.keep,
    )  # fmt: skip


def hides_bundled(plan: Plan) -> bool:
    """Whether a new instrument will be found before a bundled one of the same name."""
    if (
        plan.folder.exists()
        or plan.run_folder.exists()
        or plan.folder.resolve() != (models.OWN / plan.folder.name).resolve()
    ):
        return False
    return models.is_bundled(plan.folder.name)


def check_rates(model: ModelConfig) -> None:
    """Checks that frames begin on whole samples, at 16 kHz and at the model's rate.

    Raises:
      ModelError: they do not.
    """
    base = FeatureSpec().frame_rate_hz
    if base % model.frame_rate_hz or model.sample_rate_hz % model.frame_rate_hz:
        raise ModelError(
            f"frame_rate_hz {model.frame_rate_hz} must divide {base} and the sample rate {model.sample_rate_hz}"
        )


def new_state(plan: Plan) -> RunState:
    """Returns the record of a new run.

    Raises:
      DatasetError: there is no data set, or it does not suit the model.
    """
    manifest = load_manifest(plan.source)
    check_features(manifest, plan.spec, plan.source)
    if not manifest.validation.n_examples:
        raise DatasetError(
            f"{plan.source} has no validation split",
            "Prepare it again with a validation_share above 0, or with hold_out.",
            kind=Kind.NO_VALIDATION,
        )
    check_rate(manifest, plan.settings.model.sample_rate_hz, plan.source)
    return RunState(
        preset=dump_yaml(plan.settings.model),
        dataset=sha256(plan.source / MANIFEST),
        seed=plan.seed,
        started_from=plan.started_from,
        base=plan.base_digest,
        timbre=plan.timbre,
    )


def changed_argument(found: RunState, fresh: RunState) -> str:
    """Returns the argument of `train` that differs from those of the run to resume; empty where none does.

    The default start depends on the preset, and an instrument to start from brings its model along.
    """
    names = {"preset": "preset", "started_from": "start_from", "dataset": "dataset", "seed": "seed", "timbre": "timbre"}
    if any(state.started_from and not state.base for state in (found, fresh)):  # one started from an instrument
        names = {"started_from": "start_from"} | names
    return next((names[name] for name in names if getattr(found, name) not in {getattr(fresh, name), None}), "")


def state_to_start_from(
    plan: Plan, fresh: RunState, report: Callable[[TrainProgress], None], *, resume: bool, force: bool
) -> RunState:
    """Returns the record of the run to resume, or that of a new one.

    Args:
      plan: of the training.
      fresh: the record of a new run.
      report: called with a sentence where the newest checkpoint is damaged and the one before it is taken.
      resume, force: see `train`.

    Raises:
      ModelError: the run in that folder was started with something else, or no checkpoint of it can be used.
      OutputError: there is an instrument that no run of ours made, or the folder of the run holds files of others.
    """
    checkpoint.check_log(plan.run_folder)
    found = checkpoint.read(plan.run_folder) if resume else None
    if found is not None and not found.state.history and not found.state.fit_step and not plan.folder.exists():
        found = None  # it was interrupted before it had made anything
    if found is None:
        with atomic.writing(plan.folder):
            atomic.check_replaceable(plan.folder, bundle.INSTRUMENT, force=True)
        if plan.folder.exists() and any(plan.folder.iterdir()) and not force:
            why = " and has no training to resume" if resume else ""
            raise OutputError(
                f"{plan.folder} exists already{why}",
                "Replace it with force=True, or choose another place.",
                kind=Kind.EXISTS,
            )
        return fresh
    if argument := changed_argument(found.state, fresh):
        words = {
            "start_from": "from something else",
            "dataset": "with another data set, or before its recordings changed",
        }
        raise ModelError(
            f"the training in {plan.run_folder} was started {words.get(argument, f'with another {argument}')}",
            f"Start again with resume=False and force=True, or give the {argument} it was started with.",
            kind=Kind.OTHER_RUN,
            parameter=argument,
            argument=argument,
        )
    if found.damaged is not None:
        message = f"{found.damaged} is damaged; resuming from the previous checkpoint, step {found.state.step}"
        report(TrainProgress(found.state.step, plan.total_steps, event="damaged", message=message))
    return found.state
