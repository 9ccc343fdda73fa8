"""Transcribe a performance into notes, and write them as MIDI or as a table. Shapes: F frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.adaptation import NOTE_SUFFIXES, f0_cleanup
from ddsp_cli.adaptation.autotune import centre, find_tuning
from ddsp_cli.adaptation.midi import BEND_SEMITONES, DRUM_CHANNEL, VELOCITY_PERCENTILES
from ddsp_cli.adaptation.segmentation import Segments, find_notes, nearest_note
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import DoubleArray, RealArray, percentiles
from ddsp_cli.atomic import beside, writing
from ddsp_cli.audio.write import check_writable
from ddsp_cli.errors import UsageError
from ddsp_cli.pitch_names import note_name

#: Shorter notes are ornaments or errors, and belong to the note before.
SHORTEST_S = 0.05

#: Frequencies of vibrato, in notes that hold two swings; narrower ones than `LEAST_VIBRATO_CENTS` do not count.
VIBRATO_HZ = (4.0, 8.5)

LEAST_VIBRATO_CENTS = 8.0

#: Interval of pitch bends: a swing of vibrato has 15 to 20 of them.
BEND_S = 0.01

#: A tick of the MIDI files that are written is a millisecond: 500 ticks a beat, 120 beats a minute.
TICKS_PER_BEAT, TEMPO_US = 500, 500_000


@dataclass(frozen=True)
class Note:
    """One note of a performance.

    Attributes:
      start_s, stop_s: when it sounds.
      midi: number of the nearest semitone in the performance's own tuning.
      cents: by how much its median pitch lies above that semitone at A = 440 Hz.
      level_db: median power in dBFS.
      velocity: 1 to 127, by where its level lies among those of the performance.
      vibrato_hz, vibrato_cents: frequency and amplitude of its vibrato; 0 where it has none.
    """

    start_s: float
    stop_s: float
    midi: int
    cents: float
    level_db: float
    velocity: int
    vibrato_hz: float
    vibrato_cents: float


@dataclass(frozen=True)
class Transcription:
    """The notes of a performance and its pitch inside them.

    Attributes:
      notes: in order, none over another.
      pitch_midi: [F], NaN outside notes.
      frame_rate_hz: frames per second.
      repaired_midi: [F], pitch without the errors of the tracker, also between notes; NaN where there is none.
      levels_db: [101], percentiles of the level of the performance.
    """

    notes: tuple[Note, ...]
    pitch_midi: DoubleArray
    frame_rate_hz: int
    repaired_midi: DoubleArray
    levels_db: RealArray


def transcribe(features: Features, segments: Segments) -> Transcription:
    """Finds the notes of a performance.

    A note that is repeated without a gap or another pitch between is one note.

    Args:
      features: of the performance.
      segments: found in them.
    """
    rate_hz = features.spec.frame_rate_hz
    midi = f0_cleanup.repair(
        f0_cleanup.to_midi(features.f0_hz), segments, rate_hz, features.f0_confidence, features.loudness_db
    )
    tuning = find_tuning(centre(midi, rate_hz))
    found = find_notes(midi, rate_hz, tuning)
    owner = nearest_note(found, midi)
    power_db = features.power_db
    own_db = percentiles(power_db[segments.voiced], np.arange(101)) if segments.voiced.any() else np.zeros(101)
    pitch_midi = np.full(len(features), np.nan)
    notes: list[Note] = []
    by_note = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[by_note], np.arange(len(found) + 1))
    for i, semitone in enumerate(found.semitone.tolist()):
        frames = by_note[edges[i] : edges[i + 1]]
        if len(frames) < SHORTEST_S * rate_hz:
            continue
        start, stop = int(frames[0]), int(frames[-1]) + 1
        pitch_midi[start:stop] = midi[start:stop]
        level_db = float(percentiles(power_db[start:stop], 50.0))
        vibrato_hz, vibrato_cents = measure_vibrato(midi[found.starts[i] : found.stops[i]], rate_hz)
        notes.append(
            Note(
                start_s=start / rate_hz,
                stop_s=stop / rate_hz,
                midi=semitone,
                cents=100.0 * (float(found.centre_midi[i]) - semitone),
                level_db=level_db,
                velocity=_velocity(level_db, own_db),
                vibrato_hz=vibrato_hz,
                vibrato_cents=vibrato_cents,
            )
        )
    return Transcription(tuple(notes), pitch_midi, rate_hz, midi, own_db)


def _velocity(level_db: float, own_db: RealArray) -> int:
    """The velocity that `midi.velocity_db` plays at the same percentile of an instrument's levels."""
    low, high = VELOCITY_PERCENTILES
    share = (float(np.interp(level_db, own_db, np.arange(101))) - low) / (high - low)
    return round(1.0 + 126.0 * min(max(share, 0.0), 1.0))


