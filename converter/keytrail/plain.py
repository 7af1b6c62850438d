"""The resolved rule straight from a rule's YAML, for all rules but the few that say something out of the ordinary.

pySigma is what reads a rule, and what it costs is most of a conversion. The shapes that nearly every rule is made of
leave no choice, so that they are read here; whatever else there is (placeholders, encodings, networks, values without a
field, anything that pySigma might refuse) is None, and left to pySigma. ``tests/test_plain.py`` shows that both give
the same tree, on the pack and on random rules; ``benchmarks/trees.py`` does on any folder of rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import re2

from keytrail import conditions
from keytrail.errors import KeytrailError
from keytrail.lint import KEYWORDS, MOST_QUESTIONS, check_detections, selected
from keytrail.resolved import (
    Boolean,
    Compare,
    Exists,
    Leaf,
    Node,
    Not,
    Number,
    Pattern,
    Regex,
    Test,
    Wild,
    conjunction,
    disjunction,
    negation,
)

if TYPE_CHECKING:
    from keytrail.schemas import Schema


@dataclass(frozen=True)
class Plain:
    """A rule's logic under the rule's own names of fields; ``fields`` are all that it names, used or not."""

    node: Node
    fields: tuple[str, ...]


class _NotPlainError(Exception):
    """Something that pySigma has to read."""


def read(document: Mapping[str, Any]) -> Plain | None:
    """Return the logic of a rule's YAML; None where pySigma has to read it, or to refuse it.

    Parameters: ``document`` has passed :func:`keytrail.lint.check_document`.
    """
    try:
        _check_attributes(document)
        return _Reader(document["detection"]).read(document.get("fields") or ())
    except (_NotPlainError, KeytrailError, RecursionError):
        return None


def resolve(plain: Plain, schema: Schema) -> Node | None:
    """Return the logic under the index's names; None where they are not plain, and pySigma's pipeline has to judge."""
    try:
        names = {field: schema.index_name(field) for field in plain.fields}
    except KeytrailError:
        return None
    targets = set(names.values())
    if len(targets) < len(names) or any(name in targets and names[name] != name for name in names):
        return None
    return _renamed(plain.node, names)


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    if isinstance(node, Leaf):
        return Leaf(names[node.field], node.test, node.rule_field)
    if isinstance(node, Not):
        return Not(_renamed(node.child, names))
    return replace(node, children=tuple(_renamed(child, names) for child in node.children))


# -- what is beside the logic -------------------------------------------------------------------------------------

_TEXTS = ("name", "author", "description", "license")
_LISTS = ("tags", "references", "falsepositives", "scope", "related")
_DATES = ("date", "modified")
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORDS = {
    "level": ("informational", "low", "medium", "high", "critical"),
    "status": ("unsupported", "deprecated", "experimental", "test", "stable"),
}
_RELATIONS = ("correlation", "derived", "merged", "obsolete", "renamed", "similar")


def _check_attributes(document: Mapping[str, Any]) -> None:
    """What pySigma surely takes."""
    given = {key: value for key, value in document.items() if value is not None}
    title, tags, related = given.get("title"), given.get("tags", []), given.get("related", [])
    sound = (
        isinstance(title, str)
        and len(title) <= 256
        and (given.get("name") != "" and "taxonomy" not in document)
        and all(isinstance(given.get(key, ""), str) for key in _TEXTS)
        and all(isinstance(given.get(key, []), list) for key in _LISTS)
        and all(isinstance(given.get(key, date.min), date) for key in _DATES)
        and all(given.get(key, words[0]) in words for key, words in _WORDS.items())
        and all(isinstance(tag, str) and "." in tag for tag in tags)
        and all(map(_is_relation, related))
        and ("id" not in given or _is_id(given["id"]))
        and _is_logsource(given.get("logsource"))
    )
    if not sound:
        raise _NotPlainError


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_logsource(value: object) -> bool:
    if not isinstance(value, Mapping) or all(value.get(key) is None for key in ("category", "product", "service")):
        return False
    named = (value.get(key) for key in ("category", "product", "service", "definition"))
    return all(isinstance(part, (str, type(None))) for part in named)


def _is_relation(value: object) -> bool:
    return isinstance(value, Mapping) and _is_id(value.get("id")) and value.get("type") in _RELATIONS


# -- the logic ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A detection and how many values it asks for."""

    node: Node
    size: int


