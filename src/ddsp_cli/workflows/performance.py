"""One performance: how it is adapted and rendered, an input analysed and adapted to an instrument, and its sound.

Shapes: S samples, F frames.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from ddsp_cli import spool
from ddsp_cli.adaptation import autotune, diagnostics
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.adaptation.ensemble import Seat, make_section, pan_gains
from ddsp_cli.adaptation.f0_cleanup import confirm_leaps
from ddsp_cli.adaptation.segmentation import Segments, SegmentSettings, find_segments
from ddsp_cli.analysis.extract import Analysis, analyze
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.recording_checks import ClippingWatch, file_warnings
from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import read
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.audio.recording import FileRecording, Recording
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import Fit
from ddsp_cli.config import ANALYSIS_RATE_HZ, FLOOR_DB, FeatureSpec
from ddsp_cli.errors import InputError, Kind, UsageError, closest, did_you_mean
from ddsp_cli.synthesis.instrument import BLOCK_FRAMES, Instrument
from ddsp_cli.synthesis.reverb import Room, tail_s
from ddsp_cli.synthesis.variation import variation_of
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import number, number_or_word, whole_number, word
from ddsp_cli.workflows.transfer_plan import Job

# Modules that only some inputs need are imported where they are used: each takes 3 to 8 ms of a start.
if TYPE_CHECKING:
    from ddsp_cli.adaptation.midi import Part, Selection
    from ddsp_cli.adaptation.notes import Transcription
    from ddsp_cli.analysis.polyphony import NoteShare, PolyNote

# --- options ---------------------------------------------------------------------------------------------------------

Voices = Literal["auto", "chords", "lead"]

VOICES: tuple[Voices, ...] = ("auto", "chords", "lead")

#: Seconds that autotune takes from note to note.
DEFAULT_RETUNE_S = AdaptSettings().retune_s

#: Lowest and highest value of each option that is a number.
RANGES: dict[str, tuple[float, float]] = {
    "transpose": (-60.0, 60.0),
    "dynamics": (0.0, 1.0),
    "loudness": (-40.0, 40.0),
    "autotune": (0.0, 1.0),
    "tuning": (400.0, 480.0),
    "retune": (0.0, 1.0),
    "vibrato": (0.0, 3.0),
    "glide": (0.0, 1.0),
    "threshold": (3.0, 80.0),
    "wet": (0.0, models.MOST_WET),
    "formant": (-24.0, 24.0),
    "loudness_match": (-70.0, 0.0),
    "ensemble": (1, 24),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class TransferOptions:
    """Options of adapting a performance to an instrument and rendering it, the same for files and arrays.

    Attributes:
      adapt: how it is adapted.
      tracker: the pitch tracker.
      room: `model`, `none`, an instrument's name, or a sound file with an impulse response.
      wet: gain of the room; 1 is as learned or recorded.
      formant_semitones: shift of the instrument's resonances; pitch and level stay.
      loudness_match: integrated loudness of the output in LUFS; `input` for that of the input (plus
        `adapt.louder_db`), `off` for the level of the instrument.
      tail: continue the output until the room is 60 dB down.
      voices: `chords` plays every note, each in a separate voice; `lead` plays one line, of a recording the main voice
        over its accompaniment; `auto` plays every note of a MIDI file, and of a recording the pitch of a tracker.
      selection: tracks and channels of a MIDI file; None for all.
      n_players: number of players of the same part; from two on the output is stereo.
      seed: of noise and dither.
    """

    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    tracker: str = trackers.DEFAULT_TRACKER
    room: str = "model"
    wet: float = 1.0
    formant_semitones: float = 0.0
    loudness_match: float | Literal["input", "off"] = "input"
    tail: bool = False
    voices: Voices = "auto"
    selection: Selection | None = None
    n_players: int = 1
    seed: int = 0


def make_options(
    *,
    transpose: float | str = "auto",
    dynamics: float | str = 1.0,
    loudness: float | str = 0.0,
    autotune: float | str = 0.0,
    key: str = "auto",
    tuning: float | str = "auto",
    retune: float | str = DEFAULT_RETUNE_S,
    vibrato: float | str = "auto",
    glide: float | str = 0.0,
    threshold: float | str = 35.0,
    pitch: str = trackers.DEFAULT_TRACKER,
    room: str | os.PathLike[str] = "model",
    wet: float | str = 1.0,
    formant: float | str = 0.0,
    loudness_match: float | str = "input",
    tail: bool = False,
    voices: str = "auto",
    track: object = (),
    channel: object = (),
    ensemble: int | str = 1,
    seed: int = 0,
) -> TransferOptions:
    """Returns options as a user gives them, checked; `api.transfer` says what each means.

    Raises:
      UsageError: one is out of range, no number, no such key or tracker, or has no effect beside the others;
        `parameter` names it.
    """
    given = {
        "dynamics": dynamics, "loudness": loudness, "autotune": autotune, "retune": retune,
        "glide": glide, "threshold": threshold, "wet": wet, "formant": formant, "ensemble": ensemble, "seed": seed,
    }  # fmt: skip
    checked = {name: number(value, name, *RANGES[name]) for name, value in given.items()}
    shift = number_or_word(transpose, "transpose", *RANGES["transpose"], words=("auto",))
    a_hz = number_or_word(tuning, "tuning", *RANGES["tuning"], words=("auto",))
    factor = number_or_word(vibrato, "vibrato", *RANGES["vibrato"], words=("auto",))
    match = number_or_word(loudness_match, "loudness_match", *RANGES["loudness_match"], words=("input", "off"))
    place = models.room_word(os.fspath(room))
    if checked["autotune"] == 0.0:
        for name, value, is_given in (("key", key, key.lower() != "auto"), ("tuning", tuning, a_hz != "auto"),
                                      ("retune", retune, checked["retune"] != DEFAULT_RETUNE_S)):  # fmt: skip
            if is_given:
                raise UsageError(f"{name} {value} has no effect without autotune", "Set autotune to 1.",
                                 kind=Kind.AUTOTUNE, parameter=name)  # fmt: skip
    hint = "Leave it out, or choose a room."
    if place == "none" and checked["wet"] not in {0.0, 1.0}:
        raise UsageError(f"wet {wet} has no effect without a room", hint, parameter="wet")
    if tail and (place == "none" or checked["wet"] == 0.0):
        raise UsageError("no room rings out where there is none", hint, parameter="tail")
    n_players, first_seed = (whole_number(given[name], name, *RANGES[name]) for name in ("ensemble", "seed"))
    channels = [whole_number(one, "channel", 1, 16) for one in _several(channel)]
    try:
        trackers.check_tracker(pitch)
    except UsageError as problem:
        problem.parameter = "tracker"
        raise
    return TransferOptions(
        adapt=AdaptSettings(
            segments=SegmentSettings().with_threshold(checked["threshold"]),
            transpose=None if shift == "auto" else float(shift),
            dynamics=checked["dynamics"],
            louder_db=checked["loudness"],
            autotune=checked["autotune"],
            key=parse_key(key),
            tuning_semitones=None if a_hz == "auto" else 12.0 * math.log2(float(a_hz) / 440.0),
            retune_s=checked["retune"],
            vibrato=None if factor == "auto" else float(factor),
            glide_s=checked["glide"],
        ),
        tracker=pitch,
        room=place,
        wet=checked["wet"],
        formant_semitones=checked["formant"],
        loudness_match=match if match in {"input", "off"} else float(match),  # type: ignore[arg-type]
        tail=tail,
        voices=word(str(voices), "voices", VOICES),  # type: ignore[arg-type]
        selection=_selection(track, channels),
        n_players=n_players,
        seed=first_seed,
    )


def _selection(track: object, channels: Sequence[int]) -> Selection | None:
    """Returns the part of a MIDI file that was chosen; None for all of it."""
    if not _several(track) and not channels:
        return None
    from ddsp_cli.adaptation.midi import Selection

    return Selection(tuple(map(str, _several(track))), tuple(channels))


def _for_instrument(settings: AdaptSettings, instrument: Instrument) -> AdaptSettings:
    """Returns settings whose vibrato, where it is left to the instrument, suits it."""
    variation = variation_of(instrument.bundle)
    if settings.vibrato is not None or variation is None:
        return settings
    return replace(settings, vibrato_limit_cents=variation.vibrato_limit_cents, keep_jitter=not variation.has_jitter)


def _several(values: object) -> tuple[object, ...]:
    """Returns one value or several as several."""
    if values is None:
        return ()
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def parse_key(text: str) -> autotune.Key | None:
    """Returns a key such as `A minor`; None for `auto`.

    Raises:
      UsageError: neither.
    """
    if text.lower() == "auto":
        return None
    try:
        return autotune.parse_key(text)
    except ValueError:
        examples = "Give one such as C major, f# minor, Bb mixolydian, A minor pentatonic, or chromatic."
        near = closest(text, autotune.known_keys())
        hint = did_you_mean(text, near) if near else examples
        raise UsageError(f"{text} is not a key", hint, parameter="key") from None


# --- one performance: an input, analysed and adapted to an instrument ------------------------------------------------

#: Performances are analysed at this frame rate where the model's own divides it: notes are found to 4 ms.
ANALYSIS_FRAME_RATE_HZ = FeatureSpec().frame_rate_hz

#: Longer inputs are analysed at the model's own frame rate, 50 Hz for most, so that a day of sound takes 300 MB.
LONG_S = 2.0 * 3600.0


class _Watch:
    """Measures a file while it is decoded for the first time; called with each block [S, C].

    Args:
      sample_rate_hz: of the file.
      with_loudness: also measure its integrated loudness.
    """

    def __init__(self, sample_rate_hz: int, with_loudness: bool) -> None:
        self.clipping = ClippingWatch()
        self.meter = LoudnessMeter(sample_rate_hz) if with_loudness else None

    def __call__(self, block: FloatArray) -> None:
        self.clipping(block)
        if self.meter is not None:
            self.meter.push(read.average_channels(block))


@dataclass(frozen=True)
class Performance:
    """Curves for an instrument, and the analysis that they come from.

    Attributes:
      adapted: the curves; of several voices those of the highest one.
      seconds: how long the output is, before any tail.
      info: the header of the recording.
      n_input_samples: length of the recording at its own rate, counted; 0 where there was none.
      analysis: of the recording; None where there was none.
      recording: the sound at 16 kHz.
      loudness_lufs: integrated loudness of the recording; None where it does not count.
      file_remarks: faults of the file, as sentences.
      remarks: the same, and difficulties for the tracker.
      notices: the remarks that are not warnings, such as the voice that is played.
      others: the curves of the other voices, of the same length.
      voices: features of the voices of a recording that is played with all its notes, the highest first.
      warnings: what in the analysis makes the sound hard to follow; None where that was not asked.
    """

    adapted: Adapted
    seconds: float
    info: read.AudioInfo | None = None
    n_input_samples: int = 0
    analysis: Analysis[Segments] | None = None
    recording: Recording | None = None
    loudness_lufs: float | None = None
    file_remarks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    others: tuple[Adapted, ...] = ()
    voices: tuple[Features, ...] = ()
    warnings: tuple[str, ...] | None = None

    @property
    def features(self) -> Features | None:
        """Features of the recording; None where there was none."""
        return self.analysis.features if self.analysis is not None else None

    def transcriptions(self) -> list[Transcription]:
        """Returns the notes of a recording, of each voice that is played; nothing where there was none."""
        from ddsp_cli.adaptation.notes import transcribe

        if self.voices:
            return [transcribe(voice, find_segments(voice)) for voice in self.voices]
        return [transcribe(self.analysis.features, self.analysis.segments)] if self.analysis is not None else []

    def n_samples(self, rate_hz: int) -> int:
        """Returns the length of the output: the input's to the sample, brought to another rate."""
        if self.info is not None:
            n_samples = round(self.n_input_samples * rate_hz / self.info.sample_rate_hz)
            if abs(n_samples / rate_hz - self.seconds) <= 0.1:
                return n_samples
        return round(self.seconds * rate_hz)

    def timbre(self, instrument: Instrument) -> Iterator[FloatArray]:
        """Yields MFCCs of the recording, read once more, for an instrument with an encoder."""
        if self.recording is not None and instrument.model.encoder:
            yield from instrument.timbre(self.recording.blocks())


