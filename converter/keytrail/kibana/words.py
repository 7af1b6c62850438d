"""What changes in a rule, in sentences: what it finds, how severe it is, when it runs, and what it says.

Both sides come in the normal form of :mod:`keytrail.kibana.state`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from keytrail.kibana.detection import MEANING
from keytrail.kibana.diff import apart, pill_name, short, threat_names
from keytrail.pack import LEVELS
from keytrail.steps import Step

Body = Mapping[str, Any]
REWRITTEN = {
    "description": "its description",
    "false_positives": "its false positives",
    "note": "its investigation guide",
    "references": "its references",
    "setup": "what it needs",
}
WEIGHTY = frozenset((*MEANING, "risk_score"))
WHEN = ("interval", "from", "timestamp_override")


def created(body: Body) -> tuple[str, ...]:
    """Return what is said of a rule that is new: how severe it is, and the first sentence about it."""
    about = " ".join(str(body.get("description") or "").split())
    return (f"{body.get('severity')}: {short(about.partition('. ')[0].rstrip('.'))}",)


def changed(before: Body, after: Body, fields: Collection[str]) -> tuple[str, ...]:
    """Return sentences about what changes in ``fields``, that on which most depends first."""
    if not fields:
        return ()
    found = [*_finds(before, after, fields), *_severity(before, after, fields), *_rest(before, after, fields)]
    if not set(fields) & WEIGHTY:
        found.insert(0, "it finds what it found before, as severe and as often")
    return tuple(found)


def finds_otherwise(step: Step) -> bool:
    """Tell whether a step changes more than a rule's words."""
    return any(change.field in WEIGHTY for change in step.changes)


def _finds(before: Body, after: Body, fields: Collection[str]) -> Iterator[str]:
    if "type" in fields:
        yield f"it is a rule of the type {after.get('type')}, and was {before.get('type')}"
    if "filters" in fields:
        yield from _filters(before.get("filters") or [], after.get("filters") or [])
    if "query" in fields:
        yield "it searches with another query"
    if "threshold" in fields:
        yield f"it fires at {_threshold(after)}, and did at {_threshold(before)}"
    if "index" in fields:
        gone, come = apart(list(before.get("index") or []), list(after.get("index") or []))
        yield from (f"it searches {name} as well" for name in come)
        yield from (f"it searches {name} no longer" for name in gone)


def _filters(old: list[Any], new: list[Any]) -> Iterator[str]:
    gone, come = ([pill_name(one) for one in part] for part in apart(old, new))
    for name in [name for name in come if name in gone]:
        gone.remove(name)
        come.remove(name)
        yield f"it asks in another way whether {short(name)}"
    for name in list(come):
        alike = next((other for other in gone if _subject(other) == _subject(name)), None)
        if alike is not None:
            gone.remove(alike)
            come.remove(name)
            yield f"it asks whether {short(name)}, where it asked whether {short(alike)}"
    yield from (f"it asks as well, and so finds less: {short(name)}" for name in come)
    yield from (f"it asks no longer, and so finds more: {short(name)}" for name in gone)


def _subject(name: str) -> str:
    return name.removeprefix("not ").split(" ", 1)[0]


def _threshold(body: Body) -> str:
    found = body.get("threshold") or {}
    counted = [f"{one.get('value')} values of {one.get('field')}" for one in found.get("cardinality") or ()]
    fields = found.get("field") or []
    by = ", ".join(fields if isinstance(fields, list) else [fields])
    return (counted[0] if counted else f"{found.get('value')} events") + (f" by {by}" if by else "")


def _severity(before: Body, after: Body, fields: Collection[str]) -> Iterator[str]:
    if "severity" in fields:
        old, new = str(before.get("severity")), str(after.get("severity"))
        known = old in LEVELS and new in LEVELS
        more = "more severe: " if known and LEVELS.index(new) > LEVELS.index(old) else "less severe: " if known else ""
        yield f"it is {more}{new}, and was {old}"
    elif "risk_score" in fields:
        yield f"its risk score is {after.get('risk_score')}, and was {before.get('risk_score')}"
    if "building_block_type" in fields:
        shown = "are shown to analysts" if after.get("building_block_type") is None else "are kept out of analysts' way"
        yield f"its alerts {shown}"


def _rest(before: Body, after: Body, fields: Collection[str]) -> Iterator[str]:
    if set(WHEN) & set(fields):
        yield f"it runs {_when(after)}, and did {_when(before)}"
    if "alert_suppression" in fields:
        yield "its alerts are suppressed in another way"
    if "name" in fields:
        yield f"it is called '{short(str(after.get('name')))}', and was '{short(str(before.get('name')))}'"
    if "threat" in fields:
        gone, come = apart(threat_names(before.get("threat")), threat_names(after.get("threat")))
        yield "ATT&CK: " + "; ".join([*(f"now {name}" for name in come), *(f"no longer {name}" for name in gone)])
    rewritten = [words for name, words in REWRITTEN.items() if name in fields]
    if rewritten:
        yield f"{', '.join(rewritten)} {'reads' if len(rewritten) == 1 else 'read'} differently"


def _when(body: Body) -> str:
    by = f", by {body['timestamp_override']}" if body.get("timestamp_override") else ""
    return f"every {body.get('interval')} over events from {body.get('from')}{by}"
