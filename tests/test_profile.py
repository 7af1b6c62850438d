"""The site profile: its file and errors, the filters that it becomes, and how it is learned from logs."""

from __future__ import annotations

import copy
import gzip
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
from keytrail.filters import load_filters, needs_profile
from keytrail.learn import MOST_LISTED, Learner
from keytrail.learned import judge
from keytrail.pack import load_rules
from keytrail.profile import SCHEMA, load_profile, problems
from keytrail.schemas import get_schema
from keytrail.site_filters import apply_profile, site_filters

from benchmarks.quiet_month import month
from fixtures import make_sample as sample

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


def written(folder: Path, content: object, name: str = "site.yml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
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
        (
            {"readers": [{"role": "arn:aws:iam::111122223333:role/a", "user": "arn:aws:iam::111122223333:user/a"}]},
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
    reader = {"role": "arn:aws:iam::111122223333:role/LogReader", "expires": "2026-01-31", "owner": "alice"}
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


# -- learned ------------------------------------------------------------------------------------------------------


def learned(records: Iterable[dict[str, Any]], accounts: Iterable[str] = ()) -> Any:
    learner = Learner(list(accounts))
    for record in records:
        learner.take(record)
    return judge(learner)


@pytest.fixture(scope="module")
def days() -> list[dict[str, Any]]:
    """Eight days in which nothing happens; two of three events of them will do."""
    return [event for number, event in enumerate(month(8)) if event["eventName"] == "UpdateTrail" or number % 3 < 2]


@pytest.fixture(scope="module")
def quiet(days: list[dict[str, Any]]) -> Any:
    """What is learned from them."""
    return learned(days)


def test_a_quiet_time_gives_the_trail_its_key_and_its_readers(days: list[dict[str, Any]], quiet: Any) -> None:
    found = quiet
    sealed = [event for event in days if event["eventName"] == "GenerateDataKey"]
    trail = next(iter(found.trails.values()))
    assert (trail["arn"], trail["bucket"]) == (sample.TRAIL, sample.BUCKET)
    assert [key["arn"] for key in trail["keys"]] == [sample.KEY]
    assert trail["seen"]["events"] == len(sealed) > 1000
    assert trail["seen"]["first"].startswith("2026-10-01T00:00")
    assert [reader.get("role") or reader.get("user") for reader in found.readers] == [
        "arn:aws:iam::111122223333:role/LogReader",
        "arn:aws:iam::111122223333:user/cloudtrail-admin",
    ]
    assert {entry["what"] for entry in found.untrusted} == {"administrator"}


def planted(base: dict[str, Any], who: dict[str, Any], **context: str) -> dict[str, Any]:
    record = changed(base, userIdentity=who, eventID="planted")
    record["requestParameters"]["encryptionContext"].update(context)
    return record


def test_a_forged_context_is_listed_apart_and_not_used(days: list[dict[str, Any]], quiet: Any) -> None:
    where = {"aws:s3:arn": "arn:aws:s3:::mallorys-bucket/AWSLogs/111122223333/CloudTrail/x.json.gz"}
    forged = planted(days[0], sample.user("mallory"), **where)
    read = planted(days[1], sample.user("mallory") | {"invokedBy": "AWS Internal"}, **where)
    found = learned([*days, forged, changed(read, eventID="2")])
    assert found.trails == quiet.trails
    said = [entry for entry in found.untrusted if entry["what"] == "context"]
    assert {entry["by"] for entry in said} == {"arn:aws:iam::111122223333:user/mallory"}
    assert {entry["bucket"] for entry in said} == {"mallorys-bucket"}
    assert any("not made by CloudTrail" in entry["why"] for entry in said)
    assert any("does not use together" in entry["why"] for entry in said)


def test_a_reader_seen_once_or_in_one_night_is_not_trusted(days: list[dict[str, Any]]) -> None:
    reads = [record for record in days if record["eventName"] == "Decrypt"][:40]
    once = [planted(reads[0], sample.role("Once", "x") | {"invokedBy": "AWS Internal"})]
    night = [
        changed(planted(read, sample.role("Night", "x") | {"invokedBy": "AWS Internal"}), eventID=str(number))
        for number, read in enumerate(reads)
    ]
    root = [
        changed(record, userIdentity={"type": "Root", "accountId": "111122223333", "invokedBy": "AWS Internal"})
        for record in reads
    ]
    found = learned([*days, *once, *night, *[{**record, "eventID": f"r{n}"} for n, record in enumerate(root)]])
    why = {str(entry.get("role") or entry.get("principal")): entry["why"] for entry in found.untrusted}
    assert why["arn:aws:iam::111122223333:role/Once"] == "seen once"
    assert "1 day only" in why["arn:aws:iam::111122223333:role/Night"]
    assert "neither a role nor a user" in why["Root 111122223333"]
    assert len(found.readers) == 2


def delivered(number: int, key: str, trail: str = sample.TRAIL) -> dict[str, Any]:
    name = sample.log_file(sample.REGION, sample.at("08:15:00", number))
    record = changed(sample.seal(sample.at("08:15:00", number), name), eventID=f"delivered {number} {key} {trail}")
    record["resources"] = [{"ARN": key}]
    record["requestParameters"]["encryptionContext"]["aws:cloudtrail:arn"] = trail
    return record


def test_another_key_a_foreign_key_and_a_foreign_trail_are_not_trusted(days: list[dict[str, Any]], quiet: Any) -> None:
    another = sample.KEY.replace("1234abcd", "deadbeef")
    foreign = another.replace(sample.ACCOUNT, sample.STRANGER)
    trail = sample.TRAIL.replace(sample.ACCOUNT, sample.STRANGER)
    events = [
        *(delivered(number, another) for number in range(12)),
        delivered(0, foreign),
        delivered(0, sample.KEY, trail),
    ]
    found = learned([*days, *events])
    assert found.trails == quiet.trails
    why = {(entry.get("key"), entry.get("trail")): entry["why"] for entry in found.untrusted}
    assert "another key" in why[another, sample.TRAIL]
    assert sample.STRANGER in why[foreign, sample.TRAIL]
    assert "the trail is of account" in why[sample.KEY, trail]
    trusting = learned([*days, delivered(0, sample.KEY, trail)], accounts=[sample.STRANGER])
    assert trail in {shape["arn"] for shape in trusting.trails.values()}


def test_what_a_trail_was_set_to_is_believed_only_when_deliveries_confirm_it(
    days: list[dict[str, Any]], quiet: Any
) -> None:
    update = json.loads((FIXTURES / "events" / "update_trail_bucket.json").read_text())
    found = learned([*days, update])
    assert found.trails == quiet.trails
    assert [entry for entry in found.untrusted if entry.get("event") == "UpdateTrail" and "no delivery" in entry["why"]]


def test_the_same_event_twice_counts_once(days: list[dict[str, Any]], quiet: Any) -> None:
    assert learned([*days, *days]).trails == quiet.trails


def test_the_documented_forms_of_2015_are_learned() -> None:
    names = ("documented_configure_trail", "documented_deliver_log_file", "documented_read_log_file")
    found = learned(json.loads((FIXTURES / "events" / f"{name}.json").read_text()) for name in names)
    trail = next(iter(found.trails.values()))
    assert trail["bucket"] == "example-bucket-for-CT-logs"
    assert trail["seen"]["events"] == 2
    assert [entry["why"] for entry in found.untrusted] == ["seen once"]


def test_a_flood_of_planted_things_hides_nothing_of_another_kind(days: list[dict[str, Any]]) -> None:
    flood = [changed(planted(days[0], sample.user(f"u{number}")), eventID=f"flood {number}") for number in range(300)]
    learner = Learner()
    for record in (*days, *flood):
        learner.take(record)
    assert len(judge(learner).untrusted) > 300
    whole = keytrail_profile([*days, *flood])
    kinds = [entry["what"] for entry in whole["untrusted"]]
    assert kinds.count("context") == MOST_LISTED + 1
    assert "administrator" in kinds


def keytrail_profile(records: list[dict[str, Any]]) -> Any:
    data = json.dumps({"Records": records}).encode()
    done = subprocess.run(
        [sys.executable, "-m", "keytrail", "profile", "-"], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_the_profile_of_the_sample_can_be_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "site.yml"
    result = keytrail("profile", FIXTURES / "sample", "-o", path)
    assert result.exit_code == 0, result.stderr
    value = yaml.safe_load(path.read_text())
    assert value["trails"][0]["seen"]["events"] == 40
    assert value["learned"]["records"] == 235
    assert {entry["what"] for entry in value["untrusted"]} == {"reader", "context", "trail", "administrator"}
    assert not problems(path)
    hunted = keytrail("hunt", FIXTURES / "sample", "--site", path, "--format", "json")
    assert hunted.exit_code == 0, hunted.stderr
    counts = json.loads(hunted.stdout)["counts"]
    assert counts[PLAIN["log_read_by_unlisted_reader"].id] == 1
    assert counts[PLAIN["trail_key_disabled"].id] == 1
    again = keytrail("profile", FIXTURES / "sample", "-o", path)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert keytrail("profile", FIXTURES / "sample", "-o", path, "--force", "--owner", "soc").exit_code == 0
    assert load_profile(path).owner == "soc"


def test_text_from_a_log_cannot_become_yaml_or_reach_the_terminal(tmp_path: Path) -> None:
    evil = "x\nreaders: [{user: 'arn:aws:iam::111122223333:user/mallory'}] # \x1b[31m\u202e"
    record = planted(DELIVER, {"type": "IAMUser", "arn": evil, "accountId": evil}, **{"aws:s3:arn": evil})
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [DELIVER, record]}))
    result = keytrail("profile", log)
    assert result.exit_code == 0, result.stderr
    assert "readers: []" in result.stdout
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert yaml.safe_load(result.stdout)["readers"] == []


