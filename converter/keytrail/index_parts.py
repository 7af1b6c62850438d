"""The parts of an index that a schema is made of: shown, planned, and put into an Elasticsearch.

What we wrote carries ``_meta.managed_by: keytrail`` and a digest of itself. A part without them is the site's own: it
is never overwritten, and what it lacks of ours is listed, to be merged by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keytrail.errors import ClusterError, UsageError
from keytrail.mapping import flat_settings
from keytrail.schemas import Schema, ecs_custom
from keytrail.steps import CONFLICT, CREATE, SAME, UPDATE, Change, Step, digest

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

MANAGED_BY = "keytrail"
TEMPLATE, COMPONENT, PIPELINE = "index template", "component template", "ingest pipeline"
# Where the API has each kind, and where the answer to GET holds it.
PATHS = {TEMPLATE: "_index_template", COMPONENT: "_component_template", PIPELINE: "_ingest/pipeline"}
OVERWRITE = "overwrite"
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One thing that Elasticsearch keeps for a schema: its kind, its name there and its body, ``_meta`` included."""

    kind: str
    name: str
    body: Body

    @property
    def path(self) -> str:
        """What PUT takes after the host."""
        return f"{PATHS[self.kind]}/{self.name}"


def parts(schema: Schema) -> list[Part]:
    """Return the parts of a schema, in the order in which they are put.

    Raises :class:`UsageError` for schema ecs: all of its parts are the AWS integration's own.
    """
    if schema.name == "ecs-custom":
        return [
            _part(COMPONENT, ecs_custom.NAME, ecs_custom.component_template()),
            _part(PIPELINE, ecs_custom.NAME, ecs_custom.pipeline()),
        ]
    if schema.name == "ecs":
        hint = "'--schema ecs-custom' adds to it"
        raise UsageError("the index of schema ecs is the AWS integration's own", hint=hint)
    body = {"index_patterns": [schema.index], "priority": 500, "template": dict(schema.body)}
    return [_part(TEMPLATE, schema.index.rstrip("-*"), body)]


def part(schema: Schema, kind: str) -> Part:
    """Return a schema's part of a kind. Raises :class:`UsageError` where it has none."""
    if kind == TEMPLATE and schema.name in ("ecs", "ecs-custom"):
        hint = "keytrail schema ecs-custom --part component-template adds to it"
        raise UsageError(f"the index template of schema {schema.name} is the AWS integration's own", hint=hint)
    found = [] if schema.name == "ecs" else [one for one in parts(schema) if one.kind == kind]
    if not found:
        name = {COMPONENT: "component-template", PIPELINE: "pipeline"}[kind]
        hint = f"keytrail schema ecs-custom --part {name}"
        raise UsageError(f"schema {schema.name} has no {name}, schema ecs-custom has", hint=hint)
    return found[0]


def _part(kind: str, name: str, body: Body) -> Part:
    meta = {"managed_by": MANAGED_BY, "sha256": digest(normal(body))}
    return Part(kind, name, {**body, "_meta": meta})


