import functools
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ddsp_cli.errors import OutputError
from ddsp_cli.lock import exclusive

taken = functools.partial(exclusive, what="the set", program="ddsp prepare", option="--name")


def hold(path: str, ready: object, seconds: float) -> None:
    with taken(Path(path)):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


def test_the_second_is_refused_and_told_who_is_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(str(tmp_path / "lock"), ready, 60.0))
    other.start()
    assert ready.wait(60)
    holder = other.pid if os.name != "nt" else ""
    refused = pytest.raises(OutputError, match=rf"another ddsp prepare is writing the set just now.*{holder}")
    with refused, taken(tmp_path / "lock"):
        pass
    other.kill()
    other.join()
    with taken(tmp_path / "lock"):  # whoever was killed holds nothing, though its file lies there
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_it_is_released_when_the_block_raises(tmp_path):
    with pytest.raises(KeyError), taken(tmp_path / "lock"):
        raise KeyError
    with taken(tmp_path / "lock"):
        pass


def test_a_place_without_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), taken(tmp_path / "no" / "lock"):
        pass
