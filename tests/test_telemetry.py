"""Rules whose events are not in the logs are blind, and are said to be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.pack import load_rules
from keytrail.telemetry import NEEDS, blind_on, words

EVENTS = load_events(packaged("fixtures") / "events")
RULES = load_rules([packaged("rules")]).rules


def blind(*records: Mapping[str, Any]) -> dict[str, str]:
    stems = {rule.id: rule.stem for rule in RULES}
    return {stems[rule]: why for rule, why in blind_on(records, RULES).items()}


def test_no_rule_is_blind_where_every_kind_of_event_is() -> None:
    assert blind(*EVENTS.values()) == {}


def test_without_data_events_of_s3_the_rules_about_objects_are_blind() -> None:
    found = blind(*(event for event in EVENTS.values() if event.get("eventCategory") != "Data"))
    needing = {rule.stem for rule in RULES if "s3-data" in words(rule)}
    assert found == dict.fromkeys(needing, "there are no data events of s3.amazonaws.com among the events")


def test_with_kms_excluded_every_rule_that_needs_it_is_blind() -> None:
    found = blind(*(event for event in EVENTS.values() if event["eventSource"] != "kms.amazonaws.com"))
    assert set(found) == {rule.stem for rule in RULES if {"kms-management", "kms-read"} & set(words(rule))}
    assert found["trail_key_disabled"] == "there are no events of kms.amazonaws.com among the events"
    assert found["root_reads_logs"] == "there are no read events of kms.amazonaws.com among the events"


def test_a_quiet_account_blinds_nobody() -> None:
    """No change of a key or a trail, but one of another service shows that changes are recorded."""
    change = {"eventSource": "ec2.amazonaws.com", "readOnly": False, "managementEvent": True}
    found = blind(EVENTS["modern_deliver_log_file"], EVENTS["modern_read_log_file"], change)
    assert not {"trail_key_disabled", "trail_stopped_or_deleted", "log_bucket_weakened", "root_reads_logs"} & set(found)


def test_a_trail_that_records_changes_alone_blinds_the_rules_about_reads() -> None:
    found = blind(*(event for event in EVENTS.values() if event.get("readOnly") is False))
    assert "delivery_cannot_use_key" in found
    assert "trail_key_disabled" not in found


def test_a_trail_that_records_reads_alone_blinds_the_rules_about_changes() -> None:
    found = blind(EVENTS["modern_deliver_log_file"])
    assert found["trail_key_disabled"] == "there are no management events that write among the events"
    assert "delivery_cannot_use_key" not in found


def test_an_old_record_that_does_not_say_whether_it_writes_blinds_nobody() -> None:
    old = {"eventSource": "kms.amazonaws.com", "eventName": "DisableKey"}
    assert "trail_key_disabled" not in blind(old)
    assert "trail_stopped_or_deleted" not in blind(old)


def test_exporters_that_write_truth_values_as_texts_are_understood() -> None:
    texts = [
        {key: str(value) if isinstance(value, bool) else value for key, value in e.items()} for e in EVENTS.values()
    ]
    assert blind(*texts) == {}


def test_of_no_event_nothing_is_said() -> None:
    assert blind() == {}


@pytest.mark.parametrize("style", ["table", "json", "ndjson"])
def test_a_hunt_says_which_rules_are_blind(style: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"Records": [EVENTS["modern_deliver_log_file"]]}), encoding="utf-8")
    result = CliRunner().invoke(main, ["hunt", str(path), "--format", style])
    assert result.exit_code == 0
    why = "there are no data events of s3.amazonaws.com among the events"
    if style == "json":
        found = json.loads(result.stdout)
        stems = {rule.id: rule.stem for rule in RULES}
        assert {stems[rule] for rule, reason in found["blind"].items() if reason == why} == {
            rule.stem for rule in RULES if words(rule) == ["s3-data"]
        }
    else:
        assert f"note: blind, because {why}: foreign_write_among_logs" in result.stderr


def test_the_proof_says_which_rules_its_events_do_not_reach(tmp_path: Path) -> None:
    cases, events = tmp_path / "cases", tmp_path / "events"
    for folder in (cases, events):
        folder.mkdir()
    (events / "disable_key.json").write_text(json.dumps(EVENTS["disable_key"]), encoding="utf-8")
    case = {"name": "another call", "event": "disable_key", "match": False}
    (cases / "sse_c_write.yml").write_text(json.dumps({"cases": [case]}), encoding="utf-8")
    words = ["test", "sse_c_write", "--events", str(events), "--cases", str(cases), "--format", "json"]
    result = CliRunner().invoke(main, words)
    found = json.loads(result.stdout)["blind"]
    assert list(found.values()) == ["there are no data events of s3.amazonaws.com among the events"]


def test_every_word_of_the_rules_is_known() -> None:
    assert {word for rule in RULES for word in words(rule)} == set(NEEDS)
