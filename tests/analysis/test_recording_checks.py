import numpy as np
import pytest

from ddsp_cli.analysis.recording_checks import ClippingWatch, HumWatch


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


def listen(sound: np.ndarray) -> tuple[int, float] | None:
    watch = HumWatch()
    for block in np.array_split(sound, 7):
        watch.push(block)
    return watch.finish()


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_is_heard_beneath_music(mains_hz):
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
