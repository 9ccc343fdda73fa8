"""Errors of the library name no options of the command line; the command line adds them from the kind of the error."""

from __future__ import annotations

import ast
import copy
import io
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import cli
from ddsp_cli.cli import options
from ddsp_cli.errors import DdspError, ExitCode, InputError, Kind, ModelError, UsageError
from ddsp_cli.shell import quoted
from fixtures import make_bundle, melody
from test_cli import ddsp

SOURCES = Path(__file__).parent.parent / "src" / "ddsp_cli"

#: Below the command line: what Python users call.
#: All but the two interfaces: the command line, and the page, which shows the command that does the same.
LIBRARY = [
    path for path in sorted(SOURCES.rglob("*.py")) if not {"cli", "studio"} & set(path.relative_to(SOURCES).parts)
]


def strings(path: Path) -> list[tuple[int, str]]:
    """Every string of a module that is no docstring, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
    ]


def test_the_library_names_no_options() -> None:
    found = [(path.name, *one) for path in LIBRARY for one in strings(path) if re.search(r"(^|\W)--[a-z]", one[1])]
    assert found == []


def test_every_kind_of_error_has_a_hint() -> None:
    assert set(options.HINTS) == set(Kind) - {Kind.NONE}


def test_every_hint_gets_the_details_that_it_names() -> None:
    """Each error of a kind carries the details that the hint of that kind needs."""
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = {word.arg: word.value for word in node.keywords}
            for kind in ast.walk(given["kind"]) if "kind" in given else ():
                if isinstance(kind, ast.Attribute) and kind.attr in Kind.__members__:
                    hint = options.HINTS.get(Kind[kind.attr], "")
                    named = {name for _, name, _, _ in string.Formatter().parse(hint) if name}
                    assert named <= given.keys(), (path.name, node.lineno)


def test_an_error_is_said_in_the_words_of_the_command_line() -> None:
    problem = ModelError("m", "Import it first.", kind=Kind.CHECKPOINT, path="a b")
    assert (options.error_message(problem), options.error_hint(problem)) == (
        "m",
        f"Import it with: ddsp import {quoted('a b')} --name NAME",
    )
    problem = UsageError("9 is out of range", "Less.", parameter="sample_rate_hz")
    assert (options.error_message(problem), options.error_hint(problem)) == (
        "--sample-rate: 9 is out of range",
        "Less.",
    )
    assert options.error_message(UsageError("no input", parameter="inputs")) == "no input"


@pytest.mark.parametrize("again", [lambda e: e, copy.copy])  # as `pickle` does it between processes
def test_an_error_keeps_all_it_knows(again) -> None:
    problem = again(ModelError("m", "h", kind=Kind.OTHER_RATE, parameter="preset", rate_hz=3)).reworded("other")
    assert isinstance(problem, ModelError) and isinstance(problem, DdspError)
    assert (problem.message, problem.hint, problem.parameter) == ("other", "h", "preset")
    assert (problem.kind, problem.details, problem.exit_code) == (Kind.OTHER_RATE, {"rate_hz": 3}, ExitCode.MODEL)
    assert str(problem) == "other. h"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with everything that can go wrong."""
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    voice = melody()
    soundfile.write(folder / "voice.wav", voice, 16000)
    soundfile.write(folder / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "no_samples.wav", np.zeros(0), 16000)
    nan = voice.copy()
    nan[5000] = np.nan
    soundfile.write(folder / "nan.wav", nan, 16000, subtype="FLOAT")
    (folder / "empty.wav").touch()
    (folder / "curves.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n")
    (folder / "text.wav").write_text("this is not audio, whatever its name says\n" * 50)
    (folder / "no_audio").mkdir()
    (folder / "no_audio" / "readme.txt").write_text("nothing here")
    (folder / "taken.wav").write_bytes(b"precious")
    flipped = folder / "models" / "flipped"
    shutil.copytree(folder / "models" / "testophone", flipped)
    weights = bytearray((flipped / "weights.safetensors").read_bytes())
    weights[-10] ^= 1
    (flipped / "weights.safetensors").write_bytes(weights)
    foreign = folder / "models" / "foreign"
    foreign.mkdir()
    (foreign / "operative_config-0.gin").write_text("# magenta")
    future = folder / "models" / "future"
    shutil.copytree(folder / "models" / "testophone", future)
    card = (future / "model.yaml").read_text(encoding="utf-8").partition("# sha256")[0]
    (future / "model.yaml").write_text(card.replace("format: 1", "format: 99"), encoding="utf-8")
    garbled = folder / "models" / "garbled"
    shutil.copytree(folder / "models" / "testophone", garbled)
    (garbled / "model.yaml").write_text(card.replace("frame_rate_hz", "frame_rate_khz"), encoding="utf-8")
    return folder


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


