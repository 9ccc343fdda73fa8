"""The page of a training: of one piece, whole, and what it says follows from the run."""

from __future__ import annotations

import re
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from ddsp_cli.errors import OutputError
from ddsp_cli.reports import training_report
from ddsp_cli.reports.training_report import PAGE, PICTURE, write_training_report
from ddsp_cli.training.checkpoint import CHECKPOINT, Point, RunState
from fixtures import make_bundle
from page_fixtures import Tags
from training_fixtures import tones

HISTORY = [Point(100, 9.0, 9.5, 30.0), Point(200, 7.0, 7.25, 61.0), Point(300, 6.0, 7.5, 90.0)]


def dataset(n: int = 6) -> SimpleNamespace:
    manifest = SimpleNamespace(window_s=1.0, features=SimpleNamespace(frame_rate_hz=250))
    return SimpleNamespace(manifest=manifest, validation=tones(n))


def write_checkpoint(folder, **changes):
    from safetensors.numpy import save_file

    state = RunState(
        **{"preset": "", "dataset": "", "seed": 0, "step": 300, "wall_s": 90.0, "best_loss": 7.25, "history": HISTORY}
        | changes
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(1)}, folder / CHECKPOINT, metadata={"state": msgspec.json.encode(state).decode()})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    make_bundle(home / "bläser & co", metrics={"spectral_loss": 7.25, "room_share": 0.031, "judged_s": 120.0})
    run = home / "bläser & co.run"
    write_checkpoint(run)
    page = write_training_report(run, home / "bläser & co", dataset())
    assert page == run / PAGE
    return run


def test_it_is_of_one_piece(written):
    text = (written / PAGE).read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", text)
    assert sum(address.startswith("data:audio/mpeg") for address in addresses) == 8
    assert sum(address.startswith("data:image/png") for address in addresses) == 5
    assert len(addresses) == 13
    assert not re.search(r"https?://", text)
    assert "bläser &amp; co" in text
    assert "bläser & co" not in text
    assert str(written) not in text
    assert (written / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert sorted(entry.name for entry in written.iterdir()) == [CHECKPOINT, PAGE, PICTURE]


def test_it_says_how_the_training_went(written):
    text = (written / PAGE).read_text(encoding="utf-8")
    assert "300 steps in 1.5 min, not finished" in text
    assert "9.50 at first, 7.25 at its best, after step 200" in text
    assert "spectral loss 7.25, room 3.1%" in text
    assert "on 2.0 min it did not learn from" in text


def test_tags_are_closed(written):
    assert Tags((written / PAGE).read_text(encoding="utf-8")).open == []


def test_windows_with_notes_are_chosen():
    data = dataset(20)
    data.validation.f0_hz[::2] = 0
    assert training_report.choose_windows(data) == [1, 7, 13, 19]
    data.validation.f0_hz[:] = 0
    data.validation.f0_hz[3, :10] = 440
    assert training_report.choose_windows(data) == [3], "the best there is"


def test_a_run_without_times_or_validations_has_a_page_too(tmp_path):
    made = make_bundle(tmp_path / "a")
    for history in ([Point(3, 2.0, 1.0)], []):
        write_checkpoint(tmp_path / "a.run", history=history)
        write_training_report(tmp_path / "a.run", made.path, dataset(1))
        text = (tmp_path / "a.run" / PAGE).read_text(encoding="utf-8")
        assert ("1.00 at its best" in text) == bool(history)


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    made = make_bundle(tmp_path / "a")
    write_checkpoint(tmp_path / "a.run")
    (tmp_path / "a.run" / PAGE).mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_training_report(tmp_path / "a.run", made.path, dataset(1))
    assert not list((tmp_path / "a.run").glob(".*"))
