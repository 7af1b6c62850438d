"""Indexing CloudTrail records: each under an id of its own content, none lost, and a run that was stopped goes on.

A document's id follows from the record, and a document that is there already stays as it is: the same event twice is
one document, and loading twice changes nothing. A record that the index refuses is counted by its
reason and kept aside. An index that is deleted on the way is noticed: Elasticsearch would make another one by itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from elasticsearch import BadRequestError, Elasticsearch, helpers

from keytrail import alerts
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
THERE, BUSY, TOO_LARGE = 409, 429, 413
RECORD_FAULTS = (400, TOO_LARGE)  # what is wrong with the record; anything else is wrong with the index or the cluster
# What is wrong with the index all the same, though its status is 400.
INDEX_FAULTS = (
    *("index_closed_exception", "invalid_index_name_exception"),
    *("illegal_argument_exception: no write index is defined", "illegal_argument_exception: pipeline with id"),
)


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
    digest = alerts.digest(record)
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
        try:
            cluster.client.options(max_retries=0).indices.create(index=index, body=dict(schema.body))
        except BadRequestError as error:
            if error.error != "resource_already_exists_exception":
                raise
            return False  # another run was faster
    return True


def identity(cluster: Cluster, index: str) -> str | None:
    """Return what tells an index from one that is made later under its name; None where there is none.

    A data stream and an alias have a new index now and then, and are told by their names alone. Errors: those of the
    cluster.
    """
    with named_errors(f"read the settings of {index}"):
        indices = cluster.client.options(ignore_status=404).indices
        found = indices.get_settings(index=index, name="index.uuid", flat_settings=True)
    if found.meta.status == 404:
        return None
    return str(found[index]["settings"]["index.uuid"]) if index in found.body else ""


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
    run = _Load(cluster, index, schema)
    progress(run.loaded)
    actions = run.actions(records)
    with named_errors(f"load records into {index}"):
        while run.more:
            for taken, answer in _answers(cluster.client, islice(actions, CHUNK), CHUNK):
                line = run.answered(taken, answer)
                if line is not None:
                    aside(line)
            run.check()
            for path in run.finished():
                done(path)
            progress(run.loaded)
        cluster.client.indices.refresh(index=index)
    return run.loaded


def _answers(
    client: Elasticsearch, actions: Iterable[dict[str, Any]], size: int
) -> Iterator[tuple[bool, Mapping[str, Any]]]:
    """Send ``actions``, so many in a request, and yield what became of each: whether it was taken, and the answer.

    A proxy may take less in a request than Elasticsearch does: what is too large together is sent again in halves.
    """
    again = []
    for taken, answered in helpers.streaming_bulk(
        client,
        actions,
        chunk_size=size,
        max_chunk_bytes=CHUNK_BYTES,
        raise_on_error=False,
        ignore_status=(TOO_LARGE,),
        max_retries=RETRIES,
        initial_backoff=1,
        max_backoff=60,
    ):
        answer = next(iter(answered.values()))
        if answer["status"] == TOO_LARGE and size > 1 and "data" in answer:
            place = {"_index": answer["_index"], "_id": answer["_id"]}
            again.append({"_op_type": "create", **place, "_source": answer["data"]})
        else:
            yield taken, answer
    if again:
        yield from _answers(client, again, (min(size, len(again)) + 1) // 2)


class _Load:
    """Records on their way: which were sent, and which files have been answered for.

    ``more`` says whether there are records that have not been sent yet.
    """

    def __init__(self, cluster: Cluster, index: str, schema: Schema) -> None:
        self.loaded = Loaded()
        self.more = True
        self._cluster = cluster
        self._identity = identity(cluster, index)
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
                self._leave_for(record.path)
            self._open[record.path] += 1
            self.loaded.records += 1
            source = self._schema.document(record.record)
            yield {"_op_type": "create", "_index": self._index, "_id": name, "_source": source}
        self.more = False
        self._leave_for(None)

    def check(self) -> None:
        """Raise :class:`ClusterError` where the index is another than in the beginning."""
        if identity(self._cluster, self._index) != self._identity:
            raise ClusterError(
                f"the index {self._index} was deleted while records were loaded into it, and what was in it is gone",
                hint="one that is there now is Elasticsearch's own, without our mapping: delete it, and load all again",
            )

    def answered(self, taken: bool, answer: Mapping[str, Any]) -> bytes | None:
        """Note what became of a document; return its record where the index refuses it."""
        record = self._record(answer["_id"])
        self._open[record.path] -= 1
        if record.path != self._at:
            self._settle(record.path)
        status, why = answer["status"], _not_there(answer) if taken else reason(answer.get("error"))
        if taken and not why:
            self.loaded.taken += 1
        elif status == THERE:
            self.loaded.there += 1
        elif taken or (status in RECORD_FAULTS and not why.startswith(INDEX_FAULTS)):
            self.loaded.refused[_kind(why)] += 1
            if len(self.loaded.refusals) < MAX_KEPT:
                self.loaded.refusals.append((record.path, record.number, why))
            return orjson.dumps(record.record, option=orjson.OPT_APPEND_NEWLINE)
        else:
            hint = (
                "it is overloaded" if status == BUSY else "the index, or the key that you use, does not take documents"
            )
            raise ClusterError(
                f"could not load {record.path}, record {record.number}: {why} (status {status})",
                hint=f"{hint}; run the same command again: what is there already stays as it is",
            )
        return None

    def _record(self, name: str) -> Record:
        """The record that an answer is about, by the document's id."""
        waiting = self._sent.get(name)
        if waiting is None:
            what = f"the index {self._index} has given a document an id of its own, {name!r}"
            raise ClusterError(
                what, hint="load into an index whose pipeline leaves _id alone: by it nothing is there twice"
            )
        record = waiting.pop(0)
        if not waiting:
            del self._sent[name]
        return record

    def finished(self) -> list[str]:
        """Return the files that have been answered for since the last time; the one being read is not among them."""
        found, self._finished = self._finished, []
        return found

    def _leave_for(self, path: str | None) -> None:
        """No more records will come of the file that was being read."""
        self._at, left = path, self._at
        if left is not None:
            self._settle(left)

    def _settle(self, path: str) -> None:
        if not self._open[path]:
            del self._open[path]
            self._finished.append(path)


def _not_there(answer: Mapping[str, Any]) -> str:
    """Why a document that Elasticsearch has taken is none that a search of the index finds; empty where it is one."""
    if answer.get("result") == "noop":
        return "dropped by a pipeline of the index"
    if answer.get("failure_store") == "used":
        return "put into the failure store of the data stream, where no search of it looks"
    return ""


def _kind(why: str) -> str:
    """A reason without what differs from one record to the next: the kinds of errors alone."""
    return " because of ".join(part.partition(":")[0] for part in why.split("; because of "))
