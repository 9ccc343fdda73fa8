"""The pickle reader returns plain numbers, and never calls anything that a pickle names."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import card, pickles
from hostile import pickle_attacks


class QuantileTransformer:
    """Stands for the class of that name, whichever program's."""

    def __init__(self) -> None:
        self.references_ = np.linspace(0, 1, 5)
        self.quantiles_ = np.array([[-80.0], [-80.0], [-30.0], [-20.0], [-10.0]])
        self.random_state = np.random.RandomState(0)
        self.output_distribution = "uniform"


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
def test_statistics_of_every_protocol(protocol: int) -> None:
    data = {
        "a": np.float32(1.5),
        "b": np.float64(-2.0),
        "c": 3,
        "d": "text",
        "e": np.arange(6, dtype=">f8").reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "g": [1.0, (2, None, True)],
        "quantile_transform": QuantileTransformer(),
    }
    found = pickles.load(pickle.dumps(data, protocol=protocol))
    assert (found["a"], found["b"], found["c"], found["d"]) == (1.5, -2.0, 3, "text")
    np.testing.assert_array_equal(found["e"], data["e"])
    np.testing.assert_array_equal(found["f"], data["f"])
    assert found["g"] == [1.0, (2, None, True)]
    transform = found["quantile_transform"]
    assert isinstance(transform, pickles.Record)
    np.testing.assert_array_equal(transform.state["quantiles_"], [[-80], [-80], [-30], [-20], [-10]])


class Malicious:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        lambda path: Malicious(os.system, f"touch {path}"),
        lambda path: Malicious(Path.touch, path),
        lambda path: Malicious(eval, f"open({str(path)!r}, 'w')"),
        lambda path: Malicious(getattr, "text", "upper"),
        lambda path: Malicious(np.load, str(path), None, True),
        lambda path: collections.OrderedDict(a=1),
        lambda path: path,
        lambda path: np.array([path], object),
        lambda path: {1, 2},
    ],
)
def test_nothing_is_called(value: Any, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    for protocol in (0, 2, 4):
        with pytest.raises(ModelError):
            pickles.load(pickle.dumps({"mean_pitch": value(target)}, protocol=protocol))
    assert not target.exists()


@pytest.mark.parametrize("name", pickle_attacks())
def test_bombs(name: str) -> None:
    """They are refused at once, or read as a few plain values; nothing large is allocated."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with contextlib.suppress(ModelError):
            card.read_statistics(pickles.load(pickle_attacks()[name]))
            assert name == "ragged lists as an array"
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 10


@pytest.mark.parametrize("data", [b"", b".", b"\x80\x04", b"N", b"(.", b"0.", b"h\0.", b"\x94."])
def test_what_is_cut_short(data: bytes) -> None:
    with pytest.raises(ModelError):
        pickles.load(data)


def test_size() -> None:
    with pytest.raises(ModelError, match="larger"):
        pickles.load(bytes(pickles.MAX_BYTES + 1))


def test_shared_values_are_counted_each_time() -> None:
    """A column of 1,000 references to one tuple is read; 20 doublings of it are refused."""
    shared = (1.0, 2.0)
    assert pickles.load(pickle.dumps({"x": [shared] * 1000}))["x"] == [shared] * 1000
    for _ in range(20):
        shared = (shared, shared)
    with pytest.raises(ModelError, match="more values"):
        pickles.load(pickle.dumps({"x": shared}))
