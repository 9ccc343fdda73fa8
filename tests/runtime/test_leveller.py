"""The level that is asked for is the level that sounds, in any blocks, and silence stays silent."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.config import FeatureSpec
from ddsp_cli.features.loudness import power_db
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.runtime.leveller import Leveller, measured_as
from fixtures import make_bundle

HOP = 64


def run(dry, want_db, block, level="power_db"):
    leveller = Leveller(measured_as(FeatureSpec(), level, 16000, HOP), 16000, HOP)
    parts = [
        leveller.push(dry[i * HOP : (i + block) * HOP], want_db[i : i + block]) for i in range(0, len(want_db), block)
    ]
    return np.concatenate([*parts, leveller.finish(np.zeros(0))])


def tone(n=500):
    t = np.arange(n * HOP) / 16000
    return (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


@pytest.mark.parametrize("gain_db", [-6.0, 0.0, 6.0])
def test_the_level_becomes_what_is_wanted(gain_db):
    dry = tone()
    out = run(dry, np.full(500, -23.0 + gain_db), 100)
    assert out.shape == dry.shape
    np.testing.assert_allclose(power_db(out)[40:-40], -23.0 + gain_db, atol=0.1)


def test_it_goes_no_further_than_a_hand_on_a_fader():
    out = run(tone(), np.full(500, 10.0), 100)
    assert power_db(out)[100:400].max() == pytest.approx(-23.0 + 9.0, abs=0.1)


def test_what_is_right_is_left_alone_and_rests_count_for_nothing():
    dry, want_db = tone(), np.full(500, -23.0)
    dry[200 * HOP : 300 * HOP] = 0.0
    want_db[200:300] = -np.inf
    out = run(dry, want_db, 50)
    assert (out[200 * HOP : 300 * HOP] == 0).all()
    middle = slice(40 * HOP, 180 * HOP)
    np.testing.assert_allclose(out[middle], dry[middle], atol=1e-3)


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("level", ["power_db", "loudness_db"])
def test_blocks_do_not_matter(block, level):
    want_db = -25.0 + 5.0 * np.sin(np.arange(500) / 30)
    whole = run(tone(), want_db, 500, level)
    np.testing.assert_allclose(run(tone(), want_db, block, level), whole, atol=1e-6)


@pytest.mark.parametrize("block_frames", [1, 7, 64])
def test_an_instrument_is_held_to_its_levels(tmp_path, block_frames):
    instrument = Instrument(make_bundle(tmp_path / "testophone"))
    n = 200
    f0_hz, gate = np.full(n, 440.0, np.float32), np.ones(5 * n, np.float32)
    gate[500:600] = 0.0
    level_db = (-25 + 6 * np.sin(np.arange(n) / 12)).astype(np.float32)

    def sound(block, levels):
        frames = instrument.render(f0_hz, level_db, gate, block_frames=block, room=False, levels=levels)
        return np.concatenate(list(frames))

    plain, held = sound(n, False), sound(n, True)
    assert plain.shape == held.shape == (n * 320,)
    assert np.abs(sound(block_frames, True) - held).max() <= 1e-6
    wanted = np.interp(np.arange(5 * n) / 5, np.arange(n), level_db)
    steady = np.r_[60:470, 640:940]

    def follows(audio):
        return np.corrcoef(power_db(audio)[steady], wanted[steady])[0, 1]

    assert follows(held) > max(0.8, follows(plain) + 0.3)
    assert np.abs(held[502 * 64 : 598 * 64]).max() == 0.0
