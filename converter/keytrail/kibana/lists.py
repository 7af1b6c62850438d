"""A site's filters as exception lists: one list a filter, an item for each thing that it takes out, each with its end.

The ids follow from the filters (``uuid5``), so that the same filter is the same list and the same item whenever and
from wherever it is planned. What analysts add to such a list, or say about an item, stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from keytrail.filters import Filter
from keytrail.kibana.client import Kibana
from keytrail.kibana.diff import changes
from keytrail.kibana.plan import LIST_PREFIX, OVERWRITE
from keytrail.kibana.state import SEAL
from keytrail.kibana.transport import KibanaError, Uncertain
from keytrail.steps import CONFLICT, CREATE, DELETE, SAME, UPDATE, Step, digest

LIST, ITEM = "exception list", "exception"
LIST_FIELDS = ("name", "description")
ITEM_FIELDS = ("name", "description", "entries", "expire_time")
TRIES = 4
_SPACE = UUID("0b7f6e0e-6c0b-4e57-9f6c-3d6a0c1f5e21")
Body = Mapping[str, Any]
Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Excepted:
    """A filter that exceptions say the same as: ``items`` are alternatives, each with entries that must all hold."""

    filter: Filter
    items: Sequence[Entries]


def bodies(given: Excepted, tag: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the list of a filter and its items, as the API takes them."""
    one = given.filter
    key = str(one.rule.document.get("id") or one.stem)
    slug = re.sub(r"[^a-z0-9]+", "-", one.stem.lower()).strip("-")[:40]
    list_id = f"{LIST_PREFIX}{slug}-{str(uuid5(_SPACE, key))[:8]}"
    said = {"name": one.rule.title, "description": f"{one.reason} (owner: {one.owner})"}
    common = {"list_id": list_id, "namespace_type": "single"}
    # Its last day is the filter's last day as a whole, in UTC.
    end = (one.expires + timedelta(days=1)).isoformat() + "T00:00:00.000Z"
    items = []
    for number, entries in enumerate(given.items, 1):
        name = f"{one.rule.title} ({number} of {len(given.items)})" if len(given.items) > 1 else one.rule.title
        item = {**common, **said, "name": name, "type": "simple", "entries": list(entries), "expire_time": end}
        item["item_id"] = str(uuid5(_SPACE, f"{key} {digest(list(entries))}"))
        items.append({**item, "tags": [tag, _seal(item, ITEM_FIELDS)]})
    return {**common, **said, "type": "detection", "tags": [tag, _seal(said, LIST_FIELDS)]}, items


def plan_lists(
    kibana: Kibana, given: Sequence[Excepted], tag: str, drift: str | None = None, whole: bool = True
) -> tuple[list[Step], list[Step]]:
    """Return the steps that come before those of the rules, and those that come after them.

    Parameters: ``whole`` says that a list of ours that is not among these is wanted no longer. Errors: those of
    :class:`Kibana`.
    """
    there = {str(one["list_id"]): one for one in kibana.lists(tag)}
    first: list[Step] = []
    last: list[Step] = []
    wanted = set()
    for one in given:
        made, items = bodies(one, tag)
        list_id = made["list_id"]
        wanted.add(list_id)
        found = there.get(list_id) or kibana.exception_list(list_id)
        first.append(_step(LIST, list_id, made, found, LIST_FIELDS, drift))
        old = {str(item["item_id"]): item for item in (kibana.items(list_id) if found else ())}
        first += [
            _step(ITEM, item["item_id"], item, old.pop(item["item_id"], None), ITEM_FIELDS, drift) for item in items
        ]
        last += [_gone(ITEM, item_id, item) for item_id, item in old.items() if _is_own(item, tag)]
    if whole:
        for list_id, found in there.items():
            if list_id not in wanted and list_id.startswith(LIST_PREFIX) and _is_own(found, tag):
                last += _drop(kibana.items(list_id), list_id, found, tag)
    return first, last


def _drop(items: Sequence[Body], list_id: str, found: Body, tag: str) -> list[Step]:
    """A list that is wanted no longer goes with its items, unless somebody has put their own into it."""
    own = [item for item in items if _is_own(item, tag)]
    steps = [_gone(ITEM, str(item["item_id"]), item) for item in own]
    if len(own) < len(items):
        why = "no filter is behind it any more, but it holds exceptions that are not Keytrail's; it stays"
        return [*steps, Step(SAME, LIST, list_id, str(found.get("name")), None, found, why=why, state=_state(found))]
    return [*steps, _gone(LIST, list_id, found)]