def level_of_velocity(velocity: int, own_db: RealArray) -> float:
    """The level of a velocity of 1 to 127, the inverse of how velocities are chosen; `own_db` [101] as there."""
    low, high = VELOCITY_PERCENTILES
    return float(np.interp(low + (velocity - 1) / 126.0 * (high - low), np.arange(101), own_db))


def measure_vibrato(midi: RealArray, frame_rate_hz: int) -> tuple[float, float]:
    """Measures the vibrato of a note: the strongest frequency of its pitch within `VIBRATO_HZ`.

    Args:
      midi: [F], pitch of one note.
      frame_rate_hz: frames per second.

    Returns:
      Its frequency in Hz and its amplitude in cents, both 0 where there is none.
    """
    if len(midi) < 2.0 / VIBRATO_HZ[0] * frame_rate_hz:
        return 0.0, 0.0
    times = np.arange(len(midi), dtype=np.float64)
    swing = midi - np.polyval(np.polyfit(times, midi, 2), times)
    window = np.hanning(len(midi) + 2)[1:-1]
    spectrum = np.abs(np.fft.rfft(swing * window, 8 * len(midi))) * 2.0 / window.sum()
    frequencies_hz = np.arange(len(spectrum)) * frame_rate_hz / (8 * len(midi))
    inside = (frequencies_hz >= VIBRATO_HZ[0]) & (frequencies_hz <= VIBRATO_HZ[1])
    best = int(np.argmax(np.where(inside, spectrum, 0.0)))
    cents = 100.0 * float(spectrum[best])
    if cents < LEAST_VIBRATO_CENTS or not 0 < best < len(spectrum) - 1 or spectrum[best] < spectrum[best - 1]:
        return 0.0, 0.0
    return float(frequencies_hz[best]), cents


def write_notes(path: Path, transcription: Transcription | Sequence[Transcription], force: bool = False) -> None:
    """Writes notes as a MIDI file (velocity, pitch bends for tuning, vibrato and slides) or as a CSV table.

    Args:
      path: ends in .mid, .midi or .csv.
      transcription: what to write; of several voices each has a track and a channel of its own.
      force: replace an existing file.

    Raises:
      UsageError: another suffix.
      OutputError: the file exists or cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in NOTE_SUFFIXES:
        raise UsageError(f"{path} is neither .mid nor .csv")
    check_writable(path, force)
    voices = [transcription] if isinstance(transcription, Transcription) else list(transcription)
    with writing(path), beside(path) as part:
        if suffix == ".csv":
            notes = sorted((note for voice in voices for note in voice.notes), key=lambda note: note.start_s)
            part.write_text(_table(notes), encoding="utf-8")
        else:
            _write_midi(part, voices)


def _table(notes: Sequence[Note]) -> str:
    lines = ["number,start_s,length_s,note,midi,cents,level_db,velocity,vibrato_hz,vibrato_cents"]
    lines += [
        f"{i},{note.start_s:.3f},{note.stop_s - note.start_s:.3f},{note_name(note.midi)},{note.midi},{note.cents:.0f},"
        f"{note.level_db:.1f},{note.velocity},{note.vibrato_hz:.1f},{note.vibrato_cents:.0f}"
        for i, note in enumerate(notes, start=1)
    ]
    return "\n".join(lines) + "\n"


def _write_midi(path: Path, voices: Sequence[Transcription]) -> None:
    import mido

    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for i, voice in enumerate(voices):
        file.tracks.append(_midi_track(voice, channels[min(i, len(channels) - 1)]))
    file.save(str(path))


def _midi_track(transcription: Transcription, channel: int) -> Any:
    """The notes of one voice as a track of mido."""
    import mido

    rate_hz = transcription.frame_rate_hz
    events: list[tuple[int, int, mido.Message]] = []  # milliseconds, order, message
    for note in transcription.notes:
        start, stop = round(note.start_s * rate_hz), round(note.stop_s * rate_hz)
        start_ms, stop_ms = round(1000 * note.start_s), round(1000 * note.stop_s)
        step = max(1, round(BEND_S * rate_hz))
        last = None
        for frame in range(start, stop, step):
            off = transcription.pitch_midi[frame] - note.midi
            if np.isnan(off):
                continue
            wheel = int(np.clip(round(8192 * off / BEND_SEMITONES), -8192, 8191))
            if wheel != last:
                events.append(
                    (round(1000 * frame / rate_hz), 1, mido.Message("pitchwheel", pitch=wheel, channel=channel))
                )
            last = wheel
        events.append((start_ms, 2, mido.Message("note_on", note=note.midi, velocity=note.velocity, channel=channel)))
        events.append((stop_ms, 0, mido.Message("note_off", note=note.midi, channel=channel)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO_US)])
    now_ms = 0
    for at_ms, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=at_ms - now_ms))
        now_ms = at_ms
    return track
