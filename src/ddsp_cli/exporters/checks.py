"""What every exporter compares with: a test phrase, and what the instrument itself makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import OutputError
from ddsp_cli.exporters.audio_graph import synthesisers
from ddsp_cli.synthesis.decoder import FrameQueue
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.noise import white_noise
from ddsp_cli.synthesis.stream import open_decoder

#: An export must agree with the instrument this well: controls absolutely, sound relative to its loudest sample.
CONTROLS_TOLERANCE = 1e-4
AUDIO_TOLERANCE_DB = -60.0
CHECKED_FRAMES = 200


@dataclass(frozen=True)
class Exported:
    """What an exporter reports.

    Attributes:
      checks: what its verification measured, by name.
      contract: what each file takes and gives: file → inputs and outputs → name → shape.
    """

    checks: dict[str, float]
    contract: dict[str, Any]


@dataclass(frozen=True)
class Phrase:
    """A phrase through most of an instrument's range.

    Attributes:
      f0_hz, level_db: [F].
      noise: [F, H].
      sound: [F·hop] at 16 kHz, whose timbre an encoder follows.
    """

    f0_hz: np.ndarray
    level_db: np.ndarray
    noise: np.ndarray
    sound: np.ndarray


def phrase(bundle: Bundle, n_frames: int = CHECKED_FRAMES) -> Phrase:
    """The test phrase; the same at each call."""
    model, statistics = bundle.card.model, bundle.card.statistics
    swing = np.sin(np.linspace(0, 6 * np.pi, n_frames))
    pitch_midi = np.interp(50 + 40 * swing, np.arange(101), statistics.pitch_midi)
    level_db = np.interp(60 + 35 * swing[::-1], np.arange(101), statistics.level(model.level))
    f0_hz = _clear_of_nyquist(bundle, np.asarray(scaling.midi_to_hz(pitch_midi)))
    noise = white_noise(np.random.default_rng(0), n_frames, model.hop_samples)
    sound = np.cumsum(white_noise(np.random.default_rng(1), n_frames, ANALYSIS_RATE_HZ // model.frame_rate_hz)) / 100
    return Phrase(np.asarray(f0_hz, np.float32), level_db.astype(np.float32), noise, sound.astype(np.float32))


def expected_controls(bundle: Bundle, played: Phrase) -> dict[str, np.ndarray]:
    """By the runtime: amplitude [F, 1], harmonic_distribution [F, K], noise_magnitudes [F, M], state [1, U]."""
    decoder = open_decoder(bundle)
    mfcc = FrameQueue(Instrument(bundle).timbre([played.sound])).take(len(played.f0_hz))
    controls = decoder.controls(played.f0_hz, played.level_db, mfcc)
    return controls | {"state": decoder.state[None]}


def expected_audio(bundle: Bundle, played: Phrase, room: bool) -> np.ndarray:
    """[S] by the runtime. Its noise is that of `phrase`, which draws from the same seed."""
    instrument = Instrument(bundle)
    timbre = instrument.timbre([played.sound])
    return np.concatenate(list(instrument.render(played.f0_hz, played.level_db, seed=0, room=room, timbre=timbre)))


def two_digits(value: float) -> float:
    """Rounded for a report."""
    return float(f"{value:.2g}")


def controls_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Largest absolute difference over all controls and the final state.

    Raises:
      OutputError: it is more than an export may have.
    """
    differences = [
        float(np.abs(found[name].reshape(value.shape) - value).max()) if np.isfinite(found[name]).all() else np.inf
        for name, value in expected.items()
    ]
    worst = max(differences)
    if not worst <= CONTROLS_TOLERANCE:
        raise OutputError(
            f"the exported model's controls differ from the instrument's by {worst:.2g}; nothing was kept"
        )
    return two_digits(worst)


def audio_difference_db(found: np.ndarray, expected: np.ndarray) -> float:
    """Peak difference in dB of the peak.

    Raises:
      OutputError: it is more than an export may have.
    """
    difference = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-9)
    found_db = float(20.0 * np.log10(max(difference, 1e-9))) if np.isfinite(difference) else np.inf
    if not found_db <= AUDIO_TOLERANCE_DB:
        raise OutputError(f"the exported model differs from the instrument by {found_db:.1f} dB; nothing was kept")
    return round(found_db, 1)


def _clear_of_nyquist(bundle: Bundle, f0_hz: np.ndarray) -> np.ndarray:
    """[F], moved by a hair where a harmonic lies so close to half the sample rate that rounding decides about it."""
    harmonic, _ = synthesisers(bundle.card.model)
    k = np.arange(1, harmonic.n_harmonics + 1)
    relative = f0_hz[:, None] * k / (bundle.card.model.sample_rate_hz / 2.0) - 1.0
    return np.where((np.abs(relative) < 1e-5).any(axis=1), f0_hz * 1.00005, f0_hz)
