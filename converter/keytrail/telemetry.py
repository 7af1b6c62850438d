"""What has to be in the logs for a rule to see anything: the vocabulary of ``keytrail.telemetry``, asked of logs.

The words are those of ``rules/README.md``. Each is a few kinds of events, as Sigma selections, so that an index of any
schema can be asked for them, or records that are read one by one; a rule one of whose kinds has no event is blind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from keytrail.convert import convert
from keytrail.errors import KeytrailError, Rejected, UnmappedField
from keytrail.pack import Rule
from keytrail.schemas import Schema

KMS, S3 = ({"eventSource": f"{service}.amazonaws.com"} for service in ("kms", "s3"))
Selection = Mapping[str, Any]
# Whether changes are recorded at all: one service may see none for weeks.
WRITE: dict[str, Sequence[Selection]] = {
    "management events that write": (
        {"readOnly": False, "managementEvent": True},
        {"readOnly": False, "eventCategory": "Management"},
    )
}


def _managed(selection: Selection) -> Sequence[Selection]:
    """Management events, and old ones that do not say: what a VPC endpoint logs is another choice of the trail."""
    return ({**selection, "eventCategory": "Management"}, {**selection, "eventCategory": None})


# Words, and what each needs: a kind of events, as selections any of which finds them.
NEEDS: dict[str, dict[str, Sequence[Selection]]] = {
    "kms-management": {"events of kms.amazonaws.com": _managed(KMS), **WRITE},
    "kms-read": {"read events of kms.amazonaws.com": _managed({**KMS, "readOnly": True})},
    "cloudtrail-management": WRITE,
    "s3-management": WRITE,
    "s3-data": {
        "data events of s3.amazonaws.com": ({**S3, "managementEvent": False}, {**S3, "eventCategory": "Data"}),
    },
}
Count = Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class Kind:
    """A kind of events, and how many an index has; None where it cannot be told, for the reason ``why``."""

    name: str
    events: int | None
    why: str | None = None


def words(rule: Rule) -> list[str]:
    """Return the telemetry that a rule says it needs."""
    return rule.own_texts("telemetry")


def survey(rules: Sequence[Rule], schema: Schema, count: Count) -> dict[str, tuple[Kind, ...]]:
    """Return, for each word that the rules use, how many events of each of its kinds there are.

    Parameters: ``count`` tells how many documents match a query; of one that raises :class:`Rejected` it is not known.
    """
    used = sorted({word for rule in rules for word in words(rule)})
    return {word: tuple(_kinds(word, schema, count)) for word in used}


def blind(rule: Rule, found: Mapping[str, Sequence[Kind]]) -> list[str]:
    """Return the kinds of events that the rule needs and the index lacks."""
    return [kind.name for word in words(rule) for kind in found.get(word, ()) if kind.events == 0]


# The members of a record that tell its kind.
ASKED = ("eventSource", "readOnly", "managementEvent", "eventCategory")
Shape = tuple[Union[str, None], ...]


@dataclass
class Tally:
    """The kinds of events among records that are read one by one."""

    shapes: Counter[Shape] = field(default_factory=Counter)

    def take(self, record: Mapping[str, Any]) -> None:
        """Count a record."""
        self.shapes[tuple([_word(record.get(name)) for name in ASKED])] += 1

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        self.shapes += other.shapes

    def blind(self, rules: Iterable[Rule]) -> dict[str, str]:
        """Return, by its id, what each rule needs and the records lack: nothing, where there is no record at all."""
        missing = {word: [name for name in NEEDS.get(word, ()) if self._lacks(NEEDS[word][name])] for word in NEEDS}
        found = {}
        for rule in rules if self.shapes else ():
            lacking = dict.fromkeys(name for word in words(rule) for name in missing.get(word, ()))
            if lacking:
                found[rule.id] = f"there are no {' and no '.join(lacking)} among the events"
        return found

    def _lacks(self, selections: Sequence[Selection]) -> bool:
        """No record is of the kind, or could be: an old one does not say whether it is about a change."""
        wanted = [{ASKED.index(name): _word(value) for name, value in one.items()} for one in selections]
        return not any(
            all(shape[place] in (value, None) for place, value in one.items())
            for one in wanted
            for shape in self.shapes
        )


def blind_on(records: Iterable[Mapping[str, Any]], rules: Iterable[Rule]) -> dict[str, str]:
    """Return, by its id, what each rule needs and ``records`` lack."""
    tally = Tally()
    for record in records:
        tally.take(record)
    return tally.blind(rules)


def blind_lines(rules: Sequence[Rule], blind: Mapping[str, str]) -> list[str]:
    """Return what is missing, a line each, with the rules that are blind without it."""
    stems: dict[str, list[str]] = {}
    for rule in rules:
        if rule.id in blind:
            stems.setdefault(blind[rule.id], []).append(rule.stem)
    return [f"blind, because {why}: {', '.join(names)}" for why, names in stems.items()]


def _word(value: object) -> str | None:
    return None if value is None else str(value).lower()


def _kinds(word: str, schema: Schema, count: Count) -> list[Kind]:
    if word not in NEEDS:
        return [Kind(word, None, f"what {word!r} needs is not known here")]
    return [_counted(name, selections, schema, count) for name, selections in NEEDS[word].items()]


def _never_had(error: KeytrailError, schema: Schema) -> bool:
    """Whether no event in the index has had the field: an index that makes no new fields can hold it all the same."""
    if not isinstance(error, UnmappedField):
        return False
    try:
        return error.field is None or schema.mapping.takes_new(schema.index_name(error.field)) == "true"
    except UnmappedField:
        return True


def _counted(name: str, selections: Sequence[Selection], schema: Schema, count: Count) -> Kind:
    """The most that any of the selections finds. A field that no event has had finds none."""
    events, why = 0, None
    for selection in selections:
        document = {
            "title": name,
            "logsource": {"product": "aws", "service": "cloudtrail"},
            "detection": {"selection": dict(selection), "condition": "selection"},
        }
        made = convert(Rule(Path("telemetry.yml"), document, ""), schema)
        try:
            if made.query is not None:
                events = max(events, count(made.query.body["query"]))
            elif made.error is not None and not _never_had(made.error, schema):
                why = made.error.message
        except Rejected as error:
            why = error.message
    return Kind(name, None if why is not None and not events else events, None if events else why)
