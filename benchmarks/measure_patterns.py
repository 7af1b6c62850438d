"""Measure the patterns of the pack, in every schema and language: ``python -m benchmarks.measure_patterns``.

What a pattern takes of a node's heap follows from the pattern alone (``keytrail.automaton``), and some need a tenth of
a second to work out. The table that this writes is shipped, so that no conversion has to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from keytrail import automaton
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.files import write_text
from keytrail.generators import GENERATORS
from keytrail.pack import load_rules
from keytrail.schemas import SCHEMAS

MEASURES = {"wildcard": automaton.measured_wildcard, "regexp": automaton.measured_regexp}


def main() -> None:
    """Write the table."""
    memory = measured()
    write_text(automaton.TABLE, json.dumps(memory, indent=1, sort_keys=True) + "\n")
    print(f"{automaton.TABLE.name}: {len(memory)} patterns")


def measured() -> dict[str, int]:
    """Return the memory of each of the pack's patterns that a node takes, by its kind and itself."""
    costs = {f"{kind} {value}": MEASURES[kind](value) for kind, value in patterns()}
    return {name: cost.memory for name, cost in costs.items() if cost.problem is None}


def patterns() -> set[tuple[str, str]]:
    """Return the patterns in the pack's queries, with their kinds, that are long enough for the table."""
    found: set[tuple[str, str]] = set()
    for rule in load_rules([packaged("rules")]).rules:
        for schema in SCHEMAS.values():
            for target in GENERATORS:
                made = convert(rule, schema, target)
                if made.query is not None and not isinstance(made.query.body, str):
                    found.update(_leaves(made.query.body))
    return {(kind, value) for kind, value in found if len(value) >= automaton.LONG}


def _leaves(part: object) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for kind in MEASURES.keys() & part.keys():
            yield from ((kind, spec["value"]) for spec in part[kind].values())
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _leaves(inner)


if __name__ == "__main__":
    main()
