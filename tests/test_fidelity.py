"""The comparison with the stock backends: it counts what is so, and says what it left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from keytrail.cluster import Cluster
from keytrail.errors import RecordError, RuleError, UsageError

from benchmarks.fidelity.__main__ import main
from benchmarks.fidelity.comparison import Comparison, Setting, compare
from benchmarks.fidelity.material import KINDS, read_events, read_rules

USER = "arn:aws:iam::111122223333:user"
RULES = {
    "allow_list": {
        "s": {"eventName": "Decrypt"},
        "f": {"userIdentity.arn": f"{USER}/Reader"},
        "condition": "s and not f",
    },
    "ending": {"s": {"userIdentity.arn|endswith": ":user/Reader"}, "condition": "s"},
    "same": {"s": {"eventName": "Encrypt"}, "condition": "s"},
    "long": {"s": {"userAgent|endswith": "the end"}, "condition": "s"},
    "network": {"s": {"sourceIPAddress|cidr": "10.0.0.0/8"}, "condition": "s"},
    "two": {"a": {"eventName": "Encrypt"}, "b": {"eventName": "Decrypt"}, "condition": ["a", "b"]},
    "elsewhere": {"s": {"requestParameters.never": "x"}, "condition": "s"},
}
EVENT: dict[str, Any] = {"eventSource": "kms.amazonaws.com", "sourceIPAddress": "10.1.2.3", "userAgent": "short"}
EVENTS = [
    {**EVENT, "eventName": "Decrypt", "userIdentity": {"arn": f"{USER}/Reader"}},
    {**EVENT, "eventName": "Decrypt", "userIdentity": {"arn": f"{USER}/Writer"}},
    {**EVENT, "eventName": "Encrypt", "userIdentity": {"arn": f"{USER}/Writer"}, "userAgent": "x" * 300 + "the end"},
]
REFUSED = {**EVENT, "eventName": "Encrypt", "userIdentity": "no object"}


def written(folder: Path, events: list[dict[str, Any]] = EVENTS, **more: Any) -> tuple[str, str]:
    for name, detection in {**RULES, **more}.items():
        source = {"product": "aws", "service": "cloudtrail"}
        rule = {"title": name, "logsource": source, "detection": detection}
        (folder / f"{name}.yml").write_text(json.dumps(rule))
    (folder / "events.json").write_text(json.dumps({"Records": events}))
    return str(folder), str(folder / "events.json")


def compared(cluster: Cluster, paths: tuple[str, str], **setting: Any) -> tuple[Comparison, dict[str, dict[str, Any]]]:
    rules, events = paths
    found = compare(cluster, read_rules([Path(rules)]), read_events([events]), Setting(**setting))
    assert not [name for name in cluster.client.indices.get(index="keytrail-*") if name.startswith("keytrail-")]
    return found, {one["backend"]: one for one in found.as_dict()["backends"]}


def wrong(score: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    return {one["rule"]: (one["missed"], one["false_hits"], one["condition_false"]) for one in score["differences"]}


def test_what_the_stock_query_gets_wrong_and_ours_right_is_counted(cluster: Cluster, tmp_path: Path) -> None:
    found, scores = compared(cluster, written(tmp_path))
    lucene = scores["stock Lucene"]
    assert wrong(lucene)["allow_list"] == (1, 0, 0)  # the tokens of the ARN are ORed: nobody is left
    assert wrong(lucene)["ending"] == (1, 0, 0)
    assert wrong(lucene)["network"] == (3, 0, 0)
    assert lucene["missed"] == sum(missed for missed, _, _ in wrong(lucene).values())
    ours = scores["Keytrail query-dsl"]
    assert wrong(ours) == {"long": (1, 0, 1)}  # a condition of the query names the event
    assert (ours["exact"], ours["exact_with_hits"], ours["wrong"], ours["condition_false"]) == (4, 4, 0, 1)
    assert list(ours["refused"]) == ["network"]
    assert list(ours["no_such_field"]) == ["elsewhere"]
    assert found.ok
    assert found.as_dict()["rules_with_hits"] == 6
    assert all(
        scores[f"Keytrail {target}"]["exact"] == 4
        for target in ("lucene", "esql")
        if scores[f"Keytrail {target}"]["run"]
    )
    assert not scores["stock EQL"]["run"]


def test_the_keyword_beside_a_text_is_given_to_the_stock_backend_too(cluster: Cluster, tmp_path: Path) -> None:
    _, scores = compared(cluster, written(tmp_path))
    careful = scores["stock Lucene, .keyword"]
    assert {"allow_list", "ending"}.isdisjoint(wrong(careful))
    assert wrong(careful)["long"] == (1, 0, 0)
    _, scores = compared(cluster, written(tmp_path), mapping="keytrail")
    assert "stock Lucene, .keyword" not in scores


def test_in_our_own_index_ours_are_exact(cluster: Cluster, tmp_path: Path) -> None:
    found, scores = compared(cluster, written(tmp_path), mapping="keytrail")
    assert found.ok
    assert scores["Keytrail query-dsl"]["exact"] == len(RULES)
    assert scores["stock Lucene"]["exact"] < len(RULES)


def test_a_rule_of_several_conditions_is_asked_for_each(cluster: Cluster, tmp_path: Path) -> None:
    _, scores = compared(cluster, written(tmp_path))
    assert all("two" not in wrong(score) for score in scores.values())


def test_events_that_the_index_refuses_are_left_out_or_counted_as_missed(cluster: Cluster, tmp_path: Path) -> None:
    paths = written(tmp_path, [*EVENTS, REFUSED])
    found, scores = compared(cluster, paths)
    assert found.as_dict()["refused_events"] == {"document_parsing_exception": 1}
    assert "same" not in wrong(scores["Keytrail query-dsl"])
    found, scores = compared(cluster, paths, count_refused=True)
    assert wrong(scores["stock Lucene"])["same"] == (1, 0, 0)
    assert wrong(scores["Keytrail query-dsl"])["same"][0] == 1


def test_the_index_can_be_made_kinder(cluster: Cluster, tmp_path: Path) -> None:
    paths = written(tmp_path)
    found, scores = compared(cluster, paths, ignore_above=1000, date_detection=False, field_limit=5000)
    assert "long" not in wrong(scores["Keytrail query-dsl"])
    shape = found.as_dict()
    assert (shape["date_detection"], shape["field_limit"], shape["ignore_above"]) == (False, 5000, 1000)


def test_a_mapping_in_a_file_is_used(cluster: Cluster, tmp_path: Path) -> None:
    keyword = {"type": "keyword"}
    mapped = {"eventName": keyword, "eventSource": keyword, "sourceIPAddress": {"type": "ip"}}
    path = tmp_path / "mine.mapping"
    path.write_text(json.dumps({"mine": {"mappings": {"properties": mapped}}}))
    _, scores = compared(cluster, written(tmp_path), mapping=str(path))
    assert "network" not in wrong(scores["Keytrail query-dsl"]) | scores["Keytrail query-dsl"]["refused"]


def test_rules_that_cannot_be_compared_are_left_out_by_name(tmp_path: Path) -> None:
    written(tmp_path, nothing={"keywords": ["x"], "condition": "keywords"})
    (tmp_path / "windows.yml").write_text(
        "title: x\nlogsource: {product: windows}\ndetection: {s: {a: b}, condition: s}\n"
    )
    (tmp_path / "broken.yml").write_text("title: [")
    found = read_rules([tmp_path])
    assert set(found.left_out) == {"windows", "nothing"}
    assert "product aws" in found.left_out["windows"]
    assert "the reference" in found.left_out["nothing"]
    assert [error.path for error in found.bad] == [str(tmp_path / "broken.yml")]
    assert set(found.rules) == set(RULES)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no Sigma rule"):
        read_rules([tmp_path])
    (tmp_path / "broken.yml").write_text("title: [")
    with pytest.raises(RuleError, match=r"no rule in .* can be compared"):
        read_rules([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no log file"):
        read_events([str(tmp_path / "empty")])
    (tmp_path / "none.json").write_text('{"Records": []}')
    with pytest.raises(RecordError, match="no CloudTrail event"):
        read_events([str(tmp_path / "none.json")])


@pytest.mark.parametrize(
    "setting", [{"mapping": "none"}, {"mapping": "ecs", "ignore_above": 5}, {"ignore_above": 0}, {"field_limit": 0}]
)
def test_settings_that_do_not_go_together_are_an_error(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Setting(**setting).layout()


def test_the_command_prints_what_decides_and_goes_on_after_bad_input(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*written(tmp_path), "--elasticsearch", cluster.url]
    assert main([*words, "--details"]) == 0
    shown = capsys.readouterr().out
    for part in ("date detection on", "of at most 1,000", "over 256 characters", "stock EQL", "condition false"):
        assert part in shown
    (tmp_path / "broken.yml").write_text("title: [")
    assert main([*words, "--json"]) == 2
    done = capsys.readouterr()
    assert "broken.yml" in done.err
    (found,) = json.loads(done.out)
    assert found["backends"][0]["backend"] == "stock Lucene"
    assert len(found["unreadable"]) == 1
    assert main([str(tmp_path / "none"), *words[1:]]) == 2


def test_every_rule_of_the_kinds_can_be_compared() -> None:
    found = read_rules([KINDS])
    assert len(found.rules) > 40
    assert (found.left_out, found.bad) == ({}, [])
