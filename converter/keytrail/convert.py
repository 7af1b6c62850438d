"""A rule, a schema and a target: the query with its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sigma.exceptions import SigmaError

from keytrail import correlation_plan, plain
from keytrail.errors import KeytrailError, Refused, RuleError, UsageError
from keytrail.generators import GENERATORS, generate
from keytrail.pack import Rule, needs_profile, refusal
from keytrail.schemas import Schema
from keytrail.typed import always
from keytrail.verdict import Condition, Query


@dataclass(frozen=True)
class Conversion:
    """What became of a rule: a query with its conditions, or the error that says why there is none."""

    rule: Rule
    schema: Schema
    query: Query | None
    error: KeytrailError | None = None

    @property
    def verdict(self) -> str:
        """``exact``, ``exact if`` or ``refused``; ``error`` where the rule or the schema is at fault."""
        if self.query is not None:
            return self.query.verdict
        return "refused" if isinstance(self.error, Refused) else "error"

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions under which the query is exact."""
        return () if self.query is None else self.query.conditions

    def as_dict(self) -> dict[str, Any]:
        """Return the conversion as JSON has it."""
        shape: dict[str, Any] = {"rule_id": self.rule.id, "rule": self.rule.stem, "schema": self.schema.name}
        shape["verdict"] = self.verdict
        if self.query is None:
            return {**shape, "reason": self.error.message if self.error is not None else None}
        return {**shape, "conditions": [part.as_dict() for part in self.conditions], "query": self.query.body}


def convert(rule: Rule, schema: Schema, target: str = "query-dsl") -> Conversion:
    """Convert ``rule`` for ``schema`` and ``target``; what goes wrong is in the result, named, with file and line."""
    if target not in GENERATORS:
        raise UsageError(f"there is no target {target!r}", hint=f"one of: {', '.join(GENERATORS)}")
    if needs_profile(rule):
        return Conversion(rule, schema, None, refusal(rule))
    if rule.kind == "correlation":
        return _correlation(rule, schema, target)
    try:
        return Conversion(rule, schema, _query(rule, schema, target))
    except KeytrailError as error:
        return Conversion(rule, schema, None, _placed(error, rule, schema))
    except SigmaError as error:
        return Conversion(rule, schema, None, KeytrailError(str(error), path=rule.path, line=rule.line))
    except (TypeError, AttributeError, LookupError, NotImplementedError) as error:
        problem = RuleError(f"pySigma cannot convert the rule ({error})", path=rule.path, line=rule.line)
        return Conversion(rule, schema, None, problem)


def _query(rule: Rule, schema: Schema, target: str) -> Query:
    """The query of a rule about single events, by way of pySigma where the rule is not plain."""
    node = None if rule.plain is None else plain.resolve(rule.plain, schema)
    if node is None:
        return _by_pysigma(rule, schema, target)
    made = generate(target, node, schema)
    return replace(made, conditions=(*made.conditions, *always(schema)))


def _by_pysigma(rule: Rule, schema: Schema, target: str) -> Query:
    from keytrail.backend import pipeline  # half a second, which most rules do not need
    from keytrail.targets import TARGETS

    queries: list[Query] = []
    backend = TARGETS[target](pipeline(schema))
    backend.convert(rule.collection(), callback=lambda *found: queries.append(found[-1]))
    if not queries:
        raise RuleError("there is no rule to convert")
    return queries[0]


def _correlation(rule: Rule, schema: Schema, target: str) -> Conversion:
    """The plan of a correlation, made of its rules' queries."""
    if target != "query-dsl":
        return Conversion(rule, schema, None, _placed(correlation_plan.not_a_query(), rule, schema))
    bases = {name: convert(base, schema, target) for name, base in rule.references.items()}
    queries = {name: base.query for name, base in bases.items() if base.query is not None}
    try:
        for name, base in bases.items():
            if base.query is None:
                raise correlation_plan.refused(name, base.error)
        return Conversion(rule, schema, correlation_plan.plan(rule.correlation, queries, schema))
    except KeytrailError as error:
        return Conversion(rule, schema, None, _placed(error, rule, schema))


def _placed(error: KeytrailError, rule: Rule, schema: Schema) -> KeytrailError:
    """The error with the file and line of the rule that caused it."""
    field = getattr(error, "field", None)
    error.path = str(rule.path)
    error.line = rule.line_of(schema.rule_name(field) if field else "correlation" if rule.references else "detection")
    return error
