"""An alert's id: the same for the same finding, in whatever run and file it is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def of_event(rule_id: str, record: Mapping[str, Any]) -> str:
    """Return the id of a rule's hit on a record: made of the rule's id and the eventID.

    A record without an eventID is told from others by all that is in it.
    """
    event = record.get("eventID")
    return _digest(["event", rule_id, event] if isinstance(event, str) and event else ["record", rule_id, record])


def of_group(rule_id: str, group: Sequence[str], start: int) -> str:
    """Return the id of a correlation's hit: made of the rule's id, the group and the time at which it begins."""
    return _digest(["group", rule_id, list(group), start])


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
