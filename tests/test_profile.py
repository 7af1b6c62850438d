"""The site profile: its file and errors, and the filters that it becomes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail import reference
from keytrail.cli import main
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.errors import ProfileError
from keytrail.filters import load_filters
from keytrail.pack import load_rules, needs_profile
from keytrail.profile import SCHEMA, load_profile, problems
from keytrail.schemas import get_schema
from keytrail.site_filters import apply_profile, site_filters
from keytrail.yamlcheck import plain_yaml

FIXTURES = packaged("fixtures")
RULES = [rule for rule in load_rules([packaged("rules")]).rules if "detection" in rule.document]
SITE = load_profile(FIXTURES / "site.yml")
SITED = {rule.stem: rule for rule in apply_profile(RULES, SITE)}
PLAIN = {rule.stem: rule for rule in RULES}
DISABLE = json.loads((FIXTURES / "events" / "disable_key.json").read_text())
DELIVER = json.loads((FIXTURES / "events" / "modern_deliver_log_file.json").read_text())
OURS, OTHER = "1234abcd-12ab-34cd-56ef-1234567890ab", "0987dcba-09fe-87dc-65ba-ab0987654321"
PREFIX = "arn:aws:kms:eu-west-1:111122223333:"
TRAIL = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/example-trail"
MINIMAL: dict[str, Any] = {
    "site": "mine",
    "owner": "soc",
    "expires": "2099-01-01",
    "trails": [{"arn": TRAIL, "bucket": "example-trail-bucket", "keys": [{"arn": f"{PREFIX}key/{OURS}"}]}],
}


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(folder: Path, content: str | dict[str, Any], name: str = "site.yml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else plain_yaml(content))
    return path


def changed(record: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(record), **fields}


# -- the file -----------------------------------------------------------------------------------------------------


def test_the_schema_is_a_json_schema_of_known_words() -> None:
    assert SCHEMA["$schema"].startswith("https://json-schema.org/")
    known = {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "enum",
        "pattern",
        "format",
        "oneOf",
    }
    known |= {"description", "examples", "title", "$schema", "$defs", "$ref"}

    def words(schema: dict[str, Any]) -> Iterable[str]:
        yield from schema
        parts = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        for part in [*parts, *([schema["items"]] if "items" in schema else [])]:
            yield from words(part)

    assert set(words(dict(SCHEMA))) <= known


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("site: x\nsite: y\n", 2, "stands twice"),
        ("- a\n", 1, "names with values"),
        ("site: x\nowner: y\nexpires: tomorrow\ntrails: []\n", 3, "no day"),
        ("site: x\nowner: y\nexpires: 2099-01-01\n", 1, "needs trails"),
        ("site: x\nowner: y\nexpires: 2099-01-01\ntrials: []\ntrails: []\n", 4, "did you mean trails"),
        ("site: x\nowner: y\nexpires: 2099-01-01\ntrails: []\n", 4, "must not be empty"),
        ("site: x\nowner: y\nexpires: 2099-01-01\naccounts:\n- id: 111122223333\ntrails: []\n", 5, "in quotes"),
        ("site: &a x\nowner: *a\n", 2, "aliases"),
        ("site: [\n", 2, "not YAML"),
        ("site: !!python/object:os.system x\n", 1, "text"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, text)
    found = problems(path)
    assert [error for error in found if said in str(error) and error.line == line and error.path == str(path)], found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"readers": [{"role": "arn:aws:iam::111122223333:role/*"}]}, "cannot be"),
        ({"readers": [{"role": "LogReader"}]}, "cannot be"),
        ({"readers": [{"role": "arn:aws:iam::111122223333:role/LogReader"}]}, "needs reason"),
        ({"administrators": [{"role": "arn:aws:iam::111122223333:role/Admin"}]}, "needs reason"),
        (
            {"trails": [*MINIMAL["trails"], {**MINIMAL["trails"][0], "bucket": "other-bucket"}]},
            "bucket or prefix in line",
        ),
        ({"trails": [{**MINIMAL["trails"][0], "earlier": True}]}, "all trails are earlier"),
        (
            {
                "readers": [
                    {
                        "role": "arn:aws:iam::111122223333:role/a",
                        "user": "arn:aws:iam::111122223333:user/a",
                        "reason": "x",
                    }
                ]
            },
            "only one",
        ),
        ({"readers": [{"reason": "none"}]}, "only one"),
        ({"administrators": [{"account": "111122223333"}]}, "has no 'account'"),
        ({"trusted_networks": ["10.0.0.0/8"]}, "VPC endpoint"),
        ({"trusted_networks": ["100.64.0.0/16"]}, "VPC endpoint"),
        ({"trusted_networks": ["0.0.0.0/0"]}, "too wide"),
        ({"trusted_networks": ["203.0.113.7/24"]}, "no network"),
        ({"trails": [*MINIMAL["trails"], *copy.deepcopy(MINIMAL["trails"])]}, "stands twice"),
    ],
)
def test_what_a_profile_may_not_allow_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path, {**MINIMAL, **changes})
    with pytest.raises(ProfileError, match=said) as caught:
        load_profile(path)
    assert caught.value.line


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    result = keytrail("hunt", FIXTURES / "sample", "--site", tmp_path / "none.yml")
    assert result.exit_code == 2
    assert "none.yml" in result.stderr


# -- scope --------------------------------------------------------------------------------------------------------


def matches(stem: str, record: dict[str, Any]) -> bool:
    return reference.matches(SITED[stem].document, record)


ALIAS = st.text("abcdefghijklmnopqrstuvwxyz0123456789/_-", min_size=1, max_size=20)
FORMS = st.one_of(
    st.sampled_from([OURS, OURS.upper(), f"{PREFIX}key/{OURS}"]),
    ALIAS.map(lambda name: f"alias/{name}"),
    ALIAS.map(lambda name: f"{PREFIX}alias/{name}"),
)
RESOURCES = st.sampled_from(
    [
        None,
        [],
        [{"ARN": f"{PREFIX}key/{OURS}", "accountId": "111122223333"}],
        [{"ARN": f"{PREFIX}key/{OTHER}"}, {"ARN": f"{PREFIX}key/{OURS}"}],
        [{"arn": f"{PREFIX}key/{OURS}"}],
    ]
)
NARROWED = reference.compile_rule(SITED["trail_key_disabled"].document)


@settings(max_examples=200, deadline=None)
@given(form=st.one_of(FORMS, st.none()), resources=RESOURCES)
def test_no_form_of_its_own_key_is_lost(form: str | None, resources: object) -> None:
    assert NARROWED({**DISABLE, "resources": resources, "requestParameters": form and {"keyId": form}})


@pytest.mark.parametrize("form", [OTHER, f"{PREFIX}key/{OTHER}", "alias/whatever", OURS])
def test_another_key_that_resources_tell_is_out_of_scope_whatever_the_request_says(form: str) -> None:
    record = changed(DISABLE, resources=[{"ARN": f"{PREFIX}key/{OTHER}"}], requestParameters={"keyId": form})
    assert reference.matches(PLAIN["trail_key_disabled"].document, record)
    assert not matches("trail_key_disabled", record)


def test_a_copy_of_a_multi_region_key_is_its_own_key(tmp_path: Path) -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
    copied = key.replace("eu-west-1", "ap-south-1")
    content = {**MINIMAL, "trails": [{**MINIMAL["trails"][0], "keys": [{"arn": key}]}]}
    rule = apply_profile([PLAIN["trail_key_disabled"]], load_profile(written(tmp_path, content)))[0]
    for record in (
        changed(DISABLE, resources=[{"ARN": copied}]),
        changed(DISABLE, resources=None, requestParameters={"keyId": copied}),
    ):
        assert reference.matches(rule.document, record)
    assert not reference.matches(rule.document, changed(DISABLE, resources=[{"ARN": f"{PREFIX}key/{OTHER}"}]))


def test_aliases_narrow_only_where_the_profile_says_that_they_are_all(tmp_path: Path) -> None:
    moved = json.loads((FIXTURES / "events" / "update_alias.json").read_text())
    moved["requestParameters"]["aliasName"] = "alias/other"
    moved["resources"][0]["ARN"] = f"{PREFIX}alias/other"
    keys = [{"arn": f"{PREFIX}key/{OURS}", "aliases": ["alias/example-trail-key"]}]
    for complete in (False, True):
        content = {**MINIMAL, "trails": [{**MINIMAL["trails"][0], "keys": keys}], "all_aliases_listed": complete}
        profile = load_profile(written(tmp_path, content))
        rule = apply_profile([PLAIN["trail_key_alias_moved_or_deleted"]], profile)[0]
        assert reference.matches(rule.document, moved) is not complete
        ours = json.loads((FIXTURES / "events" / "update_alias.json").read_text())
        assert reference.matches(rule.document, ours)


def test_every_rule_that_says_so_is_narrowed_and_no_other() -> None:
    for stem, rule in PLAIN.items():
        said = rule.document["keytrail"]
        assert bool(SITED[stem].filters) is bool(said.get("scope") or said.get("allow")), stem


def test_a_rule_that_is_about_any_key_without_a_profile_is_of_a_higher_level_with_one(tmp_path: Path) -> None:
    raised = {rule.stem: rule.document["keytrail"].get("level_at_site", rule.level) for rule in RULES}
    assert raised["trail_key_disabled"] == "high"
    assert {stem: rule.level for stem, rule in SITED.items()} == raised
    expired = load_profile(written(tmp_path, {**MINIMAL, "expires": "2026-01-31"}))
    assert apply_profile([PLAIN["trail_key_disabled"]], expired)[0].level == "medium"


def test_an_expired_profile_leaves_nothing_that_needs_one_to_alert_on_everything(tmp_path: Path) -> None:
    expired = load_profile(written(tmp_path, {**MINIMAL, "expires": "2026-01-31"}))
    waiting = {rule.id for rule in RULES if needs_profile(rule)}
    assert {rule.id for rule in apply_profile(RULES, expired) if needs_profile(rule)} == waiting
    said = json.loads(keytrail("hunt", FIXTURES / "sample", "--site", expired.path, "--format", "json").stdout)
    assert {name for name, reason in said["refused"].items() if reason == "needs a profile"} == waiting


def test_rules_that_need_a_profile_say_so_without_one_and_work_with_one() -> None:
    waiting = sorted(rule.stem for rule in RULES if needs_profile(rule))
    assert {"context_bucket_and_key_disagree", "log_read_by_unlisted_reader"} <= set(waiting)
    for stem in waiting:
        refused = convert(PLAIN[stem], get_schema("keytrail"))
        assert refused.verdict == "refused"
        assert "needs a profile" in str(refused.error)
        assert convert(SITED[stem], get_schema("keytrail")).query is not None
    hunted = keytrail("hunt", FIXTURES / "sample", "--format", "json")
    assert hunted.exit_code == 0
    assert "needs a profile" in json.loads(hunted.stdout)["refused"][PLAIN[waiting[0]].id]
    assert waiting[0] in hunted.stderr


def test_the_sample_is_quiet_where_the_site_allows_and_loud_where_it_does_not() -> None:
    counts = json.loads(
        keytrail("hunt", FIXTURES / "sample", "--site", FIXTURES / "site.yml", "--format", "json").stdout
    )["counts"]
    assert counts[PLAIN["log_read_by_unlisted_reader"].id] == 0
    assert counts[PLAIN["context_bucket_and_key_disagree"].id] == 0
    assert counts[PLAIN["trail_key_disabled"].id] == 1
    assert counts[PLAIN["key_policy_or_grants_enumerated"].id] > 0


def test_a_correlation_is_narrowed_by_what_it_says_of_itself_and_its_rules_are_not() -> None:
    rules = load_rules([packaged("rules")]).rules
    sited = {rule.stem: rule for rule in apply_profile(rules, SITE)}
    read = json.loads((FIXTURES / "events" / "modern_read_log_file.json").read_text())
    stem = "encrypted_log_file_read"
    assert reference.matches(sited[stem].document, read)
    for correlation in (rule for rule in rules if rule.kind == "correlation" and stem in rule.references):
        base = sited[correlation.stem].references[stem].document
        listed = "readers" in (correlation.document["keytrail"].get("allow") or ())
        assert reference.matches(base, read) is not listed, correlation.stem
        read_by_other = changed(read, userIdentity={"type": "IAMUser", "arn": "x", "invokedBy": "AWS Internal"})
        assert reference.matches(base, read_by_other)


def test_what_a_reader_does_besides_reading_still_counts() -> None:
    changed_policy = json.loads((FIXTURES / "events" / "put_key_policy_without_cloudtrail.json").read_text())
    reader = "arn:aws:iam::111122223333:role/LogReader"
    changed_policy["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = reader
    rules = apply_profile(load_rules([packaged("rules")]).rules, SITE)
    opened = next(rule for rule in rules if rule.stem == "key_opened_then_log_read")
    assert reference.matches(opened.references["key_access_changed"].document, changed_policy)


def test_an_earlier_bucket_is_still_the_trails_to_read_and_not_to_change_to(tmp_path: Path) -> None:
    before = {**MINIMAL["trails"][0], "bucket": "former-bucket", "earlier": True}
    path = written(tmp_path, {**MINIMAL, "trails": [*MINIMAL["trails"], before]})
    rules = [PLAIN["context_bucket_and_key_disagree"], PLAIN["trail_bucket_changed"]]
    disagree, moved = apply_profile(rules, load_profile(path))
    read = json.loads((FIXTURES / "events" / "modern_read_log_file.json").read_text())
    context = read["requestParameters"]["encryptionContext"]
    context["aws:s3:arn"] = context["aws:s3:arn"].replace("example-trail-bucket", "former-bucket")
    assert not reference.matches(disagree.document, read)
    back = json.loads((FIXTURES / "events" / "update_trail_bucket.json").read_text())
    back["requestParameters"]["s3BucketName"] = back["responseElements"]["s3BucketName"] = "former-bucket"
    assert reference.matches(moved.document, back)


@pytest.mark.parametrize("most", [3, 300])
def test_no_account_of_the_site_covers_for_a_foreign_one_in_a_policy(tmp_path: Path, most: int) -> None:
    accounts = [f"{111122223333 + 2_700_000_003 * number:012d}" for number in range(most)]
    path = written(tmp_path, {**MINIMAL, "accounts": [{"id": account} for account in accounts]})
    rule = apply_profile([PLAIN["key_policy_names_foreign_account"]], load_profile(path))[0]
    assert convert(rule, get_schema("keytrail")).query is not None
    event = json.loads((FIXTURES / "events" / "put_key_policy.json").read_text())
    for foreign in (None, "666666666666", f"{int(accounts[-1]) + 1:012d}"):
        named = [*accounts, foreign] if foreign else accounts
        event["requestParameters"]["policy"] = json.dumps({"AWS": [f"arn:aws:iam::{one}:root" for one in named]})
        assert reference.matches(rule.document, event) is (foreign is not None), foreign


# -- as filters ---------------------------------------------------------------------------------------------------


def test_the_profile_as_filters_gives_stock_sigma_the_same_query(tmp_path: Path) -> None:
    result = keytrail("profile", FIXTURES / "site.yml", "--as-filters", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert sorted(map(str, tmp_path.iterdir())) == sorted(result.stdout.split())
    command = [
        str(Path(sys.executable).with_name("sigma")),
        "convert",
        "-t",
        "keytrail_query_dsl",
        "-p",
        "keytrail_ecs",
    ]
    path = PLAIN["trail_key_disabled"].path
    done = subprocess.run([*command, "--filter", str(tmp_path), str(path)], capture_output=True, text=True, check=False)
    ours = keytrail("convert", path, "--schema", "ecs", "--site", FIXTURES / "site.yml")
    assert json.loads(done.stdout) == json.loads(ours.stdout)
    again = keytrail("profile", FIXTURES / "site.yml", "--as-filters", tmp_path)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_the_filters_that_were_written_are_sound(tmp_path: Path) -> None:
    keytrail("profile", FIXTURES / "site.yml", "--as-filters", tmp_path)
    found = load_filters([tmp_path])
    assert not found.errors
    assert {one.stem for one in found.filters} == {one.stem for one in site_filters(SITE, RULES)}


def test_what_has_expired_is_not_written_and_named(tmp_path: Path) -> None:
    reader = {
        "role": "arn:aws:iam::111122223333:role/LogReader",
        "expires": "2026-01-31",
        "owner": "alice",
        "reason": "x",
    }
    path = written(tmp_path, {**MINIMAL, "readers": [reader]})
    result = keytrail("profile", path, "--as-filters", tmp_path / "filters")
    assert result.exit_code == 1
    assert f"{path}:" in result.stderr
    assert "alice" in result.stderr
    assert not (tmp_path / "filters" / "known_readers.yml").exists()
    tested = keytrail("test", "trail_key_disabled", "--schema", "keytrail", "--site", path)
    assert tested.exit_code == 1
    assert "2026-01-31" in tested.stderr


def test_test_proves_the_narrowed_rules_as_well() -> None:
    result = keytrail("test", "trail_key_rotation_unknown", "--site", FIXTURES / "site.yml")
    assert result.exit_code == 2
    result = keytrail("test", "key_store_cut", "key_deleted", "--schema", "keytrail", "--site", FIXTURES / "site.yml")
    assert result.exit_code == 0, result.output
    assert "key_deleted@example" in result.stdout


def test_what_the_site_turns_on_is_written_under_its_own_name(tmp_path: Path) -> None:
    keytrail("profile", FIXTURES / "site.yml", "--as-filters", tmp_path)
    written_ = yaml.safe_load((tmp_path / "aws_config_recorder.yml").read_text())
    assert written_["keytrail"]["owner"] == "security team"
