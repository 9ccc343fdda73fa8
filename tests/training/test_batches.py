"""Crops: a function of the seed and the step, cut on the frame grid."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ddsp_cli.arrays import decimated
from ddsp_cli.dataset.loader import Examples, StreamedExamples
from ddsp_cli.errors import DatasetError
from ddsp_cli.training.batches import RandomCrops
from ddsp_cli.training.windows import (
    GAIN_DB,
    SOFT_GAIN_DB,
    StreamedWindows,
    Windows,
    validation_batches,
    windows_of,
    with_copies,
)
from fixtures import small_model
from training_fixtures import examples, tones


@pytest.fixture(scope="module")
def windows():
    return Windows(examples(6), small_model(), 250)


def test_a_batch_depends_on_seed_and_step_alone(windows):
    one = RandomCrops(windows, 4, 0.5, seed=3, n_steps=5)
    later = RandomCrops(windows, 4, 0.5, seed=3, n_steps=7, first_step=2)
    for name, value in one[4][0].items():
        np.testing.assert_array_equal(value, later[2][0][name])
    np.testing.assert_array_equal(one[4][1], later[2][1])
    assert not np.array_equal(one[0][1], one[1][1])
    assert not np.array_equal(one[0][1], RandomCrops(windows, 4, 0.5, seed=4, n_steps=5)[0][1])


def test_audio_and_features_are_cut_at_the_same_time(windows):
    """Every window's audio is a ramp of its sample numbers, every f0 one of its frame numbers."""
    hop = windows.model.hop_samples
    inputs, audio = RandomCrops(windows, 4, 1.0, seed=0, n_steps=1)[0]
    assert audio.shape == (4, 16000)
    assert inputs["f0_hz"].shape == (4, 50, 1)
    first_sample = np.round(audio[:, 0]).astype(int)
    first_frame = np.round((inputs["f0_hz"][:, 0, 0] - 100) / 5).astype(int)  # 250 Hz ramp, every fifth kept
    np.testing.assert_array_equal(first_sample, first_frame * hop)


def test_every_window_is_seen_before_one_is_seen_twice(windows):
    inputs, _ = RandomCrops(windows, 6, 4.0, seed=0, n_steps=1)[0]
    level = inputs["pw_scaled"][:, 0, 0]
    assert len(np.unique(level)) == 6


def test_half_of_a_batch_is_drawn_from_favoured_windows(windows):
    crops = RandomCrops(windows, 6, 0.5, seed=0, n_steps=20, favoured=np.array([1, 4]))
    rows = np.array([crops.places(step)[0] for step in range(20)])
    assert np.isin(rows[:, :3], [1, 4]).all()
    assert {1, 4} == set(rows[:, 0])
    assert set(rows[:, 3:].ravel()) == set(range(6)), "the other half is drawn from all"


def test_crops_longer_than_windows_become_windows(windows):
    assert RandomCrops(windows, 2, 60.0, seed=0, n_steps=1)[0][1].shape == (2, 64000)


def test_validation_has_whole_windows_in_equal_batches(windows):
    batches = validation_batches(windows, 4)
    assert [audio.shape for _, audio in batches] == [(4, 64000)]
    assert [audio.shape for _, audio in validation_batches(windows, 16)] == [(6, 64000)]


def test_validation_can_be_shared_by_devices(windows):
    """Six windows: four devices get one each, eight make do with some of them twice."""
    assert [audio.shape[0] for _, audio in validation_batches(windows, 16, multiple=4)] == [4]
    assert [audio.shape[0] for _, audio in validation_batches(windows, 4, multiple=2)] == [4]
    assert [audio.shape[0] for _, audio in validation_batches(windows, 16, multiple=8)] == [8]


def conditioned(names):
    import msgspec

    from ddsp_cli.config import InstrumentsConfig

    model = small_model()
    return msgspec.structs.replace(model, inputs=[*model.inputs, "instrument"], instruments=InstrumentsConfig(names))


