"""Random correlations over random sequences of events, for everybody who has to agree on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from keytrail import correlation_engine, correlation_reference
from keytrail.convert import Conversion, convert
from keytrail.correlation import Correlation, Episode, Searched
from keytrail.correlation_engine import Event, Marker, Sorter
from keytrail.correlation_yaml import read
from keytrail.errors import RuleError
from keytrail.pack import Rule
from keytrail.reference import matches
from keytrail.schemas import Schema
from keytrail.times import DAY, iso, milliseconds

START = 1_773_136_800_000  # 2026-03-10T10:00:00Z, the edge of a bucket of each timespan below
LENGTH = 40_000
SECOND = 1000
# Rule c matches what rule a matches, and more: an event can stand for two rules.
RULES: dict[str, dict[str, Any]] = {
    name: {
        "title": f"Generated {name}",
        "name": name,
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"selection": {"eventName": events}, "condition": "selection"},
    }
    for name, events in {"a": ["A"], "b": ["B"], "c": ["A", "C"]}.items()
}
USER, KEY, PLACE = "userIdentity.arn", "resources.ARN", "requestParameters.encryptionContext.aws:s3:arn"
# Mostly the same, so that events meet.
VALUES = ("x", "x", "x", "x", "X", "y", "z/1", "é", "7")
FORMULAS = (
    "a and b",
    "a or b",
    "(a or b) and c",
    "a and (b or c)",
    "c and a",
    "a and b and a",
    "(a and b) or (c and b)",
)
NEGATED = ("a and not b", "not (a and b)", "not a", "(a or b) and not c")


def event_times() -> st.SearchStrategy[Any]:
    """Mostly whole seconds, of which some are edges of buckets; what is no time at all; nothing."""
    seconds = st.integers(0, LENGTH // SECOND).map(lambda second: iso(START + second * SECOND))
    edges = st.sampled_from((0, 5, 9, 10, 11, 15, 20, 30)).map(lambda second: iso(START + second * SECOND))
    fine = st.integers(0, LENGTH).map(lambda moment: iso(START + moment))
    odd = st.sampled_from((None, "", "yesterday", 7, "2026-03-10T10:00:05.1239Z", "2026-03-10T11:00:07+01:00"))
    return st.one_of(*[seconds] * 4, *[edges] * 6, fine, odd)


def records() -> st.SearchStrategy[dict[str, Any]]:
    """A record that one or two of the rules match, or none; anything about it can be missing."""
    one = st.sampled_from(VALUES)
    many = st.one_of(one, st.lists(one, max_size=3), st.none(), st.just(7))
    resources = st.one_of(st.none(), st.lists(st.fixed_dictionaries({}, optional={"ARN": one}), max_size=2))
    return st.builds(
        _record,
        st.sampled_from(("A", "B", "C", "D")),
        event_times(),
        st.one_of(st.sampled_from(("1", "2", "3", "", "-", None)), *[st.integers(10, 10**6).map(str)] * 3),
        st.one_of(st.none(), one, one),
        resources,
        many,
    )


def _record(name: str, time: Any, event_id: str | None, user: Any, resources: Any, place: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"eventSource": "kms.amazonaws.com", "eventName": name, "resources": resources}
    record |= {} if time is None else {"eventTime": time}
    record |= {} if event_id is None else {"eventID": event_id}
    record |= {} if user is None else {"userIdentity": {"arn": user}}
    record["requestParameters"] = {"other": "x", "encryptionContext": {"aws:s3:arn": place, "other": "y"}}
    return record


@st.composite
def correlations(draw: st.DrawFn) -> dict[str, Any]:
    """The YAML of a correlation."""
    kind = draw(st.sampled_from(("event_count", "value_count", "temporal", "temporal_ordered")))
    rules = list(draw(st.permutations(sorted(RULES)))[: draw(st.integers(1, 3))])
    shape: dict[str, Any] = {
        "type": kind,
        "rules": rules,
        "group-by": draw(st.sampled_from(([], [USER], [KEY], [PLACE], [USER, KEY], ["who"], ["who", KEY]))),
        "timespan": draw(st.sampled_from(("1s", "5s", "5s", "10s", "10s", "1m"))),
    }
    if "who" in shape["group-by"]:
        shape["aliases"] = {"who": {rule: {"a": USER, "b": KEY, "c": PLACE}[rule] for rule in rules}}
    if kind.startswith("temporal") and draw(st.booleans()):
        shape["condition"] = draw(st.sampled_from(FORMULAS + (NEGATED if kind == "temporal" else ())))
        del shape["rules"]
        if "aliases" in shape:
            shape["aliases"] = {"who": dict.fromkeys(read({"correlation": {**shape, "aliases": None}}).rules, USER)}
    elif not kind.endswith("ordered") and (kind != "temporal" or draw(st.booleans())):
        operators = st.sampled_from(("gte", "gte", "gt", "lt", "lte", "eq", "neq"))
        shape["condition"] = draw(st.dictionaries(operators, st.integers(0, 4), min_size=1, max_size=2))
    if kind == "value_count":
        shape["condition"]["field"] = draw(st.sampled_from((PLACE, USER, [USER, PLACE])))
    return {"title": "Generated", "correlation": shape}


def readable(document: Mapping[str, Any]) -> bool:
    """Tell whether the condition is one that a window can fulfil or miss."""
    try:
        read(document)
    except RuleError:
        return False
    return True


@dataclass
class Sequence:
    """A correlation, events, and what was searched."""

    document: dict[str, Any]
    records: list[dict[str, Any]]
    searched: Searched

    @property
    def correlation(self) -> Correlation:
        return read(self.document)

    def __repr__(self) -> str:
        return json.dumps({"correlation": self.document["correlation"], "records": self.records}) + repr(self.searched)


@st.composite
def sequences(draw: st.DrawFn, most: int = 15) -> Sequence:
    """Draw a correlation and a sequence of events, some of them delivered twice."""
    document = draw(correlations().filter(readable))
    found = draw(st.lists(records(), min_size=most // 3, max_size=most))
    found += draw(st.lists(st.sampled_from(found), max_size=3)) if found else []
    width = len(document["correlation"]["group-by"])
    known = draw(st.sets(st.tuples(*[st.sampled_from(VALUES)] * width), max_size=2))
    start = START + draw(st.sampled_from((0, 0, -SECOND, 5 * SECOND)))
    end = START + LENGTH + draw(st.sampled_from((0, 0, 100 * SECOND, -20 * SECOND)))
    return Sequence(document, list(draw(st.permutations(found))), Searched(start, end, frozenset(known)))


def by_reference(sequence: Sequence) -> list[Episode]:
    """What the correlation means."""
    return correlation_reference.episodes(sequence.correlation, RULES, sequence.records, sequence.searched)


def conversion(sequence: Sequence, schema: Schema) -> Conversion:
    """The plan of the correlation, or the reason why there is none."""
    bases = {name: Rule(Path(f"{name}.yml"), RULES[name], "") for name in sequence.correlation.rules}
    return convert(Rule(Path("generated.yml"), sequence.document, "", references=bases), schema)


def moved(sequence: Sequence, days: int) -> Sequence:
    """The same sequence some days later, so that many can lie in one index."""
    shift = days * DAY
    found = []
    for record in sequence.records:
        time = milliseconds(record.get("eventTime"))
        found.append(record if time is None else {**record, "eventTime": iso(time + shift)})
    when = sequence.searched
    return Sequence(sequence.document, found, Searched(when.start + shift, when.end + shift, when.known))


def by_engine(sequence: Sequence, schema: Schema, at_once: int = 5, *searched: Searched) -> list[Episode]:
    """What the streaming engine finds in the documents of a schema; the rules are matched by what they mean.

    ``searched`` are several stretches of time in the place of the sequence's own.
    """
    correlation = sequence.correlation
    sorter = Sorter(at_once)
    for rule in correlation.rules:
        marker = Marker(correlation, rule, schema)
        for number, record in enumerate(sequence.records):
            if matches(RULES[rule], record):
                sorter.add(marker.marks(Event(schema, schema.document(record), str(number))))
    return list(correlation_engine.episodes(correlation, sorter.sorted(), *searched or [sequence.searched]))
