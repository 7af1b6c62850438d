"""The expected queries in fixtures/queries: what each rule compiles to, reviewed as a diff."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from keytrail.convert import convert
from keytrail.pack import Rule, load_rules
from keytrail.schemas import SCHEMAS
from keytrail.targets import TARGETS

ROOT = Path(__file__).parents[1]
QUERIES = ROOT / "fixtures" / "queries"
AGAIN = "run 'make queries', and look at what it changes"

RULES = load_rules([ROOT / "rules"]).rules
EXPECTED = {
    QUERIES / target / schema / f"{rule.stem}.json": (rule, schema, target)
    for target in TARGETS
    for schema in SCHEMAS
    for rule in RULES
}


@pytest.mark.parametrize(
    ("path", "rule", "schema", "target"),
    [pytest.param(path, *made, id="-".join(path.relative_to(QUERIES).parts)) for path, made in EXPECTED.items()],
)
def test_the_rule_compiles_to_the_expected_query(path: Path, rule: Rule, schema: str, target: str) -> None:
    assert path.is_file(), f"{path.relative_to(ROOT)} is missing: {AGAIN}"
    made = json.loads(json.dumps(convert(rule, SCHEMAS[schema], target).as_dict()))
    assert made == json.loads(path.read_text("utf-8")), f"{path.relative_to(ROOT)} says otherwise: {AGAIN}"


def test_no_expected_query_is_left_over() -> None:
    left = sorted(str(path.relative_to(ROOT)) for path in QUERIES.rglob("*") if path.is_file() and path not in EXPECTED)
    assert not left, f"{', '.join(left)}: there is no such rule, schema or target; {AGAIN}"


def test_expected_queries_name_no_place_of_the_machine_that_wrote_them() -> None:
    for path in QUERIES.rglob("*.json"):
        assert str(ROOT) not in path.read_text("utf-8"), path
