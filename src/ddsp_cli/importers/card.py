"""The card of an imported instrument: its processors, its statistics, its licence and sources, its bundle.

Every importer fills in the same card. Statistics come from `dataset_statistics.pkl` (Magenta's checkpoints) or
`metadata.json` (plug-in models); licence and sources from the `card.yaml` that `ddsp export` puts beside a model, or
else from its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ddsp_cli import __version__
from ddsp_cli.bundle import FORMAT_VERSION, Bundle, Card, Source, Statistics, TrainingRecord, renamed, revise, timestamp
from ddsp_cli.bundle.folder import EXPORT_CARD, EXPORT_CARD_BEGINS, MAX_EXPORT_CARD_BYTES, ExportCard
from ddsp_cli.config import (
    AddConfig,
    AnyProcessorConfig,
    Config,
    FeatureSpec,
    FilteredNoiseConfig,
    HarmonicConfig,
    ModelConfig,
    explain,
    parse_yaml,
)
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import is_model_name
from ddsp_cli.importers.files import Files
from ddsp_cli.importers.pickles import Record
from ddsp_cli.synthesis.instrument import Instrument

#: Names of the nodes in this program's bundles.
HARMONIC, NOISE, DRY, ROOM = "harmonic", "noise", "dry", "reverb"

PERCENTILES = np.arange(101.0)
#: Default statistics: two octaves from C4, and levels that instruments are commonly played at.
ASSUMED = {
    "pitch_midi": {5.0: 60.0, 95.0: 84.0},
    "loudness_db": {5.0: -45.0, 50.0: -25.0, 95.0: -10.0},
    "power_db": {5.0: -45.0, 50.0: -28.0, 95.0: -16.0},
}
#: Percentile at which each statistic of magenta/ddsp is placed; `mean_min` is the mean of the minima of all examples.
_ANCHORS = {"min_{}_note": 0.0, "mean_min_{}_note": 5.0, "mean_{}_note": 50.0, "mean_max_{}_note": 95.0,
            "max_{}_note": 100.0}  # fmt: skip
_BOUNDS = {"pitch": (0.0, 127.0), "loudness": (-120.0, 40.0), "power": (-120.0, 20.0)}


class Origin(Config):
    """Licence and sources of an instrument, which every export and import has to keep."""

    licence: str = "unknown"
    sources: list[Source] = []
    remarks: list[str] = []
    training: TrainingRecord | None = None
    family: str = ""


def processors(
    harmonic: HarmonicConfig, noise: FilteredNoiseConfig, room: AnyProcessorConfig | None
) -> dict[str, AnyProcessorConfig]:
    """Returns the graph of every importable instrument: harmonics and noise, added, with or without a room."""
    nodes: dict[str, AnyProcessorConfig] = {HARMONIC: harmonic, NOISE: noise, DRY: AddConfig(inputs=[HARMONIC, NOISE])}
    return nodes if room is None else nodes | {ROOM: room}


def make_bundle(
    model: ModelConfig,
    features: FeatureSpec,
    statistics: Statistics,
    weights: dict[str, np.ndarray],
    impulse_response: np.ndarray | None,
    description: str,
    training: TrainingRecord,
    network: bytes | None = None,
    origin: Origin | None = None,
) -> Bundle:
    """Makes a bundle in memory and checks that graph and weights fit together.

    Args:
      model, features, statistics, description, training: for the card.
      weights: name → float32 array.
      impulse_response: [S] of the learned room, or None.
      network: a `.tflite` file that is kept in place of weights.
      origin: of the instrument that the model was exported from.

    Raises:
      ModelError: graph and weights do not fit together.
    """
    card = Card(
        format=FORMAT_VERSION,
        name="imported",
        description=description,
        model=model,
        features=features,
        statistics=statistics,
        training=training,
        created=timestamp(),
    )
    if origin is not None:
        card = revise(
            card, licence=origin.licence, sources=origin.sources, remarks=origin.remarks, family=origin.family
        )
        if origin.training is not None:
            program = f"{origin.training.program or 'ddsp'}; {training.program}"
            card = revise(card, training=msgspec.structs.replace(origin.training, program=program))
    bundle = Bundle(card, weights, impulse_response, network=network)
    Instrument(bundle)
    return bundle


def training_record(preset: str, steps: int, origin: str) -> TrainingRecord:
    """Makes the training record of an imported instrument."""
    return TrainingRecord(preset=preset, steps=steps, seed=0, program=f"{origin}; imported with ddsp {__version__}")


def read_origin(files: Files, model: str, metadata: Mapping[str, Any]) -> Origin:
    """Reads the authors and licence of a model that `ddsp export` wrote.

    Args:
      files: among which the model is.
      model: its file name; a `card.yaml` beside it must name it, unless it is the only model there.
      metadata: of the model, which keeps licence and sources where the card is lost.

    Returns:
      What card and metadata say, or that nothing is known.

    Raises:
      ModelError: the card, or the metadata of this program, is damaged.
    """
    text = ""
    if EXPORT_CARD in files.names():
        text = files.read(EXPORT_CARD, MAX_EXPORT_CARD_BYTES).decode("utf-8", "replace")
    if EXPORT_CARD_BEGINS in text:
        try:
            found = parse_yaml(text, ExportCard, EXPORT_CARD)
        except (ModelError, ArithmeticError, AttributeError, LookupError, TypeError) as problem:
            hint = "It holds licence and sources. Copy it again, update ddsp, or move it away."
            message = problem.message if isinstance(problem, ModelError) else f"{EXPORT_CARD} is damaged: {problem}"
            raise ModelError(message, hint) from problem
        if model in found.contract or sum(map(is_model_name, files.names())) == 1:
            card = found.instrument
            return Origin(card.licence, card.sources, card.remarks, card.training, renamed(card, "").family)
    known = {name: metadata[name] for name in ("licence", "sources") if name in metadata}
    try:
        return msgspec.convert(known, Origin, strict=True)
    except msgspec.ValidationError as problem:
        raise ModelError(f"licence and sources in the metadata cannot be read: {explain(problem)[0]}") from problem


# --- statistics --------------------------------------------------------------------------------------


def read_statistics(found: Mapping[str, Any]) -> tuple[Statistics, str]:
    """Reads statistics from `dataset_statistics.pkl` or the `metadata.json` of a plug-in model.

    Args:
      found: its contents.

    Returns:
      The statistics, and a sentence for the card about where they come from.

    Raises:
      ModelError: values that are not numbers, or out of range.
    """
    if "percentiles" in found:
        return _own_percentiles(found["percentiles"]), "Statistics: those of the instrument it was exported from."
    curves: dict[str, np.ndarray] = {}
    sources = []
    for field in ("pitch_midi", "loudness_db", "power_db"):
        name = field.rpartition("_")[0]
        anchors = {
            at: _number(found[key.format(name)], key.format(name), _BOUNDS[name])
            for key, at in _ANCHORS.items()
            if key.format(name) in found
        }
        quantiles = _quantiles(found.get("quantile_transform")) if name == "loudness" else None
        if quantiles is not None:
            curves[field] = quantiles
            sources.append(f"{name} from a quantile transform")
        elif len(anchors) >= 2:
            curves[field] = curve(anchors)
            sources.append(f"{name} from {len(anchors)} summary figures")
        else:
            curves[field] = curve(ASSUMED[field])
            sources.append(f"{name} assumed")
    lists = {field: [round(float(value), 4) for value in values] for field, values in curves.items()}
    return Statistics(**lists, note_s=0.0), f"Statistics: {', '.join(sources)}."


def _own_percentiles(found: Any) -> Statistics:
    """Reads statistics that this program put into an export."""
    try:
        statistics = msgspec.convert(found, Statistics, strict=True)
    except msgspec.ValidationError as problem:
        raise ModelError(f"the percentiles in the metadata cannot be read: {explain(problem)[0]}") from problem
    for field in ("pitch_midi", "loudness_db", "power_db"):
        low, high = _BOUNDS[field.rpartition("_")[0]]
        values = np.asarray(getattr(statistics, field))
        if not ((values >= low) & (values <= high)).all() or (np.diff(values) < 0).any():
            raise ModelError(f"the percentiles of {field} in the metadata are out of range or not in order")
    if not 0.0 <= statistics.note_s < np.inf:
        raise ModelError("the length of the notes in the metadata is out of range")
    return statistics


def curve(anchors: Mapping[float, float]) -> np.ndarray:
    """Interpolates 101 percentiles linearly through known ones: flat beyond the ends, never falling."""
    at = sorted(anchors)
    values = np.maximum.accumulate([anchors[percentile] for percentile in at])
    return np.interp(PERCENTILES, at, values)


def _quantiles(transform: Any) -> np.ndarray | None:
    """Returns the percentiles of a QuantileTransformer fitted to one variable, [101], or None."""
    if not isinstance(transform, Record):
        return None
    quantiles, references = (transform.state.get(name) for name in ("quantiles_", "references_"))
    if not isinstance(quantiles, np.ndarray) or not isinstance(references, np.ndarray):
        return None
    quantiles, references = quantiles.reshape(-1), references.reshape(-1)
    if len(quantiles) < 2 or len(quantiles) != len(references):
        return None
    low, high = _BOUNDS["loudness"]
    if not (np.isfinite(quantiles).all() and np.isfinite(references).all()) or (np.diff(references) < 0).any():
        raise ModelError("the statistics file has a quantile transform with values that are not finite or not in order")
    if quantiles.min() < low or quantiles.max() > high:
        raise ModelError("the statistics file has loudness out of range")
    sounding = quantiles > quantiles[0]  # silence repeats at the low end, and is no note
    if sounding.sum() >= 2:
        quantiles, references = quantiles[sounding], references[sounding]
    spread = max(references[-1] - references[0], 1e-9)
    return np.maximum.accumulate(np.interp(PERCENTILES / 100.0, (references - references[0]) / spread, quantiles))


def _number(value: Any, name: str, bounds: tuple[float, float]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        shown = f"{value:g}" if isinstance(value, float) else type(value).__name__
        low, high = bounds
        raise ModelError(f"the statistics have {name} = {shown}, and it must be a number from {low:g} to {high:g}")
    return float(value)
