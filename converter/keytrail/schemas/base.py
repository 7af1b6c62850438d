"""What a schema is: one way to keep CloudTrail records in an index, known in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from keytrail.errors import UnmappedField
from keytrail.mapping import FieldType, IndexMapping


@dataclass(frozen=True)
class Schema:
    """A way to keep CloudTrail records in Elasticsearch.

    Parameters: ``names`` and ``prefixes`` lead from a rule's field (a path in the CloudTrail record) to the index's
    field; ``body`` is what ``PUT /index`` takes; ``document`` makes of a record the document that such an index holds.
    ``dropped`` are the strings that are not stored. ``shared`` leads from a rule's field whose place in the index can
    hold something else to what must be so of a record, in words and as a test. ``java_maps`` leads from a flattened
    field to the keyword field that holds the same object as Java prints a map, and ``size_limits`` gives the length of
    that text from which on a flattened field is left out. ``companions`` leads from a field to others that hold the
    same value in another type: ``{"source.address": {"ip": "source.ip"}}``. ``time`` is the date field that holds the
    event's time. ``copies`` leads from a field that a site's own pipeline fills to the flattened field that it copies
    from. ``taken`` says in words, and as a test of a record, what it takes for an event to be in the index at all; None
    is an index that takes every event. ``as_is`` says that each member of a record is the document's member of the same
    name, made from itself alone, and a text is itself; what else the document has is made from eventTime.
    ``integration`` is the integration of Elastic's that fills the index, as a Kibana rule names it.
    """

    name: str
    title: str
    index: str
    names: Mapping[str, str]
    prefixes: Mapping[str, str]
    body: Mapping[str, Any]
    document: Callable[[Mapping[str, Any]], dict[str, Any]] = field(repr=False)
    dropped: frozenset[str] = frozenset()
    shared: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = field(default_factory=dict)
    java_maps: Mapping[str, str] = field(default_factory=dict)
    size_limits: Mapping[str, int] = field(default_factory=dict)
    companions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[str, Callable[[Mapping[str, Any]], bool]] | None = None
    time: str = "@timestamp"
    as_is: bool = False
    integration: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def mapping(self) -> IndexMapping:
        """The index's mapping, parsed from ``body``."""
        return IndexMapping(self.body)

    @cached_property
    def _rule_names(self) -> dict[str, str]:
        return {index: rule for rule, index in reversed(list(self.names.items()))}

    def index_name(self, rule_field: str) -> str:
        """Return the index's name of a rule's field; an index's own name is taken as it is.

        Raises :class:`UnmappedField` where the schema has no place for it.
        """
        known = self.names.get(rule_field)
        if known is not None:
            return known
        for prefix, target in self.prefixes.items():
            if rule_field.startswith(prefix) and len(rule_field) > len(prefix):
                return target + rule_field[len(prefix) :]
        if rule_field in self._rule_names or self._kept(rule_field):
            return rule_field
        close = get_close_matches(rule_field, self.names, n=1)
        raise UnmappedField(
            f"schema {self.name} has no place for the field {rule_field!r}",
            hint=f"did you mean {close[0]!r}?"
            if close
            else f"the fields it knows: docs/schemas.md, schema {self.name}",
            field=rule_field,
        )

    def _kept(self, index_name: str) -> bool:
        found = self.mapping.field(index_name)
        return found is not None and not found.dynamic

    def rule_name(self, index_name: str) -> str:
        """Return the rule's name of an index's field: what a person who wrote the rule would recognise."""
        known = self._rule_names.get(index_name)
        if known is not None:
            return known
        for prefix, target in self.prefixes.items():
            if index_name == target.rstrip("."):
                return prefix.rstrip(".")
        for prefix, target in self.prefixes.items():
            if index_name.startswith(target):
                return prefix + index_name[len(target) :]
        return index_name

    def absent(self, index_name: str, rule_field: str) -> UnmappedField:
        """Return the error for a field that the schema has a name for and its index does not have."""
        return UnmappedField(
            f"schema {self.name} has no field {index_name!r} (the rule's {rule_field!r})", field=rule_field
        )

    def field(self, index_name: str) -> FieldType | None:
        """Return the type of an index's field; None for one that only holds other fields or does not exist."""
        return self.mapping.field(index_name)

    def companion(self, found: FieldType, kind: str) -> FieldType | None:
        """Return the field that holds the values of ``found`` as type ``kind``, where there is one."""
        name = found.companions.get(kind) or self.companions.get(found.name, {}).get(kind)
        return None if name is None else self.mapping.field(name)