def perform(
    job: Job,
    instrument: Instrument,
    options: TransferOptions,
    curves: Path | None,
    progress: Callable[[float], None],
    last: Performance | None = None,
    edited: Path | None = None,
) -> Performance:
    """Analyses or reads the input of a job and adapts it to an instrument.

    Args:
      job: names the input and its kind.
      instrument: to adapt it to.
      options: how.
      curves: a file of curves, for a job of that kind.
      progress: called with the seconds that are analysed.
      last: the performance before it; the same input is not analysed twice.
      edited: a file with the notes of the recording, edited.

    Raises:
      InputError: nothing to play in it.
    """
    level, rate_hz = instrument.model.level, frame_rate_hz(instrument)
    if job.kind == "controls":
        assert curves is not None
        from ddsp_cli.adaptation.curves import read_controls

        adapted = read_controls(curves, level, rate_hz)
        notices = tuple(_without_effect(options, ADAPTING, "curves"))
        if job.info is None:
            return Performance(adapted, len(adapted) / rate_hz, remarks=notices, notices=notices)
        n_input_samples = read.count_samples(job.source)
        seconds = n_input_samples / job.info.sample_rate_hz
        remarks = (*_cut_off(adapted, seconds), *notices)
        return Performance(adapted, seconds, job.info, n_input_samples, remarks=remarks, notices=notices)
    if job.kind == "score":
        return _perform_score(job.source, instrument, options)
    assert job.info is not None
    try:
        if last is not None and last.info is job.info and last.recording is not None:
            return perform_recording(last.recording, instrument, options, progress, last, job.info.seconds, edited)
        watch = _Watch(job.info.sample_rate_hz, options.loudness_match == "input")
        recording = FileRecording(job.source, watch=watch)
        performance = perform_recording(
            recording, instrument, options, progress, Performance(resting(0, rate_hz), 0.0), job.info.seconds, edited
        )
    except InputError as problem:
        if str(job.source) in problem.message:
            raise
        raise problem.reworded(f"{job.source}: {problem.message}") from problem
    file_remarks = file_warnings(recording.decoded, watch.clipping, job.info.sample_rate_hz)
    if recording.decoded.is_opposite:
        file_remarks += (read.OPPOSITE,)
    return replace(
        performance,
        info=job.info,
        n_input_samples=recording.decoded.n_samples,
        loudness_lufs=watch.meter.integrated_lufs() if watch.meter is not None else None,
        file_remarks=file_remarks,
        remarks=(*file_remarks, *performance.remarks),
    )


