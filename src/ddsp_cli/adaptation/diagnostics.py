"""Classify a performance (one voice, several voices, speech, no pitch) and build the warnings that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.autotune import centre, find_tuning
from ddsp_cli.adaptation.segmentation import Segments, find_notes
from ddsp_cli.analysis import harmonicity
from ddsp_cli.analysis.extract import BEGINNING_S, PITCHED_SHARE, Analysis, pitched_share
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import FloatArray, RealArray, runs, thinned
from ddsp_cli.bundle import Statistics
from ddsp_cli.bundle.card import heard_ranges_midi, say_ranges
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.scaling import hz_to_midi

#: Classes of a performance. `unclear` has traits of speech, of a room and of several voices.
Character = Literal["monophonic", "polyphonic", "speech", "unclear", "unpitched"]

#: Share of the frames with much energy beside the harmonics: from the first figure on it is unclear why, from the
#: second on there are several voices. Of 30 mixtures of two recordings a quarter has less than 0.46; 46 recordings of
#: one voice or instrument have 0.08 at most, in made rooms of 2 s reverberation 9 of 10 less than 0.12.
UNCLEAR_SHARE, POLYPHONIC_SHARE = 0.2, 0.45

#: In speech pitch never stays: less than this share of the time lies in stretches of `STEADY_S` in which the centre
#: moves more slowly than `STEADY_SEMITONES_PER_S`, below the first figure surely, below the second perhaps. Singers
#: have 0.49 to 0.93, with and without rooms, a calm reader 0.31 to 0.37.
SPEECH_STEADY_SHARE, UNCLEAR_STEADY_SHARE = 0.36, 0.42

STEADY_S = 0.12

STEADY_SEMITONES_PER_S = 4.0

#: And less than this share in notes of `HELD_S` and more. Singers have 0.58 to 1, a calm reader 0.06 to 0.38.
SPEECH_NOTE_SHARE, HELD_S = 0.45, 0.2

#: And less than this share moves so slowly at all: short notes between rests have 0.91 and more, a calm reader 0.75.
SPEECH_SLOW_SHARE = 0.82

#: Nothing is said of less pitch than this.
SHORTEST_S = 1.0

#: From this share of the time on it is said that notes lie beyond what the instrument heard (`bundle.card`), a
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
    """Builds sentences about what makes an analysed recording hard to follow; none for one clear voice, or silence."""
    if analysis.character == "silent":
        return ()
    character: Character
    if analysis.character == "pitched":
        character = classify(analysis.features, analysis.segments, analysis.beginning)
    else:
        character = analysis.character
    return (_WARNINGS[character],) if character in _WARNINGS else ()


def range_warnings(f0_hz: Sequence[FloatArray], statistics: Statistics, instrument: str) -> tuple[str, ...]:
    """Builds a sentence if much of what is played lies beyond what the instrument learned from, also in a gap of it.

    Args:
      f0_hz: what is played, [F] for each voice.
      statistics: of the instrument.
      instrument: its name.
    """
    midi = hz_to_midi(np.concatenate([thinned(one) for one in f0_hz]))
    if not len(midi):
        return ()
    beyond = np.ones(len(midi), bool)
    for lowest, highest in heard_ranges_midi(statistics):
        beyond &= (midi < lowest - RANGE_MARGIN_SEMITONES) | (midi > highest + RANGE_MARGIN_SEMITONES)
    share = float(beyond.mean())
    if share < BEYOND_SHARE:
        return ()
    where = f"the range of {instrument}, {say_ranges(statistics)}"
    return (f"{share:.0%} of the notes lie beyond {where}: there it guesses; transpose it, or take another instrument",)


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
    steady = steady_share(midi, rate_hz)
    spoken = (
        steady < UNCLEAR_STEADY_SHARE
        and steady_share(midi, rate_hz, 0.0) < SPEECH_SLOW_SHARE
        and note_share(midi, rate_hz) < SPEECH_NOTE_SHARE
    )
    if beside > POLYPHONIC_SHARE and not spoken:
        return "polyphonic"
    if beside > UNCLEAR_SHARE:
        return "unclear"
    if spoken:
        return "speech" if steady < SPEECH_STEADY_SHARE else "unclear"
    return "monophonic"


def steady_share(midi: RealArray, frame_rate_hz: int, shortest_s: float = STEADY_S) -> float:
    """Measures the share of a melody that lies where pitch is held.

    Args:
      midi: [F], NaN where there is no pitch.
      frame_rate_hz: frames per second.
      shortest_s: stretches shorter than that do not count.
    """
    known = ~np.isnan(midi)
    if known.sum() < 2:
        return 1.0
    middle = centre(midi, frame_rate_hz)
    held = np.abs(np.gradient(middle)) * frame_rate_hz < STEADY_SEMITONES_PER_S
    starts, stops = runs(held & known)
    lengths = stops - starts
    return float(lengths[lengths >= shortest_s * frame_rate_hz].sum() / known.sum())


def note_share(midi: RealArray, frame_rate_hz: int) -> float:
    """Measures the share of a melody [F] (NaN where there is no pitch) that lies in notes of `HELD_S` and more."""
    n_known = np.count_nonzero(~np.isnan(midi))
    lengths = find_notes(midi, frame_rate_hz, find_tuning(midi)).n_frames
    return float(lengths[lengths >= HELD_S * frame_rate_hz].sum() / max(n_known, 1))


def polyphonic_share(f0_hz: FloatArray, frame_rate_hz: int, audio: FloatArray) -> float:
    """Measures the share of the sounding frames with more energy beside the harmonics than one voice has.

    Args:
      f0_hz: [F], 0 where there is no pitch.
      frame_rate_hz: frames per second.
      audio: [S] at 16 kHz.
    """
    audio = audio[: round(BEGINNING_S * ANALYSIS_RATE_HZ)]
    found = harmonicity.measure_harmonicity(lambda start, stop: audio[start:stop], len(audio), f0_hz, frame_rate_hz)
    sounding = found.energy > 1e-4 * found.energy.max(initial=0.0)
    if not sounding.any():
        return 0.0
    return float(np.mean(found.average_inharmonic_ratio()[sounding] > harmonicity.POLYPHONIC_RATIO))