class _Reader:
    """Reads the detections of one rule and its conditions."""

    def __init__(self, detection: Mapping[str, Any]) -> None:
        given = detection["condition"]
        self.conditions = list(given) if isinstance(given, list) else [given]
        self.definitions = {name: part for name, part in detection.items() if name != "condition"}
        self.fields: dict[str, None] = {}
        self.size = 0

    def read(self, listed: object) -> Plain:
        """Return all of it; ``listed`` are the fields that the rule names beside its logic."""
        if not self.conditions or not all(isinstance(one, str) and _PLAIN.fullmatch(one) for one in self.conditions):
            raise _NotPlainError
        if not isinstance(listed, (list, tuple)) or not all(isinstance(name, str) for name in listed):
            raise _NotPlainError
        check_detections(list(self.definitions), self.conditions)
        parts = {name: _Part(*self._detection(definition)) for name, definition in self.definitions.items()}
        nodes = [self._condition(conditions.parse(condition), parts) for condition in self.conditions]
        if self.size > MOST_QUESTIONS:
            raise _NotPlainError
        return Plain(disjunction(nodes), tuple(dict.fromkeys([*self.fields, *listed])))

    def _condition(self, tree: conditions.Condition, parts: Mapping[str, _Part]) -> Node:
        if isinstance(tree, conditions.Name):
            if tree.name in KEYWORDS:
                raise _NotPlainError
            self.size += parts[tree.name].size
            return parts[tree.name].node
        if isinstance(tree, conditions.Of):
            if not _SELECTOR.fullmatch(tree.pattern):
                raise _NotPlainError
            found = [parts[name] for name in selected(tree.pattern, parts)]
            self.size += sum(part.size for part in found)
            return (conjunction if tree.quantifier == "all" else disjunction)([part.node for part in found])
        if isinstance(tree, conditions.Not):
            return negation(self._condition(tree.part, parts))
        inner = [self._condition(part, parts) for part in tree.parts]
        return (conjunction if isinstance(tree, conditions.Both) else disjunction)(inner)

    def _detection(self, definition: object) -> tuple[Node, int]:
        """A mapping asks for all of its fields, a list of mappings for any of them."""
        if isinstance(definition, Mapping) and definition:
            items = [self._item(key, value) for key, value in definition.items()]
            return conjunction([node for node, _ in items]), sum(size for _, size in items)
        if isinstance(definition, list) and definition and all(isinstance(one, Mapping) for one in definition):
            parts = [self._detection(one) for one in definition]
            return disjunction([node for node, _ in parts]), sum(size for _, size in parts)
        raise _NotPlainError

    def _item(self, key: object, value: object) -> tuple[Node, int]:
        if not isinstance(key, str):
            raise _NotPlainError
        field, *modifiers = key.split("|")
        values = value if isinstance(value, list) else [value]
        every = modifiers[-1:] == ["all"]
        ask = _MODIFIERS.get(tuple(modifiers[:-1] if every else modifiers))
        if ask is None or not field or not values:
            raise _NotPlainError
        self.fields[field] = None
        nodes = [ask(field, one) for one in values]
        return (conjunction if every else disjunction)(nodes), len(nodes)


# As pySigma's grammar has them: names are ASCII, and what separates them is what pyparsing passes over.
_PLAIN = re.compile(r"[A-Za-z0-9_\-*() \t\r\n]+")
_SELECTOR = re.compile(r"[A-Za-z0-9_*]+")


def _leaf(field: str, test: Test) -> Leaf:
    return Leaf(field, test, field)


def _value(field: str, value: object) -> Node:
    """A value without a modifier, by its kind."""
    if value is None:
        return Not(_leaf(field, Exists()))
    if isinstance(value, bool):
        return _leaf(field, Boolean(value))
    if isinstance(value, (int, float)):
        return _leaf(field, Number(_number(value)))
    return _string(field, value)


