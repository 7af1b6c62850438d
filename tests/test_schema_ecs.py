"""Schema ``ecs``: the document that the integration makes of a record, and where a rule finds its fields."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keytrail import paths
from keytrail.errors import UnmappedField
from keytrail.schemas import java
from keytrail.schemas.ecs import (
    FLATTENED,
    NAMES,
    PREFIXES,
    SCHEMA,
    SHARED,
    SINCE_6_22,
    SIZE_LIMIT,
    TRAIL,
    UNLIMITED,
    document,
)

EVENTS = Path(__file__).parents[1] / "fixtures" / "events"
KEY = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
TRAIL_ARN = "arn:aws:cloudtrail:us-west-2:111122223333:trail/Default"
SESSION = "userIdentity.sessionContext."


def event(stem: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((EVENTS / f"{stem}.json").read_text("utf-8"))
    return read


def record(**changes: Any) -> dict[str, Any]:
    """A small record, changed: keys that CloudTrail writes at the top."""
    made: dict[str, Any] = {
        "eventVersion": "1.11",
        "eventTime": "2026-03-10T09:16:31Z",
        "eventSource": "kms.amazonaws.com",
        "eventName": "DisableKey",
        "userIdentity": {"type": "IAMUser", "userName": "alice", "accountId": "111122223333"},
        "recipientAccountId": "444455556666",
    }
    return {**made, **changes}


def at(made: dict[str, Any], path: str) -> list[paths.Scalar]:
    return paths.values(made, path)


def raw_value(source: dict[str, Any], path: str) -> object:
    node: Any = source
    for key in path.split("."):
        node = node[0] if isinstance(node, list) else node
        node = node.get(key) if isinstance(node, dict) else None
    return node


# The documented events.


@pytest.mark.parametrize(
    "stem", ["documented_configure_trail", "documented_deliver_log_file", "documented_read_log_file"]
)
def test_a_documented_event_keeps_every_value_that_the_tables_promise(stem: str) -> None:
    source = event(stem)
    made = document(source)
    changed = {"eventTime", SESSION + "attributes.creationDate"}
    compared = 0
    for rule_field in [*NAMES, *(field for field, _ in paths.leaves(source))]:
        value = raw_value(source, rule_field)
        if value is None or rule_field in changed or isinstance(value, (dict, list)):
            continue
        assert value in at(made, SCHEMA.index_name(rule_field)), rule_field
        compared += 1
    assert compared > 30


def test_a_delivered_log_file_as_a_whole() -> None:
    made = document(event("documented_deliver_log_file"))
    log = event("documented_deliver_log_file")["requestParameters"]["encryptionContext"]["aws:s3:arn"]
    trail = made["aws"]["cloudtrail"]
    assert made["@timestamp"] == "2015-11-11T21:15:58.000Z"
    assert made["user"] == {"id": "AROACKCEVSQ6C2EXAMPLE:i-34755b85", "name": "AWSCloudTrail"}
    assert made["cloud"] == {
        "provider": "aws",
        "account": {"id": "086441151436"},
        "region": "us-west-2",
        "service": {"name": "kms"},
    }
    assert made["source"] == {"address": "internal.amazonaws.com"}
    assert made["event"]["outcome"] == "success"
    assert trail["resources"] == [{"arn": KEY, "account_id": "111122223333"}]
    assert trail["flattened"] == {
        "request_parameters": {
            "keyId": KEY,
            "keySpec": "AES_256",
            "encryptionContext": {"aws:cloudtrail:arn": TRAIL_ARN, "aws:s3:arn": log},
        }
    }
    context = f"encryptionContext={{aws:cloudtrail:arn={TRAIL_ARN}, aws:s3:arn={log}}}"
    assert trail["request_parameters"] == f"{{keyId={KEY}, keySpec=AES_256, {context}}}"
    assert "response_elements" not in trail
    session = trail["user_identity"]["session_context"]
    assert session["creation_date"] == "2015-11-11T20:45:25.000Z"
    assert "userName" not in session["session_issuer"]


# Tables.


@pytest.mark.parametrize("rule_field", [*NAMES, *SINCE_6_22])
def test_every_name_leads_to_a_field_of_the_mapping(rule_field: str) -> None:
    assert SCHEMA.field({**NAMES, **SINCE_6_22}[rule_field]) is not None


@pytest.mark.parametrize(("prefix", "target"), PREFIXES.items())
def test_every_prefix_leads_into_a_flattened_field(prefix: str, target: str) -> None:
    found = SCHEMA.field(SCHEMA.index_name(prefix + "any.aws:key"))
    assert found is not None
    assert (found.type, found.root) == ("flattened", target.rstrip("."))


@pytest.mark.parametrize(
    "rule_field",
    ["sharedEventId", "tlsDetails.tlsVersion", "requestParameters", "eventContext"],
)
def test_a_field_that_is_kept_nowhere_is_unmapped(rule_field: str) -> None:
    with pytest.raises(UnmappedField, match="no place for the field"):
        SCHEMA.index_name(rule_field)


@pytest.mark.parametrize("rule_field", SINCE_6_22)
def test_a_field_that_only_newer_versions_keep_says_so(rule_field: str) -> None:
    assert "6.22" in SCHEMA.shared[rule_field][0]


def test_each_flattened_copy_has_its_java_text_and_its_limit() -> None:
    assert set(SCHEMA.java_maps) == set(SCHEMA.size_limits)
    limits = {name: SCHEMA.field(name) for name in SCHEMA.java_maps.values()}
    assert {name: found and found.ignore_above for name, found in limits.items()} == {
        TRAIL + "request_parameters": 8191,
        TRAIL + "response_elements": 8191,
        TRAIL + "additional_eventdata": 1024,
        TRAIL + "service_event_details": 1024,
    }


def test_an_address_has_an_ip_beside_it() -> None:
    address = SCHEMA.field("source.address")
    assert address is not None
    companion = SCHEMA.companion(address, "ip")
    assert companion is not None
    assert companion.name == "source.ip"


def test_what_is_said_of_a_field_is_said_of_a_field_that_there_is() -> None:
    for rule_field in SHARED:
        SCHEMA.index_name(rule_field)


# What is dropped.


@pytest.mark.parametrize("value", [None, "", "-", "none", {}, [], [None], [{"deep": ["", None]}]])
def test_an_empty_value_is_dropped_wherever_it_stands(value: object) -> None:
    parameters = {"keyId": KEY, "gone": value, "list": [value, "kept"], "inner": {"gone": value}}
    trail = document(record(requestParameters=parameters, errorCode=value))["aws"]["cloudtrail"]
    assert trail["flattened"]["request_parameters"] == {"keyId": KEY, "list": ["kept"]}
    assert "gone" not in trail["request_parameters"]
    assert "error_code" not in trail


@pytest.mark.parametrize("value", ["None", "NONE", " ", "--", "null", 0, False])
def test_a_value_that_only_looks_empty_is_kept(value: object) -> None:
    made = document(record(requestParameters={"kept": value}))
    assert at(made, FLATTENED + "request_parameters.kept") == [value]


def test_nothing_is_made_of_an_object_that_holds_nothing() -> None:
    made = document(record(requestParameters={"a": "", "b": {"c": []}}))
    assert not paths.exists(made, TRAIL + "request_parameters")
    assert not paths.exists(made, TRAIL + "flattened")


# Java's text.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, "x", True, {"d": None}], "a": "y, z"}, "{b=[1, x, true, {d=null}], a=y, z}"),
        ([], "[]"),
        (7, "7"),
        (224.0, "224.0"),
        (0.001, "0.001"),
        (0.0001, "1.0E-4"),
        (9999999.5, "9999999.5"),
        (1e7, "1.0E7"),
        (-12345678.0, "-1.2345678E7"),
        (1e21, "1.0E21"),
        (-0.0, "-0.0"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_text_is_what_java_prints(value: object, text: str) -> None:
    assert java.text(value) == text


@pytest.mark.parametrize(
    ("keys", "ordered"),
    [
        (["userName", "newUserName"], ["newUserName", "userName"]),
        (["keyId", "encryptionContext", "keySpec"], ["keyId", "keySpec", "encryptionContext"]),
        (["é", "漢", "😀", "Z"], ["漢", "😀", "é", "Z"]),
        (["BB", "Aa"], ["BB", "Aa"]),  # one hash: as they came
        (list("nmlkjihgfedcba"), list("abcdefghijklmn")),  # more than twelve
    ],
)
def test_keys_come_in_the_order_of_a_hash_map(keys: list[str], ordered: list[str]) -> None:
    assert java.hash_order(keys) == ordered


def test_dropped_keys_count_for_the_order_of_the_others() -> None:
    few = dict.fromkeys(["keyId", "keySpec", "tags"], "x")
    many = {**few, **{f"empty{number}": "" for number in range(10)}}
    printed = [
        document(record(requestParameters=each))["aws"]["cloudtrail"]["request_parameters"] for each in (few, many)
    ]
    assert printed == ["{keyId=x, keySpec=x, tags=x}", "{keyId=x, tags=x, keySpec=x}"]


def test_a_number_in_a_flattened_field_is_searched_as_java_writes_it() -> None:
    parameters = {"bytes": 12345678.0, "half": 0.5, "whole": 10**12}
    flattened = document(record(requestParameters=parameters))["aws"]["cloudtrail"]["flattened"]
    assert flattened["request_parameters"] == {"bytes": "1.2345678E7", "half": 0.5, "whole": 10**12}


# Sizes.


def filled(units: int, letter: str = "x") -> dict[str, Any]:
    """Parameters whose Java text has ``units`` UTF-16 code units, spread over two keys."""
    room = units - len("{a=, b=}")
    return {"a": letter * (room // 2 // java.length(letter)), "b": "x" * (room - room // 2)}


@pytest.mark.parametrize(("units", "kept"), [(SIZE_LIMIT - 1, True), (SIZE_LIMIT, False)])
def test_a_flattened_copy_is_left_out_from_the_limit_on(units: int, kept: bool) -> None:
    made = document(record(requestParameters=filled(units)))
    assert java.length(made["aws"]["cloudtrail"]["request_parameters"]) == units
    assert paths.exists(made, FLATTENED + "request_parameters") is kept


def test_the_limit_counts_as_java_counts() -> None:
    parameters = {"a": "\U0001f511" * ((SIZE_LIMIT - 4) // 4), "b": "\U0001f511" * ((SIZE_LIMIT - 4) // 4)}
    made = document(record(requestParameters=parameters))
    assert len(made["aws"]["cloudtrail"]["request_parameters"]) < SIZE_LIMIT / 2 + 10
    assert not paths.exists(made, FLATTENED + "request_parameters")


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {"a": "x"}
    for _ in range(depth - 1):
        node = {"a": node}
    return node


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({"k": "x" * 32700}, True),
        ({"k": "ß" * 16382}, True),
        ({"k": "ß" * 16383}, False),
        ({"outer": {"k": "ß" * 16382}}, False),
        (nested(20), True),
        (nested(21), False),
        ({"a\0b": "x"}, False),
        ([{"a": "x"}, {"a": "y"}], True),
        ([{"a": "x"}, "y"], False),
        ("text", False),
        (5, False),
    ],
    ids=repr,
)
def test_what_an_index_would_refuse_is_not_flattened(parameters: object, kept: bool) -> None:
    made = document(record(requestParameters=parameters))
    assert paths.exists(made, FLATTENED + "request_parameters") is kept
    assert paths.exists(made, TRAIL + "request_parameters")


# Who.

ISSUER = {"sessionContext": {"sessionIssuer": {"userName": "Admin", "type": "Role"}}}
LOGIN = {"eventName": "ConsoleLogin"}


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ({"type": "IAMUser", "userName": "alice"}, ["alice"]),
        ({"type": "AssumedRole", **ISSUER}, ["Admin"]),
        ({"type": "FederatedUser", "userName": "alice", **ISSUER}, ["Admin"]),
        ({"type": "IAMUser", "userName": "alice", **ISSUER}, ["alice"]),
        ({"type": "IAMUser", **ISSUER}, []),
        ({"type": "AWSService", "invokedBy": "cloudtrail.amazonaws.com"}, []),
        ({"type": "AssumedRole", "userName": "alice"}, ["alice"]),
    ],
)
def test_user_name_is_the_session_issuers_where_a_role_was_assumed(identity: dict[str, Any], name: list[str]) -> None:
    assert at(document(record(userIdentity=identity)), "user.name") == name


def test_a_user_authentication_takes_the_name_from_its_data() -> None:
    data = {"UserName": "alice@example.com", "CredentialType": "EXTERNAL_IDP"}
    identity = {"type": "IdentityCenterUser", "onBehalfOf": {"userId": "90a7-1"}}
    source = record(eventName="UserAuthentication", userIdentity=identity, additionalEventData=data)
    before = copy.deepcopy(source)
    made = document(source)
    assert source == before
    assert made["user"] == {"name": "alice@example.com", "id": "90a7-1"}
    assert made["aws"]["cloudtrail"]["additional_eventdata"] == "{CredentialType=EXTERNAL_IDP}"
    assert not paths.exists(made, FLATTENED + "additional_eventdata.UserName")
    named = document(record(eventName="UserAuthentication", additionalEventData=data))
    assert at(named, "user.name") == ["alice"]
    assert at(named, FLATTENED + "additional_eventdata.UserName") == ["alice@example.com"]


def test_the_account_is_the_recipients_where_the_caller_has_none() -> None:
    assert at(document(record()), "cloud.account.id") == ["111122223333"]
    assert at(document(record(userIdentity={"type": "AWSService"})), "cloud.account.id") == ["444455556666"]


def test_shared_event_id_is_read_in_both_spellings() -> None:
    path = TRAIL + "shared_event_id"
    assert at(document(record(sharedEventID="a")), path) == ["a"]
    assert at(document(record(sharedEventId="b")), path) == ["b"]
    assert at(document(record(sharedEventID="a", sharedEventId="b")), path) == ["a"]


# What happened.


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "success"),
        ({"errorCode": "AccessDenied"}, "failure"),
        ({"errorMessage": "no"}, "failure"),
        ({"errorCode": ""}, "success"),
        ({**LOGIN, "responseElements": {"ConsoleLogin": "Failure"}}, "failure"),
        ({**LOGIN, "responseElements": {"ConsoleLogin": "Success"}, "errorCode": "x"}, "success"),
        ({**LOGIN, "responseElements": {"ConsoleLogin": {"odd": 1}}}, "success"),
        ({**LOGIN, "responseElements": None}, "success"),
    ],
)
def test_outcome(changes: dict[str, Any], outcome: str) -> None:
    assert at(document(record(**changes)), "event.outcome") == [outcome]


@pytest.mark.parametrize(
    ("address", "ips"),
    [
        ("203.0.113.7", ["203.0.113.7"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("fe80::1%eth0", []),
        ("AWS Internal", []),
        ("kms.amazonaws.com", []),
        ("203.0.113.7 ", []),
        (3405803783, []),
    ],
)
def test_an_address_is_kept_as_it_is_and_as_ip_where_it_is_one(address: object, ips: list[str]) -> None:
    made = document(record(sourceIPAddress=address))
    assert at(made, "source.address") == [address]
    assert at(made, "source.ip") == ips


@pytest.mark.parametrize(
    ("time", "stored"),
    [
        ("2026-03-10T09:16:31Z", "2026-03-10T09:16:31.000Z"),
        ("2026-03-10T09:16:31.123987Z", "2026-03-10T09:16:31.123Z"),
        ("2026-03-10T01:16:31+02:00", "2026-03-09T23:16:31.000Z"),
        ("2026-03-09T23:46:31-0030", "2026-03-10T00:16:31.000Z"),
        ("2026-03-10T09:16", "2026-03-10T09:16:00.000Z"),
        ("2026-03-10", "2026-03-10T00:00:00.000Z"),
        ("20260310T091631Z", None),
        ("2026-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+10:00", None),
        ("yesterday", None),
        (1773134191, None),
    ],
)
def test_event_time_becomes_the_timestamp_where_it_is_one(time: object, stored: str | None) -> None:
    assert document(record(eventTime=time)).get("@timestamp") == stored


def test_a_sessions_creation_may_be_written_without_separators() -> None:
    identity = {"type": "AssumedRole", "sessionContext": {"attributes": {"creationDate": "20131102T010628Z"}}}
    made = document(record(userIdentity=identity))
    assert at(made, SCHEMA.index_name(SESSION + "attributes.creationDate")) == ["2013-11-02T01:06:28.000Z"]


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        ({"tlsVersion": "TLSv1.3", "keyExchange": "x"}, {"version_protocol": "tls", "version": "1.3"}),
        ({"cipherSuite": "c"}, {"cipher": "c"}),
        ({"tlsVersion": "QUIC"}, {"version": "QUIC"}),
        ({"tlsVersion": "tlsVersion", "cipherSuite": "cipherSuite"}, None),
        ("TLSv1.3", None),
    ],
)
def test_tls(details: object, kept: object) -> None:
    assert document(record(tlsDetails=details)).get("tls") == kept


@pytest.mark.parametrize(
    ("resources", "kept"),
    [
        ([{"ARN": "a", "accountId": "1", "type": "t"}] * 2, [{"arn": "a", "account_id": "1", "type": "t"}]),
        ([{"arn": "a"}, None, "text"], [{"arn": "a"}]),
        ([{"ARN": "a"}, {"ARN": "b"}], [{"arn": "a"}, {"arn": "b"}]),
        ([{"ARN": {"odd": 1}, "ARNPrefix": "p", "no name": "x"}], [{"ARNPrefix": "p"}]),
        ({"ARN": "a"}, [{"ARN": "a"}]),
        ([], None),
        (None, None),
        ("text", None),
        (["text"], None),
    ],
)
def test_resources(resources: object, kept: object) -> None:
    trail = document(record(resources=resources))["aws"]["cloudtrail"]
    assert trail.get("resources") == kept


def test_booleans_of_the_record_are_kept_as_their_fields_need_them() -> None:
    trail = document(record(readOnly=True, managementEvent=False))["aws"]["cloudtrail"]
    assert (trail["read_only"], trail["management_event"]) == (True, "false")


@pytest.mark.parametrize("odd", [None, "text", 5, True, [], ["x"], [{"a": 1}], {"a": {"b": 1}}], ids=repr)
@pytest.mark.parametrize(
    "key",
    ["userIdentity", "eventName", "eventTime", "eventSource", "resources", "tlsDetails", "insightDetails"],
)
def test_an_odd_value_spoils_nothing_else(key: str, odd: object) -> None:
    made = document(record(**{key: odd, "eventID": "an id"}))
    assert at(made, "event.id") == ["an id"]


@pytest.mark.parametrize(("letter", "most"), [("x", 32766), ("漢", 10922)])
def test_a_name_that_an_index_would_refuse_is_left_out(letter: str, most: int) -> None:
    for count, kept in ((most, [letter * most]), (most + 1, [])):
        made = document(record(userIdentity={"type": "IAMUser", "userName": letter * count}))
        assert at(made, "user.name") == kept


def test_names_without_a_limit_are_known() -> None:
    unlimited = [
        name
        for name in NAMES.values()
        if (found := SCHEMA.field(name)) and found.type == "keyword" and found.ignore_above is None
    ]
    assert set(unlimited) <= set(UNLIMITED)


def test_a_record_of_nothing() -> None:
    assert at(document({}), "event.outcome") == ["success"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("none")
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KNOWN = sorted({part for path in {**NAMES, **SINCE_6_22} for part in path.split(".")} | {"insightDetails"})
RECORDS = st.dictionaries(
    st.sampled_from(KNOWN), TREES | st.dictionaries(st.sampled_from(KNOWN), TREES, max_size=4), max_size=8
)


@given(RECORDS)
def test_every_value_of_every_document_has_a_field(source: dict[str, Any]) -> None:
    for path, _ in paths.leaves(document(source)):
        assert SCHEMA.field(path) is not None, path
