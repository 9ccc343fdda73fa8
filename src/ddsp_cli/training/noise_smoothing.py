"""Smooth the noise of an instrument: fill bands that training turned off, and lower single bands that stand out."""

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

#: A hole lies this far below the bands one, or two, on both sides of it. The noise of instruments is smooth over
#: frequency; where one band is turned off by chance, the bands around it are not.
HOLE_DB = 5.0

#: The levels at which the noise is examined, as percentiles of those of the recordings, and the length of a note.
LEVEL_PERCENTILES, NOTE_FRAMES = (25, 50, 75), 10

#: Above this frequency a band that stands out as far as a hole is deep is lowered: a whistle of the recordings, or an
#: error at the edge of the band that training renders. Below it sound has judged each band.
SPIKES_FROM_HZ = 7500.0

#: A unit of the raw output is this much of a soft band: the level is 20·ln(σ(x)) dB (`engine.losses.ControlLoss`).
DB_PER_UNIT = 20.0

#: Filling a hole may show another, which was less deep than it.
MAX_PASSES = 4


def smooth_noise(weights: Mapping[str, FloatArray], card: Card) -> dict[str, FloatArray]:
    """Replaces holes and spikes in the mean noise of a chromatic scale by what lies between their neighbours.

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
    first = int(SPIKES_FROM_HZ / (card.model.sample_rate_hz / 2.0) * (columns.stop - columns.start - 1)) + 1
    for _ in range(MAX_PASSES):
        before_db = mean_noise_db(changed, card)
        holes, spikes = find_holes(before_db), find_spikes(before_db, first)
        odd = holes | spikes
        if not odd.any():
            break
        kernel, bias = changed[KERNEL].copy(), changed[BIAS].copy()
        places = np.arange(len(odd))
        for row in (*kernel, bias):
            own = row[columns]
            own[odd] = np.interp(places[odd], places[~odd], own[~odd])
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
    """Mask [M] of the bands that lie `HOLE_DB` below the bands one, or two, on both sides of them."""
    holes = np.zeros(len(noise_db), bool)
    for reach in (1, 2):
        if len(noise_db) > 2 * reach:
            sides_db = np.minimum(noise_db[: -2 * reach], noise_db[2 * reach :])
            holes[reach:-reach] |= noise_db[reach:-reach] < sides_db - HOLE_DB
    return holes


def find_spikes(noise_db: FloatArray, first: int) -> np.ndarray:
    """Mask [M] of the bands from `first` on that lie `HOLE_DB` above the bands two, or four, on both sides of them."""
    spikes = np.zeros(len(noise_db), bool)
    for reach in (2, 4):
        if len(noise_db) > 2 * reach:
            sides_db = np.maximum(noise_db[: -2 * reach], noise_db[2 * reach :])
            spikes[reach:-reach] |= noise_db[reach:-reach] > sides_db + HOLE_DB
    spikes[:first] = False
    return spikes


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
