"""Schema ``ecs-custom``: the pipeline and the component template that ship, and what the document is after them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail import paths
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.convert import Conversion, convert
from keytrail.pack import Rule
from keytrail.proof import holds
from keytrail.schemas import ecs, ecs_custom, java

ROOT = Path(__file__).parents[1]
EVENTS = load_events(ROOT / "fixtures" / "events")
SCHEMA = ecs_custom.SCHEMA
POLICY = "requestParameters.policy"
PARTS = {"pipeline": ecs_custom.pipeline, "component-template": ecs_custom.component_template}


@pytest.mark.parametrize("part", PARTS)
def test_what_ships_is_what_the_list_says(part: str) -> None:
    shipped = ROOT / "converter" / "keytrail" / "schemas" / f"ecs-custom.{part}.json"
    command = f"keytrail schema ecs-custom --part {part}"
    printed = CliRunner().invoke(main, command.split()[1:]).output
    assert shipped.read_text("utf-8") == printed, f"{command} > {shipped.relative_to(ROOT)}"
    made = json.loads(printed)
    assert made.pop("_meta")["managed_by"] == "keytrail"
    assert made == PARTS[part]()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("schema ecs --part pipeline", "schema ecs has no pipeline"),
        ("schema raw --part component-template", "schema raw has no component-template"),
        ("schema ecs-custom --part template", "is the AWS integration's own"),
    ],
)
def test_parts_that_a_schema_has_not(words: str, says: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize("name", ["keytrail", "raw"])
def test_an_index_template_for_indices_of_ones_own(name: str) -> None:
    made = json.loads(CliRunner().invoke(main, ["schema", name, "--part", "template"]).output)
    assert made["template"] == json.loads(CliRunner().invoke(main, ["schema", name]).output)
    assert len(made["index_patterns"]) == 1


# The pipeline as Elasticsearch runs it: its documentation of the set processor, and of Painless's instanceof.

TYPES: dict[str, type] = {"Map": dict, "String": str}


def at(node: Any, path: list[str]) -> Any:
    """A step into what is no map is an error in Painless; a key that is not there is null."""
    for key in path:
        assert isinstance(node, dict), path
        node = node.get(key)
    return node


def condition_holds(condition: str, document: Any) -> bool:
    for part in condition.split(" && "):
        place, kind = part.split(" instanceof ")
        assert place.startswith("ctx.")
        keys = [one or two for one, two in re.findall(r"\.(\w+)|\['([^']+)'\]", place.removeprefix("ctx"))]
        if not isinstance(at(document, keys), TYPES[kind]):
            return False
    return True


def run(pipeline: Mapping[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(document)
    *setters, script = pipeline["processors"]
    for processor in setters:
        options = processor["set"]
        assert set(options) == {"description", "if", "field", "copy_from", "ignore_empty_value"}
        if not condition_holds(options["if"], made):
            continue
        value = at(made, options["copy_from"].split("."))
        if value not in (None, ""):
            put(made, options["field"].split("."), value)
    for field in script["script"]["params"]["fields"]:
        found = paths.values(made, ".".join(field["from"]))
        if found:
            put(made, field["to"], list(map(java.text, found)))
    return made


def put(made: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for key in parents:
        made = made.setdefault(key, {})
    made[last] = copy.deepcopy(value)


ODD: list[Any] = ["text", 5, True, None, [], ["x"], {}, {"a": "b"}, [{"a": "b"}], "-", ""]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    "path",
    [
        "",
        ".policy",
        ".encryptionContext",
        ".encryptionContext.aws:s3:arn",
        ".operations",
        ".eventSelectors.readWriteType",
    ],
)
def test_the_pipeline_makes_the_document_that_the_schema_says_of_anything(path: str, odd: Any) -> None:
    record: Any = odd
    for key in reversed(path.split(".")[1:]):
        record = {key: record, "keyId": "k"}
    source = {"eventName": "X", "requestParameters": record}
    assert run(ecs_custom.pipeline(), ecs.document(source)) == ecs_custom.document(source)


@pytest.mark.parametrize("name", EVENTS)
def test_the_pipeline_makes_the_document_that_the_schema_says(name: str) -> None:
    made = ecs_custom.document(EVENTS[name])
    assert run(ecs_custom.pipeline(), ecs.document(EVENTS[name])) == made
    assert {key: value for key, value in made.items() if key != "keytrail"} == ecs.document(EVENTS[name])


def test_the_component_template_maps_each_copy() -> None:
    for target in ecs_custom.TARGETS.values():
        found = SCHEMA.field(target)
        assert found is not None
        assert (found.type, found.ignore_above) == ("keyword", 32766)
    mapped = json.dumps(ecs_custom.component_template()).count('"keyword"')
    assert mapped == len(ecs_custom.TARGETS) == len(set(ecs_custom.TARGETS.values()))


def test_a_document_with_the_longest_copies_is_taken(cluster: Cluster) -> None:
    records = {
        letter: {"requestParameters": {"policy": letter * count}}
        for letter, count in (("x", 32700), ("ß", 16350), ("漢", 10900), ("🔑", 8150))
    }
    documents = {letter: ecs_custom.document(record) for letter, record in records.items()}
    assert all(len(made["keytrail"]["request"]["policy"]) > 8000 for made in documents.values())
    with cluster.temporary_index(SCHEMA.body) as index:
        assert cluster.load(index, documents.items()) == {}
        asked = {letter: converted(f"{POLICY}|endswith", letter) for letter in records}
        queries = {letter: made.query.body["query"] for letter, made in asked.items() if made.query is not None}
        assert cluster.search(index, queries) == {letter: frozenset({letter}) for letter in records}


def converted(key: str, value: Any, condition: str = "one", schema: Any = SCHEMA) -> Conversion:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": {key: value}, "condition": condition},
    }
    return convert(Rule(Path("made.yml"), document, ""), schema)


@pytest.mark.parametrize(
    ("key", "value", "condition"),
    [
        (f"{POLICY}|re", r'\{[^{}]*"Deny"', "one"),
        (f"{POLICY}|contains", "a,b", "one"),
        (f"{POLICY}|contains", "a", "not one"),
    ],
)
def test_what_a_flattened_field_cannot_answer_a_copy_can(key: str, value: str, condition: str) -> None:
    assert converted(key, value, condition, ecs.SCHEMA).verdict == "refused"
    made = converted(key, value, condition)
    assert {part.kind for part in made.conditions} == {"copied", "kept_whole"}
    assert {part.strays.value for part in made.conditions} == {"adds" if condition == "not one" else "misses"}


@pytest.mark.parametrize(
    ("parameters", "copied"),
    [({"policy": "x"}, True), ({}, True), ({"policy": None}, True), ({"policy": 5}, False), ({"policy": ["x"]}, False)],
)
def test_the_condition_that_a_field_was_copied(parameters: dict[str, Any], copied: bool) -> None:
    condition = next(part for part in converted(f"{POLICY}|contains", "x").conditions if part.kind == "copied")
    assert holds(condition, SCHEMA, {"requestParameters": parameters}) is copied


def test_values_in_lists_are_gathered() -> None:
    selectors = [{"readWriteType": "All"}, {"readWriteType": ["ReadOnly", {"odd": 1}]}, "odd", {"other": "x"}]
    made = ecs_custom.document({"requestParameters": {"eventSelectors": selectors, "operations": "Decrypt"}})
    request = made["keytrail"]["request"]
    assert request == {"event_selectors": {"read_write_type": ["All", "ReadOnly"]}, "operations": ["Decrypt"]}


@pytest.mark.parametrize("rule_field", [name for name in ecs_custom.TARGETS if name.startswith(ecs_custom.IN_LISTS)])
def test_what_lies_in_lists_can_be_asked_under_not(rule_field: str) -> None:
    assert converted(rule_field, "x", "not one").verdict == "exact if"


def test_a_copy_goes_the_way_of_what_it_is_a_copy_of() -> None:
    record = {"requestParameters": {"policy": "x" * 32766}}
    assert "keytrail" not in ecs_custom.document(record)
    condition = next(part for part in converted(f"{POLICY}|contains", "x").conditions if part.kind == "kept_whole")
    assert not holds(condition, SCHEMA, record)
