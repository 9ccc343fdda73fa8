"""Fill the holes in the noise of an instrument: bands that training turned off against its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ddsp_cli.arrays import FloatArray, runs
from ddsp_cli.bundle import Bundle, Card
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.config import FilteredNoiseConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis.decoder import Decoder
from ddsp_cli.synthesis.instrument import check_graph
from ddsp_cli.training.harmonic_mask import BIAS, KERNEL

#: A hole lies this far below the line between the bands one, or two, on both sides of it. The noise of instruments is
#: smooth over frequency; where one band is turned off by chance, the bands around it are not.
HOLE_DB = 5.0

#: The levels at which the noise is examined, as percentiles of those of the recordings, and the length of a note.
LEVEL_PERCENTILES, NOTE_FRAMES = (25, 50, 75), 10

#: A unit of the raw output is this much of a soft band: the level is 20·ln(σ(x)) dB (`engine.losses.ControlLoss`).
DB_PER_UNIT = 20.0

#: Filling a hole may show another, which was less deep than it.
MAX_PASSES = 4


def fill_noise_holes(weights: Mapping[str, FloatArray], card: Card) -> dict[str, FloatArray]:
    """Replaces bands that are holes in the mean noise of a chromatic scale by what lies between their neighbours.

    The neighbours of a hole have learned to be louder in its place, so the power of both together is kept.

    Args:
      weights: by name; kernel [C, outputs] and bias [outputs] of the last layer are replaced in a copy.
      card: of the instrument, whose range and levels the scale has. One that the player cannot play stays as it is.
    """
    changed = dict(weights)
    noise = card.model.only(FilteredNoiseConfig)
    columns = control_columns(card.model, noise[0]).get("noise_magnitudes") if noise else None
    if columns is None or not _is_playable(card.model):
        return changed
    for _ in range(MAX_PASSES):
        before_db = mean_noise_db(changed, card)
        holes = find_holes(before_db)
        if not holes.any():
            break
        kernel, bias = changed[KERNEL].copy(), changed[BIAS].copy()
        places = np.arange(len(holes))
        for row in (*kernel, bias):
            own = row[columns]
            own[holes] = np.interp(places[holes], places[~holes], own[~holes])
        changed |= {KERNEL: kernel, BIAS: bias}
        # power of each hole with the bands beside it, before and after
        around = np.convolve(np.pad(holes, 1), np.ones(3), "valid") > 0.0
        powers = [10.0 ** (db / 10.0) for db in (before_db, mean_noise_db(changed, card))]
        for start, stop in zip(*runs(around), strict=True):
            louder_db = 10.0 * np.log10(powers[1][start:stop].sum() / powers[0][start:stop].sum())
            bias[columns][start:stop] -= np.float32(louder_db / DB_PER_UNIT)
    return changed


def _is_playable(model: ModelConfig) -> bool:
    try:
        check_graph(model)
    except ModelError:
        return False
    return True


def find_holes(noise_db: FloatArray) -> np.ndarray:
    """Mask [M] of the bands that lie `HOLE_DB` below their neighbours; the lowest and the highest band are none."""
    holes = np.zeros(len(noise_db), bool)
    for reach in (1, 2):
        if len(noise_db) > 2 * reach:
            line_db = 0.5 * (noise_db[: -2 * reach] + noise_db[2 * reach :])
            holes[reach:-reach] |= noise_db[reach:-reach] < line_db - HOLE_DB
    return holes


def mean_noise_db(weights: Mapping[str, FloatArray], card: Card) -> FloatArray:
    """Mean magnitude of each noise band over a chromatic scale at several levels, [M] in dB."""
    lowest, highest = card.statistics.range_midi
    levels_db = card.statistics.level(card.model.level)[list(LEVEL_PERCENTILES)]
    midi = np.arange(round(lowest), round(highest) + 1, dtype=np.float64)
    f0_hz = np.repeat(np.tile(midi_to_hz(midi), len(levels_db)), NOTE_FRAMES)
    level_db = np.repeat(np.repeat(levels_db, len(midi)), NOTE_FRAMES)
    decoder = Decoder(Bundle(card, dict(weights), None))
    controls = decoder.controls(np.asarray(f0_hz, np.float32), np.asarray(level_db, np.float32))
    return np.asarray(np.mean(20.0 * np.log10(controls["noise_magnitudes"] + 1e-12), axis=0), np.float32)
