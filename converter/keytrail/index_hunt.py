"""Hunting in an Elasticsearch: the same rules over the events of an index, with the same hits as over files.

The index's mapping is read and the rules are compiled for it. All queries are sent together; what does not fit an
answer is fetched page by page from one point in time, and only the fields that a hit is shown with come back.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from elasticsearch import BadRequestError

from keytrail import alerts, telemetry
from keytrail.cluster import KEEP, named_errors, reason, whole
from keytrail.convert import Conversion, convert
from keytrail.correlation import Group, Searched
from keytrail.correlation_hunt import CorrelationHit
from keytrail.correlation_search import everything, search_at
from keytrail.errors import ClusterError, KeytrailError, NeedsProfile, SchemaError
from keytrail.holding import BROKEN, Holding, check_each, count
from keytrail.hunt import AnyHit, Hit, Window, foreign
from keytrail.index_record import record_of, wanted_fields
from keytrail.indices import Body, check_shards, check_source, closed
from keytrail.pack import Rule, only_correlated
from keytrail.schemas import Schema
from keytrail.schemas.live import LiveSchema, live_schema, read_cluster
from keytrail.summary import Summary

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

EVER = Window()
PAGE = 1000  # hits of one rule in an answer: all rules wait with a page each, so that hits come out by their time
AT_ONCE = 50  # searches in a request
REJECTED = (400, 429, 500)  # of one query: wrong, too large or beyond it; all else is about the index or itself


class IndexedHit(Hit):
    """A rule that matched a document: ``path`` is its index; ``record`` has what a hit is shown with, and no more."""

    __slots__ = ("document_id",)

    def __init__(self, rule: Rule, record: Mapping[str, Any], index: str, document_id: str) -> None:
        super().__init__(rule, record, index, 0)
        self.document_id = document_id

    @property
    def place(self) -> str:
        """Where the document is, in words."""
        return f"{self.path}, document {self.document_id}"

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as JSON has it: that of a file, with the document's id for the number of a record."""
        alert = alerts.of_event(self.rule.id, self.record, self.document_id)
        return {**super().as_dict(), "record": None, "alert_id": alert, "document_id": self.document_id}


@dataclass
class _Asked:
    """A rule with its query, and the fields that are to come back."""

    rule: Rule
    query: Mapping[str, Any]
    fields: Mapping[str, str]