def test_batches_carry_the_index_of_the_models_instrument():
    data = examples(4)
    labels = np.zeros((4, 1000), np.float32)
    labels[2:] = 1.0
    labels[3, 500:] = 0.0
    data = replace(data, instrument=labels, instruments=("flute", "violin"))
    windows = Windows(data, conditioned(["horn", "violin", "flute"]), 250)
    assert windows.inputs["instrument"].shape == (4, 200, 1)
    assert windows.inputs["instrument"][:, 0, 0].tolist() == [2.0, 2.0, 1.0, 1.0]
    inputs, _ = windows.cut(np.array([3]), np.array([90]), 20)
    assert inputs["instrument"][0, :, 0].tolist() == [1.0] * 10 + [2.0] * 10
    for names, message in ((["flute", "horn"], "has violin"), (["flute", "violin", "horn"], None)):
        if message is None:
            Windows(data, conditioned(names), 250)
            with pytest.raises(DatasetError, match="does not tell instruments apart"):
                Windows(examples(4), conditioned(names), 250)
        else:
            with pytest.raises(DatasetError, match=message):
                Windows(data, conditioned(names), 250)


class InShards(StreamedExamples):
    """Six examples that are read when they are taken."""

    def __init__(self) -> None:
        self.whole, self.n_read = examples(6), 0

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, rows: np.ndarray) -> Examples:
        self.n_read += len(rows)
        names = ("audio", "f0_hz", "f0_confidence", "loudness_db", "power_db")
        return Examples(**{name: getattr(self.whole, name)[rows] for name in names})


def test_batches_from_shards_are_those_from_memory(windows, monkeypatch):
    shards = InShards()
    streamed = windows_of(shards, small_model(), 250)
    assert isinstance(streamed, StreamedWindows)
    assert len(streamed) == len(streamed.in_memory()) == 6
    shards.n_read = 0
    measured: list[int] = []

    def measure(found: Windows) -> SimpleNamespace:
        measured.append(len(found))
        return SimpleNamespace(peak=found.inputs["pw_scaled"] + 1.0)

    streamed.measure_targets(measure)
    windows_with_targets = Windows(examples(6), small_model(), 250)
    windows_with_targets.measure_targets(measure)
    pairs = [RandomCrops(one, 4, 0.5, seed=3, n_steps=3) for one in (streamed, windows_with_targets)]
    for step in range(3):
        (inputs, audio), (wanted, wanted_audio) = (crops[step] for crops in pairs)
        assert inputs.keys() == wanted.keys()
        assert all(np.array_equal(inputs[name], wanted[name]) for name in wanted)
        assert np.array_equal(audio, wanted_audio)
    assert shards.n_read == 12
    assert measured == [6, 4, 4, 4]


def test_of_very_many_windows_a_batch_is_drawn_without_listing_them(windows, monkeypatch):
    monkeypatch.setattr("ddsp_cli.training.batches.MAX_SHUFFLED", 5)
    crops = RandomCrops(windows, 6, 0.5, seed=0, n_steps=2)
    first, second = crops.places(0)[0], crops.places(1)[0]
    assert sorted(first) == list(range(6))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, crops.places(0)[0])


def test_decimation_is_flat_up_to_half_the_lower_rate():
    """Partials up to 7.9 kHz keep their amplitude at 16 kHz, those above 8 kHz vanish."""
    t = np.arange(48000) / 48000
    partials = {440.0: 0.3, 7900.0: 0.2, 8100.0: 0.2}
    audio = sum(a * np.sin(2 * np.pi * hz * t) for hz, a in partials.items())[None].astype(np.float32)
    low = decimated(audio, 48000, 16000)[0]
    amplitudes = np.abs(np.fft.rfft(low)) / 8000
    assert low.shape == (16000,)
    assert amplitudes[[440, 7900]] == pytest.approx([0.3, 0.2], abs=1e-4)
    assert np.delete(amplitudes, [440, 7900]).max() < 1e-4


