"""Faults of recordings, and the bandwidth of made recordings whose edge is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

from ddsp_cli.analysis.recording_checks import ClippingWatch, HumWatch, bandwidth_hz


def test_clipping_is_found_where_it_is():
    watch = ClippingWatch()
    sound = 0.5 * np.sin(np.arange(48000) / 20)
    sound[10_000:10_003] = 1.0
    sound[10_500:10_600] = -1.0  # 10 ms later: one place
    sound[40_000:40_002] = 1.0  # two samples are a peak
    for block in np.array_split(np.stack([np.zeros(48000), sound], axis=1), 3):
        watch(block)
    ((start, end),) = watch.places_s(48000)
    assert start == pytest.approx(10_000 / 48000) and end == pytest.approx(10_597 / 48000)


def test_a_loud_sine_at_full_scale_is_not_clipped():
    watch = ClippingWatch()
    watch(np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)[:, None])
    assert watch.places_s(16000) == []


def watched(sound: np.ndarray, n_blocks: int = 3) -> ClippingWatch:
    watch = ClippingWatch()
    for block in np.array_split(np.atleast_2d(sound).T, n_blocks):
        watch(block.astype(np.float32))
    return watch


def sung(rate_hz: int = 48000) -> np.ndarray:
    """Two seconds at 220 Hz with vibrato, harmonics and a swell, peak 1."""
    t = np.arange(2 * rate_hz) / rate_hz
    phase = 2 * np.pi * 220 * t + 2.0 * np.sin(2 * np.pi * 5 * t)
    sound = sum(np.sin(k * phase + k) / k for k in (1, 2, 3, 5)) * (0.5 + 0.5 * np.sin(np.pi * t / 2))
    return sound / np.abs(sound).max()


@pytest.mark.parametrize("level", [1.0, 0.9, 0.5, 0.1])
@pytest.mark.parametrize("bits", [16, 24])
def test_flat_tops_are_found_at_any_level(level, bits):
    clipped = level * np.clip(2.0 * sung(), -1.0, 1.0)
    steps = 2.0 ** (bits - 1)
    written = np.round(clipped * steps + np.random.default_rng(0).triangular(-1, 0, 1, clipped.shape)) / steps
    watch = watched(written)
    share = np.mean(np.abs(clipped) >= level)
    assert watch.is_heavy
    assert watch.n_clipped == pytest.approx(share * len(clipped), rel=0.15)
    ((start, end),) = watch.places_s(48000)
    loud = np.flatnonzero(np.abs(clipped) >= level) / 48000
    assert (start, end) == pytest.approx((loud[0], loud[-1]), abs=0.05)


@pytest.mark.parametrize("level", [0.9, 0.1])
def test_clipping_is_found_after_resampling(level):
    """The tops are round then, but samples crowd at the ceiling."""
    import soxr

    clipped = soxr.resample(level * np.clip(4.0 * sung(), -1.0, 1.0), 48000, 44100)
    assert watched(clipped).is_heavy
    assert watched(soxr.resample(level * sung(), 48000, 44100)).n_clipped == 0


def test_clipping_of_one_side_or_one_channel_is_found():
    one_side = 0.4 * np.minimum(2.0 * sung(), 1.0)
    assert watched(one_side).is_heavy
    assert watched(-one_side).n_clipped == watched(one_side).n_clipped
    assert watched(np.stack([0.3 * sung(), one_side])).n_clipped == watched(one_side).n_clipped


@pytest.mark.parametrize(
    "sound",
    [
        0.5 * sung(),
        0.5 * np.sin(2 * np.pi * 41.2 * np.arange(192_000) / 96_000),  # tops of 27 samples within 0.2 %, but round
        0.5 * np.sin(2 * np.pi * 1500 * np.arange(96_000) / 48_000),
        0.2 * sung() / maximum_filter1d(np.abs(sung()), 960),  # every peak is brought to one level, and stays round
        0.1 * np.random.default_rng(0).normal(size=96_000),
        np.zeros(96_000),
        np.full(96_000, 0.1),  # a direct current
        np.repeat(0.5 * sung(8000), 6),  # brought from 8 to 48 kHz by repetition
        0.01 * np.clip(2.0 * sung(), -1.0, 1.0),  # steps of 16 bits cannot be told from flat tops
    ],
)  # fmt: skip
def test_what_is_not_clipped(sound):
    watch = watched(sound)
    assert watch.n_clipped == 0
    assert watch.places_s(48000) == []


def square(rate_hz: int, f0_hz: float = 440.0, duty: float = 0.5) -> np.ndarray:
    """Four seconds of a square wave, peak 1."""
    return np.where(np.arange(4 * rate_hz) * f0_hz / rate_hz % 1.0 < duty, 1.0, -1.0)


def steps_of_a_chip(rate_hz: int = 44100) -> np.ndarray:
    """A triangle of 16 steps, peak 1, and a pulse whose volume falls in steps."""
    triangle = np.abs(np.arange(4 * rate_hz) * 220 / rate_hz % 1.0 * 2.0 - 1.0)
    volume = np.repeat(np.arange(15, 3, -1) / 15, 4000)
    tune = np.tile(volume, 4)[: 4 * rate_hz] * square(rate_hz, 330.0, 0.25)[: 48000 * 4]
    return np.concatenate([np.round(triangle * 15) / 15 * 2.0 - 1.0, tune])


@pytest.mark.parametrize("level", [1.0, 0.6, 0.1])
@pytest.mark.parametrize("duty", [0.5, 0.125])
def test_a_square_wave_is_not_clipped(level, duty):
    """As it is computed, and as it comes out of converters, filters and encoders."""
    import soxr

    sound = level * square(44100, duty=duty)
    assert not watched(sound).is_heavy
    sound = 0.8 * sound
    for made in (
        soxr.resample(sound, 44100, 48000),
        soxr.resample(0.8 * level * square(8 * 44100, duty=duty), 8 * 44100, 44100),
        lfilter([0.7], [1.0, -0.3], sound),
    ):
        assert not watched(made).is_heavy
    assert not watched(level * steps_of_a_chip()).is_heavy


def listen(sound: np.ndarray) -> tuple[int, float] | None:
    watch = HumWatch()
    for block in np.array_split(sound, 7):
        watch.push(block)
    return watch.finish()


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_is_detected_beneath_music(mains_hz):
    t = np.arange(20 * 16000) / 16000
    random = np.random.default_rng(0)
    music = 0.2 * np.sin(2 * np.pi * 440 * 2 ** (np.repeat(random.integers(-12, 12, 40), 8000) / 12) * t)
    hum = sum(0.002 / k * np.sin(2 * np.pi * k * mains_hz * t) for k in (1, 2, 3))
    noise = 1e-4 * random.normal(size=len(t))
    found = listen((music + hum + noise).astype(np.float32))
    assert found is not None and found[0] == mains_hz
    assert found[1] == pytest.approx(20 * np.log10(0.002), abs=1.5)
    assert listen((music + noise).astype(np.float32)) is None
    assert listen(np.zeros(16000 * 20, np.float32)) is None
    assert listen(np.zeros(1000, np.float32)) is None


@pytest.mark.parametrize("f0_hz", [49.0, 58.3, 61.7, 98.5])
def test_a_held_bass_note_is_no_hum(f0_hz):
    t = np.arange(6 * 16000) / 16000
    note = sum(0.05 / k * np.sin(2 * np.pi * k * f0_hz * t) for k in range(1, 8))
    noise = 1e-4 * np.random.default_rng(0).normal(size=len(t))
    assert listen((note + noise).astype(np.float32)) is None


RATE_HZ = 48000


def recording(edge_hz: float | None, tones: bool = False) -> np.ndarray:
    """2 s of noise that falls by 12 dB an octave, or of a harmonic tone in soft noise, cut off at an edge."""
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.normal(size=2 * RATE_HZ))
    hz = np.fft.rfftfreq(2 * RATE_HZ, 1 / RATE_HZ)
    spectrum /= 1 + (hz / 500) ** 2
    if tones:
        spectrum[::880] *= 300  # every 440 Hz
    if edge_hz is not None:
        spectrum[hz > edge_hz] *= 1e-5
    sound = np.fft.irfft(spectrum)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("tones", [False, True])
@pytest.mark.parametrize("edge_hz", [8000, 13000, 16000, 20000, 22050])
def test_an_edge_is_found_just_below_it(edge_hz, tones):
    found = bandwidth_hz(recording(edge_hz, tones), RATE_HZ)
    assert edge_hz - 700 <= found <= edge_hz


@pytest.mark.parametrize("tones", [False, True])
def test_a_slope_is_no_edge(tones):
    assert bandwidth_hz(recording(None, tones), RATE_HZ) == RATE_HZ / 2


def test_silence_and_short_sounds_have_no_edge():
    assert bandwidth_hz(np.zeros(RATE_HZ, np.float32), RATE_HZ) == RATE_HZ / 2
    assert bandwidth_hz(recording(8000)[:1000], RATE_HZ) == RATE_HZ / 2


def test_low_rates_are_not_searched():
    assert bandwidth_hz(recording(None)[:16000], 12000) == 6000
