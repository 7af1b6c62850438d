"""Hunting in CloudTrail files: every rule over every record, in one pass, with flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from keytrail.convert import convert
from keytrail.engine import Predicate, compile_query
from keytrail.errors import NeedsProfile, Refused, UsageError
from keytrail.pack import LEVELS, Rule
from keytrail.records import Reader
from keytrail.schemas import Schema


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
            "principal": _first(_inside(issuer, "arn"), _inside(identity, "arn"), _inside(identity, "invokedBy")),
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


@dataclass
class Hunt:
    """The rules made ready for one schema, and what has been counted so far.

    ``counts`` has each rule that could be evaluated, 0 included; ``refused`` the reason for each that could not.
    """

    schema: Schema
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    searched: int = 0
    _ready: list[tuple[Rule, Predicate]] = field(default_factory=list)

    @classmethod
    def prepare(cls, rules: Iterable[Rule], schema: Schema) -> Hunt:
        """Compile the rules for records kept as ``schema`` keeps them."""
        hunt = cls(schema)
        for rule in rules:
            made = convert(rule, schema)
            reason = _foreign(rule) or (None if made.error is None else made.error)
            if made.query is None or reason is not None:
                hunt.refused[rule.id] = reason.message if isinstance(reason, NeedsProfile) else str(reason)
                continue
            hunt._ready.append((rule, compile_query(made.query.body["query"], schema.mapping)))
            hunt.counts[rule.id] = 0
        return hunt

    def run(self, reader: Reader, window: Window = Window()) -> Iterator[Hit]:
        """Yield the hits in the order of the records."""
        for record, path, number in reader:
            if record not in window:
                continue
            self.searched += 1
            for rule in self.matching(record):
                self.counts[rule.id] += 1
                yield Hit(rule, record, path, number)

    def matching(self, record: Mapping[str, Any]) -> Iterator[Rule]:
        """Yield the rules that match one record."""
        document = self.schema.document(record)
        for rule, matches in self._ready:
            if matches(document):
                yield rule


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
