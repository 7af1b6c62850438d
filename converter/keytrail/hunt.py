"""Hunting in CloudTrail files: every rule over every record, in one pass, with flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, Union

from keytrail import alerts
from keytrail.convert import convert
from keytrail.correlation import Group
from keytrail.correlation_hunt import Collector, CorrelationHit, Span
from keytrail.engine import compile_query
from keytrail.errors import NeedsProfile, Refused, UsageError
from keytrail.jsontext import lenient
from keytrail.pack import LEVELS, Rule, only_correlated
from keytrail.records import Reader
from keytrail.scan import Stored
from keytrail.schemas import Schema, get_schema
from keytrail.search import Ended, Ready, Source
from keytrail.specialise import tree
from keytrail.telemetry import Tally
from keytrail.times import milliseconds
from keytrail.visible import path_text
from keytrail.workers import matches


class Hit:
    """One rule that matched one record.

    Parameters: ``record`` is the record, its JSON, or the file that it is in, which is read when it is asked for;
    ``number`` counts the records of the file at ``path`` from 1.
    """

    __slots__ = ("_record", "number", "path", "rule")

    def __init__(self, rule: Rule, record: Source, path: str, number: int) -> None:
        self.rule = rule
        self.path = path
        self.number = number
        self._record = record

    @property
    def record(self) -> Mapping[str, Any]:
        """The whole record. Raises :class:`RecordError` where it has to be read, and its file has changed."""
        record = self._record
        if isinstance(record, Stored):
            record = record.text(self.number - 1)
        if isinstance(record, bytes):
            record = lenient(record)
        self._record = record
        return record

    @property
    def place(self) -> str:
        """Where the record stands, in words."""
        return f"{path_text(self.path)}, record {self.number}"

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as JSON has it; what the record lacks is null."""
        record = self.record
        return {
            "rule_id": self.rule.id,
            "rule": self.rule.stem,
            "title": self.rule.title,
            "level": self.rule.level,
            "event_id": record.get("eventID"),
            "event_time": record.get("eventTime"),
            "event_source": record.get("eventSource"),
            "event_name": record.get("eventName"),
            "account": record.get("recipientAccountId"),
            "region": record.get("awsRegion"),
            "principal": principal_of(record),
            "source_ip": record.get("sourceIPAddress"),
            "error_code": record.get("errorCode"),
            "path": path_text(self.path),
            "record": self.number,
            "alert_id": alerts.of_event(self.rule.id, record),
        }


def principal_of(record: Mapping[str, Any]) -> object:
    """Return who made a call: for a session its role, for want of an ARN what else is said; None for nobody."""
    identity = record.get("userIdentity")
    issuer = _inside(_inside(identity, "sessionContext"), "sessionIssuer")
    return _first(_inside(issuer, "arn"), *(_inside(identity, key) for key in ("arn", "principalId", "invokedBy")))


def _inside(node: object, key: str) -> object:
    return node.get(key) if isinstance(node, Mapping) else None


def _first(*found: object) -> object:
    return next((value for value in found if value is not None), None)