def _step(kind: str, key: str, body: Body, found: Body | None, fields: Sequence[str], drift: str | None) -> Step:
    step = Step(SAME, kind, key, str(body["name"]), body, found, target=_digest(body, fields))
    if found is None:
        return replace(step, action=CREATE)
    step = replace(step, state=_state(found))
    old = _seal_of(found)
    if old is None:
        return replace(step, action=CONFLICT, why=f"this {kind} was not made by Keytrail; rename or delete it")
    said, now = _shown(body, fields), _shown(found, fields)
    by_hand, by_us = old != _seal(found, fields), old != _seal(body, fields)
    if said == now and not by_us:
        return step
    if by_hand and said != now:
        step = replace(step, drift=changes(said, now, fields), kept=drift != OVERWRITE)
        if by_us and drift is None:
            why = "changed by hand and by the filter; --drift keep or --drift overwrite decides"
            return replace(step, action=CONFLICT, changes=changes(now, said, fields), why=why)
        if drift != OVERWRITE:
            return step
    return replace(step, action=UPDATE, changes=changes(now, said, fields))


def _gone(kind: str, key: str, found: Body) -> Step:
    why = "the filter takes it out no longer, or has expired"
    return Step(DELETE, kind, key, str(found.get("name")), None, found, why=why, state=_state(found))


def _shown(body: Body, fields: Sequence[str]) -> dict[str, Any]:
    return {name: body[name] for name in fields if body.get(name) not in (None, "", [])}


def _digest(body: Body, fields: Sequence[str]) -> str:
    return digest(_shown(body, fields))


def _seal(body: Body, fields: Sequence[str]) -> str:
    return f"{SEAL}{_digest(body, fields)[:24]}"


def _seal_of(found: Body) -> str | None:
    return next((tag for tag in found.get("tags") or () if tag.startswith(SEAL)), None)


def _is_own(found: Body, tag: str) -> bool:
    return tag in (found.get("tags") or ()) and _seal_of(found) is not None


def _state(found: Body) -> tuple[Any, ...]:
    return (found.get("id"), found.get("_version"))


# Carrying it out


def link(kibana: Kibana, list_id: str) -> dict[str, Any]:
    """Return what a rule's ``exceptions_list`` has for a list of ours. Errors: :class:`KibanaError`."""
    found = kibana.exception_list(list_id)
    if found is None:
        raise KibanaError(f"the exception list {list_id} is gone", hint="plan again")
    return {name: found[name] for name in ("id", "list_id", "type", "namespace_type")}


def take(kibana: Kibana, step: Step) -> list[str]:
    """Take a step for a list or an item; return remarks. Errors: :class:`KibanaError`."""
    found = _read(kibana, step)
    if step.action == DELETE:
        if found is not None:
            _check(step, found)
            _sure(kibana, lambda: _remove(kibana, step), lambda: _read(kibana, step) is None)
        return []
    assert step.body is not None
    if step.action == CREATE:
        if found is None:
            body = step.body
            create = kibana.create_list if step.kind == LIST else kibana.create_item
            _sure(kibana, lambda: create(body), lambda: _read(kibana, step) is not None)
    else:
        if found is None:
            raise KibanaError("it was deleted by somebody else after the plan was made", hint="plan again")
        _check(step, found)
        update = _update(step, found)
        put = kibana.replace_list if step.kind == LIST else kibana.replace_item
        _sure(kibana, lambda: put(update), lambda: _state(_read(kibana, step) or {}) != _state(found))
    fields = LIST_FIELDS if step.kind == LIST else ITEM_FIELDS
    answer = _read(kibana, step) or {}
    if _shown(answer, fields) != _shown(step.body, fields):
        return [f"{step.name}: Kibana keeps the {step.kind} otherwise than it was sent"]
    return []


def _update(step: Step, found: Body) -> dict[str, Any]:
    """The body of PUT: with the version that was read, which guards against races, and with everybody's comments."""
    assert step.body is not None
    body = {**step.body, "_version": found["_version"]}
    others = [tag for tag in found.get("tags") or () if not tag.startswith(SEAL) and tag not in step.body["tags"]]
    body["tags"] = [*step.body["tags"], *others]
    if step.kind == ITEM:
        body.pop("list_id")
        # A comment that comes with its id is not added again.
        body["comments"] = [{"id": one["id"], "comment": one["comment"]} for one in found.get("comments") or ()]
    return body


def _read(kibana: Kibana, step: Step) -> Body | None:
    return kibana.exception_list(step.key) if step.kind == LIST else kibana.item(step.key)


def _remove(kibana: Kibana, step: Step) -> None:
    (kibana.delete_list if step.kind == LIST else kibana.delete_item)(step.key)


def _check(step: Step, found: Body) -> None:
    if _state(found) != tuple(step.state):
        raise KibanaError("it was changed by somebody else after the plan was made", hint="plan again and look at it")


def _sure(kibana: Kibana, send: Callable[[], object], done: Callable[[], bool]) -> None:
    """Send, and when the answer is missing, look before sending again: ids are ours, and unique in storage."""
    for left in reversed(range(TRIES)):
        try:
            send()
            return
        except Uncertain:
            if done():
                return
            if not left:
                raise
            kibana.wait(0.5)
