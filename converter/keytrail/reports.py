"""Reports of the proof that other programs read: JUnit XML, SARIF 2.1.0 and GitHub's annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from keytrail import __version__
from keytrail.cases import Case
from keytrail.errors import KeytrailError
from keytrail.mutate import Mutation
from keytrail.pack import Rule
from keytrail.proof import Failure, Report
from keytrail.sequence_cases import SequenceCase

_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
# What the checks are called in SARIF, and what each means.
CHECKS: Mapping[str, str] = {
    "case": "A case claims something of its rule that the rule does not say, or a rule lacks cases",
    "divergence": "An engine finds something else than the rule says",
    "rule": "A rule does not fit a schema",
    "filter": "A filter has expired, or would not do what it is meant to",
    "mutant": "No case tells a rule from itself with one thing changed",
    "equivalent": "A mutant that is declared equivalent is not, or is none",
    "input": "An input cannot be read or used",
    "nothing": "There was nothing to test",
}


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold. ``check`` is a name in CHECKS."""

    check: str
    subject: str
    message: str
    path: str | None = None
    line: int | None = None


@dataclass
class Outcome:
    """All that a run of the tests found: what the reports are made of."""

    rules: Sequence[Rule]
    cases: Sequence[Case | SequenceCase]
    report: Report
    errors: Sequence[KeytrailError] = ()
    mutation: Mutation | None = None
    findings: list[Finding] = field(init=False)

    def __post_init__(self) -> None:
        self.findings = [*map(_of_failure, self.report.failures), *map(_of_error, self.errors)]
        if self.mutation is not None:
            self.findings += _of_mutation(self.mutation)
        if not self.findings and not (self.report.ok and (self.mutation is None or self.mutation.ok)):
            self.findings.append(Finding("nothing", "keytrail", "there was nothing to test"))

    @property
    def ok(self) -> bool:
        """Nothing failed, and there was something to test."""
        return not self.findings


def _of_failure(failure: Failure) -> Finding:
    kinds = {"case and rule": "case", "filter": "filter"}
    check = kinds.get(failure.pair, "rule" if failure.pair.startswith("rule and schema") else "divergence")
    message = failure.what if check in ("case", "filter") else f"{failure.pair} disagree: {failure.what}"
    return Finding(check, failure.rule or "keytrail", message, failure.path, failure.line)


def _of_error(error: KeytrailError) -> Finding:
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return Finding("input", Path(error.path or "keytrail").stem, message, error.path, error.line)


def _of_mutation(found: Mutation) -> Iterator[Finding]:
    for one in found.survivors:
        shape = one.as_dict()
        yield Finding("mutant", one.rule.stem, one.text, shape["path"], shape["line"])
    for stale in found.stale:
        message = f"'{stale.mutant}' is declared equivalent, but {stale.why}"
        yield Finding("equivalent", stale.rule, message, stale.path, stale.line)


# -- JUnit --------------------------------------------------------------------------------------------------------


def junit(outcome: Outcome) -> str:
    """Return the outcome as JUnit XML: a suite for each rule, a test for each case and for each schema and engine."""
    left = list(outcome.findings)
    suites = []
    for stem in dict.fromkeys([rule.stem for rule in outcome.rules]):
        suites.append(_suite(stem, outcome, left))
    if left:
        root = ElementTree.Element("testsuite", name="keytrail")
        for number, finding in enumerate(left, start=1):
            _test(root, "keytrail", f"{CHECKS[finding.check]} ({number})", [finding])
        suites.append(_counted(root))
    whole = ElementTree.Element("testsuites", name="keytrail test")
    whole.extend(suites)
    for name in ("tests", "failures", "errors"):
        whole.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ElementTree.indent(whole)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(whole, encoding="unicode") + "\n"


