"""Classify a performance (one voice, several voices, speech, no pitch) and build the warnings that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis import harmonics
from ddsp_cli.analysis.extract import BEGINNING_S, PITCHED_SHARE, Analysis, pitched_share
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.melody import judge_manner
from ddsp_cli.arrays import FloatArray, thinned
from ddsp_cli.bundle import Statistics
from ddsp_cli.bundle.card import describe_ranges, learned_ranges_midi
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.scaling import hz_to_midi

#: Classes of a performance. `unclear` has traits of speech, of a room and of several voices.
Character = Literal["monophonic", "polyphonic", "speech", "unclear", "unpitched"]

#: Share of the frames with much energy beside the harmonics: from the first figure on it is unclear why, from the
#: second on there are several voices. Of 30 mixtures of two recordings a quarter has less than 0.46; 46 recordings of
#: one voice or instrument have 0.08 at most, and 9 of 10 of them less than 0.12 in simulated rooms with 2 s of
#: reverberation.
UNCLEAR_SHARE, POLYPHONIC_SHARE = 0.2, 0.45

#: No warning is given if less than this has a pitch.
SHORTEST_S = 1.0

#: From this share of the time on a warning says that notes are outside the range of the instrument (`bundle.card`), a
#: semitone wider at both ends.
BEYOND_SHARE, RANGE_MARGIN_SEMITONES = 0.05, 1.0

CHORDS = (
    "it sounds like several voices or chords, of which the strongest was followed; "
    "voices lead keeps to one over its accompaniment, voices chords plays all"
)

NOISE = "most of it has no clear pitch, as in noise or whispering; the instrument is silent there"

SPEECH = "it sounds like speech, which has no steady pitch; sing or hum, or use autotune 1"

UNCLEAR = "it may be speech, a reverberant room or several voices; a single voice in a dry room works best"

_WARNINGS: dict[Character, str] = {"polyphonic": CHORDS, "speech": SPEECH, "unclear": UNCLEAR, "unpitched": NOISE}


def warnings(analysis: Analysis[Segments]) -> tuple[str, ...]:
    """Builds warnings about an analysed recording; empty for one clear voice, or silence."""
    if analysis.character == "silent":
        return ()
    character: Character
    features = analysis.features
    if analysis.character == "pitched":
        character = classify(features, analysis.segments, analysis.beginning)
    else:
        character = analysis.character
        if character == "polyphonic":  # or one voice that the tracker lost: very short notes, a sine
            beside = polyphonic_share(features.f0_hz, features.spec.frame_rate_hz, analysis.beginning)
            character = "polyphonic" if beside > UNCLEAR_SHARE else "monophonic"
    return (_WARNINGS[character],) if character in _WARNINGS else ()


def range_warnings(f0_hz: Sequence[FloatArray], statistics: Statistics, instrument: str) -> tuple[str, ...]:
    """Builds a warning if many notes are outside the range of an instrument's recordings, or in a gap of that range.

    Args:
      f0_hz: of the performance, [F] for each voice.
      statistics: of the instrument.
      instrument: its name.
    """
    midi = hz_to_midi(np.concatenate([thinned(one) for one in f0_hz]))
    if not len(midi):
        return ()
    beyond = np.ones(len(midi), bool)
    for lowest, highest in learned_ranges_midi(statistics):
        beyond &= (midi < lowest - RANGE_MARGIN_SEMITONES) | (midi > highest + RANGE_MARGIN_SEMITONES)
    share = float(beyond.mean())
    if share < BEYOND_SHARE:
        return ()
    where = f"the range of {instrument}, {describe_ranges(statistics)}"
    advice = "transpose the melody, or choose another instrument"
    return (f"{share:.0%} of the notes lie outside {where}: their tone is extrapolated; {advice}",)


def classify(features: Features, segments: Segments, audio: FloatArray) -> Character:
    """Classifies a performance that a tracker of single pitches follows.

    Args:
      features: of the performance.
      segments: found in it.
      audio: [S] at 16 kHz, the performance or its beginning.
    """
    rate_hz = features.spec.frame_rate_hz
    if pitched_share(features, segments.voiced) < PITCHED_SHARE:
        return "unpitched"
    n_frames = min(len(features), -(-len(audio) // features.spec.hop_samples))
    midi = np.where(segments.voiced[:n_frames], f0_cleanup.to_midi(features.f0_hz[:n_frames]), np.nan)
    if np.count_nonzero(~np.isnan(midi)) < SHORTEST_S * rate_hz:
        return "monophonic"
    beside = polyphonic_share(features.f0_hz[:n_frames], rate_hz, audio)
    manner = judge_manner(midi, rate_hz)
    if beside > POLYPHONIC_SHARE and manner == "sung":
        return "polyphonic"
    if beside > UNCLEAR_SHARE or manner == "unclear":
        return "unclear"
    return "speech" if manner == "spoken" else "monophonic"


def polyphonic_share(f0_hz: FloatArray, frame_rate_hz: int, audio: FloatArray) -> float:
    """Measures the share of the sounding frames with more energy beside the harmonics than one voice has.

    Args:
      f0_hz: [F], 0 where there is no pitch.
      frame_rate_hz: frames per second.
      audio: [S] at 16 kHz.
    """
    audio = audio[: round(BEGINNING_S * ANALYSIS_RATE_HZ)]
    found = harmonics.measure_harmonicity(lambda start, stop: audio[start:stop], len(audio), f0_hz, frame_rate_hz)
    sounding = found.energy > 1e-4 * found.energy.max(initial=0.0)
    if not sounding.any():
        return 0.0
    return float(np.mean(found.average_inharmonic_ratio()[sounding] > harmonics.POLYPHONIC_RATIO))
