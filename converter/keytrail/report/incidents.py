"""The incidents of correlations as timelines: their events are looked up among the hits that came before them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from keytrail.correlation_hunt import CorrelationHit
from keytrail.errors import UsageError
from keytrail.pack import LEVELS, Rule
from keytrail.report.facts import Facts

MOST_INCIDENTS = 20  # of one correlation
FIRST, LAST = 40, 10  # events of one incident


@dataclass(frozen=True)
class Moment:
    """One event of an incident, and the titles of the rules that it is a hit of."""

    facts: Facts
    rules: tuple[Rule, ...]


@dataclass
class Incident:
    """A correlation's hit; ``left_out`` of its events are not in ``moments``, ``unseen`` of them for want of a hit."""

    hit: CorrelationHit
    moments: list[Moment] = field(default_factory=list)
    left_out: int = 0
    unseen: int = 0

    @property
    def group(self) -> list[tuple[str, str]]:
        """The fields and values by which its events belong together."""
        return list(zip(self.hit.rule.correlation.group_by, self.hit.episode.group, strict=True))


class Incidents:
    """Takes hits, notes those that may be events of an incident in a file, and finds them there in the end.

    Parameters: ``rules`` are all rules of the hunt. The first incidents of each correlation are kept.
    """

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._named = {base.id for rule in rules for base in rule.references.values()}
        self._file = tempfile.TemporaryFile("w+", encoding="ascii") if self._named else None  # noqa: SIM115
        self._kept: dict[str, list[Incident]] = {}

    def take(self, rule_id: str, said: Facts) -> None:
        """Note a hit of a rule that some correlation names."""
        if self._file is None or rule_id not in self._named or said.event_id is None:
            return
        try:
            self._file.write(json.dumps([rule_id, *said]) + "\n")
        except OSError as error:
            raise UsageError(f"no room for the report's temporary file: {error.strerror}") from error

    def take_incident(self, hit: CorrelationHit) -> None:
        """Take a correlation's hit."""
        kept = self._kept.setdefault(hit.rule.id, [])
        if len(kept) < MOST_INCIDENTS:
            kept.append(Incident(hit))

    def kept(self) -> list[Incident]:
        """Return the incidents that were kept, the most severe first, then by time. Their events are looked up once."""
        found = [one for kept in self._kept.values() for one in kept]
        found.sort(key=lambda one: (-LEVELS.index(one.hit.rule.level), one.hit.episode.start, one.hit.rule.stem))
        wanted: dict[str, dict[str, Moment]] = {}
        for one in found:
            for name in _shown(one):
                wanted.setdefault(name, {})
        for rule_id, said in self._noted():
            if said.event_id in wanted:
                _note(wanted[said.event_id], self._rules.get(rule_id), said)
        for one in found:
            self._fill(one, wanted)
        return found

    def _noted(self) -> Iterator[tuple[str, Facts]]:
        if self._file is None:
            return
        self._file.seek(0)
        for line in self._file:
            rule_id, *said = json.loads(line)
            yield rule_id, Facts(*said)
        self._file.close()

    def _fill(self, one: Incident, wanted: dict[str, dict[str, Moment]]) -> None:
        named = {base.id for base in one.hit.rule.references.values()}
        shown = _shown(one)
        one.left_out = one.hit.episode.events - len(shown)
        for name in shown:
            moments = list(wanted[name].values())
            rules = tuple(rule for moment in moments for rule in moment.rules if rule.id in named)
            if rules:
                one.moments.append(Moment(moments[0].facts, rules))
            else:
                one.unseen += 1


def _shown(one: Incident) -> tuple[str, ...]:
    ids = one.hit.episode.event_ids
    return ids if len(ids) <= FIRST + LAST else (*ids[:FIRST], *ids[-LAST:])


def _note(moments: dict[str, Moment], rule: Rule | None, said: Facts) -> None:
    if rule is not None and rule.id not in moments:
        moments[rule.id] = Moment(said, (rule,))
