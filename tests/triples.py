"""Random (rule, event, mapping) triples, and what everyone who evaluates them says: they must agree or refuse.

Run any number of them against a node that is started for it::

    python -m tests.triples --triples 100000 --seed 7
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from keytrail import reference
from keytrail.cluster import Cluster
from keytrail.convert import Conversion, convert
from keytrail.errors import KeytrailError
from keytrail.pack import Rule
from keytrail.proof import Engine, holds
from keytrail.schemas import Schema

Event = dict[str, Any]
NAMES = ("plain", "two.parts", "aws:s3:arn", "hy-phen", "sp ace", 'quo"te', "ünï", "a.b-c:d e")
TYPES: dict[str, dict[str, Any]] = {
    "keyword": {"type": "keyword"},
    "keyword, ignore_above 5": {"type": "keyword", "ignore_above": 5},
    "keyword, ignore_above 256": {"type": "keyword", "ignore_above": 256},
    "keyword, ignore_above 8191": {"type": "keyword", "ignore_above": 8191},
    "keyword, lowercase": {"type": "keyword", "normalizer": "lowercase", "ignore_above": 8191},
    "text": {"type": "text"},
    "text with keyword": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
    "flattened": {"type": "flattened", "ignore_above": 300},
    "ip": {"type": "ip", "ignore_malformed": True},
    "keyword with ip": {
        "type": "keyword",
        "ignore_above": 256,
        "fields": {"ip": {"type": "ip", "ignore_malformed": True}},
    },
    "keyword with number": {
        "type": "keyword",
        "ignore_above": 256,
        "fields": {"number": {"type": "double", "ignore_malformed": True}},
    },
    "long": {"type": "long", "ignore_malformed": True},
    "double": {"type": "double", "ignore_malformed": True},
    "boolean": {"type": "boolean", "ignore_malformed": True},
    "date": {"type": "date", "ignore_malformed": True},
}
STRINGS = (
    *("", "a", "A", "ab", "aB", "Abc", "root", "k", "K", "\u212a", "s", "ſ", "É", "é", "ß", "ẞ", "ςσΣ", "İ", "i", "ı"),
    *("a*b", "a?b", "a\\b", "*", "?", "\\", "a b", "a\nb", "\n", ".*", "a.b", "[a]", '"', "@&<>~#", "a/b", "{a=b}"),
    *("7", "7.0", "007", "-7", "1e3", "0", "true", "false", "True", "10.0.0.1", "10.1.2.3", "::1", "0:0::1"),
    *("::ffff:10.0.0.1", "2001:db8::1", "2001:DB8::1", "2026-11-20", "😀", "a😀b", "\u0000", "null", "AND", "NOT"),
    "arn:aws:s3:::bucket/AWSLogs/111122223333/CloudTrail/x.json.gz",
    *("x" * 255 + "ab", "ab" + "x" * 8190, "x" * 40 + "root"),
)
NUMBERS = (0, 7, -7, 10, 7.5, -0.25, 123456789012345, 1e3)
UNWILD = ("ip", "long", "double", "boolean", "date")
REGEXES = (
    *(
        "^a",
        "b$",
        "^a.*b$",
        "a|b",
        "^(a|A)b?$",
        "[a-c]{2}",
        "[^a]",
        r"\d+",
        r"\w\s\w",
        r"a\.b",
        "^$",
        "x{255}",
        "(ab)+",
    ),
    *(
        r"^arn:aws:s3:::[^/]+/",
        "a.b",
        r"[\]\[]",
        "(?:a|b)c",
        r"\*",
        "é",
        r"^\{a=",
        '"',
        r"[@&<>~#]+",
        "(^a|b$)",
        "a{2,}",
    ),
    *("(ab)+", "a{2,}", r"(?=a)", r"\bA", "a^b", r"(a)\1", "[[:alpha:]]"),
)
NETWORKS = ("10.0.0.0/8", "10.0.0.1/32", "::/0", "2001:db8::/32", "0.0.0.0/0", "::1/128")
OF_STRINGS = (
    *("", "", "contains", "startswith", "endswith", "contains|all", "cased", "contains|cased", "endswith|cased"),
    *("re", "re|i", "re|s", "exists", "neq", "contains|neq", "windash", "base64", "base64offset|contains"),
    *("startswith|cased", "startswith", ""),
)
COMPARISONS = ("lt", "lte", "gt", "gte")
ANY_MODIFIER = (*OF_STRINGS, *COMPARISONS, "cidr", "fieldref")
# The modifiers that a type can answer, so that refusals do not crowd out the proof.
MODIFIERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TYPES, OF_STRINGS),
    "text": ("exists", "exists", "neq", "contains"),
    "flattened": ("", "startswith", "exists", "cased", "neq", "startswith|cased", "windash"),
    "keyword with ip": (*OF_STRINGS, *["cidr"] * 9),
    "keyword with number": (*OF_STRINGS, *COMPARISONS * 2),
    "keyword, lowercase": ("", "contains", "startswith", "endswith", "exists", "neq", "contains|all"),
    "ip": ("", "cidr", "cidr", "exists", "neq"),
    "long": ("", *COMPARISONS, "exists", "neq"),
    "double": ("", *COMPARISONS, "exists", "neq"),
    "boolean": ("", "", "exists", "neq", "cased"),
    "date": ("exists", ""),
}
CONDITIONS = (
    *("one", "not one", "one and two", "one or two", "one and not two", "not (one or two)", "not (one and not two)"),
    *("1 of them", "all of them", "not 1 of t*", "(one or two) and not (two and one)", "not not one"),
)


def scalars() -> st.SearchStrategy[Any]:
    """A value of an event: mostly from the lists above, so that rules and events meet."""
    strings = st.sampled_from(STRINGS)
    joined = st.tuples(strings, strings).map("".join)
    free = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return st.one_of(strings, strings, joined, free, st.sampled_from(NUMBERS), st.booleans(), st.none())


def event_values() -> st.SearchStrategy[Any]:
    """A field's value: a scalar, or a list of them, with nulls and empty lists."""
    return st.one_of(scalars(), scalars(), scalars(), st.lists(scalars(), max_size=3))