def _number(value: object) -> int | float:
    """A number that pySigma takes as it is written."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or abs(value) >= 1e15:
        raise _NotPlainError
    return value


def _string(field: str, value: object, *, before: bool = False, after: bool = False, cased: bool = False) -> Leaf:
    """A text with wildcards, and with others around it."""
    if not isinstance(value, str):
        raise _NotPlainError
    parts = [*([Wild.MANY] if before else []), *_wildcards(value), *([Wild.MANY] if after else [])]
    return _leaf(field, Pattern(tuple(_collapsed(parts)), cased))


_WILD = {"*": Wild.MANY, "?": Wild.ONE}
_SPECIAL = re.compile(r"\\([*?\\])|([*?])")


def _wildcards(text: str) -> Iterator[str | Wild]:
    """The text and the wildcards of a Sigma string; a backslash stands for itself but before these and another."""
    plain, place = "", 0
    for found in _SPECIAL.finditer(text):
        plain += text[place : found.start()] + (found[1] or "")
        place = found.end()
        if found[2]:
            if plain:
                yield plain
            yield _WILD[found[2]]
            plain = ""
    if plain + text[place:]:
        yield plain + text[place:]


def _collapsed(parts: Sequence[str | Wild]) -> Iterator[str | Wild]:
    last: str | Wild | None = None
    for part in parts:
        if not (part is Wild.MANY and last is Wild.MANY):
            yield part
        last = part


def _regex(field: str, value: object, flags: str = "") -> Leaf:
    """An expression that Python's ``re`` takes, which is what pySigma asks of it."""
    if not isinstance(value, str):
        raise _NotPlainError
    letters = _ESCAPED.sub("x", value)
    if _EXTRA.search(letters) or _DOUBLED.search(_CLASS.sub("x", letters)) or not _is_expression(value):
        raise _NotPlainError
    return _leaf(field, Regex(value, ignore_case="i" in flags, multiline="m" in flags, dotall="s" in flags))


# What RE2 and re do not both take, or not surely: extensions and escapes of their own, a class that begins a range;
# outside of classes, a quantifier that follows an anchor or another one. The rest is told by RE2, which compiles ten
# times as fast.
_ESCAPED = re.compile(r"\\[^A-Za-z0-9]")
_EXTRA = re.compile(r"\(\?|\\(?![DSWdswfnrtv])[A-Za-z0-9]|[^\x00-\x7f]|\[\^?\]?[^\]]*\\[DSWdsw]-[^\]]")
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_DOUBLED = re.compile(r"(\^|\$)[*+{?]|[*+?}][*+{]|\{,")


def _is_expression(value: str) -> bool:
    try:
        re2.compile(value, _QUIET)
    except re2.error:
        return False
    return True


_QUIET = re2.Options()
_QUIET.log_errors = False


def _exists(field: str, value: object) -> Node:
    if not isinstance(value, bool):
        raise _NotPlainError
    return _leaf(field, Exists()) if value else Not(_leaf(field, Exists()))


def _compare(field: str, value: object, *, operator: str) -> Leaf:
    return _leaf(field, Compare(operator, _number(value)))


_AROUND: dict[tuple[str, ...], dict[str, Any]] = {
    (): {},
    ("contains",): {"before": True, "after": True},
    ("startswith",): {"after": True},
    ("endswith",): {"before": True},
}
_MODIFIERS: dict[tuple[str, ...], Callable[[str, object], Node]] = {
    **{around: partial(_string, **options) for around, options in _AROUND.items()},
    **{(*around, "cased"): partial(_string, **options, cased=True) for around, options in _AROUND.items()},
    **{("cased", *around): partial(_string, **options, cased=True) for around, options in _AROUND.items()},
    **{("re", *flags): partial(_regex, flags="".join(flags)) for flags in ((), ("i",), ("m",), ("s",))},
    **{(operator,): partial(_compare, operator=operator) for operator in ("lt", "lte", "gt", "gte")},
    ("exists",): _exists,
    (): _value,
}
