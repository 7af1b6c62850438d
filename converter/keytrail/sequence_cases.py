"""The cases of correlations: sequences of events, and what they must be found to be."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import yaml

from keytrail.cases import CaseReader, case_files, has_sequences, opened
from keytrail.correlation import Group, Searched
from keytrail.errors import CaseError
from keytrail.times import iso, milliseconds

START = 1_773_136_721_000  # 2026-03-10T09:58:41Z: when a case begins; no edge of any bucket
_CASE = ("name", "events", "match")
_EVENT = ("event", "at")
_PATCHES = ("set", "add", "remove")
_PART = r"(\d+)(d|h|ms|m|s)"
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MOST_REPEATS = 10_000


@dataclass(frozen=True)
class SequenceCase:
    """Events among which a correlation must have hits, or must not.

    ``hits`` is how many, and ``groups`` in which groups, where the case says so. ``searched`` is the time that counts
    as searched, and the groups that count as known.
    """

    rule: str
    name: str
    match: bool
    hits: int | None
    groups: frozenset[Group] | None
    records: Sequence[Mapping[str, Any]]
    searched: Searched
    path: Path
    line: int


def load_sequences(folder: Path, events: Mapping[str, Mapping[str, Any]]) -> list[SequenceCase]:
    """The cases of correlations in a folder of YAML files and below it; a file's stem is the correlation's.

    Parameters: ``events`` as ``load_events`` gives them. Errors: CaseError, with file and line, for whatever is
    missing, unknown, misspelt or said twice.
    """
    found: list[SequenceCase] = []
    for path in case_files(folder):
        reader, root = opened(path, events, _SequenceReader)
        if has_sequences(root):
            assert isinstance(reader, _SequenceReader)
            found += reader.sequences(root)
    return found


def moved(case: SequenceCase, shift: int) -> SequenceCase:
    """Return the case some milliseconds later: many can lie in one index without meeting."""
    records = []
    for record in case.records:
        time = milliseconds(record.get("eventTime"))
        records.append(record if time is None else {**record, "eventTime": iso(time + shift)})
    when = case.searched
    searched = Searched(when.start + shift, when.end + shift, when.known)
    return replace(case, records=records, searched=searched)


class _SequenceReader(CaseReader):
    """Turns the YAML nodes of one file into sequences of events."""

    def sequences(self, root: yaml.Node) -> list[SequenceCase]:
        listed = self._fields(root, ("cases",), ("cases", "equivalent"), "a case file")["cases"]
        found = [self._sequence(node) for node in listed.value]
        first: dict[str, int] = {}
        for case in found:
            if case.name in first:
                message = f"a second case named {case.name!r}; the first is in line {first[case.name]}"
                raise CaseError(message, path=self._path, line=case.line, hint="say what sets it apart")
            first[case.name] = case.line
        return found

    def _sequence(self, node: yaml.Node) -> SequenceCase:
        fields = self._fields(node, _CASE, (*_CASE, "hits", "groups", "until", "known"), "a case of a correlation")
        name, match = self._value(fields["name"]), self._value(fields["match"])
        if not isinstance(name, str) or not name.strip():
            raise self._error(fields["name"], "the name must say what the case shows")
        if not isinstance(match, bool):
            raise self._error(fields["match"], "match must be true or false")
        hits = self._whole(fields, "hits", 0) if "hits" in fields else None
        if hits is not None and bool(hits) is not match:
            raise self._error(fields["hits"], "hits and match contradict each other")
        listed = fields["events"]
        if not isinstance(listed, yaml.SequenceNode):
            raise self._error(listed, "events must be a list")
        records = [record for number, part in enumerate(listed.value) for record in self._records(part, name, number)]
        known = self._groups(fields, "known") or frozenset()
        searched = Searched(START, self._end(fields, records), known)
        groups = self._groups(fields, "groups")
        return SequenceCase(
            self._path.stem, name, match, hits, groups, records, searched, self._path, node.start_mark.line + 1
        )

    def _end(self, fields: Mapping[str, yaml.Node], records: Sequence[Mapping[str, Any]]) -> int:
        """Up to when the logs count as searched: as the case says, else up to its last event."""
        if "until" in fields:
            return START + self._offset(fields["until"])
        times = (milliseconds(record.get("eventTime")) for record in records)
        return max((time for time in times if time is not None), default=START)

    def _groups(self, fields: Mapping[str, yaml.Node], key: str) -> frozenset[Group] | None:
        """Groups, each a list of the values of the fields in group-by, or the value where there is one field."""
        if key not in fields:
            return None
        value = self._value(fields[key])
        listed = [group if isinstance(group, list) else [group] for group in value] if isinstance(value, list) else []
        if not listed or not all(isinstance(part, str) for group in listed for part in group):
            raise self._error(fields[key], f"{key} is a list of groups, and a group the values of group-by")
        return frozenset(map(tuple, listed))

    # -- events -----------------------------------------------------------------------------------------------------

    def _records(self, node: yaml.Node, case: str, place: int) -> Iterator[dict[str, Any]]:
        """The records of one entry: an event, patched, at a time; again and again where it says so."""
        options = ("repeat", "every", "delivered")
        fields = self._fields(node, _EVENT, (*_EVENT, *_PATCHES, *options), "an event of a case")
        event = self._event(fields["event"])
        at = START + self._offset(fields["at"])
        repeat, delivered = self._whole(fields, "repeat", 1), self._whole(fields, "delivered", 1)
        if ("every" in fields) is not ("repeat" in fields):
            raise self._error(node, "repeat and every go together")
        every = self._offset(fields["every"]) if "every" in fields else 0
        for number in range(1, repeat + 1):
            record = copy.deepcopy(dict(self._events[event]))
            record["eventID"] = str(uuid5(NAMESPACE_URL, f"{self._path.stem}/{case}/{place}/{number}"))
            record["eventTime"] = iso(at + (number - 1) * every)
            self._patch(record, {key: fields[key] for key in _PATCHES if key in fields})
            yield from [_numbered(record, number)] * delivered

    def _whole(self, fields: Mapping[str, yaml.Node], key: str, least: int) -> int:
        value = self._value(fields[key]) if key in fields else least
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_REPEATS:
            raise self._error(fields[key], f"{key} must be a whole number from {least} to {MOST_REPEATS:,}")
        return value

    def _offset(self, node: yaml.Node) -> int:
        """A time after the case's beginning, like +1h30m."""
        value = self._value(node)
        if not isinstance(value, str) or not re.fullmatch(rf"\+?({_PART})+", value, re.ASCII):
            raise self._error(node, f"{value!r} is no time after the beginning", "write +0s, +5m, +1h30m")
        return sum(int(count) * _MILLISECONDS[unit] for count, unit in re.findall(_PART, value))


def _numbered(node: Any, number: int) -> Any:
    """The record with ``{n}`` in its texts replaced by the number of the repetition."""
    if isinstance(node, dict):
        return {key: _numbered(value, number) for key, value in node.items()}
    if isinstance(node, list):
        return [_numbered(value, number) for value in node]
    return node.replace("{n}", str(number)) if isinstance(node, str) else node
