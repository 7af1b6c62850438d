"""Whether the condition of an *exact if* is so in an index: asked of the index by a query, where a query can tell.

A condition holds when no document breaks it. What the index has never had, or has in one form only, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from keytrail import script
from keytrail.cluster import named_errors, whole
from keytrail.convert import Conversion
from keytrail.errors import Rejected
from keytrail.schemas import ecs
from keytrail.schemas.live import LiveSchema
from keytrail.verdict import Condition

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

HOLDS, BROKEN, UNTESTED = "holds", "broken", "cannot be tested by a query"
EXAMPLES = 3
FIELDS_OF_TEXT = 2  # that an index makes of a new string: itself, and the keyword beside it
Dsl = dict[str, Any]
# A query for the documents that break a condition, or the reason why there is none.
Breach = Union[Dsl, str]


@dataclass(frozen=True)
class Holding:
    """A condition with its state: holds, broken by ``documents`` documents (some in ``examples``), or not testable."""

    condition: Condition
    state: str
    documents: int = 0
    examples: tuple[str, ...] = ()
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        shape = {**self.condition.as_dict(), "state": self.state, "documents": self.documents}
        return {**shape, "examples": list(self.examples)} | ({"why": self.why} if self.why else {})


def check(condition: Condition, schema: LiveSchema, cluster: Cluster, within: Sequence[Dsl] = ()) -> Holding:
    """Ask the index of ``schema`` whether ``condition`` is so, for the documents that all of ``within`` match.

    A query that is rejected can tell nothing. Errors: those of ``named_errors``.
    """
    if condition.kind == "taken":
        return _room(condition, schema)
    if condition.kind == "scripts":
        return _scripts(condition, schema, cluster)
    if condition.kind == "own_place" and condition.field in ecs.SINCE_6_22:
        return _ever(condition, schema, cluster)
    asker = _BREACHES.get(condition.kind)
    breach = "there is no query for it" if asker is None else asker(condition, schema)
    if isinstance(breach, str):
        return Holding(condition, UNTESTED, why=breach)
    try:
        documents, examples = count(cluster, schema.index, {"bool": {"filter": [breach, *within]}})
    except Rejected as error:
        return Holding(condition, UNTESTED, why=error.message)
    return Holding(condition, BROKEN if documents else HOLDS, documents, examples)


def check_each(conversions: Sequence[Conversion], schema: LiveSchema, cluster: Cluster) -> list[list[Holding]]:
    """Ask the index of ``schema`` about the conditions of each conversion.

    A condition that some documents break is asked again of the documents that the rule could match at all.
    """
    conditions = dict.fromkeys(condition for made in conversions for condition in made.conditions)
    known = {condition: check(condition, schema, cluster) for condition in conditions}
    return [[_narrowed(known[one], made, schema, cluster) for one in made.conditions] for made in conversions]


def _narrowed(holding: Holding, made: Conversion, schema: LiveSchema, cluster: Cluster) -> Holding:
    if holding.state != BROKEN or not holding.documents or made.query is None or made.rule.kind == "correlation":
        return holding
    within = needed(made.query.body["query"], made.conditions, schema)
    return check(holding.condition, schema, cluster, within) if within else holding


def needed(query: Mapping[str, Any], conditions: Sequence[Condition], schema: LiveSchema) -> list[Dsl]:
    """Return the parts of a rule's query that every match needs and that no condition bears upon.

    A document that they do not match is none of the rule's, whatever conditions it breaks.
    """
    touched = {
        name for condition in conditions for name in (condition.index_field, _map_name(condition, schema)) if name
    }
    clauses = query.get("bool", {}).get("filter", ())
    return [clause for clause in clauses if not any(_touches(name, touched) for name in _fields(clause))]


def _touches(name: str, touched: set[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in touched)


def _fields(node: object) -> Iterator[str]:
    """Every string in a query that could name a field."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield key
            yield from _fields(value)
    elif isinstance(node, list):
        for part in node:
            yield from _fields(part)
    elif isinstance(node, str):
        yield node


