"""The shell completes commands, options, and the names of instruments and presets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fixtures import make_bundle


def complete(shell, words, cwd):
    """What a shell is given to complete the last of some words."""
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
    ("bash", ["ddsp", "tra"], "transfer"),
    ("bash", ["ddsp", "transfer", "--auto"], "--autotune"),
    ("bash", ["ddsp", "train", "--preset", "vs"], "vst"),
    ("bash", ["ddsp", "transfer", "--model", "flute+testo"], "flute+testophone"),
    ("bash", ["ddsp", "models", "testo"], "testophone"),
]


@pytest.mark.parametrize(("shell", "words", "expected"), CASES)
def test_words_are_completed(shell, words, expected, tmp_path):
    make_bundle(tmp_path / "models" / "testophone")
    assert expected in complete(shell, words, tmp_path)
