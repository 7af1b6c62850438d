"""Fixture cases: patches of documented events, and what is said about each mistake in them."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from keytrail.cases import Case, load_cases, load_events
from keytrail.data import packaged
from keytrail.errors import CaseError, UsageError

EVENT: dict[str, Any] = {
    "eventSource": "kms.amazonaws.com",
    "eventName": "DisableKey",
    "userIdentity": {"type": "IAMUser", "userName": "alice"},
    "requestParameters": {"encryptionContext": {"aws:s3:arn": "arn:aws:s3:::logs"}},
    "responseElements": None,
    "resources": [{"ARN": "arn:1"}, {"ARN": "arn:2"}],
}
EVENTS = {"disable_key": EVENT, "enable_key": {**EVENT, "eventName": "EnableKey"}}


def write(folder: Path, text: str, name: str = "key/trail_key_disabled.yml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def patched(folder: Path, patch: str) -> dict[str, Any]:
    write(folder, f"cases: [{{name: a case, event: disable_key, match: true, {patch}}}]")
    [case] = load_cases(folder, EVENTS)
    return case.record


def refusal(folder: Path, text: str) -> CaseError:
    path = write(folder, text)
    with pytest.raises(CaseError) as raised:
        load_cases(folder, EVENTS)
    assert raised.value.path == str(path)
    return raised.value


def test_a_case_is_an_event_with_an_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
        # what the rule is about
        cases:
          - name: someone disables the key
            event: disable_key
            match: true
          - name: someone enables it
            event: enable_key
            match: false
        """,
    )
    rule = "trail_key_disabled"
    assert load_cases(tmp_path, EVENTS) == [
        Case(rule, "someone disables the key", True, EVENTS["disable_key"], path, 3, "disable_key"),
        Case(rule, "someone enables it", False, EVENTS["enable_key"], path, 6, "enable_key"),
    ]


def test_set_replaces_what_is_there(tmp_path: Path) -> None:
    record = patched(
        tmp_path,
        "set: {userIdentity.userName: mallory, resources.1.ARN: 'arn:3', "
        "responseElements: {keyId: [k, null, 1.5]}, "
        "requestParameters.encryptionContext.aws:s3:arn: 'arn:aws:s3:::other'}",
    )
    assert record == {
        **EVENT,
        "userIdentity": {"type": "IAMUser", "userName": "mallory"},
        "resources": [{"ARN": "arn:1"}, {"ARN": "arn:3"}],
        "responseElements": {"keyId": ["k", None, 1.5]},
        "requestParameters": {"encryptionContext": {"aws:s3:arn": "arn:aws:s3:::other"}},
    }


def test_add_gives_what_is_not_there_and_makes_its_parents(tmp_path: Path) -> None:
    record = patched(
        tmp_path,
        "add: {errorCode: AccessDenied, a.b.c: true, responseElements.keyId: k, tags.0.key: t, resources.2: {ARN: x}}",
    )
    assert record == {
        **EVENT,
        "errorCode": "AccessDenied",
        "a": {"b": {"c": True}},
        "responseElements": {"keyId": "k"},
        "tags": [{"key": "t"}],
        "resources": [*EVENT["resources"], {"ARN": "x"}],
    }


def test_remove_takes_away(tmp_path: Path) -> None:
    record = patched(tmp_path, "remove: [userIdentity.userName, resources.1, responseElements]")
    assert record["userIdentity"] == {"type": "IAMUser"}
    assert record["resources"] == [{"ARN": "arn:1"}]
    assert "responseElements" not in record


def test_set_comes_before_add_before_remove(tmp_path: Path) -> None:
    record = patched(tmp_path, "remove: [resources.0], add: {resources.2: {}}, set: {resources.1: {ARN: b}}")
    assert record["resources"] == [{"ARN": "b"}, {}]


def test_no_case_changes_the_event_or_another_case(tmp_path: Path) -> None:
    before = json.dumps(EVENTS)
    write(
        tmp_path,
        """\
        cases:
          - name: one
            event: disable_key
            match: true
            set: {userIdentity: &who {name: a}, resources.0: *who}
          - name: two
            event: disable_key
            match: true
            set: {userIdentity: *who}
            add: {userIdentity.more: b}
          - {name: three, event: disable_key, match: true}
        """,
    )
    one, two, three = load_cases(tmp_path, EVENTS)
    assert one.record["userIdentity"] == {"name": "a"}
    one.record["userIdentity"]["name"] = "changed"
    assert one.record["resources"][0] == {"name": "a"}
    assert two.record["userIdentity"] == {"name": "a", "more": "b"}
    three.record["userIdentity"]["name"] = "changed"
    assert json.dumps(EVENTS) == before


