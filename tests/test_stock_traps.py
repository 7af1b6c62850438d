"""Where the stock chain from Sigma to Elasticsearch goes wrong without a word, shown on a real node, and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keytrail import reference
from keytrail.backend import pipeline
from keytrail.cluster import Cluster
from keytrail.convert import convert
from keytrail.errors import ClusterError, RuleError
from keytrail.lint import check_detections
from keytrail.pack import Rule
from keytrail.schemas import get_schema
from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend

ROLE = "arn:aws:iam::111122223333:role/Reader"
READ = {
    "eventSource": "kms.amazonaws.com",
    "eventName": "DisableKey",
    "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:iam::111122223333:root"},
    "sourceIPAddress": "10.1.2.3",
    "requestParameters": {
        "keyId": "k1",
        "policy": "x" * 300 + " cloudtrail.amazonaws.com",
        "encryptionContext": {"aws:cloudtrail:arn": "arn:aws:cloudtrail:us-west-2:111122223333:trail/Default"},
    },
}


def rule(*lines: dict[str, Any], condition: str = "s0") -> Rule:
    detection = {f"s{number}": line for number, line in enumerate(lines)}
    document = {
        "title": "Trap",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {**detection, "condition": condition},
    }
    return Rule(Path("trap.yml"), document, "")


def found(cluster: Cluster, name: str, made: Rule, record: dict[str, Any]) -> tuple[bool | str, bool | str]:
    """What the stock query and ours say of one record; the error's or refusal's text where there is no answer."""
    schema = get_schema(name)
    stock = LuceneBackend(pipeline(schema)).convert(made.collection())[0]
    ours = convert(made, schema)
    queries: dict[str, dict[str, Any]] = {"stock": {"query_string": {"query": stock}}}
    if ours.query is not None:
        queries["ours"] = ours.query.body["query"]
    with cluster.temporary_index(schema.body) as index:
        assert cluster.load(index, [("1", schema.document(record))]) == {}
        answers = cluster.search_each(index, queries)
    said = {who: str(hits) if isinstance(hits, ClusterError) else bool(hits) for who, hits in answers.items()}
    return said["stock"], said.get("ours", str(ours.error))


@pytest.mark.parametrize(
    ("name", "lines", "condition", "stock"),
    [
        pytest.param(
            "raw",
            ({"eventName": "DisableKey"}, {"userIdentity.arn": ROLE}),
            "s0 and not s1",
            False,
            id="an allow-list on text swallows every alert",
        ),
        pytest.param("raw", ({"userIdentity.arn|endswith": ":root"},), "s0", False, id="the end of text is not found"),
        pytest.param("raw", ({"userIdentity.arn|contains": "iam::1"},), "s0", False, id="a part of text is not found"),
        pytest.param("raw", ({"userIdentity.arn|re": "^arn:aws:iam"},), "s0", False, id="an anchor is a character"),
        pytest.param("keytrail", ({"userIdentity.arn|re": "^arn:aws:iam"},), "s0", False, id="an anchor, on keyword"),
        pytest.param("keytrail", ({"eventName": "disablekey"},), "s0", False, id="another case is not found"),
        pytest.param("ecs", ({"eventName": "disablekey"},), "s0", False, id="another case is not found in ecs"),
        pytest.param(
            "ecs",
            ({"requestParameters.encryptionContext.aws:cloudtrail:arn|endswith": "trail/Default"},),
            "s0",
            False,
            id="a wildcard on a flattened field finds nothing",
        ),
    ],
)
def test_the_stock_query_is_wrong_and_ours_is_right(
    cluster: Cluster, name: str, lines: tuple[dict[str, Any], ...], condition: str, stock: bool
) -> None:
    made = rule(*lines, condition=condition)
    meant = reference.matches(made.document, READ)
    said_by_stock, said_by_us = found(cluster, name, made, READ)
    assert said_by_us is meant
    assert said_by_stock is not meant
    assert said_by_stock is stock or isinstance(said_by_stock, str)


def test_a_network_on_text_finds_nothing_and_ours_is_refused(cluster: Cluster) -> None:
    made = rule({"sourceIPAddress|cidr": "10.0.0.0/8"})
    stock, ours = found(cluster, "raw", made, READ)
    assert stock is not True
    assert "network needs an address" in str(ours)
    assert found(cluster, "keytrail", made, READ)[1] is True


def test_a_long_policy_is_not_searched_and_ours_names_the_condition(cluster: Cluster) -> None:
    made = rule({"requestParameters.policy|endswith": "x cloudtrail.amazonaws.com"})
    assert found(cluster, "keytrail", made, READ)[1] is True
    ours = convert(made, get_schema("raw"))
    assert any(part.kind == "not_longer" and part.limit == 256 for part in ours.conditions)
    assert found(cluster, "raw", made, READ)[0] is not True


def test_colons_in_a_field_name_are_found_by_ours(cluster: Cluster) -> None:
    made = rule({"requestParameters.encryptionContext.aws:cloudtrail:arn|exists": True})
    for name in ("keytrail", "ecs", "ecs-custom", "raw"):
        assert found(cluster, name, made, READ)[1] is True, name


def test_what_pysigma_drops_or_misreads_is_an_error() -> None:
    with pytest.raises(RuleError, match="selects nothing"):
        check_detections(["sel"], ["sel and 1 of filter_*"])
    with pytest.raises(RuleError, match="not able"):
        check_detections(["notable"], ["notable"])


def test_a_comparison_of_fields_is_a_script_on_the_named_condition_that_scripts_run() -> None:
    ours = convert(rule({"eventName|fieldref": "errorCode"}), get_schema("keytrail"))
    assert "scripts" in {part.kind for part in ours.conditions}
