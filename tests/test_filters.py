"""Sigma filters: what is refused, how they are combined with rules, and that pySigma makes the same of them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from keytrail import reference
from keytrail.backend import pipeline
from keytrail.cli import main
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.errors import FilterError, KeytrailError
from keytrail.explain import explain
from keytrail.filters import Filter, check_targets, expired, load_filters, narrow
from keytrail.pack import Rule, load_rules
from keytrail.profile import load_profile
from keytrail.schemas import SCHEMAS
from keytrail.site_filters import site_filters
from keytrail.targets import TARGETS
from sigma.collection import SigmaCollection

FIXTURES = packaged("fixtures")
RULES = [rule for rule in load_rules([packaged("rules")]).rules if "detection" in rule.document]
DISABLED = next(rule for rule in RULES if rule.stem == "trail_key_disabled")
EVENT = json.loads((FIXTURES / "events" / "disable_key.json").read_text())
ADMINISTRATOR = "arn:aws:iam::111122223333:role/Administrator"
LATER = date(2099, 1, 1)


def document(**changes: Any) -> dict[str, Any]:
    """A filter that takes the administrator's role out of one rule; ``changes`` are of its filter."""
    return {
        "title": "The administrator",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "filter": {
            "rules": [DISABLED.id],
            "selection": {"userIdentity.sessionContext.sessionIssuer.arn": ADMINISTRATOR},
            "condition": "not selection",
            **changes,
        },
        "keytrail": {"owner": "soc", "reason": "change 4711", "expires": LATER},
    }


def written(folder: Path, content: dict[str, Any], name: str = "mine") -> Path:
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def one(folder: Path, content: dict[str, Any]) -> Filter:
    found = load_filters([written(folder, content)])
    assert not found.errors, found.errors
    return found.filters[0]


def refused(folder: Path, content: dict[str, Any]) -> KeytrailError:
    found = load_filters([written(folder, content)])
    assert not found.filters
    return found.errors[0]


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition": "selection"}, "inverts the rule"),
        ({"condition": "selection or not selection"}, "takes nothing out"),
        ({"condition": "not other"}, "'other'"),
        ({"condition": "not 1 of other_*"}, "selects nothing"),
        ({"condition": ["not selection"]}, "one condition"),
        ({"more": {"eventName": "x"}}, "does not use"),
        ({"_hidden": {"eventName": "x"}, "condition": "not selection and not _hidden"}, "renames"),
        ({"selection": {"userIdentity.invokedBy": None}}, "nothing is known"),
        ({"selection": {"eventName|neq": "x"}}, "nothing is known"),
        ({"selection": {"eventName|nosuch": "x"}}, "nosuch"),
        ({"selection": ["a word"]}, "without a field"),
        ({"selection": {"eventName": "x"}, "condition": "not selection and"}, "condition"),
    ],
)
def test_what_a_filter_cannot_mean_is_a_named_error_with_file_and_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    error = refused(tmp_path, document(**changes))
    assert said in error.message
    assert str(tmp_path / "mine.yml") == error.path
    assert error.line


def test_the_example_of_the_specification_is_refused_because_it_inverts_the_rule(tmp_path: Path) -> None:
    example = document(rules=["6f3e2987-db24-4c78-a860-b4f4095a7095"], condition="selection")
    example["filter"]["selection"] = {"User|startswith": "adm_"}
    assert "write: not (selection)" in str(refused(tmp_path, example).hint)


@pytest.mark.parametrize("missing", ["owner", "reason", "expires"])
def test_an_exclusion_says_who_answers_for_it_why_and_until_when(tmp_path: Path, missing: str) -> None:
    content = document()
    del content["keytrail"][missing]
    assert missing in refused(tmp_path, content).message
    content["keytrail"][missing] = "  "
    assert missing in refused(tmp_path, content).message


def test_a_filter_without_rules_is_refused(tmp_path: Path) -> None:
    content = document()
    del content["filter"]["rules"]
    assert "for which rules" in refused(tmp_path, content).message


