"""The three verdicts on a query: exact, exact if a named condition holds, refused. There is no fourth."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Strays(Enum):
    """What a query does to events for which its condition does not hold."""

    MISSES = "misses"
    ADDS = "adds"
    BOTH = "misses or adds"

    def negated(self) -> Strays:
        """Return what the negation of the query does: what it missed, it adds."""
        return {Strays.MISSES: Strays.ADDS, Strays.ADDS: Strays.MISSES}.get(self, self)


@dataclass(frozen=True)
class Condition:
    """Something that must be so in the data for a query to mean just what its rule says.

    ``kind`` names it for machines, with ``field`` (the rule's), ``index_field`` and ``limit``; ``text`` says it to
    people; ``breaker`` says who can break it; ``strays`` what the query does to the events for which it is broken.
    """

    kind: str
    field: str
    index_field: str
    text: str
    breaker: str
    strays: Strays
    limit: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the condition as JSON has it."""
        shape = {
            "kind": self.kind,
            "field": self.field,
            "index_field": self.index_field,
            "text": self.text,
            "breaker": self.breaker,
        }
        return {**shape, "strays": self.strays.value} | ({} if self.limit is None else {"limit": self.limit})


@dataclass(frozen=True)
class Query:
    """A query of some target with the conditions under which it is exact; none means exact.

    ``body`` is what the target takes: for Query DSL the body of a search, ``{"query": …}``.
    """

    body: Any
    conditions: tuple[Condition, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """``exact`` or ``exact if``."""
        return "exact if" if self.conditions else "exact"
