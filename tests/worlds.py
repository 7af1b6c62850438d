"""Random worlds: a mapping, Sigma rules over its fields, and events that have those fields in every shape JSON allows.

Rules and events draw from the same strange values, so that they meet; a rule mostly asks what its field's type can
answer, and asks under ``not`` mostly what can be answered there, so that refusals do not crowd out the proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from hypothesis import strategies as st
from keytrail.schemas import Schema, java

from tests.oddities import (
    ANY_MODIFIER,
    COMPARISONS,
    CONDITIONS,
    DOTTED_NAMES,
    DROPPED,
    ENCODED,
    FRAGILE,
    KEYWORD,
    LAYOUTS,
    MAP_LIMIT,
    MODIFIERS,
    NETWORKS,
    NUMBERS,
    OFTEN,
    PLAIN_NAMES,
    POSITIVE,
    REFUSED_REGEXES,
    REGEXES,
    RULE_NUMBERS,
    SHORT,
    SIZE_LIMIT,
    STRINGS,
    TYPES,
    UNWILD,
    VERY_LONG,
)

Event = dict[str, Any]


# -- events -------------------------------------------------------------------------------------------------------


def scalars(very_long: bool = False) -> st.SearchStrategy[Any]:
    """A value of an event: mostly from the lists above, so that rules and events meet."""
    strings = st.sampled_from(STRINGS)
    joined = st.tuples(strings, strings).map("".join)
    free = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    rare = st.sampled_from((*SHORT[:8], VERY_LONG)) if very_long else strings
    return st.one_of(strings, strings, joined, free, rare, st.sampled_from(NUMBERS), st.booleans(), st.none())


def event_values(kind: str) -> st.SearchStrategy[Any]:
    """A field's value: a scalar, or a list of them, with nulls, empty lists and lists in lists."""
    one = scalars(very_long=kind in ("text", "text with keyword", "flattened", "keyword, ignore_above 256"))
    few = st.lists(one, max_size=3)
    return st.one_of(one, one, one, few, st.lists(st.one_of(one, few), max_size=2))


def flattened_values(kind: str) -> st.SearchStrategy[Any]:
    """An object for a flattened field; its keys are those that rules ask for, and others."""
    keys = st.sampled_from(("k", "K", "aws:s3:arn", "x y", 'q"(u'))
    inner = st.dictionaries(keys, event_values(kind), max_size=2)
    some = st.one_of(event_values(kind), event_values(kind), inner, st.lists(inner, max_size=2))
    plain = st.dictionaries(keys, st.sampled_from(SHORT), max_size=2)
    return st.one_of(st.none(), plain, st.dictionaries(keys, some, max_size=3))


@st.composite
def events(draw: st.DrawFn, kinds: Mapping[str, str], layout: str, objects: Sequence[str]) -> Event:
    """An event with some of the fields, each as a dotted key, in objects, in a list of objects, or in several."""
    event: Event = {}
    last: Any = None
    for name, kind in kinds.items():
        if draw(st.integers(0, 9)) in (4, 5):
            continue
        made = flattened_values(kind) if kind.startswith("flattened") else event_values(kind)
        if layout != "objects" and not kind.startswith("flattened") and draw(st.integers(0, 9)) == 6:
            made = made.map(lambda value: {"inside": value})  # an object where other events have a value
        value = draw(made)
        if isinstance(last, str) and not kind.startswith("flattened") and draw(st.integers(0, 3)) == 2:
            value = draw(st.sampled_from((last, last.swapcase(), f"{last}b", [f"a{last}", last])))  # for references
        last = value
        _place(draw, event, name, value, layout if kind != "flattened with map" else "flat")
        if "." in name and layout != "flat" and draw(st.integers(0, 4)) == 3:
            _place(draw, event, name, draw(made), layout)
    if objects and draw(st.integers(0, 5)) == 3:
        _place(draw, event, f"{draw(st.sampled_from(objects))}.unlisted", draw(event_values("keyword")), layout)
    if draw(st.integers(0, 9)) == 7:
        deep = event_values("text").map(lambda value: reduce(lambda inner, _: {"in": [inner]}, range(40), value))
        event["unmapped"] = draw(st.one_of(event_values("text"), flattened_values("text"), deep))
    return event


def _place(draw: st.DrawFn, event: Event, name: str, value: Any, layout: str) -> None:
    head, dot, rest = name.partition(".")
    if not dot or draw(st.booleans()):
        event[name] = value  # a key that is written with its dots
        return
    inner: Event = {}
    _place(draw, inner, rest, value, layout)
    if head in event:
        beside = event[head]
        if isinstance(beside, dict):
            beside.update(inner)
        elif isinstance(beside, list):
            beside.append(inner)
    elif layout != "flat" and draw(st.integers(0, 2)) == 1:
        other: Event = {}
        _place(draw, other, rest, draw(event_values("keyword")), layout)
        event[head] = [inner, other][: draw(st.integers(1, 2))]
    else:
        event[head] = inner


# -- rules --------------------------------------------------------------------------------------------------------


