import functools
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from ddsp_cli.errors import OutputError
from ddsp_cli.lock import exclusive, in_turn

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


def test_turns_are_waited_for_and_need_no_place(tmp_path):
    order, inside, leave = [], threading.Event(), threading.Event()

    def first():
        with in_turn(tmp_path / "turn"):
            inside.set()
            leave.wait(10)
            order.append("first")

    def second():
        with in_turn(tmp_path / "turn"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    threads[1].join(0.3)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
    with in_turn(tmp_path / "missing" / "turn"):
        order.append("third")
    assert order[-1] == "third"
