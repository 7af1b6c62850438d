"""Checking a world: what everyone who evaluates its triples says must be what the rule says, or be refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from keytrail import reference, script
from keytrail.cluster import Cluster, named_errors
from keytrail.convert import Conversion, convert
from keytrail.engine import compile_query, utf16_length
from keytrail.errors import ClusterError, KeytrailError, RuleError
from keytrail.lint import check_document
from keytrail.mapping import FieldType
from keytrail.pack import Rule
from keytrail.paths import leaves
from keytrail.proof import holds
from keytrail.schemas import Schema
from keytrail.targets import TARGETS
from keytrail.verdict import Strays

from tests.worlds import World

Found = frozenset[str] | KeytrailError
Bodies = Mapping[str, Any]


class Engine(Protocol):
    """Something that runs queries over documents; ``answers`` has the name of each way in which it does."""

    def answers(
        self, schema: Schema, queries: Mapping[str, Bodies], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, str, Mapping[str, Found], frozenset[str]]]:
        """Yield a name, the target, each query's hits or error, and the documents that were refused.

        A query that is missing among the hits is one that this engine cannot be asked.
        """
        ...

    def excuse(self, body: Any, schema: Schema, event: Mapping[str, Any]) -> str | None:
        """Say what this engine does in another way than Elasticsearch, if that bears on a query and an event."""
        ...


class Embedded:
    """The engine in this process, which knows Query DSL."""

    def answers(
        self, schema: Schema, queries: Mapping[str, Bodies], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, str, Mapping[str, Found], frozenset[str]]]:
        found: dict[str, Found] = {}
        for name, body in queries["query-dsl"].items():
            try:
                matches = compile_query(body["query"], schema.mapping)
            except KeytrailError as error:
                found[name] = error
                continue
            found[name] = frozenset(key for key, document in documents.items() if matches(document))
        yield "embedded, query-dsl", "query-dsl", found, frozenset()

    def excuse(self, body: Any, schema: Schema, event: Mapping[str, Any]) -> str | None:
        return None


class Node:
    """A real server, in every target that it knows. It may refuse events: what it does not hold, nobody can find."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = f"{cluster.product} {cluster.version}"
        self.has_esql = isinstance(self._esql("ROW a = 1 | LIMIT 1"), list)
        with cluster.temporary_index({"mappings": {}}) as index:
            asked = cluster.search_each(index, {"q": script.query("a", "b", script.EQUALS)})["q"]
        self.has_scripts = not isinstance(asked, ClusterError)

    def answers(
        self, schema: Schema, queries: Mapping[str, Bodies], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, str, Mapping[str, Found], frozenset[str]]]:
        with self.cluster.temporary_index(self._body(schema.body)) as index:
            refused = frozenset(self.cluster.load(index, documents.items()))
            dsl = {name: body["query"] for name, body in queries["query-dsl"].items()}
            if not self.has_scripts:
                dsl = {name: query for name, query in dsl.items() if script.SOURCE not in _texts(query)}
            yield f"{self.name}, query-dsl", "query-dsl", self.cluster.search_each(index, dsl), refused
            # As our documentation runs it, and as Kibana does.
            for how, options in (("lucene", {"lenient": False}), ("lucene in Kibana", {"analyze_wildcard": True})):
                strings = {
                    name: {"query_string": {"query": body, **options}} for name, body in queries["lucene"].items()
                }
                yield f"{self.name}, {how}", "lucene", self.cluster.search_each(index, strings), refused
            if self.has_esql:
                found = {name: self._matched(schema, index, body) for name, body in queries["esql"].items()}
                yield f"{self.name}, esql", "esql", found, refused

    def _body(self, node: Any) -> Any:
        """A mapping in the words of the product."""
        if self.cluster.product == "Elasticsearch":
            return node
        if isinstance(node, Mapping):
            made = {key: self._body(value) for key, value in node.items()}
            if made.pop("subobjects", True) is False:
                made["disable_objects"] = True
            if made.get("type") == "boolean":
                made.pop("ignore_malformed", None)  # it refuses the documents, with which nothing is compared then
            return made
        return node

    def excuse(self, body: Any, schema: Schema, event: Mapping[str, Any]) -> str | None:
        if self.cluster.product == "Elasticsearch" or "_ignored" not in json.dumps(body):
            return None
        for path, value in leaves(schema.document(event)):
            found = schema.mapping.field(path)
            limit = None if found is None else _limit(found, schema)
            if limit is not None and isinstance(value, str) and utf16_length(value) > limit:
                return "values too long for OpenSearch, which does not note them in _ignored"
        return None

    def _matched(self, schema: Schema, index: str, body: str) -> Found:
        query = body.replace(f"FROM {schema.index} ", f"FROM {index} ", 1)
        rows = self._esql(f"{query}\n| KEEP _id\n| LIMIT 10000")
        return frozenset(row[0] for row in rows) if isinstance(rows, list) else rows

    def _esql(self, query: str) -> list[Any] | ClusterError:
        try:
            with named_errors("run ES|QL"):
                return list(self.cluster.client.esql.query(query=query)["values"])
        except ClusterError as error:
            return error


