"""A pipeline for the stock backends that compare the case of every value: what a rule asks for with ``|cased`` is that.

Lucene's and ES|QL's backends have no ``|cased``, and stop at the first rule that has it, filters that narrow a rule
included. What they make of a value without it is compared with its case where the field is a keyword.
"""

from __future__ import annotations

from dataclasses import dataclass

from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations.base import ValueTransformation
from sigma.types import SigmaCasedString, SigmaString, SigmaType

from keytrail.backend import STATE
from keytrail.errors import Refused
from keytrail.schemas import Schema

BACKENDS = frozenset({"lucene", "elastalert", "esql"})


@dataclass
class WithoutCased(ValueTransformation):
    """Takes ``|cased`` off a value; where a schema's pipeline came before, only on fields that keep the case.

    Raises :class:`Refused` for any other field of the schema.
    """

    def apply_value(self, field: str | None, val: SigmaType) -> SigmaString | None:
        if not isinstance(val, SigmaCasedString):
            return None
        schema: Schema | None = self._pipeline.state.get(STATE) if self._pipeline is not None else None
        if schema is not None and field is not None:
            _check_case(schema, field)
        made = SigmaString()
        made.s, made.original = val.s, val.original
        return made


def _check_case(schema: Schema, name: str) -> None:
    found = schema.mapping.field(name)
    if found is None or found.type not in ("keyword", "flattened") or found.normalizer is not None:
        kind = "no field" if found is None else found.type if found.normalizer is None else f"normalized {found.type}"
        raise Refused(f"{name} ({kind}): not every backend can ask for its case", field=name, hint="-t keytrail_lucene")


def case_sensitive() -> ProcessingPipeline:
    """Return the pipeline; it goes after a schema's."""
    item = ProcessingItem(WithoutCased(), identifier="keytrail_case_sensitive")
    return ProcessingPipeline(
        name="Keytrail: |cased for backends that compare the case of every value",
        priority=30,
        allowed_backends=BACKENDS,
        items=[item],
    )
