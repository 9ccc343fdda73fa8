"""The Python API: functions of `import ddsp_cli` for instruments, arrays and single files.

Arguments are checked here and handed to the workflows, which the command line uses as well. Preparing, training,
evaluating, exporting and importing are the workflows themselves. Shapes: S samples, C channels, F frames.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis import extract
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import read
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FeatureSpec
from ddsp_cli.errors import InputError, UsageError
from ddsp_cli.live.performer import LiveSettings, Performer, check_latency
from ddsp_cli.synthesis import instrument as playing
from ddsp_cli.synthesis.blend import BlendedInstrument, Shares
from ddsp_cli.workflows import models as library
from ddsp_cli.workflows.arguments import PathLike, number, whole_number
from ddsp_cli.workflows.performance import RANGES, make_options, make_player
from ddsp_cli.workflows.transfer import Progress, TransferResult, transfer_audio, transfer_files

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: An array with more channels than this has its axes swapped.
MAX_CHANNELS = 32


class Instrument(playing.Instrument):
    """An instrument, loaded and ready to play; `load` makes one.

    Attributes:
      name: of the instrument.
      path: its folder, or the `.tflite` file; of a blend, how it is written.
      bundle: all that is known of it; `bundle.card` holds its range, licence and sources.
    """

    def __init__(self, bundle: Bundle, name: str, path: Path | str) -> None:
        super().__init__(bundle)
        self.name, self.path = name, path

    def __repr__(self) -> str:
        return f"<Instrument {self.name}, {self.sample_rate} Hz>"

    @property
    def sample_rate(self) -> int:
        """The rate in Hz at which it plays."""
        return self.model.sample_rate_hz

    def live(
        self,
        *,
        transpose: float = 0.0,
        loudness: float = 0.0,
        formant: float = 0.0,
        room: PathLike = "model",
        wet: float = 1.0,
        seed: int = 0,
        sample_rate: int | None = None,
        latency: Literal["safe", "low"] = "safe",
    ) -> Performer:
        """Plays while it listens: push blocks of sound, get blocks of the same duration.

        Args:
          transpose: semitones. The octave that suits the instrument cannot be found before the melody is known.
          loudness: dB added to the level that drives the instrument.
          formant, room, wet, seed: see `transfer`.
          sample_rate: of an audio device, in Hz: that of the blocks both ways. By default blocks come at 16 kHz and
            go at the instrument's rate.
          latency: "low" plays 26 ms earlier and follows pitch and level less exactly, see docs/live.md.

        Returns:
          A performer. Its `push` takes [S] float32, and `latency_samples` and `latency_s` say how late its sound is.

        Raises:
          UsageError: an argument is out of range.
          ModelError: there is no such room, or the rate of the instrument is not a multiple of 16 kHz.
        """
        response = library.find_room(os.fspath(room), number(wet, "wet", *RANGES["wet"]), self.sample_rate,
                                     self.bundle.impulse_response)  # fmt: skip
        settings = LiveSettings(
            transpose=number(transpose, "transpose", *RANGES["transpose"]),
            louder_db=number(loudness, "loudness", *RANGES["loudness"]),
            formant=number(formant, "formant", *RANGES["formant"]),
            room=response,
            seed=whole_number(seed, "seed", *RANGES["seed"]),
            latency=check_latency(latency),
        )
        return Performer(self, settings, None if sample_rate is None else as_rate_hz(sample_rate))


class Blend(BlendedInstrument, Instrument):
    """Several instruments that play as one; `load` makes one of `flute:0.6+violin:0.4`."""

    def __init__(self, parts: Sequence[playing.Instrument], shares: Shares, words: str) -> None:
        BlendedInstrument.__init__(self, parts, shares, words)
        self.name = self.path = words


#: An instrument as an argument: its name, its folder, the `.tflite` file of a plug-in, or the instrument itself.
Model: TypeAlias = "PathLike | Instrument"


def load(model: Model) -> Instrument:
    """Loads an instrument.

    Args:
      model: its name, its folder, or a `.tflite` of DDSP-VST; `models()` lists the names. "flute:0.6+violin:0.4" is a
        blend, whose controls and room lie between those of its parts; "0:flute 8s:violin" is one that changes over
        time. An instrument is returned unchanged.

    Raises:
      ModelError: there is no such instrument, or it is damaged.
      UsageError: it is neither text nor a path.
    """
    if isinstance(model, Instrument):
        return model
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"an instrument is named by its name or path, not by {_a(model)}", parameter="model")
    choice = library.choose(model)
    if choice.shares is not None:
        parts = [playing.Instrument(library.open_at(place)) for place in choice.places]
        return Blend(parts, choice.shares, choice.expression)
    (place,) = choice.places
    return Instrument(library.open_at(place), library.title(place), place)


def transfer(
    audio: ArrayLike,
    sample_rate: int,
    model: Model,
    *,
    transpose: float | Literal["auto"] = "auto",
    dynamics: float = 1.0,
    loudness: float = 0.0,
    autotune: float = 0.0,
    key: str = "auto",
    tuning: float | Literal["auto"] = "auto",
    retune: float = 0.05,
    vibrato: float | Literal["auto"] = "auto",
    glide: float = 0.0,
    threshold: float = 35.0,
    pitch: str = trackers.DEFAULT_TRACKER,
    room: PathLike = "model",
    wet: float = 1.0,
    formant: float = 0.0,
    loudness_match: float | Literal["input", "off"] = "input",
    tail: bool = False,
    voices: Literal["auto", "chords", "lead"] = "auto",
    ensemble: int = 1,
    seed: int = 0,
) -> tuple[FloatArray, int]:
    """Plays a sound on an instrument.

    Args:
      audio: [samples] or [channels, samples], whose channels are averaged: floats within ±1, or integers.
      sample_rate: of the sound, in Hz.
      model: the instrument, see `load`.
      transpose: semitones, or "auto" for the octave that suits the instrument.
      dynamics: 0 keeps the differences of level in the recording, 1 makes them the instrument's.
      loudness: dB added to the level that drives the instrument, and to its sound.
      autotune: 0 leaves pitch alone, 1 puts every note on the scale.
      key: the scale for autotune, such as "A minor" or "chromatic"; "auto" finds it.
      tuning: the A of that scale in Hz; "auto" takes that of the recording.
      retune: seconds that autotune takes from note to note.
      vibrato: 0 removes it, 1 keeps it, 2 doubles it; auto narrows it if the instrument has little.
      glide: seconds to slide from note to note.
      threshold: segments more than this many dB below the loudest notes are silent.
      pitch: the pitch tracker: "swift-f0", "pyin" or "crepe".
      room: "model", "none", an instrument's name, or an impulse-response file.
      wet: gain of the room; 1 is as learned or recorded.
      formant: semitones by which the resonances of the instrument move; pitch and level stay.
      loudness_match: integrated loudness of the result: "input" for that of the input, a number in LUFS, or "off" for
        the level of the instrument. The peak stays below full scale.
      tail: let the room ring out after the end of the input, until it is 60 dB down.
      voices: "chords" plays every note of a chord, "lead" one voice, of a recording the main one over its
        accompaniment. "auto" plays all notes of a MIDI file; a recording is taken for one voice.
      ensemble: number of players of the same part, each a little out of tune, early or late.
      seed: of the noise; the same seed gives the same sound.

    Returns:
      The sound, [samples] float32 ([2, samples] for an ensemble), as long as the input (longer with `tail`), and its
      sample rate: that of the input, or the instrument's where that is higher.

    Raises:
      UsageError: an argument is invalid.
      InputError: no notes in it, or the sound contains NaN or infinity.
      ModelError: there is no such instrument.
    """
    options = make_options(
        transpose=transpose, dynamics=dynamics, loudness=loudness, autotune=autotune, key=key, tuning=tuning,
        retune=retune, vibrato=vibrato, glide=glide, threshold=threshold, pitch=pitch, room=room, wet=wet,
        formant=formant, loudness_match=loudness_match, tail=tail, voices=voices, ensemble=ensemble, seed=seed,
    )  # fmt: skip
    sound, rate_hz = as_sound(audio), as_rate_hz(sample_rate)
    instrument = load(model)
    return transfer_audio(sound, rate_hz, make_player(instrument.name, instrument, options), options)


def transfer_file(
    input: PathLike,
    model: Model,
    out: PathLike | None = None,
    *,
    transpose: float | Literal["auto"] = "auto",
    dynamics: float = 1.0,
    loudness: float = 0.0,
    autotune: float = 0.0,
    key: str = "auto",
    tuning: float | Literal["auto"] = "auto",
    retune: float = 0.05,
    vibrato: float | Literal["auto"] = "auto",
    glide: float = 0.0,
    threshold: float = 35.0,
    pitch: str = trackers.DEFAULT_TRACKER,
    room: PathLike = "model",
    wet: float = 1.0,
    formant: float = 0.0,
    loudness_match: float | Literal["input", "off"] = "input",
    tail: bool = False,
    voices: Literal["auto", "chords", "lead"] = "auto",
    track: int | str | Sequence[int | str] = (),
    channel: int | Sequence[int] = (),
    ensemble: int = 1,
    seed: int = 0,
    sample_rate: int | None = None,
    bits: Literal["16", "24", "32", "float", 16, 24, 32] | None = None,
    plot: bool = False,
    controls: PathLike | None = None,
    from_controls: PathLike | None = None,
    from_notes: PathLike | None = None,
    notes: PathLike | None = None,
    report: PathLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TransferResult:
    """Plays a file on an instrument and writes the result.

    Args:
      input: a sound file or a MIDI file.
      model: the instrument, see `load`.
      out: the file to write; by default `INPUT_MODEL.wav` in the current folder.
      transpose, dynamics, loudness, autotune, key, tuning, retune, vibrato, glide, threshold, pitch: see `transfer`.
      room, wet, formant, loudness_match, tail, voices, ensemble, seed: see `transfer`.
      track, channel: of a MIDI file, tracks by number or name and channels from 1 to 16; all but the drums by default.
      sample_rate: of the output; by default that of the input, or the instrument's where that is higher.
      bits: of the output; by default as the input.
      plot: also draw a picture, beside the sound.
      controls: a .csv or .npz for the curves that are played.
      from_controls: a file of curves to play instead of those of the input.
      from_notes: such notes, edited; they are played with the curves of the recording inside them.
      notes: a .mid or .csv for the notes of the recording.
      report: an HTML page to write, with players and pictures.
      force: replace files that exist.
      progress: called with a description, seconds done, and seconds in all.

    Returns:
      The files written, and the findings about the input.

    Raises:
      UsageError: an argument is invalid.
      InputError: the input is missing, no sound file, or has no notes.
      ModelError: there is no such instrument.
      OutputError: the output exists already, or cannot be written.
    """
    options = make_options(
        transpose=transpose, dynamics=dynamics, loudness=loudness, autotune=autotune, key=key, tuning=tuning,
        retune=retune, vibrato=vibrato, glide=glide, threshold=threshold, pitch=pitch, room=room, wet=wet,
        formant=formant, loudness_match=loudness_match, tail=tail, voices=voices, track=track, channel=channel,
        ensemble=ensemble, seed=seed,
    )  # fmt: skip
    if not isinstance(input, str | os.PathLike):
        raise UsageError(f"one file is played, named by its path, not by {_a(input)}", parameter="inputs")
    if Path(input).is_dir():
        raise UsageError(f"{os.fspath(input)} is a folder, not a file", parameter="inputs")
    (result,) = transfer_files(
        input, model.path if isinstance(model, Instrument) else model, out, options=options, force=force, plot=plot,
        sample_rate_hz=sample_rate, bits=bits, controls=controls, from_controls=from_controls, from_notes=from_notes,
        notes=notes, report=report, progress=progress,
    )  # fmt: skip
    return result


def analyze(audio: ArrayLike, sample_rate: int, *, pitch: str = trackers.DEFAULT_TRACKER) -> Features:
    """Measures F0, loudness and power of a sound, 250 times a second.

    Quiet, high and polyphonic sound is tracked again in the way that suits it, as `transfer` does.

    Args:
      audio: [samples] or [channels, samples], whose channels are averaged: floats within ±1, or integers.
      sample_rate: of the sound, in Hz.
      pitch: the pitch tracker: "swift-f0", "pyin" or "crepe".

    Returns:
      Features: `times_s`, `f0_hz` (0 where unvoiced), `f0_confidence`, `loudness_db` (A-weighted) and `power_db`
      (dBFS), [F] each.

    Raises:
      UsageError: an argument is invalid.
      InputError: the sound is empty, or contains NaN or infinity.
    """
    trackers.check_tracker(pitch)
    recording = ArrayRecording(as_sound(audio), as_rate_hz(sample_rate))
    return extract.analyze(recording, FeatureSpec(pitch=pitch), find_segments).features


def as_sound(audio: ArrayLike) -> FloatArray:
    """Returns sound [S] or [C, S] as float32; integers become ±1.

    Raises:
      UsageError: no sound, or [samples, channels].
      InputError: empty, or it contains NaN or infinity, or values far beyond full scale.
    """
    if isinstance(audio, str | bytes | os.PathLike):
        raise UsageError("the sound is an array, not a path", "Play files with transfer_file.", parameter="audio")
    try:
        sound = np.asarray(audio)
    except ValueError as problem:  # rows of different lengths
        raise UsageError("the sound is not an array of numbers", parameter="audio") from problem
    if sound.ndim not in {1, 2}:
        raise UsageError(
            f"the sound has the shape {sound.shape}", "Give [samples] or [channels, samples].", parameter="audio"
        )
    if sound.size == 0:
        raise InputError("the sound is empty: it has 0 samples")
    if sound.ndim == 2 and sound.shape[0] > max(MAX_CHANNELS, sound.shape[1]):
        raise UsageError(
            f"the sound has the shape {sound.shape}, with more channels than samples",
            "Give [channels, samples]: transpose it with audio.T.",
            parameter="audio",
        )
    if sound.dtype in {np.dtype(np.int16), np.dtype(np.int32)}:
        sound = sound / -float(np.iinfo(sound.dtype).min)
    if not np.issubdtype(sound.dtype, np.floating):
        hint = "Give floats within ±1, or int16 or int32."
        raise UsageError(f"the sound is an array of {sound.dtype}", hint, parameter="audio")
    largest = float(np.abs(sound).max())
    if not np.isfinite(largest):
        raise InputError("the sound contains NaN or infinity")
    if largest > read.MAX_AMPLITUDE:
        raise InputError("the sound has samples far beyond full scale", "Give floats within ±1.")
    return np.ascontiguousarray(sound, np.float32)


def as_rate_hz(sample_rate: object) -> int:
    """Checks a sample rate, and returns it as an int.

    Raises:
      UsageError: it is not a whole number of Hz, or out of range.
    """
    if isinstance(sample_rate, numbers.Real) and not isinstance(sample_rate, bool):
        rate_hz = number(sample_rate, "sample_rate", *read.PLAUSIBLE_RATES_HZ)
        if rate_hz.is_integer():
            return int(rate_hz)
    raise UsageError(f"{sample_rate!r} is not a sample rate", "Give it in Hz.", parameter="sample_rate")


def _a(value: object) -> str:
    return f"a {type(value).__name__}"
