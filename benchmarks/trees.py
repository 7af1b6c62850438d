"""Rules read without pySigma, compared with what pySigma reads: ``python -m benchmarks.trees [FOLDER]``.

Prints how many rules of a folder (the pack's by default) are read without it, and compares their trees in each schema.
"""

from __future__ import annotations

import sys
from pathlib import Path

from keytrail import plain
from keytrail.backend import KeytrailBackend, pipeline
from keytrail.data import packaged
from keytrail.pack import Rule, load_rules
from keytrail.resolved import Node
from keytrail.schemas import SCHEMAS, Schema
from keytrail.verdict import Query
from sigma.exceptions import SigmaError


class Tree(KeytrailBackend):
    """A target whose query is the resolved rule itself."""

    formats = {"default": "trees"}

    def generate(self, node: Node, schema: Schema) -> Query:
        return Query(node)


def by_pysigma(rule: Rule, schema: Schema) -> Node | None:
    """Return the tree that pySigma's parser and pipeline give; None for a rule that they refuse."""
    try:
        made: list[Node] = Tree(pipeline(schema)).convert(rule.collection())
    except (SigmaError, TypeError, AttributeError, LookupError):
        return None
    return made[0] if made else None


def without(rule: Rule, schema: Schema) -> Node | None:
    """Return the tree that is read without pySigma; None where it has to."""
    return None if rule.plain is None else plain.resolve(rule.plain, schema)


def main() -> int:
    """Print the counts; 1 where a tree differs."""
    pack = load_rules(list(map(Path, sys.argv[1:])) or [packaged("rules")])
    rules = [rule for rule in pack.rules if rule.kind == "rule"]
    print(f"{len(rules)} rules, {sum(rule.plain is not None for rule in rules)} of them read without pySigma")
    differing = 0
    for schema in SCHEMAS.values():
        pairs = [(rule, tree) for rule in rules if (tree := without(rule, schema)) is not None]
        wrong = [rule.stem for rule, tree in pairs if tree != by_pysigma(rule, schema)]
        differing += len(wrong)
        print(f"{schema.name}: {len(pairs)} trees compared, {len(wrong)} differ {' '.join(wrong)}".rstrip())
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
