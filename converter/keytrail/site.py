"""What a site keeps of its own beside the pack: its profile, rules, filters and cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keytrail.errors import ProfileError

if TYPE_CHECKING:
    from keytrail.profile import Profile

PROFILE, RULES, FILTERS, CASES = "site.yml", "rules", "filters", "cases"


@dataclass(frozen=True)
class Site:
    """A site's profile and the folders of its own rules, filters and cases; it can lack any of them."""

    profile: Profile | None = None
    rules: Path | None = None
    filters: Path | None = None
    cases: Path | None = None


def load_site(path: Path | None) -> Site:
    """Return what a site has: its profile alone where ``path`` is a file, what is in a folder, nothing for None.

    Raises :class:`ProfileError` for a profile that cannot be used, and for a folder that has nothing of a site.
    """
    if path is None:
        return Site()
    from keytrail.profile import load_profile  # which most commands are called without

    if not path.is_dir():
        return Site(load_profile(path))
    profile = path / PROFILE
    rules, filters, cases = (_filled(path / name) for name in (RULES, FILTERS, CASES))
    if not profile.exists() and rules is filters is None:
        hint = f"a site's folder has {PROFILE}, {RULES}/ or {FILTERS}/, and {CASES}/ for its rules"
        raise ProfileError("the folder has nothing of a site", path=path, hint=hint)
    return Site(load_profile(profile) if profile.exists() else None, rules, filters, cases)


def _filled(folder: Path) -> Path | None:
    return folder if any(path.suffix in (".yml", ".yaml") for path in folder.rglob("*")) else None
