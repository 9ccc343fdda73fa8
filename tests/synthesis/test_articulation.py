"""Beginnings and ends of notes: where they are found, what is added there, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import ARTICULATION
from ddsp_cli.synthesis.articulation import (
    BOUND,
    FALL_STEP_DB,
    HARD,
    MAX_NOISE_DB,
    SHAPES,
    SOFT,
    STEP_TIME_S,
    UNKNOWN,
    Articulation,
    Articulator,
    OnsetDetector,
    articulation_of,
    band_weights,
    group_weights,
)
from ddsp_cli.synthesis.instrument import Instrument
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


def detect(level_db: np.ndarray, midi: np.ndarray | float = 60.0, gate: np.ndarray | None = None, block: int = 10_000):
    detector, parts = OnsetDetector(FRAME_RATE_HZ, SOFT_DB), []
    f0_hz = np.broadcast_to(440.0 * 2.0 ** ((np.asarray(midi) - 69.0) / 12.0), level_db.shape).astype(np.float32)
    for start in range(0, len(level_db), block):
        part = slice(start, start + block)
        parts.append(detector.push(f0_hz[part], level_db[part], None if gate is None else gate[part]))
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def onsets_of(found) -> list[tuple[int, int]]:
    kinds, since_s, _ = found
    return [(int(i), int(kinds[i])) for i in np.flatnonzero((since_s == 0.0) & (kinds != UNKNOWN))]


def test_a_note_after_silence_begins_once_however_slow_its_attack():
    for attack, kind in ((1, HARD), (5, HARD), (15, SOFT)):
        rise = np.linspace(-80.0, -20.0, attack + 1)
        level = np.concatenate([np.full(30, -80.0), rise, np.full(60, -20.0)])
        assert [found for _, found in onsets_of(detect(level))] == [kind]


def test_a_gate_that_opens_begins_a_note():
    gate = np.zeros(60, np.float32)
    gate[20:50] = 1.0
    assert onsets_of(detect(np.full(60, -20.0), gate=gate)) == [(20, HARD)]


def test_a_performance_that_begins_within_a_note_has_no_onset():
    assert onsets_of(detect(np.full(60, -20.0))) == []


def test_swells_and_soft_noise_are_no_onsets():
    swell = np.concatenate([np.linspace(-15.0, -35.0, 100), np.linspace(-35.0, -15.0, 100)])
    assert onsets_of(detect(swell)) == []
    assert onsets_of(detect(np.concatenate([np.full(30, -90.0), np.full(30, -60.0)]))) == []


def test_a_tongued_note_begins_after_a_dip():
    level = np.full(100, -20.0)
    level[50:53] = -35.0
    assert onsets_of(detect(level)) == [(53, HARD)]


def test_a_step_of_the_pitch_binds_a_note_and_a_vibrato_does_not():
    midi = np.full(100, 60.0)
    midi[40:] = 61.0
    assert onsets_of(detect(np.full(100, -20.0), midi)) == [(40, BOUND)]
    vibrato = 60.0 + 0.6 * np.sin(2.0 * np.pi * 6.0 * np.arange(200) / FRAME_RATE_HZ)
    assert onsets_of(detect(np.full(200, -20.0), vibrato)) == []


def test_the_fall_counts_from_the_loudest_of_the_last_moments():
    level = np.concatenate([np.full(40, -20.0), -20.0 - 3.0 * np.arange(1, 9), np.full(40, -44.0)])
    fallen = detect(level)[2]
    assert fallen[47] == pytest.approx(24.0)
    assert fallen[-1] == 0.0


def test_blocks_do_not_matter():
    random = np.random.default_rng(0)
    level = np.where(np.repeat(random.random(40) > 0.4, 10), -20.0, -70.0) + random.normal(size=400)
    midi = 60.0 + np.repeat(random.integers(0, 5, 50), 8)
    whole, blocks = detect(level, midi), detect(level, midi, block=7)
    assert len(onsets_of(whole)) > 10
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(one, other)


def play(found: Articulation, level_db: np.ndarray, gate: np.ndarray | None = None, noise: float = 0.01):
    controls = {
        "amplitude": np.full((len(level_db), 1), 0.3, np.float32),
        "harmonic_distribution": np.full((len(level_db), K), 1.0 / K, np.float32),
        "noise_magnitudes": np.full((len(level_db), M), noise, np.float32),
    }
    articulator = Articulator(found, OnsetDetector(FRAME_RATE_HZ, SOFT_DB), RATE_HZ)
    return controls, articulator.push(np.full(len(level_db), 220.0, np.float32), level_db, gate, controls)


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
