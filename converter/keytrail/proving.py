"""The whole proof: the rules as they are, and narrowed to the sites that cases name or that the caller does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keytrail.cases import Case, Equivalent
from keytrail.correlation_proof import prove_correlations
from keytrail.errors import KeytrailError
from keytrail.filters import narrow
from keytrail.mutate import Subject, View
from keytrail.pack import Rule, needs_profile
from keytrail.profile import Profile, load_profile
from keytrail.proof import Engine, Failure, Report, prove
from keytrail.schemas import Schema
from keytrail.sequence_cases import SequenceCase
from keytrail.site_filters import apply_profile, site_filters

Events = Mapping[str, Mapping[str, Any]]


def prove_all(
    rules: Sequence[Rule],
    cases: Sequence[Case],
    events: Events,
    schemas: Sequence[Schema],
    engines: Sequence[Engine],
    sequences: Sequence[SequenceCase] = (),
    profile: Profile | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Prove ``rules`` as they are by the cases that name no site, and narrowed to each site by the cases that name it.

    Cases of a rule that needs a profile and that name none are about ``profile``. Every other rule is proven narrowed
    to ``profile`` as well, but without its cases, whose accounts and keys are another site's.
    """
    sites = _sites(rules, cases, profile)
    variants = {id(case): case.rule + _variant(site) for site, named in sites.items() for case in named}
    claims = [replace(case, rule=variants.get(id(case), case.rule)) for case in cases]
    plain = [rule for rule in rules if not needs_profile(rule)]
    report = prove(plain, claims, events, schemas, engines, progress) if plain else Report()
    if any(rule.kind == "correlation" for rule in plain):
        merge(report, prove_correlations(plain, sequences, schemas, engines, progress))
    proven: set[str] = set()
    for site, named in sites.items():
        stems = {case.rule for case in named}
        proven |= stems
        sited = apply_profile([rule for rule in rules if rule.stem in stems], site, _variant(site))
        merge(report, prove(sited, claims, events, schemas, engines, progress))
    if profile is not None:
        others = [rule for rule in plain if rule.stem not in proven]
        sited = apply_profile(others, profile, _variant(profile))
        merge(report, prove(sited, claims, events, schemas, engines, progress, claims=False))
    report.waiting = [rule.stem for rule in rules if needs_profile(rule) and rule.stem not in proven]
    return report


def _variant(site: Profile) -> str:
    return f"@{site.site}"


def _sites(rules: Sequence[Rule], cases: Iterable[Case], profile: Profile | None) -> dict[Profile, list[Case]]:
    """The cases that are about a narrowed rule, by the site."""
    waiting = {rule.stem for rule in rules if needs_profile(rule)}
    known = {rule.stem for rule in rules}
    read: dict[Path, Profile] = {}
    found: dict[Profile, list[Case]] = {}
    for case in cases:
        if case.rule not in known:
            continue
        if case.site is not None:
            site = read[case.site] = read.get(case.site) or load_profile(case.site)
        elif case.rule in waiting and profile is not None and profile.trails:
            site = profile
        else:
            continue
        found.setdefault(site, []).append(case)
    return found


def merge(report: Report, other: Report) -> None:
    """Add to a report what another one found."""
    report.conversions += other.conversions
    report.cases += other.cases
    report.checks += other.checks
    report.outside += other.outside
    for engine, stems in other.unproven.items():
        report.unproven.setdefault(engine, set()).update(stems)
    report.failures += [failure for failure in other.failures if failure not in report.failures]


def failures_of(errors: Iterable[KeytrailError], pair: str) -> list[Failure]:
    """Return errors as failures of the proof."""
    return [Failure(Path(error.path or "").stem, pair, error.message, error.path, error.line) for error in errors]


def subjects(
    rules: Sequence[Rule],
    cases: Sequence[Case],
    equivalent: Mapping[str, Sequence[Equivalent]],
    profile: Profile | None = None,
) -> list[Subject]:
    """Return the rules with their cases for mutation testing, those that are about a site with its filters."""
    sites = _sites(rules, cases, profile)
    filters = {site: site_filters(site, rules) for site in sites}
    found = []
    for rule in rules:
        views = []
        plain = [case for case in cases if case.rule == rule.stem and case.site is None]
        if plain and not needs_profile(rule):
            views.append(View([case.record for case in plain]))
        for site, named in sites.items():
            records = [case.record for case in named if case.rule == rule.stem]
            if records:
                views.append(View(records, _narrowing(rule, filters[site])))
        if views:
            found.append(Subject(rule, views, equivalent.get(rule.stem, ())))
    return found


def _narrowing(rule: Rule, filters: Sequence[Any]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    return lambda document: narrow(replace(rule, document=document), filters).document
