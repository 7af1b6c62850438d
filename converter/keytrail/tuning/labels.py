"""What an analyst says of hits: a file of eventIDs with ``true`` or ``benign``, and the precision that follows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keytrail.errors import UsageError
from keytrail.yamlload import PlainLoader

TRUE, BENIGN = "true", "benign"
LARGEST = 64_000_000
_SHAPE = "a line for each hit: its eventID (or FILE:RECORD) and true or benign, as YAML (id: true) or as CSV (id,true)"
_Z = 1.959963984540054  # the 97.5th percentile of the normal distribution: 95 % in both directions


@dataclass
class Labels:
    """What each hit was found to be, by its eventID, or FILE:RECORD as ``hunt`` prints them. ``used`` were of a hit."""

    given: Mapping[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def of(self, record: Mapping[str, Any], path: str, number: int) -> tuple[str, str] | None:
        """Return the hit's key and its label; None where it has none."""
        for key in (record.get("eventID"), f"{path}:{number}"):
            if isinstance(key, str) and key in self.given:
                self.used.add(key)
                return key, self.given[key]
        return None

    @property
    def unused(self) -> int:
        """How many labels are of no hit of this rule."""
        return len(self.given) - len(self.used)


def load_labels(path: Path) -> Labels:
    """Read labels from a YAML or a CSV file.

    Raises :class:`UsageError` with the line of what is no label, and of an event that has two different ones.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"larger than {LARGEST:,} bytes: no file of labels", path=path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", path=path) from error
    rows = _yaml_rows(path, text) if path.suffix in (".yml", ".yaml") else _csv_rows(path, text)
    found: dict[str, str] = {}
    for line, key, label in rows:
        word = label.strip().lower()
        if word not in (TRUE, BENIGN) or not key:
            raise UsageError(f"{label!r} is no label", path=path, line=line, hint=_SHAPE)
        if found.setdefault(key, word) != word:
            raise UsageError(f"{key} is called both true and benign", path=path, line=line, hint="decide for one")
    if not found:
        raise UsageError("no label in this file", path=path, hint=_SHAPE)
    return Labels(found)


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    try:
        root = PlainLoader(text).get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise UsageError(f"not YAML: {getattr(error, 'problem', error)}", path=path, line=line, hint=_SHAPE) from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError("names with values are expected", path=path, line=1, hint=_SHAPE)
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise UsageError("a label is one word", path=path, line=key.start_mark.line + 1, hint=_SHAPE)
        yield key.start_mark.line + 1, key.value, value.value


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    reader = csv.reader(text.splitlines())
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or (reader.line_num == 1 and cells[:2] in (["eventID", "label"], ["event_id", "label"])):
                continue
            if len(cells) != 2:
                raise UsageError(f"{len(cells)} values in a line", path=path, line=reader.line_num, hint=_SHAPE)
            yield reader.line_num, cells[0], cells[1]
    except csv.Error as error:
        raise UsageError(f"not CSV: {error}", path=path, line=reader.line_num, hint=_SHAPE) from error


def precision(true: int, benign: int) -> dict[str, Any] | None:
    """Return the share of true hits among those labelled, with its Wilson interval at 95 %; None where none is."""
    count = true + benign
    if not count:
        return None
    share, square = true / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"precision": share, "low": low, "high": high, "interval": "Wilson, 95 %", "true": true, "benign": benign}
