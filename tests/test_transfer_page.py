"""docs/transfer.md is true: its commands run as written, its options exist.

They run in order in one folder that holds the files of the page. Lines with a pipe need a shell and the programs that
they name; a line whose programs are not installed is left out.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from command_fixtures import ddsp
from ddsp_cli import cli
from ddsp_cli.workflows import models
from fixtures import impulse_response, melody
from page_fixtures import ROOT, code_blocks, known_options, options

PAGE = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")


def lines() -> list[str]:
    return [line for block in code_blocks(PAGE, "sh") for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes the files that the page names."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "takes").mkdir()
    voice = melody(note_s=0.6, rest_s=0.3)
    for name in ("voice.wav", "duet.wav", "song.wav", "takes/one.wav", "takes/two.flac"):
        soundfile.write(folder / name, voice, 16000)
    soundfile.write(folder / "clap.wav", np.concatenate([np.zeros(100), [0.9], impulse_response()[1:]]), 16000)
    track = mido.MidiTrack([mido.Message("note_on", note=69), mido.Message("note_off", note=69, time=480)])
    mido.MidiFile(tracks=[track]).save(folder / "tune.mid")
    alto = mido.MidiTrack([mido.MetaMessage("track_name", name="Alto"), *track])
    mido.MidiFile(tracks=[mido.MidiTrack(track), alto]).save(folder / "choir.mid")
    for name in ("flute", "violin"):
        shutil.copytree(ROOT / "models" / name, folder / "models" / name)
    return folder


def run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--model all" in line:  # those of the folder are enough
        with monkeypatch.context() as patch:
            patch.setattr(models, "_bundled_folders", list)
            patch.chdir(folder)
            assert cli.run_command(shlex.split(line)[1:], debug=True) == 0
        return
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    if "|" in line:
        programs = {part.split()[0] for part in line.split("|")} | {"bash"}
        if any(shutil.which(program, path=environment["PATH"]) is None for program in programs):
            return
        words = ["bash", "-e", "-o", "pipefail", "-c", line]
    if "song.m4a" in line:
        subprocess.run(["ffmpeg", "-loglevel", "error", "-i", "voice.wav", "song.m4a"], cwd=folder, check=True)
    if "|" in line:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, timeout=200, check=False)
    else:
        done = ddsp(*shlex.split(line)[1:], cwd=folder, timeout=200)
    assert done.returncode == 0, f"{line}\n{done.stderr.decode()}"


def test_every_command_runs_as_written(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("ddsp transfer" in line or "ddsp reverb" in line for line in lines())
    for line in lines():
        run(line, desk, monkeypatch)
    made = ["tuned.wav", "played/one_flute.wav", "played/two_flute.wav", "compare.html", "tune_flute.wav", "curves.csv"]
    made += ["voice_flute.wav", "curves_flute.wav", "voice_flute-room.wav", "hall.wav"]
    assert [name for name in made if not (desk / name).is_file()] == []


def test_options_and_inputs_exist() -> None:
    known, mentioned = known_options("transfer"), options(PAGE)
    assert mentioned <= known
    assert known - mentioned <= {"--help", "--out", "--force", "--model"}
