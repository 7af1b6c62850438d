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
Indexed = Callable[[Mapping[str, Any]], Document]


class Parts:
    """The members of one record that are asked about.

    Parameters: ``make`` gives the document, for what is not known; ``facts`` leads from a member to what is known.
    """

    __slots__ = ("_document", "_make", "facts")

    def __init__(self, make: Callable[[], Document], facts: Mapping[str, Facts]) -> None:
        self.facts = facts
        self._make = make
        self._document: Document | None = None

    @property
    def document(self) -> Document:
        """The document that an index holds of them. Raises :class:`scan.NotPlain` beyond the reader's limits."""
        if self._document is None:
            self._document = self._make()
        return self._document


class Known:
    """What is known of the values of members, in one process; ``indexed`` makes the document of a record."""

    def __init__(self, indexed: Indexed) -> None:
        self._indexed = indexed
        self._facts: dict[tuple[str, bytes], Facts] = {}

    def whole(self, record: Mapping[str, Any]) -> Parts:
        """Return the parts of a record all of which may matter."""
        return Parts(lambda: self._indexed(record), {})

    def some(self, raws: Mapping[str, bytes], members: tuple[str, ...]) -> Parts:
        """Return the parts of a record of which only ``members`` matter, whose JSON is in ``raws``."""
        facts = {member: self._of((member, raws.get(member, b""))) for member in members}
        return Parts(lambda: self._indexed({member: scan.value(raw) for member, raw in raws.items()}), facts)

    def _of(self, key: tuple[str, bytes]) -> Facts:
        found = self._facts.get(key)
        if found is None:
            found = {}
            if len(key[1]) <= LONGEST_VALUE:
                if len(self._facts) >= MOST_VALUES:
                    self._facts.clear()
                self._facts[key] = found
        return found