def rule_strings(kind: str) -> st.SearchStrategy[str]:
    """A Sigma string: a value as it is, or escaped, or with wildcards put in."""
    if kind == "flattened":
        return st.sampled_from([re.sub(r"[\\*?]", r"\\\g<0>", value) for value in STRINGS[:-2]])
    plain = st.one_of(st.sampled_from(STRINGS[:-2]), st.text(max_size=4).filter(lambda text: "%" not in text))
    wild = st.tuples(
        st.sampled_from(("", "*", "?", "a*", "\\*")), plain, st.sampled_from(("", "*", "?", "*b", "\\\\*"))
    )
    return st.one_of(plain, wild.map("".join))


@st.composite
def items(draw: st.DrawFn, kinds: Mapping[str, str]) -> tuple[str, Any]:
    """One line of a selection: mostly a question that the field's type can answer."""
    name = draw(st.sampled_from(sorted(kinds)))
    fitting = draw(st.integers(0, 19)) != 13
    modifier = draw(st.sampled_from(MODIFIERS[kinds[name]] if fitting else ANY_MODIFIER))
    value = draw(wanted(modifier, kinds[name], sorted(kinds)))
    return (f"{name}|{modifier}" if modifier else name), value


def wanted(modifier: str, kind: str, names: Sequence[str]) -> st.SearchStrategy[Any]:
    """A value that goes with a modifier and a type, or a list of them."""
    if modifier == "exists":
        return st.booleans()
    one: st.SearchStrategy[Any] = rule_strings(kind)
    if modifier.startswith("re"):
        one = st.sampled_from((*REGEXES, *REGEXES, *REFUSED_REGEXES))
    elif modifier == "cidr":
        one = st.sampled_from(NETWORKS)
    elif modifier in COMPARISONS:
        one = st.sampled_from(RULE_NUMBERS)
    elif modifier.startswith("fieldref"):
        one = st.sampled_from(names)
    elif modifier.startswith(("wide", "utf16")):
        one = st.sampled_from(ENCODED)
    elif "base64" in modifier:
        one = st.sampled_from(("root", "ab", "root", "ab", "é"))
    elif modifier in ("", "neq"):
        plain = st.sampled_from(SHORT) if kind in UNWILD else rule_strings(kind)
        one = st.one_of(plain, plain, st.sampled_from(RULE_NUMBERS), st.booleans(), st.none())
    elif modifier == "windash":
        one = st.sampled_from(("-a", "a /b", "ab"))
    return st.one_of(one, one, st.lists(one, min_size=1, max_size=3))


@st.composite
def rules(draw: st.DrawFn, kinds: Mapping[str, str]) -> dict[str, Any]:
    """A Sigma rule over fields of the given types."""
    selection = st.lists(items(kinds), min_size=1, max_size=2).map(dict)
    detection = st.one_of(selection, selection, st.lists(selection, min_size=1, max_size=2))
    parts = {"one": draw(detection), "two": draw(detection)}
    fragile = any(_fragile(key, kinds) for part in parts.values() for key in _keys(part))
    positive = fragile and draw(st.integers(0, 9)) != 6
    conditions = st.sampled_from(POSITIVE) if positive else st.one_of(st.sampled_from(CONDITIONS), nested())
    some = st.lists(st.sampled_from(POSITIVE[:4]), min_size=2, max_size=2)
    return rule_of({**parts, "condition": draw(st.one_of(conditions, conditions, conditions, some))})


def nested() -> st.SearchStrategy[str]:
    """A condition of any depth, with negations anywhere."""

    def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        both = st.tuples(inner, st.sampled_from(("and", "or")), inner).map(lambda parts: f"({' '.join(parts)})")
        return st.one_of(both, both, inner.map(lambda part: f"not {part}"))

    return st.recursive(st.sampled_from(("one", "two", "1 of them")), around, max_leaves=12)


