import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ddsp_cli.dataset.lock import exclusive
from ddsp_cli.errors import OutputError


def hold(path: str, ready: object, seconds: float) -> None:
    with exclusive(Path(path), "the set"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


def test_the_second_is_refused_and_told_who_is_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(str(tmp_path / "lock"), ready, 60.0))
    other.start()
    assert ready.wait(60)
    holder = other.pid if os.name != "nt" else ""
    refused = pytest.raises(OutputError, match=rf"writing the set just now.*{holder}")
    with refused, exclusive(tmp_path / "lock", "the set"):
        pass
    other.kill()
    other.join()
    with exclusive(tmp_path / "lock", "the set"):  # whoever was killed holds nothing, though its file lies there
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_it_is_released_when_the_block_raises(tmp_path):
    with pytest.raises(KeyError), exclusive(tmp_path / "lock", "the set"):
        raise KeyError
    with exclusive(tmp_path / "lock", "the set"):
        pass


def test_a_place_without_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), exclusive(tmp_path / "no" / "lock", "the set"):
        pass
