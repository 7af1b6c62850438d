"""What rules ask of a record, over the JSON of the members that matter; what is known of a member is not asked again.

Most events of a kind differ in a few members, and these have few values: who calls, with which program, from where. So
the answer to a question about one member is kept with the bytes of the member: the same bytes, the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keytrail import scan
from keytrail.engine import Document, Predicate

# Callers choose many of the values, so what is remembered of them is bounded: at most 20 MB for each process.
MOST_VALUES, LONGEST_VALUE = 10_000, 2_000

Facts = dict[Predicate, bool]  # questions about one value of one member, with their answers
Indexed = Callable[[Mapping[str, Any]], Document]


class Parts:
    """The members of one record that are asked about.

    Parameters: ``read`` gives the document that an index holds of one member, or of all that matter (None); ``facts``
    leads from a member to what is known of its value.
    """

    __slots__ = ("_documents", "_read", "facts")

    def __init__(self, read: Callable[[str | None], Document], facts: Mapping[str, Facts]) -> None:
        self.facts = facts
        self._read = read
        self._documents: dict[str | None, Document] = {}

    def document(self, member: str | None = None) -> Document:
        """Return the document of a member, or of all. Raises :class:`scan.NotPlain` beyond the reader's limits."""
        found = self._documents.get(member)
        if found is None:
            found = self._documents[member] = self._read(member)
        return found


class Known:
    """What is known of the values of members, in one process; ``indexed`` makes the document of a record."""

    def __init__(self, indexed: Indexed) -> None:
        self._indexed = indexed
        self._facts: dict[tuple[str, bytes], Facts] = {}

    def whole(self, record: Mapping[str, Any]) -> Parts:
        """Return the parts of a record all of which may matter."""
        return Parts(lambda _: self._indexed(record), {})

    def some(self, raws: Mapping[str, bytes], members: Iterable[str]) -> Parts:
        """Return the parts of a record of which only ``members`` matter, each for itself; their JSON is in ``raws``."""

        def read(member: str | None) -> Document:
            wanted = raws if member is None else [member] if member in raws else []
            return self._indexed({name: scan.value(raws[name]) for name in wanted})

        return Parts(read, {member: self._of((member, raws.get(member, b""))) for member in members})

    def _of(self, key: tuple[str, bytes]) -> Facts:
        found = self._facts.get(key)
        if found is None:
            found = {}
            if len(key[1]) <= LONGEST_VALUE:
                if len(self._facts) >= MOST_VALUES:
                    self._facts.clear()
                self._facts[key] = found
        return found
