"""Read YAML strictly: an unknown key, a wrong type or a number out of range is an error that names its place.

Files may be untrusted. Aliases and tags are refused, nesting is bounded, and no number may be NaN or infinite.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml

from ddsp_cli.config.model import Config
from ddsp_cli.errors import DdspError, ModelError, closest, did_you_mean

T = TypeVar("T")

#: Ends a message of msgspec: `$.training.steps`, `$.processors[...]` for any key, or a key itself.
_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<place>[^`]*)`$")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]*)`(?:, got `(?P<found>[^`]*)`)?")
_OUT_OF_RANGE = re.compile(r"Expected `(?:int|float)` (?P<comparison>[<>]=?) (?P<limit>\S+)")
_WRONG_LENGTH = re.compile(r"Expected `(?P<kind>[^`]*)` of length (?P<comparison>[<>]=) (?P<limit>\d+)")
_INVALID_VALUE = re.compile(r"Invalid (?:enum )?value (?P<name>.*)")

#: Types and comparisons in messages of msgspec.
_TYPES = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "null": "empty",
    "array": "a list", "object": "a mapping of keys to values",
}  # fmt: skip
_COMPARISONS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}

#: libyaml where PyYAML comes with it: data sets of thousands of recordings are read six times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Deeper than any file of this program; libyaml would overflow the stack.
MAX_DEPTH = 64

#: An error quotes at most this much of a file.
MAX_QUOTED = 300


class UniqueKeyLoader(_Loader):  # type: ignore[misc]
    """PyYAML's safe loader, but a repeated key is an error instead of silently replacing the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.YAMLError(f"key '{key}' is there twice (line {key_node.start_mark.line + 1})")
            if isinstance(key, str):
                seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def parse_yaml(text: str, kind: type[T], source: str, error: type[DdspError] = ModelError) -> T:
    """Reads YAML strictly into a configuration structure.

    Args:
      text: the YAML document.
      kind: the structure to build.
      source: where the text came from, for the error message.
      error: the class of the error, which decides the exit code.

    Raises:
      DdspError: of the class `error`, for any error in the text.
    """
    data = None
    try:
        data = _load(text)
        _check_numbers(data)
        return msgspec.convert(data, kind, strict=True)
    except yaml.YAMLError as problem:
        raise error(f"{source} is not valid YAML: {_quoted(str(problem))}") from problem
    except (msgspec.ValidationError, RecursionError, OverflowError) as problem:
        words, hint = explain(problem, kind, _failing_entry(problem, data, kind))
        raise error(f"{source}: {_quoted(words)}", hint) from problem


def _load(text: str) -> Any:
    _check_structure(text)
    try:
        return yaml.load(text, Loader=UniqueKeyLoader)
    # PyYAML's constructors raise errors of Python for values such as 2024-99-99, which is not a date.
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RuntimeError) as problem:
        raise yaml.YAMLError(str(problem) or type(problem).__name__) from problem


def _quoted(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED]}…"