def test_f0_and_level_follow_the_sound():
    examples = tones(3)
    found = with_copies(examples, 16000, 2, seed=1, floor_db=-80.0)
    assert len(found) == 9
    np.testing.assert_array_equal(found.audio[:3], examples.audio)
    for i in range(3, 9):
        heard = found.f0_hz[i] > 0
        assert heard.mean() > 0.9
        f0_hz = float(found.f0_hz[i][heard][0])
        semitones = 12.0 * np.log2(f0_hz / examples.f0_hz[i % 3, 0])
        assert 0.19 < abs(semitones) < 1.01
        middle = found.audio[i, 4000:12000]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
        loudest_hz = np.argmax(spectrum) * 16000 / (1 << 17)
        assert abs(loudest_hz / f0_hz - 1.0) < 1e-3
        louder_db = 20.0 * np.log10(np.std(middle) / np.std(examples.audio[i % 3, 4000:12000]))
        assert abs(louder_db - (found.power_db[i][heard][0] - examples.power_db[i % 3, 0])) < 0.2
        # after the end of a faster copy there is silence
        n_silent = int((~heard).sum()) * 64
        assert np.abs(found.audio[i, len(found.audio[i]) - n_silent + 128 :]).max(initial=0.0) == 0.0
        assert (found.power_db[i][~heard] == -80.0).all()


def test_every_fourth_copy_is_soft():
    examples = tones(3)
    found = with_copies(examples, 16000, 5, seed=1, floor_db=-80.0)
    gains_db = (np.max(found.power_db, axis=1) - np.tile(examples.power_db[:, 0], 6)).reshape(6, 3)
    is_soft = np.all((gains_db >= SOFT_GAIN_DB[0]) & (gains_db <= SOFT_GAIN_DB[1]), axis=1)
    assert is_soft.tolist() == [False, False, False, False, True, False]
    assert np.abs(gains_db[~is_soft]).max() <= GAIN_DB[1]


def test_the_same_seed_gives_the_same_copies():
    one, same, other = (with_copies(tones(2), 16000, 1, seed, -80.0) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.audio, same.audio)
    assert not np.array_equal(one.audio, other.audio)


def of_two(n: int) -> Windows:
    """Windows of two instruments; those with an even index are of the first, but for their last tenth."""
    both = examples(n)
    index = np.zeros_like(both.f0_hz)
    index[0::2, 900:] = 1.0
    index[1::2] = 1.0
    both = replace(both, instrument=index, instruments=("a", "b"))
    return Windows(both, conditioned(["a", "b"]), 250)


def test_windows_of_one_of_two_instruments():
    both = of_two(6)
    both.targets = {"harmonic_db": np.arange(6, dtype=np.float32)[:, None, None]}
    own = both.of_instrument(1)
    assert len(own) == 3
    assert "instrument" in both.inputs
    assert "instrument" not in own.inputs
    assert own.model == small_model()
    np.testing.assert_array_equal(own.targets["harmonic_db"][:, 0, 0], [1.0, 3.0, 5.0])
    np.testing.assert_array_equal(own.inputs["pw_scaled"], both.inputs["pw_scaled"][1::2])


def test_windows_are_played_as_one_instrument():
    both = of_two(6)
    played = both.as_instrument(0)
    assert len(played) == 3
    assert not played.inputs["instrument"].any()
    assert both.inputs["instrument"].any(), "the others are unchanged"
    only_second = of_two(6)._select(np.array([1, 3]))
    played = only_second.as_instrument(0)
    assert len(played) == 2, "with no window of it, all are played as if they were"
    assert not played.inputs["instrument"].any()


def test_copies_keep_their_instruments():
    one = tones(2)
    index = np.repeat(np.float32([[0.0], [1.0]]), one.f0_hz.shape[1], axis=1)
    found = with_copies(replace(one, instrument=index, instruments=("a", "b")), 16000, 2, seed=0, floor_db=-80.0)
    np.testing.assert_array_equal(found.instrument[:, 0], [0.0, 1.0] * 3)
    assert found.instruments == ("a", "b")
    assert found.instrument.shape == found.f0_hz.shape
