"""Percentiles of pitch and level from what other programs keep of an instrument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import ModelError
from ddsp_cli.importers.pickles import Record

PERCENTILES = np.arange(101.0)

#: What is taken where nothing is known: two octaves around C5, and levels that instruments are commonly played at.
ASSUMED = {
    "pitch_midi": {5.0: 60.0, 95.0: 84.0},
    "loudness_db": {5.0: -45.0, 50.0: -25.0, 95.0: -10.0},
    "power_db": {5.0: -45.0, 50.0: -28.0, 95.0: -16.0},
}
#: Where a statistic of magenta/ddsp stands among the percentiles. `mean_min` is the mean of the minima of pieces.
_ANCHORS = {"min_{}_note": 0.0, "mean_min_{}_note": 5.0, "mean_{}_note": 50.0, "mean_max_{}_note": 95.0,
            "max_{}_note": 100.0}  # fmt: skip
_BOUNDS = {"pitch": (0.0, 127.0), "loudness": (-120.0, 40.0), "power": (-120.0, 20.0)}


def from_mapping(found: Mapping[str, Any]) -> tuple[Statistics, str]:
    """Statistics from `dataset_statistics.pkl` or the `metadata.json` of a plug-in model.

    Returns:
      The statistics, and a sentence for the card about where they come from.

    Raises:
      ModelError: values that are not numbers.
    """
    if "percentiles" in found:
        return _own(found["percentiles"]), "Statistics: those of the instrument it was exported from."
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


def _own(found: Any) -> Statistics:
    """Statistics that this program put into an export."""
    import msgspec

    try:
        figures = msgspec.convert(found, Statistics, strict=True)
    except msgspec.ValidationError as problem:
        raise ModelError(f"the percentiles in the metadata cannot be read: {problem}") from problem
    for field, (low, high) in (("pitch_midi", _BOUNDS["pitch"]), ("loudness_db", _BOUNDS["loudness"]),
                               ("power_db", _BOUNDS["power"])):  # fmt: skip
        values = np.asarray(getattr(figures, field))
        if not ((values >= low) & (values <= high)).all() or (np.diff(values) < 0).any():
            raise ModelError(f"the percentiles of {field} in the metadata make no sense")
    return figures


def curve(anchors: Mapping[float, float]) -> np.ndarray:
    """101 percentiles through known ones: straight lines, flat beyond the ends, never falling."""
    at = sorted(anchors)
    values = np.maximum.accumulate([anchors[percentile] for percentile in at])
    return np.interp(PERCENTILES, at, values)


def _quantiles(transform: Any) -> np.ndarray | None:
    """Percentiles of a QuantileTransformer fitted to one variable, or None."""
    if not isinstance(transform, Record):
        return None
    state = transform.state
    quantiles, references = (np.asarray(state.get(name, []), np.float64) for name in ("quantiles_", "references_"))
    quantiles, references = quantiles.reshape(-1), references.reshape(-1)
    if len(quantiles) < 2 or len(quantiles) != len(references):
        return None
    low, high = _BOUNDS["loudness"]
    if not (np.isfinite(quantiles).all() and np.isfinite(references).all()) or (np.diff(references) < 0).any():
        raise ModelError("the statistics file has a quantile transform that makes no sense")
    if quantiles.min() < low or quantiles.max() > high:
        raise ModelError("the statistics file has loudness out of range")
    sounding = quantiles > quantiles[0]  # repeated at the low end stands silence, which is no note
    if sounding.sum() >= 2:
        quantiles, references = quantiles[sounding], references[sounding]
    spread = max(references[-1] - references[0], 1e-9)
    return np.maximum.accumulate(np.interp(PERCENTILES / 100.0, (references - references[0]) / spread, quantiles))


def _number(value: Any, name: str, bounds: tuple[float, float]) -> float:
    if not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        raise ModelError(f"the statistics have {name} = {str(value)[:40]}, which makes no sense")
    return float(value)