TRANSFER = ["transfer", "voice.wav", "--model", "testophone"]

CASES = {
    "missing file": (["transfer", "nowhere.wav", "--model", "testophone"], ExitCode.INPUT, "nowhere.wav"),
    "not audio": (["transfer", "text.wav", "--model", "testophone"], ExitCode.INPUT, "text.wav"),
    "empty file": (["transfer", "empty.wav", "--model", "testophone"], ExitCode.INPUT, "empty"),
    "no samples": (["transfer", "no_samples.wav", "--model", "testophone"], ExitCode.INPUT, "no_samples.wav"),
    "silence": (["transfer", "silence.wav", "--model", "testophone"], ExitCode.INPUT, "no notes"),
    "NaN": (["transfer", "nan.wav", "--model", "testophone"], ExitCode.INPUT, "NaN"),
    "folder without audio": (["transfer", "no_audio", "--model", "testophone"], ExitCode.INPUT, "no_audio"),
    "output exists": ([*TRANSFER, "--out", "taken.wav"], ExitCode.OUTPUT, "taken.wav"),
    "no such folder": ([*TRANSFER, "--out", "nowhere/out.wav"], ExitCode.OUTPUT, "nowhere"),
    "file as a folder": ([*TRANSFER, "--out", "taken.wav/out.wav"], ExitCode.OUTPUT, "taken.wav"),
    "file as parent": ([*TRANSFER, "--out", "taken.wav/folder"], ExitCode.OUTPUT, "taken.wav"),
    "strange suffix": ([*TRANSFER, "--out", "out.xyz"], ExitCode.USAGE, "out.xyz"),
    "unknown model": (["transfer", "voice.wav", "--model", "testofone"], ExitCode.MODEL, "Did you mean testophone"),
    "blend beside a model": ([*TRANSFER, "--blend", "0:testophone 2s:future"], ExitCode.USAGE, "Leave out one"),
    "file as model": (["transfer", "voice.wav", "--model", "./voice.wav"], ExitCode.MODEL, "voice.wav"),
    "flipped byte": (["transfer", "voice.wav", "--model", "flipped"], ExitCode.MODEL, "damaged"),
    "foreign bundle": (["transfer", "voice.wav", "--model", "models/foreign"], ExitCode.MODEL, "not a ddsp instrument"),
    "bundle of the future": (["transfer", "voice.wav", "--model", "future"], ExitCode.MODEL, "99"),
    "unknown key in card": (["transfer", "voice.wav", "--model", "garbled"], ExitCode.MODEL, "mean frame_rate_hz"),
    "no instrument, only a room": (["transfer", "voice.wav", "--model", "none"], ExitCode.USAGE, "ddsp reverb INPUT"),
    "reverb without a room": (["reverb", "voice.wav", "--room", "none"], ExitCode.USAGE, "--room flute"),
    "autotune in words": ([*TRANSFER, "--autotune", "full"], ExitCode.USAGE, "--autotune: full is not a number"),
    "autotune beyond its range": ([*TRANSFER, "--autotune", "2"], ExitCode.USAGE, "0..1"),
    "loudness of nothing": ([*TRANSFER, "--loudness-match", "inputt"], ExitCode.USAGE, "Did you mean input"),
    "curves as input": (["transfer", "curves.csv", "-m", "testophone"], ExitCode.USAGE, "--from-controls curves.csv"),
    "transpose in words": ([*TRANSFER, "--transpose", "up"], ExitCode.USAGE, "--transpose"),
    "transpose out of range": ([*TRANSFER, "--transpose", "1000"], ExitCode.USAGE, "1000"),
    "sample rate of nothing": ([*TRANSFER, "--sample-rate", "3"], ExitCode.USAGE, "--sample-rate: 3 "),
    "sample rate in words": ([*TRANSFER, "--sample-rate", "cd"], ExitCode.USAGE, "--sample-rate: cd is not a whole"),
    "channel of a recording": ([*TRANSFER, "--channel", "2"], ExitCode.USAGE, "--channel: only MIDI files"),
    "seed below its range": ([*TRANSFER, "--seed", "-1"], ExitCode.USAGE, "Give a number, 0..4294967295."),
    "comma for the point": ([*TRANSFER, "--wet", "0,5"], ExitCode.USAGE, "Write a point for the comma: 0.5."),
    "no model": (["transfer", "voice.wav"], ExitCode.USAGE, "--model"),
    "no input": (["transfer", "--model", "testophone"], ExitCode.USAGE, "no input"),
    "nothing in the pipe": (["transfer", "-", "--model", "testophone", "--out", "o.wav"], ExitCode.INPUT, "standard"),
    "two pipes": (["transfer", "-", "-", "--model", "testophone"], ExitCode.USAGE, "only once"),
    "two into one pipe": ([*TRANSFER, "no_audio", "--out", "-"], ExitCode.USAGE, "one stream"),
    "dynamics out of range": ([*TRANSFER, "--dynamics", "2"], ExitCode.USAGE, "dynamics"),
    "loudness that is none": ([*TRANSFER, "--loudness", "nan"], ExitCode.USAGE, "loudness"),
    "unknown key": ([*TRANSFER, "--autotune", "1", "--key", "H"], ExitCode.USAGE, "--key"),
    "key without autotune": ([*TRANSFER, "--key", "C"], ExitCode.USAGE, "--autotune 1"),
    "unknown bits": ([*TRANSFER, "--bits", "12"], ExitCode.USAGE, "--bits"),
    "unknown room": ([*TRANSFER, "--room", "testofone"], ExitCode.MODEL, "testophone"),
    "unknown tracker to hear with": ([*TRANSFER, "--pitch", "swift"], ExitCode.USAGE, "swift-f0"),
    "controls of another kind": ([*TRANSFER, "--controls", "c.txt"], ExitCode.USAGE, "c.txt"),
    "no such controls": (["transfer", "--from-controls", "c.csv", "--model", "testophone"], ExitCode.INPUT, "c.csv"),
    "no such tune": (["transfer", "tune.mid", "--model", "testophone"], ExitCode.INPUT, "tune.mid"),
    "report that is none": ([*TRANSFER, "--report", "r.txt"], ExitCode.USAGE, "r.txt"),
    "unknown option": ([*TRANSFER, "--tranpose", "3"], ExitCode.USAGE, "--transpose"),
    "unknown command": (["transfre"], ExitCode.USAGE, "transfer"),
    "unknown preset": (["train", "--instrument", "x", "--preset", "vts"], ExitCode.MODEL, "Did you mean vst"),
    "steps below their range": (["train", "--instrument", "x", "--steps", "0"], ExitCode.USAGE, "from 1 on."),
    "steps in words": (["train", "--instrument", "x", "--steps", "1e3"], ExitCode.USAGE, "--steps: 1e3 is not a whole"),
    "port beyond its range": (["studio", "--port", "70000"], ExitCode.USAGE, "Give a number, 0..65535."),
    "map of another kind": (["models", "--map", "--out", "map.txt"], ExitCode.USAGE, "Name it map.png."),
    "unknown format": (["export", "--model", "testophone", "--format", "wav"], ExitCode.USAGE, "wav"),
    "export of nothing": (["export", "--model", "testofone", "--format", "savedmodel"], ExitCode.MODEL, "testophone"),
    "export of a blend": (["export", "--model", "testophone+flute", "--format", "onnx"], ExitCode.MODEL,
                          "ddsp models blend testophone+flute --name NAME"),
    "prepare nothing": (["prepare", "no_audio"], ExitCode.INPUT, "no_audio"),
    "unknown tracker": (["prepare", "voice.wav", "--pitch", "swift"], ExitCode.USAGE, "swift-f0"),
    "unknown level": (["prepare", "voice.wav", "--level", "mach"], ExitCode.USAGE, "--level: mach is not known"),
    "rate of no model": (["prepare", "voice.wav", "--sample-rate", "0"], ExitCode.USAGE, "--sample-rate: models"),
    "all held out": (["prepare", "voice.wav", "--hold-out", "*"], ExitCode.USAGE, "--hold-out: '*' matches every"),
}  # fmt: skip


