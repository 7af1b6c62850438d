"""A YAML document checked against a JSON schema, so that what is wrong is told with its line.

It knows the part of JSON Schema that Keytrail's own schemas use: type, enum, pattern, format date, properties,
required, additionalProperties false, items, minItems, oneOf of required names, and $ref into $defs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from keytrail.patch import nearest
from keytrail.yamlload import PlainLoader

Where = tuple[object, ...]
Schema = Mapping[str, Any]
_KINDS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "null": "null",
    "timestamp": "string",
}
LARGEST = 16_000_000


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where."""

    message: str
    line: int
    column: int
    hint: str | None = None


@dataclass
class Document:
    """A document's value, and the line of each of its parts by their paths."""

    value: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def check(path: Path, schema: Schema) -> Document:
    """Read a YAML file and check it against ``schema``; all that is wrong is in the result's ``problems``."""
    found = Document()
    try:
        if path.stat().st_size > LARGEST:
            found.problems.append(Problem(f"larger than {LARGEST:,} bytes", 1, 1))
            return found
        root = PlainLoader(path.read_text(encoding="utf-8")).get_single_node()
    except OSError as error:
        found.problems.append(Problem(f"cannot be read: {error.strerror}", 1, 1, "is the path right?"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found.problems.append(Problem(f"not YAML: {error.problem}", *place))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        found.problems.append(Problem(f"not readable as YAML: {error}", 1, 1))
    else:
        if root is None:
            found.problems.append(Problem("the file is empty", 1, 1))
        else:
            found.value = _value(root, (), found.lines)
            found.problems += _Check(schema).node(root, schema, ())
    return found


class _Plain(yaml.SafeDumper):
    """Writes out what stands twice, because readers that do not trust a file take no YAML aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def plain_yaml(value: Mapping[str, Any]) -> str:
    """Return a value as YAML in its order; what is not plain ASCII is escaped, wherever it comes from."""
    return yaml.dump(dict(value), Dumper=_Plain, sort_keys=False, width=120)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "object"
    if isinstance(node, yaml.SequenceNode):
        return "array"
    return _KINDS.get(node.tag.rsplit(":", 1)[-1], node.tag)


def _value(node: yaml.Node, where: Where, lines: dict[Where, int]) -> Any:
    """The node's value; dates stay the text they are."""
    lines[where] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return {key.value: _value(part, (*where, key.value), lines) for key, part in node.value if _named(key)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(part, (*where, number), lines) for number, part in enumerate(node.value)]
    plain: Mapping[str, Callable[[str], Any]] = {"boolean": lambda text: text.lower() in ("true", "yes", "on")}
    plain = {**plain, "null": lambda text: None, "integer": _integer}
    return plain.get(_kind(node), str)(node.value)


def _integer(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _named(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode)


@dataclass(frozen=True)
class _Check:
    root: Schema

    def node(self, node: yaml.Node, schema: Schema, where: Where) -> Iterator[Problem]:
        """Yield what is wrong with one node."""
        if "$ref" in schema:
            schema = self.root["$defs"][str(schema["$ref"]).rsplit("/", 1)[-1]]
        kind, wanted = _kind(node), schema.get("type")
        if wanted is not None and kind != wanted:
            hint = "put it in quotes" if wanted == "string" and kind in ("integer", "number", "boolean") else None
            yield self._problem(node, f"{_place(where)} must be {_article(wanted)}, not {_article(kind)}", hint)
        elif isinstance(node, yaml.MappingNode):
            yield from self._mapping(node, schema, where)
        elif isinstance(node, yaml.SequenceNode):
            if len(node.value) < schema.get("minItems", 0):
                yield self._problem(node, f"{_place(where)} must not be empty")
            for number, part in enumerate(node.value):
                yield from self.node(part, schema.get("items", {}), (*where, number))
        else:
            yield from self._scalar(node, schema, where)

    def _mapping(self, node: yaml.MappingNode, schema: Schema, where: Where) -> Iterator[Problem]:
        known: Mapping[str, Schema] = schema.get("properties", {})
        for key, part in node.value:
            if not _named(key) or (key.value not in known and schema.get("additionalProperties") is False):
                name = key.value if _named(key) else "a list or mapping"
                hint = nearest(str(name), known) or f"known: {', '.join(known)}"
                yield self._problem(key, f"{_place(where)} has no {name!r}", hint)
            elif key.value in known:
                yield from self.node(part, known[key.value], (*where, key.value))
        given = {key.value for key, _ in node.value if _named(key)}
        missing = [name for name in schema.get("required", ()) if name not in given]
        if missing:
            yield self._problem(node, f"{_place(where)} needs {' and '.join(missing)}")
        choices = [choice["required"] for choice in schema.get("oneOf", ())]
        if choices and sum(set(choice) <= given for choice in choices) != 1:
            names = ", ".join(" and ".join(choice) for choice in choices)
            yield self._problem(node, f"{_place(where)} needs one of {names}, and only one")

    def _scalar(self, node: yaml.Node, schema: Schema, where: Where) -> Iterator[Problem]:
        text = str(node.value)
        if "enum" in schema and text not in map(str, schema["enum"]):
            hint = nearest(text, schema["enum"]) or f"one of: {', '.join(schema['enum'])}"
            yield self._problem(node, f"{_place(where)} cannot be {text!r}", hint)
        if "pattern" in schema and not re.search(schema["pattern"], text, re.ASCII):
            example = schema.get("examples", [None])[0]
            yield self._problem(
                node, f"{_place(where)} cannot be {text!r}", None if example is None else f"like {example}"
            )
        if schema.get("format") == "date" and not _is_date(text):
            yield self._problem(node, f"{_place(where)} is no day: {text!r}", "like 2027-06-30")

    @staticmethod
    def _problem(node: yaml.Node, message: str, hint: str | None = None) -> Problem:
        return Problem(message, node.start_mark.line + 1, node.start_mark.column + 1, hint)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("2027-06-30")


def _place(where: Sequence[object]) -> str:
    """How a person would call a part: ``trails 2 key 1 arn`` counts from 1."""
    if not where:
        return "the document"
    return " ".join(str(part + 1) if isinstance(part, int) else str(part) for part in where)


def _article(kind: str) -> str:
    names = {"object": "names with values", "array": "a list", "string": "text", "integer": "a whole number"}
    return names.get(kind, {"boolean": "true or false", "null": "null", "number": "a number"}.get(kind, kind))
