"""An alert's id: the same for the same finding, in whatever run and file it is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson


def of_event(rule_id: str, record: Mapping[str, Any], document: str | None = None) -> str:
    """Return the id of a rule's hit on a record: made of the rule's id and the eventID.

    A record without an eventID is told from others by all that is in it; where only a part of it is known, by the id of
    its ``document``, which is the same where ``load`` has made it.
    """
    event = record.get("eventID")
    if isinstance(event, str) and event:
        return _digest(["event", rule_id, event])
    return _digest(["record", rule_id, document or digest(record)])


def digest(record: Mapping[str, Any]) -> str:
    """Return what tells a record from others: the order of keys and the white space between them do not matter."""
    try:
        content = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # numbers beyond 64 bits
        content = json.dumps(record, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:32]


def of_group(rule_id: str, group: Sequence[str], start: int) -> str:
    """Return the id of a correlation's hit: made of the rule's id, the group and the time at which it begins."""
    return _digest(["group", rule_id, list(group), start])


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
