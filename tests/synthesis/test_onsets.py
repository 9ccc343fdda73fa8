"""Onsets of notes in the curves that are played: where they are found, and where not."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.synthesis.onsets import BOUND, HARD, SOFT, OnsetDetector, Onsets

FRAME_RATE_HZ, SOFT_DB = 50, -40.0


def detect(
    level_db: np.ndarray, midi: np.ndarray | float = 60.0, gate: np.ndarray | None = None, block: int = 10_000
) -> Onsets:
    detector, parts = OnsetDetector(FRAME_RATE_HZ, SOFT_DB), []
    f0_hz = np.broadcast_to(440.0 * 2.0 ** ((np.asarray(midi) - 69.0) / 12.0), level_db.shape).astype(np.float32)
    for start in range(0, len(level_db), block):
        part = slice(start, start + block)
        parts.append(detector.push(f0_hz[part], level_db[part], None if gate is None else gate[part]))
    return Onsets(*(np.concatenate([getattr(part, name) for part in parts]) for name in Onsets.__struct_fields__))


def onsets_of(found: Onsets) -> list[tuple[int, int]]:
    return [(int(i), int(found.kinds[i])) for i in np.flatnonzero(found.begins)]


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
    fallen = detect(level).fallen_db
    assert fallen[47] == pytest.approx(24.0)
    assert fallen[-1] == 0.0


def test_blocks_do_not_matter():
    random = np.random.default_rng(0)
    level = np.where(np.repeat(random.random(40) > 0.4, 10), -20.0, -70.0) + random.normal(size=400)
    midi = 60.0 + np.repeat(random.integers(0, 5, 50), 8)
    whole, blocks = detect(level, midi), detect(level, midi, block=7)
    assert len(onsets_of(whole)) > 10
    for name in Onsets.__struct_fields__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(blocks, name))
