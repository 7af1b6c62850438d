"""``keytrail tune``: what a rule's hits are made of, and exclusions that no attacker can step into."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import click

from keytrail import render
from keytrail.cases import Case, load_cases, load_events
from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    FORMAT,
    Examples,
    complain,
    finish,
    named_errors,
    packs,
    print_json,
)
from keytrail.commands._narrowing import FILTERS, SITE, narrow_pack
from keytrail.data import packaged
from keytrail.errors import CaseError, RuleError, UsageError
from keytrail.filters import today
from keytrail.pack import Pack, Rule, needs_profile, refusal
from keytrail.progress import Course, watched
from keytrail.records import Reader
from keytrail.site import load_site
from keytrail.tuning.labels import Labels, load_labels
from keytrail.tuning.propose import Decision
from keytrail.tuning.survey import look
from keytrail.tuning.tune import Tuning, tune
from keytrail.tuning.view import as_dict, show
from keytrail.tuning.write import write_filters

VALID = timedelta(days=90)


@click.command(
    cls=Examples,
    examples=[
        "keytrail tune key_policy_or_grants_enumerated AWSLogs/",
        "keytrail tune log_read_denied AWSLogs/ --site site.yml --labels triage.csv --format json",
        "keytrail tune log_read_denied AWSLogs/ -o denied.yml --owner 'SOC' --reason 'ticket 4711'",
    ],
)
@click.argument("rule")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@FILTERS
@SITE
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="What hits were found to be: id,true or id,benign a line (CSV), or YAML.",
)
@click.option("--cases", type=click.Path(path_type=Path), help="The cases of a rule of your own.")
@click.option("--events", type=click.Path(path_type=Path), help="The events that cases patch; the pack's by default.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the best accepted proposal here, as a Sigma filter.",
)
@click.option(
    "--take", default=1, show_default=True, type=click.IntRange(1, 100), help="With -o: how many, the best first."
)
@click.option("--owner", help="With -o: who answers for the exclusion.")
@click.option("--reason", help="With -o: why what it takes out is no attack.")
@click.option("--expires", help="With -o: its last day; in 90 days by default.")
@click.option("--force", is_flag=True, help="With -o: write over what is there.")
@FORMAT
@named_errors
def command(
    rule: str,
    paths: tuple[str, ...],
    filters: tuple[str, ...],
    site: Path | None,
    labels: Path | None,
    cases: Path | None,
    events: Path | None,
    output: Path | None,
    take: int,
    owner: str | None,
    reason: str | None,
    expires: str | None,
    force: bool,
    style: str,
) -> None:
    """Show what RULE's hits in CloudTrail files are made of, and propose exclusions as Sigma filters.

    A proposal is refused when it would take out a hit labelled true, a case that the rule must find, or a hostile twin
    of any hit: the same event by somebody else, about something else, in another account. Exit code 1 when no proposal
    is accepted though there are hits, or when the rule could not have fired on these files at all.
    """
    decision = _decision(output, owner, reason, expires, force)
    own = load_site(site)
    whole = packs([], own=own.rules)
    named = [one for one in whole.rules if rule in (one.stem, one.id)]
    pack = Pack(named) if named else packs([rule])
    narrowing = narrow_pack(pack, filters, own)
    narrowing.complain()
    one = _only(pack, rule)
    reader = Reader(paths)
    given = load_labels(labels) if labels is not None else Labels()
    listed = _cases(one, cases, events)
    hits = 0

    def tell(records: int, now: int) -> None:
        nonlocal hits
        hits = now

    with watched(Course(reader), lambda: f"{hits:,} hits"):
        found = tune(look(one, reader, given, tell), listed, narrowing.profile, whole.rules)
    written = []
    if decision is not None and output is not None and found.accepted:
        written = write_filters(output, found, take, decision)
        if len(written) < take:
            click.echo(f"note: {len(written)} of the {take} filters asked for were accepted and written", err=True)
    _print(found, style, [str(output)] if written else [])
    finish(*_codes(found, pack, reader, decision))


def _only(pack: Pack, name: str) -> Rule:
    if not pack.rules:
        for error in pack.errors:
            raise error
    if len(pack.rules) != 1:
        raise UsageError(f"{name} is {len(pack.rules)} rules; one is tuned at a time", hint="name the rule's own file")
    one = pack.rules[0]
    if one.kind == "correlation":
        bases = [base.stem for base in one.references.values()]
        raise RuleError(
            "a correlation cannot be tuned: no Sigma filter narrows it, nor its groups",
            path=one.path,
            line=one.line,
            hint=f"tune the rules whose events it counts; it sees what they see: keytrail tune {bases[0]} PATH",
        )
    if needs_profile(one):
        raise refusal(one)
    return one


def _decision(
    output: Path | None, owner: str | None, reason: str | None, expires: str | None, force: bool
) -> Decision | None:
    """Who answers for what is written. There is no default: an exclusion is somebody's decision."""
    day = today() + VALID
    if expires is not None:
        try:
            day = date.fromisoformat(expires)
        except ValueError as error:
            raise UsageError(f"{expires!r} is no day", hint="write 2027-06-30") from error
        if day < today():
            raise UsageError(f"{expires} has gone by: the filter would never be applied")
    if output is None:
        return None
    if not (owner or "").strip() or not (reason or "").strip():
        raise UsageError("-o needs --owner and --reason", hint="somebody has to answer for an exclusion, and say why")
    if output.suffix not in (".yml", ".yaml"):
        raise UsageError(f"{output} would be no filter to --filter", hint="let its name end in .yml")
    if output.exists() and not force:
        raise UsageError(f"{output} is there already", hint="--force writes over it")
    return Decision(str(owner).strip(), str(reason).strip(), day)


def _cases(rule: Rule, folder: Path | None, events: Path | None) -> list[Case] | None:
    """The rule's cases: those in ``folder``, or those that come with a rule of the pack; None where there are none."""
    home = packaged("fixtures")
    if folder is None and packaged("rules") not in rule.path.parents:
        return None
    # The folders of the cases are those of the rules.
    known = load_cases(folder or home / "cases" / rule.path.parent.name, load_events(events or home / "events"))
    mine = [case for case in known if case.rule == rule.stem]
    if not mine:
        raise CaseError(f"no cases of {rule.stem} in this folder", path=folder, hint=f"they are in {rule.stem}.yml")
    return mine


def _print(found: Tuning, style: str, written: Sequence[str]) -> None:
    if style == "json":
        print_json({**as_dict(found), "written": list(written)})
        return
    out = render.console()
    show(found, out)
    for path in written:
        out.print(
            f"written: {render.safe(path)}; apply it with: keytrail hunt PATH --filter {render.safe(path)}",
            soft_wrap=True,
        )


def _codes(found: Tuning, pack: Pack, reader: Reader, decision: Decision | None) -> list[int]:
    codes = [FINE]
    for error in (*pack.errors, *reader.bad):
        complain(error)
    if not reader.records:
        complain("no CloudTrail record was read")
    if pack.errors or reader.bad_count or not reader.records:
        codes.append(BAD_INPUT)
    for problem in found.survey.problems:
        complain(f"{found.survey.rule.stem} could not have fired on these records: {problem}")
    if found.survey.problems or (found.survey.hits and not found.accepted):
        codes.append(DOES_NOT_HOLD)
    if decision is not None and not found.accepted:
        complain("nothing was written: no proposal was accepted")
        codes.append(DOES_NOT_HOLD)
    return codes