def test_a_rule_that_does_not_exist_is_named_and_a_stem_is_answered_with_its_id(tmp_path: Path) -> None:
    nameless = Rule(DISABLED.path, {key: value for key, value in DISABLED.document.items() if key != "name"}, "")
    for target, hint in (("0f9c7f9e-0000-4000-8000-000000000000", "ids"), (DISABLED.stem, DISABLED.id)):
        errors = check_targets([one(tmp_path, document(rules=[target]))], [nameless])
        assert target in errors[0].message
        assert hint in str(errors[0].hint)


def test_a_logsource_that_does_not_match_is_an_error(tmp_path: Path) -> None:
    for rules in ([DISABLED.id], "any"):
        content = document(rules=rules)
        content["logsource"] = {"product": "windows"}
        assert "logsource" in check_targets([one(tmp_path, content)], RULES)[0].message
    content["logsource"] = {"product": "aws"}
    assert not check_targets([one(tmp_path, content)], RULES)


def test_a_narrowed_rule_is_the_rule_and_the_filter(tmp_path: Path) -> None:
    rule = narrow(DISABLED, [one(tmp_path, document())])
    assert reference.matches(DISABLED.document, EVENT)
    assert not reference.matches(rule.document, EVENT)
    other = json.loads(json.dumps(EVENT))
    other["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] += "2"
    assert reference.matches(rule.document, other)
    assert explain(rule, EVENT).selections["_filt_1_mine_selection"]
    assert rule.filters == ("mine",)
    for schema in SCHEMAS.values():
        assert convert(rule, schema).query is not None


def test_filters_of_like_names_do_not_take_each_others_selections(tmp_path: Path) -> None:
    first = one(tmp_path, document(condition="not 1 of sel*"))
    second = load_filters([written(tmp_path, document(condition="not all of them"), "mine_selection")]).filters[0]
    rule = narrow(narrow(DISABLED, [first, second]), [first])
    names = [name for name in rule.document["detection"] if name.startswith("_filt_")]
    assert names == ["_filt_1_mine_selection", "_filt_2_mine_selection_selection", "_filt_3_mine_selection"]
    assert not reference.matches(rule.document, EVENT)


def test_a_selector_of_the_rule_does_not_take_in_a_filter(tmp_path: Path) -> None:
    detection = {**DISABLED.document["detection"], "condition": "1 of _* or selection and not filter_network_activity"}
    detection["_mine"] = {"eventName": "x"}
    rule = Rule(DISABLED.path, {**DISABLED.document, "detection": detection}, "")
    with pytest.raises(FilterError, match="would take in"):
        narrow(rule, [one(tmp_path, document())])


def test_an_expired_exclusion_is_not_applied_and_named(tmp_path: Path) -> None:
    content = document()
    content["keytrail"]["expires"] = date(2026, 1, 31)
    old = one(tmp_path, content)
    assert narrow(DISABLED, [old], date(2026, 1, 31)) is not DISABLED
    assert narrow(DISABLED, [old], date(2026, 2, 1)) is DISABLED
    said = str(expired([old], date(2026, 2, 1))[0])
    assert "2026-01-31" in said
    assert "soc" in said
    assert "change 4711" in said


def test_a_filter_leaves_the_rules_that_it_does_not_name(tmp_path: Path) -> None:
    mine = one(tmp_path, document(rules=DISABLED.id.upper()))
    assert [rule.stem for rule in RULES if narrow(rule, [mine]) is not rule] == [DISABLED.stem]


def test_pysigma_makes_the_same_of_a_filter_in_every_schema() -> None:
    profile = load_profile(FIXTURES / "site.yml")
    filters = site_filters(profile, RULES)
    filters += [found for found in load_filters([packaged("exclusions")]).filters if not found.template]
    for schema in SCHEMAS.values():
        for rule in RULES:
            mine = [found for found in filters if found.applies_to(rule)]
            if mine:
                theirs = [dict(rule.document), *(dict(found.rule.document) for found in mine)]
                backend = TARGETS["query-dsl"](pipeline(schema))
                made = convert(Rule(rule.path, narrow(rule, mine).document, "", site="x"), schema)
                if made.query is None:
                    with pytest.raises(KeytrailError):
                        backend.convert(SigmaCollection.from_dicts(theirs))
                else:
                    assert backend.convert(SigmaCollection.from_dicts(theirs)) == [made.query.body]


def test_sigma_cli_gives_the_same_query_with_a_filter(tmp_path: Path) -> None:
    path = written(tmp_path, document())
    command = [
        str(Path(sys.executable).with_name("sigma")),
        "convert",
        "-t",
        "keytrail_query_dsl",
        "-p",
        "keytrail_ecs",
    ]
    done = subprocess.run(
        [*command, "--filter", str(path), str(DISABLED.path)], capture_output=True, text=True, check=False
    )
    ours = keytrail("convert", DISABLED.path, "--schema", "ecs", "--filter", path)
    assert json.loads(done.stdout) == json.loads(ours.stdout)
    assert json.loads(ours.stdout) != json.loads(keytrail("convert", DISABLED.path, "--schema", "ecs").stdout)


def test_the_packs_filters_are_sound_and_off_unless_turned_on() -> None:
    found = load_filters([packaged("exclusions")])
    assert not found.errors
    assert not check_targets(found.filters, RULES)
    assert {"aws_config_recorder", "organization_trail_propagation", "known_readers", "known_administrators"} <= {
        filter_.stem for filter_ in found.filters
    }
    assert all(not rule.filters for rule in RULES)


def test_the_templates_name_the_rules_that_say_so() -> None:
    for found in load_filters([packaged("exclusions")]).filters:
        if found.template:
            term = found.stem.removeprefix("known_")
            wanted = {rule.id for rule in RULES if term in (rule.document["keytrail"].get("allow") or ())}
            assert set(found.targets or ()) == wanted, term


CONFIG = {
    "eventSource": "kms.amazonaws.com",
    "eventName": "GetKeyPolicy",
    "sourceIPAddress": "config.amazonaws.com",
    "userIdentity": {
        "type": "AssumedRole",
        "arn": "arn:aws:sts::111122223333:assumed-role/config/LambdaDescribeHandlerSession",
    },
}
PROPAGATED = {
    "eventSource": "cloudtrail.amazonaws.com",
    "eventName": "PutEventSelectors",
    "userIdentity": {"type": "AWSService", "invokedBy": "cloudtrail.amazonaws.com"},
    "requestParameters": {"eventSelectors": [{"excludeManagementEventSources": ["kms.amazonaws.com"]}]},
}


@pytest.mark.parametrize(
    ("name", "stem", "event", "field", "hostile"),
    [
        ("aws_config_recorder", "key_policy_or_grants_enumerated", CONFIG, "sourceIPAddress", "198.51.100.23"),
        (
            "organization_trail_propagation",
            "kms_events_excluded",
            PROPAGATED,
            "userIdentity",
            {"type": "AssumedRole", "invokedBy": "cloudtrail.amazonaws.com"},
        ),
    ],
)
def test_a_filter_of_the_pack_takes_out_what_it_is_for_and_not_its_hostile_twin(
    name: str, stem: str, event: dict[str, Any], field: str, hostile: object
) -> None:
    rule = next(rule for rule in RULES if rule.stem == stem)
    found = load_filters([packaged("exclusions") / f"{name}.yml"]).filters
    assert reference.matches(rule.document, event)
    assert not reference.matches(narrow(rule, found).document, event)
    assert reference.matches(narrow(rule, found).document, {**event, field: hostile})


# -- the commands -------------------------------------------------------------------------------------------------


def test_a_filter_in_a_folder_of_rules_changes_nothing_and_is_mentioned(tmp_path: Path) -> None:
    (tmp_path / DISABLED.path.name).write_text(DISABLED.text)
    written(tmp_path, document())
    sample = FIXTURES / "sample"
    plain = keytrail("hunt", sample, "--rules", tmp_path, "--format", "json")
    assert plain.exit_code == 0, plain.output
    assert "--filter" in plain.stderr
    assert json.loads(plain.stdout)["counts"] == {DISABLED.id: 1}


def test_hunt_applies_a_filter(tmp_path: Path) -> None:
    content = document()
    content["filter"]["selection"] = {"userIdentity.arn|endswith": "/backup"}
    result = keytrail("hunt", FIXTURES / "sample", "--filter", written(tmp_path, content), "--format", "json")
    assert json.loads(result.stdout)["counts"][DISABLED.id] == 0


def test_a_filter_for_none_of_the_rules_is_mentioned() -> None:
    result = keytrail("convert", "trail_key_disabled", "--filter", "aws_config_recorder")
    assert result.exit_code == 0
    assert "for none of these rules" in result.stderr


def test_a_filter_that_leaves_nothing_of_a_rule_is_mentioned(tmp_path: Path) -> None:
    whole = written(tmp_path, document(selection={"eventName|exists": True}))
    for command in (("convert", "trail_key_disabled"), ("hunt", FIXTURES / "sample")):
        said = keytrail(*command, "--filter", whole).stderr
        assert "nothing may be left of trail_key_disabled" in said
        assert whole.stem in said
    assert "nothing may be left" not in keytrail("convert", "--filter", "aws_config_recorder").stderr


def test_a_bad_filter_is_named_and_not_applied(tmp_path: Path) -> None:
    path = written(tmp_path, document(condition="selection"))
    result = keytrail("convert", "trail_key_disabled", "--schema", "keytrail", "--filter", path)
    assert result.exit_code == 2
    assert "inverts the rule" in result.stderr
    assert result.stdout == keytrail("convert", "trail_key_disabled", "--schema", "keytrail").stdout


def test_an_unknown_filter_and_a_template_are_named() -> None:
    assert "no_such" in keytrail("hunt", FIXTURES / "sample", "--filter", "no_such").stderr
    result = keytrail("hunt", FIXTURES / "sample", "--filter", "known_readers")
    assert result.exit_code == 2
    assert "needs a profile" in result.stderr


def test_an_expired_exclusion_fails_the_test_by_name_but_not_the_hunt(tmp_path: Path) -> None:
    content = document()
    content["keytrail"]["expires"] = "2026-01-31"
    path = written(tmp_path, content)
    result = keytrail("test", "trail_key_disabled", "--schema", "keytrail", "--filter", path)
    assert result.exit_code == 1
    assert "The administrator" in result.stderr
    hunted = keytrail("hunt", FIXTURES / "sample", "--filter", path, "--format", "json")
    assert hunted.exit_code == 0
    assert "2026-01-31" in hunted.stderr
    assert json.loads(hunted.stdout)["counts"][DISABLED.id] == 1


def test_a_filter_that_takes_out_a_matching_case_fails_the_test(tmp_path: Path) -> None:
    result = keytrail("test", "trail_key_disabled", "--schema", "keytrail", "--filter", written(tmp_path, document()))
    assert result.exit_code == 1
    assert "narrowed by mine" in result.stderr


def test_filters_among_the_rules_are_checked_by_test(tmp_path: Path) -> None:
    (tmp_path / DISABLED.path.name).write_text(DISABLED.text)
    written(tmp_path, document(rules=["0f9c7f9e-0000-4000-8000-000000000000"]))
    result = keytrail("test", "--rules", tmp_path, "--schema", "keytrail")
    assert result.exit_code == 1
    assert "0f9c7f9e" in result.stderr


def test_a_folder_without_filters_is_an_error(tmp_path: Path) -> None:
    result = keytrail("hunt", FIXTURES / "sample", "--filter", tmp_path)
    assert result.exit_code == 2
    assert "no Sigma filter" in result.stderr
