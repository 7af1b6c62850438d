"""Talk to a real Elasticsearch: one that runs somewhere, or a node started for the purpose.

A thin layer over the ``elasticsearch`` client 8.19, which works with servers 8.19 and 9. It adds what the
client does not do by itself: part of an answer is never taken for all of it, and every failure, and every
answer that Elasticsearch would not give, becomes a named error. A node of OpenSearch that was started for a
proof is talked to in the same way.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import elasticsearch
from elastic_transport import HttpHeaders, Urllib3HttpNode
from elasticsearch import Elasticsearch, helpers

from keytrail import login, node
from keytrail.errors import ClusterError, KeytrailError, NodeError, Rejected, UsageError

SECONDS = 60.0  # that a request may take
AT_ONCE = 100  # queries in a request
KEEP = "5m"  # for which a point in time waits for the next question
PAGE = 10_000  # hits in an answer; the most that an index gives by default
BAD, BUSY = 400, (429, 502, 503, 504)
WAITS = (1, 2, 4)  # seconds before a search that the cluster is too busy for is asked again
# A query that fails on one shard, or an index that is not there, is an error and not a smaller answer.
IDS = {"size": PAGE, "_source": False, "sort": ["_doc"]}
STRICT = {"allow_partial_search_results": False, "allow_no_indices": False, "ignore_unavailable": False}


class _OpenSearchNode(Urllib3HttpNode):
    """Speaks plain JSON, which OpenSearch takes, for a client that names Elasticsearch's own types of content.

    The client takes answers of its own product alone, so it is told that this is one: what it uses here is the same.
    """

    def perform_request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        *rest: Any,
        **more: Any,
    ) -> Any:
        plain = HttpHeaders(headers or {})
        for name, value in list(plain.items()):
            if "vnd.elasticsearch" in value:
                plain[name] = "application/x-ndjson" if "ndjson" in value else "application/json"
        answer = super().perform_request(method, target, body, plain, *rest, **more)
        told = HttpHeaders({**answer.meta.headers, "x-elastic-product": "Elasticsearch"})
        return answer._replace(meta=replace(answer.meta, headers=told))


def connect(url: str, *, anonymous: bool = False, product: str = "Elasticsearch") -> Cluster:
    """Return the cluster at a URL. Nothing is sent yet.

    Parameters: ``url`` is http(s)://host:port; ``product`` is Elasticsearch or OpenSearch; ``anonymous`` sends no
    credentials. Otherwise they are taken from the environment: ELASTICSEARCH_API_KEY, the file that
    ELASTICSEARCH_API_KEY_FILE names, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD. TLS certificates are
    always verified, against those of ELASTICSEARCH_CA_CERTS if set.

    Errors: ``UsageError`` for a URL or variables that cannot be used.
    """
    address = login.checked(url)
    options: dict[str, Any] = {} if anonymous else login.credentials()
    authorities = os.environ.get("ELASTICSEARCH_CA_CERTS")
    if authorities and address.startswith("https:"):
        try:
            # The client would go on trusting the system's authorities beside these.
            options["ssl_context"] = ssl.create_default_context(cafile=authorities)
        except OSError as error:  # an SSLError is one
            message = f"ELASTICSEARCH_CA_CERTS cannot be used: {error}"
            raise UsageError(message, path=authorities, hint="name a file of certificates in PEM format") from error
    if product == "OpenSearch":
        options["node_class"] = _OpenSearchNode
    client = Elasticsearch(address, request_timeout=SECONDS, **options)
    return Cluster(client, address, product)


@contextlib.contextmanager
def real_elasticsearch(
    url: str | None = None, version: str = "8", report: Callable[[str], None] | None = None
) -> Iterator[Cluster]:
    """Yield the cluster at ``url``, else at ELASTICSEARCH_URL, else a node that is started and stopped again.

    Parameters: ``version`` and ``report`` are passed on to ``keytrail.node.start``; a version other than "8" is always
    started.
    Errors: those of ``connect`` and ``keytrail.node.start``.
    """
    url = url or (os.environ.get("ELASTICSEARCH_URL") if version == "8" else None)
    with contextlib.ExitStack() as stack:
        if url:
            cluster = connect(url)
        else:
            running = stack.enter_context(node.start(version, report=report))
            cluster = connect(running.url, anonymous=True, product=running.server.product)
        stack.callback(cluster.client.close)
        yield cluster


class Cluster:
    """A real server: ``url`` is its address, ``client`` the client, to be used within ``named_errors``."""

    def __init__(self, client: Elasticsearch, url: str, product: str = "Elasticsearch") -> None:
        self.client = client
        self.url = url
        self.product = product

    @property
    def version(self) -> str:
        """The full version of the server. Errors: as ``named_errors``."""
        with named_errors(f"ask {self.url} for its version"):
            try:
                return str(self.client.info()["version"]["number"])
            except elasticsearch.ApiError as error:
                if error.status_code in (401, 403):
                    raise
            # A node without the module that serves GET /, such as the one that keytrail.node starts.
            nodes = self.client.nodes.info(node_id="_local", metric="_none", filter_path="nodes.*.version")["nodes"]
            return str(next(iter(nodes.values()))["version"])

    @contextlib.contextmanager
    def temporary_index(self, body: Mapping[str, Any]) -> Iterator[str]:
        """Create an index, yield its name, and delete it whatever happens.

        Parameters: ``body`` is what ``PUT /index`` takes. Errors: as ``named_errors``.
        """
        name = f"keytrail-{uuid.uuid4().hex}"
        try:
            with named_errors("create a temporary index"):
                # A repeated request would be told that the index exists.
                self.client.options(max_retries=0).indices.create(index=name, body=dict(body))
            yield name
        finally:
            with named_errors(f"delete the temporary index {name}"):
                self.client.options(ignore_status=404).indices.delete(index=name)

    def load(self, index: str, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
        """Index documents, each under its own id, and make them visible to searches.

        Returns the reason for each document that Elasticsearch refuses: an empty dictionary when it took them
        all. Errors: ``ClusterError`` for an id that comes twice; as ``named_errors``.
        """
        seen: set[str] = set()

        def actions() -> Iterator[dict[str, Any]]:
            for name, document in documents:
                if name in seen:
                    raise ClusterError(f"two documents have the id {name!r}", hint="give each its own id")
                seen.add(name)
                yield {"_op_type": "index", "_index": index, "_id": name, "_source": dict(document)}

        refused = {}
        with named_errors(f"load documents into {index}"):
            answers = helpers.streaming_bulk(self.client, actions(), raise_on_error=False, max_retries=3)
            for taken, answer in answers:
                if not taken:
                    (result,) = answer.values()
                    refused[str(result["_id"])] = reason(result["error"])
            self.client.indices.refresh(index=index)
        return refused

    def search(self, index: str, queries: Mapping[str, Mapping[str, Any]]) -> dict[str, frozenset[str]]:
        """Return the ids of all documents that each query matches.

        Parameters: ``index`` is a name or a pattern; ``queries`` are Query DSL, by a name of your choice.
        Errors: ``ClusterError`` that names the query when one is rejected; as ``named_errors``.
        """
        found = {}
        for name, result in self.search_each(index, queries).items():
            if isinstance(result, ClusterError):
                raise result
            found[name] = result
        return found

    def search_each(
        self, index: str, queries: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, frozenset[str] | ClusterError]:
        """Like ``search``, but a query that Elasticsearch rejects has its error as its result."""
        names = list(queries)
        results: dict[str, frozenset[str] | ClusterError] = {}
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            with named_errors(f"search {index}"):
                header = {"index": index, **STRICT}
                answers = self.ask([(header, {"query": queries[name], **IDS}) for name in batch])
            for name, answer in zip(batch, answers, strict=True):
                results[name] = self._result(index, name, queries[name], answer)
        return results

    def ask(self, searches: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
        """Send searches together, each a header and a body as _msearch takes them, and return an answer for each.

        One that Elasticsearch rejects has its error as its answer, and so has one that it has no memory for by itself.
        What it is too busy for is asked again, one after the other: together, a few large expressions are too much for
        a small node. Raises :class:`ClusterError` where it stays so. To be used within ``named_errors``.
        """
        answers = self._asked(searches)
        for wait in WAITS:
            busy = [place for place, answer in enumerate(answers) if _is_busy(answer)]
            if not busy:
                break
            time.sleep(wait)
            for place, answer in zip(busy, self._asked([searches[place] for place in busy], at_once=1), strict=True):
                answers[place] = answer
        for answer in filter(_is_busy, answers):
            why = reason(answer["error"])
            if not why.startswith("circuit_breaking_exception"):
                raise ClusterError(f"Elasticsearch is too busy: {why} (status {answer['status']})")
        return answers

    def _asked(
        self, searches: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], at_once: int | None = None
    ) -> list[Mapping[str, Any]]:
        try:
            lines = [line for search in searches for line in search]
            return list(self.client.msearch(searches=lines, max_concurrent_searches=at_once)["responses"])
        except elasticsearch.BadRequestError as error:
            # A query that cannot be parsed spoils the whole request: halve it until that query is alone.
            if len(searches) == 1:
                return [
                    {"error": error.body["error"] if isinstance(error.body, Mapping) else str(error), "status": BAD}
                ]
            half = len(searches) // 2
            return self._asked(searches[:half], at_once) + self._asked(searches[half:], at_once)

    def _result(
        self, index: str, name: str, query: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> frozenset[str] | ClusterError:
        if "error" in answer:
            return ClusterError(f"Elasticsearch rejects the query {name!r}: {reason(answer['error'])}")
        try:
            hits = whole(answer, f"the query {name!r}")["hits"]["hits"]
        except ClusterError as error:
            return error
        if len(hits) < PAGE:
            return frozenset(hit["_id"] for hit in hits)
        try:
            return frozenset(self._every_id(index, query))
        except ClusterError as error:
            return ClusterError(f"the query {name!r}: {error.message}", hint=error.hint)

    def _every_id(self, index: str, query: Mapping[str, Any]) -> Iterator[str]:
        """Yield the ids of more hits than fit an answer, page by page from one point in time."""
        with named_errors(f"page through {index}"), self.point_in_time(index) as pit:
            after = None
            while True:
                page = self.client.search(
                    pit={"id": pit, "keep_alive": KEEP},
                    query=query,
                    size=PAGE,
                    sort=["_shard_doc"],
                    search_after=after,
                    source=False,
                    track_total_hits=False,
                    allow_partial_search_results=False,
                )
                hits = page["hits"]["hits"]
                yield from (hit["_id"] for hit in hits)
                if len(hits) < PAGE:
                    return
                after = hits[-1]["sort"]

    @contextlib.contextmanager
    def point_in_time(self, index: str, check: Callable[[int], None] = lambda shards: None) -> Iterator[str]:
        """Yield a point in time of an index, so that all answers agree, and close it. Within ``named_errors``.

        Parameters: ``check`` is told how many shards it holds.
        """
        opened = self.client.open_point_in_time(index=index, keep_alive=KEEP)
        pit = str(opened["id"])
        try:
            check(int(opened["_shards"]["total"]))
            yield pit
        finally:
            # One that has waited too long is gone already.
            self.client.options(ignore_status=404).close_point_in_time(id=pit)


@contextlib.contextmanager
def named_errors(doing: str) -> Iterator[None]:
    """Turn the client's exceptions into named errors that say what was being done.

    Errors: ``NodeError`` when Elasticsearch cannot be reached; ``ClusterError`` when it refuses, fails or
    does not answer in time.
    """
    try:
        yield
    except elasticsearch.UnsupportedProductError as error:
        raise ClusterError(f"could not {doing}: what answers is not Elasticsearch") from error
    except elasticsearch.ApiError as error:
        body = error.body
        why = reason(body["error"]) if isinstance(body, Mapping) and "error" in body else str(error)
        hint = login.hint() if error.status_code == 401 else None
        kind = Rejected if error.status_code == BAD else ClusterError
        raise kind(f"could not {doing}: {why} (status {error.status_code})", hint=hint) from error
    except elasticsearch.ConnectionTimeout as error:
        raise ClusterError(f"could not {doing}: no answer within {SECONDS:g} seconds") from error
    except elasticsearch.SSLError as error:
        hint = "set ELASTICSEARCH_CA_CERTS to the file of its certificate authority"
        if "WRONG_VERSION_NUMBER" in error.message or "record layer failure" in error.message:
            hint = "what answers there does not speak TLS: does the URL begin with http://?"
        raise NodeError(f"could not {doing}: the TLS connection fails: {error.message}", hint=hint) from error
    except elasticsearch.ConnectionError as error:
        hint = "check the URL (https or http, the port), and that Elasticsearch runs"
        raise NodeError(f"could not {doing}: Elasticsearch cannot be reached: {error.message}", hint=hint) from error
    except (elasticsearch.TransportError, elasticsearch.SerializationError) as error:
        raise ClusterError(f"could not {doing}: {error}") from error
    except KeytrailError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # What a dictionary lacks, or has in another type, was not said by Elasticsearch.
        why = f"what answers there does not answer as Elasticsearch does ({type(error).__name__}: {error})"
        raise ClusterError(f"could not {doing}: {why}", hint="is the URL that of Elasticsearch itself?") from error


def whole(answer: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return the answer of a search, if it is all of it. Raises :class:`ClusterError`."""
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise ClusterError(f"Elasticsearch answers only a part of {what}")
    return answer


def _is_busy(answer: Mapping[str, Any]) -> bool:
    return "error" in answer and answer.get("status") in BUSY


def has_no_scripts(error: ClusterError) -> bool:
    """Tell whether a query was rejected because the server has no painless, as one has that Keytrail starts."""
    return "script_lang not supported" in error.message


def reason(error: object) -> str:
    """Put Elasticsearch's error object in words: its root cause, and what caused that."""
    if not isinstance(error, Mapping):
        return str(error)
    step = (error.get("root_cause") or [error])[0]
    reasons = []
    while isinstance(step, Mapping):
        text = f"{step.get('type')}: {step.get('reason')}"
        if text not in reasons:
            reasons.append(text)
        step = step.get("caused_by")
    return "; because of ".join(reasons)
