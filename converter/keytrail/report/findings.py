"""Takes the hits of a hunt one by one and keeps what a report says of them, in a memory that has a bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from keytrail.correlation_hunt import CorrelationHit
from keytrail.errors import KeytrailError
from keytrail.explain import Explainer
from keytrail.hunt import AnyHit, Hit
from keytrail.pack import Rule
from keytrail.report.counting import Times, Top
from keytrail.report.explained import Part, parts
from keytrail.report.facts import Facts, facts
from keytrail.report.incidents import Incidents
from keytrail.report.pulse import PulseTaker

# So many hits of a rule are kept in full: of one that only describes, a few.
KEPT, KEPT_INFORMATIONAL = 20, 3


@dataclass(frozen=True)
class Kept:
    """A hit that is shown in full; ``explained`` is None where it cannot be, for the reason ``why``."""

    facts: Facts
    alert_id: str
    explained: Part | None
    why: str = ""


@dataclass
class Findings:
    """What is kept of the hits: counts, tops, the first hits of each rule, the pulse of the trails, incidents.

    Parameters: ``rules`` are those of the hunt, ``trails`` the ARNs of the site's own where it has a profile. Whatever
    the number of hits, memory is bounded; what has to be sorted or looked up again waits in temporary files.
    """

    rules: list[Rule]
    trails: Sequence[str] = ()
    counts: Counter[str] = field(default_factory=Counter)
    first: int | None = None
    last: int | None = None
    timeless: int = 0
    times: Times = field(default_factory=Times)
    principals: Top = field(default_factory=Top)
    keys: Top = field(default_factory=Top)
    sources: Top = field(default_factory=Top)
    kept: dict[str, list[Kept]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pulse = PulseTaker(self.trails)
        self.incidents = Incidents(self.rules)
        self._explainers: dict[str, Explainer | str] = {}

    def take_all(self, hits: Iterable[AnyHit]) -> None:
        """Take every hit there is."""
        for hit in hits:
            self.take(hit)

    def take(self, hit: AnyHit) -> None:
        """Take one hit; those of correlations come after those of the rules that they name."""
        rule = hit.rule
        self.counts[rule.id] += 1
        if isinstance(hit, CorrelationHit):
            self._see(rule, hit.episode.start)
            self.incidents.take_incident(hit)
            return
        said = facts(hit)
        self._see(rule, said.moment)
        if rule.level != "informational":
            for top, value in ((self.principals, said.principal), (self.keys, said.key), (self.sources, said.source)):
                if value is not None:
                    top.add(value, rule.level)
        self.pulse.take(rule.id, hit.record, said)
        self.incidents.take(rule.id, said)
        kept = self.kept.setdefault(rule.id, [])
        if len(kept) < (KEPT_INFORMATIONAL if rule.level == "informational" else KEPT):
            kept.append(self._explained(hit, said))

    def _see(self, rule: Rule, moment: int | None) -> None:
        if moment is None:
            self.timeless += 1
            return
        self.times.add(rule.id, moment)
        if self.first is None or moment < self.first:
            self.first = moment
        if self.last is None or moment > self.last:
            self.last = moment

    def _explained(self, hit: Hit, said: Facts) -> Kept:
        shown = hit.as_dict()
        if shown["record"] is None:
            return Kept(said, shown["alert_id"], None, "the index gave back a part of the event only")
        explainer = self._explainers.get(hit.rule.id)
        if explainer is None:
            try:
                explainer = Explainer(hit.rule)
            except KeytrailError as error:
                explainer = error.message
            self._explainers[hit.rule.id] = explainer
        if isinstance(explainer, str):
            return Kept(said, shown["alert_id"], None, explainer)
        return Kept(said, shown["alert_id"], parts(explainer.explain(hit.record).tree))
