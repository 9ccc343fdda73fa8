"""The gin reader: it reads values of configurations, and runs nothing."""

from __future__ import annotations

import contextlib
import time

import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import magenta_checkpoint
from ddsp_cli.importers.gin import GinConfig, Macro, Reference, parse
from format_fixtures import GIN
from hostile import gin_attacks

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
    assert config.get("X.table") == {"a": 1, "b": (2,)}
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


@pytest.mark.parametrize("name", gin_attacks())
def test_attacks(name: str) -> None:
    """Read as a whole file, where the last binding wins: a sentence or a model, at once."""
    text = GIN.format(generation="", layers=1)
    started = time.process_time()
    for attack in (gin_attacks()[name] + text, text + gin_attacks()[name]):
        with contextlib.suppress(ModelError):
            magenta_checkpoint.describe(parse(attack))
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("'a' 'b'", "ab"),
        ("r'\\d'", "\\d"),
        ("-5", -5),
        ("[-1, +2,\n # remark\n 3]", [-1, 2, 3]),
        ("()", ()),
        ("{'a': @f}", {"a": Reference("f", False)}),
        ("@a/b.c()", Reference("a/b.c", True)),
        ("%a.b", Macro("a.b")),
        ("(@f(),)", (Reference("f", True),)),
    ],
)
def test_single_values(value: str, expected: object) -> None:
    assert parse(f"x.y = {value}").bindings["x.y"] == expected


def test_a_name_of_several_lines_stays_within_one() -> None:
    text = GIN.format(generation="F0LoudnessPreprocessor.compute_loudness = True", layers=1)
    assert "('amps', 1)" in text
    with pytest.raises(ModelError, match="its decoder gives am ps, ") as problem:
        magenta_checkpoint.describe(parse(text.replace("('amps', 1)", "('am\\nps', 1)")))
    assert "\n" not in problem.value.message


def test_macros_that_grow() -> None:
    config = parse("a = [1] \nx.y = [" + "%a, " * 9000 + "]")
    with pytest.raises(ModelError, match="grow without bound"):
        config.get("x.y")


def test_too_long() -> None:
    with pytest.raises(ModelError, match="longer"):
        parse("#" * (1 << 21))
