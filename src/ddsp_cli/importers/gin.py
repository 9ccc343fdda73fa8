"""Reads gin configuration as data. Nothing is imported, called or evaluated.

The grammar of an `operative_config`: `import` lines, `NAME = value`, `scope/module.Name.parameter = value`, comments,
lines continued inside brackets or by a backslash. Values are Python literals, `@references` and `%macros`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ddsp_cli.errors import ModelError

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 40

_TOKEN = re.compile(
    r"(?P<skip>[ \t\r\f]+|\#[^\n]*|\\[ \t\r]*\n)"
    r"|(?P<newline>\n)"
    r"|(?P<string>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[@%]?[A-Za-z_][\w./]*)"
    r"|(?P<sign>[=()\[\]{},:])"
)
_WORDS = {"True": True, "False": False, "None": None}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


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
        """The value bound to `Class.parameter`, whatever module or scope stands before it; macros resolved."""
        for selector, value in self.bindings.items():
            if selector.rpartition("/")[2].split(".")[-2:] == name.split("."):
                return self.resolve(value)
        return default

    def has(self, name: str) -> bool:
        """Whether `Class.parameter` is bound."""
        return any(selector.rpartition("/")[2].split(".")[-2:] == name.split(".") for selector in self.bindings)

    def resolve(self, value: Any, depth: int = 0) -> Any:
        """The value with macros replaced by what they stand for."""
        if depth > MAX_DEPTH:
            raise ModelError("the gin file has macros that go in circles")
        if isinstance(value, Macro):
            if value.name not in self.macros:
                raise ModelError(f"the gin file has no macro %{value.name}")
            return self.resolve(self.macros[value.name], depth + 1)
        if isinstance(value, list):
            return [self.resolve(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.resolve(item, depth + 1) for item in value)
        return value


def parse(text: str) -> GinConfig:
    """Reads a file.

    Raises:
      ModelError: it is too long, nested too deeply, or not gin; with the line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ModelError("the gin file is longer than any configuration")
    return _Parser(text).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def run(self) -> GinConfig:
        config = GinConfig()
        while self._at < len(self._tokens):
            kind, text, line = self._take()
            if kind == "newline":
                continue
            if kind != "word" or text[0] in "@%":
                raise _problem(line, f"a statement cannot begin with {text!r}")
            if text in {"import", "from"}:
                while self._peek()[0] not in {"newline", "end"}:
                    self._take()
                continue
            if text == "include":
                raise _problem(line, "include is not read")
            self._expect("=")
            value = self._value(0)
            kind, found, line = self._take() if self._at < len(self._tokens) else ("newline", "", line)
            if kind != "newline":
                raise _problem(line, f"{found!r} stands after a value")
            (config.bindings if "." in text else config.macros)[text] = value
        return config

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", -1)

    def _take(self) -> tuple[str, str, int]:
        if self._at >= len(self._tokens):
            raise ModelError("the gin file ends in the middle of a statement")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        kind, text, line = self._take()
        if (kind, text) != ("sign", sign):
            raise _problem(line, f"{text!r} stands where {sign!r} should")

    def _value(self, depth: int) -> Any:
        kind, text, line = self._take()
        if depth > MAX_DEPTH:
            raise _problem(line, "values are nested too deeply")
        if kind == "number":
            if len(text) > MAX_NUMBER_CHARACTERS:
                raise _problem(line, "a number is too long")
            return ast.literal_eval(text) if "_" not in text else _problem_number(line)
        if kind == "string":
            return _string(text, line)
        if kind == "word":
            return self._word(text, line)
        if kind == "sign" and text in _CLOSING:
            return self._container(text, depth)
        raise _problem(line, f"{text!r} is no value")

    def _word(self, text: str, line: int) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if text[0] == "%":
            return Macro(text[1:])
        if text[0] == "@":
            called = self._peek()[1] == "("
            if called:
                self._take()
                self._expect(")")
            return Reference(text[1:], called)
        raise _problem(line, f"{text!r} is no value")

    def _container(self, opening: str, depth: int) -> Any:
        closing, items, comma = _CLOSING[opening], [], False
        self._skip_newlines()
        while self._peek()[1] != closing or self._peek()[0] != "sign":
            item = self._value(depth + 1)
            self._skip_newlines()
            if opening == "{":
                self._expect(":")
                self._skip_newlines()
                item = (item, self._value(depth + 1))
                self._skip_newlines()
            items.append(item)
            comma = self._peek()[:2] == ("sign", ",")
            if not comma:
                break
            self._take()
            self._skip_newlines()
        self._expect(closing)
        if opening == "{":
            return {repr(key): value for key, value in items}
        if opening == "[":
            return items
        return items[0] if len(items) == 1 and not comma else tuple(items)

    def _skip_newlines(self) -> None:
        while self._peek()[0] == "newline":
            self._take()


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _problem(line, f"{text[position]!r} cannot be read")
        if found.lastgroup != "skip":
            yield str(found.lastgroup), found.group(), line
        line += found.group().count("\n")
        position = found.end()


def _string(text: str, line: int) -> str:
    try:
        return str(ast.literal_eval(text))  # the token is a string literal and nothing else
    except (ValueError, SyntaxError) as problem:
        raise _problem(line, "a string cannot be read") from problem


def _problem_number(line: int) -> Any:
    raise _problem(line, "a number cannot be read")


def _problem(line: int, what: str) -> ModelError:
    return ModelError(f"the gin file cannot be read, line {line}: {what}")
