"""What rules ask of a record, over the JSON of the members that matter; what is known of a member is not asked again.

Most events of a kind differ in a few members, and these have few values: who calls, with which program, from where. So
the answer to a question about one member is kept with the bytes of the member: the same bytes, the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keytrail import scan
from keytrail.engine import Document, Predicate

# Callers choose many of the values, so what is remembered of them is bounded: at most 20 MB for each process.
MOST_VALUES, LONGEST_VALUE = 10_000, 2_000

Facts = dict[Predicate, bool]  # questions about one value of one member, with their answers


class Parts:
    """The members of one record that are asked about: all of it, or some, each of which can be asked for itself."""

    __slots__ = ("_documents", "_known", "_raws", "_record")

    def __init__(self, known: Known, raws: Mapping[str, bytes] | None, record: Mapping[str, Any] | None = None) -> None:
        self._known = known
        self._raws = raws
        self._record = record
        self._documents: dict[str | None, Document] = {}

    def facts(self, member: str) -> Facts | None:
        """Return what is known of a member's value, to be added to; None where that is no question for itself."""
        return None if self._raws is None else self._known.facts(member, self._raws.get(member, b""))

    def document(self, member: str | None = None) -> Document:
        """Return what an index holds of a member, or of all. Raises :class:`scan.NotPlain` beyond the limits."""
        found = self._documents.get(member)
        if found is None:
            found = self._documents[member] = self._known.indexed(self._read(member))
        return found

    def _read(self, member: str | None) -> Mapping[str, Any]:
        raws = self._raws
        if raws is None:
            return self._record or {}
        wanted = raws if member is None else [member] if member in raws else []
        return {name: scan.value(raws[name]) for name in wanted}


class Known:
    """What is known of the values of members, in one process; ``indexed`` makes the document of a record."""

    def __init__(self, indexed: Callable[[Mapping[str, Any]], Document]) -> None:
        self.indexed = indexed
        self._facts: dict[tuple[str, bytes], Facts] = {}

    def whole(self, record: Mapping[str, Any]) -> Parts:
        """Return the parts of a record all of which may matter."""
        return Parts(self, None, record)

    def some(self, raws: Mapping[str, bytes]) -> Parts:
        """Return the parts of a record of which only some members matter, whose JSON is in ``raws``."""
        return Parts(self, raws)

    def facts(self, member: str, raw: bytes) -> Facts:
        """Return what is known of a member with this JSON; none is for one that is absent."""
        found = self._facts.get((member, raw))
        if found is None:
            found = {}
            if len(raw) <= LONGEST_VALUE:
                if len(self._facts) >= MOST_VALUES:
                    self._facts.clear()
                self._facts[member, raw] = found
        return found
