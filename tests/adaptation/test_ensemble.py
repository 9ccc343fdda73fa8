"""A section: out of tune, early and late, spread in stereo, and in tune and in time on average."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.adaptation.adapt import adapt
from ddsp_cli.adaptation.ensemble import MOST_DELAY_S, WIDTH, delayed, make_section, pan_gains
from performance_fixtures import STATISTICS, performance

PART = adapt(performance(250), STATISTICS, "power_db")


def test_one_player_plays_the_part_unchanged():
    (seat,) = make_section(PART, 1, seed=3)
    assert seat.adapted is PART
    assert (seat.place, seat.seed) == (0.0, 3)


@pytest.mark.parametrize("n_players", [2, 6, 12])
def test_players_differ_and_their_mean_does_not(n_players):
    seats = make_section(PART, n_players)
    inside = slice(260, 480)  # within the first note
    cents = np.array([1200.0 * np.log2(np.median(seat.adapted.f0_hz[inside] / PART.f0_hz[inside])) for seat in seats])
    assert np.ptp(cents) > 8.0
    assert abs(cents.mean()) < 4.0
    assert np.abs(cents).max() < 25.0
    assert len({seat.seed for seat in seats}) == n_players
    np.testing.assert_allclose([seat.place for seat in seats], np.linspace(-WIDTH, WIDTH, n_players))
    onsets_s = np.array([np.argmax(seat.adapted.gate > 0.5) for seat in seats]) / 250
    assert np.ptp(onsets_s) > 0.003
    assert np.abs(onsets_s - np.argmax(PART.gate > 0.5) / 250).max() <= MOST_DELAY_S + 0.004


def test_the_same_seed_gives_the_same_players():
    first, again, other = (make_section(PART, 4, seed)[2].adapted.f0_hz for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_constant_delay_moves_the_curves():
    moved = delayed(PART, np.full(len(PART), 0.02))
    np.testing.assert_allclose(moved.level_db[5:], PART.level_db[:-5], atol=1e-4)
    np.testing.assert_allclose(moved.f0_hz[5:], PART.f0_hz[:-5], rtol=1e-5)


def test_panning_keeps_the_power():
    for place in np.linspace(-1.0, 1.0, 9):
        assert sum(np.square(pan_gains(place))) == pytest.approx(1.0)
    assert pan_gains(-1.0) == pytest.approx((1.0, 0.0))
    assert pan_gains(0.0)[0] == pytest.approx(np.sqrt(0.5))
