"""The command line: help, version, results, output into a pipe, and completion in the shell."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mido
import numpy as np
import pytest
import soundfile

from command_fixtures import ddsp
from ddsp_cli import __version__, cli
from ddsp_cli.cli import console
from ddsp_cli.config import preset_names
from ddsp_cli.errors import ExitCode, UsageError
from ddsp_cli.shell import quoted
from ddsp_cli.workflows.performance import make_options, parse_key
from fixtures import make_bundle, melody


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone", metrics={"pitch_within_50_cents": 0.97}, remarks=["Plays softly."])
    soundfile.write(folder / "voice.wav", melody(), 16000)
    return folder


def test_version(desk):
    done = ddsp("--version", cwd=desk)
    assert done.stdout.decode().split() == ["ddsp", __version__]


def test_help_names_every_command_and_flag(desk):
    text = ddsp("--help", cwd=desk).stdout.decode()
    for command in (
        "prepare",
        "train",
        "transfer",
        "live",
        "reverb",
        "export",
        "import",
        "models",
        "--version",
        "--debug",
    ):
        assert command in text
    flags = {
        "prepare": "--name --out --sample-rate --pitch --workers --force",
        "train": "--instrument --dataset --preset --steps --out --resume --fresh --seed " + " ".join(preset_names()),
        "transfer": "--model --out --transpose --dynamics --loudness --autotune --key --tuning --vibrato --threshold "
        "--pitch --room --wet --sample-rate --bits --controls --from-controls --plot --report --seed --force",
        "live": "--model --input --output --transpose --block --latency --record --midi --voices --list --force",
        "export": "--model --format --out --force",
        "import": "--name --out --force",
    }
    for command, names in flags.items():
        text = ddsp(command, "--help", cwd=desk).stdout.decode()
        for name in names.split():
            assert name in text, (command, name)


def test_transfer_says_what_it_did(desk, tmp_path):
    done = ddsp("transfer", "voice.wav", "--model", "testophone", "--out", tmp_path / "out.wav", cwd=desk)
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    line = done.stdout.decode()
    assert line.count("\n") == 1
    for words in ("out.wav", "testophone", "3 segments", "+12 semitones"):
        assert words in line
    assert done.stderr == b""
    assert (tmp_path / "out.wav").is_file()


def test_negative_transposition_is_an_option_value(desk, tmp_path):
    out = tmp_path / "out.wav"
    done = ddsp("transfer", "voice.wav", "--model", "testophone", "--transpose", "-5", "--out", out, cwd=desk)
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert b"-5 semitones" in done.stdout


def test_every_option_reaches_the_sound(desk, tmp_path):
    """One call with every option; their effects are tested in workflows/test_transfer_options.py."""
    words = (
        "--transpose 0 --dynamics 0.5 --loudness -3 --autotune 1 --key Amin --tuning 442 --vibrato 0.5 --threshold 30 "
    )
    words += "--pitch swift-f0 --room testophone --wet 0.5 --bits float --sample-rate 22050 --seed 3 --plot"
    places = ["--out", tmp_path / "o.wav", "--controls", tmp_path / "c.csv", "--report", tmp_path / "r.html"]
    done = ddsp("transfer", "voice.wav", "--model", "testophone", *words.split(), *places, cwd=desk)
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert "not transposed, tuned to A minor, room 0.2 s" in done.stdout.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "o.png", "o.wav", "r.html"]
    info = soundfile.info(tmp_path / "o.wav")
    assert (info.subtype, info.samplerate) == ("FLOAT", 22050)
    table = (tmp_path / "c.csv").read_text(encoding="utf-8")
    assert table.startswith("time_s,f0_hz,power_db,gate\n")
    again = ddsp(
        "transfer",
        "--from-controls",
        tmp_path / "c.csv",
        "--model",
        "testophone",
        "--out",
        tmp_path / "a.wav",
        cwd=desk,
    )
    assert again.returncode == ExitCode.OK, again.stderr.decode()


def test_sound_flows_through_pipes(desk, tmp_path):
    voice = (desk / "voice.wav").read_bytes()
    done = ddsp("transfer", "-", "--model", "testophone", cwd=desk, stdin=voice)
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    audio, rate_hz = soundfile.read(io.BytesIO(done.stdout))
    assert (len(audio), rate_hz) == (len(melody()), 16000)
    assert b"standard output: " in done.stderr
    out = tmp_path / "out.wav"
    assert ddsp("transfer", "voice.wav", "--model", "testophone", "--out", out, cwd=desk).returncode == ExitCode.OK
    assert done.stdout == out.read_bytes()
    flac = ddsp("transfer", "-", "--model", "testophone", "--out", tmp_path / "o.flac", cwd=desk, stdin=voice)
    assert flac.stdout.decode().startswith(str(tmp_path / "o.flac"))
    to_pipe = ddsp("transfer", "voice.wav", "--model", "testophone", "--out", "-", cwd=desk)
    assert to_pipe.stdout == done.stdout
    nowhere = ddsp("transfer", "voice.wav", "--model", "testophone", "--out", "-", "--plot", cwd=desk)
    assert (nowhere.returncode, nowhere.stdout) == (2, b"")
    assert b"--plot" in nowhere.stderr


def test_a_midi_file_flows_through_a_pipe(desk, tmp_path):
    track = mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", note=60, time=480)])
    mido.MidiFile(tracks=[track]).save(tmp_path / "tune.mid")
    tune = (tmp_path / "tune.mid").read_bytes()
    done = ddsp("transfer", "-", "--model", "testophone", cwd=desk, stdin=tune)
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert len(soundfile.read(io.BytesIO(done.stdout))[0]) == 2 * 16000
    wrong = ddsp("reverb", "-", "--room", "testophone", "--out", tmp_path / "o.wav", cwd=desk, stdin=tune)
    assert wrong.returncode == ExitCode.USAGE
    assert wrong.stderr.decode().splitlines() == [
        "Error: standard input holds notes, not a recording.",
        "Play it on an instrument: ddsp transfer - --model NAME",
    ]


def test_a_stream_of_unknown_length_is_read(desk):
    """As ffmpeg writes it into a pipe: the header claims the largest length."""
    voice = bytearray((desk / "voice.wav").read_bytes())
    voice[4:8] = b"\xff" * 4
    place = voice.index(b"data") + 4
    voice[place : place + 4] = b"\xff" * 4
    done = ddsp("transfer", "-", "--model", "testophone", cwd=desk, stdin=bytes(voice))
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert len(soundfile.read(io.BytesIO(done.stdout))[0]) == len(melody())


def test_a_remark_is_said_once_and_beside_the_result(desk, tmp_path):
    t = np.arange(32000) / 16000
    chord = sum(0.02 * np.sin(2 * np.pi * 261.6 * 2 ** (s / 12) * k * t) for s in (0, 4, 7) for k in range(1, 6))
    soundfile.write(tmp_path / "chord.wav", chord, 16000)
    done = ddsp("transfer", tmp_path / "chord.wav", "--model", "testophone", "--out", tmp_path / "o.wav", cwd=desk)
    assert done.returncode == ExitCode.OK
    assert done.stderr.decode().startswith("Warning: ")
    assert done.stderr.decode().count("chords, of which the strongest was followed") == 1
    assert "Warning" not in done.stdout.decode()


def test_models_is_plain_in_a_pipe(desk):
    done = ddsp("models", cwd=desk)
    text = done.stdout.decode()
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("testophone ")]
    for words in ("C4 to C6", "vst, 16 kHz", "97% in tune", "CC0-1.0"):
        assert words in line


def test_models_tells_all_of_one(desk):
    text = ddsp("models", "testophone", cwd=desk).stdout.decode()
    for words in ("range", "C4 to C6", "97% in tune", "CC0-1.0", "Plays softly."):
        assert words in text
    assert "timbre" not in text
    violin = " ".join(ddsp("models", "violin", cwd=desk).stdout.decode().split())
    assert "timbre that of the recordings in the folder bach-violin-dataset_john-garner, and their room" in violin
    missing = ddsp("models", "testofone", cwd=desk)
    assert missing.returncode != ExitCode.OK
    assert "Did you mean testophone" in missing.stderr.decode()


@pytest.mark.parametrize(
    ("word", "posix", "windows"),
    [
        ("flute:0.6+violin:0.4", "flute:0.6+violin:0.4", "flute:0.6+violin:0.4"),
        ("my voice.wav", "'my voice.wav'", '"my voice.wav"'),
        ("0:flute 8s:violin", "'0:flute 8s:violin'", '"0:flute 8s:violin"'),
        ("it's $HOME.wav", "'it'\"'\"'s $HOME.wav'", '"it\'s $HOME.wav"'),
        ("C:\\sounds\\a.wav", "'C:\\sounds\\a.wav'", "C:\\sounds\\a.wav"),
    ],
)
def test_words_of_a_command_are_quoted_for_the_shell_of_the_system(word, posix, windows):
    assert quoted(word, "posix") == posix
    assert quoted(word, "nt") == windows


def test_a_library_that_several_instruments_came_from_is_named_once(tmp_path, monkeypatch, capsys):
    from ddsp_cli.bundle import Source
    from ddsp_cli.cli.models import models as command

    library = {"licence": "CC0-1.0", "attribution": "Somebody's samples", "url": "https://example.org/"}
    sources = [Source(title="flute", **library), Source(title="oboe", **library), Source(title="Own recordings")]
    make_bundle(tmp_path / "models" / "testophone", sources=sources)
    monkeypatch.chdir(tmp_path)
    command(["testophone"])
    found = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if "source " in line]
    assert found == ["Somebody's samples (CC0-1.0) https://example.org/", "Own recordings (unknown)"]


def test_long_facts_are_continued_with_an_indent_on_a_terminal_only(monkeypatch, capsys):
    text = "one two three four five six seven eight nine ten eleven twelve thirteen https://example.org/a-long-address"
    console.fact("remark", text)
    assert capsys.readouterr().out == f"  remark        {text}\n"
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "60")
    console.fact("remark", text)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert {line[:16] for line in lines[1:]} == {" " * 16}
    assert max(map(len, lines)) < 60
    assert " ".join(line[16:] for line in lines) == text


def test_output_survives_a_console_without_unicode(desk, tmp_path):
    out = tmp_path / "flöte.wav"
    done = ddsp(
        "transfer", "voice.wav", "--model", "testophone", "--out", out, cwd=desk, PYTHONIOENCODING="ascii:strict"
    )
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert b"fl?te.wav" in done.stdout


def test_a_bare_command_shows_help(desk):
    done = ddsp(cwd=desk)
    assert done.returncode == ExitCode.USAGE
    assert b"transfer" in done.stdout + done.stderr
    assert b"Error" not in done.stderr


@pytest.mark.parametrize(
    ("options", "parameter"),
    [({"key": "C"}, "key"), ({"tuning": 442}, "tuning"), ({"retune": "0.5"}, "retune"),
     ({"room": "none", "wet": 2}, "wet"), ({"room": "None", "tail": True}, "tail"), ({"wet": 0, "tail": True}, "tail")],
)  # fmt: skip
def test_an_option_without_effect_is_refused(options, parameter):
    with pytest.raises(UsageError) as caught:
        make_options(**options)
    assert caught.value.parameter == parameter
    make_options(key="AUTO", room="none", wet=0)


@pytest.mark.parametrize(
    ("words", "option"),
    [("blend flute:0.5+cello:0.5 --name y --out y", "--out"), ("flute --out x.txt", "--out"),
     ("flute --force", "--force"), ("--seed 4", "--seed"), ("blend flute+cello --name y --seed 4", "--seed"),
     ("--map --name y", "--name"), ("share flute --random", "--random")],
)  # fmt: skip
def test_an_option_that_another_use_of_models_has_is_refused(words, option, tmp_path):
    done = ddsp("models", *words.split(), cwd=tmp_path, DDSP_MODELS=str(tmp_path / "library"))
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert done.stderr.decode().startswith(f"Error: {option} has no effect here.\nIt belongs to: ddsp models ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "value"), [("auto", None), ("AUTO", None), ("12", 12.0), ("-0.5", -0.5)])
def test_transpose_is_read(text, value):
    assert make_options(transpose=text).adapt.transpose == value


def test_key_and_tuning_are_read():
    assert parse_key("auto") is None
    assert str(parse_key("bb")) == "Bb major"
    for text, semitones in (("auto", None), ("440", 0.0), ("442", pytest.approx(0.0785, abs=1e-3))):
        assert make_options(autotune=1.0, tuning=text).adapt.tuning_semitones == semitones
    for text in ("", "nan", "4400", "A"):
        with pytest.raises(UsageError) as caught:
            make_options(autotune=1.0, tuning=text)
        assert caught.value.parameter == "tuning"
    with pytest.raises(UsageError, match="not a key") as caught:
        parse_key("C majro")
    assert caught.value.parameter == "key"
    assert "C major" in caught.value.hint


@pytest.mark.parametrize("text", ["", "up", "nan", "inf", "1,5", "12st"])
def test_transpose_is_refused(text):
    with pytest.raises(UsageError) as caught:
        make_options(transpose=text)
    assert caught.value.parameter == "transpose"


def test_small_things_of_the_console(capsys, monkeypatch):
    assert [console.duration(s) for s in (3.21, 245, 3723)] == ["3.2 s", "4:05", "1:02:03"]
    assert [console.size(n) for n in (3_748_228, 950)] == ["3.7 MB", "0.9 kB"]
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert console.displayable(stream, "4 × – 5…") == "4 x - 5..."
    assert console.displayable(stream, "a\x1b[2Jb\r\x9bc\td\ne") == "a?[2Jb??c\td\ne"


def test_progress_is_occasional_lines_off_a_terminal(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.Progress() as progress:
        for i in range(20):
            progress("voice.wav: playing", i, 20)
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 8
    assert lines[0].startswith("voice.wav: playing: ")
    assert "left" in lines[0]
    assert not any("\r" in line or "\x1b" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_colour_and_a_pipe_does_not(desk):
    import pty

    command = [sys.executable, "-m", "ddsp_cli", "transfer", "nowhere.wav", "--model", "testophone"]
    leader, follower = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"}
    subprocess.run(command, cwd=desk, stderr=follower, stdout=follower, env=environment, timeout=60, check=False)
    os.close(follower)
    text = os.read(leader, 10000).decode()
    os.close(leader)
    assert "\x1b[" in text
    assert "nowhere.wav does not exist" in text
    assert b"\x1b" not in ddsp(*command[3:], cwd=desk).stderr


@pytest.mark.parametrize("out", [None, Path("elsewhere") / "my oboe"])
def test_train_tells_how_to_play_it(out, monkeypatch, capsys):
    from ddsp_cli.cli.train import train as command
    from ddsp_cli.workflows.train import TrainResult

    folder = out or Path("models/my oboe")
    result = TrainResult(folder, folder.with_suffix(".run"), 1, 1.0, 1, 2.0, 1.0, {}, None)
    monkeypatch.setattr("ddsp_cli.workflows.train.train", lambda *args, **options: result)
    command("my oboe", out=out)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"--model {quoted(out or 'my oboe')}")


def test_before_the_first_step_a_training_has_no_loss(monkeypatch, capsys):
    from ddsp_cli.cli.train import train as command
    from ddsp_cli.training.checkpoint import Point, RunState, progress_of
    from ddsp_cli.workflows.train import TrainResult

    def run(*args, progress, **options):
        progress(progress_of(RunState("", "", 0, best_loss=9.0, history=[Point(0, 9.0, 9.0)]), 4, [], "best"))
        return TrainResult(Path("m"), Path("m.run"), 1, 1.0, 1, 2.0, 1.0, {}, None)

    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr("ddsp_cli.workflows.train.train", run)
    command("my oboe")
    assert capsys.readouterr().err.splitlines()[-1] == "train: 0 of 4 steps, best 9.00"


def test_time_left_counts_from_where_the_work_was_taken_up(monkeypatch, capsys):
    """Step 1000 of 2000 when it begins, ten steps in twenty seconds: half a step a second."""
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    progress = console.Progress("steps", speed=True)
    progress("training", 1000, 2000)
    clock[0] = 20.0
    progress("training", 1010, 2000, "loss 5.000")
    assert capsys.readouterr().err == "training: 1010 of 2000 steps, about 33:00 left, 0.5 steps/s, loss 5.000\n"


def test_a_table_that_is_too_wide_for_a_terminal_becomes_blocks(monkeypatch, capsys):
    """At 80 columns the figures of `ddsp evaluate` were cut to a letter each."""
    columns = ["recording", *(f"figure {i} of it" for i in range(9))]
    rows = [["takes/one.wav", *("-12.5 dB" for _ in range(9))], ["takes/two.wav", *("98 %" for _ in range(9))]]
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    console.table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["takes/one.wav", "  figure 0 of it  -12.5 dB"]
    assert lines[10:12] == ["takes/two.wav", "  figure 0 of it  98 %"]
    monkeypatch.setenv("COLUMNS", "240")
    console.table(columns, rows)
    assert len(capsys.readouterr().out.splitlines()) < 8


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_speaks_of_values_as_users_write_them(name, capsys):
    """Ranges as 0..1, and no names of types."""
    with contextlib.suppress(SystemExit):
        cli.make_app(name)([name, "--help"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "--help" in text
    assert re.findall(r"<(?:int|str|float)[^>]*>|x>=|<=x", text) == []


def test_remarks_are_wrapped_between_words_on_a_terminal(monkeypatch, capsys):
    text = "takes/a long name.wav: " + "it sounds like speech " * 6
    console.remark(text)
    assert capsys.readouterr().err == f"{text}\n"
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    console.remark(text)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1 and max(map(len, lines)) < 80
    assert " ".join(lines).split() == text.split()
    console.say(text)  # a command that is to be copied stays one line
    assert capsys.readouterr().out == f"{text}\n"
    console.say(text, wrap=True)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80 and all(line.startswith("  ") for line in lines[1:]) and len(lines) > 1


def test_remarks_recommend_options_as_they_are_typed(capsys):
    from ddsp_cli.adaptation import diagnostics
    from ddsp_cli.cli.transfer import warn

    words = (diagnostics.CHORDS, diagnostics.SPEECH)
    warn([SimpleNamespace(input=Path("a.wav"), remarks=words)], SimpleNamespace(name=str))
    said = capsys.readouterr().err
    warn([SimpleNamespace(input=Path("a.mid"), remarks=("autotune and vibrato have no effect on a MIDI file",))],
         SimpleNamespace(name=str))  # fmt: skip
    assert "a.mid: --autotune and --vibrato have no effect on a MIDI file." in capsys.readouterr().err
    assert "--voices lead keeps" in said and "--voices chords plays" in said and "use --autotune 1." in said


def complete(shell, words, cwd):
    """Returns the completions of the last of some words, as a shell gets them."""
    line = " ".join(words)
    environment = os.environ | {
        "_DDSP_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }
    done = subprocess.run(
        [sys.executable, "-c", "from ddsp_cli.cli import main; main()"],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout


#: One word in every shell, every kind of word in one.
CASES = [
    *((shell, ["ddsp", "transfer", "--model", "testo"], "testophone") for shell in ("bash", "zsh", "fish")),
    ("bash", ["ddsp", "export", "--format", "v"], "vst"),
    ("fish", ["ddsp", "train", "--from", "ba"], "base"),
    ("bash", ["ddsp", "tra"], "transfer"),
    ("bash", ["ddsp", "transfer", "--auto"], "--autotune"),
    ("bash", ["ddsp", "train", "--preset", "vs"], "vst"),
    ("bash", ["ddsp", "transfer", "--model", "flute+testo"], "flute+testophone"),
    ("bash", ["ddsp", "models", "testo"], "testophone"),
]


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
@pytest.mark.parametrize("typed", ["my", r"my\ v", "'my v", '"my', r"flute+my\ "])
def test_bash_completes_names_with_spaces_as_one_word(typed, tmp_path):
    """With what it inserts after the quotation mark that was typed, the command gets the name of the instrument."""
    make_bundle(tmp_path / "models" / "my viola (old)")
    program = tmp_path / "ddsp"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from ddsp_cli.cli import main; main()" "$@"\n', "utf-8")
    program.chmod(0o755)
    environment = os.environ | {"_DDSP_COMPLETE": "source_bash"}
    script = f"""{subprocess.run([program], env=environment, capture_output=True, text=True).stdout}
COMP_WORDS=(ddsp transfer --model {shlex.quote(typed)}) COMP_CWORD=3
_ddsp_completion ./ddsp
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc"], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    (inserted,) = done.stdout.splitlines()
    mark = typed[0] if typed[0] in "'\"" else ""
    assert shlex.split(mark + inserted + mark) == [f"{'flute+' if '+' in typed else ''}my viola (old)"]


@pytest.mark.parametrize(("shell", "words", "expected"), CASES)
def test_words_are_completed(shell, words, expected, tmp_path):
    make_bundle(tmp_path / "models" / "testophone")
    assert expected in complete(shell, words, tmp_path)
