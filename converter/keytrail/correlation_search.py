"""Running a correlation's plan on a real Elasticsearch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keytrail import correlation_engine
from keytrail.cluster import KEEP, Cluster, named_errors, whole
from keytrail.correlation import Correlation, Episode, Group, Searched
from keytrail.correlation_engine import Event, Marker, Sorter
from keytrail.correlation_plan import PAGE
from keytrail.errors import ClusterError
from keytrail.schemas import Schema

AT_ONCE = 100  # groups in a request; a node surely takes 1,024 clauses
Counts = dict[Group, dict[int, dict[str, int]]]


@dataclass(frozen=True)
class Stretch:
    """A group and a time, from ``start`` to before ``end``, where a window may match; ``rules`` have events there."""

    group: Group
    start: int
    end: int
    rules: frozenset[str]


def search(
    cluster: Cluster,
    index: str,
    correlation: Correlation,
    plan: Mapping[str, Any],
    schema: Schema,
    searched: Searched | None = None,
) -> list[Episode]:
    """Return the hits of a correlation in an index, by group and time.

    Parameters: ``plan`` is the body of the correlation's conversion for ``schema``; ``searched`` is the time to search,
    by default from the first event in the index to the last. Raises :class:`ClusterError` and :class:`NodeError`.
    """
    with named_errors(f"search {index}"), cluster.point_in_time(index) as pit:
        when = searched or everything(cluster, pit, schema)
        return [] if when is None else list(search_at(cluster, pit, correlation, plan, schema, when))


def search_at(
    cluster: Cluster,
    pit: str,
    correlation: Correlation,
    plan: Mapping[str, Any],
    schema: Schema,
    searched: Searched,
    silent: Collection[str] = (),
) -> Iterator[Episode]:
    """Yield the hits of a correlation at a point in time, by group and time. Within ``named_errors``.

    Parameters: ``silent`` are those of its rules that are known to have no event there; they are not asked.
    """
    asked = {name: searches for name, searches in plan["rules"].items() if name not in silent}
    return _Search(cluster, pit, correlation, asked, schema).episodes(searched)


def everything(cluster: Cluster, pit: str, schema: Schema) -> Searched | None:
    """Return the time from the first to the last event at a point in time; None where there is none.

    Within ``named_errors``.
    """
    ends = {name: {name: {"field": schema.time}} for name in ("min", "max")}
    at = {"id": pit, "keep_alive": KEEP}
    answer = cluster.client.search(pit=at, size=0, aggs=ends, allow_partial_search_results=False)
    found = whole(answer.body, "the search for the first and the last event")["aggregations"]
    if found["min"]["value"] is None:
        return None
    return Searched(int(found["min"]["value"]), int(found["max"]["value"]))


class _Search:
    def __init__(
        self, cluster: Cluster, pit: str, correlation: Correlation, rules: Mapping[str, Any], schema: Schema
    ) -> None:
        self._client = cluster.client
        self._pit = pit
        self._correlation = correlation
        self._rules = rules
        self._schema = schema

    def _ask(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        pit = {"id": self._pit, "keep_alive": KEEP}
        given = {("source" if key == "_source" else key): value for key, value in body.items()}
        answer = self._client.search(**given, pit=pit, allow_partial_search_results=False)
        whole(answer.body, "a correlation's search")
        self._pit = str(answer.get("pit_id", self._pit))
        return dict(answer.body)

    def episodes(self, searched: Searched) -> Iterator[Episode]:
        time = {"gte": searched.start, "lt": searched.end + 1, "format": "epoch_millis"}
        within = {"range": {self._schema.time: time}}
        sorter = Sorter()
        if self._correlation.rising:
            stretches = list(candidates(self._correlation, self._counts(within)))
            for rule in self._rules:
                wanted = [stretch for stretch in stretches if rule in stretch.rules]
                for start in range(0, len(wanted), AT_ONCE):
                    self._fetch(rule, sorter, within, wanted[start : start + AT_ONCE])
        else:
            for rule in self._rules:
                self._fetch(rule, sorter, within, None)
        yield from correlation_engine.episodes(self._correlation, sorter.sorted(), searched)

    # -- step 1 -----------------------------------------------------------------------------------------------------

    def _counts(self, within: Mapping[str, Any]) -> Counts:
        """What each rule has in each bucket of each group: values where those are counted, else events."""
        counts: Counts = {}
        for rule, searches in self._rules.items():
            for bucket in self._buckets(searches["candidates"], within):
                *group, time = bucket["key"].values()
                found = counts.setdefault(tuple(map(str, group)), {}).setdefault(int(time), {})
                values = bucket.get("values")
                found[rule] = bucket["doc_count"] if values is None else int(values["value"])
        return counts

    def _buckets(self, body: Mapping[str, Any], within: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        buckets = body["aggs"]["buckets"]
        composite = dict(buckets["composite"])
        while True:
            asked = {
                **body,
                "query": _both(body["query"], within),
                "aggs": {"buckets": {**buckets, "composite": composite}},
            }
            found = self._ask(asked)["aggregations"]["buckets"]
            yield from found["buckets"]
            if len(found["buckets"]) < PAGE:
                return
            composite["after"] = found["after_key"]

    # -- step 2 -----------------------------------------------------------------------------------------------------

    def _fetch(self, rule: str, sorter: Sorter, within: Mapping[str, Any], stretches: Sequence[Stretch] | None) -> None:
        searches = self._rules[rule]
        marker = Marker(self._correlation, rule, self._schema)
        wanted = [_both(searches["events"]["query"], within)]
        if stretches is not None:
            wanted.append(_any_of(stretches, searches["group_fields"], self._schema.time))
        for hit in self._hits({**searches["events"], "query": {"bool": {"filter": wanted}}}):
            if "_source" not in hit:
                hint = "a correlation is decided on the events' own fields"
                raise ClusterError(f"the index {hit['_index']} does not keep _source", hint=hint)
            sorter.add(marker.marks(Event(self._schema, hit["_source"], f"{hit['_index']}/{hit['_id']}")))

    def _hits(self, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        after: Mapping[str, Any] = {}
        while True:
            hits = self._ask({**body, **after})["hits"]["hits"]
            yield from hits
            if len(hits) < PAGE:
                return
            after = {"search_after": hits[-1]["sort"]}


def candidates(correlation: Correlation, counts: Counts) -> Iterator[Stretch]:
    """Yield where a window may match: a window that begins in one bucket ends in the next one at the latest."""
    span = correlation.timespan
    for group, buckets in counts.items():
        runs: list[list[int]] = []
        for bucket in sorted(buckets):
            if _may_hold(correlation, (buckets[bucket], buckets.get(bucket + span, {}))):
                if not runs or bucket > runs[-1][-1]:
                    runs.append([])
                runs[-1] += [bucket, bucket + span]
        for run in runs:
            rules = frozenset(rule for bucket in run for rule in buckets.get(bucket, ()))
            yield Stretch(group, run[0], run[-1] + span, rules)


def _may_hold(correlation: Correlation, pair: Collection[Mapping[str, int]]) -> bool:
    """Tell whether a window within two buckets could match, by what they have together."""
    if correlation.type == "value_count" and len(correlation.fields) > 1:
        return True  # how many combinations of values an event has is not counted
    if correlation.type in ("event_count", "value_count"):
        # An event that several rules match, or that is there twice, is counted more than once: never too few.
        return correlation.counts(sum(sum(bucket.values()) for bucket in pair))
    return correlation.present({rule for bucket in pair for rule, count in bucket.items() if count})


def _both(query: Mapping[str, Any], within: Mapping[str, Any]) -> dict[str, Any]:
    return {"bool": {"filter": [query, within]}}


def _any_of(stretches: Iterable[Stretch], fields: Sequence[str], time: str) -> dict[str, Any]:
    """The events of some groups at some times."""
    found = []
    for stretch in stretches:
        when = {"gte": stretch.start, "lt": stretch.end, "format": "epoch_millis"}
        terms = [{"term": {name: {"value": value}}} for name, value in zip(fields, stretch.group, strict=True)]
        found.append({"bool": {"filter": [*terms, {"range": {time: when}}]}})
    return {"bool": {"should": found, "minimum_should_match": 1}}
