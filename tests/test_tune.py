"""Tuning: what is proposed, what is refused and why, and that no attacker can step into what is accepted."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail import reference
from keytrail.cases import load_cases, load_events
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.errors import UsageError
from keytrail.filters import load_filters, narrow
from keytrail.folding import fold
from keytrail.pack import Rule, load_rules
from keytrail.paths import values
from keytrail.profile import Profile, load_profile
from keytrail.records import Reader
from keytrail.site_filters import apply_profile
from keytrail.tuning import survey as surveying
from keytrail.tuning.fields import ROLE, USER, Actor, actor_of
from keytrail.tuning.labels import Labels, load_labels, precision
from keytrail.tuning.propose import Decision, Proposal
from keytrail.tuning.survey import MOST_KINDS_EACH, Top, look
from keytrail.tuning.tune import Tuning, tune
from keytrail.tuning.twins import World, twins
from keytrail.tuning.write import write_filters
from keytrail.yamlcheck import plain_yaml

from fixtures import make_sample as sample

FIXTURES = packaged("fixtures")
RULES = {rule.stem: rule for rule in load_rules([packaged("rules")]).rules}
ENUMERATED = RULES["key_policy_or_grants_enumerated"]
START = datetime(2026, 10, 1, 9, tzinfo=timezone.utc)
DECISION = Decision("the team", "ticket 4711", date(2099, 6, 30))
Event = dict[str, Any]
OTHER_KEY = sample.KEY.replace("1234abcd", "0987dcba")
OFFICE = {"sourceIPAddress": "203.0.113.9", "userAgent": "scanner/1.0"}


def keytrail(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def policy_read(time: datetime, who: Event, key: str = sample.KEY, **more: Any) -> Event:
    event = sample.record(time, "kms:GetKeyPolicy", copy.deepcopy(who), OFFICE, {"keyId": key, "policyName": "default"})
    event["resources"] = [{"accountId": sample.ACCOUNT, "type": "AWS::KMS::Key", "ARN": key}]
    event["eventID"] = sample.identifier(f"{time} {who.get('arn')} {key}")
    return event | more


SCANNER = sample.role("Scanner", "nightly")
INTRUDER = sample.role("Intruder", "nightly")


def routine(who: Event = SCANNER, days: int = 10, key: str = sample.KEY, first: int = 0, **more: Any) -> list[Event]:
    return [policy_read(START + timedelta(days=day), who, key, **more) for day in range(first, days)]


def written(folder: Path, events: Iterable[Mapping[str, Any]]) -> Path:
    path = folder / "log.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


@pytest.fixture
def tuned(tmp_path: Path) -> Callable[..., Tuning]:
    """Tune a rule on some events."""

    def run(
        events: Iterable[Event], rule: Rule = ENUMERATED, labels: Labels | None = None, profile: Profile | None = None
    ) -> Tuning:
        return tune(look(rule, Reader([str(written(tmp_path, events))]), labels), None, profile)

    return run


def reasons(found: Tuning) -> list[str]:
    return [refusal.kind for one in found.verdicts for refusal in one.refusals]


# -- what is proposed ---------------------------------------------------------------------------------------------


def test_a_routine_is_taken_out_by_who_what_and_whose(tuned: Callable[..., Tuning]) -> None:
    found = tuned([*routine(), *routine(INTRUDER, days=1)])
    best = found.accepted[0]
    assert (found.survey.hits, best.removed, found.after([best])) == (11, 10, 1)
    assert best.proposal.lines[ROLE] == ("arn:aws:iam::111122223333:role/Scanner",)
    assert best.proposal.lines["resources.ARN"] == (sample.KEY,)
    assert best.proposal.lines["recipientAccountId"] == (sample.ACCOUNT,)
    assert best.tried > 20


def test_the_accepted_are_ranked_by_what_they_take_out_and_how_hard_they_are_to_step_into(
    tuned: Callable[..., Tuning],
) -> None:
    other = sample.user("auditor")
    found = tuned([*routine(), *routine(other)[::2]])
    assert [one.removed for one in found.accepted] == [10, 5]
    assert found.accepted[0].score > found.accepted[1].score
    assert found.after(found.accepted) == 0
    assert found.accepted[1].proposal.lines[USER] == (other["arn"],)


def test_what_an_attacker_writes_is_in_no_proposal_and_it_is_said_why(tuned: Callable[..., Tuning]) -> None:
    found = tuned(event for n in range(30) for event in routine(sample.role(f"Someone{n}", "same"), days=1))
    assert found.accepted == []
    assert {"user agent", "session name", "address", "account"} <= {one["field"] for one in found.never}
    for one in found.verdicts:
        assert not {"userAgent", "awsRegion", "eventID"} & set(one.proposal.lines)
        assert not any("assumed-role" in value for given in one.proposal.lines.values() for value in given)


def test_an_aws_service_that_acts_by_itself_can_be_named_and_somebody_through_it_still_fires(
    tuned: Callable[..., Tuning],
) -> None:
    failing = []
    for day in range(10):
        time = START + timedelta(days=day)
        event = sample.seal(time, sample.log_file(sample.REGION, time))
        failing.append(event | {"errorCode": "AccessDenied", "eventID": sample.identifier(f"failure {day}")})
    found = tuned(failing, RULES["delivery_cannot_use_key"])
    for one in found.accepted:
        assert one.proposal.lines["userIdentity.type"] == ("AWSService",)
        through = {**failing[0], "userIdentity": {**INTRUDER, "invokedBy": "cloudtrail.amazonaws.com"}}
        assert not one.proposal.removes(through)
    assert found.accepted


def test_of_two_calls_on_two_keys_each_that_lasts_is_taken_out_by_itself(
    tuned: Callable[..., Tuning], tmp_path: Path
) -> None:
    listed = [event | {"eventName": "ListGrants"} for event in routine(key=OTHER_KEY)]
    once = policy_read(START + timedelta(days=4), SCANNER, OTHER_KEY)
    found = tuned([*routine(), *listed, once])
    assert [one.removed for one in found.accepted] == [10, 10]
    assert found.after(found.accepted) == 1
    assert not any(one.proposal.removes(once) for one in found.accepted)
    path = tmp_path / "mine.yml"
    assert len(write_filters(path, found, 2, DECISION)) == 2
    hunted = json.loads(keytrail("hunt", tmp_path / "log.ndjson", "--filter", path, "--format", "json").stdout)
    assert hunted["counts"][ENUMERATED.id] == 1


def _updated(day: int, trail: str, bucket: str) -> Event:
    asked = {"name": trail, "s3BucketName": bucket}
    event = sample.record(
        START + timedelta(days=day), "cloudtrail:UpdateTrail", SCANNER, OFFICE, asked, {**asked, "kmsKeyId": sample.KEY}
    )
    return event | {"eventID": sample.identifier(f"update {day} {trail} {bucket}")}


def test_of_hits_that_tell_no_key_it_is_said_that_any_would_be_taken_out(tuned: Callable[..., Tuning]) -> None:
    calls = [{**event, "resources": None, "requestParameters": {}} for event in routine()]
    found = tuned(calls)
    assert [one.removed for one in found.accepted] == [10]
    assert found.accepted[0].proposal.remains.endswith("by these calls, whatever they are about")


def test_what_was_never_seen_together_is_not_taken_out_together(tuned: Callable[..., Tuning]) -> None:
    pairs = [("trail-one", "bucket-one"), ("trail-two", "bucket-two")]
    found = tuned([_updated(day, *pair) for day in range(10) for pair in pairs], RULES["trail_bucket_changed"])
    assert [one.removed for one in found.accepted] == [10, 10]
    crossed = _updated(3, "trail-one", "bucket-two")
    assert not any(one.proposal.removes(crossed) for one in found.accepted)
    together = next(one for one in found.verdicts if one.removed == 20)
    assert "would silence what was never seen: trail-one with bucket-two" in together.refusals[0].text


def test_a_call_that_kms_answers_with_its_key_can_be_a_routine(tuned: Callable[..., Tuning]) -> None:
    calls = []
    for day in range(10):
        time, asked = START + timedelta(days=day), {"keyId": sample.KEY.rpartition("/")[2]}
        event = sample.record(time, "kms:DisableKey", SCANNER, OFFICE, asked, {"keyId": sample.KEY})
        event["resources"] = [{"accountId": sample.ACCOUNT, "type": "AWS::KMS::Key", "ARN": sample.KEY}]
        calls.append(event | {"eventID": sample.identifier(f"disabled {day}")})
    found = tuned(calls, RULES["trail_key_disabled"])
    assert [one.removed for one in found.accepted] == [10]


# -- attacks ------------------------------------------------------------------------------------------------------


def test_noise_that_an_intruder_makes_in_a_burst_excludes_nobody(tuned: Callable[..., Tuning]) -> None:
    burst = [policy_read(START + timedelta(days=5, minutes=n), INTRUDER) for n in range(500)]
    found = tuned([*routine(), *burst])
    assert [one.proposal.actor.name for one in found.accepted] == ["arn:aws:iam::111122223333:role/Scanner"]
    assert "routine" in reasons(found)


def test_what_has_begun_of_late_is_no_routine(tuned: Callable[..., Tuning]) -> None:
    found = tuned([*routine(days=20), *routine(INTRUDER, days=20, first=14)])
    assert [one.proposal.actor.name for one in found.accepted] == ["arn:aws:iam::111122223333:role/Scanner"]


def test_keys_planted_by_who_has_the_credentials_do_not_widen_the_exclusion(tuned: Callable[..., Tuning]) -> None:
    planted = [policy_read(START + timedelta(days=5, minutes=n), SCANNER, OTHER_KEY) for n in range(300)]
    found = tuned([*routine(), *planted])
    assert found.accepted
    for one in found.accepted:
        assert not one.proposal.removes(planted[0])
        assert one.proposal.left_out["resources.ARN"] == 1
    assert "twin" in reasons(found)  # the wide one, by who alone


HOSTILE: dict[str, Callable[[Event], Event]] = {
    "the same session name": lambda event: event | {"userIdentity": INTRUDER},
    "an aws-cn role": lambda event: event | {"userIdentity": _issued("arn:aws-cn:iam::111122223333:role/Scanner")},
    "a role under a path": lambda event: event | {"userIdentity": _issued("arn:aws:iam::111122223333:role/x/Scanner")},
    "another account": lambda event: event | {"userIdentity": _issued("arn:aws:iam::999988887777:role/Scanner")},
    "a session named like the role": lambda event: (
        event | {"userIdentity": sample.role("Intruder", "arn:aws:iam::111122223333:role/Scanner")}
    ),
    "a user agent like the role": lambda event: (
        event | {"userIdentity": INTRUDER, "userAgent": "arn:aws:iam::111122223333:role/Scanner"}
    ),
    "the root user": lambda event: event | {"userIdentity": {"type": "Root", "arn": "arn:aws:iam::111122223333:root"}},
    "nobody told": lambda event: event | {"userIdentity": {"type": "AssumedRole"}},
    "another key": lambda event: policy_read(START, SCANNER, OTHER_KEY),
    "another key beside": lambda event: (
        event | {"eventName": "ReEncrypt", "resources": [*event["resources"], {"ARN": OTHER_KEY}]}
    ),
    "another recipient": lambda event: event | {"recipientAccountId": "999988887777"},
    "another call": lambda event: event | {"eventName": "ListGrants"},
}


def _issued(arn: str) -> Event:
    made = copy.deepcopy(SCANNER)
    made["sessionContext"]["sessionIssuer"]["arn"] = arn
    return made


@pytest.mark.parametrize("what", HOSTILE)
def test_an_event_that_is_as_like_the_benign_one_as_can_be_is_not_taken_out(
    what: str, tuned: Callable[..., Tuning], tmp_path: Path
) -> None:
    benign = routine()
    write_filters(tmp_path / "mine.yml", tuned(benign), 1, DECISION)
    narrowed = narrow(ENUMERATED, load_filters([tmp_path / "mine.yml"]).filters)
    assert not reference.matches(narrowed.document, benign[0])
    hostile = HOSTILE[what](copy.deepcopy(benign[0]))
    assert reference.matches(narrowed.document, hostile) is reference.matches(ENUMERATED.document, hostile)
    assert not load_filters([tmp_path / "mine.yml"]).filters[0].excludes(hostile)


def test_a_list_with_one_benign_element_covers_for_no_other(tuned: Callable[..., Tuning]) -> None:
    rule = RULES["log_key_reencrypted"]
    known = load_events(FIXTURES / "events").values()
    event = next(event for event in known if reference.matches(rule.document, event))
    events = []
    for day in range(10):
        stamp = (START + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")
        events.append(event | {"eventTime": stamp, "eventID": sample.identifier(stamp)})
    found = tuned(events, rule)
    assert found.survey.hits == 10
    assert found.accepted == []
    assert all("resources.ARN" not in one.proposal.lines for one in found.verdicts)


def test_the_trail_of_another_case_is_another_trail(tuned: Callable[..., Tuning]) -> None:
    def stopped(day: int, name: str = "example-trail") -> Event:
        time = START + timedelta(days=day)
        event = sample.record(time, "cloudtrail:StopLogging", SCANNER, OFFICE, {"name": name})
        return event | {"eventID": sample.identifier(f"stop {day} {name}")}

    found = tuned([stopped(day) for day in range(10)], RULES["trail_stopped_or_deleted"])
    assert found.accepted
    assert all(not one.proposal.removes(stopped(1, "Example-Trail")) for one in found.accepted)


@pytest.mark.parametrize("arn", ["arn:aws:iam::111122223333:role/*", "arn:aws:iam::111122223333:role/Sc?nner", "x"])
def test_a_principal_with_a_wildcard_for_a_name_is_never_named(arn: str, tuned: Callable[..., Tuning]) -> None:
    assert actor_of({"userIdentity": _issued(arn)}).lines == {}
    assert tuned(routine(_issued(arn))).accepted == []


@given(st.text(max_size=12) | st.text(r"ab*?\ ", max_size=8), st.text(max_size=12) | st.text(r"ab*?\ ", max_size=8))
def test_a_value_in_a_proposal_means_itself_whatever_characters_it_has(value: str, other: str) -> None:
    proposal = Proposal(ENUMERATED, Actor("x", {}), {"field": (value,)})
    assert proposal.removes({"field": value})
    assert proposal.removes({"field": other}) is (fold(value) == fold(other))


NASTY = st.text(min_size=1, max_size=60).filter(lambda value: value.strip())


@settings(max_examples=50)
@given(NASTY, NASTY)
def test_what_is_said_of_an_exclusion_stays_a_text_in_its_file(owner: str, reason: str) -> None:
    lines = {"userIdentity.type": ("AssumedRole",), ROLE: ("arn:aws:iam::111122223333:role/a:{b}'\"#&",)}
    made = Proposal(ENUMERATED, Actor(lines[ROLE][0], {}), lines)
    document = made.document(Decision(owner, reason, DECISION.expires), "d")
    assert yaml.safe_load(plain_yaml(document)) == document


def test_of_hits_that_only_root_or_nobody_makes_none_is_excluded(tuned: Callable[..., Tuning]) -> None:
    found = tuned(routine({"type": "Root", "arn": "arn:aws:iam::111122223333:root", "accountId": sample.ACCOUNT}))
    assert found.verdicts == []
    assert "the root user is never excluded" in {one["why"] for one in found.never}


def test_a_role_of_another_account_is_refused(tuned: Callable[..., Tuning]) -> None:
    found = tuned(routine(_issued("arn:aws:iam::999988887777:role/Auditor")))
    assert found.accepted == []
    assert "account" in reasons(found)


ACTORS = [SCANNER, INTRUDER, sample.user("alice"), _issued("arn:aws:iam::111122223333:role/app/Scanner")]
HITS = st.tuples(
    st.integers(0, 12),
    st.sampled_from(ACTORS),
    st.sampled_from([sample.KEY, OTHER_KEY]),
    st.sampled_from(["203.0.113.9", "10.0.0.1"]),
)


@settings(max_examples=25)
@given(st.lists(HITS, min_size=1, max_size=40), HITS)
def test_nobody_else_and_nothing_else_is_ever_taken_out(hits: list[Any], other: Any) -> None:
    """Whatever the hits are: who or what was in none of them is in no accepted exclusion."""

    def event(hit: Any) -> Event:
        day, who, key, address = hit
        return policy_read(START + timedelta(days=day), who, key, sourceIPAddress=address)

    survey = surveying.Survey(ENUMERATED)
    for number, made in enumerate(map(event, hits)):
        survey.span_take(made)
        survey.take(made, "x", number)
    foreign = event(other)
    known = {(actor_of(made).name, *values(made, "resources.ARN")) for made in map(event, hits)}
    accepted = tune(survey).accepted
    for one in accepted:
        assert all(one.proposal.removes(kind.record) for kind in one.kinds)
        if (actor_of(foreign).name, *values(foreign, "resources.ARN")) not in known:
            assert not one.proposal.removes(foreign)
        for kind in one.kinds:
            for twin in twins(kind.record, World(calls=["ListGrants"])):
                if twin.through is None and reference.matches(ENUMERATED.document, twin.record):
                    assert not one.proposal.removes(twin.record), twin.what


def test_each_twin_differs_from_its_hit_in_who_what_whose_or_how() -> None:
    event = policy_read(START, SCANNER)
    found = list(twins(event, World([OTHER_KEY], ["ListGrants"], ["203.0.113.1"])))
    assert len(found) > 40
    assert all(twin.record != event for twin in found)
    whats = " ".join(twin.what for twin in found)
    for part in ("another partition", "same session name", "trusted address", "root", "another account", OTHER_KEY):
        assert part in whats
    assert event == policy_read(START, SCANNER)


# -- labels -------------------------------------------------------------------------------------------------------


def test_a_proposal_that_takes_out_a_hit_labelled_true_is_refused(tuned: Callable[..., Tuning]) -> None:
    events = routine()
    labels = Labels({event["eventID"]: "benign" for event in events[1:]} | {events[0]["eventID"]: "true"})
    found = tuned(events, labels=labels)
    assert found.accepted == []
    assert events[0]["eventID"] in str([one.refusals for one in found.verdicts])


def test_precision_before_and_after_comes_with_its_interval(tmp_path: Path) -> None:
    events = [*routine(), *routine(INTRUDER, days=2)]
    log = written(tmp_path, events)
    labels = tmp_path / "labels.csv"
    rows = [f"{event['eventID']},benign" for event in events[:10]]
    rows += [f"{event['eventID']},true" for event in events[10:]]
    labels.write_text("\n".join(["eventID,label", *rows, "of-no-hit,true"]))
    shape = json.loads(keytrail("tune", ENUMERATED.stem, log, "--labels", labels, "--format", "json").stdout)
    before, after = shape["precision"], shape["proposals"][0]["precision_after"]
    assert (before["true"], before["benign"], before["interval"]) == (2, 10, "Wilson, 95 %")
    assert (after["true"], after["benign"], after["precision"]) == (2, 0, 1.0)
    assert before["low"] < before["precision"] < before["high"]
    assert shape["unused_labels"] == 1
    assert shape["not_measured"]["every label"].endswith("are of no hit of this rule")


def test_precision_is_told_where_there_is_nothing_to_propose(tmp_path: Path) -> None:
    root = {"type": "Root", "arn": f"arn:aws:iam::{sample.ACCOUNT}:root"}
    events, labels = routine(root), tmp_path / "labels.csv"
    labels.write_text("".join(f"{event['eventID']},benign\n" for event in events[:5]))
    result = keytrail("tune", ENUMERATED.stem, written(tmp_path, events), "--labels", labels)
    assert "no proposal" in result.stdout
    assert "precision 0% (Wilson, 95 %: 0% to 43%, 5 labelled)" in result.stdout


def test_the_interval_is_wilsons() -> None:
    found = precision(8, 2)
    assert found is not None
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.4902, 0.9433)
    assert precision(0, 0) is None


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("l.csv", "a,true\nb,maybe\n", 2),
        ("l.csv", "a,true,x\n", 1),
        ("l.csv", "a,true\na,benign\n", 2),
        ("l.csv", "", None),
        ("l.yml", "a: true\nb: [x]\n", 2),
        ("l.yml", "- a\n", 1),
        ("l.yml", "a: true\nb: 'x\n", 3),
    ],
)
def test_a_file_that_is_no_labels_is_named_with_its_line(
    name: str, content: str, line: int | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_labels(path)
    assert caught.value.line == line


def test_labels_in_yaml_may_be_true_without_quotes_and_name_a_record_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("'log.json:3': true\nabc: benign\n")
    labels = load_labels(path)
    assert labels.of({}, "log.json", 3) == ("log.json:3", "true")
    assert labels.of({"eventID": "abc"}, "log.json", 4) == ("abc", "benign")
    assert labels.of({"eventID": "x"}, "log.json", 5) is None


# -- what is measured ---------------------------------------------------------------------------------------------


def test_a_case_that_would_be_lost_refuses_the_proposal_by_name(tuned: Callable[..., Tuning]) -> None:
    rule = RULES["trail_key_disabled"]
    cases = [
        case for case in load_cases(FIXTURES / "cases", load_events(FIXTURES / "events")) if case.rule == rule.stem
    ]
    case = next(case for case in cases if case.match)
    events = []
    for day in range(10):
        stamp = (START + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")
        events.append(case.record | {"eventTime": stamp, "eventID": sample.identifier(stamp)})
    survey = tuned(events, rule).survey
    found = tune(survey, cases)
    assert found.accepted == []
    assert case.name in " ".join(refusal.text for one in found.verdicts for refusal in one.refusals)


def test_where_no_record_tells_its_time_nothing_is_accepted_and_no_number_made_up(tmp_path: Path) -> None:
    events = [{key: value for key, value in event.items() if key != "eventTime"} for event in routine()]
    result = keytrail("tune", ENUMERATED.stem, written(tmp_path, events), "--format", "json")
    shape = json.loads(result.stdout)
    assert result.exit_code == 1
    assert shape["span"] is None
    assert shape["proposals"][0]["per_day"] is None
    assert "alerts a day" in shape["not_measured"]
    assert "not measured" in shape["proposals"][0]["refusals"][0]["text"]


@pytest.mark.parametrize(
    ("stem", "events", "said"),
    [
        ("trail_key_disabled", routine(), "none of the 1 different calls"),
        ("log_objects_deleted", routine(), "none of the 1 different calls"),
        (
            "grant_to_decrypt_logs",
            [routine()[0] | {"eventName": "CreateGrant"}],
            "there are no management events that write",
        ),
    ],
)
def test_a_rule_that_could_not_fire_is_said_to_be_blind_and_fails(
    stem: str, events: list[Event], said: str, tmp_path: Path
) -> None:
    result = keytrail("tune", stem, written(tmp_path, events))
    assert result.exit_code == 1
    assert f"{stem} could not have fired" in result.stderr
    assert said in result.stderr


def test_a_rule_that_could_have_fired_and_did_not_is_fine(tmp_path: Path) -> None:
    events = [
        routine()[0] | {"eventName": name, "readOnly": read}
        for name in ("EnableKey", "DisableKey")
        for read in (True, False)
    ]
    refused = [event | {"errorCode": "AccessDenied"} for event in events]
    result = keytrail("tune", "trail_key_disabled", written(tmp_path, refused))
    assert result.exit_code == 0, result.output
    assert "0 hits in 4 records" in result.stdout


def test_a_correlation_is_not_tuned_and_its_rules_are_named(tmp_path: Path) -> None:
    result = keytrail("tune", "denied_reads_burst", written(tmp_path, routine()))
    assert result.exit_code == 2
    assert "no Sigma filter narrows it" in result.stderr
    assert "keytrail tune log_read_denied" in result.stderr


def test_correlations_that_see_less_are_named(tmp_path: Path) -> None:
    denied = [
        sample.unseal(
            START + timedelta(days=day),
            sample.log_file(sample.REGION, START),
            SCANNER | {"invokedBy": "AWS Internal"},
            sample.INSIDE,
            errorCode="AccessDenied",
        )
        for day in range(10)
    ]
    shape = json.loads(keytrail("tune", "log_read_denied", written(tmp_path, denied), "--format", "json").stdout)
    assert shape["hits"] == 10
    assert "denied_reads_burst" in shape["narrows_too"]


def test_what_a_correlation_waits_for_to_stop_is_not_taken_out(tmp_path: Path) -> None:
    digests = []
    for hour in range(10 * 24):
        time = START + timedelta(hours=hour)
        digests.append(sample.seal(time, sample.digest_file(time)) | {"eventID": sample.identifier(f"digest {hour}")})
    out, log = tmp_path / "mine.yml", written(tmp_path, digests)
    result = keytrail("tune", "digest_file_sealed", log, "-o", out, *SAID, "--format", "json")
    assert result.exit_code == 1
    proposal = json.loads(result.stdout)["proposals"][0]
    assert proposal["removes"] == 240
    assert proposal["refusals"][0]["kind"] == "silence"
    assert "trail_digests_silent waits for these events" in proposal["refusals"][0]["text"]
    assert not out.exists()


def test_with_a_profile_another_of_the_sites_keys_must_still_fire(tuned: Callable[..., Tuning]) -> None:
    site = load_profile(FIXTURES / "site.yml")
    rule = apply_profile([ENUMERATED], site)[0]
    found = tuned(routine(), rule, profile=site)
    assert found.accepted
    for one in found.accepted:
        assert one.proposal.lines["resources.ARN"] == (sample.KEY,)
        assert one.tried > 20


# -- bounds -------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_and_what_is_not_kept_counts_as_staying(tuned: Callable[..., Tuning]) -> None:
    flood = [
        policy_read(START + timedelta(minutes=n), INTRUDER, sourceIPAddress=f"198.51.{n // 250}.{n % 250}")
        for n in range(MOST_KINDS_EACH + 200)
    ]
    found = tuned([*flood, *routine()])
    assert len(found.survey.kinds) <= MOST_KINDS_EACH + 10
    assert found.survey.unkept == 200
    assert found.after(found.accepted) == len(flood)


def test_session_names_and_user_agents_multiply_nothing(tuned: Callable[..., Tuning]) -> None:
    found = tuned(
        policy_read(START + timedelta(hours=n), sample.role("Scanner", f"s{n}"), userAgent=f"x{n}") for n in range(200)
    )
    assert len(found.survey.kinds) == 1


def test_the_rarest_values_become_others() -> None:
    top = Top(most=10)
    for number in range(1_000):
        top.add("often")
        top.add(f"rare {number}")
    assert len(top.counts) <= 20
    assert top.counts["often"] == 1_000
    shape = top.as_dict(5)
    assert sum(one["hits"] for one in shape["values"]) + shape["others"] == 2_000


# -- the file and the command -------------------------------------------------------------------------------------

SAID = ("--owner", "the team", "--reason", "ticket 4711")


def test_the_filter_that_is_written_does_in_hunt_what_tune_said(tmp_path: Path) -> None:
    log, path = written(tmp_path, [*routine(), *routine(INTRUDER, days=2)]), tmp_path / "filters" / "mine.yml"
    result = keytrail("tune", ENUMERATED.stem, log, "-o", path, *SAID, "--format", "json")
    assert result.exit_code == 0, result.output
    shape = json.loads(result.stdout)
    assert shape["written"] == [str(path)]
    hunted = json.loads(keytrail("hunt", log, "--filter", path, "--format", "json").stdout)
    assert hunted["counts"][ENUMERATED.id] == shape["proposals"][0]["after"] == 2
    said = yaml.safe_load(path.read_text())["keytrail"]
    assert (said["owner"], said["reason"]) == ("the team", "ticket 4711")
    assert said["expires"] > date.today()


def test_the_filter_passes_the_proof_of_its_rule(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    assert keytrail("tune", ENUMERATED.stem, written(tmp_path, routine()), "-o", path, *SAID).exit_code == 0
    result = keytrail("test", ENUMERATED.stem, "--schema", "keytrail", "--filter", path)
    assert result.exit_code == 0, result.output


def test_stock_sigma_takes_the_filter(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    assert keytrail("tune", ENUMERATED.stem, written(tmp_path, routine()), "-o", path, *SAID).exit_code == 0
    done = subprocess.run(
        [
            Path(sys.executable).with_name("sigma"),
            "convert",
            "-t",
            "lucene",
            "--without-pipeline",
            "--filter",
            path,
            ENUMERATED.path,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "role\\/Scanner" in done.stdout
    assert "NOT" in done.stdout


def test_several_are_written_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    log = written(tmp_path, [*routine(), *routine(sample.user("auditor"))])
    assert keytrail("tune", ENUMERATED.stem, log, "-o", path, "--take", 2, *SAID).exit_code == 0
    assert len(load_filters([path]).filters) == 2
    hunted = json.loads(keytrail("hunt", log, "--filter", path, "--format", "json").stdout)
    assert hunted["counts"][ENUMERATED.id] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--owner", "x"], "--owner and --reason"),
        (["--owner", " ", "--reason", "x"], "--owner and --reason"),
        ([*SAID, "--expires", "soon"], "no day"),
        ([*SAID, "--expires", "2020-01-01"], "has gone by"),
    ],
)
def test_an_exclusion_without_somebody_who_answers_for_it_is_not_written(
    words: Sequence[str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yml"
    result = keytrail("tune", ENUMERATED.stem, written(tmp_path, routine()), "-o", path, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not path.exists()


def test_a_name_that_the_filter_could_not_be_read_by_is_refused(tmp_path: Path) -> None:
    result = keytrail("tune", ENUMERATED.stem, written(tmp_path, routine()), "-o", tmp_path / "mine.txt", *SAID)
    assert result.exit_code == 2
    assert "let its name end in .yml" in result.stderr
    assert not (tmp_path / "mine.txt").exists()


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("precious")
    log = written(tmp_path, routine())
    assert keytrail("tune", ENUMERATED.stem, log, "-o", path, *SAID).exit_code == 2
    assert path.read_text() == "precious"
    assert keytrail("tune", ENUMERATED.stem, log, "-o", path, *SAID, "--force").exit_code == 0


def test_nothing_is_written_where_nothing_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    result = keytrail("tune", ENUMERATED.stem, written(tmp_path, routine(days=1)), "-o", path, *SAID)
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert not path.exists()


def test_tables_show_hits_proposals_and_what_is_never_proposed(tmp_path: Path) -> None:
    evil = "\x1b[31m[bold]x[/]"
    log = written(tmp_path, [*routine(userAgent=evil), *routine(INTRUDER, days=1)])
    result = keytrail("tune", ENUMERATED.stem, log)
    assert result.exit_code == 0, result.output
    for part in (
        "accepted",
        "refused",
        "Never proposed",
        "by hour",
        "11 -> 1 hits",
        "hostile twins still fire",
    ):
        assert part in result.stdout
    assert "\x1b" not in result.stdout
    assert "[bold]x[/]" in result.stdout


def test_broken_input_is_named_and_the_rest_is_tuned(tmp_path: Path) -> None:
    log = written(tmp_path, routine())
    log.write_text(log.read_text() + "{broken\n")
    result = keytrail("tune", ENUMERATED.stem, log)
    assert result.exit_code == 2
    assert "accepted" in result.stdout


def test_a_rule_that_needs_a_profile_says_so(tmp_path: Path) -> None:
    result = keytrail("tune", "log_read_by_unlisted_reader", written(tmp_path, routine()))
    assert result.exit_code == 2
    assert "needs a profile" in result.stderr


def test_a_rule_of_ones_own_is_tuned_and_its_missing_cases_are_mentioned(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text(ENUMERATED.text.replace(ENUMERATED.id, "0f9c7f9e-1111-4000-8000-000000000000"))
    result = keytrail("tune", own, written(tmp_path, routine()))
    assert result.exit_code == 0, result.output
    assert "there are no cases of own" in result.stdout


def test_addresses_that_everybody_can_have_multiply_nothing(tuned: Callable[..., Tuning]) -> None:
    found = tuned(
        policy_read(START + timedelta(hours=n), SCANNER, sourceIPAddress=f"10.{n // 250}.{n % 250}.1")
        for n in range(MOST_KINDS_EACH + 100)
    )
    assert len(found.survey.kinds) == 1
    assert found.after(found.accepted) == 0


def test_a_hit_labelled_true_is_kept_however_many_others_there_are(tuned: Callable[..., Tuning]) -> None:
    flood = [
        policy_read(START + timedelta(hours=n), SCANNER, sourceIPAddress=f"52.0.{n // 250}.{n % 250}")
        for n in range(MOST_KINDS_EACH + 50)
    ]
    assert tuned(flood).accepted
    assert tuned(flood, labels=Labels({flood[-1]["eventID"]: "true"})).accepted == []
