"""The site profile: which trails, buckets, keys, readers and administrators are a site's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from keytrail.errors import ProfileError
from keytrail.yamlcheck import Document, check

SCHEMA: Mapping[str, Any] = json.loads(Path(__file__).with_name("profile.schema.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Key:
    """A KMS key by its ARN, with the names of its aliases (``alias/…``)."""

    arn: str
    aliases: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The key's id."""
        return self.arn.split("/", 1)[1]

    @property
    def multi_region(self) -> bool:
        """Whether keys of the same id can be in other regions."""
        return self.id.startswith("mrk-")

    @property
    def alias_prefix(self) -> str:
        """What the ARNs of aliases begin with that can name this key."""
        return self.arn.split(":key/", 1)[0] + ":alias/"

    @property
    def alias_arns(self) -> tuple[str, ...]:
        """The ARNs of its aliases."""
        return tuple(self.alias_prefix + alias.removeprefix("alias/") for alias in self.aliases)


@dataclass(frozen=True)
class Trail:
    """A trail, where its log files go (or, ``earlier``, went before) and the keys that seal them."""

    arn: str
    bucket: str
    keys: tuple[Key, ...]
    prefix: str = ""
    earlier: bool = False

    @property
    def name(self) -> str:
        """The trail's name."""
        return self.arn.rsplit("/", 1)[1]

    @property
    def bucket_arn(self) -> str:
        """The ARN of the bucket, in the trail's partition."""
        return f"arn:{self.arn.split(':')[1]}:s3:::{self.bucket}"

    @property
    def folder_arn(self) -> str:
        """What the ARNs of the trail's log files begin with."""
        return "/".join(part for part in (self.bucket_arn, self.prefix, "AWSLogs/") if part)


@dataclass(frozen=True)
class Exclusion:
    """Who answers for an exclusion, why it is one, and its last day."""

    owner: str
    reason: str
    expires: date

    def as_dict(self) -> dict[str, Any]:
        """Return the attribute ``keytrail`` of a filter."""
        return {"owner": self.owner, "reason": self.reason, "expires": self.expires}


