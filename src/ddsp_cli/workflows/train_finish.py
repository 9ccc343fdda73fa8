"""The completion of a trained instrument: corrections by the recordings, figures, and a preview."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle.layout import ARTICULATION, control_columns, decoder_outputs
from ddsp_cli.config import FilteredNoiseConfig, ModelConfig
from ddsp_cli.dataset.loader import Dataset
from ddsp_cli.reports.pages import JUDGED_METRIC
from ddsp_cli.synthesis.decoder import NOTE_BIAS
from ddsp_cli.training.articulation import measure_articulation
from ddsp_cli.training.note_timbre import measure_deviation
from ddsp_cli.training.output_layer import (
    balance_upper_band,
    fit_upper_harmonics,
    match_level,
    match_noise,
    smooth_harmonics,
)
from ddsp_cli.training.windows import Windows
from ddsp_cli.workflows.evaluate import resynthesise

#: Takes an instrument and the windows of its training split; returns new weights.
Correction: TypeAlias = Callable[[bundle.Bundle, Windows], Mapping[str, FloatArray]]

#: Shares of the learned note bias that are compared on the validation split.
NOTE_BIAS_SHARES = (1.0, 0.5, 0.0)


def _smooth_harmonics(loaded: bundle.Bundle, _: Windows) -> Mapping[str, FloatArray]:
    return smooth_harmonics(loaded)


def _add_articulation(loaded: bundle.Bundle, windows: Windows) -> Mapping[str, FloatArray]:
    """Returns the weights with the articulation, where the recordings have enough notes."""
    articulation = measure_articulation(loaded, windows)
    return loaded.weights if articulation is None else loaded.weights | articulation.as_weights()


#: Corrections of levels, which are left out where those of a parent are kept.
OF_LEVELS: tuple[Correction, ...] = (_smooth_harmonics, match_level, match_noise, balance_upper_band)

#: All corrections, in order: each measures the instrument that the ones before it left.
CORRECTIONS: tuple[Correction, ...] = (
    fit_upper_harmonics,
    _smooth_harmonics,
    match_level,
    match_noise,
    measure_deviation,
    balance_upper_band,
    _add_articulation,
)


def finish(folder: Path, data: Dataset, windows: Windows, keep_levels: bool = False) -> dict[str, float]:
    """Completes the bundle of the best weights.

    The share of the note bias is chosen; upper harmonics, level and noise are matched to the recordings; single high
    harmonics that stand out are lowered; the deviation of notes, articulation and figures are measured; and a preview
    is rendered.

    Args:
      folder: of the instrument.
      data: the data set.
      windows: of its training split, those whose timbre the instrument plays.
      keep_levels: do not change level, noise, single harmonics and the upper band, such as those of a parent.

    Returns:
      Metrics by name, of what will be played; they also go into the bundle's card.
    """
    loaded = bundle.load(folder)
    weights = {name: value for name, value in loaded.weights.items() if not name.startswith(ARTICULATION)}
    loaded = dataclasses.replace(loaded, weights=weights)
    loaded = _with_confirmed_note_bias(loaded, data)
    for correct in CORRECTIONS:
        if not (keep_levels and correct in OF_LEVELS):
            loaded = dataclasses.replace(loaded, weights=bundle.round_to_half(correct(loaded, windows)))
    clip = resynthesise(loaded, data)
    metrics = {**loaded.card.metrics, **clip.figures(), JUDGED_METRIC: round(clip.seconds, 1)}
    preview = np.clip(clip.rendering[: round(bundle.PREVIEW_S * clip.rate_hz)], -1.0, 1.0)
    card = bundle.revise(loaded.card, metrics=metrics)
    bundle.save(folder, card, loaded.weights, loaded.impulse_response, preview, force=True)
    return metrics


def is_complete(folder: Path) -> bool:
    """Whether `finish` has completed the weights of an instrument. A second time it would correct them further."""
    return JUDGED_METRIC in bundle.load_card(folder).metrics


def _with_confirmed_note_bias(loaded: bundle.Bundle, data: Dataset) -> bundle.Bundle:
    """Keeps as much of the note bias of noise and harmonics as held-out recordings confirm.

    Each semitone learns from few notes, and these may be those of one recording, so a bias may not hold for others. On
    held-out recordings the bias of the harmonics lowers the loss of cello and trombone by 0.1 to 0.2 and raises that of
    the flute by 0.05; the bias of the noise raises that of all three by 0.01 to 0.03.
    """
    if NOTE_BIAS not in loaded.weights or not np.any(loaded.weights[NOTE_BIAS]):
        return loaded
    for columns in _note_bias_parts(loaded.card.model):
        found = []
        for share in NOTE_BIAS_SHARES:
            bias = np.array(loaded.weights[NOTE_BIAS], np.float32)
            bias[:, columns] *= np.float32(share)
            scaled = dataclasses.replace(loaded, weights=bundle.round_to_half(loaded.weights | {NOTE_BIAS: bias}))
            found.append((resynthesise(scaled, data).figures()["spectral_loss"], scaled))
        loaded = min(found, key=lambda pair: pair[0])[1]
    return loaded


def _note_bias_parts(model: ModelConfig) -> list[np.ndarray]:
    """Returns the columns of the noise and those of all other controls in the output of a decoder."""
    n_outputs = sum(decoder_outputs(model).values())
    noise = model.only(FilteredNoiseConfig)
    of_noise = np.r_[control_columns(model, noise[0])["noise_magnitudes"]] if noise else np.zeros(0, int)
    return [of_noise, np.setdiff1d(np.arange(n_outputs), of_noise)]
