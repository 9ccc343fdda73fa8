"""What `benchmarks/fuzz_guided.py` feeds: each reader takes its whole files, and answers damaged ones in a sentence."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from ddsp_cli.errors import DdspError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from fuzz_guided import NAMES, readers  # noqa: E402
from small import damaged  # noqa: E402


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    return readers(tmp_path_factory.mktemp("readers"))


def test_all_readers_are_fed(found):
    assert set(found) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_and_damaged_ones_answered(found, name):
    reader, dice = found[name], random.Random(0)
    for content in reader.whole:
        reader.read(content)
        for _ in range(20):
            try:
                reader.read(damaged(content, dice, len(content)))
            except reader.allowed:
                pass
            except DdspError as problem:
                assert problem.message
                assert "\n" not in problem.message
