"""Schema ``raw``: CloudTrail records as they are, in an index that makes its own fields.

An index without a mapping gives each field the type of the first value that comes: every string becomes text with a
``.keyword`` of at most 256 characters, one that looks like a date becomes a date, whole numbers become long, true and
false boolean. An event with another type in a field is refused, and so is, from 1,000 fields on, any event with a new
one. Listed here are the fields whose type AWS's own events leave no doubt about; for all others the type is uncertain,
and what is asked of them is exact on a condition or refused. Which events are refused is a condition of every query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from keytrail.schemas import keytrail
from keytrail.schemas.base import Schema

TEXT: dict[str, Any] = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
# Uncertain: apiVersion can be 2015-03-31, and assumedRoot a text or a truth value.
_NOT_TEXT = {"eventTime", "managementEvent", "readOnly", "apiVersion"}
_NOT_TEXT |= {"sessionContext.attributes.creationDate", "sessionContext.assumedRoot"}
_CONTEXTS = ("encryptionContext", "sourceEncryptionContext", "destinationEncryptionContext")
_SELECTORS = ("field", "equals", "notEquals", "startsWith", "notStartsWith", "notEndsWith")
TEXTS: dict[str, tuple[str, ...]] = {
    "": (*(name for name in keytrail.SCALARS if name not in _NOT_TEXT), "sourceIPAddress"),
    "userIdentity.": tuple(name for name in keytrail.IDENTITY if name not in _NOT_TEXT),
    "resources.": ("ARN", "ARNPrefix", "accountId", "type"),
    "tlsDetails.": keytrail.TLS,
    "requestParameters.": (
        *("keyId", "policy", "policyName", "granteePrincipal", "operations", "name", "s3BucketName", "kmsKeyId"),
        *("bucketName", "key"),
        *(f"{context}.{key}" for context in _CONTEXTS for key in ("aws:cloudtrail:arn", "aws:s3:arn")),
        *("aliasName", "targetKeyId", "destinationKeyId", "origin", "trailName"),
        *("eventSelectors.readWriteType", "eventSelectors.excludeManagementEventSources"),
        *(f"advancedEventSelectors.fieldSelectors.{key}" for key in _SELECTORS),
        "VersioningConfiguration.Status",
        "x-amz-server-side-encryption-customer-algorithm",
    ),
    "responseElements.": ("kmsKeyId", "keyId", "trailARN", "name", "s3BucketName"),
    "additionalEventData.": ("SSEApplied",),
}
_TRAIL = ("includeGlobalServiceEvents", "isMultiRegionTrail", "isOrganizationTrail")
_ACCESS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
OTHERS: dict[str, tuple[str, ...]] = {
    "boolean": (
        *("managementEvent", "readOnly"),
        *(f"requestParameters.{name}" for name in (*_TRAIL, "enableLogFileValidation")),
        *(f"responseElements.{name}" for name in (*_TRAIL, "logFileValidationEnabled")),
        "requestParameters.bypassPolicyLockoutSafetyCheck",
        "requestParameters.eventSelectors.includeManagementEvents",
        *(f"requestParameters.PublicAccessBlockConfiguration.{name}" for name in _ACCESS),
    ),
    "long": (
        "requestParameters.pendingWindowInDays",
        "requestParameters.LifecycleConfiguration.Rule.Expiration.Days",
        "requestParameters.LifecycleConfiguration.Rule.NoncurrentVersionExpiration.NoncurrentDays",
    ),
    "date": ("eventTime", "userIdentity.sessionContext.attributes.creationDate"),
}


def _leaves() -> Iterator[tuple[str, dict[str, Any]]]:
    for prefix, names in TEXTS.items():
        yield from ((prefix + name, TEXT) for name in names)
    for kind, paths in OTHERS.items():
        yield from ((path, {"type": kind}) for path in paths)


def _properties() -> dict[str, Any]:
    made: dict[str, Any] = {name: {"type": "object"} for name in keytrail.OPEN_OBJECTS}
    for path, spec in _leaves():
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {}).setdefault("properties", {})
        place[last] = dict(spec)
    return made


# What an index does by itself with a string that is no date, written out for those who read the mapping.
BODY: dict[str, Any] = {
    "mappings": {
        "dynamic_templates": [{"strings": {"match_mapping_type": "string", "mapping": TEXT}}],
        "properties": _properties(),
    }
}
FIELDS = {path: spec["type"] for path, spec in _leaves()}
OBJECTS = {path[:cut] for path in FIELDS for cut in range(len(path)) if path[cut] == "."} | set(keytrail.OPEN_OBJECTS)
DEEPEST = 19  # objects within objects, without the document itself
_INSTANT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:T(?:(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,]\d{1,9})?)?)?)?(?:Z|[-+]\d\d(?::?\d\d)?)?)?"
)
_NUMBER = re.compile(r"([-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?)?")


def takes(record: Mapping[str, Any]) -> bool:
    """Tell whether the index takes ``record`` with its fields as listed; of other fields it is not known."""
    return _fits(record, "", 0)


def _fits(node: object, path: str, depth: int) -> bool:
    if isinstance(node, Mapping):
        if path in FIELDS or depth > DEEPEST:
            return False
        inside = depth + 1
        return all(
            _named(path, key) and _fits(value, _joined(path, key), inside + key.count("."))
            for key, value in node.items()
        )
    if isinstance(node, list):
        return all(_fits(element, path, depth) for element in node)
    return node is None or (path not in OBJECTS and _is(FIELDS.get(path), node))


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(path: str, key: str) -> bool:
    """Whether a key is one that an index takes; each dot in it makes an object."""
    parts = key.rstrip(".").split(".")
    above = [_joined(path, ".".join(parts[:count])) for count in range(1, len(parts))]
    return all(part.strip() for part in parts) and not any(name in FIELDS for name in above)


def _is(kind: str | None, value: object) -> bool:
    if kind == "boolean":
        return value in (True, False, "true", "false", "") if isinstance(value, (bool, str)) else False
    if kind == "long":
        return not isinstance(value, bool) and _NUMBER.fullmatch(str(value)) is not None and _is_long(str(value) or "0")
    if kind == "date":
        return not isinstance(value, bool) and (_NUMBER.fullmatch(str(value) or "no") is not None or _is_instant(value))
    return True


def _is_long(written: str) -> bool:
    return -(2**63) <= Decimal(written) < 2**63


def _is_instant(value: object) -> bool:
    found = _INSTANT.fullmatch(str(value))
    if found is None:
        return False
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        datetime(year, month or 1, day or 1, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return False
    return True


def document(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of ``record``: the record itself."""
    return dict(record)


_OBJECTS = ("userIdentity", "resources", "tlsDetails", *keytrail.OPEN_OBJECTS)

SCHEMA = Schema(
    name="raw",
    title="CloudTrail records as they are, in an index that makes its own fields (dynamic mapping)",
    index="cloudtrail-*",
    names={name: name for name in (*keytrail.SCALARS, "sourceIPAddress", *_OBJECTS)},
    prefixes={f"{name}.": f"{name}." for name in _OBJECTS},
    body=BODY,
    document=document,
    time="eventTime",
    taken=(
        "each event is in the index, under the types of schema raw (the first event with a field decides its type; an "
        "event with another type in it is refused, and from 1,000 fields on one with a new field)",
        takes,
    ),
)
