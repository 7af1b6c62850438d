"""The query languages by name: what writes a resolved rule down in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keytrail import esql, lucene, query_dsl
from keytrail.resolved import Node
from keytrail.schemas import Schema
from keytrail.verdict import Query

GENERATORS: Mapping[str, Callable[[Node, Schema], Query]] = {
    "query-dsl": query_dsl.generate,
    "lucene": lucene.generate,
    "esql": esql.generate,
}
