"""The gin reader: what configurations hold, and nothing that could be run."""

from __future__ import annotations

import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers.gin import GinConfig, Macro, Reference, parse

TEXT = """
import ddsp
from ddsp import training  # a remark
rate = 16000
size = %rate
a/b.c.Harmonic.sample_rate = %size
Harmonic.scale_fn = @core.exp_sigmoid
Group.dag = \\
    [(@synths.Harmonic(), ['amps', "f0_hz"]),
     (@effects.Reverb(), ('add/signal',)),  # with a remark
    ]
X.numbers = (1, -2.5, 1e-07, .5)
X.words = [True, False, None]
X.single = (7)
X.table = {'a': 1,
           'b': (2,)}
X.escaped = 'it\\'s'
"""


@pytest.fixture(scope="module")
def config() -> GinConfig:
    return parse(TEXT)


def test_values(config: GinConfig) -> None:
    assert config.get("Harmonic.sample_rate") == 16000
    assert config.get("Harmonic.scale_fn") == Reference("core.exp_sigmoid", False)
    assert config.get("Group.dag") == [
        (Reference("synths.Harmonic", True), ["amps", "f0_hz"]),
        (Reference("effects.Reverb", True), ("add/signal",)),
    ]
    assert config.get("X.numbers") == (1, -2.5, 1e-7, 0.5)
    assert config.get("X.words") == [True, False, None]
    assert config.get("X.single") == 7
    assert config.get("X.table") == {"'a'": 1, "'b'": (2,)}
    assert config.get("X.escaped") == "it's"
    assert config.get("X.missing", 3) == 3
    assert not config.has("X.missing")


@pytest.mark.parametrize(
    "text",
    [
        "a = __import__('os').system('true')",
        "a = open('x')",
        "a = 1 + 1",
        "a = [1, 2",
        "a = 'open",
        "a 1",
        "= 1",
        "@x = 1",
        "a = lambda: 1",
        "a = f'{1}'",
        "a = b",
        "include 'other.gin'",
        "a = " + "[" * 100 + "]" * 100,
        "a = " + "9" * 100,
        "a = 1 2",
        "a = @f(1)",
        "a =",
        "\0",
    ],
)
def test_what_is_not_gin_is_an_error(text: str) -> None:
    with pytest.raises(ModelError):
        parse(text)


def test_macros_in_circles() -> None:
    config = parse("a = %b\nb = %a\nX.y = %a\nX.z = %nowhere")
    assert config.macros == {"a": Macro("b"), "b": Macro("a")}
    for name in ("X.y", "X.z"):
        with pytest.raises(ModelError, match="macro"):
            config.get(name)


def test_too_long() -> None:
    with pytest.raises(ModelError, match="longer"):
        parse("#" * (1 << 21))
