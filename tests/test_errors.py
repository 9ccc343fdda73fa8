"""Errors of the library name no options of the command line; the command line adds them from the kind of the error."""

from __future__ import annotations

import ast
import copy
import re
import string
from pathlib import Path

import pytest

from ddsp_cli.cli import hints
from ddsp_cli.errors import DdspError, ExitCode, Kind, ModelError, UsageError

SOURCES = Path(__file__).parent.parent / "src" / "ddsp_cli"

#: Below the command line: what Python users call.
#: All but the two interfaces: the command line, and the page, which shows the command that does the same.
LIBRARY = [
    path for path in sorted(SOURCES.rglob("*.py")) if not {"cli", "studio"} & set(path.relative_to(SOURCES).parts)
]


def strings(path: Path) -> list[tuple[int, str]]:
    """Every string of a module that is no docstring, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
    ]


def test_the_library_names_no_options() -> None:
    found = [(path.name, *one) for path in LIBRARY for one in strings(path) if re.search(r"(^|\W)--[a-z]", one[1])]
    assert found == []


def test_every_kind_of_error_has_a_hint() -> None:
    assert set(hints.HINTS) == set(Kind) - {Kind.NONE}


def test_every_hint_gets_the_details_that_it_names() -> None:
    """Where an error of a kind is raised, it carries what the hint of that kind fills in."""
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = {word.arg: word.value for word in node.keywords}
            for kind in ast.walk(given["kind"]) if "kind" in given else ():
                if isinstance(kind, ast.Attribute) and kind.attr in Kind.__members__:
                    hint = hints.HINTS.get(Kind[kind.attr], "")
                    named = {name for _, name, _, _ in string.Formatter().parse(hint) if name}
                    assert named <= given.keys(), (path.name, node.lineno)


def test_an_error_is_said_in_the_words_of_the_command_line() -> None:
    problem = ModelError("m", "Import it first.", kind=Kind.CHECKPOINT, path="a b")
    assert (hints.message(problem), hints.hint(problem)) == ("m", "Import it with: ddsp import a b --name NAME")
    problem = UsageError("9 is out of range", "Less.", parameter="sample_rate_hz")
    assert (hints.message(problem), hints.hint(problem)) == ("--sample-rate: 9 is out of range", "Less.")
    assert hints.message(UsageError("no input", parameter="inputs")) == "no input"


@pytest.mark.parametrize("again", [lambda e: e, copy.copy])  # as `pickle` does it between processes
def test_an_error_keeps_all_it_knows(again) -> None:
    problem = again(ModelError("m", "h", kind=Kind.OTHER_RATE, parameter="preset", rate_hz=3)).reworded("other")
    assert isinstance(problem, ModelError) and isinstance(problem, DdspError)
    assert (problem.message, problem.hint, problem.parameter) == ("other", "h", "preset")
    assert (problem.kind, problem.details, problem.exit_code) == (Kind.OTHER_RATE, {"rate_hz": 3}, ExitCode.MODEL)
    assert str(problem) == "other. h"
