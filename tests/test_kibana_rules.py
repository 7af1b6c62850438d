"""Detection rules for Kibana: they mean what the rules say, and hold nothing that Kibana would drop or refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from keytrail.cases import load_cases, load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.engine import compile_query
from keytrail.errors import NeedsProfile, Refused, UsageError
from keytrail.kibana.attack import read, threats
from keytrail.kibana.body import check, check_file
from keytrail.kibana.detection import OWN_TAG, DetectionRule, Options, detection_rule, detection_rules, version_of
from keytrail.kibana.pills import pills
from keytrail.kibana.versions import SHIPPED, read_versions
from keytrail.pack import Rule, load_rules
from keytrail.proof import corpus
from keytrail.schemas import SCHEMAS, Schema, get_schema

RULES = {rule.stem: rule for rule in load_rules([packaged("rules")]).rules}
ECS, KEYTRAIL = get_schema("ecs"), get_schema("keytrail")
EVENTS = load_events(packaged("fixtures") / "events")
CORPUS = corpus(EVENTS, load_cases(packaged("fixtures") / "cases", EVENTS))


def made(stem: str, schema: Schema = ECS, **options: Any) -> Mapping[str, Any]:
    return detection_rule(RULES[stem], schema, Options(**options)).body


def joined(body: Mapping[str, Any]) -> dict[str, Any]:
    """What Kibana makes of a rule's filters: all of them."""
    return {"bool": {"filter": [pill["query"] for pill in body["filters"]]}}


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["convert", "--target", "kibana", *map(str, words)])


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_the_pills_together_mean_the_query(schema: Schema) -> None:
    documents = [schema.document(event.record) for event in CORPUS]
    found, _ = detection_rules(RULES.values(), schema, Options())
    several = 0
    for one in found:
        if one.body["type"] != "query":
            continue
        query = convert(one.rule, schema).query
        assert query is not None
        whole, split = (compile_query(part, schema.mapping) for part in (query.body["query"], joined(one.body)))
        assert [whole(document) for document in documents] == [split(document) for document in documents], one.rule.stem
        several += len(one.body["filters"]) > 1
    assert several > 40


def test_the_pills_together_mean_the_query_on_a_real_server(cluster: Cluster) -> None:
    found = [one for one in detection_rules(RULES.values(), KEYTRAIL, Options())[0] if one.body["type"] == "query"]
    with cluster.temporary_index(KEYTRAIL.body) as index:
        cluster.load(index, ((str(n), KEYTRAIL.document(event.record)) for n, event in enumerate(CORPUS)))
        split = cluster.search(index, {one.rule.id: joined(one.body) for one in found})
        whole = cluster.search(index, {one.rule.id: query_of(one) for one in found})
    assert split == whole
    assert sum(map(bool, split.values())) > 45


def query_of(one: DetectionRule) -> Mapping[str, Any]:
    query = convert(one.rule, KEYTRAIL).query
    assert query is not None
    body: Mapping[str, Any] = query.body["query"]
    return body


CLAUSES = st.recursive(
    st.sampled_from([{"exists": {"field": "eventName"}}, {"term": {"eventName": {"value": "DisableKey"}}}])
    | st.builds(lambda value: {"prefix": {"eventSource": {"value": value}}}, st.text("kms.", max_size=3)),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "filter": st.lists(inner, max_size=2),
            "must_not": st.lists(inner, max_size=2),
            "should": st.lists(inner, min_size=1, max_size=2),
        },
    ).map(lambda parts: {"bool": parts}),
    max_leaves=6,
)


@given(CLAUSES)
def test_any_query_is_its_pills(query: dict[str, Any]) -> None:
    split = {"bool": {"filter": [pill["query"] for pill in pills(query, KEYTRAIL)]}}
    whole, parts = compile_query(query, KEYTRAIL.mapping), compile_query(split, KEYTRAIL.mapping)
    for event in ({}, {"eventName": "DisableKey"}, {"eventSource": "kms.x"}, {"eventName": "x", "eventSource": "s"}):
        assert whole(event) is parts(event)


