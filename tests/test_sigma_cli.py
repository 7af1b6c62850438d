"""sigma-cli with what Keytrail brings to it: the same output as our command, and said well in its lists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.schemas import SCHEMAS
from keytrail.targets import TARGETS
from sigma.cli.convert import convert
from sigma.cli.list import list_group

RULES = packaged("rules")
SINGLE = ("key/trail_key_disabled.yml", "normal/encrypted_log_file_read.yml", "use/log_read_denied.yml")
CORRELATION = "correlations/reads_across_trails.yml"
FILTER = packaged("exclusions") / "aws_config_recorder.yml"
STOCK = ("lucene", "eql", "esql", "elastalert")


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def sigma(*arguments: object) -> Result:
    return CliRunner().invoke(convert, [str(argument) for argument in arguments])


def backend(target: str) -> str:
    return f"keytrail_{target.replace('-', '_')}"


def pipeline(schema: str) -> str:
    return f"keytrail_{schema.replace('-', '_')}"


def documents(text: str) -> list[Any]:
    """The JSON documents that stand one after the other in ``text``, those of a list each for itself."""

    def each() -> Iterator[Any]:
        left = text.strip()
        while left:
            found, end = json.JSONDecoder().raw_decode(left)
            yield from found if isinstance(found, list) else [found]
            left = left[end:].strip()

    return sorted(each(), key=json.dumps)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of rules about single events, which each target takes on each schema."""
    folder = tmp_path_factory.mktemp("single")
    for name in SINGLE:
        shutil.copy(RULES / name, folder)
    return folder


