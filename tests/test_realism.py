"""benchmarks/realism.py: its measures on sounds whose values are known."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.analysis.features import Features
from ddsp_cli.config import FeatureSpec

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "realism.py"
RATE_HZ, SECONDS = 16000, 2.0
F0_HZ = 250.0


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("realism", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["realism"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["realism"]


TIMES_S = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ


def tone(amplitudes_db=lambda k, t: 0.0 * t, cents=lambda t: 0.0 * t, n_partials=12, f0_hz=F0_HZ):
    """Partials with amplitudes 1/k, moved by so many dB and cents at each time."""
    turns = np.cumsum(f0_hz * 2 ** (cents(TIMES_S) / 1200)) / RATE_HZ
    parts = (
        10 ** (amplitudes_db(k, TIMES_S) / 20) / k * np.sin(2 * np.pi * k * turns + k**2)
        for k in range(1, n_partials + 1)
    )
    return 0.1 * sum(parts)


def sound(script, audio):
    return script.Sound(audio.astype(np.float32), audio.astype(np.float32), RATE_HZ)


def features(f0_hz):
    n = len(f0_hz)
    level = np.full(n, -20.0, np.float32)
    confidence = (f0_hz > 0).astype(np.float32)
    return Features(f0_hz.astype(np.float32), confidence, level, level, FeatureSpec(), n * 64)


@pytest.fixture
def note(script):
    return script.Note(0.1, SECONDS - 0.1, F0_HZ)


HELD_HZ = np.full(int(SECONDS * 250), F0_HZ)


def test_notes_end_where_f0_changes(script):
    f0_hz = np.concatenate([np.full(250, 220.0), np.full(250, 330.0), np.zeros(50), np.full(100, 440.0)])
    notes = script.find_notes(features(f0_hz))
    assert [round(note.f0_hz) for note in notes] == [220, 330, 440]
    (change,) = script.find_changes(notes)
    assert change == pytest.approx(1.0, abs=0.01)


def test_vibrato_is_one_note(script):
    times = np.arange(500) / 250
    (note,) = script.find_notes(features(440 * 2 ** (0.5 * np.sin(2 * np.pi * 6 * times) / 12)))
    assert note.seconds == pytest.approx(2.0, abs=0.02)


def test_partials_that_move_together(script, note):
    common = sound(script, tone(lambda k, t: 3 * np.sin(2 * np.pi * 6 * t)))
    own = sound(script, tone(lambda k, t: 3 * np.sin(2 * np.pi * (4 + 1.5 * k) * t)))
    assert script.life(common, HELD_HZ, [note])["together"][0] > 0.99
    assert abs(script.life(own, HELD_HZ, [note])["together"][0]) < 0.1


@pytest.mark.parametrize(("rate_hz", "measure"), [(5.5, "vibrato_cents"), (18.0, "jitter_cents")])
def test_movements_of_f0_in_cents(script, note, rate_hz, measure):
    moving = sound(script, tone(cents=lambda t: 10 * np.sin(2 * np.pi * rate_hz * t)))
    found = script.life(moving, HELD_HZ, [note])
    assert found[measure][0] == pytest.approx(10 / np.sqrt(2), rel=0.2)
    assert found["apart_cents"][0] < 0.2  # they all move alike
    assert found["together"][0] == pytest.approx(0.0, abs=1.0)


def test_fast_am_in_db(script, note):
    moving = sound(script, tone(lambda k, t: np.sin(2 * np.pi * 15 * t)))
    assert script.life(moving, HELD_HZ, [note])["fast_am_db"][0] == pytest.approx(1 / np.sqrt(2), rel=0.15)
    assert script.life(sound(script, tone()), HELD_HZ, [note])["fast_am_db"][0] < 0.01


def test_drift_in_db(script, note):
    """Only what is slow and apart counts: not a vibrato, nor the level of all partials."""
    moves = {
        "apart": lambda k, t: 3 * np.sin(2 * np.pi * 0.7 * t + 2 * np.pi * k * 0.618),
        "vibrato": lambda k, t: 3 * np.sin(2 * np.pi * 5 * t + 2 * np.pi * k * 0.618),
        "common": lambda k, t: 3 * np.sin(2 * np.pi * 0.7 * t),
    }
    found = {
        name: script.life(sound(script, tone(move)), HELD_HZ, [note])["drift_db"][0] for name, move in moves.items()
    }
    assert found["apart"] == pytest.approx(3 / np.sqrt(2), rel=0.2)
    assert found["vibrato"] < 0.4
    assert found["common"] < 0.05


@pytest.mark.parametrize("density", [1e-9, 1e-8])
def test_harmonic_to_noise_ratio(script, note, density):
    noise = np.random.default_rng(0).normal(0, np.sqrt(density * RATE_HZ / 2), len(TIMES_S))  # power/Hz, one-sided
    found = script.noise(sound(script, tone(n_partials=28) + noise), HELD_HZ, [note])
    k = np.arange(1, 29)
    power = 0.5 * (0.1 / k) ** 2
    for name, low, high in (("hnr_1_2k_db", 1000, 2000), ("hnr_2_4k_db", 2000, 4000)):
        inside = (k * F0_HZ >= low) & (k * F0_HZ < high)
        # a harmonic on the edge belongs to both bands with half of its power
        edges = (k * F0_HZ == high).astype(float) * 0.5 - (k * F0_HZ == low) * 0.5
        expected = 10 * np.log10(np.sum(power * (inside + edges)) / (density * (high - low)))
        assert found[name][0] == pytest.approx(expected, abs=0.8)


def test_attack_and_onset_burst(script):
    rise = np.clip((TIMES_S - 0.5) / 0.1, 0, 1)
    noise = np.random.default_rng(0).normal(0, 0.002, len(TIMES_S))
    burst = noise * ((TIMES_S > 0.5) * 1.0 + 9.0 * ((TIMES_S > 0.5) & (TIMES_S < 0.56)))
    note = script.Note(0.5, 1.9, F0_HZ)
    plain = script.onsets(sound(script, tone() * rise + noise * (TIMES_S > 0.5)), HELD_HZ, [note])
    noisy = script.onsets(sound(script, tone() * rise + burst), HELD_HZ, [note])
    assert plain["attack_ms"][0] == pytest.approx(80, abs=8)
    assert noisy["onset_burst_db"][0] > plain["onset_burst_db"][0] + 10


def test_noise_at_a_change_of_note(script):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.001, len(TIMES_S)) * np.where(np.abs(TIMES_S - 1.0) < 0.02, 10.0, 1.0)
    found = script.onsets(sound(script, noise), HELD_HZ, [], [1.0, 1.5])["change_noise_db"]
    assert found[0] == pytest.approx(20, abs=3)
    assert abs(found[1]) < 3


def test_standing_partials(script, note):
    noise = np.random.default_rng(0).normal(0, 1e-3, len(TIMES_S))
    flat = sound(script, tone(n_partials=28) + noise)
    few = sound(script, tone(n_partials=6) + noise)
    assert script.standing_partials(flat, HELD_HZ, [note])["standing_partials"][0] == 1.0
    assert script.standing_partials(few, HELD_HZ, [note])["standing_partials"][0] < 0.15


def test_lines_are_high_partials_above_their_neighbours(script):
    held, tops_hz = [script.Note(0.1, SECONDS - 0.1, F0_HZ)] * 14, np.full(14, 7500.0)
    even = sound(script, tone(n_partials=34))
    raised = sound(script, tone(lambda k, t: 16.0 * (k in {20, 24}) + 0.0 * t, n_partials=34))
    assert script.line_share(even, HELD_HZ, held, tops_hz) == 0.0
    # from partial 12 to 26, the last that has four neighbours below 7500 Hz
    assert script.line_share(raised, HELD_HZ, held, tops_hz) == pytest.approx(2 / 15)
    assert np.isnan(script.line_share(raised, HELD_HZ, held[:1], tops_hz[:1])), "too few partials"


def test_the_steady_scale_is_the_lowest_fifth(script):
    loaded = script.models.open_at(script.ROOT / "models" / "flute")
    pytest.importorskip("parselmouth")
    scale, f0_hz, notes = script.play_steady_scale(loaded)
    assert len(notes) == 16
    lowest, highest = (script.hz_to_midi(hz) for hz in (f0_hz.min(), f0_hz.max()))
    assert highest - lowest == pytest.approx(7.0, abs=1e-3)
    assert script.read_by_praat(scale.audio_16k, f0_hz, notes) > 0.95


def test_octaves_of_a_sine(script):
    audio = np.sin(2 * np.pi * 1000 * np.arange(2 * 48000) / 48000)
    levels = script.octave_levels(script.total_spectra(audio, 48000, np.zeros(1)), 48000, np.array([24000.0]))
    assert levels["octave_707_1414_db"] == pytest.approx(0.0, abs=0.01)
    assert levels["octave_8000_11314_db"] < -60


def test_each_recording_has_its_bandwidth(script):
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=4 * 48000))
    spectrum[np.arange(len(spectrum)) > 13000 * 4] *= 1e-4
    audio = np.concatenate([np.fft.irfft(spectrum), rng.normal(size=4 * 48000)]).astype(np.float32)
    performance = script.Performance(audio, 48000, features(np.full(2000, F0_HZ)), np.array([0.0, 4.0]))
    low, high = script.bandwidths_hz(performance)
    assert low == pytest.approx(13000, abs=1000)
    assert high == 24000


def test_energy_above_8_khz(script, note):
    times = np.arange(int(SECONDS * 48000)) / 48000
    audio = np.sin(2 * np.pi * 1000 * times) + 0.1 * np.sin(2 * np.pi * 10000 * times)
    both = script.Sound(audio, audio, 48000)
    found = script.high_energy(both, [note], np.array([20000.0]))
    assert found["above_8k_db"][0] == pytest.approx(-20.04, abs=0.05)
    assert found["above_8k_a_db"][0] == pytest.approx(-22.5, abs=0.3)  # A-weighting at 10 kHz: -2.5 dB


def test_dead_controls(script):
    f0_hz = np.array([500.0, 1000.0])
    levels_db = np.full((2, 20), -30.0)
    levels_db[:, 2] = -100.0  # harmonic 3
    levels_db[0, 3] = -100.0  # harmonic 4, on one note only
    # below 7 kHz: harmonics 1 to 13 of the low note
    assert script.dead_harmonics(f0_hz, levels_db, 7000.0) == pytest.approx(1 / 13)


def test_partials_that_are_audible_in_one_sound_only(script):
    noise = np.random.default_rng(0).normal(0, 1e-4, len(TIMES_S))
    audio = (tone(n_partials=5) + noise).astype(np.float32)
    performance = script.Performance(audio, RATE_HZ, features(HELD_HZ), np.zeros(1))
    notes = script.find_notes(performance.features)
    (heard,) = script.heard_partials(performance, notes, np.array([8000.0]))
    assert list(heard[:5]) == [1, 2, 3, 4, 5]
    assert len(heard) < 8  # a few of 27 bins of noise may stand out of their neighbours
    loaded = script.models.open_at(script.ROOT / "models" / "flute")
    every = script.silent_partials(loaded, performance, notes, [np.array([1, 2])])
    beyond = script.silent_partials(loaded, performance, notes, [np.array([1, 2, 199, 200])])
    assert every["silent_below_7k"] == 0.0
    assert set(beyond) == {"silent_below_7k", "silent_below_16k"}


def test_holes_in_the_noise(script):
    smooth = np.tile(-40 - 20 * np.cos(np.arange(65) / 8), (3, 1))
    assert len(script.find_holes(smooth)) == 0
    smooth[:, 30] -= 20
    smooth[:, [40, 41]] -= 20  # a wide one
    assert list(script.find_holes(smooth)) == [30, 40, 41]


def test_classifier(script):
    rng = np.random.default_rng(0)
    one, same, other = rng.normal(size=(60, 8)), rng.normal(size=(60, 8)), rng.normal(3.0, 1.0, (60, 8))
    groups = np.repeat(np.arange(6), 10)
    assert script.area_under_curve(one, same, groups) == pytest.approx(0.5, abs=0.15)
    assert script.area_under_curve(one, other, groups) > 0.99
    assert script.frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6)
    assert script.frechet_distance(one, other) == pytest.approx(72, rel=0.3)  # 8 axes, 3 deviations apart
    dead = np.concatenate([one, np.zeros((60, 2))], axis=1)
    moved = np.concatenate([one, np.full((60, 2), 0.5)], axis=1)
    assert script.frechet_distance(dead, moved) < 3  # what never changes is not scaled up without bounds


def test_nearest_notes_in_pitch(script):
    real_hz = np.array([100.0, 200.0, 201.0, 202.0, 203.0, 204.0, 205.0, 400.0])
    found = script.of_nearest(real_hz, np.arange(8.0), np.array([200.0, 100.0, 300.0]))
    assert list(found[:2]) == [3.0, 0.0]  # notes 1 to 5; the only one
    assert np.isnan(found[2])


def test_patches_belong_to_their_recording(script):
    groups = script.patch_groups(9, np.array([0.0, 2.0, 4.0, 6.0, 8.0]), 11.0)
    assert list(groups) == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(np.unique(script.patch_groups(98, np.zeros(1), 100.0))) == 10


def test_praat_reads_a_tone(script, note):
    pytest.importorskip("parselmouth")
    assert script.read_by_praat(tone(), HELD_HZ, [note]) == 1.0
    assert script.read_by_praat(tone(f0_hz=2 * F0_HZ), HELD_HZ, [note]) == 0.0


def test_judges_an_instrument(script):
    times = np.arange(1500) / 250
    f0_hz = np.where(times % 2 < 1.6, 440.0 * 2 ** (np.floor(times / 2) / 12), 0.0)
    performance = script.Performance(
        np.repeat(np.sin(2 * np.pi * np.cumsum(f0_hz) / 250), 192).astype(np.float32) * 0.1,
        48000,
        features(f0_hz),
        np.zeros(1),
    )
    judge = script.Judge(performance, ["loss", "ltas", "dead", "partials", "life", "noise", "onsets"])
    assert len(judge.notes) == 3
    found = {row.measure: row for row in judge.judge(script.models.open_at(script.ROOT / "models" / "flute"))}
    assert found["pitch_within_50_cents"].value > 0.9
    assert found["hnr_0_1k_db"].n == 3
    assert {"dead_below_7k", "octave_354_707_db", "fast_am_db"} <= set(found)
    first, second, *others = judge._drawn
    assert len(others) == script.N_DRAWS - 2
    assert not np.array_equal(first.audio, second.audio)


def test_neighbours_are_near_in_pitch_and_level_and_at_the_level_of_the_note(script):
    """A note a semitone lower counts, 2 dB softer and brighter above 2.5 kHz by 6 dB; others do not."""

    def performance(*notes):
        audio, f0_hz, level_db = [], [], []
        for own_hz, own_db, upper_db in notes:
            own = tone(lambda k, t, up=upper_db: up * (k > 10) + 0.0 * t, n_partials=20, f0_hz=own_hz)
            audio.append(own * np.sqrt(10 ** (own_db / 10) / np.mean(own**2)))
            f0_hz.append(np.full(500, own_hz))
            level_db.append(np.full(500, own_db))
        level = np.concatenate(level_db).astype(np.float32)
        found = dataclasses.replace(features(np.concatenate(f0_hz)), power_db=level)
        return script.Performance(np.concatenate(audio).astype(np.float32), RATE_HZ, found, np.zeros(1))

    lower_hz = F0_HZ * 2 ** (-1 / 12)
    held = performance((F0_HZ, -20.0, 0.0))
    others = performance((lower_hz, -22.0, 6.0), (F0_HZ / 1.5, -20.0, 20.0), (F0_HZ, -32.0, 20.0))
    notes = script.find_notes(held.features)
    own_spectra = script.note_spectra(held.audio, RATE_HZ, notes)
    own = script.octave_levels(own_spectra, RATE_HZ, np.full(1, 8000.0))
    near_spectra = script.neighbour_spectra(held, notes, others)
    near = script.octave_levels(near_spectra, RATE_HZ, np.full(1, 8000.0))
    assert near_spectra.sum() == pytest.approx(own_spectra.sum(), rel=0.05)  # at its level
    brighter_db, louder_db = (near[f"octave_{o}_db"] - own[f"octave_{o}_db"] for o in ("2828_5657", "177_354"))
    assert brighter_db - louder_db == pytest.approx(6.0, abs=0.5)
    alone = performance((2 * F0_HZ, -20.0, 0.0))
    assert np.isnan(script.neighbour_spectra(held, notes, alone)).all()