def _check_structure(text: str) -> None:
    """Refuses YAML that could grow without bound, or build other objects, when it is loaded.

    Raises:
      yaml.YAMLError: aliases, tags, too many levels, or no YAML at all.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags ({event.tag}) are not allowed (line {event.start_mark.line + 1})")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")


def _check_numbers(data: Any, place: str = "") -> None:
    """Refuses NaN and infinity, which break every computation; ranges alone let NaN through.

    Raises:
      msgspec.ValidationError: with the place of the first one.
    """
    if isinstance(data, float) and not math.isfinite(data):
        raise msgspec.ValidationError(f"NaN and infinity are not allowed - at `${place}`")
    if isinstance(data, dict):
        for key, value in data.items():
            _check_numbers(value, f"{place}.{key}")
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _check_numbers(value, f"{place}[{i}]")


def _failing_entry(problem: Exception, data: Any, kind: Any) -> str:
    """Finds the key that msgspec writes as `[...]`: the one whose entry, alone in its mapping, fails the same way.

    Args:
      problem: the error that converting `data` raised.
      data: parsed YAML.
      kind: the structure that it was converted to.

    Returns:
      the key, or "" where the message has no such place.
    """
    at = _PLACE.search(str(problem))
    path, several, _ = at["place"].partition("[...]") if at else ("", "", "")
    fields = list(filter(None, path.split(".")))
    try:
        entries = functools.reduce(lambda node, field: node[field], fields, data)
        keys = [key for key in entries if isinstance(key, str)] if several else []
    except (LookupError, TypeError):
        return ""
    for key in keys:
        alone: Any = {key: entries[key]}
        for depth in range(len(fields), 0, -1):
            outer = functools.reduce(lambda node, field: node[field], fields[: depth - 1], data)
            alone = {**outer, fields[depth - 1]: alone}
        try:
            msgspec.convert(alone, kind, strict=True)
        except (msgspec.ValidationError, RecursionError, OverflowError) as own:
            if str(own) == str(problem):
                return key
    return ""


def explain(problem: Exception, kind: Any = None, entry: str = "") -> tuple[str, str]:
    """Turns a message of msgspec, or of a structure's own checks, into a sentence with its place, and a hint.

    Args:
      problem: the error.
      kind: the structure that was read, whose keys are suggested for mistyped ones.
      entry: the key of a mapping that is meant where the message of msgspec says `[...]`.
    """
    message = str(problem)
    at = _PLACE.search(message)
    if at:
        message = message[: at.start()]
    place = at["place"] if at else ""
    fields = _fields_at(kind, place)
    mapping, _, rest = place.partition("[...]")  # the place does not tell which entry
    if mapping != place and entry:
        place = f"{mapping}.{entry}{rest}".lstrip(".")
    elif mapping != place:
        place = f"{rest.lstrip('.')} of an entry of {mapping}" if rest else f"an entry of {mapping}"
    inside = f" in {place}" if place else ""
    if found := _UNKNOWN_FIELD.fullmatch(message):
        return f"there is no key {found['name']}{inside}", _hint_for_key(found["name"], fields)
    if found := _MISSING_FIELD.fullmatch(message):
        return f"the key {found['name']} is missing{inside}", ""
    subject = place or "the file"
    if at and at["key"]:
        subject = f"a key{inside}"
    if found := _OUT_OF_RANGE.fullmatch(message):
        return f"{subject} must be {_COMPARISONS[found['comparison']]} {_plain(found['limit'])}", ""
    if found := _WRONG_LENGTH.fullmatch(message):
        things = "character" if found["kind"] == "str" else "item"
        things += "" if found["limit"] == "1" else "s"
        return f"{subject} must have {_COMPARISONS[found['comparison']]} {found['limit']} {things}", ""
    if found := _WRONG_TYPE.fullmatch(message):
        wanted = " or ".join(_TYPES.get(name, name) for name in found["wanted"].split(" | "))
        is_fraction = found["wanted"].startswith("int") and found["found"] == "float"
        but = f", not {_TYPES.get(found['found'], found['found'])}" if found["found"] and not is_fraction else ""
        hint = "Put it in quotes." if found["wanted"] == "str" else ""
        if wanted.startswith("a number") and found["found"] == "str":
            hint = "Write it with a decimal point and without quotes: in YAML 1e-3 is text, 1.0e-3 a number."
        return f"{subject} must be {wanted}{but}", hint
    if found := _INVALID_VALUE.fullmatch(message):
        name = found["name"].strip("'\"")
        field = place.partition(" ")[0].rpartition(".")[2]
        known = _all_tags() if field == "type" else _choices(field)
        if all(value.isdigit() for value in known):
            return f"{subject} cannot be {name}", f"Choose from {', '.join(sorted(known, key=int))}." if known else ""
        return f"{subject} cannot be {name}", did_you_mean(name, known)
    return f"{place}: {message}" if place else message, ""


def _plain(limit: str) -> str:
    return f"{float(limit):g}" if "." in limit or "e" in limit else limit


def _hint_for_key(name: str, fields: set[str]) -> str:
    """Returns the key that was meant, among `fields`, or the structure of another place that has it."""
    owners = [kind for kind in _all_kinds() if name in getattr(kind, "__struct_fields__", ())]
    tags = dict.fromkeys(str(kind.__struct_config__.tag or "") for kind in owners)  # type: ignore[attr-defined]
    if tagged := [tag for tag in tags if tag]:
        return f"It is a key of {' or '.join(tagged)}."
    matches = closest(name, fields, limit=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _fields_at(kind: Any, place: str) -> set[str]:
    """Returns the keys that a structure has at a place such as `training.loss`."""
    kinds = list(_structures(kind))
    for field in filter(None, re.sub(r"\[.*?\]", "", place).split(".")):
        kinds = [inner for outer in kinds for inner in _structures(get_type_hints(outer).get(field))]
    return {field for found in kinds for field in found.__struct_fields__}


def _structures(hint: Any) -> Iterator[Any]:
    """Yields the structures in a type: itself, members of a union, values of a mapping."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for part in get_args(hint):
        yield from _structures(part)


def _choices(field: str) -> set[str]:
    """Returns the values to choose from for a field of this name, in any structure."""
    found: set[str] = set()
    for kind in _all_kinds():
        if field in getattr(kind, "__struct_fields__", ()):
            hint = get_type_hints(kind)[field]
            found |= {str(value) for value in get_args(hint)} if get_origin(hint) is Literal else set()
    return found


def _all_kinds() -> Iterator[type]:
    pending: list[type] = [Config]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        yield kind


def _all_tags() -> set[str]:
    """Returns values of `type`, which names the kind of a structure."""
    found = {getattr(getattr(kind, "__struct_config__", None), "tag", None) for kind in _all_kinds()}
    return {tag for tag in found if isinstance(tag, str)}


def to_plain(config: Any) -> Any:
    """Returns a structure as plain dicts, lists and numbers, for YAML or JSON."""
    return msgspec.to_builtins(config)


def dump_yaml(data: Any) -> str:
    """Formats plain data as YAML: keys in their given order, readable Unicode."""
    text: str = yaml.dump(to_plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
