"""A fortnight in which nothing happens: no rule of a high or critical level may fire."""

from __future__ import annotations

from keytrail.data import packaged
from keytrail.pack import load_rules

from benchmarks.quiet_month import alerts, month


def test_nothing_severe_fires_when_nothing_happens() -> None:
    rules = load_rules([packaged("rules")]).rules
    found = alerts(rules, days=13)
    levels = {rule.stem: rule.level for rule in rules}
    assert {stem: count for stem, count in found.items() if levels[stem] in ("high", "critical")} == {}
    assert found["log_file_sealed"] == 13 * 288
    assert found["digest_file_sealed"] == 13 * 24


def test_the_month_holds_what_careless_rules_fire_on() -> None:
    calls = {event["eventName"] for event in month(13)}
    assert {"PutKeyPolicy", "UpdateTrail", "CreateGrant", "GetKeyPolicy", "Decrypt", "CreateKey"} <= calls
