"""The targets, as sigma-cli and :mod:`keytrail.convert` use them: one backend class each, one generator behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from keytrail import correlation_plan, correlation_yaml
from keytrail.backend import STATE, KeytrailBackend
from keytrail.errors import Refused
from keytrail.generators import generate
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
    }

    def generate(self, node: Node, schema: Schema) -> Query:
        return generate("query-dsl", node, schema)

    def convert_correlation_rule(
        self,
        rule: SigmaCorrelationRule,
        output_format: str | None = None,
        method: str | None = None,
        callback: Callable[..., Any] | None = None,
    ) -> list[Any]:
        """Return the plan of a correlation, which :mod:`keytrail.correlation_search` runs."""
        found = correlation_yaml.read(rule.to_dict())
        queries = {}
        for reference in rule.referenced_rules:
            if not isinstance(reference.rule, SigmaRule):
                raise Refused(f"{reference.reference} is a correlation: only rules about single events are correlated")
            # pySigma sorts the rules so that these come first, but not always.
            if reference.rule._conversion_result is None:
                self.convert_rule(reference.rule, output_format)
            queries[reference.reference] = reference.rule.get_conversion_result()[0]
        schema: Schema = self.last_processing_pipeline.state[STATE]
        plan = correlation_plan.plan(found, queries, schema)
        result = plan if callback is None else callback(rule, output_format, 0, rule, plan)
        rule.set_conversion_result([] if result is None else [result])
        return rule.get_conversion_result()


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