@dataclass
class IndexHunt:
    """The rules made ready for an index, and what has been counted so far: as :class:`keytrail.hunt.Hunt` has it.

    ``doubtful`` says of each rule that is *exact if* which of its conditions are broken in the index, so that its hits
    may not be those of the rule. ``bodies`` are the mappings and settings of the indices, ``bad`` names those that are
    closed.
    """

    cluster: Cluster
    schema: LiveSchema
    bodies: Mapping[str, Body]
    page: int = PAGE
    bad: Sequence[KeytrailError] = ()
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    blind: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)
    searched: int = 0
    _span: Searched | None = None
    _asked: list[_Asked] = field(default_factory=list)
    _correlations: list[tuple[Rule, Mapping[str, Any], frozenset[Group]]] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, cluster: Cluster, pattern: str, rules: Iterable[Rule], known: Mapping[str, frozenset[Group]] | None = None
    ) -> IndexHunt:
        """Compile the rules for the indices behind ``pattern``.

        Parameters: ``known`` as for :meth:`keytrail.hunt.Hunt.prepare`. Errors: those of
        :mod:`keytrail.schemas.live` and of the cluster.
        """
        bodies = read_cluster(cluster, pattern)
        with named_errors(f"read the mapping of {pattern}"):
            hunt = cls(cluster, live_schema(bodies, pattern), bodies, bad=closed(cluster, pattern))
        if not hunt.schema.timed:
            what = f"{hunt.schema.time} is no date in {pattern}: events have no time to search by"
            raise SchemaError(what, hint="map @timestamp, or eventTime, as a date in all of its indices")
        listed = list(rules)
        made = [convert(rule, hunt.schema) for rule in listed]
        hidden = only_correlated(listed)
        for one in made:
            hunt._take(one, (known or {}).get(one.rule.id, frozenset()), one.rule.id in hidden)
        check_source(bodies, hunt._wanted())
        hunt._survey(made)
        return hunt

    def _take(self, made: Conversion, known: frozenset[Group], hidden: bool) -> None:
        rule = made.rule
        error = next(filter(None, map(foreign, rule.references.values() or [rule])), None) or made.error
        if made.query is None or error is not None:
            self.refused[rule.id] = error.message if isinstance(error, NeedsProfile) else str(error)
        elif rule.kind == "correlation":
            self.counts[rule.id] = 0
            self._correlations.append((rule, made.query.body, known))
        elif not hidden:
            self.counts[rule.id] = 0
            self._asked.append(_Asked(rule, made.query.body["query"], wanted_fields(rule, self.schema)))

    def _survey(self, made: Sequence[Conversion]) -> None:
        """Ask the index which rules see nothing, and which may see something else than they say."""
        index = self.schema.index
        kinds = telemetry.survey([one.rule for one in made], self.schema, lambda q: count(self.cluster, index, q)[0])
        for one, holdings in zip(made, check_each(made, self.schema, self.cluster), strict=True):
            lacking = telemetry.blind(one.rule, kinds)
            if lacking and one.rule.id not in self.refused:
                self.blind[one.rule.id] = f"the index has no {', no '.join(lacking)}"
            broken = [holding for holding in holdings if holding.state == BROKEN]
            if broken:
                self.doubtful[one.rule.id] = "; ".join(_broken(holding) for holding in broken)

    def summary(self) -> Summary:
        """Return what was searched, and what came of it, once :meth:`run` has come to its end."""
        files = len(self.schema.indices)
        return Summary(
            self.counts,
            self.refused,
            self.searched,
            files,
            self.searched,
            self.bad,
            len(self.bad),
            self.blind,
            self.doubtful,
            first=None if self._span is None else self._span.start,
            last=None if self._span is None else self._span.end,
        )

    @property
    def total(self) -> int:
        """How many bytes there are to read is not known."""
        return 0

    @property
    def done(self) -> int:
        """Nor how many have been."""
        return 0

    @property
    def records(self) -> int:
        """How many events are searched."""
        return self.searched

    def run(self, window: Window = EVER) -> Generator[AnyHit, None, None]:
        """Yield the hits by their time, those of correlations in the end.

        A query that Elasticsearch rejects moves its rule to ``refused``. Errors: :class:`ClusterError`,
        :class:`NodeError`.
        """
        within = _within(window, self.schema)
        index = self.schema.index
        with named_errors(f"search {index}"), self.cluster.point_in_time(index, self._check_shards) as pit:
            self.searched = self._count(pit, within)
            first = self._first_pages(pit, within)
            streams = [self._stream(asked, pit, within, page) for asked, page in first]
            for _, _, hit in heapq.merge(*streams, key=lambda found: found[:2]):
                self.counts[hit.rule.id] += 1
                yield hit
            silent = [asked.rule for asked, page in first if not page["hits"]["hits"]]
            yield from self._correlated(pit, window, silent)

    def _count(self, pit: str, within: Mapping[str, Any]) -> int:
        answer = self.cluster.client.search(
            pit={"id": pit, "keep_alive": KEEP},
            query=dict(within),
            size=0,
            track_total_hits=True,
            allow_partial_search_results=False,
        )
        return int(whole(answer.body, "the count of events")["hits"]["total"]["value"])

    def _check_shards(self, held: int) -> None:
        check_shards(self.cluster, self.schema.index, self.bodies, held)

    def _wanted(self) -> Iterator[str]:
        """The fields of documents that are to come back."""
        for asked in self._asked:
            yield from asked.fields.values()
        for _, plan, _ in self._correlations:
            for searches in plan["rules"].values():
                yield from searches["events"]["_source"]

    # -- single rules ---------------------------------------------------------------------------------------------

    def _body(self, asked: _Asked, pit: str, within: Mapping[str, Any], after: Sequence[Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "pit": {"id": pit, "keep_alive": KEEP},
            "query": {"bool": {"filter": [asked.query, within]}},
            "size": self.page,
            "sort": [{self.schema.time: {"order": "asc", "missing": "_first"}}, {"_shard_doc": "asc"}],
            "_source": sorted(set(asked.fields.values())),
            "track_total_hits": False,
        }
        return body if after is None else {**body, "search_after": list(after)}

    def _first_pages(self, pit: str, within: Mapping[str, Any]) -> list[tuple[_Asked, Mapping[str, Any]]]:
        """Ask every rule's query, many in a request, for its first page; those that are rejected are refused."""
        found = []
        for start in range(0, len(self._asked), AT_ONCE):
            batch = self._asked[start : start + AT_ONCE]
            header = {"allow_partial_search_results": False}
            answers = self.cluster.ask([(header, self._body(asked, pit, within, None)) for asked in batch])
            for asked, answer in zip(batch, answers, strict=True):
                if "error" in answer and answer["status"] not in REJECTED:
                    raise ClusterError(f"Elasticsearch cannot answer {asked.rule.stem}: {reason(answer['error'])}")
                if "error" in answer:
                    self.refused[asked.rule.id] = f"Elasticsearch rejects the query: {reason(answer['error'])}"
                    self.counts.pop(asked.rule.id)
                else:
                    found.append((asked, answer))
        return found

    def _stream(
        self, asked: _Asked, pit: str, within: Mapping[str, Any], page: Mapping[str, Any]
    ) -> Iterator[tuple[int, str, IndexedHit]]:
        """The hits of one rule by time, page by page from the first on."""
        while True:
            hits = whole(page, f"the query of {asked.rule.stem}")["hits"]["hits"]
            for hit in hits:
                moment = hit["sort"][0]
                yield (moment if isinstance(moment, int) else -1), asked.rule.stem, self._hit(asked, hit)
            if len(hits) < self.page:
                return
            body = self._body(asked, pit, within, hits[-1]["sort"])
            body["source"] = body.pop("_source")
            page = self.cluster.client.search(**body, allow_partial_search_results=False).body

    def _hit(self, asked: _Asked, hit: Mapping[str, Any]) -> IndexedHit:
        if not isinstance(hit.get("_source"), Mapping):
            raise ClusterError(f"the index {hit['_index']} does not give back the _source of {hit['_id']}")
        record = record_of(hit["_source"], asked.fields)
        return IndexedHit(asked.rule, record, str(hit["_index"]), str(hit["_id"]))

    # -- correlations ---------------------------------------------------------------------------------------------

    def _correlated(self, pit: str, window: Window, silent: Sequence[Rule]) -> Iterator[CorrelationHit]:
        """The hits of correlations. Rules that have just had none are not asked again: some queries cost seconds."""
        when = self._span = everything(self.cluster, pit, self.schema) if self._correlations else None
        if when is None:
            return
        documents = [rule.document for rule in silent]
        for rule, plan, known in self._correlations:
            searched = replace(_narrowed(when, window), known=known)
            without = {name for name, base in rule.references.items() if base.document in documents}
            try:
                found = list(search_at(self.cluster, pit, rule.correlation, plan, self.schema, searched, without))
            except BadRequestError as error:
                self.refused[rule.id] = f"Elasticsearch rejects a query: {reason(error.info['error'])}"
                self.counts.pop(rule.id)
                continue
            for episode in found:
                self.counts[rule.id] += 1
                yield CorrelationHit(rule, episode)


def _broken(holding: Holding) -> str:
    condition = holding.condition
    where = f"in {holding.documents:,} documents" if holding.documents else holding.why
    return f"{condition.strays.value} events unless {condition.text}, which is not so {where}"


# -- time -----------------------------------------------------------------------------------------------------------


def _within(window: Window, schema: Schema) -> dict[str, Any]:
    """The events of a window; one without a time could lie in it, and is taken."""
    if not window.bounded:
        return {"match_all": {}}
    bounds: dict[str, Any] = {"format": "epoch_millis"}
    if window.start is not None:
        bounds["gte"] = window.start
    if window.end is not None:
        bounds["lt"] = window.end
    timeless = {"bool": {"must_not": [{"exists": {"field": schema.time}}]}}
    return {"bool": {"should": [{"range": {schema.time: bounds}}, timeless], "minimum_should_match": 1}}


def _narrowed(when: Searched, window: Window) -> Searched:
    start = when.start if window.start is None else max(when.start, window.start)
    end = when.end if window.end is None else min(when.end, window.end - 1)
    return Searched(start, end)
