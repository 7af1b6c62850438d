"""``keytrail plan`` and ``keytrail apply`` as a person uses them, with rules of the pack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from keytrail.cli import main

from tests.kibana_server import Kibana, Space, running

NAMES = ("trail_key_disabled", "log_file_sealed")
WHERE = ("--schema", "keytrail")
FILTER = """\
title: Our own account
id: 7e0c1a52-6f0e-4c77-9d0e-2f2d8f2b7a11
logsource: {product: aws, service: cloudtrail}
filter:
    rules: any
    own: {recipientAccountId: '111122223333'}
    condition: not own
keytrail: {owner: soc, reason: it is ours, expires: 2999-01-01}
"""


@pytest.fixture
def kibana(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kibana]:
    for name in ("KIBANA_API_KEY", "KIBANA_USERNAME", "KIBANA_PASSWORD", "KIBANA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)
    with running() as found:
        yield found
        assert found.dropped == set(), "a field was sent that Kibana does not know"


def keytrail(kibana: Kibana, command: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, [command, "--kibana", kibana.url, *WHERE, *map(str, arguments)])


def test_plan_apply_and_plan_again(kibana: Kibana) -> None:
    planned = keytrail(kibana, "plan", *NAMES)
    assert planned.exit_code == 3, planned.output
    assert "+ create   rule CloudTrail Key Disabled" in planned.stdout
    assert not kibana.rules
    applied = keytrail(kibana, "apply", *NAMES, "--yes")
    assert applied.exit_code == 0, applied.output
    assert "2 done, 0 not done" in applied.stdout
    again = keytrail(kibana, "plan", *NAMES)
    assert again.exit_code == 0
    assert "2 as they should be" in again.stdout
    writes = len(kibana.log)
    assert keytrail(kibana, "apply", *NAMES, "--yes").exit_code == 0
    assert len(kibana.log) == writes


def test_the_whole_pack_goes_there_and_a_second_apply_writes_nothing(kibana: Kibana) -> None:
    planned = json.loads(keytrail(kibana, "plan", "--format", "json").stdout)
    assert planned["counts"]["create"] > 40
    result = keytrail(kibana, "apply", "--yes", "--allow-refused")
    assert result.exit_code == 0, result.output
    assert len(kibana.rules) == planned["counts"]["create"]
    writes = len(kibana.log)
    assert keytrail(kibana, "plan", "--allow-refused").exit_code == 0
    assert len(kibana.log) == writes


def test_apply_asks_or_holds_to_a_plan_file(kibana: Kibana, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert keytrail(kibana, "apply", *NAMES).exit_code == 2
    assert not kibana.rules
    assert keytrail(kibana, "plan", *NAMES, "-o", path).exit_code == 3
    kibana.put_by_hand(type="query", rule_id="other", name="x", description="x", risk_score=1, severity="low")
    refused = keytrail(kibana, "apply", NAMES[0], "--plan", path)
    assert refused.exit_code == 1
    assert "was to create" in refused.stderr
    assert keytrail(kibana, "apply", *NAMES, "--plan", path).exit_code == 0
    path.write_text("{")
    assert keytrail(kibana, "apply", *NAMES, "--plan", path).exit_code == 2


def test_drift_and_conflicts_are_shown_with_their_exit_codes(kibana: Kibana) -> None:
    keytrail(kibana, "apply", *NAMES, "--yes")
    rule_id = next(iter(kibana.rules.values()))["rule_id"]
    kibana.edit(rule_id, severity="low", risk_score=1)
    kept = keytrail(kibana, "plan", *NAMES)
    assert kept.exit_code == 0
    assert "changed by hand, and kept" in kept.stdout
    overwritten = keytrail(kibana, "plan", *NAMES, "--drift", "overwrite")
    assert overwritten.exit_code == 3
    kibana.edit(rule_id, tags=["mine"])
    assert keytrail(kibana, "plan", *NAMES).exit_code == 1


def test_filters_become_exceptions_when_that_is_asked_for(kibana: Kibana, tmp_path: Path) -> None:
    path = tmp_path / "own.yml"
    path.write_text(FILTER)
    result = keytrail(kibana, "apply", *NAMES, "--filter", path, "--exceptions", "--yes")
    assert result.exit_code == 0, result.output
    (item,) = kibana.spaces["default"].items.values()
    assert item["expire_time"] == "2999-01-02T00:00:00.000Z"
    assert all(len(rule["exceptions_list"]) == 1 for rule in kibana.rules.values())
    assert not any("111122223333" in json.dumps(rule["filters"]) for rule in kibana.rules.values())
    assert keytrail(kibana, "plan", *NAMES, "--filter", path, "--exceptions").exit_code == 0


def test_a_rule_that_cannot_be_read_deletes_nothing(kibana: Kibana, tmp_path: Path) -> None:
    keytrail(kibana, "apply", *NAMES, "--yes")
    (tmp_path / "bad.yml").write_text("title: [")
    result = keytrail(kibana, "plan", tmp_path, "--prune")
    assert result.exit_code == 2
    assert "delete" not in result.stdout


def test_a_space_that_does_not_exist_is_an_error_and_not_a_place_to_write_to(kibana: Kibana) -> None:
    for command in (["plan"], ["apply", "--yes"]):
        result = keytrail(kibana, *command, *NAMES, "--space", "sco")
        assert result.exit_code == 2
        assert "there is no space 'sco'" in result.stderr
        assert not kibana.log
    assert keytrail(kibana, "apply", "--yes", *NAMES, "--space", "soc").exit_code == 0
    assert not kibana.nowhere.get("sco", Space()).rules
    assert kibana.spaces["soc"].rules


def test_nothing_to_plan_for_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["plan"]).exit_code == 2


def test_an_apply_that_is_interrupted_says_what_it_did(kibana: Kibana) -> None:
    started = threading.Event()

    def slow(kibana: Kibana) -> None:
        started.set()
        time.sleep(1.0)

    kibana.fail("edit", "POST", act=slow)
    command = [sys.executable, "-m", "keytrail", "apply", "--kibana", kibana.url, *WHERE, *NAMES, "--yes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert started.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "1 done, 1 not done" in out
    assert len(kibana.rules) == 1
    assert keytrail(kibana, "apply", *NAMES, "--yes").exit_code == 0
    assert keytrail(kibana, "plan", *NAMES).exit_code == 0


def test_control_characters_of_a_rule_do_not_reach_the_terminal(kibana: Kibana) -> None:
    keytrail(kibana, "apply", *NAMES, "--yes")
    rule_id = next(iter(kibana.rules.values()))["rule_id"]
    kibana.edit(rule_id, note="\x1b[2J[bold]gone")
    shown = keytrail(kibana, "plan", *NAMES).stdout
    assert "\x1b" not in shown
    assert "[bold]gone" in shown


def test_a_kibana_that_is_not_there_is_a_named_error() -> None:
    result = CliRunner().invoke(main, ["plan", "--kibana", "http://127.0.0.1:9", *WHERE, NAMES[0]])
    assert result.exit_code == 2
    assert "cannot be reached" in result.stderr


def test_it_says_that_kibana_asks_to_wait(kibana: Kibana) -> None:
    kibana.fail("throttled", "POST", after="0.1")
    done = keytrail(kibana, "apply", "trail_key_disabled", "--yes")
    assert done.exit_code == 0, done.output
    assert "Kibana is throttling (Retry-After: 0.1 seconds); trying again in 0.1 seconds" in done.stderr
    assert "1 done, 0 not done" in done.stdout


def test_where_rules_search_and_how_often_they_run_can_be_said(kibana: Kibana) -> None:
    names = ("trail_key_disabled", "bulk_log_decrypt", "key_opened_then_log_read")
    runs = ("--index-pattern", "ours-*", "--every", "10", "--lateness", "60")
    assert keytrail(kibana, "apply", *names, *runs, "--yes").exit_code == 0
    rules = {str(rule["type"]): rule for rule in kibana.rules.values()}
    assert rules["query"]["index"] == rules["threshold"]["index"] == ["ours-*"]
    assert "FROM ours-*" in rules["esql"]["query"]
    assert {rule["interval"] for rule in kibana.rules.values()} == {"10m"}
    assert rules["query"]["from"] == "now-70m"
    assert keytrail(kibana, "apply", *names, *runs, "--data-view", "ours", "--yes").exit_code == 0
    rules = {str(rule["type"]): rule for rule in kibana.rules.values()}
    assert rules["query"]["data_view_id"] == rules["threshold"]["data_view_id"] == "ours"
    assert "index" not in rules["query"]


@pytest.mark.parametrize("pattern", ["a b", "Ours-*", "a,b", ""])
def test_a_pattern_that_is_none_is_named(pattern: str) -> None:
    done = CliRunner().invoke(main, ["convert", "--target", "kibana", "--index-pattern", pattern])
    assert done.exit_code == 2
    assert "names no indices" in done.stderr


def test_options_for_kibana_are_refused_for_other_targets() -> None:
    done = CliRunner().invoke(main, ["convert", "trail_key_disabled", "--every", "10"])
    assert done.exit_code == 2
    assert "--every is for --target kibana" in done.stderr


def test_rules_without_a_kibana_are_not_passed_over() -> None:
    done = CliRunner().invoke(main, ["plan", "trail_key_disabled", "--elasticsearch", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "rules are planned for Kibana" in done.stderr
