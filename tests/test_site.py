"""A site's own folder: rules, filters, cases and levels beside the pack, and a new version of the pack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.errors import ProfileError
from keytrail.levels import expired_levels, levelled, moved_levels, raised, wrong_levels
from keytrail.pack import load_rules
from keytrail.site import load_site

from tests.kibana_server import Kibana, running

RULE = """\
title: A Key Was Tagged
id: 7d0c8f9e-2b3a-4c5d-8e6f-1a2b3c4d5e70
description: Somebody tagged a key.
logsource: {product: aws, service: cloudtrail}
detection:
    selection: {eventSource: kms.amazonaws.com, eventName: TagResource}
    condition: selection
level: low
"""
FILTER = """\
title: The deployment tags keys
id: 5e0cf2b8-7a6e-4a6c-9e1e-0d7d0b7f3c10
logsource: {product: aws, service: cloudtrail}
filter:
    rules: [7d0c8f9e-2b3a-4c5d-8e6f-1a2b3c4d5e70]
    deployment: {userIdentity.arn: 'arn:aws:iam::111122223333:user/deploy'}
    condition: not deployment
keytrail: {owner: soc, reason: it does so for every key, expires: 2999-01-01}
"""
LEVELS = """\
levels:
  - rule: trail_key_disabled
    level: low
    instead_of: high
    owner: on call
    reason: keys are disabled by tickets alone
    expires: 2998-12-31
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    for name, text in {"rules/key_tagged.yml": RULE, "filters/deployment.yml": FILTER}.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text, "utf-8")
    text = (packaged("fixtures") / "site.yml").read_text("utf-8")
    (folder / "site.yml").write_text(text + LEVELS, "utf-8")
    return folder


@pytest.fixture
def kibana(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kibana]:
    monkeypatch.setenv("KIBANA_API_KEY", "x")
    with running() as found:
        yield found


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def planned(kibana: Kibana, command: str, *arguments: object) -> Result:
    return keytrail(command, "--kibana", kibana.url, "--schema", "keytrail", "--allow-refused", *arguments)


# -- the folder ---------------------------------------------------------------------------------------------------


def test_a_site_is_its_profile_or_its_folder(site: Path) -> None:
    whole, alone = load_site(site), load_site(site / "site.yml")
    assert (whole.rules, whole.filters, whole.cases) == (site / "rules", site / "filters", None)
    assert whole.profile is not None
    assert whole.profile == alone.profile
    assert alone.rules is alone.filters is None
    (site / "site.yml").unlink()
    assert load_site(site).profile is None


def test_a_folder_without_anything_of_a_site_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    with pytest.raises(ProfileError, match="has nothing of a site"):
        load_site(tmp_path)


def test_own_rules_stand_beside_the_pack_and_are_called_by_their_names(site: Path) -> None:
    listed = keytrail("rules", "--site", site)
    assert listed.exit_code == 0
    assert "key_tagged" in listed.stdout
    assert "trail_key_disabled" in listed.stdout
    assert keytrail("convert", "key_tagged", "--site", site).exit_code == 0
    assert keytrail("convert", "key_tagged").exit_code == 2


def test_own_filters_are_applied(site: Path) -> None:
    narrowed = keytrail("convert", "key_tagged", "--site", site, "--schema", "keytrail")
    assert "user/deploy" in narrowed.stdout
    without = keytrail("convert", site / "rules" / "key_tagged.yml", "--schema", "keytrail")
    assert "user/deploy" not in without.stdout


def test_own_cases_prove_own_rules(site: Path) -> None:
    case = site / "cases" / "key_tagged.yml"
    case.parent.mkdir()
    text = """\
cases:
  - name: a key is tagged
    event: disable_key
    match: true
    set: {eventName: TagResource}
  - name: the deployment tags a key
    event: disable_key
    match: false
    set: {eventName: TagResource, userIdentity.arn: 'arn:aws:iam::111122223333:user/deploy'}
"""
    case.write_text(text.replace("match: false", "match: true"), "utf-8")
    failed = keytrail("test", "key_tagged", "--site", site, "--schema", "keytrail")
    assert failed.exit_code == 1
    assert "key_tagged" in failed.stderr
    case.write_text(text, "utf-8")
    assert keytrail("test", "key_tagged", "--site", site, "--schema", "keytrail").exit_code == 0


