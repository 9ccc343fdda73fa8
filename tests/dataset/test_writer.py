"""Shards: the same bytes from any number of processes; the sound does not depend on the end of a shard."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import tfrecord, writer
from ddsp_cli.dataset.cache import CutRecording, Job
from ddsp_cli.dataset.workers import examine
from ddsp_cli.dataset.writer import Counts, Layout, Portion, SplitPlan, Written, name_shards, write_shard
from fixtures import melody

LAYOUT = Layout(48000, FeatureSpec(), 4.0, 100.0, labelled=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[CutRecording]:
    """Three recordings of 11, 3 and 7 s, as they were cut."""
    folder = tmp_path_factory.mktemp("recordings")
    found = []
    for name, n_notes in (("a", 8), ("b", 2), ("c", 5)):
        notes = tuple(57 + (5 * i) % 12 for i in range(n_notes))
        soundfile.write(folder / f"{name}.wav", 0.2 * melody(notes, 1.2, 0.2), 16000)
        found.append(examine(Job(folder / f"{name}.wav", name, folder / name, 48000, FeatureSpec())))
    assert not any(one.reason for one in found)
    return found


def write(folder: Path, recordings: list[CutRecording]) -> tuple[list[Written], int]:
    folder.mkdir()
    portions = [Portion(one, 0, one.n_frames, 1.5) for one in recordings]
    plan = SplitPlan(folder, "train", LAYOUT, portions, lambda job: "abc".index(job.name), rests=True)
    return [write_shard(shard) for shard in plan], plan.n_frames


def examples(folder: Path, written: list[Written]) -> list[dict[str, np.ndarray]]:
    named = name_shards({one.path: one.sha256 for one in reversed(written)})
    assert list(named) == [f"train.tfrecord-{i:05d}-of-{len(written):05d}" for i in range(len(written))]
    return list(itertools.chain.from_iterable(tfrecord.read_examples(folder / name) for name in named))


@pytest.mark.parametrize("n_in_shard", [1, 2, 3])
def test_where_a_shard_ends_changes_nothing(recordings, tmp_path, monkeypatch, n_in_shard):
    monkeypatch.setattr(writer, "REST_S", 0.3)  # so that there are some
    (one,), n_frames = write(tmp_path / "one", recordings)
    assert n_frames == sum(recording.n_frames for recording in recordings)
    whole = examples(tmp_path / "one", [one])
    monkeypatch.setattr(Layout, "n_in_shard", n_in_shard)
    several, _ = write(tmp_path / "several", recordings)
    assert [shard.n_examples for shard in several][:-1] == [n_in_shard] * (len(several) - 1)
    parts = examples(tmp_path / "several", several)
    assert len(parts) == len(whole) > 5
    for part, wanted in zip(parts, whole, strict=True):
        for key in ("f0_hz", "f0_confidence", "instrument"):
            assert np.array_equal(part[key], wanted[key])
        for key in ("audio", "audio_16k"):
            np.testing.assert_allclose(part[key], wanted[key], atol=1e-6)
        for key in ("loudness_db", "power_db"):
            np.testing.assert_allclose(part[key], wanted[key], atol=1e-3)
    for name in ("pitch_midi", "loudness_db", "power_db"):
        merged = Counts()
        for shard in several:
            merged.merge(getattr(shard.figures, name))
        assert merged.n == getattr(one.figures, name).n > 1000
        percents = np.arange(101)
        expected = getattr(one.figures, name).percentiles(percents)
        np.testing.assert_allclose(merged.percentiles(percents), expected, atol=2e-3)


def test_levels_are_those_of_the_whole_sound(recordings, tmp_path, monkeypatch):
    """Windows reach over the ends of shards, and over joins."""
    from ddsp_cli.analysis import loudness

    monkeypatch.setattr(Layout, "n_in_shard", 2)
    written, _ = write(tmp_path / "set", recordings)
    found = examples(tmp_path / "set", written)
    joined = {key: np.concatenate([example[key] for example in found]) for key in found[0]}
    for key, measure in (("loudness_db", loudness.loudness_db), ("power_db", loudness.power_db)):
        np.testing.assert_allclose(joined[key], measure(joined["audio_16k"]), atol=2e-3)
    assert set(joined["instrument"]) == {0.0, 1.0, 2.0}
    assert len(joined["audio"]) == 3 * len(joined["audio_16k"]) == 192 * len(joined["f0_hz"])


def test_a_shard_is_stopped_between_two_windows(recordings, tmp_path):
    portions = [Portion(one, 0, one.n_frames) for one in recordings]
    (shard,) = SplitPlan(tmp_path, "train", LAYOUT, portions)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(shard, stop)
    assert not shard.path.read_bytes()