@dataclass(frozen=True)
class Window:
    """A stretch of event time, ``since`` included and ``until`` not; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def bounded(self) -> bool:
        """Whether it is not all of time."""
        return self.since is not None or self.until is not None

    def holds(self, event_time: object) -> bool:
        """Tell whether an event lies in it; one without a readable time could, and nothing is passed over for that."""
        moment = milliseconds(event_time) if self.bounded else None
        if moment is None:
            return True
        return (self.start is None or moment >= self.start) and (self.end is None or moment < self.end)

    @cached_property
    def start(self) -> int | None:
        """The first millisecond since 1970 of it: event times are to the millisecond, what is finer is cut off."""
        return None if self.since is None else _ceiling(self.since)

    @cached_property
    def end(self) -> int | None:
        """The first millisecond since 1970 after it."""
        return None if self.until is None else _ceiling(self.until)


def _ceiling(moment: datetime) -> int:
    """The first whole millisecond since 1970 that is not before ``moment``."""
    return -((datetime(1970, 1, 1, tzinfo=timezone.utc) - moment) // timedelta(milliseconds=1))


def instant(value: str) -> datetime:
    """Return an ISO 8601 date or time as a moment; one without a zone is in UTC. Raises :class:`UsageError`."""
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"{value!r} is no date or time", hint="write 2026-11-20 or 2026-11-20T10:15:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


AnyHit = Union[Hit, CorrelationHit]


@dataclass
class Hunt:
    """The rules made ready for one schema, and what has been counted so far.

    ``counts`` has each rule that could be evaluated, 0 included; ``refused`` the reason for each that could not.
    ``timed`` says whether anything asks for event times, as correlations do; ``span`` is then from the first to the
    last event that was read.
    """

    schema: Schema
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    searched: int = 0
    tally: Tally = field(default_factory=Tally)
    rules: Sequence[Rule] = ()
    span: Span = field(default_factory=Span)
    timed: bool = False
    ready: list[Ready] = field(default_factory=list)
    collectors: list[Collector] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, rules: Iterable[Rule], schema: Schema, known: Mapping[str, frozenset[Group]] | None = None
    ) -> Hunt:
        """Compile the rules for records kept as ``schema`` keeps them.

        Parameters: ``known`` leads from a correlation's id to the groups that are expected to have events.
        """
        listed = list(rules)
        hidden = only_correlated(listed)
        hunt = cls(schema, rules=listed)
        for rule in listed:
            ready = hunt._compiled(rule) if rule.kind == "rule" else None
            if ready is not None and rule.id in hidden:
                ready.shown = False
            elif ready is not None:
                hunt.counts[rule.id] = 0
        for rule in listed:
            if rule.kind == "correlation":
                hunt._correlate(rule, (known or {}).get(rule.id, frozenset()))
        for collector in hunt.collectors:
            collector.share(len(hunt.collectors))
        return hunt

    def _compiled(self, rule: Rule) -> Ready | None:
        """The rule made ready; None with the reason in ``refused`` where it cannot be."""
        made = convert(rule, self.schema)
        reason = foreign(rule) or made.error
        if made.query is None or reason is not None:
            self.refused[rule.id] = reason.message if isinstance(reason, NeedsProfile) else str(reason)
            return None
        query = made.query.body["query"]
        ready = Ready(rule, tree(query, self.schema.mapping), compile_query(query, self.schema.mapping))
        self.ready.append(ready)
        return ready

    def _correlate(self, rule: Rule, known: frozenset[Group]) -> None:
        """Have a correlation's rules tell it what they match; those that are not hunted for stay silent."""
        made = convert(rule, self.schema)
        other = next(filter(None, map(foreign, rule.references.values())), None)
        if made.query is None or other is not None:
            self.refused[rule.id] = str(other or made.error)
            return
        collector = Collector(rule, self.schema, known)
        for name, base in rule.references.items():
            ready = next((one for one in self.ready if one.rule.document == base.document), None)
            if ready is None:
                ready = self._compiled(base)
                assert ready is not None  # else the correlation had no plan
                ready.shown = False
            ready.takers.append((len(self.collectors), name))
        self.collectors.append(collector)
        self.timed = True
        self.counts[rule.id] = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """A process of its own prepares the rules again: predicates cannot be sent."""
        return _prepared, (list(self.rules), self.schema.name, self.timed)

    def run(self, reader: Reader, window: Window = Window(), *, jobs: int = 1) -> Iterator[AnyHit]:
        """Yield the hits in the order of the records, those of correlations in the end.

        Parameters: ``jobs`` is the number of processes that search where there is enough for them to do.
        """
        yield from self.search(reader, window, jobs=jobs)
        span = self.span
        if span.first is not None and span.last is not None:
            since = span.first if window.start is None else window.start
            until = span.last if window.end is None else window.end - 1
            yield from self.correlated((max(since, span.first), min(until, span.last)))

    def search(
        self, reader: Reader, window: Window = Window(), *, jobs: int = 1, ended: Ended | None = None
    ) -> Iterator[Hit]:
        """Yield the hits of single rules in the order of the records; the events of correlations are kept for later.

        Parameters: ``ended`` is given each file when it was searched, with the times in it where the hunt is ``timed``.
        """
        reader.restart()
        rules = [ready.rule for ready in self.ready]

        def done(path: str, span: Span) -> None:
            self.span.add(span)
            if ended is not None:
                ended(path, span)

        for found in matches(self, reader, window, done, jobs):
            for place, times in Counter(found.rules).items():
                self.counts[rules[place].id] += times
            for place, number, source in found.found:
                yield Hit(rules[place], source, found.path, number)

    def correlated(self, *stretches: tuple[int, int]) -> Iterator[CorrelationHit]:
        """Yield the hits of correlations in what was searched, as :meth:`Collector.hits` does. Asked once."""
        for collector in self.collectors:
            for hit in collector.hits(*stretches):
                self.counts[hit.rule.id] += 1
                yield hit

    @property
    def blind(self) -> dict[str, str]:
        """What was not in the logs, for each rule that could not see anything without it."""
        return self.tally.blind(rule for rule in self.rules if rule.id not in self.refused)

    def matching(self, record: Mapping[str, Any]) -> Iterator[Rule]:
        """Yield the rules that match one record; a correlation is about more than one."""
        document = self.schema.document(record)
        for ready in self.ready:
            if ready.shown and ready.matches(document):
                yield ready.rule


def _prepared(rules: list[Rule], schema: str, timed: bool) -> Hunt:
    hunt = Hunt.prepare(rules, get_schema(schema))
    hunt.timed = timed
    return hunt


def foreign(rule: Rule) -> Refused | None:
    """Return the refusal of a rule that is about other logs: it would be silent here for the wrong reason."""
    source = rule.document.get("logsource")
    found = source if isinstance(source, Mapping) else {}
    product, service = found.get("product", "aws"), found.get("service", "cloudtrail")
    if (product, service) == ("aws", "cloudtrail"):
        return None
    return Refused(f"the rule's logsource is {product}/{service}, not aws/cloudtrail")


def worst(levels: Sequence[str]) -> int:
    """Return the place of the most severe of ``levels`` in LEVELS, -1 for none."""
    return max((LEVELS.index(level) for level in levels), default=-1)