@dataclass(frozen=True)
class Principal:
    """Somebody who is allowed something: ``kind`` is role, user or account."""

    kind: str
    value: str
    exclusion: Exclusion
    line: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Level:
    """A level that the site gives a rule, which it names by its stem or id, ``instead_of`` the pack's."""

    rule: str
    level: str
    instead_of: str
    exclusion: Exclusion
    line: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Profile:
    """A site's own. ``expires`` is the last day on which what it allows is allowed.

    Without trails it narrows no rule, and has levels and filters of the pack alone.
    """

    site: str
    owner: str
    expires: date
    path: Path
    trails: tuple[Trail, ...]
    accounts: tuple[str, ...] = ()
    readers: tuple[Principal, ...] = ()
    administrators: tuple[Principal, ...] = ()
    networks: tuple[str, ...] = ()
    all_aliases_listed: bool = False
    turned_on: tuple[tuple[str, Exclusion], ...] = ()
    levels: tuple[Level, ...] = ()
    lines: Mapping[tuple[object, ...], int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all trails, each once."""
        return tuple({key.arn: key for trail in self.trails for key in trail.keys}.values())

    def line(self, *where: object) -> int:
        """Return the line in which a part of the profile begins."""
        return self.lines.get(where, 1)


def load_profile(path: Path) -> Profile:
    """Read a site profile.

    Raises :class:`ProfileError` with file and line for the first thing that is wrong, and says how many more there are.
    """
    found = check(path, SCHEMA)
    if found.problems:
        first, more = found.problems[0], len(found.problems) - 1
        message = first.message + (f" (and {more} more)" if more else "")
        raise ProfileError(message, path=path, line=first.line, column=first.column, hint=first.hint)
    return _profile(path, found)


def problems(path: Path) -> list[ProfileError]:
    """Return everything that is wrong with a profile."""
    found = check(path, SCHEMA)
    errors = [
        ProfileError(each.message, path=path, line=each.line, column=each.column, hint=each.hint)
        for each in found.problems
    ]
    if not errors:
        try:
            _profile(path, found)
        except ProfileError as error:
            errors.append(error)
    return errors


def _profile(path: Path, found: Document) -> Profile:
    value = found.value
    site = Exclusion(value["owner"], f"named in the profile of {value['site']}", date.fromisoformat(value["expires"]))
    profile = Profile(
        site=value["site"],
        owner=site.owner,
        expires=site.expires,
        path=path,
        trails=tuple(map(_trail, value.get("trails", ()))),
        accounts=tuple(account["id"] for account in value.get("accounts", ())),
        readers=tuple(_principals("readers", found, site)),
        administrators=tuple(_principals("administrators", found, site)),
        networks=tuple(value.get("trusted_networks", ())),
        all_aliases_listed=value.get("all_aliases_listed", False),
        turned_on=tuple((entry["use"], _exclusion(entry, site)) for entry in value.get("filters", ())),
        levels=tuple(_levels(found, site)),
        lines=found.lines,
    )
    _check_trails(profile, value)
    _check_networks(profile)
    _check_twice(profile)
    return profile


def _trail(given: Mapping[str, Any]) -> Trail:
    keys = tuple(Key(key["arn"], tuple(key.get("aliases", ()))) for key in given["keys"])
    return Trail(given["arn"], given["bucket"], keys, given.get("prefix", ""), given.get("earlier", False))


def _principals(term: str, found: Document, site: Exclusion) -> Iterator[Principal]:
    for number, entry in enumerate(found.value.get(term, ())):
        kind = next(name for name in ("role", "user", "account") if name in entry)
        yield Principal(kind, entry[kind], _exclusion(entry, site), found.lines[term, number])


def _levels(found: Document, site: Exclusion) -> Iterator[Level]:
    for number, entry in enumerate(found.value.get("levels", ())):
        said = _exclusion(entry, site)
        yield Level(entry["rule"], entry["level"], entry["instead_of"], said, found.lines["levels", number])


def _exclusion(entry: Mapping[str, Any], site: Exclusion) -> Exclusion:
    expires = date.fromisoformat(entry["expires"]) if "expires" in entry else site.expires
    return Exclusion(entry.get("owner", site.owner), entry["reason"], expires)


def _check_trails(profile: Profile, value: Mapping[str, Any]) -> None:
    """Whom to trust with the logs says something once it is known whose logs, trails and keys they are."""
    trusted = [name for name in ("accounts", "readers", "administrators", "trusted_networks") if name in value]
    if not profile.trails and not trusted and not profile.levels and not profile.turned_on:
        raise ProfileError("the profile needs trails, levels or filters", path=profile.path, line=1)
    if trusted and not profile.trails:
        message = f"{trusted[0]} without trails narrow nothing"
        hint = "name the trails with their buckets and keys, or levels and filters alone"
        raise ProfileError(message, path=profile.path, line=profile.line(trusted[0]), hint=hint)


def _check_networks(profile: Profile) -> None:
    """Anyone can call AWS from a private address, through a VPC endpoint of his own."""
    for number, text in enumerate(profile.networks):
        line = profile.line("trusted_networks", number)
        try:
            network = ip_network(text)
        except ValueError as error:
            raise ProfileError(f"{text} is no network: {error}", path=profile.path, line=line) from error
        example = any(network.network_address in ip_network(known) for known in EXAMPLES)
        if not network.is_global and not example:
            message = f"{text} cannot be trusted: anyone can call from there, through a VPC endpoint of his own"
            raise ProfileError(message, path=profile.path, line=line, hint="name the public addresses you call from")
        if network.num_addresses > _WIDEST[network.version]:
            message = f"{text} is too wide to be trusted"
            raise ProfileError(message, path=profile.path, line=line, hint="name the networks that are yours")


_WIDEST = {4: 1 << 20, 6: 1 << 96}
# Reserved for documentation, and so for examples and tests.
EXAMPLES = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")


def _check_twice(profile: Profile) -> None:
    """A trail writes to one place; where it wrote before is said to be so."""
    places: dict[tuple[str, str, str], int] = {}
    now: dict[str, int] = {}
    for number, trail in enumerate(profile.trails):
        line = profile.line("trails", number)
        first = places.setdefault((trail.arn, trail.bucket, trail.prefix), line)
        if first != line:
            message = f"the trail {trail.arn} stands twice with the same bucket; the first is in line {first}"
            raise ProfileError(message, path=profile.path, line=line, hint="list all its keys in one entry")
        first = line if trail.earlier else now.setdefault(trail.arn, line)
        if first != line:
            message = f"the trail {trail.arn} stands twice, with another bucket or prefix in line {first}"
            hint = "it writes to one of them; say earlier: true of the one that it wrote to before"
            raise ProfileError(message, path=profile.path, line=line, hint=hint)
    if profile.trails and not now:
        raise ProfileError("all trails are earlier ones", path=profile.path, line=profile.line("trails"))
