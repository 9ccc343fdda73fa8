"""Errors of the library in the words of the command line: which option is wrong, which option or command helps."""

from __future__ import annotations

from ddsp_cli.errors import DdspError, Kind

#: Hint for each kind of error; `{name}` is filled from the error's details.
HINTS = {
    Kind.EXISTS: "Use --force to replace it, or choose another name.",
    Kind.NO_INPUT: "Name a recording, or a file of curves with --from-controls.",
    Kind.AUTOTUNE: "Add --autotune 1.",
    Kind.REVERB: "Put recordings into a room with: ddsp reverb INPUT --room NAME",
    Kind.NO_ROOM: "Name an instrument or an impulse response: --room flute.",
    Kind.HIDES_BUNDLED: "Choose another name, such as my-{name}; with --force yours is played in its place.",
    Kind.SCORE: "Play it on an instrument: ddsp transfer {path} --model NAME",
    Kind.SEVERAL_VOICES: "Play one line with --voices lead.",
    Kind.NOTE_TABLE: "Play it with its recording: ddsp transfer RECORDING --from-notes {path} --model NAME",
    Kind.NOTHING_TO_COMPARE: "Name recordings: ddsp evaluate --model NAME RECORDINGS; or its data set: --dataset DIR.",
    Kind.CURVES: "Play it with --from-controls {path}.",
    Kind.UNKNOWN_INSTRUMENT: "List instruments with: ddsp models. Searched {searched}.",
    Kind.NO_INSTRUMENTS: "Train one with: ddsp train --instrument NAME",
    Kind.SHARE: "Name one; to pack one into a file: ddsp models share NAME",
    Kind.NO_NAME: "Give --model NAME; ddsp models lists them.",
    Kind.CHECKPOINT: "Import it with: ddsp import {path} --name NAME",
    Kind.NOT_PLAYED: "Name one instrument: ddsp models lists them. New ones begin with it: ddsp train --from base",
    Kind.FOREIGN_MODEL: "Import a model of another program with: ddsp import PATH --name NAME",
    Kind.UNKNOWN_DATASET: "Make one with: ddsp prepare FOLDER_OF_RECORDINGS",
    Kind.FOREIGN_SHARDS: "It holds shards of another program. Make a data set from them with: "
    "ddsp prepare {path} --name NAME",
    Kind.DATASET_DAMAGED: "Prepare the data set again with --force.",
    Kind.OTHER_FEATURES: "Prepare the recordings again with --force, and with --like NAME to train the instrument NAME "
    "further.",
    Kind.OTHER_RATE: "Prepare it again with --sample-rate {rate_hz} --force.",
    Kind.NO_VALIDATION: "Prepare it again with --hold-out, or name recordings.",
    Kind.OTHER_RUN: "Start again with --fresh --force, or give the {what} it was started with.",
    Kind.CREPE_WEIGHTS: "Download {file} from {url} and put it into {folder} "
    "(ddsp prepare also takes --crepe-weights FILE).",
    Kind.CHECKPOINT_UNUSABLE: "The instrument is as it was. Start again with --fresh --force.",
}

#: Arguments of the library whose option has another name; None where they are no option.
OPTIONS = {
    "inputs": None,
    "louder_db": "--loudness",
    "sample_rate_hz": "--sample-rate",
    "start_from": "--from",
    "formant_semitones": "--formant",
    "tracker": "--pitch",
}


def option(parameter: str) -> str:
    """`--from-controls` for `from_controls`; empty for what is no option."""
    return OPTIONS.get(parameter, "--" + parameter.replace("_", "-")) or ""


def message(problem: DdspError) -> str:
    """The message of an error, behind the option that it is about."""
    name = option(problem.parameter) if problem.parameter else ""
    return f"{name}: {problem.message}" if name else problem.message


def hint(problem: DdspError) -> str:
    """Returns the hint for an error, in the words of the command line."""
    if problem.kind in HINTS:
        return HINTS[problem.kind].format(**problem.details)
    return problem.hint