def normal(body: Body) -> dict[str, Any]:
    """Return a part in the form in which equal ones are equal: without notes, times, and the spelling of settings."""
    made = {
        key: value
        for key, value in body.items()
        if key != "_meta" and not key.startswith(("created_", "modified_")) and value not in (None, [], {})
    }
    template = made.get("template")
    if isinstance(template, Mapping):
        # Elasticsearch answers every setting as a text.
        flat = flat_settings(template.get("settings") or {}).items()
        settings = {f"index.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in flat}
        rest = {key: value for key, value in template.items() if key != "settings" and value}
        made["template"] = {**rest, **({"settings": settings} if settings else {})}
    found: dict[str, Any] = json.loads(json.dumps(made))
    return found


def plan_parts(cluster: Cluster, schema: Schema, drift: str | None = None) -> list[Step]:
    """Return the steps that bring an Elasticsearch's parts of a schema to what they should be.

    Parameters: ``drift`` is ``keep`` or ``overwrite`` for a part of ours that was changed by hand; None keeps it, and
    makes a conflict where ours has changed as well. Errors: as ``cluster.named_errors``.
    """
    steps: list[Step] = []
    for part in parts(schema):
        step = plan_part(part, read(cluster, part), drift)
        if step.action in (CREATE, UPDATE) and any(one.action == CONFLICT for one in steps):
            # A pipeline whose fields no template maps would have them mapped in any way.
            step = replace(step, action=CONFLICT, why=f"waits for {steps[-1].name}")
        steps.append(step)
    return steps


def plan_part(part: Part, found: Body | None, drift: str | None = None) -> Step:
    """Return the step for one part, from what is there; None is nothing."""
    step = Step(SAME, part.kind, part.name, part.path, part.body, found, state=_state(found), target=_hash(part.body))
    if found is None:
        return replace(step, action=CREATE)
    ours, theirs, meta = normal(part.body), normal(found), found.get("_meta") or {}
    if meta.get("managed_by") != MANAGED_BY:
        return _of_the_site(step, ours, theirs)
    by_hand, by_us = _hash(found) != meta.get("sha256"), _hash(part.body) != meta.get("sha256")
    if by_hand and ours != theirs:
        step = replace(step, drift=_changes(ours, theirs), kept=drift != OVERWRITE)
        if by_us and drift is None:
            why = "changed by hand and by Keytrail; --drift keep or --drift overwrite decides"
            return replace(step, action=CONFLICT, changes=_changes(theirs, ours), why=why)
        if drift != OVERWRITE:
            return step
    elif ours == theirs and not by_us:
        return step
    return replace(step, action=UPDATE, changes=_changes(theirs, ours))


def _of_the_site(step: Step, ours: Body, theirs: Body) -> Step:
    lacking = list(_lacking(ours, theirs))
    if not lacking:
        return replace(step, why="the site's own, and it has all of Keytrail's")
    why = f"the site's own, never overwritten: merge by hand what 'keytrail convert --target index' has at {step.name}"
    return replace(step, action=CONFLICT, changes=(Change("lacking", tuple(lacking), placed=True),), why=why)


def take(cluster: Cluster, step: Step) -> list[str]:
    """Put a part, unless somebody else has written it since the plan; return what is not there as it was put.

    Errors: :class:`ClusterError`; as ``cluster.named_errors``.
    """
    assert step.body is not None
    part = Part(step.kind, step.key, step.body)
    if _state(read(cluster, part)) != tuple(step.state):
        raise ClusterError(f"{part.path} was changed after the plan was made", hint="plan again and look at it")
    _put(cluster, part)
    found = read(cluster, part)
    if found is None or normal(found) != normal(part.body):
        return [f"{part.path}: Elasticsearch keeps it otherwise than it was sent"]
    return []


def read(cluster: Cluster, part: Part) -> Body | None:
    """Return a part as it is there, None where there is none. Errors: as ``cluster.named_errors``."""
    from keytrail.cluster import named_errors

    with named_errors(f"read {part.path}"):
        answer = cluster.client.options(ignore_status=404).perform_request(
            "GET", f"/{part.path}", headers={"accept": "application/json"}
        )
    found = answer.body
    if part.kind == PIPELINE:
        body = found.get(part.name)
    else:
        key = PATHS[part.kind].lstrip("_")
        listed = found.get(f"{key}s") or []
        body = next((one[key] for one in listed if one["name"] == part.name), None)
    return body if isinstance(body, Mapping) else None


def _put(cluster: Cluster, part: Part) -> None:
    from keytrail.cluster import named_errors

    with named_errors(f"put {part.path}"):
        headers = {"accept": "application/json", "content-type": "application/json"}
        cluster.client.perform_request("PUT", f"/{part.path}", headers=headers, body=dict(part.body))


def _hash(body: Body) -> str:
    return digest(normal(body))


def _state(found: Body | None) -> tuple[Any, ...]:
    return () if found is None else (_hash(found), digest(found.get("_meta")))


# What differs


def _changes(before: Body, after: Body) -> tuple[Change, ...]:
    """The leaves that go and those that come."""
    old, new = Counter(_leaves(before)), Counter(_leaves(after))
    lines = [f"- {leaf}" for leaf in (old - new).elements()] + [f"+ {leaf}" for leaf in (new - old).elements()]
    return (Change("content", tuple(lines), placed=True),) if lines else ()


def _leaves(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        if place.endswith("[]") or ("type" in value and isinstance(value["type"], str)):
            yield f"{place} {_short(value)}"
            return
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _leaves(inner, f"{place}[]")
    else:
        yield f"{place} {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 160 else f"{text[:159]}…"


def _lacking(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """What of ours is not in theirs; a description is no content."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key, inner in ours.items():
            if not (place == "" and key in ("description", "priority")):
                yield from _lacking(inner, theirs.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(ours, list) and isinstance(theirs, list):
        for inner in ours:
            if inner not in theirs:
                yield f"+ {place}[] {_short(inner)}"
    elif ours != theirs:
        yield from (f"+ {leaf}" for leaf in _leaves(ours, place))