def _limit(found: FieldType, schema: Schema) -> int | None:
    searched = schema.companion(found, "keyword") if found.type == "text" else found
    return None if searched is None else searched.ignore_above


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


@dataclass
class Tally:
    """What was checked: triples by engine and target, verdicts, reasons for refusals, triples outside a condition.

    ``unproven`` counts by engine the triples that it could not be asked.
    """

    triples: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    conditions: Counter[tuple[str, str]] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    unproven: Counter[str] = field(default_factory=Counter)
    matched: int = 0
    refused_events: int = 0

    def share_refused(self, target: str) -> float:
        """Return which part of the rules a target refuses; rules that are no Sigma are not counted."""
        made = {verdict: count for (name, verdict), count in self.verdicts.items() if name == target}
        made.pop("error", None)
        return made.get("refused", 0) / max(1, sum(made.values()))

    def lines(self, reasons: int = 12) -> list[str]:
        """Return the tally as a person reads it."""
        shown = [f"{self.triples.total():>9,} triples agreed, {self.matched:,} of them matches"]
        shown += [f"{count:>9,} with {name}" for name, count in sorted(self.triples.items())]
        shown += [f"{count:>9,} with a script, not proven on {name}" for name, count in sorted(self.unproven.items())]
        shown.append(f"{self.refused_events:>9,} events that the server refuses")
        for target in TARGETS:
            made = ", ".join(
                f"{count:,} {verdict}" for (name, verdict), count in self.verdicts.most_common() if name == target
            )
            shown.append(f"rules, {target}: {made} ({self.share_refused(target):.0%} refused)")
            for title, counter in (("refused", self.refusals), ("exact if", self.conditions)):
                found = [(reason, count) for (name, reason), count in counter.most_common() if name == target]
                shown += [f"{count:>9,} {title}: {reason}" for reason, count in found[:reasons]]
        return shown + [f"{count:>9,} triples outside {kind}" for kind, count in self.outside.most_common()]


@dataclass(frozen=True)
class Disagreement:
    """An engine says something else than the rule does, and no named condition is false: a world of one triple."""

    engine: str
    world: World
    says: str

    def __str__(self) -> str:
        rule = json.dumps(self.world.rules[0]["detection"], ensure_ascii=False)
        event = json.dumps(self.world.events[0])[:2000]
        kinds = json.dumps(self.world.kinds, ensure_ascii=False)
        return f"{self.says}\nrule {rule}\nevent {event}\n{self.world.layout} {kinds} drops {self.world.drops}"


