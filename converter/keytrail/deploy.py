"""One plan for everything that a site runs Keytrail with: parts of an index, exception lists, rules; and its apply."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from keytrail import index_parts
from keytrail.kibana import lists
from keytrail.kibana.apply import Writer
from keytrail.kibana.client import Kibana
from keytrail.kibana.plan import CARRIER, RULE, Choices, Wanted, plan_rules
from keytrail.schemas import Schema
from keytrail.steps import Outcome, Plan, Step, carry_out

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

Take = Callable[[Step], list[str]]


@dataclass
class Deployment:
    """What is planned, and for each kind of step the function that takes it."""

    where: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    _takers: dict[str, Take] = field(default_factory=dict, init=False, repr=False)

    @property
    def plan(self) -> Plan:
        """The plan for all of it."""
        return Plan(self.where, self.steps, self.refused, self.problems, self.notes)

    def add_index(self, cluster: Cluster, schema: Schema, drift: str | None = None) -> None:
        """Plan the parts of an index. Errors: those of :func:`keytrail.index_parts.plan_parts`."""
        self.where |= {"elasticsearch": cluster.url}
        self.steps += index_parts.plan_parts(cluster, schema, drift)
        for kind in index_parts.PATHS:
            self._takers[kind] = lambda step: index_parts.take(cluster, step)

    def add_rules(
        self,
        kibana: Kibana,
        wanted: Wanted,
        choices: Choices,
        excepted: Mapping[str, Sequence[lists.Excepted]] | None = None,
    ) -> None:
        """Plan the rules of a space.

        Parameters: ``excepted`` leads from a rule's id to the filters that become exception lists of it; None leaves
        lists alone. Errors: those of :class:`Kibana`.
        """
        kibana.look_up()
        self.where |= {"kibana": kibana.url, "space": kibana.space}
        links = None
        after: list[Step] = []
        if excepted is not None:
            each = {one.filter.stem: one for found in excepted.values() for one in found}
            before, after = lists.plan_lists(kibana, list(each.values()), wanted.tag, choices.drift, wanted.whole)
            self.steps += before
            links = {
                rule_id: [str(lists.bodies(one, wanted.tag)[0]["list_id"]) for one in found]
                for rule_id, found in excepted.items()
            }
            self._takers |= dict.fromkeys((lists.LIST, lists.ITEM), lambda step: lists.take(kibana, step))
        wanted = replace(wanted, links=links)
        planned = plan_rules(kibana, wanted, choices)
        self.steps += [*planned.steps, *after]
        self.problems += planned.problems
        self.notes += planned.notes
        writer = Writer(kibana, wanted.tag, links, lambda list_id: lists.link(kibana, list_id))
        self._takers |= dict.fromkeys((RULE, CARRIER), writer.take)

    def apply(self, report: Callable[[Step], None] = lambda step: None, stop: threading.Event | None = None) -> Outcome:
        """Take the steps that write something, in their order, until one fails. Nothing where there are problems.

        Parameters: those of :func:`keytrail.steps.carry_out`.
        """
        if self.problems:
            return Outcome(left=self.plan.writes, stopped="; ".join(self.problems))
        return carry_out(self.plan.writes, self._take, report, stop)

    def _take(self, step: Step) -> list[str]:
        return self._takers[step.kind](step)