def _cut_off(adapted: Adapted, seconds: float) -> list[str]:
    """Says where curves sound beyond the end of the recording whose length the output has."""
    own_s = len(adapted) / adapted.frame_rate_hz
    beyond = adapted.gate[math.ceil(seconds * adapted.frame_rate_hz) + 1 :]
    if not (beyond > 0.0).any():
        return []
    return [f"the curves last {own_s:.1f} s and the recording {seconds:.1f} s, so their end is not played"]


#: Arguments that adapt a recording: all of them, and those that a MIDI file has no use for.
ADAPTING = ("transpose", "dynamics", "loudness", "glide", "autotune", "vibrato", "threshold", "pitch")
FOR_RECORDINGS = ADAPTING[4:]


def _without_effect(options: TransferOptions, names: Sequence[str], what: str) -> list[str]:
    """Says which of some arguments were given although they have no effect on an input that is no recording."""
    usual = make_options()
    given, of_usual = options.adapt, usual.adapt
    differs = {
        "transpose": given.transpose != of_usual.transpose,
        "dynamics": given.dynamics != of_usual.dynamics,
        "loudness": given.louder_db != of_usual.louder_db,
        "glide": given.glide_s != of_usual.glide_s,
        "autotune": given.autotune != of_usual.autotune,
        "vibrato": given.vibrato not in {None, 1.0},
        "threshold": given.segments != of_usual.segments,
        "pitch": options.tracker != usual.tracker,
    }
    found = [name for name in names if differs[name]]
    if not found:
        return []
    return [f"{' and '.join(found)} {'has' if len(found) == 1 else 'have'} no effect on {what}"]


