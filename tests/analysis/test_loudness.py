"""A-weighted loudness and RMS power: laws, known values, and the definition of magenta/ddsp before 2.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.analysis import loudness
from ddsp_cli.analysis.loudness import a_weighting_db, loudness_db, loudness_stream
from ddsp_cli.arrays import overlapping_windows
from ddsp_cli.config import FeatureSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "loudness_power.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


def test_a_weighting_is_that_of_the_standard(golden):
    weights = loudness.a_weighting_db(np.fft.rfftfreq(512, 1 / 16000))
    np.testing.assert_allclose(weights, golden["a_weighting_512"], atol=1e-9)
    # IEC 61672-1, table 3, to its one decimal; 10^(n/10) are the exact frequencies
    table = {63: -26.2, 100: -19.1, 500: -3.2, 1000: 0.0, 2000: 1.2, 4000: 1.0, 8000: -1.1, 16000: -6.6}
    exact_hz = [10 ** (round(10 * np.log10(hz)) / 10) for hz in table]
    np.testing.assert_allclose(loudness.a_weighting_db(np.array(exact_hz)), list(table.values()), atol=0.051)


def test_loudness_and_power_are_those_of_magenta(golden):
    for i, audio in enumerate(golden["audio"]):
        # theirs has one frame more, centred on the sample after the last
        np.testing.assert_allclose(loudness.loudness_db(audio), golden["loud_default"][i][:-1], atol=0.001)
        power = loudness.power_db(audio, FeatureSpec(frame_rate_hz=50))
        np.testing.assert_allclose(power, golden["power_fr50_1024"][i][:-1], atol=0.001)


def test_full_scale_sine_reads_what_can_be_worked_out_by_hand():
    sine = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    # Hann: peak bin 128, its neighbours 64; A(1 kHz) = 0 dB and nearly so 31 Hz to either side
    assert loudness.loudness_db(sine)[125] == pytest.approx(10 * np.log10((128**2 + 2 * 64**2) / 257), abs=0.05)
    assert loudness.power_db(sine)[125] == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("n_samples", [1, 63, 64, 65, 511, 1024, 5000])
@pytest.mark.parametrize("stream", [loudness.loudness_stream, loudness.power_stream])
def test_streams_equal_whole_signals_for_any_block_size(stream, n_samples):
    audio = np.random.default_rng(0).normal(size=n_samples).astype(np.float32) * 0.1
    spec = FeatureSpec()
    whole = stream(spec)
    expected = np.concatenate([whole.push(audio), whole.finish()])
    assert expected.shape == (-(-n_samples // 64),)
    for block in (1, 64, 999) if n_samples < 2000 else (64, 999):
        parts = stream(spec)
        frames = [parts.push(audio[i : i + block]) for i in range(0, n_samples, block)]
        np.testing.assert_array_equal(np.concatenate([*frames, parts.finish()]), expected)


@pytest.mark.parametrize("block", [1, 50, 64, 1000])
def test_windows_apart_from_each_other_do_not_depend_on_blocks(block):
    """Windows of 40 samples every 100: the sound between them is dropped, also where it has not arrived yet."""
    audio = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    stream = loudness.FrameStream(40, 100, lambda windows: windows[:, 0].astype(np.float64))
    pushed = [stream.push(audio[i : i + block]) for i in range(0, len(audio), block)]
    first = np.r_[np.zeros(1, np.float32), audio[80::100]]  # 20 samples before each frame; silence before the start
    np.testing.assert_array_equal(np.concatenate([*pushed, stream.finish()]), first[:10])


def test_a_click_is_loudest_in_the_frame_it_is_centred_on():
    for frame in (0, 10, 100):
        audio = np.zeros(16000, np.float32)
        audio[frame * 64] = 1.0
        assert np.argmax(loudness.loudness_db(audio)) == frame
        loud = np.flatnonzero(loudness.power_db(audio) > -79)
        assert (loud[0] + loud[-1] - 1) / 2 <= frame <= (loud[0] + loud[-1] + 1) / 2 or frame == 0


def test_silence_is_at_the_floor():
    assert (loudness.loudness_db(np.zeros(1000, np.float32)) == -80).all()
    assert (loudness.power_db(np.zeros(1000, np.float32)) == -80).all()


@pytest.mark.parametrize("sample_rate_hz", [16000, 44100, 48000])
def test_the_envelope_is_rms_in_a_shorter_window(sample_rate_hz):
    t = np.arange(sample_rate_hz) / sample_rate_hz
    tone = np.where(t < 0.5, 0.1, 1.0) * np.sin(2 * np.pi * 1000 * t)
    hop = sample_rate_hz // 100
    stream = loudness.envelope_stream(sample_rate_hz, hop, -80.0)
    parts = [stream.push(tone[i : i + 701]) for i in range(0, len(tone), 701)]
    envelope_db = np.concatenate([*parts, stream.finish()])
    assert len(envelope_db) == -(-sample_rate_hz // hop)
    np.testing.assert_allclose(envelope_db[3:48], -23.01, atol=0.01)
    np.testing.assert_allclose(envelope_db[53:98], -3.01, atol=0.01)
    # Half of the window hears the louder half where the step is: 1 % + 100 % of the power, halved.
    assert envelope_db[50] == pytest.approx(-3.01 + 10 * np.log10(0.505), abs=0.15)


def test_the_envelope_of_silence_is_its_floor():
    stream = loudness.envelope_stream(16000, 64, -80.0)
    silence = np.concatenate([stream.push(np.zeros(1000, np.float32)), stream.finish()])
    np.testing.assert_allclose(silence, -80.0, atol=1e-4)
    assert len(silence) == 16


def sharp_envelope_db(audio, f0_hz, frame_rate_hz=250):
    """The envelope of audio [S] at 16 kHz whose pitch does not change."""
    meter = loudness.SharpEnvelope(FeatureSpec(frame_rate_hz=frame_rate_hz))
    for i in range(0, len(audio), 701):
        meter.push(audio[i : i + 701].astype(np.float32))
    n = -(-len(audio) * frame_rate_hz // 16000)
    return meter.finish(np.full(n, f0_hz, np.float32), np.zeros(n, np.float32))


def smooth_envelope_db(audio, hop=64):
    stream = loudness.envelope_stream(16000, hop, -80.0)
    return np.concatenate([stream.push(audio.astype(np.float32)), stream.finish()])


@pytest.mark.parametrize(("f0_hz", "half_window_frames"), [(440.0, 2), (150.0, 3), (60.0, 5)])
def test_the_sharp_envelope_follows_an_attack_as_fast_as_the_pitch_allows(f0_hz, half_window_frames):
    t = np.arange(16000) / 16000
    found = sharp_envelope_db(np.where(t < 0.5, 0.01, 0.5) * np.sin(2 * np.pi * 2000 * t), f0_hz)
    smooth = smooth_envelope_db(np.where(t < 0.5, 0.01, 0.5) * np.sin(2 * np.pi * 2000 * t))
    # The longest window hears the attack from 20 ms before it on, less the ripple that does not count.
    steady = smooth[[60, 200]]
    before = found[125 - half_window_frames - 1] - steady[0]
    assert before == pytest.approx(0.0 if f0_hz < 100 else loudness.RIPPLE_DB, abs=0.3)
    assert found[130] == pytest.approx(steady[1], abs=0.5)


def test_the_sharp_envelope_leaves_out_ripple_and_periods():
    t = np.arange(16000) / 16000
    pulses = np.exp(-(((t * 110.0) % 1.0) * 6.0)) * np.sin(2 * np.pi * 2200 * t)
    tremolo = (1.0 + 0.1 * np.sin(2 * np.pi * 40 * t)) * np.sin(2 * np.pi * 440 * t)
    middle = slice(20, -20)
    assert np.ptp(sharp_envelope_db(pulses, 110.0)[middle]) < 0.5
    np.testing.assert_allclose(
        sharp_envelope_db(tremolo, 440.0)[middle], smooth_envelope_db(tremolo)[middle], atol=0.05
    )


def test_the_sharp_envelope_at_a_low_rate_misses_nothing_between_frames():
    click = np.zeros(16000)
    click[8000:8160] = 0.5
    found = sharp_envelope_db(click, 440.0, 50)
    np.testing.assert_array_equal(found, smooth_envelope_db(click, 320))


SPEC = FeatureSpec(loudness="a-weighted-2020", loudness_window_samples=2048, floor_db=-120.0)


def noise(n_samples: int = 16000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=n_samples).astype(np.float32) * np.float32(0.1)


def test_definition() -> None:
    """mean over bins of max(20·log10|S| + A − 20.7, −120), window i from sample i·hop (facts 3.4)."""
    audio = np.pad(noise().astype(np.float64), (0, 2048))
    found = loudness_db(noise(), SPEC)
    assert len(found) == 250
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    weights = a_weighting_db(np.arange(1025) * 16000 / 2048)
    for i in (0, 1, 100, 249):
        magnitudes = np.abs(np.fft.rfft(audio[i * 64 : i * 64 + 2048] * window))
        bins = np.maximum(20 * np.log10(np.maximum(magnitudes, 1e-20)) + weights - 20.7, -120)
        assert abs(found[i] - bins.mean()) < 2e-3


def test_twice_the_amplitude_is_six_decibels() -> None:
    difference = loudness_db(2 * noise(), SPEC) - loudness_db(noise(), SPEC)
    np.testing.assert_allclose(difference[:200], 20 * np.log10(2), atol=0.03)  # but for a few bins at the floor


def test_silence_is_the_floor() -> None:
    np.testing.assert_array_equal(loudness_db(np.zeros(1000, np.float32), SPEC), np.full(16, -120, np.float32))


def test_blocks_do_not_matter() -> None:
    audio = noise()
    stream = loudness_stream(SPEC)
    parts = [stream.push(audio[i : i + 777]) for i in range(0, len(audio), 777)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()]), loudness_db(audio, SPEC))


def test_windows_look_ahead() -> None:
    """A click raises frames up to 2048 samples before it, and no frame after it."""
    audio = np.zeros(8000, np.float32)
    audio[4000] = 1.0
    heard = np.flatnonzero(loudness_db(audio, SPEC) > -119)
    assert heard[0] * 64 > 4000 - 2048
    assert heard[-1] * 64 < 4000


def test_generations_do_not_meet() -> None:
    """A data set measured one way cannot train a model that was learned the other way."""
    assert any("loudness" in difference for difference in SPEC.differences(FeatureSpec()))


@pytest.mark.parametrize(("n_samples", "size", "hop"), [(10, 4, 1), (10, 4, 3), (10, 10, 2), (3, 4, 1), (0, 4, 1)])
def test_windows_begin_at_every_hop(n_samples, size, hop):
    values = np.arange(2 * n_samples, dtype=np.float32)[::2]
    windows = overlapping_windows(values, size, hop)
    expected = [values[begin : begin + size] for begin in range(0, n_samples - size + 1, hop)]
    np.testing.assert_array_equal(windows, np.reshape(expected, (-1, size)))
    assert not windows.flags.writeable
