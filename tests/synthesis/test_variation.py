"""The movements of held notes: their depth, their independence of block sizes, and what reads them from a bundle."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.synthesis.synths import Harmonic
from ddsp_cli.synthesis.variation import (
    BAND_HZ,
    BRIGHTNESS,
    DRIFT_S,
    JITTER_HZ,
    NOISE_CORRELATION,
    NOISE_EDGES_HZ,
    PITCHES_MIDI,
    Movements,
    Variation,
    band_share,
    read_variation,
)

RATE_HZ, FRAME_RATE_HZ, K, M = 48000, 50, 12, 33


P = len(PITCHES_MIDI)

#: Harmonics of equal amplitude.
EVEN = np.full(K, 0.1)


def variation(
    harmonic_db: float = 0.0,
    harmonic_cents: float = 0.0,
    jitter_cents: float = 0.0,
    note_db: float = 0.0,
    drift_db: float = 0.0,
    n: int = K,
    **changes,
) -> Variation:
    """The same movements at all pitches and of all harmonics."""
    depths = {
        "harmonic_db": np.full((P, n), harmonic_db, np.float32),
        "harmonic_cents": np.full((P, n), harmonic_cents, np.float32),
        "jitter_cents": np.full(P, jitter_cents, np.float32),
        "pole": 0.5,
        "noise_db": np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32),
        "note_db": np.full((P, n), note_db, np.float32),
        "note_noise_db": np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32),
        "drift_db": np.full((P, n), drift_db, np.float32),
    }
    return Variation(**{**depths, **changes})


def moved(
    found: Variation, n_frames: int = 4000, seed: int = 0, block: int = 4000, note_frames: int = 4000,
    distribution: np.ndarray = EVEN,
):  # fmt: skip
    """Plays notes of one pitch and of `note_frames`."""
    movements = Movements(found, FRAME_RATE_HZ, M, RATE_HZ, seed)
    parts = []
    for start in range(0, n_frames, block):
        n = min(block, n_frames - start)
        controls = {"harmonic_distribution": np.tile(distribution, (n, 1)), "noise_magnitudes": np.full((n, M), 0.01)}
        begins = (start + np.arange(n)) % note_frames == 0
        f0_hz, changed, phases = movements.push(np.full(n * 5, 220.0, np.float32), controls, begins)
        parts.append((f0_hz, changed["harmonic_distribution"], changed["noise_magnitudes"], phases))
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def banded(values: np.ndarray, rate_hz: float, band_hz: tuple[float, float]) -> np.ndarray:
    spectrum = np.fft.rfft(values - values.mean(axis=0), axis=0)
    hz = np.fft.rfftfreq(len(values), 1 / rate_hz)
    spectrum[(hz < band_hz[0]) | (hz > band_hz[1])] = 0
    return np.fft.irfft(spectrum, len(values), axis=0)


@pytest.mark.parametrize("pole", [0.0, 0.6])
def test_levels_have_the_measured_depth_and_move_apart(pole):
    levels = moved(variation(harmonic_db=1.5, pole=pole))[1]
    in_band = banded(20 * np.log10(levels), FRAME_RATE_HZ, BAND_HZ)
    assert in_band.std(axis=0) == pytest.approx(np.full(K, 1.5), rel=0.1)
    together = np.corrcoef(in_band.T)[~np.eye(K, dtype=bool)]
    # of K equal levels with a constant sum, each moves by 1 / (K - 1) against the others
    assert np.abs(together + 1.0 / (K - 1)).mean() < 0.05


def test_levels_drift_slowly_by_the_measured_amount():
    levels = 20 * np.log10(moved(variation(drift_db=3.0), n_frames=100_000)[1])
    assert levels.std(axis=0) == pytest.approx(np.full(K, 3.0), rel=0.1)
    lag = round(DRIFT_S * FRAME_RATE_HZ)
    centred = levels - levels.mean(axis=0)
    correlation = (centred[lag:] * centred[:-lag]).mean(axis=0) / centred.var(axis=0)
    assert correlation == pytest.approx(np.full(K, np.exp(-1.0)), abs=0.05)


def test_drift_does_not_change_the_other_movements():
    both, without = (moved(variation(jitter_cents=3.0, harmonic_cents=2.0, drift_db=db), 200) for db in (3.0, 0.0))
    np.testing.assert_array_equal(both[0], without[0])
    np.testing.assert_array_equal(both[3], without[3])
    assert not np.allclose(both[1], without[1])


def test_the_level_played_does_not_move():
    found = moved(variation(harmonic_db=3.0))[1]
    power = np.sum(found**2, axis=1)
    np.testing.assert_allclose(power, K * 0.1**2, rtol=1e-5)
    assert np.ptp(20.0 * np.log10(found[:, 0])) > 6.0


def test_silence_stays_silent():
    movements = Movements(variation(harmonic_db=3.0), FRAME_RATE_HZ, M, RATE_HZ)
    controls = {"harmonic_distribution": np.zeros((10, K), "f")}
    _, changed, _ = movements.push(np.full(50, 220.0, np.float32), controls, np.zeros(10, bool))
    assert not changed["harmonic_distribution"].any()


def test_frequencies_have_the_measured_depth():
    phases = moved(variation(harmonic_cents=4.0))[3]
    change_hz = np.diff(phases, axis=0) * FRAME_RATE_HZ
    cents = change_hz / (220.0 * np.arange(1, K + 1)) * 1200 / np.log(2)
    assert cents.std(axis=0) == pytest.approx(np.full(K, 4.0), rel=0.1)


def test_jitter_is_faster_than_a_vibrato():
    f0_hz = moved(variation(jitter_cents=3.0))[0]
    cents = 1200 * np.log2(f0_hz / 220.0)
    assert banded(cents[4::5], FRAME_RATE_HZ, JITTER_HZ).std() == pytest.approx(3.0, rel=0.1)


def test_noise_moves_in_groups():
    noise_db = np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32)
    noise_db[2] = 2.0  # 2 to 4 kHz
    levels = 20 * np.log10(moved(variation(noise_db=noise_db))[2])
    hz = np.linspace(0, RATE_HZ / 2, M)
    inside = (hz >= 2000) & (hz < 4000)
    assert levels[:, inside].std(axis=0) == pytest.approx(np.full(inside.sum(), 2.0), rel=0.1)
    assert levels[:, ~inside].std(axis=0).max() < 1e-4


#: A first harmonic that holds nearly all of the power, as many as an instrument has, and columns of the upper ones.
FALLING, UPPER = 0.5 * np.arange(1.0, 65.0) ** -3, slice(1, 64)


def note_levels(**changes):
    """Levels [1000, 40, 64] of notes of 40 frames."""
    found = variation(note_db=4.0, n=64, **changes)
    parts = moved(found, n_frames=40_000, note_frames=40, distribution=FALLING)
    return 20 * np.log10(parts[1]).reshape(1000, 40, 64), parts[2].reshape(1000, 40, M)


def test_the_timbre_of_each_note_has_the_measured_deviation_and_is_constant_within_it():
    levels, _ = note_levels()
    settled = levels[:, 20:]
    assert np.ptp(settled, axis=1).max() < 1e-3
    relative = settled[..., UPPER] - settled[..., :1]
    expected = 4.0 * np.sqrt(2.0 - 2.0 * together(1, UPPER))
    assert relative[:, -1].std(axis=0) == pytest.approx(expected, rel=0.1)
    deviation = relative[:, -1] - relative[:, -1].mean(axis=0)
    following = np.corrcoef(deviation[:-1].reshape(-1), deviation[1:].reshape(-1))[0, 1]
    assert abs(following) < 0.05
    np.testing.assert_allclose(np.sum(10 ** (levels / 10), axis=2), np.sum(FALLING**2), rtol=1e-4)


def together(number: int, others: slice) -> np.ndarray:
    """Correlation of the level of a harmonic, counted from 1, with those of others from note to note."""
    loads = np.interp(np.log2(np.arange(1, 65)), np.arange(len(BRIGHTNESS)), BRIGHTNESS)
    return loads[number - 1] * loads[others]


def test_upper_harmonics_are_bright_together():
    levels, _ = note_levels()
    relative = (levels - levels[..., :1])[:, -1]
    found = np.corrcoef(relative[:, UPPER].T)
    near, far = (np.mean([found[k, k + step] for k in range(30, 49)]) for step in (1, 13))
    assert near == pytest.approx(far, abs=0.03), "one factor is common to all"
    low = np.mean([found[k, k + 1] for k in range(3, 7)])
    assert 0.4 < low < near
    # neighbours stand out of each other less than independent levels would
    apart = np.diff(relative[:, 31:], axis=1).std()
    assert apart == pytest.approx(4.0 * np.sqrt(2.0 - 2.0 * BRIGHTNESS[-1] ** 2), rel=0.05)


def test_bright_notes_have_more_noise():
    noisy = np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32)
    noisy[:] = 4.0
    levels, noise = note_levels(note_noise_db=noisy)
    brightness = (levels[..., 40:].mean(axis=2) - levels[..., 0])[:, -1]
    found = np.corrcoef(brightness, np.log(noise[:, -1, 8]))[0, 1]
    assert 0.25 < found < 0.5


def test_the_noise_of_notes_deviates_around_its_median():
    deviation_db = np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32)
    deviation_db[1:3] = 4.0  # 1 to 4 kHz
    noise = moved(variation(note_noise_db=deviation_db), n_frames=200_000, note_frames=40)[2].reshape(-1, 40, M)[:, -1]
    levels = 20 * np.log10(noise / 0.01)
    hz = np.linspace(0, RATE_HZ / 2, M)
    low, high = ((hz >= start) & (hz < stop) for start, stop in ((1000, 2000), (2000, 4000)))
    assert levels[:, high].std(axis=0) == pytest.approx(np.full(high.sum(), 4.0), rel=0.05)
    assert np.abs(np.median(levels[:, high], axis=0)).max() < 0.3
    together = np.corrcoef(levels[:, low][:, 0], levels[:, high][:, 0])[0, 1]
    assert together == pytest.approx(NOISE_CORRELATION, abs=0.05)
    np.testing.assert_allclose(noise[:, ~(low | high)], 0.01, rtol=1e-5)


def test_blocks_and_seed():
    found = variation(harmonic_db=1.0, harmonic_cents=1.0, jitter_cents=1.0, note_db=1.0, drift_db=1.0)
    whole, blocks, other = (moved(found, 200, note_frames=30, **changes) for changes in ({}, {"block": 7}, {"seed": 1}))
    for one, two, three in zip(whole, blocks, other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
        assert one.std() < 1e-12 or not np.allclose(one, three)


def test_phases_are_added_to_harmonics():
    """A phase that grows by a tenth of a turn a frame is 5 Hz more at 50 frames a second."""
    n = 100
    amplitudes = np.zeros((n, 3), np.float32)
    amplitudes[:, 2] = 0.5
    growing = np.zeros((n, 3), np.float32)
    growing[:, 2] = 0.1 * np.arange(n)
    bank = Harmonic(RATE_HZ // FRAME_RATE_HZ, RATE_HZ)
    sound = np.concatenate([bank.push(np.full(n, 200.0), amplitudes, growing), bank.finish()])
    spectrum = np.abs(np.fft.rfft(sound[RATE_HZ // 2 : RATE_HZ // 2 + RATE_HZ] * np.hanning(RATE_HZ)))
    assert int(np.argmax(spectrum)) == 605


def test_weights_go_both_ways_and_what_does_not_fit_is_ignored():
    found = variation(jitter_cents=2.0)
    found.harmonic_db[:] = np.linspace(0, 1, P * K).reshape(P, K)
    weights = found.as_weights()
    again = read_variation(weights, K)
    assert again is not None
    np.testing.assert_allclose(again.harmonic_db, found.harmonic_db)
    np.testing.assert_array_equal(again.jitter_cents, np.full(P, 2.0))
    assert read_variation(weights, K + 1) is None
    assert read_variation({}, K) is None
    wild = read_variation({**weights, "variation/harmonic_db": np.full(K, 1e4, np.float32)}, K)
    assert wild is not None
    assert wild.harmonic_db.max() <= 6


def test_shares_of_a_band_add_up():
    parts = [band_share(0.4, band, FRAME_RATE_HZ) for band in ((0.0, 9.99), (10.0, 25.0))]
    assert sum(parts) == pytest.approx(1.0, abs=0.01)


def test_a_blend_varies_between_its_parts():
    from ddsp_cli.bundle import Bundle
    from ddsp_cli.synthesis.blend import BlendedInstrument, Shares
    from ddsp_cli.synthesis.instrument import Instrument
    from fixtures import impulse_response, make_card, random_weights, small_model

    model, parts = small_model(), []
    n = model.processors["harmonic"].n_harmonics
    for depth in (1.0, 3.0):
        own = variation(harmonic_db=depth, n=n)
        weights = random_weights(model) | own.as_weights()
        parts.append(Instrument(Bundle(make_card(model), weights, impulse_response())))
    blend = BlendedInstrument(parts, Shares.constant((0.25, 0.75)), "both")
    found = read_variation(blend.bundle.weights, n)
    assert found is not None
    assert found.harmonic_db == pytest.approx(np.full((P, n), 2.5))


@pytest.mark.parametrize("frame_rate_hz", [10, 13, 20])
def test_frames_too_far_apart_for_a_band_do_not_move_in_it(frame_rate_hz):
    """A card may say 10 frames a second, where neither band has a share, or 20, where it has next to none."""
    found = variation(harmonic_db=3.0, jitter_cents=15.0)
    controls = {"harmonic_distribution": np.full((50, K), 0.1), "noise_magnitudes": np.full((50, M), 0.01)}
    movements = Movements(found, frame_rate_hz, M, RATE_HZ)
    f0_hz, changed, phases = movements.push(np.full(250, 220.0, np.float32), controls, np.zeros(50, bool))
    np.testing.assert_array_equal(f0_hz, np.float32(220.0))
    assert np.isfinite(changed["harmonic_distribution"]).all() and np.isfinite(phases).all()
    np.testing.assert_allclose(changed["harmonic_distribution"], 0.1)


def test_an_instrument_without_vibrato_limits_that_of_the_performer():
    assert variation(vibrato_cents=2.5).vibrato_limit_cents == 2.5
    assert variation(vibrato_cents=12.0).vibrato_limit_cents == np.inf


def test_depths_are_interpolated_between_pitches():
    found = variation()
    found.harmonic_db[5], found.harmonic_db[6] = 1.0, 3.0
    halfway_hz = 440.0 * 2.0 ** ((0.5 * (PITCHES_MIDI[5] + PITCHES_MIDI[6]) - 69.0) / 12.0)
    movements = Movements(found, FRAME_RATE_HZ, M, RATE_HZ)
    controls = {"harmonic_distribution": np.full((4000, K), 0.1), "noise_magnitudes": np.full((4000, M), 0.01)}
    _, changed, _ = movements.push(np.full(4000, halfway_hz, np.float32), controls, np.zeros(4000, bool))
    in_band = banded(20 * np.log10(changed["harmonic_distribution"]), FRAME_RATE_HZ, BAND_HZ)
    assert in_band.std(axis=0) == pytest.approx(np.full(K, 2.0), rel=0.1)


def test_bundles_of_earlier_versions_have_one_depth_for_all_pitches():
    weights = variation(jitter_cents=2.0).as_weights()
    weights["variation/harmonic_db"] = np.linspace(0, 1, K, dtype=np.float32)
    weights["variation/harmonic_cents"] = np.ones(K, np.float32)
    weights["variation/jitter_cents"] = np.array([2.0], np.float32)
    found = read_variation(weights, K)
    assert found is not None
    np.testing.assert_array_equal(found.harmonic_db, np.tile(weights["variation/harmonic_db"], (P, 1)))
    np.testing.assert_array_equal(found.jitter_cents, np.full(P, 2.0))


def test_bundles_of_earlier_versions_play_all_notes_with_one_timbre():
    weights = variation(note_db=3.0).as_weights()
    del weights["variation/note_db"]
    np.testing.assert_array_equal(read_variation(weights, K).note_db, np.zeros((P, K)))


def test_bundles_of_earlier_versions_say_nothing_of_vibrato():
    weights = variation(vibrato_cents=2.5).as_weights()
    assert read_variation(weights, K).vibrato_cents == 2.5
    del weights["variation/vibrato_cents"]
    assert read_variation(weights, K).vibrato_limit_cents == np.inf
