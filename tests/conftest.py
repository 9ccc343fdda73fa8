"""Makes `fixtures` importable from every test; settings for all of them."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Examples that take long on a busy machine are no errors.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# With frameworks loaded, each collection passes over a million objects: 7 % of the time of small trainings.
gc.set_threshold(20_000, 20, 50)

# As the command line does: threads of small matrix products only get into each other's way. Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The commands that tests start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Instruments in the library of whoever runs the tests are none of theirs, nor is their cache.
os.environ["DDSP_MODELS"] = str(Path(__file__).parent / "no-library")
os.environ["DDSP_CACHE"] = str(Path(__file__).parent.parent / ".pytest_cache" / "ddsp")

sys.path.insert(0, str(Path(__file__).parent))

# pytest-xdist's workers ignore Ctrl-C, and so would every command that a test starts in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before tests are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, so that no worker is busy alone at the end: those with slow tests, then trainings.

    The order of files holds where pytest-xdist is told not to choose its own (`--no-loadscope-reorder`).
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: 0 if item.path in slow else 1 if item.path.parent.name == "training" else 2)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Runs short trainings op by op, as `training_fixtures.op_by_op` does.

    Commands in processes of their own do compile.
    """
    from training_fixtures import op_by_op

    with op_by_op():
        yield
