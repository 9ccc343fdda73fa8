"""What kind of sound a performance is: one voice that sings, or speech, chords, noise, for which one has to be told."""

from __future__ import annotations

import numpy as np

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.autotune import centre
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis import harmonicity
from ddsp_cli.analysis.extract import BEGINNING_S, PITCHED_SHARE, Analysis, pitched_share
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import runs
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: Speech never rests on a pitch: less than this share of it lies in stretches of `STEADY_S` whose centre moves more
#: slowly than `STEADY_SEMITONES_PER_S`. Four singers and a trumpet have 0.52 to 0.89, a calm reader 0.31.
SPEECH_STEADY_SHARE = 0.36

STEADY_S = 0.12

STEADY_SEMITONES_PER_S = 4.0

#: More than this share of the looks finds energy beside the harmonics: chords, or something in the background.
CHORDS_SHARE = 0.2

CHORDS = "it sounds like several voices or chords; one line can be played, the strongest voice was followed"

NOISE = "little of it has a clear pitch, like noise or whispering; there the instrument rests"

SPEECH = "it sounds like speech, whose pitch never rests; sing or hum for a melody, or try autotune 1"


def warnings(analysis: Analysis[Segments]) -> tuple[str, ...]:
    """Sentences about what makes an analysed recording hard to follow; none for one clear voice, or for silence."""
    if analysis.character == "silent":
        return ()
    if analysis.character == "polyphonic":
        return (CHORDS,)
    if analysis.character == "unpitched":
        return (NOISE,)
    return tuple(remarks(analysis.features, analysis.segments, analysis.beginning))


def remarks(features: Features, segments: Segments, audio: np.ndarray) -> list[str]:
    """Sentences about what makes a performance hard to follow; none for one clear voice.

    Args:
      features: of the performance.
      segments: found in it.
      audio: [S] at 16 kHz, the performance or its beginning.
    """
    rate_hz = features.spec.frame_rate_hz
    n_frames = min(len(features), -(-len(audio) // features.spec.hop_samples))
    if several_voices(features.f0_hz[:n_frames], rate_hz, audio):
        return [CHORDS]
    if pitched_share(features, segments.voiced) < PITCHED_SHARE:
        return [NOISE]
    midi = np.where(segments.voiced, f0_cleanup.to_midi(features.f0_hz), np.nan)[:n_frames]
    if steady_share(midi, rate_hz) < SPEECH_STEADY_SHARE:
        return [SPEECH]
    return []


def steady_share(midi: np.ndarray, frame_rate_hz: int) -> float:
    """Share of the frames with pitch ([F], NaN without) that lie where a note is held."""
    known = ~np.isnan(midi)
    if known.sum() < 2:
        return 1.0
    middle = centre(midi, frame_rate_hz)
    held = np.abs(np.gradient(middle)) * frame_rate_hz < STEADY_SEMITONES_PER_S
    starts, stops = runs(held & known)
    lengths = stops - starts
    return float(lengths[lengths >= STEADY_S * frame_rate_hz].sum() / known.sum())


def several_voices(f0_hz: np.ndarray, frame_rate_hz: int, audio: np.ndarray) -> bool:
    """Whether much of the energy lies beside the harmonics of the pitch.

    Args:
      f0_hz: [F], 0 where there is no pitch.
      frame_rate_hz: of it.
      audio: [S] at 16 kHz.
    """
    audio = audio[: round(BEGINNING_S * ANALYSIS_RATE_HZ)]
    found = harmonicity.measure_harmonicity(lambda start, stop: audio[start:stop], len(audio), f0_hz, frame_rate_hz)
    sounding = found.energy > 1e-4 * found.energy.max(initial=0.0)
    if not sounding.any():
        return False
    return bool(np.mean(found.average_inharmonic_ratio()[sounding] > harmonicity.POLYPHONIC_RATIO) > CHORDS_SHARE)