@pytest.fixture(scope="module")
def correlated(single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a correlation of one of them: sigma-cli finds what a rule names within one folder alone."""
    folder = tmp_path_factory.mktemp("correlated")
    for path in (*single.iterdir(), RULES / CORRELATION):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("target", TARGETS)
def test_each_target_and_pipeline_gives_what_our_command_gives(
    target: str, schema: str, single: Path, correlated: Path
) -> None:
    rules = correlated if target == "query-dsl" else single
    theirs = sigma("-t", backend(target), "-p", pipeline(schema), rules)
    ours = keytrail("convert", rules, "--target", target, "--schema", schema)
    assert (theirs.exit_code, ours.exit_code) == (0, 0), theirs.output + ours.output
    if target == "query-dsl":
        assert len(documents(theirs.stdout)) == len(SINGLE) + 1
        assert documents(theirs.stdout) == documents(ours.stdout)
    else:
        assert queries(theirs.stdout) == queries(ours.stdout)


def queries(text: str) -> list[str]:
    """The queries of a target of text, ES|QL's having several lines."""
    found = sorted(re.split(r"\n+(?=FROM )|\n\n+" if "FROM " in text else r"\n+", text.strip()))
    assert len(found) == len(SINGLE)
    return found


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_format_verdict_says_what_our_command_says(
    target: str, schema: str, single: Path, correlated: Path
) -> None:
    rules = correlated if target == "query-dsl" else single
    theirs = sigma("-t", backend(target), "-p", pipeline(schema), "-f", "verdict", rules)
    ours = keytrail("convert", rules, "--target", target, "--schema", schema, "--format", "json")
    wanted = [{key: made[key] for key in ("verdict", "conditions", "query")} for made in documents(ours.stdout)]
    assert documents(theirs.stdout) == sorted(wanted, key=json.dumps)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_format_kibana_gives_the_rules_that_our_command_gives(schema: str, correlated: Path) -> None:
    theirs = sigma("-t", "keytrail_query_dsl", "-p", pipeline(schema), "-f", "kibana", correlated)
    ours = keytrail("convert", correlated, "--target", "kibana", "--schema", schema)
    assert len(theirs.stdout.splitlines()) == len(SINGLE) + 1
    assert documents(theirs.stdout) == documents(ours.stdout)


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_filter_narrows_there_as_it_does_here(target: str, schema: str) -> None:
    rule = RULES / "use" / "key_policy_or_grants_enumerated.yml"
    end = ("-p", pipeline(schema), rule)
    theirs = sigma("-t", backend(target), "--filter", FILTER, *end)
    ours = keytrail("convert", rule, "--filter", FILTER, "--target", target, "--schema", schema)
    assert theirs.exit_code == 0, theirs.output
    assert theirs.stdout.strip() != sigma("-t", backend(target), *end).stdout.strip()
    if target == "query-dsl":
        assert documents(theirs.stdout) == documents(ours.stdout)
    else:
        assert theirs.stdout.strip() == ours.stdout.strip()


def wide_filter(folder: Path) -> Path:
    """A filter of all rules about CloudTrail."""
    path = folder / "wide.yml"
    text = FILTER.read_text("utf-8")
    path.write_text(re.sub(r"rules:\n +- .*", "rules: any", text), "utf-8")
    return path


@pytest.mark.parametrize("form", ["default", "kibana"])
def test_a_filter_of_several_rules_narrows_each_and_the_correlation_of_them(
    form: str, correlated: Path, tmp_path: Path
) -> None:
    wide = wide_filter(tmp_path)
    theirs = sigma("-t", "keytrail_query_dsl", "-p", "keytrail_ecs", "-f", form, "--filter", wide, correlated)
    target = "kibana" if form == "kibana" else "query-dsl"
    ours = keytrail("convert", correlated, "--filter", wide, "--target", target, "--schema", "ecs")
    assert theirs.exit_code == 0, theirs.output
    assert "LambdaDescribeHandlerSession" in theirs.stdout
    assert documents(theirs.stdout) == documents(ours.stdout)


@pytest.mark.parametrize("form", ["default", "kibana"])
def test_all_that_is_refused_in_the_pack_can_be_left_out_and_is_named(form: str, tmp_path: Path) -> None:
    """Without the filters, which sigma-cli applies where it finds them among the rules."""
    rules = shutil.copytree(RULES, tmp_path / "rules", ignore=shutil.ignore_patterns("filters"))
    theirs = sigma("-s", "-t", "keytrail_query_dsl", "-p", "keytrail_ecs", "-f", form, rules)
    ours = keytrail("convert", "--target", "kibana" if form == "kibana" else "query-dsl", "--schema", "ecs")
    assert (theirs.exit_code, ours.exit_code) == (0, 1)
    assert documents(theirs.stdout) == documents(ours.stdout)
    left_out = set(re.findall(r"(\w+)\.yml: ", theirs.stderr.partition("Ignored errors:")[2]))
    assert {"key_policy_without_cloudtrail", "site_trail_encryption_removed", "key_and_trail_tampered"} <= left_out


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("eventNmae", "DisableKey", "no place for the field 'eventNmae'"),
        ("requestParameters.policy|re", "'(?=x)'", "lookaround"),
        ("userIdentity.arn|expand", "'%readers%'", "%readers%"),
    ],
)
def test_refusals_are_told_without_a_traceback(field: str, value: str, named: str, tmp_path: Path) -> None:
    text = (RULES / "key" / "trail_key_disabled.yml").read_text("utf-8")
    path = tmp_path / "refused.yml"
    path.write_text(text.replace("eventName: DisableKey", f"{field}: {value}"), "utf-8")
    done = sigma("-t", "keytrail_query_dsl", "-p", "keytrail_ecs", path)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), "sigma-cli has not caught it"
    assert not done.stdout
    assert f"{path}: " in done.stderr
    assert named in done.stderr


def test_a_rule_that_needs_a_profile_is_refused_as_it_is_by_our_command() -> None:
    rule = RULES / "trail" / "site_trail_encryption_removed.yml"
    theirs = sigma("-t", "keytrail_lucene", "-p", "keytrail_ecs", rule)
    ours = keytrail("convert", rule, "--target", "lucene", "--schema", "ecs")
    assert (theirs.exit_code, ours.exit_code) == (1, 1)
    assert "needs a profile" in theirs.stderr
    assert "needs a profile" in ours.stderr


