"""Days on which nothing happens: no rule of a high or critical level may fire on the site's own doings."""

from __future__ import annotations

from collections import Counter

from keytrail.data import packaged
from keytrail.pack import load_rules
from keytrail.profile import load_profile

from benchmarks.quiet_month import SITE, alerts, month

RULES = load_rules([packaged("rules")]).rules
LEVELS = {rule.stem: rule.level for rule in RULES}
ORDINARY = (5, 6, 12)  # a Tuesday, a Wednesday with its changes, and the day on which applications get their keys
RETIRING = (19,)  # an application's key is retired


def severe(found: Counter[str]) -> dict[str, int]:
    return {stem: count for stem, count in found.items() if LEVELS[stem] in ("high", "critical")}


def test_nothing_severe_fires_when_nothing_happens() -> None:
    found = alerts(RULES, ORDINARY)
    assert severe(found) == {}
    assert found["log_file_sealed"] == len(ORDINARY) * 288
    assert found["digest_file_sealed"] == len(ORDINARY) * 2 * 24


def test_without_a_profile_the_key_of_an_application_counts_as_a_trails_and_is_no_severe_alert() -> None:
    found = alerts(RULES, RETIRING)
    assert severe(found) == {}
    for stem in ("key_policy_without_cloudtrail", "trail_key_disabled", "trail_key_deletion_scheduled"):
        assert (found[stem], LEVELS[stem]) == (1, "medium")


def test_with_a_profile_nothing_but_descriptions_is_left() -> None:
    found = alerts(RULES, (*ORDINARY, *RETIRING), load_profile(SITE))
    assert {stem for stem in found if LEVELS[stem] != "informational"} <= {"trail_digests_silent"}


def test_the_month_holds_what_careless_rules_fire_on() -> None:
    events = list(month((*ORDINARY, *RETIRING)))
    calls = {event["eventName"] for event in events}
    assert {"PutKeyPolicy", "UpdateTrail", "CreateGrant", "GetKeyPolicy", "Decrypt", "CreateKey", "PutObject"} <= calls
    assert {"PutEventSelectors", "DisableKey", "ScheduleKeyDeletion", "GetObject"} <= calls
