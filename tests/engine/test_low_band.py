"""The low band of a full-band model at a lower rate sounds as the full band below half of that rate."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from keras import ops

from ddsp_cli.arrays import decimated
from ddsp_cli.bundle import round_to_half
from ddsp_cli.config import FilteredNoiseReverbConfig, ModelConfig, load_preset
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.autoencoder import LowBand, low_band_config
from ddsp_cli.engine.effects import FilteredNoiseReverb
from ddsp_cli.errors import ModelError

FULL_HZ, LOW_HZ, N_FRAMES = 48000, 16000, 60


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    found = load_preset("hifi").model
    small = msgspec.structs.replace(found.sizes, channels=8, rnn_units=8)
    return msgspec.structs.replace(found, decoder=small)


def test_counts_of_the_low_band_are_those_of_light(model):
    low, light = low_band_config(model, LOW_HZ, lowest_hz=200.0), load_preset("light").model
    assert low.hop_samples == light.hop_samples
    assert low.processors["noise"].n_bands == light.processors["noise"].n_bands
    assert low.processors["reverb"].length_samples == light.processors["reverb"].length_samples
    assert low.processors["harmonic"].n_harmonics == 40


def power_db(audio: np.ndarray, rate_hz: int, low_hz: float, high_hz: float) -> float:
    """Power of a band per Hz."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2 / len(audio) / rate_hz
    hz = np.fft.rfftfreq(len(audio), 1 / rate_hz)
    return float(10 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].mean()))


@pytest.mark.parametrize("part", ["harmonic", "noise"])
def test_both_bands_sound_the_same(model, part):
    random = np.random.default_rng(0)
    f0_hz = np.full((1, N_FRAMES, 1), 330.0, np.float32)
    raw = {
        "amplitude": np.full((1, N_FRAMES, 1), -0.5, np.float32),
        "harmonic_distribution": np.tile(random.normal(0, 1, (1, 1, 200)), (1, N_FRAMES, 1)).astype(np.float32),
        "noise_magnitudes": np.tile(random.normal(4, 0.2, (1, 1, 193)), (1, N_FRAMES, 1)).astype(np.float32),
    }
    full, low = (Autoencoder(model, seed=0, render_rate_hz=rate_hz) for rate_hz in (FULL_HZ, LOW_HZ))
    assert low.low_band is not None
    tensors = {name: ops.convert_to_tensor(value) for name, value in raw.items()}
    f0 = ops.convert_to_tensor(f0_hz)
    wide = ops.convert_to_numpy(full.group({**tensors, "f0_hz": f0})[part])[0]
    narrow = ops.convert_to_numpy(low.group({**low.low_band.controls(tensors, f0), "f0_hz": f0})[part])[0]
    assert len(wide) == 3 * len(narrow)
    for low_hz in range(0, 7000, 1000):
        levels = [power_db(sound, rate_hz, low_hz + 100, low_hz + 1100) for sound, rate_hz in
                  ((wide, FULL_HZ), (narrow, LOW_HZ))]  # fmt: skip
        assert levels[0] == pytest.approx(levels[1], abs=0.1 if part == "harmonic" else 1.5)


def test_the_low_band_trains_the_room_that_is_played(model):
    """Below 7.5 kHz: a room of the same magnitudes and another noise changes each partial by itself."""
    low = Autoencoder(model, seed=3, render_rate_hz=LOW_HZ)
    assert low.room is not None
    low.room.magnitudes.assign(low.room.magnitudes + 1.0)
    wide, narrow = low.impulse_response(), ops.convert_to_numpy(low.room.impulse_response())
    assert wide is not None
    assert len(wide) == 3 * len(narrow) == 72000
    # a response is summed over its taps, so three times fewer taps are three times as large
    expected, found = np.fft.rfft(3.0 * decimated(wide[None], FULL_HZ, LOW_HZ)[0]), np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / LOW_HZ)
    for low_hz in range(0, 7500, 500):
        band = (hz >= low_hz) & (hz < low_hz + 500)
        difference, size = np.abs(found - expected)[band], np.abs(expected)[band]
        assert np.sqrt(np.mean(difference**2) / np.mean(size**2)) < 0.1
    above = power_db(wide, FULL_HZ, 16000, 20000) - power_db(wide, FULL_HZ, 6000, 8000)
    assert -60 < above < -6


def test_a_room_has_the_noise_of_16_khz_at_its_multiples():
    """Filters of 2(M - 1) taps delay it by two samples of each rate, so the noise of 48 kHz is four samples later."""
    low = FilteredNoiseReverb(2400, 50, 33).noise
    high = FilteredNoiseReverb(7200, 50, 97, window_size_samples=385, sample_rate_hz=FULL_HZ).noise
    assert high.shape == (1, 7200)
    assert np.std(high) == pytest.approx(np.std(low), rel=0.05)
    found = np.sqrt(3.0) * decimated(np.roll(high, -4), FULL_HZ, LOW_HZ)
    spectra = [np.fft.rfft(noise[0])[:-1] for noise in (found, low)]  # the last bin stands for two
    np.testing.assert_allclose(*spectra, atol=1e-3)


def test_weights_of_the_low_band_go_both_ways(model):
    low = Autoencoder(model, seed=0, render_rate_hz=LOW_HZ)
    weights = low.get_weights_by_name()
    full = Autoencoder(model, seed=1)
    full.set_weights_by_name(weights)  # of the full band
    assert weights["reverb/magnitudes"].shape == (500, 97)
    other = Autoencoder(model, seed=2, render_rate_hz=LOW_HZ)
    other.set_weights_by_name(full.get_weights_by_name())
    for name, value in other.get_weights_by_name().items():
        np.testing.assert_allclose(value, weights[name], atol=1e-6)


def test_the_room_of_stored_weights_is_that_of_the_full_band(model):
    """A bundle holds rounded weights and the room computed from them by a model of the low band."""
    low = Autoencoder(model, seed=0, render_rate_hz=LOW_HZ)
    stored = round_to_half(low.get_weights_by_name())
    full = Autoencoder(model, seed=1)
    full.set_weights_by_name(stored)
    assert full.room is not None
    expected = ops.convert_to_numpy(full.room.impulse_response())
    found = low.impulse_response(stored)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    assert np.abs(low.impulse_response() - expected).max() > 1e-5 * np.abs(expected).max(), "rounding changes it"


@pytest.mark.parametrize(("rate_hz", "message"), [(44100, "cannot be rendered"), (32000, "cannot be rendered")])
def test_rates_that_do_not_divide_are_refused(model, rate_hz, message):
    with pytest.raises(ModelError, match=message):
        LowBand(model, rate_hz)


def test_lengths_that_do_not_divide_are_refused(model):
    room = msgspec.structs.replace(model.processors["reverb"], length_samples=72001)
    assert isinstance(room, FilteredNoiseReverbConfig)
    changed = msgspec.structs.replace(model, processors={**model.processors, "reverb": room})
    with pytest.raises(ModelError, match="reverb: length_samples does not divide"):
        LowBand(changed, LOW_HZ)
