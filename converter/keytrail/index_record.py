"""As much of a CloudTrail record as a hit in an index needs: the fields of a document, and the record made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keytrail.errors import UnmappedField
from keytrail.pack import Rule
from keytrail.paths import values
from keytrail.schemas import Schema
from keytrail.times import iso, milliseconds

# What a hit is shown with, by the names of CloudTrail.
SHOWN = (
    *("eventID", "eventTime", "eventSource", "eventName", "recipientAccountId", "awsRegion", "sourceIPAddress"),
    *("errorCode", "userAgent", "userIdentity.type", "userIdentity.arn", "userIdentity.principalId"),
    *("userIdentity.accountId", "userIdentity.invokedBy", "userIdentity.sessionContext.sessionIssuer.arn"),
    *("resources.ARN", "resources.arn", "requestParameters.keyId", "requestParameters.bucketName"),
    *("requestParameters.encryptionContext.aws:cloudtrail:arn", "requestParameters.encryptionContext.aws:s3:arn"),
)


def wanted_fields(rule: Rule, schema: Schema) -> dict[str, str]:
    """Return where ``schema`` keeps what a hit is shown with, and what its rule asks about.

    From a rule's name to a document's path.
    """
    found = {}
    own = _fields([part for name, part in rule.document["detection"].items() if name != "condition"])
    for name in dict.fromkeys((*SHOWN, *own)):
        try:
            index_name = schema.index_name(name)
        except UnmappedField:
            continue  # the rule's own fields are there, or there would be no query
        known = schema.field(index_name)
        found[name] = index_name if known is None else known.source
    return found


def _fields(selection: object) -> Iterator[str]:
    """The fields that a selection names."""
    if isinstance(selection, Mapping):
        yield from (str(key).partition("|")[0] for key in selection)
    elif isinstance(selection, list):
        for part in selection:
            yield from _fields(part)


def record_of(source: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return as much of a CloudTrail record as a document's ``source`` tells of ``fields``.

    A time of the index's own is written as CloudTrail writes it; of several values there is a list.
    """
    record: dict[str, Any] = {}
    for name, path in fields.items():
        found: list[Any] = list(values(source, path))
        # Where the index has no eventTime of its own, its time is in another form.
        moment = milliseconds(found[0]) if found and name == "eventTime" != path else None
        if moment is not None:
            found = [iso(moment)]
        if found:
            _put(record, name.split("."), found[0] if len(found) == 1 else found)
    return record


def _put(record: dict[str, Any], keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        inner = record.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        record = inner
    record[keys[-1]] = value