@pytest.fixture
def run_here(desk, monkeypatch, capsys):
    """Runs the whole command in this process, in a folder and with empty standard input."""

    def run(*arguments):
        monkeypatch.chdir(desk)
        monkeypatch.setattr(sys, "argv", ["ddsp", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(("arguments", "code", "words"), CASES.values(), ids=CASES.keys())
def test_failure(desk, run_here, arguments, code, words):
    before = listing(desk)
    returned, printed, text = run_here(*arguments)
    assert returned == code, text
    assert printed == ""
    assert "Traceback" not in text
    assert words in text
    lines = text.splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith((".", "?"))
    assert len(lines) <= 3
    assert listing(desk) == before


def test_force_replaces(desk, tmp_path):
    out = tmp_path / "taken.wav"
    out.write_bytes(b"precious")
    done = ddsp(*TRANSFER, "--out", out, "--force", cwd=desk)
    assert done.returncode == ExitCode.OK
    assert out.read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_where_it_came_from(desk, place):
    command = ["transfer", "nowhere.wav", "--model", "testophone"]
    done = ddsp(*(["--debug", *command] if place == "before" else [*command, "--debug"]), cwd=desk)
    assert done.returncode == ExitCode.INPUT
    assert b"Traceback" in done.stderr
    assert b"Error: nowhere.wav does not exist." in done.stderr


def test_a_defect_of_ours_is_one_sentence(monkeypatch, capsys):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero\nand more")

    monkeypatch.setattr(cli, "make_app", lambda *_: broken)
    assert cli.run_command(["models"], debug=False) == ExitCode.INTERNAL
    text = capsys.readouterr().err
    assert text.splitlines() == [
        "Error: something went wrong inside ddsp (ZeroDivisionError: division by zero).",
        "Run again with --debug for details.",
    ]
    assert cli.run_command(["models"], debug=True) == ExitCode.INTERNAL
    assert "Traceback" in capsys.readouterr().err


def test_interruption_inside_an_import_is_one(monkeypatch, capsys):
    """A compiled module that is interrupted while it loads says that its initialisation failed."""

    def interrupted(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as cause:
            raise ImportError("initialization failed") from cause

    monkeypatch.setattr(cli, "make_app", lambda *_: interrupted)
    assert cli.run_command(["transfer"], debug=False) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.startswith("Interrupted.")


def test_interruption_is_said_with_what_is_kept(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "make_app", lambda *_: interrupted)
    assert cli.run_command(["train"], debug=False) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == f"Interrupted. {cli.KEPT['train']}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_leaves_nothing_half_written(desk, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(melody(), 800), 16000)
    process = subprocess.Popen(
        [sys.executable, "-m", "ddsp_cli", "transfer", tmp_path / "long.wav", "--model", "testophone",
         "--out", tmp_path / "out"],
        cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "out").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, text
    assert text.decode().startswith("Interrupted.")
    assert b"Traceback" not in text
    assert [path.name for path in tmp_path.rglob("*")] == ["long.wav"]


def test_a_path_in_a_hint_can_be_typed() -> None:
    problem = InputError("it holds notes", kind=Kind.NOTE_TABLE, path=Path("my takes/notes.csv"))
    assert f"--from-notes {quoted('my takes/notes.csv')} --model" in options.error_hint(problem)
