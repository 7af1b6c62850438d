"""Indexing CloudTrail records: each under an id of its own content, none lost, and a run that was stopped goes on.

A document's id follows from the record, and a document that is there already stays as it is: the same event twice is
one document, and loading twice changes nothing. A record that the index refuses is counted by its
reason and kept aside.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from elasticsearch import helpers

from keytrail.cluster import named_errors, reason
from keytrail.errors import ClusterError
from keytrail.records import MAX_KEPT, Record
from keytrail.schemas import Schema
from keytrail.visible import path_text

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

CHUNK = 1000  # documents in a request, as long as they are small
CHUNK_BYTES = 8 << 20  # a larger document is sent alone
RETRIES = 8  # of what Elasticsearch is too busy for, at growing distances: about four minutes
THERE, BUSY = 409, 429
RECORD_FAULTS = (400, 413)  # what is wrong with the record; anything else is wrong with the index or the cluster


@dataclass
class Loaded:
    """What became of the records: ``taken`` are new in the index, ``there`` were in it already.

    ``refused`` counts by reason; ``refusals`` says of the first thousand where each stands: file, number and reason.
    """

    records: int = 0
    taken: int = 0
    there: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[tuple[str, int, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        shape = {"records": self.records, "taken": self.taken, "there": self.there, "refused": self.refused.total()}
        listed = [{"path": path_text(path), "record": number, "reason": why} for path, number, why in self.refusals]
        return {**shape, "reasons": dict(self.refused), "refusals": listed}


def document_id(record: Mapping[str, Any]) -> str:
    """Return the id of a record's document: its eventID, where it has one, and a digest of all that it says.

    The order of keys and the white space between them do not matter; two records that share an eventID and differ are
    two documents.
    """
    content = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(content).hexdigest()[:32]
    given = record.get("eventID")
    usable = isinstance(given, str) and given.isascii() and given.replace("-", "").isalnum() and len(given) <= 64
    return f"{given}-{digest}" if usable else digest


def create_index(cluster: Cluster, index: str, schema: Schema) -> bool:
    """Create the index as ``schema`` wants it, unless there is one; tell whether it was created.

    Errors: :class:`ClusterError`, :class:`NodeError`.
    """
    with named_errors(f"create the index {index}"):
        if cluster.client.indices.exists(index=index):
            return False
        cluster.client.options(max_retries=0).indices.create(index=index, body=dict(schema.body))
    return True


def load(
    cluster: Cluster,
    index: str,
    schema: Schema,
    records: Iterable[Record],
    *,
    aside: Callable[[bytes], object],
    done: Callable[[str], object] = lambda path: None,
    progress: Callable[[Loaded], object] = lambda loaded: None,
) -> Loaded:
    """Index records as documents of ``schema``, each under the id that follows from it.

    Parameters: ``aside`` is given each record that the index refuses, as one line of JSON; ``done`` is told of each
    file whose records have all been answered for; ``progress`` is called now and then.
    Errors: :class:`ClusterError` and :class:`NodeError` where the cluster cannot go on. What was indexed until then
    stays, and loading again does not index it twice.
    """
    run = _Load(index, schema)
    with named_errors(f"load records into {index}"):
        answers = helpers.streaming_bulk(
            cluster.client,
            run.actions(records),
            chunk_size=CHUNK,
            max_chunk_bytes=CHUNK_BYTES,
            raise_on_error=False,
            ignore_status=(413,),
            max_retries=RETRIES,
            initial_backoff=1,
            max_backoff=60,
        )
        for taken, answer in answers:
            line = run.answered(taken, next(iter(answer.values())))
            if line is not None:
                aside(line)
            for path in run.finished():
                done(path)
            if run.loaded.records % CHUNK == 0:
                progress(run.loaded)
        cluster.client.indices.refresh(index=index)
    for path in run.finished(last=True):
        done(path)
    progress(run.loaded)
    return run.loaded


class _Load:
    """Records on their way: which were sent, and which files have been answered for."""

    def __init__(self, index: str, schema: Schema) -> None:
        self.loaded = Loaded()
        self._index = index
        self._schema = schema
        self._sent: defaultdict[str, list[Record]] = defaultdict(list)
        self._open: Counter[str] = Counter()
        self._at: str | None = None
        self._finished: list[str] = []

    def actions(self, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
        for record in records:
            name = document_id(record.record)
            self._sent[name].append(record)
            if record.path != self._at:
                self._leave()
                self._at = record.path
            self._open[record.path] += 1
            self.loaded.records += 1
            source = self._schema.document(record.record)
            yield {"_op_type": "create", "_index": self._index, "_id": name, "_source": source}

    def answered(self, taken: bool, answer: Mapping[str, Any]) -> bytes | None:
        """Note what became of a document; return its record where the index refuses it."""
        waiting = self._sent[answer["_id"]]
        record = waiting.pop(0)
        if not waiting:
            del self._sent[answer["_id"]]
        self._open[record.path] -= 1
        if record.path != self._at:
            self._settle(record.path)
        status = answer["status"]
        if taken:
            self.loaded.taken += 1
        elif status == THERE:
            self.loaded.there += 1
        elif status in RECORD_FAULTS:
            why = reason(answer["error"])
            self.loaded.refused[_kind(why)] += 1
            if len(self.loaded.refusals) < MAX_KEPT:
                self.loaded.refusals.append((record.path, record.number, why))
            return orjson.dumps(record.record, option=orjson.OPT_APPEND_NEWLINE)
        else:
            hint = (
                "it is overloaded" if status == BUSY else "the index, or the key that you use, does not take documents"
            )
            raise ClusterError(
                f"could not load {record.path}, record {record.number}: {reason(answer['error'])} (status {status})",
                hint=f"{hint}; run the same command again: what is there already stays as it is",
            )
        return None

    def finished(self, *, last: bool = False) -> list[str]:
        """Return the files that have been answered for since the last time; the one being read is not among them."""
        if last:
            self._leave()
        found, self._finished = self._finished, []
        return found

    def _leave(self) -> None:
        """No more records will come of the file that was being read."""
        if self._at is not None:
            self._settle(self._at)

    def _settle(self, path: str) -> None:
        if not self._open[path]:
            del self._open[path]
            self._finished.append(path)


def _kind(why: str) -> str:
    """A reason without what differs from one record to the next: the kinds of errors alone."""
    return " because of ".join(part.partition(":")[0] for part in why.split("; because of "))
