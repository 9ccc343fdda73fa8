"""Data sets larger than memory: windows read from shards equal those in memory, and lists are files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.dataset import build, iter_recordings, load_manifest, loader, writer
from ddsp_cli.dataset.writer import Counts
from ddsp_cli.errors import DatasetError
from ddsp_cli.workflows.prepare import prepare
from fixtures import melody


@pytest.fixture(scope="module")
def wavs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "wavs"
    for i in range(6):
        path = folder / "ab"[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.2 * melody((57 + i, 64 + i, 60 + i, 65), 1.0, 0.2), 16000)
    (folder / "a" / "text.wav").write_text("not audio")
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two windows."""
    monkeypatch.setattr(writer, "SHARD_BYTES", 1_100_000)


def test_windows_read_from_shards_are_those_in_memory(wavs, tmp_path, small_shards, monkeypatch):
    folder = prepare([wavs], out=tmp_path / "set", sample_rate_hz=16000, workers=1, report=False).folder
    whole = loader.load(folder)
    n = len(whole.train)
    assert n > 4
    assert len(whole.manifest.train.shards) == -(-n // 2)
    monkeypatch.setattr(loader, "MAX_LOADED_BYTES", 0)
    monkeypatch.setattr(loader, "MAX_VALIDATION", 1)
    streamed = loader.load(folder)
    assert isinstance(streamed.train, loader.StreamedExamples)
    assert len(streamed.train) == n
    assert len(streamed.validation) == 1
    rows = np.random.default_rng(0).permutation(n)
    taken = streamed.train.take(rows)
    for name in ("audio", "f0_hz", "f0_confidence", "loudness_db", "power_db", "instrument"):
        assert np.array_equal(getattr(taken, name), getattr(whole.train, name)[rows])
    assert taken.instruments == whole.train.instruments == ("a", "b")


def test_damage_of_a_shard_is_found_when_it_is_read(wavs, tmp_path, small_shards, monkeypatch):
    folder = prepare([wavs], out=tmp_path / "set", sample_rate_hz=16000, workers=1, report=False).folder
    monkeypatch.setattr(loader, "MAX_LOADED_BYTES", 0)
    train = loader.load(folder).train
    shard = folder / next(iter(load_manifest(folder).train.shards))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    train.take(np.array([1]))
    with pytest.raises(DatasetError, match="damaged"):
        train.take(np.array([0]))
    content[1000] ^= 1
    shard.write_bytes(content[:-5])
    with pytest.raises(DatasetError, match="does not hold"):
        loader.load(folder)


def test_many_recordings_are_listed_in_a_file(wavs, tmp_path, monkeypatch):
    few = prepare([wavs], name="x", out=tmp_path / "few", workers=1)
    monkeypatch.setattr(build, "MAX_LISTED", 3)
    monkeypatch.setattr("ddsp_cli.reports.pages.MAX_RECORDINGS", 3)
    monkeypatch.setattr(build, "MAX_PROBED", 3)
    counted: list[tuple[str, float, float]] = []
    many = prepare(
        [wavs], name="x", out=tmp_path / "many", workers=1, progress=lambda *progress: counted.append(progress)
    )
    manifests = load_manifest(few.folder), load_manifest(many.folder)
    assert manifests[0].n_recordings == manifests[1].n_recordings == 7
    assert not manifests[1].recordings
    assert list(iter_recordings(many.folder, manifests[1])) == manifests[0].recordings
    assert [(r.skipped, r.n_used, r.given_s, r.n_doubts) for r in (few, many)] == [
        (few.skipped, few.n_used, few.given_s, few.n_doubts)
    ] * 2
    assert (build.MEASURING_MANY, 7, 7) in counted
    assert "text.wav" in many.report.read_text(encoding="utf-8")
    assert "6 more without remarks" in many.report.read_text(encoding="utf-8")
    assert prepare([wavs], name="x", out=tmp_path / "many", workers=1).unchanged
    listed = many.folder / "recordings.jsonl"
    listed.write_bytes(listed.read_bytes().replace(b"wavs/a/0", b"wavs/a/9"))
    with pytest.raises(DatasetError, match=r"recordings\.jsonl is missing or damaged"):
        list(iter_recordings(many.folder, manifests[1]))


def test_counted_percentiles_are_those_of_the_values():
    values = np.random.default_rng(1).normal(-30, 12, 5000).astype(np.float32)
    counts = Counts()
    for part in np.array_split(values, 7):
        counts.add(part)
    counts.add(values[:0])
    assert counts.n == len(values)
    percents = np.arange(101)
    assert np.abs(counts.percentiles(percents) - np.percentile(values.astype(float), percents)).max() <= 5.1e-4
    one = Counts()
    one.add(np.array([3.5]))
    assert one.percentiles(percents) == pytest.approx(3.5)
