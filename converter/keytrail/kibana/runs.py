"""When a rule of Kibana runs, which events a run looks at, and what that makes of a window of a correlation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keytrail.correlation import Correlation
from keytrail.schemas import Schema
from keytrail.verdict import Condition, Strays

INGESTED = "event.ingested"
MINUTE = 60_000


@dataclass(frozen=True)
class Options:
    """How rules are to run.

    ``index`` are the patterns to search instead of the schema's, ``data_view`` is the id of a data view to search where
    a rule's type takes one; ``interval`` and ``lateness`` are minutes: a run looks back over both, so that nothing is
    missed between runs, and events that come late are seen. ``space`` is the Kibana space, whose alerts a correlation
    may be about. ``versions`` has what each rule's version was, and what it meant then (see
    :func:`keytrail.kibana.detection.version_of`).
    """

    index: tuple[str, ...] = ()
    data_view: str | None = None
    interval: int = 5
    lateness: int = 30
    space: str = "default"
    versions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def patterns(self, schema: Schema) -> list[str]:
        """Return the index patterns that rules search."""
        return list(self.index) or [schema.index]

    def place(self, schema: Schema) -> dict[str, Any]:
        """Return the part of a rule's body that says where it searches."""
        return {"index": self.patterns(schema)} if self.data_view is None else {"data_view_id": self.data_view}


def schedule(schema: Schema, options: Options) -> dict[str, Any]:
    """Return when a rule runs, and which events each run looks at.

    Where the index keeps when an event arrived, that is what a run goes by, so that late events are seen; elsewhere
    the look-back covers the lateness.
    """
    late = 5 if _arrivals(schema) else options.lateness
    made = {"interval": f"{options.interval}m", "from": f"now-{options.interval + late}m", "to": "now"}
    if _arrivals(schema):
        made["timestamp_override"] = INGESTED
    elif schema.time != "@timestamp":
        made["timestamp_override"] = schema.time
    return made


def window(correlation: Correlation, schema: Schema, options: Options) -> dict[str, Any]:
    """Return when a rule about a correlation runs, and which events each run looks at."""
    return {**schedule(schema, options), "from": f"now-{look_back(correlation, schema, options)}m"}


def look_back(correlation: Correlation, schema: Schema, options: Options) -> int:
    """Return how many minutes a run looks back: with an interval more, every window ends within some run's."""
    return minutes(correlation) + options.interval + (0 if _arrivals(schema) else options.lateness)


def minutes(correlation: Correlation) -> int:
    """Return a correlation's timespan in whole minutes, rounded up."""
    return -(-correlation.timespan // MINUTE)


def aligned(correlation: Correlation, made: Mapping[str, Any]) -> Condition:
    """The condition of a rule that looks at intervals where a correlation slides its window."""
    span = correlation.timespan // 1000
    back, every = made["from"].removeprefix("now-"), made["interval"]
    text = f"what a run finds together, looking back {back} every {every}, is within {span:,} s of each other as well"
    who = "whoever makes the calls chooses when; delivery by AWS decides when they arrive"
    return Condition("aligned", "eventTime", str(made.get("timestamp_override", "@timestamp")), text, who, Strays.BOTH)


def _arrivals(schema: Schema) -> bool:
    """Whether the index keeps when an event arrived."""
    found = schema.field(INGESTED)
    return found is not None and found.type == "date" and not found.dynamic
