"""The pickle reader: plain numbers come out, and nothing in a pickle is ever called."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import pickles


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


def test_bombs(tmp_path: Path) -> None:
    nested = b"\x80\x04]" + b"\x94h\x00\x86" * 1000 + b"."  # tuples of tuples of …
    key = b"\x80\x04})" + b"2\x86" * 60 + b"K\x01s."  # a key whose hash would take for ever
    place = b"\x80\x02}r\xff\xff\xff\x7f."  # the two billionth entry of the memo
    long = b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f."  # a text of 2^63 bytes
    array = b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f."
    for data in (nested, key, long, array, b"", b".", b"\x80\x04", b"\x80\x04N" * 300_000):
        try:
            pickles.load(data)
        except ModelError:
            continue
    assert pickles.load(place) == {}
    with pytest.raises(ModelError, match="larger"):
        pickles.load(bytes(pickles.MAX_BYTES + 1))
