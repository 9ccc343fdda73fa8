"""Cepstral coefficients: the engine's numbers for any block sizes, independent of the level."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.mfcc import mfcc, mfcc_blocks
from fixtures import melody


def test_agrees_with_the_engine():
    from ddsp_cli.engine import core

    audio = melody() + np.random.default_rng(0).normal(0, 1e-2, len(melody())).astype(np.float32)
    ours = mfcc(audio, 50, 29)
    hop = 320
    assert ours.shape == (-(-len(audio) // hop), 29)
    # The engine's frames begin at their time, ours are centred on it.
    padded = np.pad(audio, (512, 1024))[None]
    theirs = np.asarray(core.mfcc(padded, 30, overlap=1.0 - hop / 1024))[0, : len(ours), 1:]
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [1, 77, 16000])
def test_blocks_do_not_matter(size):
    audio = melody((60,), note_s=0.2, rest_s=0.02)
    whole = mfcc(audio, 250, 20)
    parts = mfcc_blocks((audio[i : i + size] for i in range(0, len(audio), size)), 250, 20)
    np.testing.assert_allclose(np.concatenate(list(parts)), whole, atol=1e-4)


def test_level_is_no_timbre():
    audio = melody() + np.random.default_rng(0).normal(0, 1e-2, len(melody())).astype(np.float32)
    np.testing.assert_allclose(mfcc(0.25 * audio, 50, 29), mfcc(audio, 50, 29), atol=1e-3)
    assert np.abs(mfcc(np.diff(audio), 50, 29) - mfcc(audio[1:], 50, 29)).max() > 1.0


def test_silence_is_finite():
    assert np.isfinite(mfcc(np.zeros(1000, np.float32), 50, 5)).all()
    assert mfcc(np.zeros(0, np.float32), 50, 5).shape == (0, 5)