def _perform_score(path: Path, instrument: Instrument, options: TransferOptions) -> Performance:
    """Reads a MIDI file and adapts its voices, or its one line, to an instrument.

    Raises:
      InputError: nothing to play in it.
    """
    from ddsp_cli.adaptation.midi import Selection, adapt_scores, lead_line, read_midi, split_voices
    from ddsp_cli.adaptation.voices import MAX_VOICES

    file = read_midi(path, options.selection or Selection())
    remarks: list[str] = []
    if file.left_out:
        remarks.append(f"played: {_parts(file.played)}; left out: {_parts(file.left_out)}")
    remarks += _without_effect(options, FOR_RECORDINGS, "a MIDI file")
    n_notices = len(remarks)
    if options.voices == "lead":
        score = lead_line(file)
        scores = [score]
        if score.n_overlapping:
            remarks.append("it holds chords; of each the highest note is played")
    else:
        scores, n_cut = split_voices(file)
        if n_cut:
            remarks.append(f"it has more than {MAX_VOICES} notes at once; {n_cut} of them end early")
    if not any(score.notes for score in scores):
        raise InputError(f"{path} contains no notes that last", "Each of them ends when it begins, or has no end.")
    card, rate_hz = instrument.bundle.card, frame_rate_hz(instrument, max(score.seconds for score in scores))
    adapted = adapt_scores(scores, card.statistics, instrument.model.level, rate_hz, options.adapt)
    remarks += _voices_beyond(adapted, instrument)
    return Performance(
        adapted[0],
        len(adapted[0]) / rate_hz,
        remarks=tuple(remarks),
        notices=tuple(remarks[:n_notices]),
        others=tuple(adapted[1:]),
    )