def test_a_rule_of_the_same_name_is_an_error_and_replaces_nothing(site: Path) -> None:
    (site / "rules" / "key_tagged.yml").rename(site / "rules" / "trail_key_disabled.yml")
    (site / "filters" / "deployment.yml").unlink()
    found = keytrail("rules", "--site", site)
    assert found.exit_code == 2
    assert "the rule has the name of" in found.stderr
    assert "CloudTrail Key Disabled" in found.stdout


def test_rules_of_one_file_have_names_of_their_own(tmp_path: Path) -> None:
    both = tmp_path / "both.yml"
    other = RULE.replace("1a2b3c4d5e70", "1a2b3c4d5e71").replace("TagResource", "UntagResource")
    both.write_text(f"{RULE}---\n{other}", "utf-8")
    assert [rule.stem for rule in load_rules([both]).rules] == ["both", "both-2"]
    assert keytrail("convert", both, "-o", tmp_path / "out").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["both-2.json", "both.json"]


# -- levels -------------------------------------------------------------------------------------------------------


def test_a_level_of_the_site_holds_until_its_last_day(site: Path) -> None:
    profile = load_site(site).profile
    assert profile is not None
    rules = load_rules([packaged("rules") / "key" / "trail_key_disabled.yml"]).rules
    rules = list(map(raised, rules))
    (there,) = levelled(rules, profile, date(2998, 12, 31))
    assert (there.level, rules[0].level) == ("low", "high")
    said = "low instead of high, by on call until 2998-12-31: keys are disabled by tickets alone"
    assert str(there.levelled) == said
    assert levelled(rules, profile, date(2999, 1, 1)) == rules
    (error,) = expired_levels(profile, date(2999, 1, 1))
    assert "expired on 2998-12-31" in error.message
    assert expired_levels(profile, date(2998, 12, 31)) == []


def test_an_expired_level_fails_the_test(site: Path) -> None:
    text = (site / "site.yml").read_text("utf-8")
    (site / "site.yml").write_text(text.replace("2998-12-31", "2020-01-01"), "utf-8")
    found = keytrail("test", "trail_key_disabled", "--site", site, "--schema", "keytrail")
    assert found.exit_code == 1
    assert "the level low of trail_key_disabled expired on 2020-01-01" in found.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("rule: trail_key_disabled", "rule: no_such_rule"), "there is no rule 'no_such_rule' to give a level"),
        (("level: low", "level: middling"), "cannot be 'middling'"),
        (("    instead_of: high\n", ""), "needs instead_of"),
        (("    reason: keys are disabled by tickets alone\n", ""), "needs reason"),
    ],
)
def test_a_level_that_cannot_be_is_named_with_its_line(site: Path, change: tuple[str, str], told: str) -> None:
    text = (site / "site.yml").read_text("utf-8")
    (site / "site.yml").write_text(text.replace(*change), "utf-8")
    found = keytrail("convert", "trail_key_disabled", "--site", site, "--schema", "keytrail")
    assert found.exit_code == 2
    assert told in found.stderr
    assert "site.yml:" in found.stderr


def test_two_levels_of_one_rule_are_an_error(site: Path) -> None:
    text = (site / "site.yml").read_text("utf-8")
    again = LEVELS.removeprefix("levels:\n").replace("trail_key_disabled", "0c1a5f5e")
    rules = load_rules([packaged("rules")]).rules
    rule = next(one for one in rules if one.stem == "trail_key_disabled")
    (site / "site.yml").write_text(text + again.replace("0c1a5f5e", rule.id), "utf-8")
    profile = load_site(site).profile
    assert profile is not None
    (error,) = wrong_levels(profile, rules)
    assert "has a level already, in line" in error.message


