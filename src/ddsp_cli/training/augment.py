"""Copies of recordings at other pitches and levels, for a training on little material. Imports no framework.

A copy is resampled by up to a semitone, as a tape that runs at another speed: F0, the resonances and all times follow.
That is true to an instrument of a slightly other size. Its gain changes, and the measured level with it.
Shapes: N windows, S samples, F frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddsp_cli.dataset.loader import Examples

#: Shift of a copy in semitones, up or down, and the largest change of its gain.
SHIFT_SEMITONES = (0.2, 1.0)
MAX_GAIN_DB = 3.0


def with_copies(examples: Examples, sample_rate_hz: int, n_copies: int, seed: int, floor_db: float) -> Examples:
    """Adds copies of all windows.

    Where a copy is shorter than its window, silence follows.

    Args:
      examples: of one instrument.
      sample_rate_hz: of their sound.
      n_copies: of each window.
      seed: of shifts and gains.
      floor_db: lowest level, that of silence.

    Returns:
      [N · (1 + n_copies)] windows, those of the recordings first.
    """
    random = np.random.default_rng(seed)
    parts = [examples]
    for _ in range(n_copies):
        semitones = random.choice([-1.0, 1.0], len(examples)) * random.uniform(*SHIFT_SEMITONES, len(examples))
        gains_db = random.uniform(-MAX_GAIN_DB, MAX_GAIN_DB, len(examples))
        parts.append(_copy(examples, sample_rate_hz, 2.0 ** (semitones / 12.0), gains_db, floor_db))
    return replace(
        examples,
        audio=np.concatenate([part.audio for part in parts]),
        f0_hz=np.concatenate([part.f0_hz for part in parts]),
        f0_confidence=np.concatenate([part.f0_confidence for part in parts]),
        loudness_db=np.concatenate([part.loudness_db for part in parts]),
        power_db=np.concatenate([part.power_db for part in parts]),
    )


def _copy(
    examples: Examples, sample_rate_hz: int, speeds: np.ndarray, gains_db: np.ndarray, floor_db: float
) -> Examples:
    """One copy of each window, played at `speeds` [N] times the speed."""
    import soxr

    audio = np.zeros_like(examples.audio)
    for i, (speed, gain_db) in enumerate(zip(speeds, gains_db, strict=True)):
        faster = soxr.resample(examples.audio[i], speed * sample_rate_hz, sample_rate_hz)[: audio.shape[1]]
        audio[i, : len(faster)] = faster * 10.0 ** (gain_db / 20.0)
    n_frames = examples.f0_hz.shape[1]
    frames = np.round(np.arange(n_frames) * speeds[:, None]).astype(int)
    heard = frames < n_frames
    rows, frames = np.arange(len(examples))[:, None], np.minimum(frames, n_frames - 1)

    def level(values_db: np.ndarray) -> np.ndarray:
        louder_db = np.maximum(values_db[rows, frames] + gains_db[:, None], floor_db)
        return np.where(heard, louder_db, floor_db).astype(np.float32)

    return Examples(
        audio=audio,
        f0_hz=np.where(heard, examples.f0_hz[rows, frames] * speeds[:, None], 0.0).astype(np.float32),
        f0_confidence=np.where(heard, examples.f0_confidence[rows, frames], 0.0).astype(np.float32),
        loudness_db=level(examples.loudness_db),
        power_db=level(examples.power_db),
    )
