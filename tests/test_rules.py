"""The pack's rules: valid Sigma for the SigmaHQ validators, complete, and quiet on the documented events."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail import reference
from keytrail.cases import load_cases, load_events
from keytrail.data import packaged
from keytrail.kibana.attack import known
from keytrail.pack import Rule, load_rules, needs_profile
from sigma.cli.check import check
from sigma.collection import SigmaCollection
from sigma.data import mitre_attack, mitre_d3fend
from sigma.plugins import InstalledSigmaPlugins
from sigma.validation import SigmaValidator
from sigma.validators.sigmahq.data import data_filename, data_taxonomy, data_windows_eventid, data_windows_provider

PACK = load_rules([packaged("rules")])
SINGLE = [rule for rule in PACK.rules if "detection" in rule.document]
EVENTS = load_events(packaged("fixtures") / "events")
CASES = load_cases(packaged("fixtures") / "cases", EVENTS)
# Left out: D3FEND tags, which we do not use; the prefix that SigmaHQ gives its own file
# names; its list of custom attributes, where the Sigma specification leaves them to the author.
LEFT_OUT = ("fend", "filenameprefix", "filename_prefix", "unknown_field", "unknownfield")
# 086441151436 is an account number: it has a leading zero and must stay a string.
ACCEPTED = {"NumberAsStringIssue"}


CLOUDTRAIL = {
    "logsource": {"product": "aws", "category": None, "service": "cloudtrail", "definition": None},
    "field": {"native": [], "custom": [], "redundant": []},
}


def stix() -> dict[str, Any]:
    """The part of ATT&CK's data that the tag validator reads, made of what Keytrail knows of it.

    What it knows was compared on 2026-11-25: names, tactics and that none is revoked with MITRE's STIX of version 18.1;
    what 19 has renamed with elastic/detection-rules, attack-version-maps/attack_v18_to_v19.yaml (T1562 and T1562.008
    became T1685 and T1685.002, all others of ours keep their numbers and names). MITRE's STIX of version 19 itself was
    not at hand.
    """
    reference_to = "mitre-attack"
    techniques = [
        {
            "type": "attack-pattern",
            "name": name,
            "external_references": [{"source_name": reference_to, "external_id": name}],
            "kill_chain_phases": [{"kill_chain_name": reference_to, "phase_name": tactic} for tactic in one["tactics"]],
        }
        for name, one in known()["techniques"].items()
    ]
    tactics = [
        {
            "type": "x-mitre-tactic",
            "x_mitre_shortname": name,
            "external_references": [{"source_name": reference_to, "external_id": number}],
        }
        for name, (number, _) in known()["tactics"].items()
    ]
    return {"objects": [*techniques, *tactics]}


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[None]:
    """Give the validators their data from files."""
    sources: list[tuple[Any, dict[str, Any]]] = [
        (mitre_attack, stix()),
        (mitre_d3fend, {"@graph": []}),
        (data_filename, {"version": "0", "pattern": {}}),
        (data_taxonomy, {"version": "0", "taxonomy": {"aws_none_cloudtrail": CLOUDTRAIL}}),
        (data_windows_eventid, {"version": "0", "pattern": {}}),
        (data_windows_provider, {"version": "0", "pattern": {}}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # set_url drops a cache without closing it
        for number, (module, content) in enumerate(sources):
            path = tmp_path / f"{number}.json"
            path.write_text(json.dumps(content))
            module.set_cache_dir(str(tmp_path / f"cache{number}"))
            module.set_url(str(path))
        gc.collect()
    yield
    for module, _ in sources:
        module.set_cache_dir(str(tmp_path))  # which closes the cache that is open


def test_the_validators_find_nothing(offline: None) -> None:
    found: Mapping[str, Any] = InstalledSigmaPlugins.autodiscover(
        include_backends=False, include_pipelines=False
    ).validators
    validators = [made for name, made in found.items() if not any(part in name.lower() for part in LEFT_OUT)]
    assert len(validators) > 50
    validator = SigmaValidator(validators)
    rules: list[Any] = SigmaCollection.load_ruleset([str(rule.path) for rule in PACK.rules]).rules
    assert len(rules) == len(PACK.rules)
    issues = [issue for rule in rules for issue in validator.validate_rule(rule)] + list(validator.finalize())
    assert [str(issue) for issue in issues if type(issue).__name__ not in ACCEPTED] == []


@pytest.mark.parametrize("room", ["rules", "exclusions"])
def test_sigma_check_finds_nothing_but_what_we_leave_out_on_purpose(offline: None, room: str) -> None:
    # The two are SigmaHQ's own; without its plugin for sigma-cli they are not there.
    left_out = ("-x", "sigmahq_unknown_field", "-x", "sigmahq_correlation_filename_prefix")
    done = CliRunner().invoke(check, ["--fail-on-issues", *left_out, str(packaged(room))])
    assert done.exit_code == 0, done.output
    assert "Found 0 errors, 0 condition errors and 0 issues." in done.output


def test_every_rule_file_is_read() -> None:
    assert PACK.errors == []
    assert len(SINGLE) >= 14


@pytest.mark.parametrize("rule", SINGLE, ids=lambda rule: rule.stem)
def test_a_rule_says_what_an_analyst_needs(rule: Rule) -> None:
    document = rule.document
    assert document["description"]
    assert document["references"]
    assert document["falsepositives"]
    assert "unknown" not in [str(text).lower() for text in document["falsepositives"]]
    assert document["keytrail"]["telemetry"]
    assert len(document["keytrail"]["triage"]) >= 2


@pytest.mark.parametrize("rule", SINGLE, ids=lambda rule: rule.stem)
def test_a_rule_has_two_matching_cases_and_two_near_misses(rule: Rule) -> None:
    own = [case.match for case in CASES if case.rule == rule.stem]
    assert own.count(True) >= 2
    assert own.count(False) >= 2


def test_the_documented_events_fire_their_normal_rule_and_nothing_else() -> None:
    alone = [rule for rule in SINGLE if not needs_profile(rule)]
    fired = {
        name: sorted(rule.stem for rule in alone if reference.matches(rule.document, EVENTS[name]))
        for name in EVENTS
        if name.startswith("documented_")
    }
    assert fired == {
        "documented_configure_trail": ["trail_encryption_validated"],
        "documented_deliver_log_file": ["log_file_sealed"],
        "documented_read_log_file": ["encrypted_log_file_read"],
    }