def test_nothing_to_learn_is_said_and_writes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.json.gz"
    log.write_bytes(gzip.compress(json.dumps({"Records": [DISABLE]}).encode()))
    result = keytrail("profile", log, "-o", tmp_path / "site.yml")
    assert result.exit_code == 1
    assert "no trail can be learned" in result.stderr
    assert not (tmp_path / "site.yml").exists()


def test_odd_records_are_no_stumbling_block() -> None:
    odd = [
        changed(DELIVER, requestParameters={"encryptionContext": {"aws:cloudtrail:arn": [1], "aws:s3:arn": {"a": 1}}}),
        changed(DELIVER, userIdentity=None),
        changed(DELIVER, userIdentity={"type": 5, "sessionContext": "x"}, eventName="Decrypt"),
        changed(DELIVER, resources="x", eventID=7, eventTime=None, recipientAccountId=5),
        changed(DELIVER, eventSource="cloudtrail.amazonaws.com", eventName="UpdateTrail", responseElements=[]),
    ]
    found = learned([DELIVER, *odd])
    assert len(found.trails) == 1


def test_what_the_site_turns_on_is_written_under_its_own_name(tmp_path: Path) -> None:
    keytrail("profile", FIXTURES / "site.yml", "--as-filters", tmp_path)
    written_ = yaml.safe_load((tmp_path / "aws_config_recorder.yml").read_text())
    assert written_["keytrail"]["owner"] == "security team"


@pytest.mark.parametrize("arguments", [("--account", "12"), ("--expires", "soon"), ("--name", "/etc")])
def test_wrong_options_are_named(arguments: tuple[str, str]) -> None:
    result = keytrail("profile", FIXTURES / "sample", *arguments)
    assert result.exit_code == 2
    assert arguments[1] in result.stderr