def _parts(parts: Sequence[Part]) -> str:
    return ", ".join(map(str, parts[:6])) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")


def _voices_beyond(voices: Sequence[Adapted], instrument: Instrument) -> tuple[str, ...]:
    """Makes the warning about notes outside the range of an instrument, for all voices together."""
    card = instrument.bundle.card
    return diagnostics.range_warnings([one.f0_hz[one.segments.voiced] for one in voices], card.statistics, card.name)


def perform_recording(
    recording: Recording,
    instrument: Instrument,
    options: TransferOptions,
    progress: Callable[[float], None],
    last: Performance,
    input_s: float = 0.0,
    edited: Path | None = None,
) -> Performance:
    """Analyses a recording, or takes the analysis of the last performance of it, and adapts it to an instrument.

    Args:
      recording: at 16 kHz.
      instrument: to adapt it to.
      options: how.
      progress: called with the seconds that are analysed.
      last: an earlier performance of the recording, whose analysis is used again.
      input_s: its length, as far as that is known before it is decoded.
      edited: a file with its notes, edited.

    Raises:
      InputError: no notes in it.
    """
    spec = feature_spec(instrument, options.tracker, input_s)
    if last.analysis is not None and last.analysis.features.spec == spec:
        analysis = last.analysis
    else:
        analysis = analyze(
            recording, spec, lambda features: find_segments(features, options.adapt.segments), progress=progress
        )
        analysis = _confirmed(analysis, recording, options.adapt)
        if options.voices == "lead" and analysis.character != "silent":
            analysis = _lead(analysis, recording, options.adapt)
    features, statistics, level = analysis.features, instrument.bundle.card.statistics, instrument.model.level
    settings = _for_instrument(options.adapt, instrument)
    voices: tuple[Features, ...] = ()
    notices: tuple[str, ...] = ()
    # They do not depend on the instrument or the options.
    known = last.warnings if last.analysis is analysis else None
    if options.voices == "chords":
        is_known = last.analysis is analysis and last.voices
        from ddsp_cli.adaptation.voices import adapt_voices

        voices = last.voices if is_known else _separated(features, recording)
        remarks: tuple[str, ...] = ()
        played = adapt_voices(voices, statistics, level, settings)
    elif edited is not None:
        remarks = known = diagnostics.warnings(analysis) if known is None else known
        features, notices = _with_edited_notes(analysis, edited)
        remarks += notices
        played = [adapt(features, statistics, level, replace(settings, repair_pitch=False))]
    else:
        # no warning of several voices where the main voice was requested
        if options.voices == "lead":
            remarks = ()
        else:
            remarks = known = diagnostics.warnings(analysis) if known is None else known
        played = [adapt(features, statistics, level, settings, analysis.segments)]
    remarks += _voices_beyond(played, instrument)
    seconds = features.n_samples / ANALYSIS_RATE_HZ
    return replace(
        last,
        adapted=played[0],
        others=tuple(played[1:]),
        voices=voices,
        warnings=known,
        analysis=analysis,
        seconds=seconds,
        recording=recording,
        remarks=(*last.file_remarks, *remarks),
        notices=notices,
    )


