"""YAML as Keytrail takes it from files that it does not trust."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache
from typing import Any, cast

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

MOST_DEPTH = 60

# How a value must be written that YAML 1.1 takes for no string: 012345670123 is no account number to it, 12:30 is 750.
_LOOKS = {
    "bool": re.compile(r"true|false|True|False"),
    "int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "float": re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?"),
}


def documents(text: str, most_parts: int) -> Iterator[tuple[Any, int]]:
    """Yield each document of a file with the line that it begins in.

    Parameters: ``most_parts`` is how many names and values are taken. Raises :class:`yaml.YAMLError` with the place of
    what is no YAML, or none that is taken here.
    """
    yield from _Quick(most_parts).documents(text) or with_care(text, most_parts)


def with_care(text: str, most_parts: int) -> Iterator[tuple[Any, int]]:
    """Yield the same, and name whatever is wrong with its place."""
    loader = PlainLoader(text, most_parts)
    while loader.check_node():
        node: yaml.Node = loader.get_node()  # type: ignore[assignment]
        yield loader.construct_document(node), node.start_mark.line + 1


class _OddError(Exception):
    """Something that :class:`PlainLoader` has to look at."""


class _Composer(yaml.CSafeLoader):
    """The same as CSafeLoader, which looks twice at most texts to see that they are nothing but text."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and value[:1] not in _TELLING:
            return _STRING
        return cast(str, super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]


# How a plain value begins that may be another than a text.
_TELLING = frozenset(yaml.CSafeLoader.yaml_implicit_resolvers)


class _Quick:
    """The same for files in which all is plain, in one pass: libyaml composes, and the values are made on the way.

    Whatever is out of the ordinary is left to :class:`PlainLoader`, which takes it or says what is wrong with it.
    """

    def __init__(self, most_parts: int) -> None:
        self.left = most_parts

    def documents(self, text: str) -> list[tuple[Any, int]] | None:
        """Return the documents with their lines; None where they are not plain."""
        if "&" in text:  # only an anchor can be referred to
            return None
        try:
            nodes = list(yaml.compose_all(text, Loader=_Composer))
            return [(self._value(node, 0), node.start_mark.line + 1) for node in nodes]
        except (yaml.YAMLError, _OddError, ValueError):
            return None

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self.left -= 1
        if depth >= MOST_DEPTH or self.left < 0:
            raise _OddError
        kind = type(node)
        if kind is yaml.ScalarNode:
            quoted = bool(node.style)  # type: ignore[attr-defined]
            return node.value if node.tag == _STRING else _scalar(node.tag, node.value, quoted)
        if kind is yaml.SequenceNode and node.tag == _LIST:
            return [self._value(part, depth + 1) for part in node.value]
        if node.tag != _MAPPING:
            raise _OddError
        found = {}
        for key, part in node.value:
            if type(key) is not yaml.ScalarNode or key.tag != _STRING or key.value in found:
                raise _OddError
            self.left -= 1
            found[key.value] = self._value(part, depth + 1)
        return found


_STRING, _LIST, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_SCALARS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text in ("true", "True"),
    "int": int,
    "float": float,
    "null": lambda text: None,
}


@lru_cache(maxsize=1024)
def _scalar(tag: str, text: str, quoted: bool) -> Any:
    """A value that is no text, as PyYAML would make it."""
    kind = tag.rpartition(":")[2]
    looks = _LOOKS.get(kind)
    if quoted or (looks is not None and not looks.fullmatch(text)):
        raise _OddError
    if kind in _SCALARS:
        return _SCALARS[kind](text)
    if kind == "timestamp" and _DAY.fullmatch(text):
        return date.fromisoformat(text)
    raise _OddError


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class PlainLoader(Composer, CParser, SafeConstructor, Resolver):
    """Safe YAML without what a rule has no use for and an attacker has: aliases, endless nesting, doubled keys.

    libyaml scans and parses, event by event; what is composed of the events is checked here. Parameters: ``text`` is
    the file, ``most_parts`` how many names and values are taken.
    """

    def __init__(self, text: str, most_parts: int = sys.maxsize) -> None:
        self.depth = 0
        self.parts = 0
        self.most_parts = most_parts
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="YAML aliases are not taken in a rule", problem_mark=event.start_mark)
        self.depth += 1
        self.parts += 1
        if self.parts > self.most_parts:
            raise yaml.MarkedYAMLError(problem=f"more than {self.most_parts:,} parts", problem_mark=event.start_mark)
        if self.depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MOST_DEPTH} deep", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        elif isinstance(node, yaml.ScalarNode) and not node.style:
            looks = _LOOKS.get(node.tag.rpartition(":")[2])
            if looks is not None and not looks.fullmatch(node.value):
                problem = f"YAML 1.1 reads {node.value} as another value; put it in quotes"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    @staticmethod
    def _check_keys(node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} stands twice", problem_mark=key.start_mark)
            if name is not None:
                seen.add(name)
