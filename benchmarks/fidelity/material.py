"""What is compared: rules that a single event can answer, and events, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keytrail import reference
from keytrail.cases import load_events
from keytrail.data import packaged
from keytrail.errors import KeytrailError, RecordError, RuleError
from keytrail.pack import Rule, load_rules, needs_profile
from keytrail.records import Reader

Record = Mapping[str, Any]
KINDS = Path(__file__).with_name("kinds")  # rules of the kinds on which queries go wrong


@dataclass
class Rules:
    """Rules by name, what each says of an event, which were left out and why, and what could not be read."""

    rules: dict[str, Rule] = field(default_factory=dict)
    meanings: dict[str, reference.Predicate] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    bad: list[KeytrailError] = field(default_factory=list)


@dataclass
class Events:
    """Events by name, and what could not be read."""

    records: dict[str, Record] = field(default_factory=dict)
    bad: Sequence[KeytrailError] = ()


def read_rules(paths: Iterable[Path]) -> Rules:
    """Return the rules in files and folders. Raises :class:`RuleError` where none of them can be compared."""
    paths = list(paths)
    pack = load_rules(paths)
    found = Rules(bad=pack.errors)
    for rule in pack.rules:
        name = _name(rule, found)
        why = _left_out(rule)
        if why is None:
            try:
                found.meanings[name] = reference.compile_rule(rule.document)
            except RuleError as error:
                why = f"the reference does not know what it means: {error.message}"
        if why is None:
            found.rules[name] = rule
        else:
            found.left_out[name] = why
    if not found.rules:
        shown = ", ".join(map(str, paths))
        reasons = "; ".join(dict.fromkeys([*found.left_out.values(), *(error.message for error in found.bad)]))
        raise RuleError(f"no rule in {shown} can be compared: {reasons}", hint="name rules for CloudTrail events")
    return found


def _name(rule: Rule, found: Rules) -> str:
    taken = rule.stem in found.rules or rule.stem in found.left_out
    return f"{rule.stem} ({rule.path}:{rule.line})" if taken else rule.stem


def _left_out(rule: Rule) -> str | None:
    source = rule.document.get("logsource")
    source = source if isinstance(source, Mapping) else {}
    if rule.kind == "correlation":
        return "a correlation, which is about several events"
    if source.get("product", "aws") != "aws" or source.get("service", "cloudtrail") != "cloudtrail":
        return "not for the product aws and the service cloudtrail"
    return "means nothing without a site profile" if needs_profile(rule) else None


def read_events(paths: Iterable[str]) -> Events:
    """Return the events in files and folders. Raises :class:`RecordError` where there is none."""
    paths = list(paths)
    reader = Reader(paths)
    records: dict[str, Record] = {}
    for record in reader:
        records[f"{record.path}:{record.number}"] = record.record
    if not records:
        raise reader.bad[0] if reader.bad else RecordError(f"no CloudTrail event in {', '.join(paths)}")
    return Events(records, reader.bad)


def own_events() -> Events:
    """Return the events that the project ships: the fixtures, and the sample of log files."""
    fixtures = packaged("fixtures")
    sample = read_events([str(fixtures / "sample")])
    return Events({**load_events(fixtures / "events"), **sample.records}, sample.bad)
