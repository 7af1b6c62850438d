"""The ways from a Sigma rule to an answer of a real node: the stock backends', and ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticsearch import ConnectionTimeout, ElasticsearchWarning
from keytrail.backend import pipeline
from keytrail.cluster import Cluster, named_errors
from keytrail.convert import Conversion, convert
from keytrail.errors import ClusterError, UnmappedField
from keytrail.pack import Rule
from keytrail.schemas import Schema
from sigma.backends.elasticsearch.elasticsearch_eql import EqlBackend
from sigma.backends.elasticsearch.elasticsearch_esql import ESQLBackend
from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend
from sigma.conversion.base import Backend
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import FieldFunctionTransformation

ROWS = 10_000  # that ES|QL answers at most
SECONDS = 30.0  # that it may take for one query
Hits = frozenset[str] | ClusterError
Runner = Callable[[Cluster, str, Mapping[str, Any], Sequence[str]], dict[str, Hits]]
# What a converter raises for a rule that it does not take; the stock ones raise these for some.
REFUSALS = (SigmaError, NotImplementedError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Made:
    """What a converter made of one rule: queries any of which finds the event, or why there is none.

    ``unmapped`` says that it is a field which the index has not. ``conversion`` is there for ours alone.
    """

    queries: tuple[Any, ...] = ()
    refusal: str | None = None
    unmapped: bool = False
    conversion: Conversion | None = None


@dataclass(frozen=True)
class Way:
    """One converter and how its queries are run; ``run`` is None for a language that the node does not speak."""

    name: str
    make: Callable[[Rule], Made]
    run: Runner | None


def ways(schema: Schema, esql: bool) -> list[Way]:
    """Return the ways to ask an index of ``schema``; ``esql`` says whether the node speaks ES|QL."""
    run_esql = rows if esql else None
    found = list(stock(schema, run_esql))
    for target, run in (("query-dsl", bodies), ("lucene", strings), ("esql", run_esql)):
        found.append(Way(f"Keytrail {target}", _ours(schema, target), run))
    return found


def stock(schema: Schema, run_esql: Runner | None) -> Iterator[Way]:
    """Yield the stock backends, with the names of the index's fields, and once more with those of the keywords."""
    plain = pipeline(schema)
    yield Way("stock Lucene", _stock(LuceneBackend, plain, "dsl_lucene"), bodies)
    yield Way("stock ES|QL", _stock(ESQLBackend, plain), run_esql)
    if any(keyword(schema, name) != name for name in schema.mapping.known()):
        named = pipeline(schema) + _keywords(schema)
        yield Way("stock Lucene, .keyword", _stock(LuceneBackend, named, "dsl_lucene"), bodies)
        yield Way("stock ES|QL, .keyword", _stock(ESQLBackend, named), run_esql)
    yield Way("stock EQL", _stock(EqlBackend, plain), None)


def keyword(schema: Schema, name: str) -> str:
    """Return the keyword beside a text field; any other name as it is."""
    found = schema.mapping.field(name)
    return found.companions.get("keyword", name) if found is not None and found.type == "text" else name


def _keywords(schema: Schema) -> ProcessingPipeline:
    """What a careful user of a stock backend adds where strings are text with a keyword beside it."""

    def rename(name: str | None) -> str:
        return keyword(schema, name or "")

    return ProcessingPipeline(items=[ProcessingItem(FieldFunctionTransformation({}, rename))])


def _stock(kind: type[Backend], names: ProcessingPipeline, form: str = "default") -> Callable[[Rule], Made]:
    def make(rule: Rule) -> Made:
        try:
            made = kind(names).convert(rule.collection(), form)
        except REFUSALS as error:
            return Made(refusal=str(error) or type(error).__name__, unmapped=isinstance(error, UnmappedField))
        # Sigma's conditions in a list are a query each.
        return Made(tuple(made)) if made else Made(refusal="it gives no query")

    return make


def _ours(schema: Schema, target: str) -> Callable[[Rule], Made]:
    def make(rule: Rule) -> Made:
        made = convert(rule, schema, target)
        if made.query is None:
            message = made.error.message if made.error else ""
            return Made(refusal=message, unmapped=isinstance(made.error, UnmappedField), conversion=made)
        return Made((made.query.body,), conversion=made)

    return make


# -- running ------------------------------------------------------------------------------------------------------


def bodies(cluster: Cluster, index: str, queries: Mapping[str, Any], names: Sequence[str]) -> dict[str, Hits]:
    """Run bodies of searches; return the ids of all hits, or the error of one that is rejected."""
    return cluster.search_each(index, {name: body["query"] for name, body in queries.items()})


def strings(cluster: Cluster, index: str, queries: Mapping[str, Any], names: Sequence[str]) -> dict[str, Hits]:
    """Run query strings as docs/targets.md says."""
    asked = {name: {"query_string": {"query": body, "lenient": False}} for name, body in queries.items()}
    return cluster.search_each(index, asked)


def rows(cluster: Cluster, index: str, queries: Mapping[str, Any], names: Sequence[str]) -> dict[str, Hits]:
    """Run ES|QL over the documents ``names``, so many at a time that no answer is cut off."""
    parts = [list(names[start : start + ROWS]) for start in range(0, len(names), ROWS)]
    found: dict[str, Hits] = {}
    for name, query in queries.items():
        try:
            found[name] = frozenset(hit for part in parts for hit in _rows(cluster, query, part))
        except ClusterError as error:
            found[name] = error
    return found


def unanswered(error: ClusterError) -> bool:
    """Tell whether the node did not answer, which says nothing of the query."""
    return isinstance(error.__cause__, ConnectionTimeout)


def speaks_esql(cluster: Cluster) -> bool:
    """Tell whether the node has ES|QL at all."""
    try:
        with named_errors("run ES|QL"):
            cluster.client.esql.query(query="ROW a = 1 | LIMIT 1")
    except ClusterError:
        return False
    return True


def _rows(cluster: Cluster, query: str, names: list[str]) -> list[str]:
    with named_errors("run ES|QL"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ElasticsearchWarning)  # a value that it takes for null, for one
        asked = f"{query}\n| KEEP _id | LIMIT {ROWS}"
        client = cluster.client.options(request_timeout=SECONDS, max_retries=0)
        answer = client.esql.query(query=asked, filter={"ids": {"values": names}})
    return [row[0] for row in answer["values"]]
