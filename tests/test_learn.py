"""A site profile learned from logs: what is trusted, and what an attacker could have planted."""

from __future__ import annotations

import copy
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.learn import MOST_LISTED, Learner
from keytrail.learned import judge
from keytrail.pack import load_rules
from keytrail.profile import load_profile, problems

from benchmarks.quiet_month import month
from fixtures import make_sample as sample

FIXTURES = packaged("fixtures")
IDS = {rule.stem: rule.id for rule in load_rules([packaged("rules")]).rules}
DISABLE = json.loads((FIXTURES / "events" / "disable_key.json").read_text())
DELIVER = json.loads((FIXTURES / "events" / "modern_deliver_log_file.json").read_text())


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def changed(record: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(record), **fields}


def learned(records: Iterable[dict[str, Any]], accounts: Iterable[str] = ()) -> Any:
    learner = Learner(list(accounts))
    for record in records:
        learner.take(record)
    return judge(learner)


@pytest.fixture(scope="module")
def days() -> list[dict[str, Any]]:
    """Eight days in which nothing happens; of the deliveries and much else, two of three will do."""
    whole = ("UpdateTrail", "Decrypt")
    return [event for number, event in enumerate(month(range(8))) if event["eventName"] in whole or number % 3 < 2]


@pytest.fixture(scope="module")
def quiet(days: list[dict[str, Any]]) -> Any:
    """What is learned from them."""
    return learned(days)


def test_a_quiet_time_gives_the_trail_its_key_and_its_readers(days: list[dict[str, Any]], quiet: Any) -> None:
    found = quiet
    sealed = [event for event in days if event["eventName"] == "GenerateDataKey" and trail_of(event) == sample.TRAIL]
    trail = next(iter(found.trails.values()))
    assert (trail["arn"], trail["bucket"]) == (sample.TRAIL, sample.BUCKET)
    assert [key["arn"] for key in trail["keys"]] == [sample.KEY]
    assert trail["seen"]["events"] == len(sealed) > 1000
    assert trail["seen"]["first"].startswith("2026-10-01T00:00")
    [reader] = found.readers
    assert reader["role"] == "arn:aws:iam::111122223333:role/LogReader"
    reads = sum(event["eventName"] == "Decrypt" for event in days)
    assert reader["reason"] == f"made {reader['seen']['events']} of {reads} reads, on 8 of 8 days, by the logs"
    assert {entry["what"] for entry in found.untrusted} == {"administrator", "reader"}


def test_who_reads_little_is_listed_apart_however_regular_he_is(quiet: Any) -> None:
    [analyst] = [entry for entry in quiet.untrusted if entry["what"] == "reader"]
    assert analyst["user"] == "arn:aws:iam::111122223333:user/cloudtrail-admin"
    assert "on 6 of 8 days: so few" in analyst["why"]


def trail_of(event: dict[str, Any]) -> object:
    context = (event["requestParameters"] or {}).get("encryptionContext", {})
    return context.get("aws:cloudtrail:arn")


def planted(base: dict[str, Any], who: dict[str, Any], **context: str) -> dict[str, Any]:
    record = changed(base, userIdentity=who, eventID="planted")
    record["requestParameters"]["encryptionContext"].update(context)
    return record


def test_a_forged_context_is_listed_apart_and_not_used(days: list[dict[str, Any]], quiet: Any) -> None:
    where = {"aws:s3:arn": "arn:aws:s3:::mallorys-bucket/AWSLogs/111122223333/CloudTrail/x.json.gz"}
    sealed = next(event for event in days if trail_of(event) == sample.TRAIL)
    forged = planted(sealed, sample.user("mallory"), **where)
    read = planted(
        next(event for event in days if event["eventName"] == "Decrypt"),
        sample.user("mallory") | {"invokedBy": "AWS Internal"},
        **where,
    )
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
    assert "seen once" in why["arn:aws:iam::111122223333:role/Once"]
    assert "on 1 of 8 days: whoever breaks in" in why["arn:aws:iam::111122223333:role/Night"]
    assert "neither a role nor a user" in why["Root 111122223333"]
    assert len(found.readers) == 1


def reads_by(name: str, reads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    who = sample.role(name, "x") | {"invokedBy": "AWS Internal"}
    return [changed(planted(read, who), eventID=f"{name} {number}") for number, read in enumerate(reads)]


def test_three_days_of_patience_are_not_enough_to_be_trusted(days: list[dict[str, Any]]) -> None:
    late = [event for event in days if event["eventName"] == "Decrypt" and event["eventTime"] >= "2026-10-06"]
    found = learned([*days, *reads_by("Patient", late)])
    assert [reader["role"] for reader in found.readers] == ["arn:aws:iam::111122223333:role/LogReader"]
    [patient] = [entry for entry in found.untrusted if "Patient" in str(entry.get("role"))]
    assert patient["seen"]["events"] == len(late) > 800
    assert "on 3 of 8 days" in patient["why"]


def test_the_noise_of_one_night_takes_nobody_elses_trust_away(days: list[dict[str, Any]]) -> None:
    few = [event for number, event in enumerate(days) if event["eventName"] != "Decrypt" or number % 16 == 0]
    night = [event for event in few if event["eventName"] == "Decrypt"][:10] * 400
    found = learned([*few, *reads_by("Noise", night)])
    assert [reader["role"] for reader in found.readers] == ["arn:aws:iam::111122223333:role/LogReader"]


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
    trusting = learned([*days, *(under(trail, event) for event in days)], accounts=[sample.STRANGER])
    assert trail in {shape["arn"] for shape in trusting.trails.values()}


def under(trail: str, event: dict[str, Any]) -> dict[str, Any]:
    """The same delivery by another trail; any other event as it is."""
    if event["eventName"] != "GenerateDataKey" or trail_of(event) != sample.TRAIL:
        return event
    record = changed(event, eventID=f"{event['eventID']} {trail}")
    record["requestParameters"]["encryptionContext"]["aws:cloudtrail:arn"] = trail
    return record


@pytest.mark.parametrize(("day", "trusted"), [("2026-10-0[5-8]", True), ("2026-10-0[6-8]", False)])
def test_a_trail_that_an_intruder_could_have_made_the_other_day_is_not_trusted(
    days: list[dict[str, Any]], quiet: Any, day: str, trusted: bool
) -> None:
    rogue = sample.TRAIL.replace("example", "rogue")
    found = learned([*days, *(under(rogue, event) for event in days if re.match(day, event["eventTime"]))])
    assert (rogue in {shape["arn"] for shape in found.trails.values()}) is trusted
    if not trusted:
        assert found.trails == quiet.trails
        [why] = [entry["why"] for entry in found.untrusted if entry.get("trail") == rogue]
        assert why.startswith("delivered on 3 of 8 days only")


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
    assert [entry["why"] for entry in found.untrusted] == ["made 1 of 1 reads, in 1 of 1 hours: seen once"]


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
    assert counts[IDS["log_read_by_unlisted_reader"]] == 1
    assert counts[IDS["trail_key_disabled"]] == 1
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


@pytest.mark.parametrize("arguments", [("--account", "12"), ("--expires", "soon"), ("--name", "/etc")])
def test_wrong_options_are_named(arguments: tuple[str, str]) -> None:
    result = keytrail("profile", FIXTURES / "sample", *arguments)
    assert result.exit_code == 2
    assert arguments[1] in result.stderr
