"""The tutorials run as they are written, and draw the pictures that they show.

`python tests/test_tutorials.py` draws them again into docs/tutorials.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from page_fixtures import ROOT, code_blocks

FOLDER = ROOT / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.md"))

#: The tutorial that trains takes longer than all others together.
MARKED = [pytest.param(path, marks=[pytest.mark.slow] if "training" in path.stem else []) for path in TUTORIALS]


def run(tutorial: Path, folder: Path) -> None:
    """Executes the Python blocks of a tutorial one after the other, in `folder`."""
    import matplotlib as mpl

    mpl.use("Agg")
    text = tutorial.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "tutorial"}
    with contextlib.chdir(folder):
        for block in code_blocks(text, "python"):
            exec(compile(block, str(tutorial), "exec"), names)  # noqa: S102


def test_there_are_five():
    assert len(TUTORIALS) == 5


@pytest.mark.parametrize("tutorial", MARKED, ids=[path.stem for path in TUTORIALS])
def test_tutorial(tutorial, tmp_path):
    run(tutorial, tmp_path)
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", tutorial.read_text(encoding="utf-8")):
        assert (tmp_path / picture).stat().st_size > 1000
        assert (FOLDER / picture).exists()


if __name__ == "__main__":
    for path in TUTORIALS:
        run(path, FOLDER)
