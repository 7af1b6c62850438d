"""Hunting in CloudTrail files: every rule over every record, in one pass, with flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Union

from keytrail.convert import convert
from keytrail.correlation import Group
from keytrail.correlation_hunt import Collector, CorrelationHit, Span
from keytrail.engine import Predicate, compile_query
from keytrail.errors import NeedsProfile, Refused, UsageError
from keytrail.pack import LEVELS, Rule
from keytrail.records import Reader
from keytrail.schemas import Schema
from keytrail.telemetry import Tally


@dataclass(frozen=True)
class Hit:
    """One rule that matched one record."""

    rule: Rule
    record: Mapping[str, Any]
    path: str
    number: int

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as JSON has it; what the record lacks is null."""
        record = self.record
        identity = record.get("userIdentity")
        issuer = _inside(_inside(identity, "sessionContext"), "sessionIssuer")
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
            "principal": _first(
                _inside(issuer, "arn"), *(_inside(identity, key) for key in ("arn", "principalId", "invokedBy"))
            ),
            "source_ip": record.get("sourceIPAddress"),
            "error_code": record.get("errorCode"),
            "path": self.path,
            "record": self.number,
        }


def _inside(node: object, key: str) -> object:
    return node.get(key) if isinstance(node, Mapping) else None


def _first(*found: object) -> object:
    return next((value for value in found if value is not None), None)


@dataclass(frozen=True)
class Window:
    """A stretch of event time, ``since`` included and ``until`` not; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    def __contains__(self, record: Mapping[str, Any]) -> bool:
        """A record without a readable time could lie in it, and is taken: nothing is passed over for want of a time."""
        if self.since is None and self.until is None:
            return True
        try:
            time = instant(str(record.get("eventTime")))
        except UsageError:
            return True
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)


def instant(value: str) -> datetime:
    """Return an ISO 8601 date or time as a moment; one without a zone is in UTC. Raises :class:`UsageError`."""
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"{value!r} is no date or time", hint="write 2026-11-20 or 2026-11-20T10:15:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


AnyHit = Union[Hit, CorrelationHit]


@dataclass
class _Ready:
    """A rule with its predicate, whether its hits are shown, and the correlations that take them."""

    rule: Rule
    matches: Predicate
    shown: bool = True
    takers: list[Callable[[Mapping[str, Any], str], None]] = field(default_factory=list)


@dataclass
class Hunt:
    """The rules made ready for one schema, and what has been counted so far.

    ``counts`` has each rule that could be evaluated, 0 included; ``refused`` the reason for each that could not.
    """

    schema: Schema
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    searched: int = 0
    tally: Tally = field(default_factory=Tally)
    rules: Sequence[Rule] = ()
    _ready: list[_Ready] = field(default_factory=list)
    _collectors: list[Collector] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, rules: Iterable[Rule], schema: Schema, known: Mapping[str, frozenset[Group]] | None = None
    ) -> Hunt:
        """Compile the rules for records kept as ``schema`` keeps them.

        Parameters: ``known`` leads from a correlation's id to the groups that are expected to have events.
        """
        listed = list(rules)
        hunt = cls(schema, rules=listed)
        for rule in listed:
            if rule.kind == "rule" and hunt._compiled(rule) is not None:
                hunt.counts[rule.id] = 0
        for rule in listed:
            if rule.kind == "correlation":
                hunt._correlate(rule, (known or {}).get(rule.id, frozenset()))
        return hunt

    def _compiled(self, rule: Rule) -> _Ready | None:
        """The rule made ready; None with the reason in ``refused`` where it cannot be."""
        made = convert(rule, self.schema)
        reason = _foreign(rule) or made.error
        if made.query is None or reason is not None:
            self.refused[rule.id] = reason.message if isinstance(reason, NeedsProfile) else str(reason)
            return None
        ready = _Ready(rule, compile_query(made.query.body["query"], self.schema.mapping))
        self._ready.append(ready)
        return ready

    def _correlate(self, rule: Rule, known: frozenset[Group]) -> None:
        """Have a correlation's rules tell it what they match; those that are not hunted for stay silent."""
        made = convert(rule, self.schema)
        foreign = next(filter(None, map(_foreign, rule.references.values())), None)
        if made.query is None or foreign is not None:
            self.refused[rule.id] = str(foreign or made.error)
            return
        collector = Collector(rule, self.schema, known)
        for name, base in rule.references.items():
            ready = next((one for one in self._ready if one.rule.document == base.document), None)
            if ready is None:
                ready = self._compiled(base)
                assert ready is not None  # else the correlation had no plan
                ready.shown = False
            ready.takers.append(partial(collector.take, name))
            if not rule.correlation.generate:
                ready.shown = False
                self.counts.pop(ready.rule.id, None)
        self._collectors.append(collector)
        self.counts[rule.id] = 0

    def run(self, reader: Reader, window: Window = Window()) -> Iterator[AnyHit]:
        """Yield the hits in the order of the records, those of correlations in the end."""
        span = Span()
        for record, path, number in reader:
            if self._collectors:
                span.take(record)
            if record not in window:
                continue
            self.searched += 1
            self.tally.take(record)
            document = self.schema.document(record)
            for ready in self._ready:
                if ready.matches(document):
                    for take in ready.takers:
                        take(document, f"{self.searched}")
                    if ready.shown:
                        self.counts[ready.rule.id] += 1
                        yield Hit(ready.rule, record, path, number)
        yield from self._correlated(span, window)

    def _correlated(self, span: Span, window: Window) -> Iterator[CorrelationHit]:
        if span.first is None or span.last is None:
            return
        millisecond, epoch = timedelta(milliseconds=1), datetime(1970, 1, 1, tzinfo=timezone.utc)
        since = span.first if window.since is None else (window.since - epoch) // millisecond
        until = span.last if window.until is None else -((epoch - window.until) // millisecond) - 1
        for collector in self._collectors:
            for hit in collector.hits(max(since, span.first), min(until, span.last)):
                self.counts[hit.rule.id] += 1
                yield hit

    @property
    def blind(self) -> dict[str, str]:
        """What was not in the logs, for each rule that could not see anything without it."""
        return self.tally.blind(rule for rule in self.rules if rule.id not in self.refused)

    def matching(self, record: Mapping[str, Any]) -> Iterator[Rule]:
        """Yield the rules that match one record; a correlation is about more than one."""
        document = self.schema.document(record)
        for ready in self._ready:
            if ready.shown and ready.matches(document):
                yield ready.rule


def _foreign(rule: Rule) -> Refused | None:
    """A rule that is about other logs would be silent here for the wrong reason."""
    source = rule.document.get("logsource")
    found = source if isinstance(source, Mapping) else {}
    product, service = found.get("product", "aws"), found.get("service", "cloudtrail")
    if (product, service) == ("aws", "cloudtrail"):
        return None
    return Refused(f"the rule's logsource is {product}/{service}, not aws/cloudtrail")


def worst(levels: Sequence[str]) -> int:
    """Return the place of the most severe of ``levels`` in LEVELS, -1 for none."""
    return max((LEVELS.index(level) for level in levels), default=-1)