def rule_of(detection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule with a detection."""
    logsource = {"product": "aws", "service": "cloudtrail"}
    return {"title": "Generated", "logsource": logsource, "detection": dict(detection)}


def _keys(part: Any) -> list[str]:
    return [key for inner in (part if isinstance(part, list) else [part]) for key in inner]


def _fragile(key: str, kinds: Mapping[str, str]) -> bool:
    name, *modifiers = key.split("|")
    return kinds[name] in FRAGILE and modifiers != ["exists"]


# -- worlds -------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """One mapping with rules and events over it: every pair of a rule and an event is a triple.

    ``kinds`` leads from a field to its type in :data:`TYPES`. ``layout`` says how fields are nested: in ``objects``,
    ``flat`` (no objects at all), or in one ``open`` object that learns its fields as they come. ``drops`` says whether
    the index keeps no empty strings.
    """

    kinds: dict[str, str]
    rules: list[dict[str, Any]]
    events: list[Event]
    layout: str = "objects"
    drops: bool = False

    @property
    def schema(self) -> Schema:
        """The mapping as a schema in which rules and events name the index's own fields."""
        maps = {name: f"{name}_map" for name, kind in self.kinds.items() if kind == "flattened with map"}
        properties = {name: TYPES[kind] for name, kind in self.kinds.items() if kind != "dynamic keyword"}
        properties |= {name: {"type": "keyword", "ignore_above": MAP_LIMIT} for name in maps.values()}
        body = {
            "settings": {"number_of_shards": 1, "number_of_replicas": 0},
            "mappings": {
                "dynamic": self.layout == "open",
                "dynamic_templates": [{"values": {"match_mapping_type": "*", "mapping": KEYWORD}}],
                **({"subobjects": False, "properties": properties} if self.layout == "flat" else {}),
                **({"properties": _nested(properties)} if self.layout == "objects" else {}),
                **({"date_detection": False, "properties": _opened(properties)} if self.layout == "open" else {}),
            },
        }
        return Schema(
            name="generated",
            title="generated",
            index="generated",
            names={name: name for name in self.objects},
            prefixes={"o.": "o."} if self.layout == "open" else {},
            body=body,
            document=self.document,
            dropped=DROPPED if self.drops else frozenset(),
            java_maps=maps,
            size_limits=dict.fromkeys(maps, SIZE_LIMIT),
        )

    @property
    def objects(self) -> set[str]:
        """The names that are no fields, but objects that hold some."""
        if self.layout == "open":
            return {"o"}
        dotted = (name for name in self.kinds if self.layout == "objects")
        return {name[:place] for name in dotted for place, sign in enumerate(name) if sign == "."}

    def document(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """What the index holds of an event."""
        document = _pruned(event) if self.drops else dict(event)
        for name, kind in self.kinds.items():
            if kind == "flattened with map" and document.get(name) is not None:
                document[f"{name}_map"] = java.text(document[name])
                if java.length(document[f"{name}_map"]) >= SIZE_LIMIT:
                    del document[name]
        return document

    def as_dict(self) -> dict[str, Any]:
        """Return the world as a regression case has it."""
        shape: dict[str, Any] = {"layout": self.layout, **({"drops": True} if self.drops else {}), "kinds": self.kinds}
        return {**shape, "rules": [rule["detection"] for rule in self.rules], "events": self.events}

    @classmethod
    def from_dict(cls, shape: Mapping[str, Any]) -> World:
        """Return the world of a regression case."""
        made = [rule_of(detection) for detection in shape["rules"]]
        return cls(shape["kinds"], made, shape["events"], shape.get("layout", "objects"), shape.get("drops", False))


def _nested(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with dots in their names as objects with properties."""
    made: dict[str, Any] = {}
    for name, spec in properties.items():
        *parents, last = name.split(".")
        inside = made
        for parent in parents:
            inside = inside.setdefault(parent, {"properties": {}})["properties"]
        inside[last] = spec
    return made


def _opened(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Fields in one object whose own fields have dots in their names."""
    outside = {name: spec for name, spec in properties.items() if not name.startswith("o.")}
    inside = {name.removeprefix("o."): spec for name, spec in properties.items() if name.startswith("o.")}
    return {**outside, "o": {"subobjects": False, "properties": inside}}


def _pruned(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _pruned(value) for key, value in node.items() if value not in ("", "-", "none")}
    if isinstance(node, list):
        return [_pruned(value) for value in node if value not in ("", "-", "none")]
    return node


@st.composite
def worlds(draw: st.DrawFn, lacking: Sequence[str] = (), rules_most: int = 16, events_most: int = 28) -> World:
    """Draw a mapping of a few fields, of no kind and in no layout that is in ``lacking``, rules and events."""
    layout = draw(st.sampled_from([layout for layout in LAYOUTS if layout not in lacking]))
    kinds = {}
    drawn = draw(st.lists(st.sampled_from((*PLAIN_NAMES, *DOTTED_NAMES)), min_size=1, max_size=4, unique=True))
    for name in drawn:
        if layout == "objects" and any(other.startswith(f"{name}.") for other in drawn):
            continue  # it would be a field and an object
        allowed = [
            kind
            for kind in (*OFTEN, *TYPES)
            if kind not in lacking
            and (kind != "flattened with map" or "." not in name)
            and (kind != "dynamic keyword" or layout == "open")
        ]
        kind = draw(st.sampled_from(allowed))
        kinds[f"o.{name}" if layout == "open" and kind != "flattened with map" else name] = kind
    asked = {key: kind for name, kind in kinds.items() for key in _asked(name, kind)}
    drops = draw(st.integers(0, 5)) == 4
    world = World(kinds, [], [], layout, drops)
    asked |= dict.fromkeys(sorted(world.objects), "object")
    if draw(st.integers(0, 19)) == 8:
        asked["unmapped"] = "unmapped"
    world.events = draw(
        st.lists(events(kinds, layout, sorted(world.objects)), min_size=events_most // 2, max_size=events_most)
    )
    world.rules = draw(st.lists(rules(asked), min_size=rules_most // 2, max_size=rules_most))
    return world


def _asked(name: str, kind: str) -> list[str]:
    return [f"{name}.{key}" for key in ("k", "aws:s3:arn", "k.x y", 'q"(u')] if kind.startswith("flattened") else [name]
