"""YAML read strictly: an unknown key, a wrong type or a number out of range names its place and the closest key."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import yaml

from ddsp_cli.config.base import Config
from ddsp_cli.errors import DdspError, ModelError, closest

T = TypeVar("T")
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")


#: libyaml where PyYAML comes with it: data sets of thousands of recordings are read six times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Nothing of ours is nested deeper; libyaml would overflow the stack.
MAX_DEPTH = 64


class UniqueKeyLoader(_Loader):  # type: ignore[misc]
    """PyYAML's safe loader, which alone would let the second of two equal keys win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.YAMLError(f"key '{key}' stands there twice (line {key_node.start_mark.line + 1})")
            if isinstance(key, str):
                seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _check_structure(text: str) -> None:
    """Refuses what could grow without bound when it is loaded.

    Raises:
      yaml.YAMLError: aliases, too many levels, or no YAML at all.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")


def parse_yaml(text: str, kind: type[T], source: str, error: type[DdspError] = ModelError) -> T:
    """Reads YAML strictly into a configuration structure.

    Args:
      text: the YAML document. Aliases are refused: they can grow without bound.
      kind: the structure to build.
      source: where the text came from, for the error sentence.
      error: what to raise; which file it was decides the exit code.
    """
    try:
        _check_structure(text)
        data = yaml.load(text, Loader=UniqueKeyLoader)
        return msgspec.convert(data, kind, strict=True)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        if isinstance(problem, msgspec.ValidationError):
            raise error(f"{source}: {problem}", _hint_for(str(problem))) from problem
        first_line = " ".join(str(problem).split())
        raise error(f"{source} is not valid YAML: {first_line}") from problem


def _hint_for(message: str) -> str:
    found = _UNKNOWN_FIELD.search(message)
    if not found:
        return ""
    matches = closest(found["name"], _all_field_names(), limit=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _all_field_names() -> set[str]:
    names: set[str] = set()
    pending: list[type] = [Config]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        names.update(getattr(kind, "__struct_fields__", ()))
    return names


def to_plain(config: Any) -> Any:
    """A structure as plain dicts, lists and numbers, for YAML or JSON."""
    return msgspec.to_builtins(config)


def dump_yaml(data: Any) -> str:
    """YAML text of plain data: keys in their given order, readable Unicode."""
    text: str = yaml.dump(to_plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
