"""A blend is between its parts: equal to one of them at each end, halfway in dB in the middle."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ddsp_cli import bundle as bundles
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import EncoderConfig, FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.live.performer import Performer
from ddsp_cli.synthesis.blend import BlendedInstrument, BlendedReverb, Shares
from ddsp_cli.synthesis.decoder import weight_shapes
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import Reverb
from fixtures import impulse_response, make_card, melody, random_weights, small_model

N_FRAMES = 60


def wide_model() -> ModelConfig:
    """48 kHz, more harmonics and noise bands than the small model."""
    processors = dict(small_model().processors)
    processors["harmonic"] = HarmonicConfig(inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=33)
    processors["noise"] = FilteredNoiseConfig(inputs=["noise_magnitudes"], n_bands=25)
    return small_model(sample_rate_hz=48000, processors=processors)


def instrument(
    model: ModelConfig | None = None, seed: int = 0, louder_db: float = 0.0, room: bool = True
) -> Instrument:
    model = model or small_model()
    card = make_card(model, f"instrument{seed}")
    power_db = (np.linspace(-45.0, -10.0, 101) + louder_db).tolist()
    card = bundles.revise(card, statistics=msgspec.structs.replace(card.statistics, power_db=power_db))
    response = impulse_response(4000 * model.sample_rate_hz // 16000, seed + 1) if room else None
    return Instrument(Bundle(card, random_weights(model, seed), response))


def blend(*parts: Instrument, shares=(1.0, 1.0)) -> BlendedInstrument:
    return BlendedInstrument(parts, shares if isinstance(shares, Shares) else Shares.constant(shares), "both")


def curves(n_fine: int = 5):
    f0_hz = 300.0 * 2.0 ** np.linspace(0.0, 1.0, N_FRAMES * n_fine)
    level_db = -25.0 + 10.0 * np.sin(np.arange(N_FRAMES) / 7.0)
    return f0_hz.astype(np.float32), level_db.astype(np.float32), np.ones(N_FRAMES * n_fine, np.float32)


def play(played: Instrument, **options):
    return np.concatenate(list(played.render(*curves(), **options)))


def controls(played: Instrument, level_db=None):
    f0_hz, level, _ = curves(1)
    return played.open_decoder().controls(f0_hz, level if level_db is None else level_db)


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_share_of_all_is_the_instrument_itself(first, room):
    one, two = instrument(seed=0), instrument(seed=5)
    both = blend(one, two, shares=(1.0, 0.0) if first else (0.0, 1.0))
    expected = play(one if first else two, room=room, level_correction=True)
    np.testing.assert_allclose(play(both, room=room, level_correction=True), expected, atol=1e-4 * expected.max())


def test_an_instrument_blended_with_itself_is_itself():
    expected = play(instrument())
    np.testing.assert_allclose(play(blend(instrument(), instrument())), expected, atol=1e-4 * expected.max())


def test_halfway_is_the_mean_in_db():
    one, two = instrument(seed=0), instrument(seed=5)
    spectra = []
    for played in (one, two, blend(one, two)):
        found = controls(played)
        spectra.append((found["amplitude"] * found["harmonic_distribution"], found["noise_magnitudes"]))
    for first, second, middle in zip(*spectra, strict=True):
        audible = (first > 1e-5) & (second > 1e-5)
        off = np.where(audible, 20.0 * np.log10((middle + 1e-9) / np.sqrt(first * second + 1e-18)), np.nan)
        # One gain a frame, which restores the power that lies between theirs; no band differs from another.
        assert np.nanmax(np.nanmax(off, axis=1) - np.nanmin(off, axis=1)) < 0.01
        power_db = [10.0 * np.log10(np.sum(np.square(x, dtype=np.float64), axis=1)) for x in (first, second, middle)]
        np.testing.assert_allclose(power_db[2], (power_db[0] + power_db[1]) / 2.0, atol=0.05)


def test_each_part_plays_the_same_percentile_of_its_levels():
    one, two = instrument(seed=0), instrument(seed=5, louder_db=8.0)
    both = blend(one, two)
    level_db = np.linspace(-45.0, -10.0, N_FRAMES).astype(np.float32)
    assert both.bundle.card.statistics.power_db[50] == pytest.approx(-27.5 + 4.0, abs=0.01)
    found = controls(both, level_db + 4.0)
    amplitudes = [controls(part, level)["amplitude"] for part, level in ((one, level_db), (two, level_db + 8.0))]
    between = np.sqrt(amplitudes[0] * amplitudes[1])
    assert np.abs(20.0 * np.log10(found["amplitude"] / between)).max() < 6.0


@pytest.mark.parametrize("block_frames", [1, 7, 1000])
def test_blocks_do_not_matter(block_frames):
    fine = instrument(small_model(frame_rate_hz=250), seed=5)
    both = blend(instrument(), fine, shares=Shares((0.2, 0.9), ((1.0, 0.0), (0.3, 0.7))))
    expected = play(both, level_correction=True)
    found = play(both, level_correction=True, block_frames=block_frames)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_over_time_one_becomes_the_other():
    one, two = instrument(seed=0), instrument(seed=5)
    both = blend(one, two, shares=Shares((0.3, 0.8), ((1.0, 0.0), (0.0, 1.0))))
    found, first, second = controls(both), controls(one), controls(two)
    for name in ("amplitude", "harmonic_distribution", "noise_magnitudes"):
        np.testing.assert_allclose(found[name][:15], first[name][:15], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found[name][41:], second[name][41:], rtol=1e-3, atol=1e-6)


def test_rates_harmonics_and_bands_may_differ():
    narrow, wide = instrument(seed=0), instrument(wide_model(), seed=5)
    both = blend(narrow, wide)
    assert (both.model.sample_rate_hz, both.model.frame_rate_hz) == (48000, 50)
    assert both.model.only(HarmonicConfig)[1].n_harmonics == 33
    assert both.model.only(FilteredNoiseConfig)[1].n_bands == 1 + 24000 // 500
    sound = play(both, level_correction=True)
    assert len(sound) == N_FRAMES * 960
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 1e-3


def test_at_a_higher_rate_a_part_sounds_as_at_its_own():
    """Power below 8 kHz within half a dB, and silence above."""
    narrow, wide = instrument(seed=0), instrument(wide_model(), seed=5)
    own, raised = play(narrow, room=False), play(blend(narrow, wide, shares=(1.0, 0.0)), room=False)

    def power(sound, rate_hz, low_hz, high_hz):
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2 / len(sound) / rate_hz
        hz = np.fft.rfftfreq(len(sound), 1.0 / rate_hz)
        return 10.0 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].mean() + 1e-30)

    for low_hz in (100.0, 2000.0, 5000.0):
        there, here = power(own, 16000, low_hz, 7000.0), power(raised, 48000, low_hz, 7000.0)
        assert here == pytest.approx(there, abs=0.5)
    assert power(raised, 48000, 9000.0, 24000.0) < power(raised, 48000, 100.0, 7000.0) - 40.0


def test_parts_without_noise_or_room_take_part():
    processors = {name: node for name, node in small_model().processors.items() if name in {"harmonic"}}
    tones = instrument(small_model(processors=processors), seed=3, room=False)
    both = blend(instrument(), tones)
    assert np.isfinite(play(both)).all()
    assert both.bundle.impulse_response is not None
    own = controls(instrument())["noise_magnitudes"]
    np.testing.assert_allclose(controls(both)["noise_magnitudes"], own * 0.5, rtol=0.02, atol=1e-6)


def test_frame_rates_that_do_not_divide_are_refused():
    with pytest.raises(ModelError, match="100 and 250 frames a second cannot be blended"):
        blend(instrument(small_model(frame_rate_hz=100)), instrument(small_model(frame_rate_hz=250)))


def test_the_energy_of_blended_rooms_is_between_theirs():
    one, two = instrument(seed=0), instrument(seed=5)
    energies = [float(np.sum(part.bundle.impulse_response**2)) for part in (one, two)]
    both = blend(one, two, shares=(0.25, 0.75)).bundle.impulse_response
    assert float(np.sum(both**2)) == pytest.approx(0.25 * energies[0] + 0.75 * energies[1], rel=1e-3)


def test_rooms_change_with_the_shares():
    responses = np.stack([impulse_response(500, seed) for seed in (1, 2)]).astype(np.float64)
    noise = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    changing = BlendedReverb(responses, Shares((0.0, 0.1), ((1.0, 0.0), (0.0, 1.0))), 16000)
    found = np.concatenate([changing.push(noise[:1000]), changing.push(noise[1000:])])
    np.testing.assert_allclose(found[2200:], Reverb(responses[1].astype(np.float32)).push(noise)[2200:], atol=1e-4)
    start = Reverb(responses[0].astype(np.float32)).push(noise[:10])
    np.testing.assert_allclose(found[:10], start, atol=1e-2)


def test_it_plays_live():
    performer = Performer(blend(instrument(), instrument(wide_model(), seed=5)))
    sound = np.concatenate([performer.push(melody()), performer.finish()])
    assert performer.output_rate_hz == 48000
    assert np.abs(sound).max() > 0.01


@pytest.mark.parametrize(
    ("times_s", "values"),
    [((), ()), ((0.0, 0.0), ((1.0, 0.0), (0.0, 1.0))), ((0.0,), ((0.0, 0.0),)), ((0.0,), ((2.0, -1.0),))],
)
def test_impossible_shares_are_refused(times_s, values):
    with pytest.raises(ValueError, match="shares"):
        Shares(times_s, values)


def follower(n_mfccs: int, seed: int, frame_rate_hz: int = 50) -> Instrument:
    """An instrument with an encoder, of random weights."""
    encoder = EncoderConfig(z_dims=4, rnn_units=8, n_mfccs=n_mfccs)
    model = small_model(inputs=["pw_scaled", "f0_scaled", "z"], encoder=encoder, frame_rate_hz=frame_rate_hz)
    random = np.random.default_rng(seed)
    weights = {
        name: np.ones(shape, np.float32)
        if name.endswith(("spread", "gamma"))
        else (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in weight_shapes(model).items()
    }
    return Instrument(Bundle(make_card(model), weights, impulse_response()))


@pytest.mark.parametrize("frame_rate_hz", [50, 250])
def test_each_encoder_follows_the_timbre_with_as_many_coefficients_as_it_takes(frame_rate_hz):
    few, many = follower(6, 0), follower(10, 1, frame_rate_hz)
    both = blend(few, many, shares=(1.0, 0.0))
    sound = melody()[: N_FRAMES * 320]
    assert both.model.encoder.n_mfccs == 10
    expected = play(few, timbre=few.timbre([sound]))
    np.testing.assert_allclose(play(both, timbre=both.timbre([sound])), expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected - play(few)).max() > 1e-3 * np.abs(expected).max()  # it follows
    halfway = play(blend(few, many), timbre=both.timbre([sound]))
    assert np.isfinite(halfway).all()