def count(cluster: Cluster, index: str, query: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return how many documents match a query, and the ids of a few. Errors: those of ``named_errors``."""
    with named_errors(f"search {index}"):
        found = cluster.client.search(
            index=index,
            query=dict(query),
            size=EXAMPLES,
            source=False,
            track_total_hits=True,
            allow_partial_search_results=False,
        )
        hits = whole(found.body, "a search that counts events")["hits"]
        return int(hits["total"]["value"]), tuple(str(hit["_id"]) for hit in hits["hits"])


def _room(condition: Condition, schema: LiveSchema) -> Holding:
    """Whether events are refused for their new fields; those refused for a field's type nobody can count."""
    index, used, limit = schema.fullest
    if limit - used < FIELDS_OF_TEXT:
        why = f"{index} has {used:,} fields of {limit:,}: it refuses events with a new text ({FIELDS_OF_TEXT} fields)"
        return Holding(condition, BROKEN, why=why)
    why = f"what an index has refused is not in it; {index} has {used:,} fields, its limit is {limit:,}"
    return Holding(condition, UNTESTED, why=why)


def _scripts(condition: Condition, schema: LiveSchema, cluster: Cluster) -> Holding:
    """Whether the cluster runs the script: a comparison of a field with itself."""
    asked = script.query(condition.index_field, condition.index_field, script.EQUALS)
    try:
        count(cluster, schema.index, asked)
    except Rejected as error:
        return Holding(condition, BROKEN, why=error.message)
    return Holding(condition, HOLDS, why="it has run one")


def _ever(condition: Condition, schema: LiveSchema, cluster: Cluster) -> Holding:
    try:
        documents, _ = count(cluster, schema.index, _exists(condition.index_field))
    except Rejected as error:
        return Holding(condition, UNTESTED, why=error.message)
    if documents:
        return Holding(condition, HOLDS, why=f"{documents:,} documents have it")
    return Holding(condition, BROKEN, why="no document has it: the integration is older, or no such event has come")


def _exists(name: str) -> Dsl:
    return {"exists": {"field": name}}


def _ignored(name: str) -> Dsl:
    return {"term": {"_ignored": {"value": name}}}


def _not_longer(condition: Condition, schema: LiveSchema) -> Breach:
    found = schema.mapping.field(condition.index_field)
    if found is not None and found.type == "flattened":
        return "a flattened field does not note which values it leaves out"
    return _ignored(condition.index_field)


def _map_name(condition: Condition, schema: LiveSchema) -> str | None:
    name = schema.java_maps.get(condition.index_field)
    return name if name is not None and schema.mapping.field(name) is not None else None


def _map_not_longer(condition: Condition, schema: LiveSchema) -> Breach:
    name = _map_name(condition, schema)
    return _ignored(name) if name else "the index has no string of the map"


def _kept_whole(condition: Condition, schema: LiveSchema) -> Breach:
    """The string of the map is there, if only in _ignored, and the flattened copy is not."""
    name = _map_name(condition, schema)
    if name is None:
        return "the index has no string of the map to compare with"
    there = {"bool": {"should": [_exists(name), _ignored(name)], "minimum_should_match": 1}}
    return {"bool": {"filter": [there], "must_not": [_exists(condition.index_field)]}}


def _copied(condition: Condition, schema: LiveSchema) -> Breach:
    """The flattened field has the key, and the copy is missing."""
    for prefix, target in schema.prefixes.items():
        if condition.field.startswith(prefix):
            source = target + condition.field[len(prefix) :]
            copy = condition.index_field
            return {"bool": {"filter": [_exists(source)], "must_not": [_exists(copy), _ignored(copy)]}}
    return "where the field is copied from is not known"


def _own_place(condition: Condition, _: LiveSchema) -> Breach:
    issued = {"terms": {f"{ecs.IDENTITY}type": ["AssumedRole", "FederatedUser"]}}
    authentication = {"term": {"event.action": {"value": "UserAuthentication"}}}
    breaches: dict[str, Dsl] = {
        "userIdentity.userName": {"bool": {"should": [issued, authentication], "minimum_should_match": 1}},
        "userIdentity.sessionContext.sessionIssuer.userName": {"bool": {"must_not": [issued]}},
        "additionalEventData.UserName": authentication,
    }
    found = breaches.get(condition.field)
    if found is None:
        return "the index does not tell which of the two a value is"
    return {"bool": {"filter": [found, _exists(condition.index_field)]}}


def _plain_number(condition: Condition, schema: LiveSchema) -> Breach:
    found = schema.mapping.field(condition.index_field)
    if found is None or found.type != "keyword":
        return "the index holds the number, and not how it was written"
    plain = {"value": "-?(0|[1-9][0-9]{0,14})(\\.[0-9]{0,14}[1-9])?", "flags": "NONE"}
    return {"bool": {"filter": [_exists(found.name)], "must_not": [{"regexp": {found.name: plain}}]}}


def _never(why: str) -> Callable[[Condition, LiveSchema], Breach]:
    return lambda condition, schema: why


_BREACHES: dict[str, Callable[[Condition, LiveSchema], Breach]] = {
    "not_longer": _not_longer,
    "map_not_longer": _map_not_longer,
    "learnt": _not_longer,
    "kept_whole": _kept_whole,
    "copied": _copied,
    "own_place": _own_place,
    "plain_number": _plain_number,
    "whole_number": _plain_number,
    "kept": _never("such a value was dropped before the index"),
    "plain_map": _never("where a comma stands for itself, no query can tell"),
    "plain_case": _never("the index holds the letters after they were changed"),
    "plain_truth": _never("the index holds true and false, and not what was written"),
    "plain_address": _never("the index holds the address, and not how it was written"),
    "no_object": _never("a flattened field is asked for a key's own values alone"),
    "one_spelling": _never("a flattened field does not tell which keys it has"),
    "known_keys": _never("keys that the mapping does not list leave no trace in the index"),
    "not_empty": _never("the index holds no trace of an empty string"),
}
