"""Short trainings: a small preset, and windows that are made here (ramps that show where a crop was cut, tones)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np

from ddsp_cli.config import LossConfig, Preset, TrainingConfig
from ddsp_cli.dataset.loader import Examples
from fixtures import small_model


@contextlib.contextmanager
def op_by_op() -> Iterator[None]:
    """Neither compiles nor traces a model, which takes longer than a dozen of its steps."""
    from ddsp_cli.training import loop

    with mock.patch.object(loop, "COMPILED_BACKENDS", ()):
        try:
            import tensorflow as tf
        except ImportError:  # another backend
            yield
            return
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)


def small_preset(**training: int) -> Preset:
    """A preset whose steps take no time: a fifth of a second of sound, one FFT size."""
    settings = TrainingConfig(**{"batch_size": 2} | training, crop_s=0.2, loss=LossConfig(fft_sizes=(256,)))
    return Preset(description="small", model=small_model(), training=settings)


def examples(n: int) -> Examples:
    """Audio counts samples, F0 counts frames of 250 Hz from 100 up, power is the index of the window."""
    frames = np.arange(1000, dtype=np.float32)
    level = np.linspace(-60, -10, n, dtype=np.float32)[:, None]
    return Examples(
        audio=np.tile(np.arange(64000, dtype=np.float32), (n, 1)),
        f0_hz=np.tile(100 + frames, (n, 1)),
        f0_confidence=np.ones((n, 1000), np.float32),
        loudness_db=np.tile(level, (1, 1000)),
        power_db=np.tile(level, (1, 1000)),
    )


def tones(n: int, seconds: float = 1.0) -> Examples:
    """Steady tones of seven harmonics, as an instrument without surprises."""
    random = np.random.default_rng(0)
    n_samples, n_frames = round(16000 * seconds), round(250 * seconds)
    f0 = random.uniform(200, 600, (n, 1))
    t = np.arange(n_samples) / 16000
    audio = 0.1 * sum(np.sin(2 * np.pi * k * f0 * t) / k for k in range(1, 8))
    flat = np.ones((n, n_frames), np.float32)
    return Examples(audio.astype(np.float32), (f0 * flat).astype(np.float32), flat, -20 * flat, -20 * flat)