def test_a_correlation_that_a_target_cannot_say_is_refused_by_name(correlated: Path) -> None:
    """Here the command ``sigma`` itself is run."""
    command = [str(Path(sys.executable).with_name("sigma")), "convert", "-t", "keytrail_esql", "-p", "keytrail_ecs"]
    done = subprocess.run([*command, str(correlated)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{Path(CORRELATION).name}: no query of this language slides a window" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def table(*arguments: str) -> dict[str, str]:
    """A list of sigma-cli's: what stands in the first column, and the rest of its line."""
    rows: dict[str, str] = {}
    name = ""
    for line in CliRunner().invoke(list_group, arguments).stdout.splitlines():
        if line.startswith("|"):
            first, *rest = (cell.strip() for cell in line.replace("ES|QL", "ES\0QL").strip("|").split("|"))
            name = first or name
            rows[name] = f"{rows.get(name, '')} {' '.join(rest)}".replace("\0", "|").strip()
    return rows


def test_the_lists_say_what_each_target_format_and_pipeline_is() -> None:
    targets, pipelines = table("targets"), table("pipelines")
    for target, kind in TARGETS.items():
        assert all(word in targets[backend(target)] for word in kind.name.split())
        formats = table("formats", backend(target))
        assert formats == {"Format": "Description", **kind.formats}
    for name, schema in SCHEMAS.items():
        said = pipelines[pipeline(name)]
        assert all(word in said for word in schema.title.split()), said
        assert "all" in said.split(), "it serves the stock backends too"


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("target", STOCK)
def test_the_stock_backends_take_the_names_and_the_index_from_our_pipelines(target: str, schema: str) -> None:
    done = sigma("-t", target, "-p", pipeline(schema), RULES / "key" / "trail_key_disabled.yml")
    assert done.exit_code == 0, done.output
    assert SCHEMAS[schema].index_name("eventName") in done.stdout
    assert (SCHEMAS[schema].index in done.stdout) == (target in ("esql", "elastalert"))


SINGLE_ROOMS = [RULES / room for room in ("bucket", "key", "normal", "trail", "use")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's filters, as a profile is written for other tools."""
    folder = tmp_path_factory.mktemp("site") / "filters"
    done = keytrail("profile", packaged("fixtures") / "site.yml", "--as-filters", folder)
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("schema", [[], ["-p", "keytrail_keytrail"], ["-p", "keytrail_ecs"]])
@pytest.mark.parametrize("target", ["lucene", "esql"])
def test_stock_backends_take_all_single_rules_and_the_filters_of_a_profile(
    target: str, schema: list[str], site: Path
) -> None:
    done = sigma("-t", target, *schema, "-p", "keytrail_case_sensitive", "--filter", site, *SINGLE_ROOMS)
    assert done.exit_code == 0, done.output
    rules = [path for room in SINGLE_ROOMS for path in room.glob("*.yml")]
    assert len(done.stdout.strip().split("\n\n")) == len(rules)


def test_a_value_with_case_becomes_what_a_stock_backend_makes_of_it_without(tmp_path: Path) -> None:
    text = (RULES / "bucket" / "sse_c_unblocked.yml").read_text("utf-8")
    assert "|cased: NONE" in text
    path = tmp_path / "bare.yml"
    path.write_text(text.replace("|cased", ""), "utf-8")
    for target in ("lucene", "esql"):
        bare = sigma("-t", target, "-p", "keytrail_keytrail", path)
        given = RULES / "bucket" / "sse_c_unblocked.yml"
        cased = sigma("-t", target, "-p", "keytrail_keytrail", "-p", "keytrail_case_sensitive", given)
        assert "NONE" in bare.stdout
        assert cased.stdout == bare.stdout


def test_case_is_not_promised_on_fields_that_lose_it_nor_to_a_backend_that_passes_over_it() -> None:
    rule = RULES / "bucket" / "sse_c_unblocked.yml"
    other = RULES / "key" / "trail_key_disabled.yml"
    with_raw = ("-t", "lucene", "-p", "keytrail_raw", "-p", "keytrail_case_sensitive")
    refused = sigma(*with_raw, rule)
    assert refused.exit_code == 1
    assert "BlockedEncryptionTypes.EncryptionType (text)" in refused.stderr
    skipped = sigma("-s", *with_raw, rule, other)
    assert skipped.exit_code == 0
    assert "sse_c_unblocked.yml" in skipped.stderr
    assert "DisableKey" in skipped.stdout
    assert sigma("-t", "eql", "-p", "keytrail_case_sensitive", rule).exit_code == 2


def test_no_filter_lies_where_sigma_cli_would_apply_it_unasked() -> None:
    assert not [path for path in RULES.rglob("*.yml") if "\nfilter:" in path.read_text("utf-8")]


def test_our_pipeline_refuses_a_field_that_the_index_lacks_for_stock_backends_too(tmp_path: Path) -> None:
    path = tmp_path / "refused.yml"
    text = (RULES / "key" / "trail_key_disabled.yml").read_text("utf-8")
    path.write_text(text.replace("eventName", "eventNmae"), "utf-8")
    refused = sigma("-t", "lucene", "-p", "keytrail_ecs", path)
    assert refused.exit_code == 1
    assert "eventNmae" in refused.stderr
