"""Bands of noise that training turned off are filled, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.training.harmonic_mask import BIAS, KERNEL
from ddsp_cli.training.noise_smoothing import HOLE_DB, find_holes, mean_noise_db, smooth_noise
from fixtures import make_card, random_weights, small_model


def even_noise(**changes):
    """An instrument whose noise falls evenly over frequency, and the columns of its bands."""
    model = small_model(**changes)
    weights = random_weights(model)
    bands = control_columns(model, "noise")["noise_magnitudes"]
    weights[KERNEL][:, bands] = weights[KERNEL][:, bands.start, None]
    weights[BIAS][bands] = np.linspace(0.0, -1.0, bands.stop - bands.start)
    return model, weights, bands


@pytest.mark.parametrize("holes", [[5], [5, 6], [2, 9], [1, 15]])
def test_holes_are_filled_from_their_neighbours(holes):
    model, weights, bands = even_noise()
    card = make_card(model)
    before_db = mean_noise_db(weights, card)
    weights[BIAS][bands.start + np.array(holes)] -= 12.0
    assert find_holes(mean_noise_db(weights, card)).any()
    filled = smooth_noise(weights, card)
    found_db = mean_noise_db(filled, card)
    assert not find_holes(found_db).any()
    near = np.unique(np.clip(np.add.outer(holes, [-1, 0, 1]), 0, len(before_db) - 1))
    with_holes_db = mean_noise_db(weights, card)
    power, wanted = (np.sum(10 ** (db[near] / 10)) for db in (found_db, with_holes_db))
    assert 10 * np.log10(power / wanted) == pytest.approx(0.0, abs=0.3), (
        "the neighbours have learned the power of a hole"
    )
    others = np.setdiff1d(np.arange(len(weights[BIAS])), bands.start + near)
    np.testing.assert_array_equal(filled[KERNEL][:, others], weights[KERNEL][:, others])
    np.testing.assert_array_equal(filled[BIAS][others], weights[BIAS][others])


def test_smooth_noise_stays_and_what_is_given_is_not_changed():
    model, weights, bands = even_noise()
    filled = smooth_noise(weights, make_card(model))
    assert all(np.array_equal(filled[name], value) for name, value in weights.items())
    weights[BIAS][bands.start + 5] = -20.0
    smooth_noise(weights, make_card(model))
    assert weights[BIAS][bands.start + 5] == -20.0


def test_a_step_is_no_hole():
    levels_db = np.where(np.arange(20) < 10, -20.0, -20.0 - 1.9 * HOLE_DB)
    assert not find_holes(levels_db).any()


def test_a_band_that_stands_out_high_up_is_lowered_and_one_further_down_stays():
    model, weights, bands = even_noise(sample_rate_hz=48000)  # bands of 1.5 kHz
    card = make_card(model)
    weights[BIAS][bands.start + np.array([4, 13])] += 1.0
    before_db = mean_noise_db(weights, card)
    found_db = mean_noise_db(smooth_noise(weights, card), card)
    assert found_db[13] == pytest.approx(0.5 * (before_db[12] + before_db[14]), abs=0.5)
    np.testing.assert_allclose(np.delete(found_db, 13), np.delete(before_db, 13), atol=0.01)
    assert found_db[4] > found_db[3] + HOLE_DB