# -- a new version of the pack ------------------------------------------------------------------------------------


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The pack, as a later version could be: one rule finds more and is more severe, one says more, one is gone."""
    folder = tmp_path / "newer"
    shutil.copytree(packaged("rules"), folder)
    changed = folder / "key" / "key_material_deleted.yml"
    text = changed.read_text("utf-8")
    assert "level: high" in text
    changed.write_text(text.replace("level: high", "level: critical"), "utf-8")
    levelled_one = folder / "key" / "trail_key_disabled.yml"
    text = levelled_one.read_text("utf-8")
    text = text.replace("level_at_site: high", "level_at_site: critical")
    text = text.replace("DisableKey\n", "[DisableKey, DisableKeys]\n")
    levelled_one.write_text(text, "utf-8")
    (folder / "key" / "key_store_cut.yml").unlink()
    return folder


def test_a_new_version_changes_neither_own_rules_nor_levels_and_says_what_it_changes(
    kibana: Kibana, site: Path, newer: Path
) -> None:
    assert planned(kibana, "apply", "--site", site, "--yes").exit_code == 0
    assert planned(kibana, "plan", "--site", site).exit_code == 0
    found = planned(kibana, "plan", newer, site / "rules", "--prune", "--site", site)
    assert found.exit_code == 3
    text = found.stdout
    assert "A Key Was Tagged" not in text
    assert "- delete   rule KMS Custom Key Store Cut Off or Changed  (no longer in the pack)" in text
    _, _, material = text.partition("~ update   rule Imported KMS Key Material Deleted\n")
    assert material.lstrip().startswith("it is more severe: critical, and was high")
    _, _, disabled = text.partition("~ update   rule CloudTrail Key Disabled\n")
    sentence = "it asks whether eventName is DisableKey or DisableKeys, where it asked whether eventName is DisableKey"
    assert disabled.lstrip().startswith(sentence)
    assert "severity" not in disabled.partition("~ update")[0]
    assert "trail_key_disabled is critical in the pack, no longer high; the site's low holds" in text
    rules = {str(rule["name"]): rule for rule in kibana.rules.values()}
    assert rules["CloudTrail Key Disabled"]["severity"] == "low"
    assert "The level is the site's: low instead of high" in rules["CloudTrail Key Disabled"]["setup"]


def test_a_level_that_the_pack_has_moved_from_is_noted(site: Path, newer: Path) -> None:
    profile = load_site(site).profile
    assert profile is not None
    assert moved_levels(profile, load_rules([packaged("rules")]).rules) == []
    (note,) = moved_levels(profile, load_rules([newer]).rules)
    assert "is critical in the pack, no longer high" in note


def test_a_profile_of_levels_alone_needs_no_trails_and_narrows_nothing(tmp_path: Path) -> None:
    profile = tmp_path / "site.yml"
    profile.write_text("site: example\nowner: soc\nexpires: 2999-01-01\n" + LEVELS, "utf-8")
    changed = json.loads(keytrail("rules", "--site", tmp_path, "--json").stdout)
    before = json.loads(keytrail("rules", "--json").stdout)
    assert [(one["stem"], one["level"]) for one, was in zip(changed, before, strict=True) if one != was] == [
        ("trail_key_disabled", "low")
    ]
    asked = ("convert", "--schema", "keytrail", "--format", "json")
    assert (
        keytrail(*asked, "trail_key_disabled", "--site", tmp_path).stdout
        == keytrail(*asked, "trail_key_disabled").stdout
    )
    assert "needs a profile" in keytrail(*asked, "site_log_objects_deleted", "--site", tmp_path).output
    tested = keytrail("test", "trail_key_disabled", "site_log_objects_deleted", "--site", tmp_path)
    assert tested.exit_code == 0, tested.output
    profile.write_text(profile.read_text("utf-8") + "accounts: [{id: '111122223333'}]\n", "utf-8")
    with pytest.raises(ProfileError, match="accounts without trails narrow nothing"):
        load_site(tmp_path)
