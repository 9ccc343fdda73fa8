"""Beginnings and ends of notes: what is added there, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import ARTICULATION
from ddsp_cli.synthesis.articulation import (
    FALL_STEP_DB,
    MAX_NOISE_DB,
    SHAPES,
    STEP_TIME_S,
    Articulation,
    Articulator,
    articulation_of,
    band_weights,
    group_weights,
)
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.onsets import OnsetDetector
from fixtures import impulse_response, make_card, random_weights, small_model

FRAME_RATE_HZ, RATE_HZ, K, M = 50, 48000, 40, 33
SOFT_DB = -40.0


def articulation(**values: np.ndarray) -> Articulation:
    return Articulation(**{name: values.get(name, np.zeros(shape, np.float32)) for name, shape in SHAPES.items()})


def burst(noise_db: float = 9.0) -> Articulation:
    """Noise in the first two steps of all notes."""
    onset = np.zeros(SHAPES["onset_noise_db"], np.float32)
    onset[:, :2] = noise_db
    return articulation(onset_noise_db=onset)


def play(found: Articulation, level_db: np.ndarray, gate: np.ndarray | None = None, noise: float = 0.01):
    controls = {
        "amplitude": np.full((len(level_db), 1), 0.3, np.float32),
        "harmonic_distribution": np.full((len(level_db), K), 1.0 / K, np.float32),
        "noise_magnitudes": np.full((len(level_db), M), noise, np.float32),
    }
    onsets = OnsetDetector(FRAME_RATE_HZ, SOFT_DB).push(np.full(len(level_db), 220.0, np.float32), level_db, gate)
    return controls, Articulator(found, RATE_HZ).push(onsets, controls)


def power(controls) -> np.ndarray:
    harmonics = 0.5 * np.sum((controls["amplitude"] * controls["harmonic_distribution"]) ** 2, axis=1)
    return harmonics + np.mean(controls["noise_magnitudes"] ** 2, axis=1) / 3.0


@pytest.mark.parametrize("noise", [1e-4, 0.1])
def test_power_is_kept_and_noise_rises_against_harmonics(noise):
    level = np.concatenate([np.full(20, -80.0), np.full(40, -20.0)])
    before, after = play(burst(9.0), level, noise=noise)
    np.testing.assert_allclose(power(after), power(before), rtol=1e-5)
    ratio = (after["noise_magnitudes"] / before["noise_magnitudes"])[:, 5] / (
        after["harmonic_distribution"] / before["harmonic_distribution"]
    )[:, 5]
    expected = np.zeros(60)
    expected[20:22] = 9.0
    np.testing.assert_allclose(20.0 * np.log10(ratio), expected, atol=1e-4)


def test_harmonics_change_in_groups_and_at_the_fall():
    fall = np.zeros(SHAPES["fall_harmonic_db"], np.float32)
    fall[0, -1] = -6.0
    level = np.concatenate([np.full(20, -20.0), np.full(3, -20.0 - FALL_STEP_DB)])
    before, after = play(articulation(fall_harmonic_db=fall), level)
    changed_db = 20.0 * np.log10(after["harmonic_distribution"] / before["harmonic_distribution"])
    assert np.abs(changed_db[:20]).max() < 1e-5
    assert changed_db[20, -1] - changed_db[20, 0] == pytest.approx(-6.0, abs=1e-3)


def test_weights_of_groups_and_bands_sum_to_one():
    np.testing.assert_allclose(group_weights(200).sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(band_weights(193, RATE_HZ).sum(axis=0), 1.0, rtol=1e-6)


def bundle_with(found: Articulation | None, **more: np.ndarray) -> Bundle:
    model = small_model()
    weights = random_weights(model) | ({} if found is None else found.as_weights()) | more
    return Bundle(make_card(model), weights, impulse_response())


def performance(n_notes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    level = np.tile(np.concatenate([np.full(15, -80.0), np.full(25, -20.0)]), n_notes).astype(np.float32)
    gate = np.repeat((level > -50.0).astype(np.float32), 5)
    f0_hz = np.repeat(np.where(np.arange(len(level)) % 40 < 28, 220.0, 262.0), 5).astype(np.float32)
    return f0_hz, level, gate


def render(bundle: Bundle, **options) -> np.ndarray:
    return np.concatenate(list(Instrument(bundle).render(*performance(), seed=2, **options)))


def test_a_bundle_without_an_articulation_plays_as_before():
    old = render(bundle_with(None))
    np.testing.assert_array_equal(old, render(bundle_with(burst()), articulation=False))
    damaged = {f"{ARTICULATION}onset_noise_db": np.zeros((2, 3, 1), np.float32)}
    np.testing.assert_array_equal(old, render(bundle_with(burst(), **damaged)))
    assert np.abs(old - render(bundle_with(burst()))).max() > 0.0


def test_rests_stay_silent_and_blocks_do_not_matter():
    bundle = bundle_with(burst(MAX_NOISE_DB))
    whole = render(bundle, room=False)
    np.testing.assert_allclose(render(bundle, room=False, block_frames=3), whole, atol=2e-6)
    hop = small_model().hop_samples
    assert np.abs(whole[: 14 * hop]).max() == 0.0


def test_values_beyond_the_bounds_are_clipped_and_names_go_both_ways():
    found = burst(6.0)
    again = articulation_of(bundle_with(found))
    assert again is not None
    np.testing.assert_array_equal(again.onset_noise_db, found.onset_noise_db)
    wild = articulation_of(bundle_with(burst(1e4)))
    assert wild is not None
    assert wild.onset_noise_db.max() == MAX_NOISE_DB


def test_a_blend_articulates_between_its_parts():
    from ddsp_cli.synthesis.blend import BlendedInstrument, Shares

    parts = [Instrument(bundle_with(burst(db))) for db in (2.0, 6.0)]
    found = articulation_of(BlendedInstrument(parts, Shares.constant((0.25, 0.75)), "both").bundle)
    assert found is not None
    assert found.onset_noise_db[0, 0] == pytest.approx(5.0)
    parts[1] = Instrument(bundle_with(None))
    assert articulation_of(BlendedInstrument(parts, Shares.constant((0.5, 0.5)), "one").bundle) is None


def test_steps_are_frames_at_the_usual_rate():
    assert pytest.approx(1.0 / FRAME_RATE_HZ) == STEP_TIME_S
