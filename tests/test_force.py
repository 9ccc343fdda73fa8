"""`--force` of any command replaces the file that is named, or a folder with a result of its kind, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import cli
from ddsp_cli.config import dump_yaml
from fixtures import make_bundle, melody
from training_fixtures import small_preset

LETTERS = {"letter.txt": b"dear", "model.yaml.txt": b"not a card", "sub/photo.jpg": b"\xff\xd8"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make_bundle(folder / "models" / "testophone")
    soundfile.write(folder / "voice.wav", melody(), 16000)
    (folder / "takes").mkdir()
    soundfile.write(folder / "takes" / "0.wav", np.tile(melody(), 4), 16000)
    (folder / "small.yaml").write_text(dump_yaml(small_preset()), encoding="utf-8")
    for name, content in LETTERS.items():
        path = folder / "Documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def desk(whole, tmp_path, monkeypatch) -> Path:
    """Inputs of every command, and a folder that is somebody else's."""
    shutil.copytree(whole, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("DDSP_MODELS", str(tmp_path / "desk" / "library"))
    shutil.copytree(whole / "Documents", tmp_path / "desk" / "library" / "hybrid")
    shutil.copytree(whole / "Documents", tmp_path / "desk" / "models" / "hybrid")
    shutil.copytree(whole / "Documents", tmp_path / "desk" / "datasets" / "hybrid")
    return tmp_path / "desk"


PLAY = ["transfer", "voice.wav", "--model", "testophone", "--force"]

#: Commands whose result is to take the place of a folder of the user.
COMMANDS = {
    "transfer": [*PLAY, "--out", "Documents/letter.txt"],
    "controls": [*PLAY, "--out", "a.wav", "--controls", "Documents"],
    "notes": [*PLAY, "--out", "a.wav", "--notes", "Documents"],
    "report": [*PLAY, "--out", "a.wav", "--report", "Documents"],
    "reverb": ["reverb", "voice.wav", "--room", "testophone", "--out", "Documents/letter.txt", "--force"],
    "live": ["live", "-m", "testophone", "--input", "null", "--output", "null", "--record", "Documents", "--force"],
    "share": ["models", "share", "testophone", "--out", "Documents", "--force"],
    "map": ["models", "--map", "--out", "Documents", "--force"],
    "blend": ["models", "blend", "flute:0.5+cello:0.5", "--name", "hybrid", "--force"],
    "rename": ["models", "rename", "testophone", "hybrid", "--force"],
    "remove": ["models", "remove", "models/hybrid", "--force"],
    "import": ["import", "models/testophone", "--name", "x", "--out", "Documents", "--force"],
    "import to the library": ["import", "models/testophone", "--name", "hybrid", "--library", "--force"],
    "prepare": ["prepare", "takes", "--out", "Documents", "--workers", "1", "--force"],
    "prepare by name": ["prepare", "takes", "--name", "hybrid", "--workers", "1", "--force"],
    "train": ["train", "--instrument", "hybrid", "--dataset", "takes", "--preset", "small.yaml", "--force"],
    "train elsewhere": ["train", "--instrument", "x", "--dataset", "takes", "--preset", "small.yaml", "--out",
                        "Documents", "--force"],
    "export litert": ["export", "--model", "testophone", "--format", "litert", "--out", "Documents", "--force"],
    "export onnx": ["export", "--model", "testophone", "--format", "onnx", "--out", "Documents", "--force"],
    "evaluate": ["evaluate", "--model", "testophone", "--dataset", "takes", "--out", "Documents", "--force"],
}  # fmt: skip


#: Those that add files of their own to a folder, beside what is there.
ADD = {"controls", "notes", "share", "export litert", "export onnx"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_not_ours_stays(desk, name, capsys):
    code = cli.run_command(COMMANDS[name], False)
    assert code in ({0} if name in ADD else {2, 3, 4, 5, 6})
    assert "Traceback" not in capsys.readouterr().err
    for place in ("Documents", "library/hybrid", "models/hybrid", "datasets/hybrid"):
        left = {path.relative_to(desk / place).as_posix(): path.read_bytes()
                for path in (desk / place).rglob("*") if path.is_file()}  # fmt: skip
        assert left == LETTERS or (name in ADD and left | LETTERS == left), place
    assert not [path.name for path in desk.rglob(".ddsp*")]


def test_every_command_with_force_is_tried():
    import ast

    source = Path(cli.__file__).parent
    names = {path.stem.rstrip("_") for path in source.glob("*.py")
             for node in ast.walk(ast.parse(path.read_text("utf-8")))
             if isinstance(node, ast.arg) and node.arg == "force"}  # fmt: skip
    tried = {arguments[0] for arguments in COMMANDS.values()}
    assert {name for name in names if name in cli.COMMANDS} <= tried
