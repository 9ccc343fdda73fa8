"""Classification of the input: one voice, several voices, speech, no pitch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.adaptation import diagnostics
from ddsp_cli.adaptation.adapt import AdaptSettings, adapt
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import measure
from ddsp_cli.audio import read
from fixtures import melody
from performance_fixtures import STATISTICS, babble, performance

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "audio" / "input"


def tone(midi, seconds=3.0):
    t = np.arange(round(seconds * 16000)) / 16000
    f0_hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * f0_hz * k * t) / k for k in range(1, 6)) * np.sin(np.pi * t / seconds)


def character(audio):
    features = measure(audio.astype(np.float32))
    return diagnostics.classify(features, find_segments(features), audio.astype(np.float32))


def in_a_room(audio, seconds=1.0, wet=0.5):
    """The sound and its reverberation, exponentially decaying noise."""
    n = round(seconds * 16000)
    response = np.random.default_rng(1).normal(size=n) * 10.0 ** (-3.0 * np.arange(n) / n)
    response *= wet / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    size = len(audio) + n
    return np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)


def test_one_clear_voice_is_monophonic_in_rooms_too():
    for audio in (melody(), 0.1 * tone(62)):
        assert character(audio) == character(in_a_room(audio)) == "monophonic"


def test_speech_chords_and_noise_are_distinguished():
    assert character(babble()) == character(in_a_room(babble(), 0.6)) == "speech"
    assert character(babble(moving=0.5)) == "speech"  # pitch is held in the second half of each syllable
    assert character(0.05 * np.random.default_rng(0).normal(size=32000)) == "unpitched"
    # A voice over another one: a tracker follows the louder.
    assert character(0.1 * tone(62) + 0.06 * tone(66.3)) == "polyphonic"


def test_what_is_unsure_is_called_so():
    """A second voice in a third of the time, and speech over a tone."""
    audio = 0.1 * tone(62)
    audio[16000:30000] += 0.08 * tone(66.3)[16000:30000]
    assert character(audio) == "unclear"
    assert character(babble() + 0.05 * tone(66.3, 5.0)[: len(babble())]) in {"unclear", "polyphonic"}


def test_a_held_note_with_wide_vibrato_is_no_speech():
    t = np.arange(48000) / 16000
    phase = 2 * np.pi * np.cumsum(220.0 * 2 ** (np.sin(2 * np.pi * 5.5 * t) / 12.0)) / 16000
    audio = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))
    assert character(audio) == "monophonic"


def test_an_ornamented_legato_line_is_no_speech():
    """Pitch that moves as much as in speech, without pauses."""
    t = np.arange(64000) / 16000
    midi = 57 + 3 * np.sin(2 * np.pi * 0.9 * t) + 2 * np.sin(2 * np.pi * 2.3 * t + 1)
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((midi - 69) / 12)) / 16000
    assert character(0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))) == "monophonic"


def test_staccato_is_no_speech():
    notes = [np.pad(0.1 * tone(60 + step, 0.11), (0, 2400)) for step in (0, 4, 7, 5, 2, 4, 0, 7, 9, 11, 12, 7)]
    assert character(np.concatenate(notes)) == "monophonic"


def test_nothing_is_said_of_less_than_a_second():
    assert character(babble(0.9)) == "monophonic"
    assert character(0.1 * tone(62, 0.8) + 0.06 * tone(66.3, 0.8)) == "monophonic"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs the recordings in ../shared/audio/input")
@pytest.mark.parametrize(
    ("name", "what"), [("speech-male", "speech"), ("vocadito_10", "monophonic"), ("solo-trumpet", "monophonic")]
)
def test_a_reader_and_a_singer_are_distinguished(name, what):
    audio = read.read_mono(RECORDINGS / f"{name}.flac")
    assert character(audio) == what
    if what == "monophonic":
        assert character(in_a_room(audio[:160000], 1.5)) == what


def test_notes_beyond_the_range_are_counted():
    low, high = STATISTICS.pitch_midi[1], STATISTICS.pitch_midi[99]
    middle, above = (low + high) / 2, high + 5.0
    features = performance(250, notes=((0.5, 2.5, middle), (2.7, 3.2, above)))
    adapted = adapt(features, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    (said,) = diagnostics.range_warnings([adapted.f0_hz[adapted.segments.voiced]], STATISTICS, "flute")
    assert said.startswith("20% of the notes lie outside the range of flute")
    within = performance(250, notes=((0.5, 2.5, middle), (2.7, 3.2, high)))
    adapted = adapt(within, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    assert diagnostics.range_warnings([adapted.f0_hz[adapted.segments.voiced]], STATISTICS, "flute") == ()