def test_a_pill_says_what_it_asks() -> None:
    names = [pill["meta"]["alias"] for pill in made("trail_key_disabled")["filters"]]
    assert "eventSource is kms.amazonaws.com" in names
    assert "eventName is DisableKey" in names
    assert "errorCode is absent" in names
    assert all(pill["meta"]["alias"] for one in RULES.values() for pill in _pills(one))


def _pills(rule: Rule) -> Iterator[dict[str, Any]]:
    query = convert(rule, KEYTRAIL).query
    if query is not None and rule.kind == "rule":
        yield from pills(query.body["query"], KEYTRAIL)


def test_a_rule_carries_what_an_analyst_needs() -> None:
    body = made("trail_key_disabled")
    assert body["rule_id"] == RULES["trail_key_disabled"].id
    assert (body["severity"], body["risk_score"]) == ("medium", 47)
    assert "1. Find the trails" in body["note"]
    assert "management events" in body["setup"]
    assert "errorCode is never" in body["setup"]
    assert OWN_TAG in body["tags"]
    assert {"name": "event.action", "type": "keyword"} in body["required_fields"]
    assert body["related_integrations"][0]["package"] == "aws"
    with pytest.raises(Refused, match="related_integrations"):  # the rule editor would not save the rule again
        check({**body, "related_integrations": [{"package": "aws", "version": ">=5.2.0"}]})
    assert "related_integrations" not in made("trail_key_disabled", KEYTRAIL)
    assert "enabled" not in body


def test_normal_rules_are_building_blocks_of_low_severity() -> None:
    body = made("log_file_sealed")
    assert (body["building_block_type"], body["severity"]) == ("default", "low")
    assert "building_block_type" not in made("trail_key_disabled")


def test_late_events_are_seen() -> None:
    assert made("trail_key_disabled")["timestamp_override"] == "event.ingested"
    assert made("trail_key_disabled")["from"] == "now-10m"
    assert made("trail_key_disabled", KEYTRAIL)["from"] == "now-35m"
    assert made("trail_key_disabled", KEYTRAIL, interval=10, lateness=60)["from"] == "now-70m"
    assert made("trail_key_disabled", get_schema("raw"))["timestamp_override"] == "eventTime"


def test_threats_pair_each_technique_with_its_tactic() -> None:
    found = threats(["attack.impact", "attack.defense-impairment", "attack.t1485", "attack.t1685.002", "attack.g0007"])
    paired = {one["tactic"]["id"]: [technique["id"] for technique in one.get("technique", [])] for one in found}
    assert paired == {"TA0112": ["T1685"], "TA0040": ["T1485"]}
    (technique,) = found[0]["technique"]
    assert technique["name"] == "Disable or Modify Tools"
    assert technique["subtechnique"][0] == {
        "id": "T1685.002",
        "name": "Disable or Modify Cloud Log",
        "reference": "https://attack.mitre.org/techniques/T1685/002/",
    }
    assert [one["tactic"]["id"] for one in threats(["attack.t1098"])] == ["TA0003", "TA0004"]


def test_names_that_are_older_than_attack_19_are_what_they_are_now() -> None:
    old = threats(["attack.defense_evasion", "attack.t1562.008"])
    assert old == threats(["attack.defense-impairment", "attack.t1685.002"])
    assert read(["attack.defense-evasion", "attack.t1562.008"]).unknown == ()


@pytest.mark.parametrize("tag", ["attack.defense-evasion", "attack.t9999", "attack.t1562.999", "attack.impact-x"])
def test_what_attack_does_not_know_is_a_tag_and_a_note_and_in_no_threat(tag: str) -> None:
    rule = RULES["trail_key_disabled"]
    found = detection_rule(replace(rule, document={**rule.document, "tags": [tag]}), ECS, Options())
    assert found.body["threat"] == []
    assert tag in found.body["tags"]
    (note,) = found.notes
    assert tag.removeprefix("attack.").upper() in note.upper()


