"""A site profile learned from CloudTrail logs, and apart from it what an attacker could have planted in them.

Trusted is what CloudTrail itself says again and again: the trail, bucket and key of the data keys that it asks for, in
half of the hours or on half of the days at least, where the logs are long enough to tell. A reader is trusted when he
opened such objects, through S3, on half of the days at least, and a fair share of all. Everything else that looks like
the site's own is listed as untrusted with the reason, for a person to judge, and not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from keytrail import reference
from keytrail.data import packaged
from keytrail.pack import load_rules
from keytrail.paths import exists
from keytrail.profile import SCHEMA

Record = Mapping[str, Any]
CONTEXT = "requestParameters.encryptionContext"
# A reader counts when seen in half of the hours, or on half of the days where the logs are of a week or more, and in so
# many of them at least; and when he made one of so many of all reads at least.
PERIODS, WEEK, SHARE = 3, 7, 20
# So does a trail by its deliveries, where the logs are of so many hours at least: it delivers every few minutes.
LONG = 24
MOST_PERIODS = 400
# What is remembered of untrusted things, and listed: an attacker can make up any number of them.
MOST_KEPT, MOST_LISTED, LONGEST = 10_000, 50, 500
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):\d\d:\d\dZ", re.ASCII)
_FORMS: Mapping[str, re.Pattern[str]] = {
    "trail": re.compile(SCHEMA["properties"]["trails"]["items"]["properties"]["arn"]["pattern"], re.ASCII),
    "bucket": re.compile(SCHEMA["properties"]["trails"]["items"]["properties"]["bucket"]["pattern"], re.ASCII),
    "prefix": re.compile(SCHEMA["properties"]["trails"]["items"]["properties"]["prefix"]["pattern"], re.ASCII),
    "key": re.compile(SCHEMA["$defs"]["key"]["properties"]["arn"]["pattern"], re.ASCII),
    "alias": re.compile(SCHEMA["$defs"]["key"]["properties"]["aliases"]["items"]["pattern"], re.ASCII),
    **{kind: re.compile(SCHEMA["$defs"][kind]["pattern"], re.ASCII) for kind in ("role", "user", "account")},
}


@dataclass
class Seen:
    """How many events, from when to when, and in which hours and days, up to ``MOST_PERIODS`` of each."""

    events: int = 0
    first: str = ""
    last: str = ""
    hours: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Count one event."""
        self.events += 1
        time = str(record.get("eventTime"))
        found = _TIME.fullmatch(time)
        if found is None:
            return
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)
        for periods, name in ((self.hours, found[1] + found[2]), (self.days, found[1])):
            if len(periods) < MOST_PERIODS:
                periods.add(intern(name))

    def as_dict(self) -> dict[str, Any]:
        """Return it as the profile has it."""
        times = {"first": self.first, "last": self.last} if self.first else {}
        return {"events": self.events, **times}


@dataclass(frozen=True)
class Place:
    """What an encryption context and the key say together; a bucket key's context tells no prefix."""

    trail: str
    bucket: str
    prefix: str | None
    key: str

    def as_dict(self) -> dict[str, str]:
        """Return what is known of it."""
        given = {"trail": self.trail, "bucket": self.bucket, "prefix": self.prefix, "key": self.key}
        return {name: _short(value) for name, value in given.items() if value}


@dataclass(frozen=True)
class Who:
    """A principal: ``kind`` is role or user, or another word where a profile cannot name it."""

    kind: str
    value: str

    def as_dict(self) -> dict[str, str]:
        """Return it as the profile has it."""
        return {self.kind: _short(self.value)}


