"""docs/rules.md: every rule with what an analyst, an engineer and an auditor ask of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import yaml
from keytrail.convert import Conversion, convert
from keytrail.data import packaged
from keytrail.pack import LEVELS, Rule, load_rules
from keytrail.schemas import SCHEMAS

from benchmarks.quiet_month import FIGURES

INTRO = """\
# The rules

Every rule of the pack: what it is about, its logic, what it needs in the logs, who does the same for a good reason,
what to do when it fires, how often it fires where nothing happens, and what its query means in each schema (see
[semantics.md](semantics.md)). The alerts a day are those of a month that `python -m benchmarks.quiet_month` makes: an
account with a trail of its own and its organization's, known readers, AWS Config, and administrators at work.
"""


def rules_page() -> str:
    """Return the text of the page."""
    rules = sorted(load_rules([packaged("rules")]).rules, key=_order)
    parts = [INTRO, _summary(rules)]
    quiet = json.loads(FIGURES.read_text(encoding="utf-8"))
    for folder, group in groupby(rules, key=lambda rule: rule.path.parent.name):
        parts.append(f"## {folder}\n")
        parts.extend(_rule(rule, quiet[rule.stem]) for rule in group)
    return "\n".join(parts)


def _order(rule: Rule) -> tuple[str, int, str]:
    return rule.path.parent.name, -LEVELS.index(rule.level), rule.stem


def _summary(rules: Sequence[Rule]) -> str:
    counts = {level: sum(rule.level == level for rule in rules) for level in reversed(LEVELS)}
    return f"{len(rules)} rules: " + ", ".join(f"{count} {level}" for level, count in counts.items() if count) + ".\n"


def _rule(rule: Rule, alerts: Sequence[float]) -> str:
    own: Mapping[str, Any] = rule.document.get("keytrail", {})
    lines = [f"### {rule.stem}\n", f"**{rule.title}** ({rule.level}). {str(rule.document['description']).strip()}\n"]
    lines.append(_facts(rule, own))
    logic = rule.document.get("detection") or rule.document.get("correlation") or rule.document.get("filter")
    lines.append(
        "```yaml\n" + yaml.safe_dump(logic, sort_keys=False, allow_unicode=True, width=110).rstrip() + "\n```\n"
    )
    lines.extend(_listed("When it fires", own.get("triage", ()), numbered=True))
    lines.extend(_listed("False positives", rule.document.get("falsepositives", ())))
    without, having = (f"{number:g}" for number in alerts)
    lines.append(f"Alerts a day where nothing happens: {without} without a site profile, {having} with one.\n")
    if "detection" in rule.document:
        lines.append("Verdicts: " + "; ".join(_verdict(convert(rule, schema)) for schema in SCHEMAS.values()) + ".\n")
    return "\n".join(lines)


def _facts(rule: Rule, own: Mapping[str, Any]) -> str:
    tags = ", ".join(f"`{tag}`" for tag in rule.document.get("tags", ())) or "none"
    needs = ", ".join(f"`{name}`" for name in own.get("telemetry", ()))
    links = ", ".join(f"[{number}]({link})" for number, link in enumerate(rule.document.get("references", ()), 1))
    return f"ATT&CK: {tags}. Telemetry: {needs}. References: {links}. Id: `{rule.id}`.\n"


def _listed(title: str, entries: Sequence[object], *, numbered: bool = False) -> Iterator[str]:
    if entries:
        marks = (f"{number}." if numbered else "-" for number in range(1, len(entries) + 1))
        yield f"{title}:\n\n" + "\n".join(f"{mark} {entry}" for mark, entry in zip(marks, entries, strict=True)) + "\n"


def _verdict(made: Conversion) -> str:
    if made.error is not None:
        return f"{made.schema.name} *{made.verdict}* ({made.error.message})"
    texts = dict.fromkeys(condition.text for condition in made.conditions)
    return f"{made.schema.name} *{made.verdict}*" + (f" {', and '.join(texts)}" if texts else "")
