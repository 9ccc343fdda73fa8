"""The page of a training: one file, and its content follows from the run."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from ddsp_cli.errors import OutputError
from ddsp_cli.reports.pages import TRAINING_PAGE, TRAINING_PICTURE, TrainingSummary, write_training_report
from ddsp_cli.training.checkpoint import Point
from ddsp_cli.workflows.evaluate import Clip, choose_windows
from fixtures import melody
from page_fixtures import Tags
from training_fixtures import tones

HISTORY = [Point(100, 9.0, 9.5, 30.0), Point(200, 7.0, 7.25, 61.0), Point(300, 6.0, 7.5, 90.0)]


def summary(**changes) -> TrainingSummary:
    return TrainingSummary(
        **{
            "instrument": "bläser & co", "preset": "vst", "n_weights": 1234, "audio_s": 600.0, "steps": 300,
            "wall_s": 90.0, "finished": False, "rollbacks": 0, "history": HISTORY,
            "metrics": {"spectral_loss": 7.25, "room_share": 0.031, "judged_s": 120.0},
        }
        | changes
    )  # fmt: skip


def clips(n: int) -> list[Clip]:
    sound = melody((60, 64), note_s=0.2, rest_s=0.05)
    return [Clip("a", sound, sound / 2, 16000, None, 0.1) for _ in range(n)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    assert write_training_report(run, summary(), clips(2)) == run / TRAINING_PAGE
    return run


def test_it_is_of_one_piece(written):
    text = (written / TRAINING_PAGE).read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", text)
    assert sum(address.startswith("data:audio/mpeg") for address in addresses) == 4
    assert sum(address.startswith("data:image/png") for address in addresses) == 3
    assert len(addresses) == 7
    assert not re.search(r"https?://", text)
    assert "bläser &amp; co" in text
    assert "bläser & co" not in text
    assert str(written) not in text
    assert (written / TRAINING_PICTURE).read_bytes().startswith(b"\x89PNG")
    assert sorted(entry.name for entry in written.iterdir()) == [TRAINING_PAGE, TRAINING_PICTURE]


def test_it_says_which_weights_were_kept(tmp_path):
    for kept, words in (
        (HISTORY[1], "7.25 at its best, after step 200"),
        (HISTORY[2], "7.50 for the weights that were"),
    ):
        write_training_report(tmp_path, summary(kept=kept), clips(1))
        assert words in (tmp_path / TRAINING_PAGE).read_text(encoding="utf-8")


def test_it_says_how_the_training_went(written):
    text = (written / TRAINING_PAGE).read_text(encoding="utf-8")
    assert "300 steps in 1.5 min, not finished" in text
    assert "9.50 at first, 7.25 at its best, after step 200" in text
    assert "spectral distance 7.25, room 3.1%" in text
    assert "on 2.0 min of the validation split" in text


def test_tags_are_closed(written):
    assert Tags((written / TRAINING_PAGE).read_text(encoding="utf-8")).open == []


def test_windows_with_notes_are_chosen():
    data = SimpleNamespace(validation=tones(20))
    data.validation.f0_hz[::2] = 0
    assert choose_windows(data) == [1, 7, 13, 19]
    data.validation.f0_hz[:] = 0
    data.validation.f0_hz[3, :10] = 440
    assert choose_windows(data) == [3], "the best there is"


@pytest.mark.parametrize("history", [[Point(3, 2.0, 1.0)], []])
def test_a_run_without_times_or_validations_has_a_page_too(tmp_path, history):
    write_training_report(tmp_path, summary(history=history), clips(1))
    text = (tmp_path / TRAINING_PAGE).read_text(encoding="utf-8")
    assert ("1.00 at its best" in text) == bool(history)


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / TRAINING_PAGE).mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_training_report(tmp_path, summary(), clips(1))
    assert not list(tmp_path.glob(".*"))
