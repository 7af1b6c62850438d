"""Elasticsearch Query DSL: how each primitive question is written as a native query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from keytrail import automaton, folding, script
from keytrail.errors import Refused
from keytrail.resolved import Node, Pattern, Wild
from keytrail.schemas import Schema
from keytrail.typed import (
    AllOf,
    AnyOf,
    Bounded,
    Equals,
    Expression,
    Has,
    Ignored,
    Match,
    NoneOf,
    Nothing,
    Primitive,
    Related,
    Typed,
    Within,
    typed,
)
from keytrail.verdict import Query

Dsl = dict[str, Any]
MOST_CLAUSES = 1000  # every node takes 1,024; how many more depends on its heap and processors
MOST_DEPTH = 25  # every node takes 29 (indices.query.bool.max_nested_depth); somebody may wrap the query
MOST_SPELLINGS = 16


def generate(node: Node, schema: Schema) -> Query:
    """Return the search body for ``node`` under ``schema``; raises :class:`Refused` where no query means the same."""
    question, conditions = typed(node, schema)
    dsl = _dsl(question)
    if "bool" not in dsl:
        dsl = {"bool": {"filter": [dsl]}}
    _check_patterns(dsl)
    clauses, depth = _size(dsl)
    if clauses > MOST_CLAUSES:
        raise Refused(f"the rule needs {clauses} clauses; {MOST_CLAUSES} is what every node takes")
    if depth > MOST_DEPTH:
        raise Refused(f"the rule nests {depth} boolean queries; {MOST_DEPTH} is what every node takes")
    return Query({"query": dsl}, tuple(dict.fromkeys(conditions)))


def _size(dsl: Dsl) -> tuple[int, int]:
    """Count the leaves of a query, and how deep its boolean queries nest."""
    inner = dsl.get("bool")
    if inner is None:
        return (2 if "range" in dsl else 1), 0  # a range is asked of points and of doc values
    parts = [_size(part) for key in ("filter", "should", "must_not") for part in inner.get(key, ())]
    return sum(clauses for clauses, _ in parts), 1 + max(depth for _, depth in parts)


def _check_patterns(dsl: Dsl) -> None:
    """Refuse what Elasticsearch would, or what would fill its memory; the query is searched for it leaf by leaf."""
    waiting, memory = [dsl], 0
    while waiting:
        ((kind, inner),) = waiting.pop().items()
        if kind == "bool":
            waiting += [part for key in ("filter", "should", "must_not") for part in inner.get(key, ())]
        elif kind in ("term", "prefix", "wildcard", "regexp"):
            ((name, spec),) = inner.items()
            cost = automaton.of_leaf(kind, name, spec["value"], ignore_case="case_insensitive" in spec)
            memory += cost.memory
            if cost.problem is not None:
                raise Refused(f"{name}: {cost.problem}", field=name)
            if memory > automaton.MOST_MEMORY:
                raise Refused(f"the rule's patterns would take over {automaton.MOST_MEMORY:,} bytes of a node's heap")


def _dsl(question: Typed) -> Dsl:
    if isinstance(question, AllOf):
        return _all([_dsl(child) for child in question.children])
    if isinstance(question, AnyOf):
        return _any([_dsl(child) for child in question.children])
    if isinstance(question, NoneOf):
        return {"bool": {"must_not": _alternatives(_dsl(question.child))}}
    return _primitive(question)


def _any(parts: list[Dsl]) -> Dsl:
    if len(parts) == 1:
        return parts[0]
    flat = [clause for part in parts for clause in _alternatives(part)]
    return {"bool": {"should": flat, "minimum_should_match": 1}}


def _alternatives(dsl: Dsl) -> list[Dsl]:
    """The queries any of which ``dsl`` asks for: none of them is the same as not any of them."""
    inner = dsl.get("bool", {})
    return list(inner["should"]) if set(inner) == {"should", "minimum_should_match"} else [dsl]


def _all(parts: list[Dsl]) -> Dsl:
    """A bool that says all of ``parts``; what they exclude is said beside what they ask for."""
    asked: list[Dsl] = []
    excluded: list[list[Dsl]] = []
    for part in parts:
        if set(part.get("bool", ())) == {"must_not"}:
            excluded.append(part["bool"]["must_not"])
        else:
            asked.append(part)
    found: Dsl = {"filter": asked} if asked else {}
    if excluded:
        found["must_not"] = [clause for clauses in excluded for clause in clauses]
    return {"bool": found}


def _primitive(question: Primitive) -> Dsl:
    match question:
        case Match(field, pattern):
            lowered = field.normalizer is not None
            spellings = dict.fromkeys(_spelled(spelling, lowered) for spelling in _spellings(field.name, pattern))
            return _any([_match(field.name, parts, pattern.cased or lowered) for parts in spellings])
        case Expression(field, lucene):
            return {"regexp": {field.name: {"value": lucene, "flags": "NONE"}}}
        case Has() | Ignored():
            return _there(question)
        case Equals(field, value):
            return {"term": {field.name: {"value": value}}}
        case Within(field, network):
            return {"term": {field.name: {"value": str(network)}}}
        case Bounded(field, operator, bound):
            return {"range": {field.name: {operator: bound}}}
        case Related(field, other, how):
            return script.query(field.name, other.name, how)
        case Nothing():
            return {"match_none": {}}


def _there(question: Has | Ignored) -> Dsl:
    """What asks for a field, or for something below it, in the index or among what it did not take."""
    name = question.name
    if isinstance(question, Ignored):
        below = {"prefix": {"_ignored": {"value": f"{name}."}}}
        return below if question.below else {"term": {"_ignored": {"value": name}}}
    if "*" in name and not question.below:
        raise Refused(f"{name}: exists takes the asterisk for a pattern of names", field=name)
    return {"exists": {"field": f"{name}.*" if question.below else name}}


Parts = tuple[str | Wild, ...]


def _spelled(parts: Parts, lowered: bool) -> Parts:
    return tuple(part.lower() if lowered and isinstance(part, str) else part for part in parts)


def _spellings(name: str, pattern: Pattern) -> Iterator[Parts]:
    """Every way to write a pattern's non-ASCII letters, whose case Elasticsearch does not ignore."""
    if pattern.cased or not any(isinstance(part, str) and folding.needs_folding(part) for part in pattern.parts):
        yield pattern.parts
        return
    choices: list[tuple[str | Wild, ...]] = []
    count = 1
    for part in pattern.parts:
        for character in (part,) if isinstance(part, Wild) else part:
            plain = isinstance(character, Wild) or character.isascii()
            choices.append((character,) if plain else folding.variants(str(character)))
            count *= len(choices[-1])
    if count > MOST_SPELLINGS:
        raise Refused(
            f"{name}: {count} ways to write its non-ASCII letters, whose case Elasticsearch does not ignore",
            field=name,
            hint="write the value with |cased",
        )
    for spelling in product(*choices):
        yield _joined(spelling)


def _joined(parts: Parts) -> Parts:
    """Lay characters that stand side by side together again."""
    joined: list[str | Wild] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        else:
            joined.append(part)
    return tuple(joined)


def _match(name: str, parts: Parts, cased: bool) -> Dsl:
    """A term, prefix or wildcard query; case is ignored only where there is a letter with another case."""
    text = "".join(part for part in parts if isinstance(part, str))
    letters = not cased and any(character.isascii() and character.isalpha() for character in text)
    options = {"case_insensitive": True} if letters else {}
    if all(isinstance(part, str) for part in parts):
        return {"term": {name: {"value": text, **options}}}
    if len(parts) == 2 and isinstance(parts[0], str) and parts[1] is Wild.MANY:
        return {"prefix": {name: {"value": text, **options}}}
    escaped = "".join(part.value if isinstance(part, Wild) else _escaped(part) for part in parts)
    return {"wildcard": {name: {"value": escaped, **options}}}


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in "*?\\" else character for character in text)
