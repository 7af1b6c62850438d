"""A tuning as tables on a terminal, and as JSON has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from keytrail.render import safe, table
from keytrail.tuning.fields import BY_FIELD, CALL, SOURCE, TYPE
from keytrail.tuning.labels import BENIGN, TRUE, precision
from keytrail.tuning.survey import Survey
from keytrail.tuning.tune import Tuning, Verdict

MOST_ROWS = 5
MOST_LISTED = 50
MOST_PROPOSALS = 8
_BARS = "·▁▂▃▄▅▆▇█"
_SHADES = " .:-=+*#"
_WIDTH = 60


# -- JSON ---------------------------------------------------------------------------------------------------------


def as_dict(found: Tuning) -> dict[str, Any]:
    """Return a tuning as JSON has it. What was not measured is null, and ``not_measured`` says why."""
    survey = found.survey
    return {
        "rule_id": survey.rule.id,
        "rule": survey.rule.stem,
        "records": survey.records,
        "hits": survey.hits,
        "span": survey.span,
        "could_fire": not survey.problems,
        "problems": survey.problems,
        "by": {name: top.as_dict(MOST_LISTED) for name, top in survey.by.items()},
        "by_day": [{"day": day, "hits": count} for day, count in sorted(survey.days.items())],
        "by_hour": [survey.hours[hour] for hour in range(24)],
        "unkept": survey.unkept,
        "precision": _precision(survey),
        "unused_labels": survey.labels.unused,
        "proposals": [_verdict(one, found) for one in found.verdicts],
        "never": found.never,
        "narrows_too": found.narrows_too,
        "not_measured": not_measured(found),
    }


def _verdict(one: Verdict, found: Tuning) -> dict[str, Any]:
    survey = found.survey
    after = survey.hits - one.removed
    return {
        "accepted": one.accepted,
        "selection": one.proposal.selection,
        "principal": one.proposal.actor.name,
        "removes": one.removed,
        "before": survey.hits,
        "after": after,
        "per_day": _daily(survey, survey.hits, after),
        "strength": round(one.proposal.strength, 3),
        "score": round(one.score, 4),
        "remains": one.proposal.remains,
        "left_out": dict(one.proposal.left_out),
        "twins_tried": one.tried,
        "precision_after": _precision(survey, [one]),
        "refusals": [refusal.as_dict() for refusal in one.refusals],
    }


def _daily(survey: Survey, before: int, after: int) -> dict[str, float] | None:
    days = survey.days_long
    return None if days is None else {"before": round(before / days, 2), "after": round(after / days, 2)}


def _precision(survey: Survey, without: Sequence[Verdict] = ()) -> dict[str, Any] | None:
    labelled = survey.labelled
    for kind in {id(kind): kind for one in without for kind in one.kinds}.values():
        labelled -= kind.labels
    return precision(labelled[TRUE], labelled[BENIGN])


def not_measured(found: Tuning) -> dict[str, str]:
    """Return what there is no number for, and why."""
    survey, why = found.survey, {}
    if survey.days_long is None:
        why["alerts a day"] = "fewer than two records tell when they are"
    if not survey.labels.given:
        why["precision"] = "no labels were given: --labels FILE"
    elif not survey.labelled.total():
        why["precision"] = "none of the labels is of a hit of this rule"
    elif survey.labels.unused:
        why["every label"] = f"{survey.labels.unused:,} of {len(survey.labels.given):,} are of no hit of this rule"
    if found.cases is None:
        why["lost cases"] = f"there are no cases of {survey.rule.stem}: --cases DIR"
    if survey.untimed:
        why["time of every hit"] = f"{survey.untimed:,} hits do not tell when they were"
    if survey.unkept:
        why["every hit"] = f"{survey.unkept:,} hits were of too many kinds to be kept, and count as staying"
    return why


# -- tables -------------------------------------------------------------------------------------------------------


def show(found: Tuning, out: Console) -> None:
    """Print a tuning."""
    survey = found.survey
    out.print(f"[bold]{safe(survey.rule.title)}[/]: {survey.hits:,} hits in {survey.records:,} records{_span(survey)}")
    if survey.hits:
        _show_hits(survey, out)
        if survey.labelled.total():
            out.print(f"precision {_share(_precision(survey))}\n", soft_wrap=True)
        _show_proposals(found, out)
    for what, why in not_measured(found).items():
        out.print(f"not measured: {safe(what)}: {safe(why)}", soft_wrap=True)


def _span(survey: Survey) -> str:
    span = survey.span
    if span is None or span["days"] is None:
        return ""
    daily = survey.hits / span["days"]
    return f", {span['from']} to {span['to']}, {span['days']:.1f} days, {daily:.1f} hits a day"


def _show_hits(survey: Survey, out: Console) -> None:
    rows = []
    for name, top in survey.by.items():
        shape = top.as_dict(MOST_ROWS)
        for place, one in enumerate(shape["values"]):
            rows.append((name if not place else "", safe(one["value"]), f"{one['hits']:,}"))
        if shape["others"]:
            rows.append(("", "[dim]others[/]", f"{shape['others']:,}"))
    out.print(table("Hits by", ("", "value", "hits"), rows))
    bars = _SHADES if out.options.ascii_only else _BARS
    if survey.days:
        first, last = min(survey.days), max(survey.days)
        step = (last - first) // _WIDTH + 1
        counts = [sum(survey.days[day + n] for n in range(step)) for day in range(first, last + 1, step)]
        out.print(
            f"by day   {_sparkline(counts, bars)}   {step} day{'s' if step > 1 else ''} a sign, from the first hit on"
        )
        out.print(f"by hour  {_sparkline([survey.hours[hour] for hour in range(24)], bars)}   of the day, UTC\n")


def _sparkline(counts: Sequence[int], bars: str) -> str:
    most = max(counts)
    return "".join(bars[-(-count * (len(bars) - 1) // most)] for count in counts)


def _show_proposals(found: Tuning, out: Console) -> None:
    survey = found.survey
    accepted = found.accepted
    shown = [*accepted[:MOST_PROPOSALS], *(one for one in found.verdicts if not one.accepted)][:MOST_PROPOSALS]
    if not shown:
        out.print("no proposal: no principal that an exclusion can name comes again and again", soft_wrap=True)
    for number, one in enumerate(shown, start=1):
        state = "[green]accepted[/]" if one.accepted else "[red]refused[/]"
        left = survey.hits - one.removed
        out.print(
            f"[bold]{number}.[/] {state}  {survey.hits:,} -> {left:,} hits{_per_day(survey, left)}", soft_wrap=True
        )
        for text in _lines(one, found):
            out.print(f"     {text}", soft_wrap=True)
    hidden = len(accepted) + sum(not one.accepted for one in found.verdicts) - len(shown)
    if hidden:
        out.print(f"{hidden} more proposals are in --format json")
    if len(accepted) > 1:
        left = found.after(accepted)
        out.print(f"all {len(accepted)} accepted together: {survey.hits:,} -> {left:,} hits{_per_day(survey, left)}")
    if found.narrows_too:
        names = ", ".join(found.narrows_too)
        out.print(f"what is taken out is taken out of these correlations too: {safe(names)}", soft_wrap=True)
    if found.never:
        rows = [(one["field"], safe(one["value"]), f"{one['hits']:,}", safe(one["why"])) for one in found.never]
        out.print()
        out.print(table("Never proposed", ("by", "value", "hits", "why"), rows))


def _per_day(survey: Survey, left: int) -> str:
    daily = _daily(survey, survey.hits, left)
    return f", {daily['before']:.1f} -> {daily['after']:.1f} a day" if daily else ""


def _lines(one: Verdict, found: Tuning) -> Iterator[str]:
    """What a proposal takes out, what it rests on, and what speaks against it."""
    for name, values in one.proposal.lines.items():
        if name not in (SOURCE, TYPE):
            chooser = BY_FIELD[name].chooser if name in BY_FIELD and name != CALL else ""
            left = one.proposal.left_out.get(name, 0)
            extra = f"{'; ' if chooser else ''}left out, being no routine: {left}" if left else ""
            shown = ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")
            yield f"{safe(name)}: {safe(shown)}" + (f"   [dim]{safe(chooser + extra)}[/]" if chooser or extra else "")
    if one.accepted:
        yield f"would still be taken out: {safe(one.proposal.remains)}"
        cases = "" if found.cases is None else f", none of {found.cases} cases lost"
        yield f"{one.tried:,} hostile twins still fire{cases}"
    both = [_precision(found.survey), _precision(found.survey, [one])]
    if any(both):
        yield f"precision {_share(both[0])} -> {_share(both[1])}"
    for refusal in one.refusals:
        yield f"[red]{safe(refusal.text)}[/]"


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not measured (no labelled hit is left)"
    count = found["true"] + found["benign"]
    return (
        f"{found['precision']:.0%} ({found['interval']}: {found['low']:.0%} to {found['high']:.0%}, {count} labelled)"
    )
