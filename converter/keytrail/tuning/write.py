"""Accepted proposals as a file of Sigma filters, read again and tried before it takes its name."""

from __future__ import annotations

import tempfile
from pathlib import Path

from keytrail.errors import UsageError
from keytrail.files import write_text
from keytrail.filters import Filter, check_targets, load_filters
from keytrail.tuning.propose import Decision
from keytrail.tuning.tune import Tuning, Verdict
from keytrail.yamlcheck import plain_yaml


def write_filters(path: Path, found: Tuning, take: int, decision: Decision) -> list[Filter]:
    """Write the best ``take`` of the accepted proposals to ``path``, all or nothing, and return them as they read.

    Raises :class:`UsageError` where the file cannot be written, or the rule has no id that a filter could name.
    """
    rule = found.survey.rule
    if not rule.document.get("id"):
        raise UsageError("the rule has no id, by which a filter could name it", path=rule.path, hint="give it a UUID")
    chosen = found.accepted[:take]
    text = "---\n".join(plain_yaml(one.proposal.document(decision, _description(one, found))) for one in chosen)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        write_text(trial, text)
        read = load_filters([trial])
        wrong = [*read.errors, *check_targets(read.filters, [rule])]
        for error in wrong:
            raise error
    for one, made in zip(chosen, read.filters, strict=True):
        if not all(made.excludes(kind.record) for kind in one.kinds):
            raise UsageError("the filter as written does not take out what the proposal does", path=path)
    write_text(path, text)
    return read.filters


def _description(one: Verdict, found: Tuning) -> str:
    survey = found.survey
    span = survey.span
    when = f" from {span['from']} to {span['to']}" if span else ""
    return (
        f"Proposed by keytrail tune: takes out {one.removed} of the {survey.hits} hits of {survey.rule.stem} in "
        f"{survey.records} records{when}. {one.tried} hostile twins still fire. What would still be taken "
        f"out: {one.proposal.remains}."
    )
