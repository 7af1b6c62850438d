"""Queries tried on events in a temporary index that is like the real one, and gone afterwards whatever happens."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from keytrail.cluster import named_errors
from keytrail.engine import compile_query
from keytrail.errors import ClusterError, KeytrailError
from keytrail.mapping import flat_settings
from keytrail.schemas import Schema

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
META = {"keytrail": "a temporary index of 'keytrail verify'; it can be deleted"}
# Types that some servers lack (they are no part of the bare server), and what stands in for them there.
STAND_INS = {"wildcard": "keyword", "match_only_text": "text", "constant_keyword": "keyword"}
Documents = Mapping[str, Mapping[str, Any]]
Queries = Mapping[str, Mapping[str, Any]]


@dataclass
class Trial:
    """What came of it. ``engine`` says where; ``notes`` what was done in another way than asked, and why.

    ``refused`` leads from the events that the index would refuse to the reason, ``rejected`` from queries to errors.
    """

    engine: str
    notes: list[str] = field(default_factory=list)
    hits: dict[str, frozenset[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)


def embedded(schema: Schema, queries: Queries, documents: Documents) -> Trial:
    """Try the queries in the engine of this process. No event is refused there."""
    trial = Trial("the embedded engine")
    for name, query in queries.items():
        try:
            matches = compile_query(query, schema.mapping)
        except KeytrailError as error:
            trial.rejected[name] = error.message
            continue
        trial.hits[name] = frozenset(key for key, document in documents.items() if matches(document))
    return trial


def on_cluster(cluster: Cluster, schema: Schema, queries: Queries, documents: Documents) -> Trial:
    """Try the queries on a real Elasticsearch; where it lets no temporary index be made, in the embedded engine.

    Raises :class:`ClusterError` and :class:`NodeError` for what has nothing to do with the index's creation.
    """
    notes: list[str] = []
    plain = with_stand_ins(schema.body)
    for body in (schema.body, plain)[: 1 if plain == schema.body else 2]:
        try:
            return _tried(cluster, body, queries, documents, notes)
        except _NotMade as error:
            if _status(error.cause) == 403:
                notes.append(f"{cluster.url} lets no temporary index be made: {error.cause.message}")
                break
            notes.append(f"{cluster.url} does not take this mapping: {error.cause.message}")
            if body is schema.body and plain != body:
                notes.append(f"the types {', '.join(_lacking(body))} are not proven there: others stand in for them")
    trial = embedded(schema, queries, documents)
    trial.notes = [*notes, "tried in the embedded engine instead; --prove-on URL names another Elasticsearch"]
    return trial


def version(cluster: Cluster) -> str:
    """Return the server's version, which a key with few privileges may not know."""
    try:
        return cluster.version
    except ClusterError:
        return "of unknown version"


class _NotMade(Exception):
    """The index could not be created."""

    def __init__(self, cause: ClusterError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _tried(
    cluster: Cluster, body: Mapping[str, Any], queries: Queries, documents: Documents, notes: list[str]
) -> Trial:
    names = list(documents)
    with temporary_index(cluster, body) as index:
        refused = cluster.load(index, ((str(n), documents[name]) for n, name in enumerate(names)))
        found = cluster.search_each(index, queries)
    trial = Trial(f"Elasticsearch {version(cluster)} at {cluster.url}", notes)
    trial.refused = {names[int(number)]: reason for number, reason in refused.items()}
    for name, result in found.items():
        if isinstance(result, ClusterError):
            trial.rejected[name] = result.message
        else:
            trial.hits[name] = frozenset(names[int(number)] for number in result)
    return trial


@contextmanager
def temporary_index(cluster: Cluster, body: Mapping[str, Any]) -> Iterator[str]:
    """Create an index, yield its name and delete it, also on errors and on the signals that end a process.

    A signal waits while the index is being made or deleted; a second one does not keep it from being deleted.
    """
    name = f"keytrail-{uuid.uuid4().hex}"
    with _Signals() as signals, ExitStack() as stack:
        stack.callback(_delete, cluster, name)
        with signals.held():
            try:
                with named_errors("create a temporary index"):
                    cluster.client.options(max_retries=0).indices.create(index=name, body=_temporary(body))
            except ClusterError as error:
                if _status(error) in (400, 403):
                    stack.pop_all()
                    raise _NotMade(error) from error
                raise
        stack.callback(signals.hold)
        yield name


def _temporary(body: Mapping[str, Any]) -> dict[str, Any]:
    # Documents come as a pipeline has left them; a template may name one all the same.
    own = {"number_of_shards": 1, "number_of_replicas": 0, "default_pipeline": "_none", "final_pipeline": "_none"}
    settings = {f"index.{key}": value for key, value in {**flat_settings(body.get("settings") or {}), **own}.items()}
    return {"settings": settings, "mappings": {**body["mappings"], "_meta": META}}


def _delete(cluster: Cluster, name: str) -> None:
    with named_errors(f"delete the temporary index {name}"):
        cluster.client.options(ignore_status=404).indices.delete(index=name)


class _Signals:
    """Makes the first signal that would end the process an exception, and those after it wait for the end."""

    def __enter__(self) -> _Signals:
        self.caught: int | None = None
        self.holding = False
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._take) for number in dict.fromkeys(SIGNALS)}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.caught is not None and kind is None:
            raise Stopped(self.caught)

    def _take(self, number: int, frame: FrameType | None) -> None:
        first, self.caught = self.caught is None, number
        if first and not self.holding:
            raise Stopped(number)

    def hold(self) -> None:
        """Let signals wait from now on."""
        self.holding = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait, and raise the one that came once the block has ended well."""
        self.holding = True
        yield
        self.holding = False
        if self.caught is not None:
            raise Stopped(self.caught)


class Stopped(KeyboardInterrupt):
    """The process was told to end, by the signal ``number``; what it had made is gone."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def with_stand_ins(node: Any) -> Any:
    """Return a mapping with the types that a bare server lacks replaced by those that answer alike."""
    if isinstance(node, Mapping):
        made = {key: with_stand_ins(value) for key, value in node.items()}
        kind = made.get("type")
        if isinstance(kind, str) and kind in STAND_INS:
            made["type"] = STAND_INS[kind]
            made.pop("value", None)
        return made
    return [with_stand_ins(element) for element in node] if isinstance(node, list) else node


def _lacking(body: Mapping[str, Any]) -> list[str]:
    found: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, Mapping):
            kind = node.get("type")
            found.update({kind} & set(STAND_INS) if isinstance(kind, str) else ())
            for value in node.values():
                walk(value)

    walk(body["mappings"])
    return sorted(found)


def _status(error: BaseException | None) -> int | None:
    """The status of the answer that is behind an error."""
    while error is not None:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None
