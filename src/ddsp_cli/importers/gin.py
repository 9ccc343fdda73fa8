"""Reads gin configuration as data. Nothing is imported, called or evaluated.

The grammar of an `operative_config` (gin-config 0.5.0, config_parser.py): `import` lines, `NAME = value`,
`scope/module.Name.parameter = value`, comments, lines continued inside brackets or by a backslash. Values are Python
literals, `@references` and `%macros`.

Python's own tokenizer splits the text and `ast.literal_eval` reads the values, after the tokens have been held to
those of literals and to a depth that the parser cannot overflow at.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ddsp_cli.errors import ModelError

MAX_CHARACTERS = 1 << 16
MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 40
#: Values that a binding may have once its macros are replaced.
MAX_VALUES = 10_000

_NAME = re.compile(r"[A-Za-z_]\w*(?:[./]+[A-Za-z_]\w*)*")
_CONSTANTS = {"True", "False", "None"}
_OPENING, _CLOSING = {"(", "[", "{"}, {")", "]", "}"}
_IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Reference:
    """`@name`, or `@name()` where it is called."""

    name: str
    called: bool


@dataclass(frozen=True)
class Macro:
    """`%name`."""

    name: str


@dataclass
class GinConfig:
    """Bindings of a file: `name.parameter` → value."""

    bindings: dict[str, Any] = field(default_factory=dict)
    macros: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value bound to `Class.parameter` in any module or scope; macros are replaced.

        Raises:
          ModelError: the value's macros refer to each other in a circle, or make it too large.
        """
        for selector, value in self.bindings.items():
            if _matches(selector, name):
                return self.resolve(value)
        return default

    def has(self, name: str) -> bool:
        """Whether `Class.parameter` is bound."""
        return any(_matches(selector, name) for selector in self.bindings)

    def resolve(self, value: Any) -> Any:
        """Returns the value with macros replaced by their values.

        Raises:
          ModelError: a macro that does not exist, macros in circles, or more than `MAX_VALUES` values.
        """
        n_values = 0

        def replace(value: Any, depth: int) -> Any:
            nonlocal n_values
            n_values += 1
            if depth > MAX_DEPTH or n_values > MAX_VALUES:
                raise ModelError("the gin file has macros that refer to each other in a circle or grow without bound")
            if isinstance(value, Macro):
                if value.name not in self.macros:
                    raise ModelError(f"the gin file has no macro %{value.name[:60]}")
                return replace(self.macros[value.name], depth + 1)
            if isinstance(value, list | tuple):
                return type(value)(replace(item, depth + 1) for item in value)
            return value

        return replace(value, 0)


def _matches(selector: str, name: str) -> bool:
    return selector.rpartition("/")[2].split(".")[-2:] == name.split(".")


def parse(text: str) -> GinConfig:
    """Reads a file.

    Raises:
      ModelError: it is too long, nested too deeply, or not gin; with the line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ModelError("the gin file is longer than any configuration")
    config = GinConfig()
    for line in _lines(text):
        first = line[0]
        if first.string in {"import", "from"}:
            continue
        if first.string == "include":
            raise _problem(first, "include is not supported")
        at = next((i for i, token in enumerate(line) if token.string == "="), None)
        if at is None:
            raise _problem(first, "a statement has no =")
        name = "".join(token.string for token in line[:at])
        if not _NAME.fullmatch(name):
            raise _problem(first, f"{name[:60]!r} is not a name")
        value = _value(line[at + 1 :], first)
        (config.bindings if "." in name else config.macros)[name] = value
    return config


def _lines(text: str) -> Iterator[list[tokenize.TokenInfo]]:
    """Yields the tokens of each statement."""
    line: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE:
                if line:
                    yield line
                line = []
            elif token.type not in _IGNORED:
                line.append(token)
    except (tokenize.TokenError, SyntaxError) as problem:
        raise ModelError(f"the gin file cannot be read: {problem.args[0]}") from problem
    if line:
        yield line


def _value(tokens: list[tokenize.TokenInfo], start: tokenize.TokenInfo) -> Any:
    """Returns the value of a statement: references become placeholders, the rest must be a literal."""
    source: list[str] = []
    found: dict[str, Reference | Macro] = {}
    depth, at = 0, 0
    while at < len(tokens):
        token, text = tokens[at], tokens[at].string
        if text in {"@", "%"}:
            value, at = _reference(tokens, at)
            placeholder = f"_{len(found)}"
            found[placeholder] = value
            source.append(placeholder)
            continue
        depth += (text in _OPENING) - (text in _CLOSING)
        if depth > MAX_DEPTH:
            raise _problem(token, "values are nested too deeply")
        if not _is_literal(tokens, at):
            raise _problem(token, f"{text[:60]!r} is not part of a value")
        source.append(text)
        at += 1
    try:
        tree = ast.parse(" ".join(source), mode="eval")
        return ast.literal_eval(_Placeholders(found).visit(tree))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as problem:
        raise _problem(start, "a value is not a literal") from problem


def _is_literal(tokens: list[tokenize.TokenInfo], at: int) -> bool:
    """Whether a literal may contain a token; a sign only before a number and not after a value."""
    kind, text = tokens[at].type, tokens[at].string
    if kind == tokenize.NUMBER:
        return len(text) <= MAX_NUMBER_CHARACTERS and not {*text} & {*"_jJ"}
    if kind == tokenize.NAME:
        return text in _CONSTANTS
    if text in {"-", "+"}:
        before = tokens[at - 1].string if at else ","
        after = tokens[at + 1].type if at + 1 < len(tokens) else None
        return after == tokenize.NUMBER and (before in _OPENING or before in {",", ":"})
    if kind == tokenize.STRING:
        return text[0] in "'\"rRuU"  # no bytes, and nothing that is formatted
    return text in _OPENING or text in _CLOSING or text in {",", ":"}


def _reference(tokens: list[tokenize.TokenInfo], at: int) -> tuple[Reference | Macro, int]:
    """Parses `@name`, `@name()` or `%name`; returns it and the index of the token after it."""
    sign = tokens[at]
    end = at + 1
    while end < len(tokens) and (tokens[end].type == tokenize.NAME or tokens[end].string in {".", "/"}):
        end += 1
    name = "".join(token.string for token in tokens[at + 1 : end])
    if not _NAME.fullmatch(name):
        raise _problem(sign, f"no name follows {sign.string}")
    if sign.string == "%":
        return Macro(name), end
    called = [token.string for token in tokens[end : end + 2]] == ["(", ")"]
    return Reference(name, called), end + 2 * called


class _Placeholders(ast.NodeTransformer):
    """Replaces placeholders by their references; a value contains no other names."""

    def __init__(self, found: dict[str, Reference | Macro]) -> None:
        self._found = found

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(self._found[node.id]) if node.id in self._found else node  # type: ignore[arg-type]


def _problem(token: tokenize.TokenInfo, what: str) -> ModelError:
    return ModelError(f"the gin file cannot be read, line {token.start[0]}: {what}")
