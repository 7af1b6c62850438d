"""What has to be in the logs for a rule to see anything: the vocabulary of ``keytrail.telemetry``, asked of an index.

The words are those of ``rules/README.md``. Each is a few kinds of events, as Sigma selections, so that any schema can
be asked for them; a rule one of whose kinds has no event at all is blind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keytrail.convert import convert
from keytrail.errors import KeytrailError, UnmappedField
from keytrail.pack import Rule
from keytrail.schemas import Schema

KMS, TRAIL, S3 = ({"eventSource": f"{service}.amazonaws.com"} for service in ("kms", "cloudtrail", "s3"))
Selection = Mapping[str, Any]
# Words, and what each needs: a kind of events, as selections any of which finds them.
NEEDS: dict[str, dict[str, Sequence[Selection]]] = {
    "kms-management": {
        "read events of kms.amazonaws.com": ({**KMS, "readOnly": True},),
        "write events of kms.amazonaws.com": ({**KMS, "readOnly": False},),
    },
    "cloudtrail-management": {"write events of cloudtrail.amazonaws.com": ({**TRAIL, "readOnly": False},)},
    "s3-management": {
        "write events of s3.amazonaws.com that are management events": (
            {**S3, "readOnly": False, "managementEvent": True},
            {**S3, "readOnly": False, "eventCategory": "Management"},
        )
    },
    "s3-data": {
        "data events of s3.amazonaws.com": ({**S3, "managementEvent": False}, {**S3, "eventCategory": "Data"}),
    },
}
Count = Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class Kind:
    """A kind of events, and how many an index has; None where it cannot be told, for the reason ``why``."""

    name: str
    events: int | None
    why: str | None = None


def words(rule: Rule) -> list[str]:
    """Return the telemetry that a rule says it needs."""
    own = rule.document.get("keytrail")
    needed = own.get("telemetry") if isinstance(own, Mapping) else None
    return [needed] if isinstance(needed, str) else list(map(str, needed)) if isinstance(needed, list) else []


def survey(rules: Sequence[Rule], schema: Schema, count: Count) -> dict[str, tuple[Kind, ...]]:
    """Return, for each word that the rules use, how many events of each of its kinds there are.

    Parameters: ``count`` tells how many documents match a query, and may raise :class:`KeytrailError`.
    """
    used = sorted({word for rule in rules for word in words(rule)})
    return {word: tuple(_kinds(word, schema, count)) for word in used}


def blind(rule: Rule, found: Mapping[str, Sequence[Kind]]) -> list[str]:
    """Return the kinds of events that the rule needs and the index lacks."""
    return [kind.name for word in words(rule) for kind in found.get(word, ()) if kind.events == 0]


def _kinds(word: str, schema: Schema, count: Count) -> list[Kind]:
    if word not in NEEDS:
        return [Kind(word, None, f"what {word!r} needs is not known here")]
    return [_counted(name, selections, schema, count) for name, selections in NEEDS[word].items()]


def _never_had(error: KeytrailError, schema: Schema) -> bool:
    """Whether no event in the index has had the field: an index that makes no new fields can hold it all the same."""
    if not isinstance(error, UnmappedField):
        return False
    try:
        return error.field is None or schema.mapping.takes_new(schema.index_name(error.field)) == "true"
    except UnmappedField:
        return True


def _counted(name: str, selections: Sequence[Selection], schema: Schema, count: Count) -> Kind:
    """The most that any of the selections finds. A field that no event has had finds none."""
    events, why = 0, None
    for selection in selections:
        document = {
            "title": name,
            "logsource": {"product": "aws", "service": "cloudtrail"},
            "detection": {"selection": dict(selection), "condition": "selection"},
        }
        made = convert(Rule(Path("telemetry.yml"), document, ""), schema)
        try:
            if made.query is not None:
                events = max(events, count(made.query.body["query"]))
            elif made.error is not None and not _never_had(made.error, schema):
                why = made.error.message
        except KeytrailError as error:
            why = error.message
    return Kind(name, None if why is not None and not events else events, None if events else why)
