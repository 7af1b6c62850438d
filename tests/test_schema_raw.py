"""Schema ``raw``: what an index makes of CloudTrail records by itself, and what of it is certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from keytrail.cases import load_events
from keytrail.cluster import Cluster
from keytrail.convert import Conversion, convert
from keytrail.pack import Rule
from keytrail.proof import holds
from keytrail.schemas import raw
from keytrail.typed import is_plain_text

SCHEMA = raw.SCHEMA
EVENTS = load_events(Path(__file__).parents[1] / "fixtures" / "events")
NEW = "requestParameters.notListed"


def parameters(**values: Any) -> dict[str, Any]:
    return {"requestParameters": values}


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {"leaf": "x"}
    for _ in range(depth - 1):
        node = {"a": node}
    return node


RECORDS: dict[str, tuple[dict[str, Any], bool]] = {
    "a date": ({"eventTime": "2026-11-20T10:00:00Z"}, True),
    "a day": ({"eventTime": "2026-11-20"}, True),
    "milliseconds": ({"eventTime": 1795470595265}, True),
    "no date": ({"eventTime": "yesterday"}, False),
    "an empty date": ({"eventTime": ""}, False),
    "a thirteenth month": ({"eventTime": "2026-13-01"}, False),
    "a basic date": ({"eventTime": "20261120T100000Z"}, False),
    "true as a date": ({"eventTime": True}, False),
    "a truth value": ({"readOnly": True}, True),
    "a truth value as a text": ({"readOnly": "false"}, True),
    "an empty truth value": ({"readOnly": ""}, True),
    "a truth value in capitals": ({"readOnly": "True"}, False),
    "one as a truth value": ({"readOnly": 1}, False),
    "a number as a text": (parameters(pendingWindowInDays="7"), True),
    "a number with a fraction": (parameters(pendingWindowInDays=7.5), True),
    "an empty number": (parameters(pendingWindowInDays=""), True),
    "an exponent": (parameters(pendingWindowInDays="1e3"), True),
    "a huge exponent": (parameters(pendingWindowInDays="1e999999999"), False),
    "a number that is too large": (parameters(pendingWindowInDays=2**63), False),
    "words as a number": (parameters(pendingWindowInDays="seven"), False),
    "true as a number": (parameters(pendingWindowInDays=True), False),
    "a number as a name": ({"eventName": 5}, True),
    "an object as a name": ({"eventName": {"a": 1}}, False),
    "an empty object as a name": ({"eventName": {}}, False),
    "a list with an object as a name": ({"eventName": ["a", {"b": 1}]}, False),
    "lists in lists": ({"eventName": ["a", None, ["b"]]}, True),
    "a text as parameters": ({"requestParameters": "x"}, False),
    "a list of texts as parameters": ({"requestParameters": ["x"]}, False),
    "a list of parameters": ({"requestParameters": [{"keyId": "x"}]}, True),
    "no parameters": ({"requestParameters": None}, True),
    "a text as a context": (parameters(encryptionContext="x"), False),
    "a context's own key below an arn": (parameters(encryptionContext={"aws:cloudtrail:arn.x": "v"}), False),
    "a key with a dot": (parameters(**{"one.two": "x"}), True),
    "a key that ends with a dot": (parameters(**{"uno.": "x"}), True),
    "a key that begins with a dot": (parameters(**{".one": "x"}), False),
    "an empty key": (parameters(**{"": "x"}), False),
    "a blank key": (parameters(**{" ": "x"}), False),
    "a dot as a key": (parameters(**{".": "x"}), False),
    "two dots in a key": (parameters(**{"a..b": "x"}), False),
    "deep": (parameters(deep=nested(18)), True),
    "too deep": (parameters(deep=nested(19)), False),
    "a long text": ({"userAgent": "x" * 40_000}, True),
}


@pytest.mark.parametrize("name", RECORDS)
def test_which_records_the_index_takes(name: str) -> None:
    record, taken = RECORDS[name]
    assert raw.takes(record) is taken


def test_a_real_elasticsearch_takes_the_same(cluster: Cluster) -> None:
    with cluster.temporary_index(SCHEMA.body) as index:
        refused = cluster.load(index, ((name, record) for name, (record, _) in RECORDS.items()))
    assert set(refused) == {name for name, (_, taken) in RECORDS.items() if not taken}


def test_no_listed_field_is_an_object_too_or_listed_twice() -> None:
    listed = [prefix + name for prefix, names in raw.TEXTS.items() for name in names]
    listed += [name for names in raw.OTHERS.values() for name in names]
    assert sorted(listed) == sorted(raw.FIELDS)
    assert not set(raw.FIELDS) & raw.OBJECTS


def leaves(properties: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, spec in properties.items():
        if "properties" in spec:
            yield from leaves(spec["properties"], f"{above}{name}.")
        else:
            yield f"{above}{name}", spec


def test_the_listed_types_are_those_that_elasticsearch_makes_of_the_fixtures(cluster: Cluster) -> None:
    with cluster.temporary_index({}) as index:
        assert cluster.load(index, EVENTS.items()) == {}
        made = cluster.client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
    found = dict(leaves(made))
    listed = dict(leaves(SCHEMA.body["mappings"]["properties"]))
    shared = set(found) & set(listed)
    assert len(shared) > 60
    assert {name: found[name] for name in shared} == {name: listed[name] for name in shared}


def test_the_template_is_what_elasticsearch_does_by_itself(cluster: Cluster) -> None:
    documents = [(str(number), {f"field{number}": value}) for number, value in enumerate(TEXTS)]
    with cluster.temporary_index({}) as plain, cluster.temporary_index(SCHEMA.body) as ours:
        cluster.load(plain, documents)
        cluster.load(ours, documents)
        made = [cluster.client.indices.get_mapping(index=index)[index]["mappings"] for index in (plain, ours)]
    one, two = (dict(leaves(mapping["properties"])) for mapping in made)
    assert {name: two[name] for name in one} == one
    types = [one[f"field{number}"]["type"] for number in range(len(TEXTS))]
    # What only looks like a number stays a text, but is nothing that a rule can be sure of.
    certain = [is_plain_text(value) if isinstance(value, str) else False for value in TEXTS]
    assert [kind for kind, sure in zip(types, certain, strict=True) if sure] == ["text"] * sum(certain)
    assert {kind for kind, sure in zip(types, certain, strict=True) if not sure} == {
        "date",
        "text",
        "long",
        "float",
        "boolean",
    }


TEXTS = (
    *("plain", "", "2024", "12", "1.08", "true", "2026-11-20", "2026-11", "2026/11/20", "2026/11/20 10:00:00"),
    *("2026-11-20T10:00", "2026-11-20T10:00:00,123Z", "20261120T100000Z", "10:00", "Nov 25, 2026", "2026-W01"),
    *("arn:aws:s3:::b/2026/11/20/x", "2026-11-20 at noon", "2026-1-1", "+2026", 5, 5.5, True),
)


def converted(key: str, value: Any, condition: str = "one") -> Conversion:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": {key: value}, "condition": condition},
    }
    return convert(Rule(Path("made.yml"), document, ""), SCHEMA)


@pytest.mark.parametrize(
    ("key", "value", "kinds"),
    [
        ("eventName", "DisableKey", ["taken"]),
        ("userAgent|contains", "x", ["not_longer", "taken"]),
        ("readOnly", False, ["plain_truth", "taken"]),
        ("errorCode", None, ["taken"]),
        (NEW, "some text", ["first_value", "taken"]),
        (f"{NEW}|contains", "x", ["not_longer", "first_value", "taken"]),
        (f"{NEW}|exists", True, ["taken"]),
        (NEW, None, ["taken"]),
    ],
)
def test_what_a_query_depends_on(key: str, value: Any, kinds: list[str]) -> None:
    made = converted(key, value)
    assert [condition.kind for condition in made.conditions] == kinds, made.error
    assert made.query is not None
    assert made.verdict == "exact if"


@pytest.mark.parametrize("value", [True, 7, "true", "7", "7.5", "2026-11-20", "2026/11/20", "2026-11-20T10:00:00Z"])
def test_a_value_whose_type_is_not_certain_is_refused(value: Any) -> None:
    made = converted(NEW, value)
    assert made.verdict == "refused"
    assert "first event that has it" in str(made.error)
    assert made.error is not None
    assert made.error.hint == "map the field"


def test_under_not_the_query_adds_what_it_would_miss() -> None:
    strays = {condition.kind: condition.strays.value for condition in converted(NEW, "x", "not one").conditions}
    assert strays == {"first_value": "adds", "taken": "misses"}


@pytest.mark.parametrize(("value", "held"), [("x", True), (None, True), (5, False), ("2026-11-20", False)])
def test_the_condition_on_the_first_value(value: Any, held: bool) -> None:
    condition = next(part for part in converted(NEW, "x").conditions if part.kind == "first_value")
    assert holds(condition, SCHEMA, parameters(notListed=value)) is held


def test_an_object_of_unknown_keys_exists(cluster: Cluster) -> None:
    made = converted(f"{NEW}|exists", True)
    assert made.query is not None
    records = {"object": parameters(notListed={"x": 1}), "empty": parameters(notListed={}), "none": parameters()}
    with cluster.temporary_index(SCHEMA.body) as index:
        assert cluster.load(index, records.items()) == {}
        assert cluster.search(index, {"q": made.query.body["query"]}) == {"q": frozenset({"object"})}


def test_the_document_is_the_record() -> None:
    for record in EVENTS.values():
        assert raw.document(record) == record
        assert raw.takes(record)
