"""The query languages by name, and the module that writes a resolved rule down in each."""

from __future__ import annotations

from importlib import import_module

from keytrail.resolved import Node
from keytrail.schemas import Schema
from keytrail.verdict import Query

GENERATORS = {"query-dsl": "query_dsl", "lucene": "lucene", "esql": "esql"}


def generate(target: str, node: Node, schema: Schema) -> Query:
    """Return the query for ``node`` in the language ``target``; raises :class:`Refused` where none means the same."""
    made: Query = import_module(f"keytrail.{GENERATORS[target]}").generate(node, schema)
    return made
