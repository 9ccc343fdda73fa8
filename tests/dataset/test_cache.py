"""Measurements that `ddsp prepare` keeps: read back, and measured again where they are damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.config import FeatureSpec, dump_yaml
from ddsp_cli.dataset import cache
from ddsp_cli.dataset.build import write_manifest
from ddsp_cli.dataset.manifest import MANIFEST, Doubt, Manifest, Split, load_manifest
from ddsp_cli.errors import DatasetError
from fixtures import make_card, small_model


@pytest.mark.parametrize("kept_bytes", [1 << 22, 8000, 0])
def test_spooled_sound_is_read_as_it_was_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int):
    monkeypatch.setattr(cache, "SPOOLED_BYTES", kept_bytes)
    sound = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    with cache.Spool(tmp_path / ".spool") as spool:
        assert len(spool.read(0, 0)) == 0
        for block in np.array_split(sound[:4000], 7):
            spool.push(block)
        assert np.array_equal(spool.read(10, 2000), sound[10:2000])
        spool.push(sound[4000:])  # after reading
        assert spool.n_samples == 5000
        assert np.array_equal(spool.read(3990, 5000), sound[3990:])
        assert np.array_equal(np.concatenate(list(spool.blocks(999))), sound)
        assert (tmp_path / ".spool").exists() == (kept_bytes < 1 << 22)
    assert not list(tmp_path.iterdir())


def test_spooled_sound_leaves_no_file_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "SPOOLED_BYTES", 0)
    with pytest.raises(KeyboardInterrupt), cache.Spool(tmp_path / ".spool") as spool:
        spool.push(np.ones(3, np.float32))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


N_FLIPS = 200


def flips(path: Path, n: int = N_FLIPS) -> list[bytes]:
    """The file with one bit flipped, `n` times another."""
    whole = path.read_bytes()
    changed = []
    for bit in random.Random(0).sample(range(len(whole) * 8), n):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(content))
    return changed


def test_no_flip_in_stored_measurements_goes_unnoticed(tmp_path):
    n_samples = 64 * 50
    rows = np.random.default_rng(0).uniform(100, 200, (3, 50)).astype(np.float32)
    doubt = Doubt(kind="octave", start_s=0.1, end_s=0.2)
    path = tmp_path / "abc.measured"
    cache.save_measured(path, cache.Measured(*rows, np.arange(50) > 40, n_samples, (doubt,), ("hums",)))
    known = cache.load_measured(tmp_path, "abc", 64)
    assert known is not None and known.doubts == (doubt,)
    np.testing.assert_array_equal(known.f0_hz, rows[0])
    for content in flips(path):
        path.write_bytes(content)
        assert cache.load_measured(tmp_path, "abc", 64) is None


def test_no_flip_in_the_record_of_a_recording_goes_unnoticed(tmp_path):
    job = cache.Job(tmp_path / "a.wav", "a", tmp_path / "part", 16000, FeatureSpec())
    cache.CutRecording(job, "d" * 64, 6.6, 1000, 3.0, 0.5, 0.4, remarks=("hums",)).save()
    assert cache.load_cut(job, "d" * 64) is not None
    for content in flips(job.record_file):
        job.record_file.write_bytes(content)
        assert cache.load_cut(job, "d" * 64) is None


def test_no_flip_in_a_manifest_goes_unnoticed(tmp_path):
    card = make_card(small_model())
    split = Split(n_examples=1, used_s=4.0, shards={"train.tfrecord-00000-of-00001": "a" * 64})
    manifest = Manifest(
        format=1, name="x", created_with="0", sample_rate_hz=16000, features=FeatureSpec(),
        statistics=card.statistics, train=split, validation=split, recordings=[],
    )  # fmt: skip
    write_manifest(tmp_path, manifest)
    path = tmp_path / MANIFEST
    assert load_manifest(tmp_path) == manifest
    for content in flips(path):
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            load_manifest(tmp_path)
    path.write_text(dump_yaml(manifest), encoding="utf-8")
    assert load_manifest(tmp_path) == manifest, "a manifest of an earlier version has no digest"
