"""Level correction: the level becomes the requested one within bounds, in any blocks, and silence stays silent."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.loudness import envelope_stream, power_db
from ddsp_cli.config import FeatureSpec, load_preset
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.level_correction import (
    MAX_REVERB_CORRECTION_DB,
    LevelCorrection,
    level_stream,
    make_level_correction,
)
from ddsp_cli.synthesis.reverb import Reverb
from fixtures import impulse_response, make_bundle, small_model

HOP = 64


def run(dry, want_db, block, level="power_db", response=None):
    dry_level, wet_level = (level_stream(FeatureSpec(), level, 16000, HOP) for _ in range(2))
    correction = LevelCorrection(dry_level, 16000, HOP, None if response is None else (Reverb(response), wet_level))
    parts = [
        correction.push(dry[i * HOP : (i + block) * HOP], want_db[i : i + block]) for i in range(0, len(want_db), block)
    ]
    return np.concatenate([*parts, correction.finish(np.zeros(0))])


def tone(n=500):
    t = np.arange(n * HOP) / 16000
    return (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


@pytest.mark.parametrize("gain_db", [-6.0, 0.0, 6.0])
def test_the_level_becomes_the_requested_one(gain_db):
    dry = tone()
    out = run(dry, np.full(500, -23.0 + gain_db), 100)
    assert out.shape == dry.shape
    np.testing.assert_allclose(power_db(out)[40:-40], -23.0 + gain_db, atol=0.1)


def test_the_gain_is_bounded():
    out = run(tone(), np.full(500, 10.0), 100)
    assert power_db(out)[100:400].max() == pytest.approx(-23.0 + 9.0, abs=0.1)


def test_a_right_level_is_left_alone_and_rests_have_no_weight():
    dry, want_db = tone(), np.full(500, -23.0)
    dry[200 * HOP : 300 * HOP] = 0.0
    want_db[200:300] = -np.inf
    out = run(dry, want_db, 50)
    assert (out[200 * HOP : 300 * HOP] == 0).all()
    middle = slice(40 * HOP, 180 * HOP)
    np.testing.assert_allclose(out[middle], dry[middle], atol=1e-3)


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("level", ["power_db", "loudness_db"])
@pytest.mark.parametrize("response", [None, impulse_response()])
def test_blocks_do_not_matter(block, level, response):
    want_db = -25.0 + 5.0 * np.sin(np.arange(500) / 30)
    whole = run(tone(), want_db, 500, level, response)
    np.testing.assert_allclose(run(tone(), want_db, block, level, response), whole, atol=1e-6)


@pytest.mark.parametrize("echo", [0.3, -0.3, 2.0, -0.9])
def test_the_level_after_the_reverb_is_the_requested_one(echo):
    """An echo after 22 periods adds to the tone or takes from it; the player makes up for it, within reason."""
    response = np.zeros(801, np.float32)
    response[800] = echo  # samples of 22 periods of 440 Hz
    dry = tone()
    want_db = np.full(500, -23.0)
    heard = Reverb(response).push(run(dry, want_db, 100, response=response))
    off_db = 20.0 * np.log10(abs(1.0 + echo))
    expected = -23.0 + np.sign(off_db) * max(0.0, abs(off_db) - MAX_REVERB_CORRECTION_DB)
    np.testing.assert_allclose(power_db(heard)[60:-40], expected, atol=0.15)
    unheard = Reverb(response).push(run(dry, want_db, 100))
    np.testing.assert_allclose(power_db(unheard)[60:-40], -23.0 + off_db, atol=0.15)


def test_quick_changes_are_followed():
    """A tremolo of 8 Hz, that power over 64 ms smooths out."""
    want_db = -25.0 + 6.0 * np.sin(2 * np.pi * 8.0 * np.arange(500) / 250)
    out = run(tone(), want_db, 100)
    stream = envelope_stream(16000, HOP, -80.0)
    envelope_db = np.concatenate([stream.push(out), stream.finish()])
    swing = slice(40, -40)
    assert np.corrcoef(envelope_db[swing], want_db[swing])[0, 1] > 0.99
    assert np.ptp(envelope_db[swing]) > 0.6 * np.ptp(want_db[swing])


def test_a_sound_that_has_the_requested_attacks_is_left_alone():
    """Level and sound step by 20 dB together, faster than the meter follows."""
    want_db = np.full(500, -23.0)
    want_db[100:200] = want_db[300:] = -43.0
    gain = np.interp(np.arange(500 * HOP) / HOP, np.arange(500), 10.0 ** ((want_db + 23.0) / 20.0))
    dry = (tone() * gain).astype(np.float32)
    out = run(dry, want_db, 50)
    loud = np.abs(dry) > 0.003
    gains_db = 20.0 * np.log10(np.abs(out[loud]) / np.abs(dry[loud]))
    assert np.abs(gains_db[HOP * 20 : -HOP * 20]).max() < 1.0


def test_a_level_that_cannot_be_measured_has_no_correction():
    model = small_model(inputs=load_preset("solo").model.inputs, sample_rate_hz=48000)
    assert make_level_correction(FeatureSpec(), model, 192, None) is None
    assert make_level_correction(FeatureSpec(), small_model(), HOP, lambda: Reverb(impulse_response())) is not None


@pytest.mark.parametrize("block_frames", [1, 7, 64])
def test_an_instrument_is_held_to_its_levels(tmp_path, block_frames):
    instrument = Instrument(make_bundle(tmp_path / "testophone"))
    n = 200
    f0_hz, gate = np.full(n, 440.0, np.float32), np.ones(5 * n, np.float32)
    gate[500:600] = 0.0
    level_db = (-25 + 6 * np.sin(np.arange(n) / 12)).astype(np.float32)

    def sound(block, levels):
        frames = instrument.render(f0_hz, level_db, gate, block_frames=block, room=False, level_correction=levels)
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
