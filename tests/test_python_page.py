"""docs/python.md is true: its Python runs as written, in order, in one program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import ddsp_cli
from fixtures import melody
from page_fixtures import ROOT, code_blocks
from test_readme import melody as bowed

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")

#: What has to be true when the page has run.
AFTER = """
import os
import numpy as np
assert len(audio) / audio_rate == len(voice) / sample_rate and np.abs(audio).max() > 0.01
assert len(np.concatenate(played)) == len(voice) and np.abs(np.concatenate(played)).max() > 0.01
assert abs(np.median(features.f0_hz[voiced]) - 261) < 5
assert os.path.isfile("out.wav") and exported.folder.is_dir() and dataset.folder.is_dir()
"""


@pytest.mark.slow
def test_the_page_runs_as_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "flute", tmp_path / "models" / "flute")
    soundfile.write(tmp_path / "voice.wav", melody(note_s=0.6), 16000)
    (tmp_path / "wavs").mkdir()
    for index, midi in enumerate(([62, 64, 66, 67, 69, 71], [74, 71, 69, 67, 66, 62], [69, 66, 62, 66, 69, 74])):
        soundfile.write(tmp_path / "wavs" / f"take{index + 1}.wav", bowed(midi, 1.5, seed=index), 16000)
    program = "\n".join([*code_blocks(PAGE, "python"), AFTER])
    script = f"if __name__ == '__main__':\n{re.sub('^', '    ', program, flags=re.MULTILINE)}"
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Did you mean flute" in done.stdout


def test_every_public_name_is_on_the_page() -> None:
    left_out = {"Instrument", "__version__"}
    missing = [name for name in set(ddsp_cli.__all__) - left_out if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []
