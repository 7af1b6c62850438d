"""The targets, as sigma-cli and :mod:`keytrail.convert` use them: one backend class each, one generator behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from keytrail import correlation_plan, correlation_yaml
from keytrail.backend import STATE, KeytrailBackend, read, told
from keytrail.errors import KeytrailError, Refused
from keytrail.generators import generate
from keytrail.pack import Rule
from keytrail.resolved import Node
from keytrail.schemas import Schema
from keytrail.verdict import Query


class QueryDslBackend(KeytrailBackend):
    """Elasticsearch Query DSL, native and typed by the schema's mapping."""

    identifier = "keytrail_query_dsl"
    name = "Keytrail: Elasticsearch Query DSL that means what the rule says"
    formats = {
        "default": "search bodies, one a rule",
        "verdict": "the search body with its verdict and the conditions under which it is exact",
        "kibana": "detection rules that Kibana imports, one a line",
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._read: dict[int, Rule] = {}

    def generate(self, node: Node, schema: Schema) -> Query:
        return generate("query-dsl", node, schema)

    def convert_rule(self, rule: SigmaRule, output_format: str | None = None, callback: Any = None) -> list[Any]:
        """Return the query of a rule; in the format ``kibana``, the detection rule of which it is a part."""
        # The pipeline is about to change the names of its fields in place.
        self._read[id(rule)] = read(rule)
        found = super().convert_rule(rule, output_format, callback)
        return self._as_kibana(rule, output_format, found)

    @told
    def _as_kibana(
        self, rule: SigmaRule | SigmaCorrelationRule, output_format: str | None, found: list[Any]
    ) -> list[Any]:
        if output_format != "kibana" or rule._conversion_result is None:
            return found
        from keytrail.kibana.detection import Options, detection_rule
        from keytrail.kibana.versions import read_versions

        schema: Schema = self.last_processing_pipeline.state[STATE]
        made = detection_rule(self._read[id(rule)], schema, Options(versions=read_versions(None, schema)))
        return [made.body]

    def finalize_output_kibana(self, bodies: list[Any]) -> str:
        """Return the lines of a file that Kibana imports."""
        return "\n".join(map(json.dumps, bodies))

    def _base(self, name: str, rule: SigmaRule) -> Query:
        """The query of a rule that a correlation names; raises :class:`Refused` where it has none.

        pySigma sorts the rules so that these come first, but not always. Then a copy is converted: a conversion changes
        the names of a rule's fields in place, and that rule's own turn is still to come.
        """
        failed = [str(error) for one, error in self.errors if one is rule]
        if not failed and rule._conversion_result is None:
            self._read[id(rule)] = read(rule)
            copy = SigmaRule.from_dict(rule.to_dict(), source=rule.source)
            super().convert_rule(copy)
            failed = [str(self.errors.pop()[1])] if copy._conversion_result is None else []
            rule = copy
        if failed:
            raise correlation_plan.refused(name, KeytrailError(failed[0]))
        query: Query = rule.get_conversion_result()[0]
        return query

    def _plan(self, rule: SigmaCorrelationRule) -> Query:
        found = correlation_yaml.read(rule.to_dict())
        queries = {}
        for reference in rule.referenced_rules:
            if not isinstance(reference.rule, SigmaRule):
                raise Refused(f"{reference.reference} is a correlation: only rules about single events are correlated")
            queries[reference.reference] = self._base(reference.reference, reference.rule)
        schema: Schema = self.last_processing_pipeline.state[STATE]
        return correlation_plan.plan(found, queries, schema)

    @told
    def convert_correlation_rule(
        self,
        rule: SigmaCorrelationRule,
        output_format: str | None = None,
        method: str | None = None,
        callback: Callable[..., Any] | None = None,
    ) -> list[Any]:
        """Return the plan of a correlation, which :mod:`keytrail.correlation_search` runs."""
        plan = self._plan(rule)
        result = plan if callback is None else callback(rule, output_format, 0, rule, plan)
        rule.set_conversion_result([] if result is None else [result])
        self._read[id(rule)] = replace(
            read(rule), references={one.reference: self._read[id(one.rule)] for one in rule.referenced_rules}
        )
        return self._as_kibana(rule, output_format, rule.get_conversion_result())


class KeytrailLuceneBackend(KeytrailBackend):
    """Lucene's query syntax, for ``query_string`` and Kibana."""

    identifier = "keytrail_lucene"
    name = "Keytrail: Lucene query strings that mean what the rule says"
    formats = {
        "default": "query strings, one a rule",
        "verdict": "the query string with its verdict and the conditions under which it is exact",
    }

    def generate(self, node: Node, schema: Schema) -> Query:
        return generate("lucene", node, schema)


class KeytrailEsqlBackend(KeytrailBackend):
    """ES|QL, with the metadata that detection rules need."""

    identifier = "keytrail_esql"
    name = "Keytrail: ES|QL queries that mean what the rule says"
    formats = {
        "default": "ES|QL queries, one a rule",
        "verdict": "the ES|QL query with its verdict and the conditions under which it is exact",
    }

    def generate(self, node: Node, schema: Schema) -> Query:
        return generate("esql", node, schema)


TARGETS: Mapping[str, type[KeytrailBackend]] = {
    "query-dsl": QueryDslBackend,
    "lucene": KeytrailLuceneBackend,
    "esql": KeytrailEsqlBackend,
}
