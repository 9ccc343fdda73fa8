"""The map of instruments: similar instruments are near each other, and its axes are named correctly."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.timbre_map import Timbre, describe, make_map
from fixtures import impulse_response, make_card, random_weights, small_model


def tilted(tilt: float, seed: int = 0) -> Instrument:
    """An instrument whose raw harmonics rise by `tilt` from one to the next."""
    model, weights = small_model(), random_weights(small_model(), seed)
    columns = control_columns(model, "harmonic")["harmonic_distribution"]
    weights["decoder/dense_out/bias"][columns] += tilt * np.arange(columns.stop - columns.start)
    return Instrument(Bundle(make_card(model), weights, impulse_response()))


@pytest.fixture(scope="module")
def timbres():
    made = {"dull": tilted(-0.6), "same": tilted(-0.6), "plain": tilted(-0.25), "bright": tilted(0.1)}
    return {name: describe(instrument) for name, instrument in made.items()}


def test_the_same_instrument_is_at_the_same_place(timbres):
    found = make_map(timbres)
    assert found.nearest("dull")[0] == ("same", 0.0)
    np.testing.assert_allclose(found.places[0], found.places[1], atol=1e-4)
    np.testing.assert_allclose(found.distances_db, found.distances_db.T)


def test_a_tilt_of_the_spectrum_is_brightness_and_orders_instruments(timbres):
    assert timbres["dull"].brightness < timbres["plain"].brightness < timbres["bright"].brightness
    found = make_map(timbres)
    dull, _, plain, bright = found.places[:, 0]
    assert dull < plain < bright or dull > plain > bright
    assert 0.5 < found.shown <= 1.0


def test_axes_point_to_where_their_trait_grows():
    """Descriptions in which brightness makes the largest differences, and hollowness the next."""
    random = np.random.default_rng(0)
    traits = random.normal(size=(8, 2))
    directions = np.linalg.qr(random.normal(size=(30, 2)))[0].T
    made = {
        f"{i}": Timbre((bright * 9.0 * directions[0] + hollow * 3.0 * directions[1]).astype(np.float32),
                       bright, hollow, 0.0)
        for i, (bright, hollow) in enumerate(traits)
    }  # fmt: skip
    found = make_map(made)
    assert found.axes == ("brighter", "hollower")
    assert found.shown == pytest.approx(1.0)
    assert np.corrcoef(found.places[:, 0], traits[:, 0])[0, 1] > 0.8
    assert np.corrcoef(found.places[:, 1], traits[:, 1])[0, 1] > 0.8


def test_the_map_does_not_depend_on_the_order(timbres):
    one, other = make_map(timbres), make_map(dict(reversed(timbres.items())))
    for name in timbres:
        places = [found.places[found.names.index(name)] for found in (one, other)]
        np.testing.assert_allclose(*places, atol=1e-3)


def test_level_and_noise_are_separate_axes(timbres):
    """Half the amplitude of everything is the same timbre; noise alone is another."""
    louder = tilted(-0.25)
    columns = control_columns(louder.model, "noise")["noise_magnitudes"]
    louder.bundle.weights["decoder/dense_out/bias"][columns] += 2.0
    noisy = describe(Instrument(louder.bundle))
    assert noisy.noise_db > timbres["plain"].noise_db + 6.0
    assert noisy.brightness == pytest.approx(timbres["plain"].brightness)