MISTAKES = {
    "set of an unknown field": (
        "set: {userIdentity.userNam: x}",
        "no userIdentity.userNam",
        "userIdentity.userName",
    ),
    "set of something new": ("set: {errorCode: x}", "the event has no errorCode", "add"),
    "set below a null": ("set: {responseElements.keyId: x}", "no responseElements.keyId", None),
    "set past a list's end": ("set: {resources.2.ARN: x}", "no resources.2.ARN", "resources.1.ARN"),
    "add of what is there": ("add: {eventName: x}", "has eventName already", "set"),
    "add of a null that is there": ("add: {responseElements: x}", "has responseElements already", "set"),
    "add below a plain value": ("add: {eventName.x: y}", "below a plain value", None),
    "add past a list's end": ("add: {resources.7: y}", "the list has 2, so 7 is no place", None),
    "remove of an unknown field": ("remove: [eventNam]", "no eventNam", "eventName"),
    "remove of no list": ("remove: eventName", "remove must be a list of paths", None),
    "set of no mapping": ("set: [eventName]", "name: value", None),
    "a path twice": ("set: {eventName: x}\n  remove: [eventName]", "eventName is patched twice", None),
    "a path twice in one": ("set: {eventName: x, eventName: y}", "'eventName' is there twice", None),
    "an empty name in a path": ("set: {userIdentity..x: y}", "'userIdentity..x' is no path", None),
    "a path that is a number": ("set: {1: x}", "1 is no name", "quotes"),
    "an unknown key": ("sett: {eventName: x}", "a case has no 'sett'", "set"),
    "an account number as a number": ("add: {accountId: 111122223333}", "111122223333 is text", "quotes"),
    "a date": ("set: {eventName: 2026-11-20}", "YAML reads 2026-11-20 as timestamp", "quotes"),
    "an octal number": ("set: {eventName: 0755}", "YAML reads 0755 as int", "quotes"),
    "a time": ("set: {eventName: 12:30}", "YAML reads 12:30 as int", "quotes"),
    "no for Norway": ("set: {eventName: no}", "YAML reads no as bool", "quotes"),
    "no number": ("set: {eventName: .nan}", "YAML reads .nan as float", "quotes"),
    "a Python object": ("set: {eventName: !!python/none x}", "python/none", None),
    "a value in itself": ("set: {eventName: &a [*a]}", "contains itself", None),
}


@pytest.mark.parametrize(("patch", "message", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_patch_is_named(tmp_path: Path, patch: str, message: str, hint: str | None) -> None:
    error = refusal(tmp_path, f"cases:\n- name: a case\n  event: disable_key\n  match: true\n  {patch}")
    assert error.line is not None
    assert error.line >= 5
    assert message in error.message
    if hint is not None:
        assert hint in str(error.hint)


FILES = {
    "an unknown event": (
        "cases: [{name: a, event: disable_keys, match: true}]",
        "no event 'disable_keys'",
        "disable_key",
    ),
    "no name": ("cases:\n- event: disable_key\n  match: true", "a case needs name", None),
    "only a name": ("cases: [{name: a}]", "a case needs event and match", None),
    "an empty name": (
        "cases: [{name: '', event: disable_key, match: true}]",
        "must say what the case shows",
        None,
    ),
    "an answer that is text": (
        "cases: [{name: a, event: disable_key, match: 'true'}]",
        "true or false",
        None,
    ),
    "an answer left out": ("cases: [{name: a, event: disable_key, match: }]", "true or false", None),
    "the same name twice": (
        "cases:\n- {name: a, event: disable_key, match: true}\n- {name: a, event: enable_key, match: true}",
        "a second case named 'a'; the first is in line 2",
        None,
    ),
    "no case": ("cases: []", "at least one case", None),
    "no list": ("cases: {name: a}", "at least one case", None),
    "cases misspelt": ("case: []", "a case file has no 'case'", "cases"),
    "an empty file": ("# later\n", "the file is empty", "cases"),
    "text": ("hello", "name: value", None),
    "broken YAML": ("cases: [", "not valid YAML", None),
    "two documents": ("cases: []\n---\ncases: []", "not valid YAML", None),
    "an unprintable character": ("cases: \x00", "not valid YAML", None),
    "a bottomless file": ("[" * 100_000, "not valid YAML", None),
}


@pytest.mark.parametrize(("text", "message", "hint"), FILES.values(), ids=FILES)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    error = refusal(tmp_path, text)
    assert message in error.message
    if hint is not None:
        assert hint in str(error.hint)


def test_an_error_gives_the_line_of_the_mistake(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        """\
        cases:
          - name: the first
            event: disable_key
            match: true
          - name: the second
            event: disable_key
            match: true
            set:
              eventName: EnableKey
              userIdentity.usrName: mallory
        """,
    )
    assert (error.line, error.column) == (10, 7)
    assert str(error).endswith("no userIdentity.usrName\n  hint: did you mean userIdentity.userName?")


def test_two_case_files_of_one_rule_are_refused(tmp_path: Path) -> None:
    text = "cases: [{name: a, event: disable_key, match: true}]"
    write(tmp_path, text, "key/a.yml")
    write(tmp_path, text, "trail/a.yaml")
    with pytest.raises(CaseError, match=r"trail.a\.yaml: .*key.a\.yml has the same name"):
        load_cases(tmp_path, EVENTS)


def test_a_folder_without_cases_or_events_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no case file in this folder"):
        load_cases(tmp_path, EVENTS)
    with pytest.raises(CaseError, match="no event file in this folder"):
        load_events(tmp_path / "missing")


def test_events_are_named_by_their_files(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(EVENT), "events/disable_key.json")
    write(tmp_path, "not an event", "events/README.md")
    assert load_events(tmp_path) == {"disable_key": EVENT}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"eventName":\n x}', r"a\.json:2:2: not valid JSON"),
        ("[]", "the event is no object but a list"),
        ('{"eventName": "x"}', "the event is no CloudTrail record: it has no eventSource"),
    ],
)
def test_an_event_that_is_no_record_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text, "a.json")
    with pytest.raises(CaseError, match=message):
        load_events(tmp_path)


def test_the_shipped_cases_can_be_read() -> None:
    fixtures = packaged("fixtures")
    assert load_cases(fixtures / "cases", load_events(fixtures / "events"))


def test_there_is_no_other_packaged_data() -> None:
    assert packaged("rules").is_dir()
    with pytest.raises(UsageError, match="no data called 'secrets'"):
        packaged("secrets")