def flattened_values() -> st.SearchStrategy[Any]:
    """An object for a flattened field; its keys are those that rules ask for, and others."""
    keys = st.sampled_from(("k", "aws:s3:arn", "x y"))
    inner = st.dictionaries(keys, event_values(), max_size=2)
    return st.one_of(st.none(), st.dictionaries(keys, st.one_of(event_values(), inner), max_size=3))


def rule_strings() -> st.SearchStrategy[str]:
    """A Sigma string: a value as it is, or escaped, or with wildcards put in."""
    plain = st.one_of(st.sampled_from(STRINGS[:-2]), st.text(max_size=4).filter(lambda text: "%" not in text))
    wild = st.tuples(
        st.sampled_from(("", "*", "?", "a*", "\\*")), plain, st.sampled_from(("", "*", "?", "*b", "\\\\*"))
    )
    return st.one_of(plain, wild.map("".join))


@st.composite
def items(draw: st.DrawFn, kinds: Mapping[str, str]) -> tuple[str, Any]:
    """One line of a selection: mostly a question that the field's type can answer."""
    name = draw(st.sampled_from(sorted(kinds)))
    fitting = draw(st.integers(0, 9)) > 0
    modifier = draw(st.sampled_from(MODIFIERS[kinds[name]] if fitting else ANY_MODIFIER))
    value = draw(wanted(modifier, kinds[name], sorted(kinds)))
    return (f"{name}|{modifier}" if modifier else name), value


def wanted(modifier: str, kind: str, names: Sequence[str]) -> st.SearchStrategy[Any]:
    """A value that goes with a modifier and a type, or a list of them."""
    if modifier == "exists":
        return st.booleans()
    one: st.SearchStrategy[Any] = rule_strings()
    if modifier.startswith("re"):
        one = st.sampled_from(REGEXES)
    elif modifier == "cidr":
        one = st.sampled_from(NETWORKS)
    elif modifier in ("lt", "lte", "gt", "gte"):
        one = st.sampled_from(NUMBERS)
    elif modifier == "fieldref":
        return st.sampled_from(names)
    elif modifier.startswith("base64"):
        one = st.sampled_from(("root", "ab", "é"))
    elif modifier in ("", "neq"):
        plain = st.sampled_from(STRINGS) if kind in UNWILD else rule_strings()
        one = st.one_of(plain, plain, st.sampled_from(NUMBERS), st.booleans(), st.none())
    elif modifier == "windash":
        one = st.sampled_from(("-a", "a /b", "ab"))
    return st.one_of(one, one, st.lists(one, min_size=1, max_size=3))


def rules(kinds: Mapping[str, str]) -> st.SearchStrategy[dict[str, Any]]:
    """A Sigma rule over fields of the given types."""
    selection = st.lists(items(kinds), min_size=1, max_size=2).map(dict)
    detection = st.one_of(selection, selection, st.lists(selection, min_size=1, max_size=2))
    return st.builds(
        lambda one, two, condition: {
            "title": "Generated",
            "logsource": {"product": "aws", "service": "cloudtrail"},
            "detection": {"one": one, "two": two, "condition": condition},
        },
        detection,
        detection,
        st.one_of(st.sampled_from(CONDITIONS), st.lists(st.sampled_from(CONDITIONS[:4]), min_size=2, max_size=2)),
    )