def _with_edited_notes(analysis: Analysis[Segments], edited: Path) -> tuple[Features, tuple[str, ...]]:
    """Returns the features of a recording whose notes were edited, and remarks about the changes.

    Raises:
      InputError: the file holds no such notes.
    """
    from ddsp_cli.adaptation.notes import count_changes, read_edited, rearrange, transcribe

    transcription = transcribe(analysis.features, analysis.segments)
    notes = read_edited(edited, transcription)
    changed, new, left_out = count_changes(notes, transcription)
    was, are = ("was" if changed == 1 else "were"), ("is" if new == 1 else "are")
    said = f"of its {len(transcription.notes)} notes, {changed} {was} changed and {left_out} left out; {new} {are} new"
    return rearrange(analysis.features, transcription, notes), (said,)


def _separated(features: Features, recording: Recording) -> tuple[Features, ...]:
    """Returns the voices of a polyphonic recording.

    Raises:
      InputError: no notes in it, or too long.
    """
    from ddsp_cli.adaptation.voices import separate

    return tuple(separate(features, *_notes_and_shares(features, recording)))


def _lead(analysis: Analysis[Segments], recording: Recording, settings: AdaptSettings) -> Analysis[Segments]:
    """Returns the analysis of the main voice of a recording.

    Raises:
      InputError: too long.
    """
    from ddsp_cli.adaptation.voices import follow_lead

    features = follow_lead(analysis.features, *_notes_and_shares(analysis.features, recording))
    return replace(
        analysis, features=features, segments=find_segments(features, settings.segments), character="pitched"
    )


def _notes_and_shares(features: Features, recording: Recording) -> tuple[list[PolyNote], list[NoteShare]]:
    """Returns the notes of a polyphonic recording, and the share that each has of it.

    Raises:
      InputError: too long.
    """
    from ddsp_cli.analysis.polyphony import find_poly_notes, measure_shares, track_activations

    notes = find_poly_notes(track_activations(recording.blocks()))
    return notes, measure_shares(recording.blocks(), notes, features.spec.frame_rate_hz)


