"""Playing live: independent of block sizes, with the stated latency, silent in rests."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soxr

from ddsp_cli import bundle as bundles
from ddsp_cli.adaptation.segmentation import SegmentSettings
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.mfcc import mfcc_stream
from ddsp_cli.config import FeatureSpec, load_preset
from ddsp_cli.errors import ModelError, UsageError
from ddsp_cli.live.performer import (
    LIVE_SEGMENTS,
    Listener,
    LiveAdaptation,
    LiveFrames,
    LiveSettings,
    Performer,
    check_latency,
    continued,
    period_samples,
)
from ddsp_cli.synthesis.articulation import SHAPES, Articulation
from ddsp_cli.synthesis.instrument import Instrument
from fixtures import make_bundle, melody, small_model

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def instrument(tmp_path_factory):
    return Instrument(make_bundle(tmp_path_factory.mktemp("models") / "testophone"))


def play(instrument, audio, block, **settings):
    performer = Performer(instrument, LiveSettings(**settings))
    parts = [performer.push(audio[i : i + block]) for i in range(0, len(audio), block)]
    ratio = instrument.model.sample_rate_hz // 16000
    assert [len(part) for part in parts] == [ratio * len(audio[i : i + block]) for i in range(0, len(audio), block)]
    return np.concatenate([*parts, performer.finish()]), performer


@pytest.mark.parametrize("block", [64, 441, 4096])
def test_blocks_do_not_matter(instrument, block):
    audio = melody()
    whole, _ = play(instrument, audio, 65536)
    assert np.abs(whole).max() > 0.01
    np.testing.assert_array_equal(play(instrument, audio, block)[0], whole)


@pytest.mark.parametrize("shape", [(256, 1), (256, 2), (1, 256), ()])
def test_a_block_with_channels_is_refused(instrument, shape):
    """Sound cards give [samples, channels], also of one microphone."""
    with pytest.raises(UsageError, match="the block has the shape") as caught:
        Performer(instrument, LiveSettings()).push(np.zeros(shape, np.float32))
    assert caught.value.parameter == "block"


def test_a_block_of_integers_is_refused(instrument):
    """Samples of int16 would be 90 dB too loud."""
    with pytest.raises(UsageError, match="int16"):
        Performer(instrument, LiveSettings()).push(np.zeros(256, np.int16))


@pytest.mark.parametrize("damage", [np.nan, np.inf, 1e30])
def test_a_damaged_sample_does_not_end_the_performance(instrument, damage):
    audio = melody()
    silenced, damaged = audio.copy(), audio.copy()
    silenced[2000:2010], damaged[2000:2010] = 0.0, damage
    expected, _ = play(instrument, silenced, 4096)
    assert np.abs(expected[-8000:]).max() > 0.01
    np.testing.assert_array_equal(play(instrument, damaged, 4096)[0], expected)


@pytest.mark.parametrize("block", [64, 441])
def test_blocks_do_not_matter_to_the_beginnings_of_notes(instrument, block):
    random = np.random.default_rng(0)
    own = Articulation(**{name: random.uniform(-6, 6, shape).astype(np.float32) for name, shape in SHAPES.items()})
    bundle = replace(instrument.bundle, weights=instrument.bundle.weights | own.as_weights())
    audio = melody()
    whole, performer = play(Instrument(bundle), audio, 65536)
    np.testing.assert_array_equal(play(Instrument(bundle), audio, block)[0], whole)
    plain, without = play(instrument, audio, 65536)
    assert performer.latency_samples == without.latency_samples
    assert np.abs(whole - plain).max() > 1e-4


def test_latency_is_stated_and_true(instrument):
    audio = melody((69,), note_s=0.6, rest_s=0.5)
    out, performer = play(instrument, audio, 1000, room=False)
    assert performer.latency_s <= 0.064
    vst = load_preset("vst").model
    assert performer.latency_samples == 512 + vst.hop_samples  # the noise filter is done before the next frame
    late = out[performer.latency_samples :][: len(audio)]
    level = np.sqrt(np.convolve(late**2, np.full(160, 1 / 160), "same"))
    sounding = np.flatnonzero(level > 0.3 * level.max()) / 16000
    assert sounding[0] == pytest.approx(0.5, abs=0.05)
    assert sounding[-1] == pytest.approx(1.1, abs=0.08)


@pytest.mark.parametrize(
    "rate_hz", [44100, 11025, *(pytest.param(rate_hz, marks=pytest.mark.slow) for rate_hz in (48000, 16000))]
)
def test_any_device_rate_gives_the_same_sound_in_blocks_of_any_size(instrument, rate_hz):
    """Resampled as a stream: as many samples out as in, and the sound of 16 kHz after the stated delay."""
    audio, own = melody(), Performer(instrument)
    at_rate = soxr.resample(audio, 16000, rate_hz, "VHQ")
    reference = np.concatenate([own.push(audio), own.finish()])
    played = {}
    for block in (441, 7919):
        performer = Performer(instrument, sample_rate_hz=rate_hz)
        parts = [performer.push(at_rate[i : i + block]) for i in range(0, len(at_rate), block)]
        assert [len(part) for part in parts] == [len(at_rate[i : i + block]) for i in range(0, len(at_rate), block)]
        played[block] = np.concatenate([*parts, performer.finish()])[performer.latency_samples :][: len(at_rate)]
        assert performer.latency_s < own.latency_s + 0.008
    np.testing.assert_array_equal(played[441], played[7919])
    expected = soxr.resample(reference[own.latency_samples :][: len(audio)], 16000, rate_hz, "VHQ")
    step = rate_hz // 1000  # levels a thousand times a second
    level, level_there = (np.sqrt(np.convolve(x**2, np.full(rate_hz // 50, 50 / rate_hz), "same"))[::step]
                          for x in (played[441], expected[: len(at_rate)]))  # fmt: skip
    assert np.corrcoef(level, level_there)[0, 1] > 0.97
    lag = np.argmax(np.correlate(level, level_there, "same")) - len(level) // 2
    assert abs(lag * step) < 0.01 * rate_hz


@pytest.mark.parametrize("rate_hz", [0, 4000, 10**6])
def test_a_device_rate_out_of_range_is_refused(instrument, rate_hz):
    with pytest.raises(UsageError, match="8000 to 192000 Hz"):
        Performer(instrument, sample_rate_hz=rate_hz)


def test_rests_are_silent(instrument):
    audio = melody((69, 72), note_s=0.5, rest_s=0.5)
    out, performer = play(instrument, audio, 640, room=False)
    late = out[performer.latency_samples :]
    for begin, end in ((0.1, 0.45), (1.15, 1.45), (2.15, 2.4)):
        assert np.abs(late[round(begin * 16000) : round(end * 16000)]).max() < 1e-4


def test_transposition_and_loudness_act(instrument):
    audio = melody((69,), note_s=0.8)
    plain, performer = play(instrument, audio, 640, room=False)
    higher, _ = play(instrument, audio, 640, room=False, transpose=12.0)
    middle = slice(performer.latency_samples + round(0.5 * 16000), performer.latency_samples + round(0.9 * 16000))

    def f0_hz(sound):
        found = measure(sound.astype(np.float32))
        return np.median(found.f0_hz[found.f0_hz > 0])

    assert f0_hz(plain[middle]) == pytest.approx(440.0, rel=0.01)
    assert f0_hz(higher[middle]) == pytest.approx(880.0, rel=0.01)
    softer, _ = play(instrument, audio, 640, room=False, louder_db=-40.0)
    assert np.std(softer[middle]) < 0.8 * np.std(plain[middle])


@pytest.mark.parametrize("rate_hz", [50, 250])
def test_the_listener_measures_what_is_measured_afterwards(rate_hz):
    audio = melody((57, 64, 72))
    spec = FeatureSpec(frame_rate_hz=rate_hz)
    listener = Listener(spec)
    frames = [listener.push(audio[i : i + 777]) for i in range(0, len(audio), 777)]
    reference = measure(audio, spec)
    f0_hz, confidence, power, envelope, sharp = (
        np.concatenate([getattr(part, name) for part in frames])
        for name in ("f0_hz", "f0_confidence", "power_db", "envelope_db", "sharp_db")
    )
    n = len(f0_hz)
    n_fine = 250 // rate_hz
    assert len(power) == len(envelope) == len(sharp) == n * n_fine
    fine = measure(audio, FeatureSpec(frame_rate_hz=250))
    n_before = n_fine - 1  # values of the first frame in the silence before the recording
    np.testing.assert_allclose(power[n_before:], fine.power_db[: n * n_fine - n_before], atol=1e-4)
    # Offline, differences of up to 2 dB between the two envelopes are left out.
    shorter = (np.abs(sharp - envelope) > 1.0)[n_before:]
    assert shorter.mean() > 0.01
    found = np.abs(sharp[n_before:] - fine.envelope_db[: n * n_fine - n_before])
    assert np.percentile(found, 95) <= 2.01
    power = power[n_before::n_fine]
    assert 0 <= len(reference) - n <= listener.latency_samples // spec.hop_samples + 2
    np.testing.assert_allclose(power, reference.power_db[:n], atol=1e-4)
    both = (reference.f0_hz[:n] > 0) & (confidence >= 0.5)
    assert both.sum() >= 0.93 * (reference.f0_hz > 0).sum()
    cents = np.abs(1200 * np.log2(f0_hz[both] / reference.f0_hz[:n][both]))
    assert np.mean(cents < 50) > 0.93  # the others are the first and last frames of notes
    assert np.median(cents) < 5


def test_low_latency_is_25_ms_and_follows_the_same_pitch(instrument):
    audio = melody((57, 64, 72))
    quick, exact = Performer(instrument, LiveSettings(latency="low")), Performer(instrument)
    assert quick.latency_s == pytest.approx(0.0255)
    assert exact.latency_s - quick.latency_s == pytest.approx(0.0265)
    spec = FeatureSpec(frame_rate_hz=50)
    listener = Listener(spec, "low")
    frames = [listener.push(audio[i : i + 777]) for i in range(0, len(audio), 777)]
    f0_hz, confidence = (
        np.concatenate([getattr(part, name) for part in frames]) for name in ("f0_hz", "f0_confidence")
    )
    reference = measure(audio, spec).f0_hz[: len(f0_hz)]
    both = (reference > 0) & (confidence >= 0.5)
    assert both.sum() >= 0.9 * (reference > 0).sum()
    cents = np.abs(1200 * np.log2(f0_hz[both] / reference[both]))
    assert np.mean(cents < 50) > 0.93
    assert np.median(cents) < 5


@pytest.mark.parametrize("block", [64, 4096])
def test_low_latency_does_not_depend_on_blocks(instrument, block):
    audio = melody((69, 72))
    whole, _ = play(instrument, audio, 65536, latency="low")
    assert np.abs(whole).max() > 0.01
    np.testing.assert_array_equal(play(instrument, audio, block, latency="low")[0], whole)


def test_low_latency_of_an_instrument_with_an_encoder(tmp_path):
    """Its timbre is measured in windows that end as early as those of the level."""
    model = load_preset("autoencoder").model
    lows = Listener(FeatureSpec(frame_rate_hz=model.frame_rate_hz), "low")
    stream = mfcc_stream(model.frame_rate_hz, 30, lows.ahead_samples)
    audio = melody((69,))
    n_frames = sum(len(lows.push(audio[i : i + 100]).f0_hz) for i in range(0, len(audio), 100))
    assert len(stream.push(audio)) >= n_frames


def test_a_wrong_latency_is_refused():
    with pytest.raises(UsageError, match="latency quick is not known"):
        check_latency("quick")


def test_a_periodic_sound_is_continued_and_noise_is_mirrored():
    t = np.arange(2000)
    tone = sum(np.sin(2 * np.pi * k * t / 73) / k for k in range(1, 6)).astype(np.float32)
    following, is_periodic = continued(tone[:1200], 600)
    assert is_periodic
    np.testing.assert_allclose(following, tone[1200:1800], atol=0.01)
    noise = np.random.default_rng(0).normal(size=1200).astype(np.float32)
    following, is_periodic = continued(noise, 600)
    assert not is_periodic
    np.testing.assert_array_equal(following, noise[::-1][:600])
    assert not continued(np.zeros(1200, np.float32), 600)[0].any()


@pytest.mark.parametrize("f0_hz", [82.4, 440.0, 987.0, 1760.0])
def test_the_period_is_found_between_samples(f0_hz):
    t_s = np.arange(1200) / 16000.0
    tone = sum(np.sin(2 * np.pi * k * f0_hz * t_s) / k**2 for k in range(1, 4)).astype(np.float32)
    tone += 0.01 * np.random.default_rng(0).normal(size=len(tone)).astype(np.float32)
    period, likeness = period_samples(tone)
    assert likeness > 0.95
    assert abs(1200.0 * np.log2(16000.0 / period / f0_hz)) < 4.0


@pytest.mark.parametrize("octaves_per_s", [-1.0, 1.0])
def test_a_glide_is_continued_from_its_end(octaves_per_s):
    """The last two stretches have their middle 6 ms before the end."""
    t_s = np.arange(-1199, 1) / 16000.0
    phase = 2 * np.pi * 300.0 * (np.exp2(octaves_per_s * t_s) - 1.0) / (octaves_per_s * np.log(2.0))
    tone = (np.sin(phase) + 0.5 * np.sin(2 * phase)).astype(np.float32)
    following, is_periodic = continued(tone, 2000)
    assert is_periodic
    period, _ = period_samples(following)
    assert abs(1200.0 * np.log2(16000.0 / period / 300.0)) < 3.0  # cents; 7 at the middle of the stretch


@pytest.mark.parametrize("latency", ["safe", "low"])
def test_noise_is_never_sure_of_its_pitch(latency):
    noise = 0.1 * np.random.default_rng(0).normal(size=3 * 16000).astype(np.float32)
    frames = Listener(FeatureSpec(frame_rate_hz=50), latency).push(noise)
    assert frames.f0_confidence.max() < LIVE_SEGMENTS.sure_confidence


def test_finer_models_are_as_quick(tmp_path):
    preset = load_preset("solo").model
    instrument = Instrument(make_bundle(tmp_path / "solo", small_model(inputs=preset.inputs, frame_rate_hz=250)))
    out, performer = play(instrument, melody((69,)), 500)
    assert performer.latency_s <= 0.064
    assert np.abs(out).max() > 0.001


def test_a_rate_that_does_not_fit_is_refused(instrument):
    model = msgspec.structs.replace(instrument.model, sample_rate_hz=44100)
    card = msgspec.structs.replace(instrument.bundle.card, model=model)
    other = Instrument(bundles.Bundle(card, instrument.bundle.weights, instrument.bundle.impulse_response))
    with pytest.raises(ModelError, match="live"):
        Performer(other)


@pytest.mark.slow
def test_it_keeps_up(instrument):
    """A tenth of the real limit of a driver's thread; the figure itself is the benchmark's business."""
    audio = np.tile(melody(), 2)
    start = time.process_time()
    play(instrument, audio, 512)
    assert time.process_time() - start < 0.8 * len(audio) / 16000


def test_a_consonant_is_tongued(instrument):
    """A hiss as loud as the vowels around it is neither an accent nor a rest; one that lasts ends the note."""
    rate_hz = instrument.model.frame_rate_hz
    n_hiss = round(SegmentSettings().bridge_s * rate_hz)
    for n_unpitched, plays_on in ((n_hiss, True), (n_hiss + round(0.1 * rate_hz), False)):
        hiss = slice(rate_hz, rate_hz + n_unpitched)
        f0_hz, confidence, level = np.full(2 * rate_hz, 440.0), np.full(2 * rate_hz, 0.95), np.full(2 * rate_hz, -20.0)
        f0_hz[hiss], confidence[hiss] = 0.0, 0.1
        frames, follower = (
            LiveFrames(f0_hz, confidence, level + 15.0, level, level, level),
            LiveAdaptation(instrument, LiveSettings()),
        )
        played = [follower.step(frames, i) for i in range(len(f0_hz))]
        level_db, gate = (np.array([float(frame[k][0]) for frame in played]) for k in (1, 2))
        sound_db = level_db + 20.0 * np.log10(np.maximum(gate, 1e-9))
        dip_db = sound_db[rate_hz - 1] - sound_db[hiss]
        assert dip_db.min() == pytest.approx(9.0, abs=0.5)
        assert (dip_db.max() < 10.0) == plays_on
        assert gate[hiss.stop + 2 :].min() > 0.0


def follow(instrument, f0_hz, confidence, level_db, envelope_offset_db=0.0):
    """Level in dB that sounds, gate included, [F]."""
    levels_db = (level_db + 15.0, level_db, level_db + envelope_offset_db, level_db + envelope_offset_db)
    frames = LiveFrames(*(np.asarray(values, float) for values in (f0_hz, confidence, *levels_db)))
    follower = LiveAdaptation(instrument, LiveSettings())
    played = [follower.step(frames, i) for i in range(len(level_db))]
    return np.array([float(level[0] + 20.0 * np.log10(max(gate[0], 1e-9))) for _, level, gate in played])


def test_a_note_that_is_lost_for_a_moment_comes_back_at_once(instrument):
    """A t: silence for 60 ms, and then a tone that is not sure of its pitch yet."""
    n, lost = 100, slice(50, 53)
    f0_hz, confidence, level_db = np.full(n, 440.0), np.full(n, 0.9), np.full(n, -20.0)
    f0_hz[lost], confidence[lost], level_db[lost] = 0.0, 0.0, -79.0
    confidence[53:55] = 0.55
    sound_db = follow(instrument, f0_hz, confidence, level_db)
    assert sound_db[lost].max() < -100.0
    np.testing.assert_allclose(sound_db[53:], sound_db[49], atol=0.5)
    # After a rest it has to be surer.
    confidence[:] = 0.55
    assert follow(instrument, f0_hz, confidence, level_db).max() < -100.0


@pytest.mark.parametrize("sung_db", [-45.0, -22.0, -10.0])
def test_the_first_note_has_the_instruments_usual_level(instrument, sung_db):
    n, rate_hz = 200, instrument.model.frame_rate_hz
    level_db = sung_db + 2.0 * np.sin(np.arange(n) / 5)
    sound_db = follow(instrument, np.full(n, 440.0), np.full(n, 0.9), level_db)
    usual_db = instrument.bundle.card.statistics.level(instrument.model.level)[50]
    np.testing.assert_allclose(np.median(sound_db[rate_hz // 2 : 2 * rate_hz]), usual_db, atol=2.5)


def half_begun_s(audio, begin_s):
    """When a note that begins at about `begin_s` is at half of its level, seconds after that."""
    level = np.sqrt(np.convolve(audio**2, np.full(80, 1 / 80), "same"))
    settled = np.median(level[round((begin_s + 0.2) * 16000) : round((begin_s + 0.4) * 16000)])
    return np.flatnonzero(level[round((begin_s - 0.1) * 16000) :] > 0.5 * settled)[0] / 16000 - 0.1


@pytest.mark.parametrize("name", ["flute", "cello"])
def test_a_note_begins_when_it_is_sung(name):
    """The network swells as its instrument does, and has no warning of the note."""
    audio = melody((69, 72), note_s=0.5, rest_s=0.5)
    out, performer = play(Instrument(bundles.load(MODELS / name)), audio, 640, room=False)
    late = out[performer.latency_samples :: performer.instrument.model.sample_rate_hz // 16000]
    for begin_s in (0.5, 1.5):
        assert half_begun_s(late, begin_s) == pytest.approx(half_begun_s(audio, begin_s), abs=0.015)


def test_fast_changes_of_level_are_kept_live(instrument):
    n = 60
    envelope_offset_db = np.zeros(n)
    envelope_offset_db[30], envelope_offset_db[40], envelope_offset_db[50] = -7.0, 3.0, 90.0
    steady = np.full(n, 440.0), np.full(n, 0.9), np.full(n, -20.0)
    plain, finer = follow(instrument, *steady), follow(instrument, *steady, envelope_offset_db)
    np.testing.assert_allclose((finer - plain)[[29, 30, 31, 40]], [0.0, -7.0, 0.0, 3.0], atol=1e-3)
    assert finer[50] - plain[50] == pytest.approx(6.0, abs=1e-3)  # no louder than that


def follow_fine(instrument, sharp_offset_db, n_fine=5):
    """Gates [F·n] of a held note whose level in shorter windows differs."""
    n = len(sharp_offset_db)
    n_frames = n // n_fine
    steady = np.full(n, -20.0)
    loudness_db = np.full(n_frames, -5.0)
    frames = LiveFrames(
        np.full(n_frames, 440.0), np.full(n_frames, 0.9), loudness_db, steady, steady, steady + sharp_offset_db
    )
    follower = LiveAdaptation(instrument, LiveSettings())
    return np.concatenate([follower.step(frames, i)[2] for i in range(n_frames)])


def test_between_frames_the_gate_follows_attacks_but_not_the_ripple_of_held_notes(instrument):
    n = 300
    plain = follow_fine(instrument, np.zeros(n))
    ripple_db = np.random.default_rng(0).uniform(-1.9, 1.9, n)
    np.testing.assert_allclose(follow_fine(instrument, ripple_db), plain, rtol=1e-6)
    dip_db = np.zeros(n)
    dip_db[202:204] = -12.0  # of 8 ms, between two frames
    changed_db = 20.0 * np.log10(follow_fine(instrument, dip_db) / plain)
    np.testing.assert_allclose(changed_db[202:204], -10.0, atol=0.01)
    np.testing.assert_allclose(np.delete(changed_db, [202, 203]), 0.0, atol=0.01)


@pytest.mark.parametrize("latency", ["safe", "low"])
def test_a_tongued_note_is_played_as_fast_as_it_is_blown(instrument, latency):
    """Eight interruptions of 24 ms, at different places in a frame: the level falls, and rises again within 12 ms."""
    n_notes, rate_hz = 8, 16000
    t_s = np.arange(round((0.6 + 0.25 * n_notes) * rate_hz)) / rate_hz
    tone = sum(np.sin(2 * np.pi * k * 660.0 * t_s) / k for k in range(1, 6))
    begins_s = 0.6 + 0.2525 * np.arange(n_notes)
    for begin_s in begins_s:
        tone[(t_s >= begin_s - 0.024) & (t_s < begin_s)] *= 0.05
    out, performer = play(instrument, (0.1 * tone).astype(np.float32), 512, room=False, latency=latency)
    out = out[performer.latency_samples :][: len(t_s)]
    level_db = 10.0 * np.log10(np.convolve(out**2, np.full(80, 1 / 80), "same") + 1e-12)
    dips_db, rises_db = [], []
    for begin_s in begins_s:
        at = round(begin_s * rate_hz)
        settled_db = np.median(level_db[at + 1000 : at + 2400])
        dips_db.append(level_db[at - 384 : at].min() - settled_db)
        rises_db.append(level_db[at + 192] - settled_db)
    assert max(dips_db) < -15.0  # 26 dB in the input, of which the gate follows 20, less the ripple
    assert np.abs(rises_db).max() < 3.0


def test_a_note_after_a_rest_begins_at_its_pitch(instrument):
    """Not in a glide from the note before the rest."""
    performer = Performer(instrument)
    tuned_hz = []
    performer._stream.retune = tuned_hz.append
    performer.push(melody((57, 81, 64), note_s=0.5, rest_s=0.4))
    np.testing.assert_allclose(tuned_hz, [220.0, 880.0, 329.6], rtol=0.03)