@dataclass
class World:
    """One mapping with rules and events over it: every pair of a rule and an event is a triple."""

    kinds: dict[str, str]
    rules: list[dict[str, Any]]
    events: list[Event]

    @property
    def schema(self) -> Schema:
        """The mapping as a schema in which rules and events name the index's own fields."""
        properties = {name: TYPES[kind] for name, kind in self.kinds.items()}
        body = {
            "settings": {"number_of_shards": 1, "number_of_replicas": 0},
            "mappings": {"dynamic": False, "subobjects": False, "properties": properties},
        }
        return Schema("generated", "generated", "generated", {}, {}, body, dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the world as a regression case has it."""
        return {"kinds": self.kinds, "rules": self.rules, "events": self.events}


@st.composite
def worlds(draw: st.DrawFn, rules_most: int = 16, events_most: int = 16) -> World:
    """Draw a mapping of a few fields, rules and events."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    kinds = {name: draw(st.sampled_from(sorted(TYPES))) for name in names}
    asked = {key: kinds[name] for name in names for key in _asked(name, kinds[name])}
    shape = {name: flattened_values() if kinds[name] == "flattened" else event_values() for name in names}
    event = st.fixed_dictionaries({}, optional=shape)
    drawn = draw(st.lists(event, min_size=events_most // 2, max_size=events_most))
    return World(kinds, draw(st.lists(rules(asked), min_size=rules_most // 2, max_size=rules_most)), drawn)


def _asked(name: str, kind: str) -> list[str]:
    return [f"{name}.k", f"{name}.aws:s3:arn", f"{name}.k.x y"] if kind == "flattened" else [name]


@dataclass
class Tally:
    """What was checked: triples by engine, verdicts, reasons for refusals, checks whose condition was false."""

    triples: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return the tally as a person reads it."""
        shown = [f"{count:>9,} triples agreed with {name}" for name, count in sorted(self.triples.items())]
        for title, counted in (("rules", self.verdicts), ("refused", self.refusals), ("outside", self.outside)):
            shown += [f"{count:>9,} {title}: {name}" for name, count in counted.most_common()]
        return shown


class Disagreement(AssertionError):
    """Somebody says something else than the rule, and no named condition is false."""


def check(world: World, engines: Sequence[Engine], tally: Tally) -> None:
    """Check every triple of ``world`` on every engine; raises :class:`Disagreement`."""
    schema = world.schema
    made = [_converted(rule, number, schema, tally) for number, rule in enumerate(world.rules)]
    queries = {one.rule.stem: one.query.body for one in made if one.query is not None}
    documents = {str(number): event for number, event in enumerate(world.events)}
    for engine in engines:
        hits = engine.hits(schema, queries, documents)
        kept = {name: event for name, event in documents.items() if name not in getattr(engine, "refused", ())}
        for one in made:
            if one.query is not None:
                _compare(one, engine.name, hits[one.rule.stem], kept, tally)


@dataclass
class Node:
    """A real server, which may refuse events: what it does not hold, nobody can find in it."""

    cluster: Cluster
    name: str
    refused: frozenset[str] = frozenset()

    def hits(
        self, schema: Schema, queries: Mapping[str, Mapping[str, Any]], documents: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, frozenset[str]]:
        """Load the events, note the refused ones, run the queries."""
        with self.cluster.temporary_index(schema.body) as index:
            self.refused = frozenset(self.cluster.load(index, documents.items()))
            return self.cluster.search(index, {name: body["query"] for name, body in queries.items()})


def _converted(source: Mapping[str, Any], number: int, schema: Schema, tally: Tally) -> Conversion:
    rule = Rule(Path(f"{number}.yml"), source, json.dumps(source))
    made = convert(rule, schema)
    tally.verdicts[made.verdict] += 1
    if made.error is not None:
        tally.refusals[_reason(made.error)] += 1
    return made


def _reason(error: KeytrailError) -> str:
    """The reason without the names of fields and values."""
    message = error.message.split(": ", 1)[-1].split(" unless ")[0]
    return re.sub(r"comparing it with .* needs", "comparing it with another field needs", message)


def _compare(made: Conversion, engine: str, hits: frozenset[str], events: Mapping[str, Event], tally: Tally) -> None:
    meaning = reference.compile_rule(made.rule.document)
    for name, event in events.items():
        tally.triples[engine] += 1
        says = meaning(event)
        if says is (name in hits):
            continue
        broken = [part for part in made.conditions if not holds(part, made.schema, event)]
        if not broken:
            shown = json.dumps(made.query.body if made.query else None, ensure_ascii=False)
            rule = json.dumps(made.rule.document["detection"], ensure_ascii=False)
            raise Disagreement(
                f"the rule says {says}, {engine} says {not says}\nrule {rule}\nevent {json.dumps(event)[:2000]}\n"
                f"mapping {json.dumps(made.schema.body['mappings'])}\nquery {shown[:2000]}"
            )
        tally.outside[broken[0].kind] += 1
