"""The incidents of correlations as timelines: their events are looked up among the hits that came before them."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from keytrail.correlation_hunt import CorrelationHit
from keytrail.errors import UsageError
from keytrail.pack import LEVELS, Rule
from keytrail.report.facts import Facts

MOST_INCIDENTS = 20  # of one correlation
FIRST, LAST = 40, 10  # events of one incident


@dataclass
class Moment:
    """An event of an incident, and the rules that it is a hit of.

    It stands for ``times`` events in a row that differ in nothing but their time, the last of them at ``last``.
    ``after_gap`` says that events before it are left out.
    """

    facts: Facts
    rules: tuple[Rule, ...]
    times: int = 1
    last: int | None = None
    after_gap: bool = False

    def is_like(self, other: Moment) -> bool:
        """Tell whether the other differs in nothing but its time."""
        alike = all(getattr(self.facts, name) == getattr(other.facts, name) for name in _COMPARED)
        return alike and self.rules == other.rules and not other.after_gap


_COMPARED = ("event", "principal", "source", "key", "error")


@dataclass
class Incident:
    """A correlation's hit; ``also`` are those of others that are made of the same events.

    ``left_out`` of its events are not in ``moments``, ``unseen`` of them for want of a hit.
    """

    hit: CorrelationHit
    also: list[CorrelationHit] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    left_out: int = 0
    unseen: int = 0

    @property
    def hits(self) -> list[CorrelationHit]:
        """The hits that it stands for."""
        return [self.hit, *self.also]

    @property
    def group(self) -> list[tuple[str, str]]:
        """The fields and values by which its events belong together."""
        pairs = (zip(hit.rule.correlation.group_by, hit.episode.group, strict=True) for hit in self.hits)
        return list(dict.fromkeys(pair for one in pairs for pair in one))

    def add(self, moment: Moment) -> None:
        """Add the next event."""
        if self.moments and self.moments[-1].is_like(moment):
            self.moments[-1].times += 1
            self.moments[-1].last = moment.facts.moment
        else:
            self.moments.append(moment)


class Incidents:
    """Takes hits, notes those that may be events of an incident in a file, and finds them there in the end.

    Parameters: ``rules`` are all rules of the hunt. The first incidents of each correlation are kept.
    """

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._named = {base.id for rule in rules for base in rule.references.values()}
        self._file = tempfile.TemporaryFile("w+", encoding="ascii") if self._named else None  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)
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
        found = _together(found)
        wanted: dict[str, dict[str, tuple[Rule, Facts]]] = {name: {} for one in found for name in _shown(one)}
        for rule_id, said in self._noted():
            rule = self._rules.get(rule_id)
            if said.event_id in wanted and rule is not None:
                wanted[said.event_id].setdefault(rule_id, (rule, said))
        for one in found:
            _fill(one, wanted)
        return found

    def _noted(self) -> Iterator[tuple[str, Facts]]:
        if self._file is None:
            return
        self._file.seek(0)
        for line in self._file:
            rule_id, *said = json.loads(line)
            yield rule_id, Facts(*said)
        self._file.close()


def _together(found: Iterable[Incident]) -> list[Incident]:
    """Those of the same events and level as one: by principal and by role, say."""
    made: dict[object, Incident] = {}
    for one in found:
        ids = one.hit.episode.event_ids
        first = made.setdefault((one.hit.rule.level, ids) if ids else id(one), one)
        if first is not one:
            first.also.append(one.hit)
    return list(made.values())


def _shown(one: Incident) -> tuple[str, ...]:
    ids = one.hit.episode.event_ids
    return ids if len(ids) <= FIRST + LAST else (*ids[:FIRST], *ids[-LAST:])


def _fill(one: Incident, wanted: Mapping[str, Mapping[str, tuple[Rule, Facts]]]) -> None:
    named = {base.id for hit in one.hits for base in hit.rule.references.values()}
    shown = _shown(one)
    one.left_out = one.hit.episode.events - len(shown)
    for place, name in enumerate(shown):
        hits = [(rule, said) for rule, said in wanted[name].values() if rule.id in named]
        if hits:
            after_gap = one.left_out > 0 and place == FIRST
            one.add(Moment(hits[0][1], tuple(rule for rule, _ in hits), after_gap=after_gap))
        else:
            one.unseen += 1
