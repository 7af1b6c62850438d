"""What the commands share of filters and site profiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keytrail.commands._common import complain, packs
from keytrail.data import packaged
from keytrail.errors import FilterError, KeytrailError, NeedsProfile
from keytrail.pack import Pack, Rule

# What narrows is imported where it is needed: most commands are called without, and it takes them a tenth of a second.
if TYPE_CHECKING:
    from keytrail.filters import Filter, Filters
    from keytrail.profile import Profile
    from keytrail.site import Site

FILTERS = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER|FILE|DIR",
    help="Sigma filters to apply: one of the pack's by its name, or files and folders.",
)
SITE = click.option(
    "--site",
    type=click.Path(path_type=Path),
    help="A site's profile, or the folder with its site.yml, rules, filters and cases.",
)


@dataclass
class Narrowing:
    """What narrows the rules: filters by name, and a site's profile with the filters that it becomes."""

    filters: list[Filter] = field(default_factory=list)
    profile: Profile | None = None
    made: list[Filter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def expired(self) -> list[KeytrailError]:
        """What is not applied because its last day has gone by."""
        from keytrail.filters import expired
        from keytrail.levels import expired_levels

        levels = [] if self.profile is None else expired_levels(self.profile)
        return [*expired([*self.filters, *self.made]), *levels]

    def complain(self, *, notes: bool = True) -> None:
        """Name what has expired, and where ``notes`` are wanted, what narrows nothing."""
        for error in self.expired if self.filters or self.profile else ():
            complain(error)
        for note in self.notes if notes else ():
            click.echo(f"note: {note}", err=True)

    def take_profile(self, profile: Profile, pack: Pack, known: Sequence[Rule]) -> None:
        """Take a site's profile and make its filters for all rules there are, so that all that has expired is found."""
        from keytrail.levels import moved_levels, wrong_levels
        from keytrail.site_filters import site_filters

        self.profile = profile
        self.made = site_filters(profile, known)
        pack.errors += wrong_levels(profile, known)
        self.notes += moved_levels(profile, known)


def narrow_pack(
    pack: Pack,
    names: Sequence[str],
    site: Site,
    folder: Path | None = None,
    spared: Callable[[Sequence[Filter]], Callable[[Filter], bool]] | None = None,
    *,
    to_site: bool = True,
) -> Narrowing:
    """Narrow the rules of ``pack`` by the filters called ``names`` and those of a site, and by the site's profile.

    Parameters: ``spared`` is given the filters and returns which of them are not applied here but in another way;
    where ``to_site`` is false the profile is read alone, and the rules are not narrowed by it.

    What is wrong with a filter or a level is added to the pack's errors, and such a filter is not applied. Raises
    :class:`FilterError` for a name that is none.
    """
    found = Narrowing()
    wanted = [*names, *([] if site.filters is None else [str(site.filters)])]
    whole = packs([], folder, site.rules).rules if wanted or site.profile is not None else []
    if wanted:
        from keytrail.filters import check_targets, narrowed

        read = _named(wanted)
        known = [*pack.rules, *whole]
        wrong = check_targets(read.filters, known)
        pack.errors += [*read.errors, *wrong]
        bad = {error.path for error in wrong}
        found.filters = [one for one in read.filters if str(one.rule.path) not in bad]
        idle = [one.stem for one in found.filters if not any(map(one.applies_to, pack.rules))]
        found.notes += [f"the filter {stem} is for none of these rules" for stem in idle]
        skip = spared(found.filters) if spared else lambda one: False
        pack.rules[:] = narrowed(pack.rules, [one for one in found.filters if not skip(one)])
        found.notes += _swallowed(pack.rules)
    elif folder is not None and pack.filters:
        count = len(pack.filters)
        found.notes.append(f"{count} filters among the rules are not applied; turn them on with --filter")
    if site.profile is not None:
        found.take_profile(site.profile, pack, [*pack.rules, *whole])
        if to_site:
            from keytrail.levels import levelled
            from keytrail.site_filters import apply_profile

            pack.rules[:] = levelled(apply_profile(pack.rules, site.profile), site.profile)
    return found


def _swallowed(rules: Sequence[Rule]) -> list[str]:
    """What to say of rules whose filters take out all that they were made to match, as far as the pack has cases."""
    from keytrail import reference
    from keytrail.cases import load_events, load_matching

    fixtures, found = packaged("fixtures"), []
    narrowed = [rule for rule in rules if rule.applied and rule.kind == "rule"]
    stems = {rule.stem for rule in narrowed}
    matching = load_matching(fixtures / "cases", stems, load_events(fixtures / "events")) if narrowed else {}
    for rule in narrowed:
        cases = matching.get(rule.stem, [])
        if cases and not any(reference.matches(rule.document, case.record) for case in cases):
            who = f"the filter{'s' if len(rule.filters) > 1 else ''} {' and '.join(rule.filters)}"
            found.append(f"nothing may be left of {rule.stem}: {who} takes out each of its {len(cases)} matching cases")
    return found


def filters_among(pack: Pack, folder: Path | None) -> list[KeytrailError]:
    """Return what is wrong with the filters that lie among the rules, whether they are turned on or not.

    To the pack's rules belong its own. Those are the site's to judge once it turns them on: they do not expire here.
    """
    from keytrail.filters import check_targets, expired, load_filters, read_filter

    own = load_filters([packaged("exclusions")]) if folder is None else None
    found: list[KeytrailError] = [] if own is None else own.errors
    read: list[Filter] = [] if own is None else own.filters
    for document in pack.filters:
        try:
            read.append(read_filter(document))
        except FilterError as error:
            found.append(error)
    found += check_targets(read, [*pack.rules, *packs([], folder).rules])
    return found + ([] if folder is None else list(expired(read)))


def _named(names: Sequence[str]) -> Filters:
    from keytrail.filters import Filters, load_filters

    found = Filters()
    home = packaged("exclusions")
    for name in names:
        path = Path(name)
        if not (path.suffix in (".yml", ".yaml") or path.is_dir()):
            path = home / f"{name}.yml"
            if not path.is_file():
                known = ", ".join(sorted(one.stem for one in home.glob("*.yml")))
                raise FilterError(f"there is no filter {name!r}", hint=f"a file, a folder, or one of: {known}")
        read = load_filters([path])
        found.errors += read.errors
        for one in read.filters:
            if one.template:
                hint = "name the site's with --site FILE instead"
                found.errors.append(NeedsProfile(f"the filter {one.stem} needs a profile", path=path, hint=hint))
            else:
                found.filters.append(one)
    return found
