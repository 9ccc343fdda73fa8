"""What `ddsp prepare` keeps while it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.dataset import cache


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