def check(world: World, engines: Sequence[Engine], tally: Tally) -> list[Disagreement]:
    """Check every triple of ``world`` on every engine in every target; return who disagrees with the rule."""
    schema = world.schema
    documents = {str(number): schema.document(event) for number, event in enumerate(world.events)}
    made = {target: _converted(world, schema, target, tally) for target in TARGETS}
    queries = {
        target: {name: one.query.body for name, one in found.items() if one.query is not None}
        for target, found in made.items()
    }
    wrong: list[Disagreement] = []
    meanings: dict[str, list[bool]] = {}
    for stem in {name for found in queries.values() for name in found}:
        try:
            meaning = reference.compile_rule(world.rules[int(stem)])
        except RuleError as error:
            one = replace(world, rules=[world.rules[int(stem)]], events=world.events[:1])
            wrong.append(Disagreement("reference", one, f"the reference refuses what was converted: {error.message}"))
            meaning = _never
        meanings[stem] = [meaning(event) for event in world.events]
    for engine in engines:
        for name, target, found, refused in engine.answers(schema, queries, documents):
            tally.refused_events += len(refused)
            kept = [number for number in range(len(world.events)) if str(number) not in refused]
            if missing := len(queries[target].keys() - found.keys()):
                tally.unproven[name] += missing * len(kept)
            for stem, hits in found.items():
                wrong += _compared(world, made[target][stem], (name, engine), hits, meanings[stem], kept, tally)
    return wrong


def _never(event: Mapping[str, Any]) -> bool:
    return False


def _converted(world: World, schema: Schema, target: str, tally: Tally) -> dict[str, Conversion]:
    found = {}
    for number, source in enumerate(world.rules):
        made = _conversion(Rule(Path(f"{number}.yml"), source, json.dumps(source)), schema, target)
        tally.verdicts[target, made.verdict] += 1
        if made.error is not None:
            tally.refusals[target, _reason(made.error)] += 1
        for kind in {condition.kind for condition in made.conditions}:
            tally.conditions[target, kind] += 1
        found[str(number)] = made
    return found


def _conversion(rule: Rule, schema: Schema, target: str) -> Conversion:
    try:
        check_document(rule.document["detection"])  # as a file of rules is checked when it is read
    except RuleError as error:
        return Conversion(rule, schema, None, error)
    return convert(rule, schema, target)


def _reason(error: KeytrailError) -> str:
    """The reason without the names of fields and values."""
    message = error.message.split("): ", 1)[-1].split(" unless ")
    end = {True: message[-1].split(" ", 1)[-1].split(":")[0].split(" (")[0]}.get(len(message) > 1, "")
    shown = re.sub(r"^.*comparing it with .* (needs|is null)", r"comparing it with another field \1", message[0])
    shown = re.sub(r"^.*: (under 'not')", r"\1", re.sub(r", at character \d+$", "", shown))
    shown = re.sub(r"^regular expression '.*': ", "", re.sub(r"\d[\d,]*", "N", shown))
    shown = re.sub(r"non-ASCII value of .*\|base64", "non-ASCII value of …|base64", shown)
    shown = re.sub(r"(input string|value type of) .*", r"\1 …", shown)
    return (f"{shown}: {end}" if end else shown)[:110]


def _compared(
    world: World,
    made: Conversion,
    named: tuple[str, Engine],
    hits: Found,
    says: Sequence[bool],
    kept: Sequence[int],
    tally: Tally,
) -> list[Disagreement]:
    engine, running = named
    rule = world.rules[int(made.rule.stem)]
    body = json.dumps(made.query.body if made.query else None, ensure_ascii=False)[:2000]

    def wrong(number: int, what: str) -> Disagreement:
        one = replace(world, rules=[rule], events=[world.events[number]])
        return Disagreement(engine, one, f"{engine}: {what}\nquery {body}")

    if isinstance(hits, KeytrailError):
        return [wrong(0, f"the query is rejected: {hits.message}")]
    found = []
    for number in kept:
        tally.triples[engine] += 1
        tally.matched += says[number]
        if says[number] is (str(number) in hits):
            continue
        broken = [part for part in made.conditions if not holds(part, made.schema, world.events[number])]
        # A condition says which way the query strays from the rule where it is broken, and no other way.
        expected = {Strays.BOTH, Strays.MISSES if says[number] else Strays.ADDS}
        if expected.intersection(part.strays for part in broken):
            tally.outside[broken[0].kind] += 1
            continue
        excuse = running.excuse(made.query.body if made.query else None, made.schema, world.events[number])
        if excuse is not None:
            tally.outside[excuse] += 1
            continue
        found.append(wrong(number, f"the rule says {says[number]}, the query {not says[number]}"))
    return found