def frame_rate_hz(instrument: Instrument, input_s: float = 0.0) -> int:
    """Returns the frame rate of the curves.

    Args:
      instrument: whose own rate it is, or a finer one that its own divides.
      input_s: length of the input. The curves of one longer than `LONG_S` are as coarse as the model's own frames.
    """
    own_hz = instrument.model.frame_rate_hz
    return ANALYSIS_FRAME_RATE_HZ if ANALYSIS_FRAME_RATE_HZ % own_hz == 0 and input_s <= LONG_S else own_hz


def feature_spec(instrument: Instrument, tracker: str, input_s: float) -> FeatureSpec:
    """Returns the FeatureSpec of the instrument with the chosen tracker, since F0 does not depend on the tracker."""
    rate_hz = frame_rate_hz(instrument, input_s)
    return msgspec.structs.replace(instrument.bundle.card.features.at(rate_hz), pitch=tracker)


def _confirmed(analysis: Analysis[Segments], recording: Recording, settings: AdaptSettings) -> Analysis[Segments]:
    """Returns the analysis without leaps of the F0 that the sound does not confirm."""
    if analysis.character != "pitched" or not settings.repair_pitch:
        return analysis
    features = confirm_leaps(analysis.features, analysis.segments, recording)
    if features is analysis.features:
        return analysis
    return replace(analysis, features=features, segments=find_segments(features, settings.segments))


def resting(n_frames: int, frame_rate_hz: int) -> Adapted:
    """Returns curves [F] of an instrument that has nothing to play."""
    nothing = np.zeros(0, np.int64)
    return Adapted(
        f0_hz=np.full(n_frames, 440.0, np.float32),
        level_db=np.full(n_frames, FLOOR_DB, np.float32),
        gate=np.zeros(n_frames, np.float32),
        transpose_semitones=0.0,
        segments=Segments(nothing, nothing, np.zeros(n_frames, bool), np.inf, FLOOR_DB),
        frame_rate_hz=frame_rate_hz,
    )


# --- rendering -------------------------------------------------------------------------------------------------------


#: Number of seeds that are kept for the players of a voice.
SEEDS_PER_VOICE = 100


class Player(msgspec.Struct, frozen=True):
    """An instrument in the room that it plays in.

    Attributes:
      name: for results.
      instrument: to play.
      room: see `Instrument.render`.
    """

    name: str
    instrument: Instrument
    room: bool | FloatArray

    @property
    def tail_s(self) -> float:
        """Seconds until the reverb has decayed by 60 dB."""
        response = self.instrument.bundle.impulse_response if self.room is True else self.room
        return tail_s(response if isinstance(response, np.ndarray) else None, self.instrument.model.sample_rate_hz)


def make_player(name: str, instrument: Instrument, options: TransferOptions) -> Player:
    """Returns an instrument in the room that the options name.

    Raises:
      UsageError, InputError, ModelError: there is no such room.
    """
    own = instrument.bundle.impulse_response
    room = models.find_room(options.room, options.wet, instrument.model.sample_rate_hz, own)
    return Player(name, instrument, room)