class Learner:
    """Takes CloudTrail records, and says what they tell of the site.

    Parameters: ``accounts`` are the site's own, besides those whose records these are.
    """

    def __init__(self, accounts: Sequence[str] = ()) -> None:
        rule = load_rules([packaged("rules") / "normal" / "log_file_sealed.yml"]).rules[0]
        self._service = reference.selection(rule.document["detection"]["service"])
        self.given = tuple(accounts)
        self.all = Seen()
        self.accounts: dict[str, Seen] = {}
        self.sealed: dict[Place, Seen] = {}
        self.read: dict[tuple[Who, Place], Seen] = {}
        self.forged: dict[tuple[Who, str, str, Place], Seen] = {}
        self.settings: dict[tuple[Who, str, Place], Seen] = {}
        self.aliases: dict[str, set[str]] = {}
        self.dropped = 0
        self._ids: set[int] = set()

    def take(self, record: Record) -> None:
        """Learn from one record."""
        account = record.get("recipientAccountId")
        self.all.add(record)
        if isinstance(account, str):
            self._count(self.accounts, account, record)
        source, name = record.get("eventSource"), record.get("eventName")
        if record.get("errorCode") is not None or self._again(record):
            return
        if source == "kms.amazonaws.com" and exists(record, f"{CONTEXT}.aws:cloudtrail:arn"):
            self._context(record, str(name))
        elif source == "cloudtrail.amazonaws.com" and name in ("CreateTrail", "UpdateTrail"):
            self._setting(record, str(name))

    def _again(self, record: Record) -> bool:
        """Whether this very event has been seen: the same one can arrive twice."""
        given = record.get("eventID")
        if not isinstance(given, str) or not given:
            return False
        known = hash(given)
        if known in self._ids:
            return True
        if len(self._ids) < 100 * MOST_KEPT:
            self._ids.add(known)
        return False

    def _count(self, found: dict[Any, Seen], key: Any, record: Record) -> None:
        if key not in found and len(found) >= MOST_KEPT:
            self.dropped += 1
        else:
            found.setdefault(key, Seen()).add(record)

    def _context(self, record: Record, name: str) -> None:
        place = place_of(record)
        if self._service(record):
            if name in ("GenerateDataKey", "Decrypt"):
                self._count(self.sealed, place, record)
                self._alias(record, place.key)
        elif name == "Decrypt" and exists(record, "userIdentity.invokedBy"):
            self._count(self.read, (who(record), place), record)
        else:
            how = "through another service" if exists(record, "userIdentity.invokedBy") else "by a call of its own"
            self._count(self.forged, (who(record), name, how, place), record)

    def _alias(self, record: Record, key: str) -> None:
        given = _inside(record, "requestParameters", "keyId")
        name = str(given).rsplit(":", 1)[-1]
        if name.startswith("alias/") and len(self.aliases.setdefault(key, set())) < MOST_LISTED:
            self.aliases[key].add(name)

    def _setting(self, record: Record, name: str) -> None:
        """What a call has made of a trail, in CloudTrail's answer."""
        answer = record.get("responseElements")
        said = answer if isinstance(answer, Mapping) else {}
        values = [said.get(part) for part in ("trailARN", "s3BucketName", "s3KeyPrefix", "kmsKeyId")]
        trail, bucket, prefix, key = (value if isinstance(value, str) else "" for value in values)
        self._count(self.settings, (who(record), name, Place(trail, bucket, prefix.strip("/"), key)), record)


def place_of(record: Record) -> Place:
    """Return the trail, bucket and prefix of an encryption context, and the key that was used."""
    context = _inside(record, "requestParameters", "encryptionContext")
    trail, where = (_inside(context, name) for name in ("aws:cloudtrail:arn", "aws:s3:arn"))
    bucket, slash, name = str(where or "").split(":::", 1)[-1].partition("/")
    before, folder, _ = f"/{name}".partition("/AWSLogs/")
    prefix = before.strip("/") if folder else "?" if slash else None
    return Place(str(trail), bucket, prefix, _key_of(record))


def _key_of(record: Record) -> str:
    """The key's ARN as AWS writes it; "" where the record has none."""
    resources = record.get("resources")
    for resource in resources if isinstance(resources, list) else ():
        found = _inside(resource, "ARN") or _inside(resource, "arn")
        if isinstance(found, str) and ":key/" in found:
            return found
    return ""


def who(record: Record) -> Who:
    """Return the role (and not the session), or the user; of anybody else the type and what is known."""
    identity = record.get("userIdentity")
    kind, arn = _inside(identity, "type"), _inside(identity, "arn")
    issuer = _inside(identity, "sessionContext", "sessionIssuer", "arn")
    if kind == "AssumedRole" and isinstance(issuer, str) and _FORMS["role"].search(issuer):
        return Who("role", issuer)
    if kind == "IAMUser" and isinstance(arn, str) and _FORMS["user"].search(arn):
        return Who("user", arn)
    known = arn or _inside(identity, "accountId") or _inside(identity, "invokedBy") or "unknown"
    return Who("principal", f"{kind} {known}")


def _inside(node: object, *names: str) -> object:
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "\u2026"


def account_of(arn: str) -> str:
    """Return the account in an ARN, or an empty text."""
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else ""


def fits(place: Place) -> bool:
    """Tell whether a profile can hold the place: all of it is known, and has the form that AWS gives it."""
    named = [("trail", place.trail), ("bucket", place.bucket), ("key", place.key)]
    if place.prefix:
        named.append(("prefix", place.prefix))
    return all(_FORMS[kind].search(value) for kind, value in named)


def aliases_of(learner: Learner, key: str) -> Iterator[str]:
    """Yield the aliases that CloudTrail used for a key."""
    for name in sorted(learner.aliases.get(key, ())):
        if _FORMS["alias"].search(name):
            yield name
