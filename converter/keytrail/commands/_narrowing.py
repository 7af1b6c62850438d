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
from keytrail.pack import Pack

# What narrows is imported where it is needed: most commands are called without, and it takes them a tenth of a second.
if TYPE_CHECKING:
    from keytrail.filters import Filter, Filters
    from keytrail.profile import Profile

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
    help="A site profile: the rules are narrowed to the site.",
)


@dataclass
class Narrowing:
    """What narrows the rules: filters by name, and a site's profile with the filters that it becomes."""

    filters: list[Filter] = field(default_factory=list)
    profile: Profile | None = None
    made: list[Filter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def expired(self) -> list[FilterError]:
        """What is not applied because its last day has gone by."""
        from keytrail.filters import expired

        return expired([*self.filters, *self.made])

    def complain(self, *, notes: bool = True) -> None:
        """Name what has expired, and where ``notes`` are wanted, what narrows nothing."""
        for error in self.expired if self.filters or self.made else ():
            complain(error)
        for note in self.notes if notes else ():
            click.echo(f"note: {note}", err=True)

    def read_profile(self, site: Path | None, pack: Pack, folder: Path | None) -> None:
        """Read a site's profile and make its filters for all rules there are, so that all that has expired is found."""
        if site is not None:
            from keytrail.profile import load_profile
            from keytrail.site_filters import site_filters

            self.profile = load_profile(site)
            self.made = site_filters(self.profile, [*pack.rules, *packs([], folder).rules])


def narrow_pack(
    pack: Pack,
    names: Sequence[str],
    site: Path | None,
    folder: Path | None = None,
    spared: Callable[[Sequence[Filter]], Callable[[Filter], bool]] | None = None,
) -> Narrowing:
    """Narrow the rules of ``pack`` by the filters called ``names`` and by a site's profile.

    Parameters: ``spared`` is given the filters and returns which of them are not applied here but in another way.

    What is wrong with a filter is added to the pack's errors, and the filter is not applied. Raises
    :class:`ProfileError` for a profile that cannot be used, and :class:`FilterError` for a name that is none.
    """
    found = Narrowing()
    if names:
        from keytrail.filters import check_targets, narrowed

        read = _named(names)
        known = [*pack.rules, *packs([], folder).rules]
        wrong = check_targets(read.filters, known)
        pack.errors += [*read.errors, *wrong]
        bad = {error.path for error in wrong}
        found.filters = [one for one in read.filters if str(one.rule.path) not in bad]
        idle = [one.stem for one in found.filters if not any(map(one.applies_to, pack.rules))]
        found.notes += [f"the filter {stem} is for none of these rules" for stem in idle]
        skip = spared(found.filters) if spared else lambda one: False
        pack.rules[:] = narrowed(pack.rules, [one for one in found.filters if not skip(one)])
    elif folder is not None and pack.filters:
        count = len(pack.filters)
        found.notes.append(f"{count} filters among the rules are not applied; turn them on with --filter")
    found.read_profile(site, pack, folder)
    if found.profile is not None:
        from keytrail.site_filters import apply_profile

        pack.rules[:] = apply_profile(pack.rules, found.profile)
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
