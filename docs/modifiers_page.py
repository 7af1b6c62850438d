"""What each modifier becomes on each type of field, asked of the converter itself: docs/modifiers.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from keytrail.convert import Conversion, convert
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.targets import TARGETS
from sigma.exceptions import SigmaError
from sigma.modifiers import modifier_mapping
from sigma.rule import SigmaDetectionItem

INTRO = """\
# What each modifier becomes on each type of field

Every modifier that the installed pySigma knows, and the plain forms of a value, on every type of field, in every
target: what the converter says of a rule that has this one line and nothing else.

| sign | verdict |
| --- | --- |
| ✓ | exact |
| ✓ with names | exact if the [conditions](#the-conditions) of these names hold |
| ✗ with a number | refused, for the [reason](#the-reasons) of this number |

A field of a schema can add conditions of its own, for instance that the index has learnt it: see
[semantics.md](semantics.md#the-conditions-of-exact-if) for all of them. Under `not`, a condition whose breach adds
events is refused. A list of values has the verdicts of its values together.
"""
FIELDS: dict[str, str] = {
    "keyword": "f-1",
    "keyword, lower-case normalizer": "f-2",
    "keyword, ignore_above": "f-3",
    "text": "f-4",
    "text with keyword": "f-5",
    "key of flattened": "f-6.key",
    "key of flattened with Java map": "f-7.key",
    "long": "f-8",
    "double": "f-9",
    "boolean": "f-10",
    "ip": "f-11",
    "date": "f-12",
    "unmapped": "f-13",
}
SHORT = {"type": "keyword", "ignore_above": 256}
BODY = {
    "mappings": {
        "dynamic": False,
        "properties": {
            "f-1": {"type": "keyword"},
            "f-0": {"type": "keyword"},
            "f-2": {"type": "keyword", "normalizer": "lowercase"},
            "f-3": SHORT,
            "f-4": {"type": "text"},
            "f-5": {"type": "text", "fields": {"keyword": SHORT}},
            "f-6": {"type": "flattened"},
            "f-7": {"type": "flattened"},
            "f-7-map": {"type": "keyword", "ignore_above": 8191},
            "f-8": {"type": "long"},
            "f-9": {"type": "double"},
            "f-10": {"type": "boolean"},
            "f-11": {"type": "ip"},
            "f-12": {"type": "date"},
        },
    }
}
SCHEMA = Schema(
    name="of this table",
    title="every type",
    index="any",
    names={"f-13": "f-13"},
    prefixes={},
    body=BODY,
    document=dict,
    java_maps={"f-7": "f-7-map"},
)
# What is asked: the modifiers, and a value.
PLAIN: dict[str, tuple[str, Any]] = {
    "a value": ("", "ab"),
    "a number": ("", 7),
    "true": ("", True),
    "a list": ("", ["ab", "cd"]),
    "null": ("", None),
    "wildcard at the end": ("", "ab*"),
    "wildcard elsewhere": ("", "*a?b"),
    "letters that are not ASCII": ("", "é"),
}
# Where the first form that pySigma takes would not show what the modifier is for.
TELLING: dict[str, tuple[str, Any]] = {
    "expand": ("expand", "%name%"),
    "fieldref": ("fieldref", "f-0"),
    "windash": ("windash", "a -b"),
    "base64offset": ("base64offset|contains", "ab"),
    "m": ("re|m", "^ab"),
    "multiline": ("re|multiline", "^ab"),
}
VALUES: tuple[Any, ...] = ("ab", 7, True, "10.0.0.0/8", ["ab", "cd"])


def modifiers_page() -> str:
    """Return the page's text."""
    table = _Table()
    parts = [INTRO, *(table.of(target) for target in TARGETS)]
    return "\n".join([*parts, *table.legend()])


def forms() -> Iterator[tuple[str, str, Any]]:
    """Yield each row: its title, and modifiers and value of the line that stands for it."""
    for title, (modifiers, value) in PLAIN.items():
        yield title, modifiers, value
    for name in modifier_mapping:
        modifiers, value = TELLING.get(name) or _form(name)
        yield f"`{modifiers}`", modifiers, value
    for name in ("contains", "startswith", "endswith"):
        yield f"`fieldref|{name}`", f"fieldref|{name}", "f-0"


def _form(name: str) -> tuple[str, Any]:
    """The first way to write a modifier that pySigma takes; alone, or behind ``re``, whose flags some are."""
    tried = [(modifiers, value) for modifiers in (name, f"re|{name}") for value in VALUES]
    for modifiers, value in tried:
        try:
            SigmaDetectionItem.from_mapping(f"field|{modifiers}", value)
        except SigmaError:
            continue
        return modifiers, value
    return tried[0]


class _Table:
    """The tables, with the conditions and the numbered reasons that they use."""

    def __init__(self) -> None:
        self.conditions: dict[str, str] = {}
        self.reasons: dict[str, int] = {}

    def of(self, target: str) -> str:
        """Return the table of a target."""
        lines = [f"## {target}\n", f"| | {' | '.join(FIELDS)} |", "| --- " * (1 + len(FIELDS)) + "|"]
        for title, modifiers, value in forms():
            cells = [self._cell(_made(name, modifiers, value, target)) for name in FIELDS.values()]
            lines.append(f"| {title.replace('|', chr(92) + '|')} | {' | '.join(cells)} |")
        keyword = self._cell(_made("", "", "ab", target))
        return "\n".join([*lines, f"\nA value without a field: {keyword}\n"])

    def _cell(self, made: Conversion) -> str:
        if made.error is not None:
            return f"✗ {self.reasons.setdefault(_reason(made), len(self.reasons) + 1)}"
        for condition in made.conditions:
            self.conditions.setdefault(condition.kind, _nameless(condition.text))
        return " ".join(["✓", *dict.fromkeys(f"`{condition.kind}`" for condition in made.conditions)])

    def legend(self) -> Iterator[str]:
        """Yield what names and numbers stand for."""
        yield "## The conditions\n\n| condition | for instance |\n| --- | --- |"
        yield from (f"| `{kind}` | {text} |" for kind, text in sorted(self.conditions.items()))
        yield "\n## The reasons\n"
        yield from (f"{number}. {reason}" for reason, number in self.reasons.items())
        yield ""


def _made(name: str, modifiers: str, value: Any, target: str) -> Conversion:
    line: Any = {f"{name}|{modifiers}" if modifiers else name: value} if name else [value]
    document = {
        "title": "One line",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": line, "condition": "one"},
    }
    return convert(Rule(Path("one_line.yml"), document, yaml.safe_dump(document)), SCHEMA, target)


def _reason(made: Conversion) -> str:
    """Why, without the name of the field that it happened to be."""
    assert made.error is not None
    message = made.error.message.replace("\n", " ")
    return _nameless(re.sub(r"^f-\S+( \([^)]*\))?: ", "", message))


def _nameless(text: str) -> str:
    return re.sub(r"'?\bf-\d+[a-z.-]*'?", lambda name: "another field" if "f-0" in name[0] else "the field", text)
