"""Why an event matches a rule, or does not: the rule's own lines, each with what the event holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keytrail import reference
from keytrail.errors import RuleError
from keytrail.pack import Rule
from keytrail.paths import exists, values


@dataclass(frozen=True)
class Line:
    """One line of a rule's selection: what is asked, whether it holds, and the event's values (none: absent)."""

    selection: str
    alternative: int
    asked: str
    wanted: Any
    holds: bool
    found: tuple[Any, ...]
    present: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON has it."""
        shape = {"selection": self.selection, "alternative": self.alternative, "asked": self.asked}
        return {**shape, "wanted": self.wanted, "holds": self.holds, "found": list(self.found), "present": self.present}


@dataclass(frozen=True)
class Explanation:
    """Whether the event matches, the condition, what each named selection gave, and each of their lines."""

    rule: Rule
    matches: bool
    conditions: tuple[str, ...]
    selections: Mapping[str, bool]
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON has it."""
        return {
            "rule_id": self.rule.id,
            "rule": self.rule.stem,
            "matches": self.matches,
            "condition": list(self.conditions),
            "selections": dict(self.selections),
            "lines": [line.as_dict() for line in self.lines],
        }


def explain(rule: Rule, record: Mapping[str, Any]) -> Explanation:
    """Explain ``rule`` on ``record``. Raises RuleError where it cannot be evaluated, or is about several events."""
    if rule.kind == "correlation":
        hint = f"explain a rule that it names: {', '.join(base.stem for base in rule.references.values())}"
        raise RuleError("a correlation is about several events", path=rule.path, line=rule.line, hint=hint)
    detection = dict(rule.document["detection"])
    condition = detection.pop("condition")
    selections = {str(name): reference.selection(part)(record) for name, part in detection.items()}
    lines = [line for name, part in detection.items() for line in _lines(str(name), part, record)]
    conditions = tuple(map(str, condition if isinstance(condition, list) else [condition]))
    return Explanation(rule, reference.matches(rule.document, record), conditions, selections, tuple(lines))


def _lines(name: str, definition: Any, record: Mapping[str, Any], alternative: int = 1) -> list[Line]:
    if isinstance(definition, list):
        parts = enumerate(definition, start=1)
        return [line for number, part in parts for line in _lines(name, part, record, number)]
    found = []
    for key, wanted in definition.items():
        field = str(key).split("|")[0]
        held = reference.item(str(key), wanted)(record)
        present = exists(record, field)
        found.append(Line(name, alternative, str(key), wanted, held, tuple(values(record, field)), present))
    return found
