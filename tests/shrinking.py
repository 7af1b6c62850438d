"""Making a disagreement small: leaving out of its rule, event and mapping what it does not need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.checking import Disagreement, Engine, Tally, check
from tests.worlds import World


def smaller(found: Disagreement, engines: Sequence[Engine], most: int = 120) -> Disagreement:
    """Leave out of a disagreement what it does not need, checking at most ``most`` smaller worlds."""
    left = most
    going = True
    while going and left > 0:
        going = False
        for candidate in _candidates(found.world):
            left -= 1
            still = _disagrees(candidate, found.engine, engines)
            if still is not None:
                found, going = still, True
                break
            if left <= 0:
                break
    return found


def _disagrees(world: World, engine: str, engines: Sequence[Engine]) -> Disagreement | None:
    tally = Tally()
    try:
        wrong = check(world, engines, tally)
    except KeyError:
        return None
    if tally.refused_events:
        return None  # nobody can compare what the server has not taken
    return next((one for one in wrong if one.engine == engine), None)


def _candidates(world: World) -> Iterator[World]:
    """Yield worlds of one triple that are a little smaller."""
    rule, event = world.rules[0], world.events[0]
    detection = rule["detection"]
    if world.drops:
        yield replace(world, drops=False)
    if detection["condition"] not in ("one", "two"):
        for condition in ("one", "two", "not one", "not two"):
            if condition != detection["condition"]:
                yield replace(world, rules=[{**rule, "detection": {**detection, "condition": condition}}])
    for less in _less(detection):
        if less.get("condition") == detection["condition"] and len(less) > 1:
            yield replace(world, rules=[{**rule, "detection": less}])
    for less in _less(event):
        yield replace(world, events=[less])
    for name in world.kinds if len(world.kinds) > 1 else ():
        yield replace(world, kinds={key: kind for key, kind in world.kinds.items() if key != name})


def _less(node: Any) -> Iterator[Any]:
    """Yield a JSON value with one key, element or half of a string less."""
    if isinstance(node, Mapping):
        for key in node:
            if len(node) > 1:
                yield {name: value for name, value in node.items() if name != key}
            for less in _less(node[key]):
                yield {**node, key: less}
    elif isinstance(node, list):
        yield from _less_of_list(node)
    elif isinstance(node, str) and 1 < len(node) < 100:
        yield node[: len(node) // 2]
        yield node[len(node) // 2 :]


def _less_of_list(node: list[Any]) -> Iterator[Any]:
    if len(node) == 1:
        yield node[0]
    for place, element in enumerate(node):
        if len(node) > 1:
            yield node[:place] + node[place + 1 :]
        for less in _less(element):
            yield [*node[:place], less, *node[place + 1 :]]
