"""Verification of exports: a test phrase, the instrument's own controls and sound of it, and the tolerances.

Shapes: F frames, S samples, H hop in samples, K harmonics, M noise bands, U recurrent units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import OutputError
from ddsp_cli.exporters.audio_graph import synthesisers
from ddsp_cli.synthesis.decoder import FrameQueue
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.stream import open_decoder
from ddsp_cli.synthesis.synths import white_noise

#: Largest difference of a control and of the recurrent state, absolute.
CONTROLS_TOLERANCE = 1e-4

#: Largest difference of the sound, relative to its peak.
AUDIO_TOLERANCE_DB = -60.0

#: Length of the test phrase.
CHECKED_FRAMES = 200


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes:
      checks: figures of the verification by name.
      contract: file → `inputs` and `outputs` → name → shape.
    """

    checks: dict[str, float]
    contract: dict[str, Any]


@dataclass(frozen=True)
class Phrase:
    """A phrase through most of an instrument's range.

    Attributes:
      f0_hz, level_db: [F].
      noise: [F, H].
      sound: [S] at 16 kHz, whose timbre an encoder follows.
    """

    f0_hz: FloatArray
    level_db: FloatArray
    noise: FloatArray
    sound: FloatArray


def phrase(bundle: Bundle, n_frames: int = CHECKED_FRAMES) -> Phrase:
    """Makes the test phrase, the same at each call."""
    model, statistics = bundle.card.model, bundle.card.statistics
    swing = np.sin(np.linspace(0, 6 * np.pi, n_frames))
    pitch_midi = np.interp(50 + 40 * swing, np.arange(101), statistics.pitch_midi)
    level_db = np.interp(60 + 35 * swing[::-1], np.arange(101), statistics.level(model.level))
    f0_hz = _clear_of_nyquist(bundle, np.asarray(scaling.midi_to_hz(pitch_midi)))
    noise = white_noise(np.random.default_rng(0), n_frames, model.hop_samples)
    sound = np.cumsum(white_noise(np.random.default_rng(1), n_frames, ANALYSIS_RATE_HZ // model.frame_rate_hz)) / 100
    return Phrase(np.asarray(f0_hz, np.float32), level_db.astype(np.float32), noise, sound.astype(np.float32))


def expected_controls(bundle: Bundle, played: Phrase) -> dict[str, FloatArray]:
    """Computes the controls of the phrase with the player.

    Returns:
      `amplitude` [F, 1], `harmonic_distribution` [F, K], `noise_magnitudes` [F, M], and the last `state` [1, U].
    """
    decoder = open_decoder(bundle)
    mfcc = FrameQueue(Instrument(bundle).timbre([played.sound])).take(len(played.f0_hz))
    controls = decoder.controls(played.f0_hz, played.level_db, mfcc)
    return controls | {"state": decoder.state[None]}


def expected_audio(bundle: Bundle, played: Phrase, room: bool) -> FloatArray:
    """Renders the phrase with the player, [S]. Its noise is that of `phrase`, which draws from the same seed."""
    instrument = Instrument(bundle)
    timbre = instrument.timbre([played.sound])
    rendered = instrument.render(
        played.f0_hz, played.level_db, seed=0, room=room, timbre=timbre, variation=False, articulation=False
    )  # a graph has neither
    return np.concatenate(list(rendered))


def two_digits(value: float) -> float:
    """Rounds to two significant digits."""
    return float(f"{value:.2g}")


def controls_difference(found: dict[str, FloatArray], expected: dict[str, FloatArray]) -> float:
    """Finds the largest absolute difference over all controls and the last state.

    Raises:
      OutputError: it exceeds the tolerance.
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


#: The difference that is given for equal sounds.
LEAST_DIFFERENCE_DB = -180.0


def audio_difference_db(found: FloatArray, expected: FloatArray) -> float:
    """Measures the largest difference of two sounds [S] in dB, relative to the peak of the expected one.

    It is at least `LEAST_DIFFERENCE_DB`.

    Raises:
      OutputError: it exceeds the tolerance.
    """
    difference = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-9)
    least = 10.0 ** (LEAST_DIFFERENCE_DB / 20.0)
    found_db = float(20.0 * np.log10(max(difference, least))) if np.isfinite(difference) else np.inf
    if not found_db <= AUDIO_TOLERANCE_DB:
        raise OutputError(f"the exported model differs from the instrument by {found_db:.1f} dB; nothing was kept")
    return round(found_db, 1)


def _clear_of_nyquist(bundle: Bundle, f0_hz: FloatArray) -> FloatArray:
    """Moves pitches [F] by 0.005 % where rounding decides whether a harmonic is below half the sample rate."""
    harmonic, _ = synthesisers(bundle.card.model)
    k = np.arange(1, harmonic.n_harmonics + 1)
    relative = f0_hz[:, None] * k / (bundle.card.model.sample_rate_hz / 2.0) - 1.0
    return np.where((np.abs(relative) < 1e-5).any(axis=1), f0_hz * 1.00005, f0_hz)