def render(
    performance: Performance,
    player: Player,
    options: TransferOptions,
    rate_hz: int,
    progress: Callable[[float], None] | None = None,
    block_frames: int = BLOCK_FRAMES,
) -> tuple[Iterator[FloatArray], int]:
    """Plays a performance.

    Args:
      performance: to play.
      player: on what.
      options: how.
      rate_hz: of the output.
      progress: called with the seconds that are rendered.
      block_frames: frames that the instrument computes at once.

    Returns:
      The sound [S] a block (of a section [S, 2]) at `rate_hz`, and how many samples of it count; those beyond are the
      end of the room.
    """
    instrument, voices = player.instrument, [performance.adapted, *performance.others]
    n_samples = performance.n_samples(rate_hz)
    if options.tail and player.tail_s > 0.0:
        n_frames = math.ceil(player.tail_s * voices[0].frame_rate_hz)
        voices = [_with_rest(one, n_frames) for one in voices]
        n_samples += round(player.tail_s * rate_hz)
    own_hz = instrument.model.sample_rate_hz
    seats = [
        seat
        for i, one in enumerate(voices)
        for seat in make_section(one, options.n_players, options.seed + SEEDS_PER_VOICE * i)
    ]

    def sound_of(seat: Seat, room: bool | FloatArray) -> Iterator[FloatArray]:
        return instrument.render(
            *seat.adapted.at(instrument.model.frame_rate_hz),
            seed=seat.seed,
            room=room,
            level_correction=True,
            timbre=performance.timbre(instrument),
            formant=options.formant_semitones,
            block_frames=block_frames,
        )

    if len(seats) == 1:
        blocks = sound_of(seats[0], player.room)
    else:
        blocks = _together([sound_of(seat, False) for seat in seats], seats, instrument.room_factory(player.room))
    n_channels = 1 if all(seat.place == 0.0 for seat in seats) else 2
    return at_rate(_reporting(blocks, own_hz, progress), own_hz, rate_hz, n_channels), n_samples


def _together(
    sounds: Sequence[Iterator[FloatArray]], seats: Sequence[Seat], make_room: Callable[[], Room] | None
) -> Iterator[FloatArray]:
    """Mixes the sounds of several seats in one room.

    Args:
      sounds: dry, of each seat, [S] a block; all in blocks of the same sizes.
      seats: whose places they have.
      make_room: the room of each channel.

    Yields:
      [S, 2]; [S] where all sit in the middle.
    """
    gains = np.array([pan_gains(seat.place) for seat in seats])
    if all(seat.place == 0.0 for seat in seats):
        gains = np.ones((len(seats), 1))
    rooms = [make_room() for _ in gains.T] if make_room is not None else []
    for parts in zip(*sounds, strict=True):
        channels = (gains.T @ np.stack(parts)).astype(np.float32)
        if rooms:
            channels = np.stack([room.push(channel) for room, channel in zip(rooms, channels, strict=True)])
        yield np.ascontiguousarray(channels[0] if len(channels) == 1 else channels.T)


def _with_rest(adapted: Adapted, n_frames: int) -> Adapted:
    """Returns the same curves [F], then a rest."""
    return replace(
        adapted,
        f0_hz=np.pad(adapted.f0_hz, (0, n_frames), mode="edge"),
        level_db=np.pad(adapted.level_db, (0, n_frames), mode="edge"),
        gate=np.pad(adapted.gate, (0, n_frames)),
    )


def _reporting(
    blocks: Iterator[FloatArray], rate_hz: int, progress: Callable[[float], None] | None
) -> Iterator[FloatArray]:
    n_done = 0
    for block in blocks:
        n_done += len(block)
        spool.release()
        if progress is not None:
            progress(n_done / rate_hz)
        yield block


def target_lufs(performance: Performance, options: TransferOptions) -> float | None:
    """Returns the target of the integrated loudness of the output; None leaves it unchanged."""
    if options.loudness_match == "off":
        return None
    if options.loudness_match == "input":
        known = performance.loudness_lufs
        return None if known is None else known + options.adapt.louder_db
    return float(options.loudness_match)


def short_of_db(wanted_lufs: float | None, fit: Fit) -> float:
    """Returns by how many dB the sound is below the target loudness, 0 where it is not."""
    if wanted_lufs is None or fit.loudness_lufs is None or not math.isfinite(wanted_lufs + fit.loudness_lufs):
        return 0.0
    return max(0.0, wanted_lufs - fit.loudness_lufs)
