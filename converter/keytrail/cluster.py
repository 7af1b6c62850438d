"""Talk to a real Elasticsearch: one that runs somewhere, or a node started for the purpose.

A thin layer over the ``elasticsearch`` client 8.19, which works with servers 8.19 and 9. It adds what the
client does not do by itself: part of an answer is never taken for all of it, and every failure becomes a
named error. A node of OpenSearch that was started for a proof is talked to in the same way.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import elasticsearch
from elastic_transport import HttpHeaders, Urllib3HttpNode
from elasticsearch import Elasticsearch, helpers

from keytrail import node
from keytrail.errors import ClusterError, NodeError, UsageError

SECONDS = 60.0  # that a request may take
AT_ONCE = 100  # queries in a request
PAGE = 10_000  # hits in an answer; the most that an index gives by default
CREDENTIALS = (
    "set ELASTICSEARCH_API_KEY (or ELASTICSEARCH_API_KEY_FILE), or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD"
)
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
    address = _checked(url)
    options: dict[str, Any] = {} if anonymous else _credentials()
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


def _checked(url: str) -> str:
    """Return the URL with its port. No error repeats what may hold a secret."""
    if "@" in url:
        raise UsageError("credentials do not belong into the URL of Elasticsearch", hint=CREDENTIALS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} is no URL", hint="give http(s)://host:port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no URL of an Elasticsearch", hint="give http(s)://host:port")
    if parts.query or parts.fragment:
        hint = f"leave out all from ? or # on, and {CREDENTIALS}"
        raise UsageError("the URL of Elasticsearch goes on after its path", hint=hint)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _key_in_file() -> str | None:
    """The key in the file that ELASTICSEARCH_API_KEY_FILE names, as secrets are given to containers."""
    path = os.environ.get("ELASTICSEARCH_API_KEY_FILE")
    if not path:
        return None
    try:
        key = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the API key cannot be read", path=path, hint="a file with the key alone") from error
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("holds no API key", path=path, hint="a file with the key alone, as Elasticsearch encodes it")
    return key


def _credentials() -> dict[str, Any]:
    key = os.environ.get("ELASTICSEARCH_API_KEY") or _key_in_file()
    user, password = os.environ.get("ELASTICSEARCH_USERNAME"), os.environ.get("ELASTICSEARCH_PASSWORD")
    if key:
        return {"api_key": key}
    if user and password:
        return {"basic_auth": (user, password)}
    if user or password:
        message = "ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD go together"
        raise UsageError(message, hint="set both or neither")
    return {}


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

        One that Elasticsearch rejects has its error as its answer. To be used within ``named_errors``.
        """
        try:
            return list(self.client.msearch(searches=[line for search in searches for line in search])["responses"])
        except elasticsearch.BadRequestError as error:
            # A query that cannot be parsed spoils the whole request: halve it until that query is alone.
            if len(searches) == 1:
                return [{"error": error.body["error"] if isinstance(error.body, Mapping) else str(error)}]
            half = len(searches) // 2
            return self.ask(searches[:half]) + self.ask(searches[half:])

    def _result(
        self, index: str, name: str, query: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> frozenset[str] | ClusterError:
        if "error" in answer:
            return ClusterError(f"Elasticsearch rejects the query {name!r}: {reason(answer['error'])}")
        if answer["timed_out"] or answer["_shards"]["failed"]:
            return ClusterError(f"Elasticsearch answers only a part of the query {name!r}")
        hits = answer["hits"]["hits"]
        if len(hits) < PAGE:
            return frozenset(hit["_id"] for hit in hits)
        try:
            return frozenset(self._every_id(index, query))
        except ClusterError as error:
            return ClusterError(f"the query {name!r}: {error.message}", hint=error.hint)

    def _every_id(self, index: str, query: Mapping[str, Any]) -> Iterator[str]:
        """Yield the ids of more hits than fit an answer, page by page from one point in time."""
        with named_errors(f"page through {index}"):
            pit = self.client.open_point_in_time(index=index, keep_alive="5m")["id"]
            try:
                after = None
                while True:
                    page = self.client.search(
                        pit={"id": pit, "keep_alive": "5m"},
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
            finally:
                self.client.close_point_in_time(id=pit)


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
        hint = _login_hint() if error.status_code == 401 else None
        raise ClusterError(f"could not {doing}: {why} (status {error.status_code})", hint=hint) from error
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


def _login_hint() -> str:
    """What to do about a login that failed: nothing was given, or it is wrong."""
    given = [
        name for name in ("API_KEY", "API_KEY_FILE", "USERNAME", "PASSWORD") if os.environ.get(f"ELASTICSEARCH_{name}")
    ]
    used = given[:1] if given[:1] in (["API_KEY"], ["API_KEY_FILE"]) else given
    return f"check {' and '.join(f'ELASTICSEARCH_{name}' for name in used)}" if used else CREDENTIALS


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