def test_a_comparison_of_two_fields_is_a_pill_in_words_and_two_required_fields() -> None:
    detection = {"selection": {"userIdentity.accountId|fieldref": "recipientAccountId"}, "condition": "selection"}
    rule = RULES["trail_key_disabled"]
    body = detection_rule(replace(rule, document={**rule.document, "detection": detection}), KEYTRAIL, Options()).body
    names = [pill["meta"]["alias"] for pill in body["filters"]]
    assert names == ["userIdentity.accountId is the same as recipientAccountId"]
    assert [one["name"] for one in body["required_fields"]] == ["recipientAccountId", "userIdentity.accountId"]


def test_rules_that_are_there_for_a_correlation_alone_are_building_blocks() -> None:
    rule = RULES["denied_reads_burst"]
    (base,) = rule.references.values()
    for generate in (True, False):
        given = {**rule.document, "correlation": {**rule.document["correlation"], "generate": generate}}
        one, other = detection_rules([base, replace(rule, document=given)], ECS, Options())[0]
        assert ("building_block_type" in one.body) is not generate
        assert "building_block_type" not in other.body


# -- correlations -----------------------------------------------------------------------------------------------


def test_distinct_values_are_a_threshold_that_looks_back_far_enough() -> None:
    found = detection_rule(RULES["bulk_log_decrypt"], ECS, Options())
    assert found.body["type"] == "threshold"
    assert found.body["threshold"] == {
        "field": ["aws.cloudtrail.user_identity.arn"],
        "value": 1,
        "cardinality": [
            {
                "field": "aws.cloudtrail.flattened.request_parameters.encryptionContext.aws:s3:arn",
                "value": RULES["bulk_log_decrypt"].correlation.bounds[0].number,
            }
        ],
    }
    assert found.body["from"] == "now-15m"
    assert found.conditions[-1].kind == "aligned"
    exists = {"exists": {"field": found.body["threshold"]["cardinality"][0]["field"]}}
    assert {"bool": {"filter": [exists]}} in [pill["query"] for pill in found.body["filters"]]


# -- what Kibana would drop or refuse -----------------------------------------------------------------------------


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_body_is_one_that_kibana_takes_and_every_rule_is_made_or_refused(schema: Schema) -> None:
    found, refused = detection_rules(RULES.values(), schema, Options())
    for one in found:
        check(one.body)
    assert len(found) + len(refused) == len(RULES)
    assert len({one.body["rule_id"] for one in found}) == len(found) > 50


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"colour": "red"}, "drop it"),
        ({"severity": "informational"}, "severity"),
        ({"risk_score": 101}, "risk_score"),
        ({"risk_score": True}, "risk_score"),
        ({"type": "eql"}, "type"),
        ({"threshold": {"field": [], "value": 1}}, "drop it"),
        ({"from": "now-1m"}, "never seen"),
        ({"from": "yesterday"}, "from"),
        ({"threat": [{"framework": "MITRE ATT&CK", "tactic": {"id": "TA0040"}}]}, "threat"),
        ({"filters": [{"query": {}}]}, "filters"),
        ({"max_signals": 1001}, "max_signals"),
        ({"name": " "}, "name"),
        ({"required_fields": [{"name": "a", "type": "keyword", "ecs": True}]}, "required_fields"),
    ],
)
def test_a_body_that_kibana_would_not_take_is_refused(change: dict[str, Any], why: str) -> None:
    body = {**made("trail_key_disabled"), **change}
    with pytest.raises(Refused, match=why):
        check(body)


def test_a_file_that_kibana_would_not_import_is_refused() -> None:
    check_file("x" * 100, 10_000)
    for text, rules in (("x", 10_001), ("x" * 10_485_761, 1)):
        with pytest.raises(Refused, match="does not import"):
            check_file(text, rules)


# -- versions -----------------------------------------------------------------------------------------------------


