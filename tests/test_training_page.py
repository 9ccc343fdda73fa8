"""docs/training.md is true: its commands run as written, the named files are written, its tables list every figure.

Training is cut short by `--steps` and by a preset of a few hundred weights after the written options.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ddsp_cli.analysis.metrics import METRICS
from ddsp_cli.bundle import load_card
from ddsp_cli.config import LossConfig, Preset, TrainingConfig, dump_yaml
from fixtures import small_model
from page_fixtures import ROOT, commands
from test_readme import desk, run_as_written

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")

__all__ = ["desk"]


@pytest.mark.slow
def test_every_command_runs_as_written(desk: Path) -> None:
    assert {words[0] for words in commands(PAGE)} == {"ddsp"}
    training = TrainingConfig(batch_size=2, crop_s=0.5, loss=LossConfig(fft_sizes=(256,)))
    preset = dump_yaml(Preset(description="small", model=small_model(), training=training))
    (desk / "small.yaml").write_text(preset, encoding="utf-8")
    lines = commands(PAGE)
    of_folders = [words for words in lines if "sax" in words]  # they need a base, which the small preset has not
    assert [words[1] for words in of_folders] == ["prepare", "train"]
    run_as_written([words for words in lines if words not in of_folders], desk, "--preset", "small.yaml")
    for i, place in enumerate(("studio", "church", "practice")):  # prepare leaves out what is there twice
        (desk / "takes" / place).mkdir(parents=True)
        shutil.copy(desk / "wavs" / f"take{i + 1}.wav", desk / "takes" / place)
    run_as_written(of_folders, desk)
    assert load_card(desk / "models/sax").training.timbre == "studio"
    named = re.findall(r"`(models/my-violin[^` ]*)` \|", PAGE)
    assert len(named) == 6
    assert [name for name in named if not (desk / name).exists()] == []
    assert (desk / "models/mine/model.yaml").is_file()
    assert (desk / "judged/evaluation.json").is_file()


def test_every_figure_is_explained() -> None:
    table = PAGE.partition("| figure | what it is |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([^|]+) \| ", table, flags=re.MULTILINE) == [title for title, _ in METRICS.values()]
