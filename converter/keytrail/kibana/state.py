"""What of a rule in Kibana is ours, the analysts' and the server's; when two rules say the same; what we wrote last.

**Ours** are the fields that a pack says (:data:`OURS`). **Theirs** are what analysts decide in Kibana, above all
exceptions, actions and whether the rule runs. The rest is the server's.

What we wrote last is kept in the rule itself, in one of its tags, because that is what every edit carries along:
``keytrail:seal:1:<rule>:<fields>``, with a few characters of a digest for the rule's id and for each field of ours. So
a plan can tell what was changed by hand since, field by field, and that a copy which an analyst made of a rule (which
takes the tags along and has another id) is not ours.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SEAL = "keytrail:seal:1:"

# Append only: a seal holds its digests in this order.
OURS = (
    "type",
    "name",
    "description",
    "risk_score",
    "severity",
    "interval",
    "from",
    "to",
    "max_signals",
    "version",
    "tags",
    "author",
    "references",
    "false_positives",
    "severity_mapping",
    "risk_score_mapping",
    "threat",
    "related_integrations",
    "required_fields",
    "investigation_fields",
    "setup",
    "note",
    "license",
    "building_block_type",
    "timestamp_override",
    "timestamp_override_fallback_disabled",
    "rule_name_override",
    "alert_suppression",
    "query",
    "language",
    "index",
    "data_view_id",
    "filters",
    "saved_id",
    "threshold",
    "new_terms_fields",
    "history_window_start",
    "event_category_override",
    "tiebreaker_field",
    "timestamp_field",
)
# Those that a rule of another type may not have.
OF_TYPE = frozenset(OURS[OURS.index("alert_suppression") :]) | {"type"}
# The server's; a request that repeats them is not understood, or they would do nothing in it.
SERVERS = frozenset(
    {
        "id",
        "rule_id",
        "immutable",
        "rule_source",
        "revision",
        "created_at",
        "created_by",
        "updated_at",
        "updated_by",
        "execution_summary",
        "outcome",
        "alias_target_id",
        "alias_purpose",
        "output_index",
    }
)
DEFAULTS: Mapping[str, Any] = {
    "interval": "5m",
    "from": "now-6m",
    "to": "now",
    "max_signals": 100,
    "version": 1,
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def own_tags(rule: Mapping[str, Any]) -> list[str]:
    """Return the tags of a rule without the seal."""
    return [tag for tag in rule.get("tags") or () if not tag.startswith(SEAL)]


def seal_of(rule: Mapping[str, Any]) -> str | None:
    """Return the seal that a rule carries for its own id, None where it has none: a copy has its original's."""
    start = f"{SEAL}{_digest(rule['rule_id'], 8)}:"
    return next((tag for tag in rule.get("tags") or () if tag.startswith(start)), None)


def make_seal(body: Mapping[str, Any]) -> str:
    """Return the seal of what we say of a rule."""
    said = normal(body)
    fields = "".join(_digest(said[name], 4) if name in said else "." for name in OURS)
    return f"{SEAL}{_digest(body['rule_id'], 8)}:{fields}"


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a rule with its seal among the tags."""
    return {**body, "tags": [*own_tags(body), make_seal(body)]}


def changed_since(seal: str, said: Mapping[str, Any]) -> set[str]:
    """Return the fields of a normal form that are not as the seal says we wrote them."""
    digests = re.findall(r"\.|[^.]{4}", seal.rsplit(":", 1)[1])
    digests += ["."] * (len(OURS) - len(digests))  # written before these fields were known: it had none of them
    now = (_digest(said[name], 4) if name in said else "." for name in OURS)
    return {name for name, was, here in zip(OURS, digests, now, strict=False) if was != here}


def _digest(value: Any, length: int) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())[:length].decode()


# The normal form


def normal(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return our fields of a rule in the form in which equal ones are equal: nothing that is empty, and the defaults.

    The same for what is sent and for what Kibana answers: without the server's additions, white space at the ends of
    lines, the units of times, the order of tags, and what the rule editor adds to filters.
    """
    made = {}
    for name in OURS:
        form = _FORMS.get(name, _plain)
        value = form(rule.get(name, DEFAULTS.get(name)))
        if value is None or value is False or (isinstance(value, (str, list, dict)) and not value):
            continue
        made[name] = value
    if made.get("language") == "kuery":
        del made["language"]
    return made


def _plain(value: Any) -> Any:
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    return "\n".join(line.rstrip() for line in value.replace("\r\n", "\n").split("\n")).strip("\n")


def _moment(value: Any) -> Any:
    """``now-600s`` for now-10m: the rule editor writes seconds."""
    found = re.fullmatch(r"(now-)?(\d{1,9})([smhdw])", value) if isinstance(value, str) else None
    return value if found is None else f"{found[1] or ''}{int(found[2]) * _UNITS[found[3]]}s"


def _tags(value: Any) -> Any:
    return sorted({tag for tag in value or () if not tag.startswith(SEAL)})


def _required(value: Any) -> Any:
    return [{key: one.get(key) for key in ("name", "type")} for one in value or ()]


def _filters(value: Any) -> Any:
    return [_filter(one) for one in value or ()]


def _filter(one: Any) -> Any:
    """What a filter asks and how it is named; the editor's own notes in ``meta`` and ``$state`` are left out."""
    if not isinstance(one, Mapping):
        return one
    meta = one.get("meta") or {}
    made = {"query": one.get("query"), "alias": meta.get("alias")}
    made |= {name: True for name in ("negate", "disabled") if meta.get(name)}
    return {name: found for name, found in made.items() if found is not None}


def _threshold(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    field = value.get("field") or []
    made = {"field": [field] if isinstance(field, str) else list(field), "value": value.get("value")}
    return made | ({"cardinality": value["cardinality"]} if value.get("cardinality") else {})


def _suppression(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: found for name, found in value.items() if (name, found) != ("missing_fields_strategy", "suppress")}


def _threat(value: Any) -> Any:
    """Techniques and their parts of which there are none may be left out."""
    if isinstance(value, list):
        return [_threat(one) for one in value]
    if isinstance(value, Mapping):
        return {
            name: _threat(found)
            for name, found in value.items()
            if not (name in ("technique", "subtechnique") and not found)
        }
    return value


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "interval": _moment,
    "from": _moment,
    "to": _moment,
    "history_window_start": _moment,
    "tags": _tags,
    "required_fields": _required,
    "filters": _filters,
    "threshold": _threshold,
    "alert_suppression": _suppression,
    "threat": _threat,
}


# The analysts' part


def theirs(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request that replaces a rule has to repeat, so that nothing of the analysts' is lost.

    Whatever is neither ours nor the server's is theirs, fields of later releases included. Whether the rule is enabled
    stays as it is when a request does not say it.
    """
    ours = {*OURS, *SERVERS, "enabled"}
    return {name: value for name, value in rule.items() if name not in ours and value not in (None, [])}


def state_of(rule: Mapping[str, Any]) -> tuple[str, int, str]:
    """Return what tells whether a rule was written since it was read: its object's id, revision, time of update."""
    return str(rule["id"]), int(rule.get("revision", 0)), str(rule.get("updated_at", ""))


def by_rule_id(rules: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rules by their rule id, which storage does not keep unique, oldest first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for rule in sorted(rules, key=lambda one: str(one.get("created_at", ""))):
        found.setdefault(str(rule.get("rule_id")), []).append(rule)
    return found