def test_a_version_grows_with_the_meaning_and_not_with_the_words(tmp_path: Path) -> None:
    path, out = tmp_path / "versions.json", tmp_path / "out.ndjson"
    rule = tmp_path / "mine.yml"
    text = (packaged("rules") / "key" / "trail_key_disabled.yml").read_text("utf-8")

    def version(written: str) -> int:
        rule.write_text(written)
        result = run(rule, "--versions", path, "-o", out)
        assert result.exit_code == 0, result.output
        return int(json.loads(out.read_text())["version"])

    assert version(text) == 1
    assert version(text.replace("A KMS key was disabled", "Someone has disabled a KMS key")) == 1
    assert version(text.replace("DisableKey", "DisableKeys")) == 2
    assert version(text.replace("DisableKey", "DisableKeys")) == 2
    assert version(text.replace("level: high", "level: low")) == 3


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_the_versions_that_come_with_keytrail_are_up_to_date(schema: Schema) -> None:
    known = read_versions(None, schema)
    for one in detection_rules(RULES.values(), schema, Options(versions=known))[0]:
        version, meaning = version_of(one.rule.id, one.body, known)
        assert known.get(one.rule.id) == {"version": version, "meaning": meaning}, (
            f"{one.rule.stem}: run 'make queries'"
        )


@pytest.mark.parametrize("text", ["[]", "{", '{"ecs": 1}', '{"ecs": {"x": {"version": "1"}}}'])
def test_a_file_that_keeps_no_versions_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "versions.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"read|versions|version of"):
        read_versions(path, ECS)
    assert json.loads(SHIPPED.read_text("utf-8"))


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_line_for_each_rule_and_names_what_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "rules.ndjson"
    result = run("--schema", "ecs", "-o", out)
    assert result.exit_code == 1
    bodies = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({body["rule_id"] for body in bodies}) == len(bodies) > 50
    assert "refused" in result.stderr
    shapes = json.loads(run("--schema", "ecs", "--format", "json").stdout)
    assert {shape["rule"] for shape in shapes if shape["verdict"] == "refused"} == set(RULES) - {
        next(stem for stem, rule in RULES.items() if rule.id == body["rule_id"]) for body in bodies
    }
    assert all(shape["reason"] for shape in shapes if shape["verdict"] == "refused")
    good = run("trail_key_disabled", "--format", "json")
    assert good.exit_code == 0
    (shape,) = json.loads(good.stdout)
    assert shape["query"]["rule_id"] == shape["rule_id"]
    assert shape["verdict"] == "exact if"


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    result = run("trail_key_disabled", "-o", tmp_path)
    assert result.exit_code == 2
    assert "is a folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", ["ecs", "ecs-custom"])
@pytest.mark.parametrize(
    "names", [["key/trail_key_disabled"], ["use/log_read_denied", "correlations/denied_reads_burst"]], ids=len
)
def test_sigma_cli_gives_the_same_rules(schema: str, names: list[str], tmp_path: Path) -> None:
    # sigma-cli looks for what a correlation names within one path.
    for name in names:
        shutil.copy(packaged("rules") / f"{name}.yml", tmp_path)
    pipeline = f"keytrail_{schema.replace('-', '_')}"
    command = [str(Path(sys.executable).with_name("sigma")), "convert", "-t", "keytrail_query_dsl", "-p", pipeline]
    done = subprocess.run([*command, "-f", "kibana", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = {body["rule_id"]: body for body in map(json.loads, filter(None, done.stdout.splitlines()))}
    found = run("--schema", schema, tmp_path).stdout.splitlines()
    ours = {body["rule_id"]: body for body in map(json.loads, found)}
    assert theirs == ours
    assert len(ours) == len(names)


def test_the_page_says_how_many_rules_of_each_kind_there_are() -> None:
    page = (Path(__file__).parents[1] / "docs" / "kibana.md").read_text("utf-8")
    for name, schema in SCHEMAS.items():
        found, refused = detection_rules(RULES.values(), schema, Options())
        kinds = [(one.body["type"], one.verdict) for one in found]
        without = sum(isinstance(one.error, NeedsProfile) for one in refused)
        counts = [kinds.count(("query", "exact")), kinds.count(("query", "exact if"))]
        counts += [sum(kind == wanted for kind, _ in kinds) for wanted in ("threshold", "esql")]
        row = " | ".join(map(str, [name, *counts, without, len(refused) - without]))
        assert f"| {row} |" in page
