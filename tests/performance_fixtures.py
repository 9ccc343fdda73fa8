"""Measured performances whose notes are known."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis.features import Features
from ddsp_cli.config import FeatureSpec
from fixtures import make_card, small_model

STATISTICS = make_card(small_model()).statistics
RATES = pytest.mark.parametrize("rate_hz", [50, 250])


def performance(rate_hz, seconds=4.0, notes=((1.0, 2.0, 57.0), (2.5, 3.5, 60.0)), noise_db=-60.0, note_db=-20.0):
    """Features of notes (start, stop, midi) above noise."""
    n = round(seconds * rate_hz)
    t = np.arange(n) / rate_hz
    f0_hz, level = np.zeros(n), np.full(n, noise_db)
    level += np.random.default_rng(0).normal(size=n)
    for start, stop, midi in notes:
        inside = (t >= start) & (t < stop)
        f0_hz[inside] = 440.0 * 2.0 ** ((midi - 69.0) / 12.0)
        level[inside] = note_db + 3.0 * np.sin(9.0 * t[inside])
    confidence = np.where(f0_hz > 0, 0.95, 0.1)
    return make(f0_hz, confidence, level, rate_hz)


def make(f0_hz, confidence, level, rate_hz):
    spec = FeatureSpec(frame_rate_hz=rate_hz)
    arrays = [np.asarray(x, np.float32) for x in (f0_hz, confidence, level + 15.0, level)]
    return Features(*arrays, spec=spec, n_samples=len(level) * spec.hop_samples)


def change(features, **changes):
    fields = ("f0_hz", "f0_confidence", "loudness_db", "power_db")
    arrays = {name: changes.get(name, getattr(features, name)).astype(np.float32) for name in fields}
    if "envelope_db" in changes:
        arrays["envelope_db"] = changes["envelope_db"].astype(np.float32)
    return Features(**arrays, spec=features.spec, n_samples=features.n_samples)


#: Notes (start, stop, MIDI number).
TUNE = ((0.5, 1.3, 57.0), (1.3, 1.7, 60.0), (1.7, 2.0, 59.0), (2.4, 3.4, 64.0))


def sung(rate_hz=250, tuning=0.2, vibrato=0.4):
    """The tune 20 cents high, two semitones of scoop before its last note, which is soft and has vibrato at 5.5 Hz."""
    features = performance(rate_hz, notes=TUNE)
    t, f0_hz = features.times_s, features.f0_hz.copy()
    last = (t >= 2.4) & (t < 3.4)
    wave = vibrato * np.sin(2 * np.pi * 5.5 * t) * last - 1.2 * np.clip(1.0 - (t - 2.4) / 0.12, 0.0, 1.0) * last
    f0_hz *= 2.0 ** ((tuning + wave) / 12.0)
    level_db = np.where(last, features.power_db - 12.0, features.power_db)
    return change(features, f0_hz=f0_hz, power_db=level_db, loudness_db=level_db + 15.0)


def babble(seconds=4.0, moving=1.0):
    """Syllables whose pitch moves in a share of them, between hisses: to these measures, speech."""
    random, parts = np.random.default_rng(3), []
    while sum(map(len, parts)) < seconds * 16000:
        t = np.arange(round(random.uniform(0.12, 0.22) * 16000)) / 16000
        f0_hz = random.uniform(110, 170) * 2 ** (random.choice([-1, 1]) * np.minimum(t, moving * t[-1]) / 0.4)
        phase = 2 * np.pi * np.cumsum(f0_hz) / 16000
        voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.abs(np.sin(np.pi * t / t[-1])) ** 0.5
        parts += [0.1 * voice, 0.004 * random.normal(size=round(random.uniform(0.06, 0.12) * 16000))]
    return np.concatenate(parts).astype(np.float32)