def _suite(stem: str, outcome: Outcome, left: list[Finding]) -> ElementTree.Element:
    """The tests of one rule; what is reported here is taken from ``left``."""
    suite = ElementTree.Element("testsuite", name=_clean(stem))
    mine = [finding for finding in left if finding.subject.split("@")[0] == stem]
    for case in outcome.cases:
        if case.rule == stem:
            about = [one for one in mine if one.check == "case" and (one.path, one.line) == (str(case.path), case.line)]
            _test(suite, stem, case.name, _taken(about, mine, left))
            suite.set("file", _clean(_relative(str(case.path))))
    for schema, engine in sorted(outcome.report.checks):
        says = f"schema {schema}, "
        about = [
            one
            for one in mine
            if one.check == "divergence" and says in one.message and f"rule and {engine}" in one.message
        ]
        _test(suite, stem, f"{schema} on {engine}", _taken(about, mine, left))
    if outcome.mutation is not None and stem in outcome.mutation.counts:
        _test(
            suite, stem, "mutants", _taken([one for one in mine if one.check in ("mutant", "equivalent")], mine, left)
        )
    if mine:
        _test(suite, stem, "the rule", _taken(list(mine), mine, left))
    return _counted(suite)


def _taken(about: list[Finding], *lists: list[Finding]) -> list[Finding]:
    for found in lists:
        found[:] = [finding for finding in found if finding not in about]
    return about


def _test(
    suite: ElementTree.Element,
    stem: str,
    name: str,
    findings: Sequence[Finding],
) -> None:
    test = ElementTree.SubElement(suite, "testcase", classname=_clean(stem), name=_clean(name))
    if findings:
        kind = "error" if all(finding.check == "input" for finding in findings) else "failure"
        first = ElementTree.SubElement(test, kind, message=_clean(findings[0].message), type=findings[0].check)
        first.text = _clean("\n".join(f"{_place(finding)}{finding.message}" for finding in findings))


def _counted(suite: ElementTree.Element) -> ElementTree.Element:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, path in (("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(name, str(len(suite.findall(path))))
    return suite


def _place(finding: Finding) -> str:
    return f"{_relative(finding.path)}:{finding.line or 1}: " if finding.path else ""


def _clean(text: str) -> str:
    """Text without what XML 1.0 cannot hold, which a log or a rule could have smuggled in."""
    return "".join(c if _fits(ord(c)) else "\ufffd" for c in text)


def _fits(code: int) -> bool:
    return code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000


# -- SARIF --------------------------------------------------------------------------------------------------------


def sarif(outcome: Outcome) -> str:
    """Return the outcome as SARIF 2.1.0: a result for each thing that does not hold."""
    names = list(CHECKS)
    driver = {
        "name": "keytrail",
        "version": __version__,
        "rules": [{"id": name, "shortDescription": {"text": text}} for name, text in CHECKS.items()],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, names) for finding in outcome.findings],
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _result(finding: Finding, names: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.check,
        "ruleIndex": names.index(finding.check),
        "level": "error",
        "message": {"text": _scalar(f"{finding.subject}: {finding.message}")},
    }
    if finding.path:
        place = {"artifactLocation": {"uri": _uri(finding.path)}, "region": {"startLine": max(1, finding.line or 1)}}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _scalar(text: str) -> str:
    """Text without halves of surrogate pairs, which no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _uri(path: str) -> str:
    shown = _relative(path)
    absolute = Path(shown)
    return absolute.as_uri() if absolute.is_absolute() else quote(Path(shown).as_posix())


def _relative(path: str | None) -> str:
    """A path as it is from the current folder, where it lies in it."""
    if not path:
        return ""
    try:
        return Path(path).resolve().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return path


# -- GitHub -------------------------------------------------------------------------------------------------------


def in_github() -> bool:
    """Tell whether this runs in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def github(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the workflow command that shows each finding beside its line."""
    for finding in findings:
        properties = {"title": f"keytrail: {finding.subject}"}
        if finding.path:
            properties = {"file": _relative(finding.path), "line": str(finding.line or 1), **properties}
        listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
        yield f"::error {listed}::{_escaped(finding.message)}"


def _escaped(text: str, more: str = "") -> str:
    """Text with everything that could end the command or begin another."""
    parts = []
    for character in _scalar(text):
        if character in "%\r\n" or character in more:
            parts.append(f"%{ord(character):02X}")
        else:
            parts.append(character if character.isprintable() else "\ufffd")
    return "".join(parts)
