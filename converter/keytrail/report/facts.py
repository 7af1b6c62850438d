"""What a report says of one hit: a few facts of its record, as text of a bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keytrail.hunt import Hit, principal_of
from keytrail.paths import values
from keytrail.times import milliseconds

LONGEST = 300


class Facts(NamedTuple):
    """A hit's record in a few words; what it lacks is None. ``moment`` is ``time`` in milliseconds since 1970."""

    moment: int | None
    time: str | None
    event: str | None
    principal: str | None
    source: str | None
    key: str | None
    account: str | None
    region: str | None
    error: str | None
    event_id: str | None
    place: str

    @property
    def identity(self) -> str:
        """What tells the event from others: its id after ``=``, or for want of one its place."""
        return f"={self.event_id}" if self.event_id else f"#{self.place}"


def facts(hit: Hit) -> Facts:
    """Return what a report says of a hit."""
    said = hit.record.get
    return Facts(
        milliseconds(said("eventTime")),
        _text(said("eventTime")),
        _text(said("eventName")),
        _text(principal_of(hit.record)),
        _text(said("sourceIPAddress")),
        key_of(hit.record),
        _text(said("recipientAccountId")),
        _text(said("awsRegion")),
        _text(said("errorCode")),
        _text(said("eventID")),
        hit.place,
    )


def key_of(record: Mapping[str, Any]) -> str | None:
    """Return the KMS key that a record is about: what AWS says in ``resources``, else what the caller wrote."""
    for arn in (*values(record, "resources.ARN"), *values(record, "resources.arn")):
        if isinstance(arn, str) and ":kms:" in arn and ":key/" in arn:
            return _text(arn)
    asked = record.get("requestParameters")
    return _text(asked.get("keyId")) if isinstance(asked, Mapping) else None


def trail_of(record: Mapping[str, Any]) -> str:
    """Return the trail that a use of a key is for: its ARN, or where the bucket is all that is known, the bucket's."""
    asked = record.get("requestParameters")
    context = asked.get("encryptionContext") if isinstance(asked, Mapping) else None
    if isinstance(context, Mapping):
        for name in ("aws:cloudtrail:arn", "aws:s3:arn"):
            found = context.get(name)
            if isinstance(found, str):
                return cut(found if name == "aws:cloudtrail:arn" else found.partition("/")[0])
    return "(no trail is named)"


def _text(value: object) -> str | None:
    return None if value is None else cut(value if isinstance(value, str) else repr(value))


def cut(text: str, longest: int = LONGEST) -> str:
    """Return text that is no longer than ``longest``, and says so where it was."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"
