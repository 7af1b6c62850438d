"""What a site profile becomes: Sigma filters, which narrow rules to the site's own (scope) and allow its own (lists).

A rule says what it takes, in its attribute ``keytrail``: ``scope:``, one of ``key``, ``trail`` and ``bucket``; and
``allow:``, some of ``readers``, ``reader_accounts``, ``administrators``, ``accounts``, ``policy_accounts``,
``own_trail``, ``own_key``, ``own_bucket`` and ``paired``. Scope is conservative: an event is taken out only where it
tells what it is about, in a form that its author did not choose where there is one, and that is none of the site's.
What an event does not tell is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from uuid import UUID, uuid5

from keytrail.data import packaged
from keytrail.errors import ProfileError
from keytrail.filters import Filter, load_filters, narrow, read_filter, today
from keytrail.levels import raised
from keytrail.pack import Rule, rewired
from keytrail.profile import Exclusion, Principal, Profile, Trail
from keytrail.yamlcheck import plain_yaml

_SPACE = UUID("5f0c1a52-6f0e-4c77-9d0e-2f2d8f2b7a11")
_CONTEXT = "requestParameters.encryptionContext"
_TARGET = "requestParameters.destinationEncryptionContext"
Selections = dict[str, Any]


def apply_profile(rules: Sequence[Rule], profile: Profile, variant: str = "") -> list[Rule]:
    """Return the rules narrowed to the site; ``variant`` sets them apart from those that are not.

    No Sigma filter narrows a correlation. What one says of itself narrows the rules that it names, for it alone.
    """

    # Without trails, or once it has expired, a profile narrows nothing: what needs to know the trails still does.
    site = profile.site if profile.trails and profile.expires >= today() else None

    def change(given: Sequence[Rule]) -> list[Rule]:
        filters = site_filters(profile, given)
        made = (narrow(rule, filters) for rule in given)
        levels = (raised(rule) if rule.applied and site else rule for rule in made)
        return [replace(rule, site=site, variant=rule.variant + variant) for rule in levels]

    return [_correlation(rule, profile) for rule in rewired(rules, change)]


def _correlation(rule: Rule, profile: Profile) -> Rule:
    """A correlation whose rules are narrowed by what it says of itself; any other rule as it is."""
    if rule.kind != "correlation" or not rule.own:
        return rule
    terms = {key: rule.own[key] for key in ("scope", "allow") if key in rule.own}
    named = {}
    for name, base in rule.references.items():
        asking = replace(base, document={**base.document, "keytrail": terms})
        named[name] = narrow(base, [one for one in site_filters(profile, [asking]) if one.names(base)])
    return replace(rule, references=named)


def site_filters(profile: Profile, rules: Sequence[Rule]) -> list[Filter]:
    """Return the profile's filters for those of ``rules`` that take them; what has expired is among them, too.

    Raises :class:`ProfileError` where it turns on a filter that there is not.
    """
    made = [*_scopes(profile), *_lists(profile)] if profile.trails else []
    found: list[Filter] = []
    for key, term, title, exclusion, selections, condition, line in made:
        targets = list(dict.fromkeys(rule.id for rule in rules if rule.kind == "rule" and _takes(rule, key, term)))
        if targets and selections:
            one = _filter(profile, title, targets, exclusion, selections, condition)
            found.append(replace(one, place=(profile.path, line)))
    return found + [_turned_on(profile, name, exclusion) for name, exclusion in profile.turned_on]


def _takes(rule: Rule, key: str, term: str) -> bool:
    found = rule.own.get(key)
    return term in (found if isinstance(found, list) else [found])


Made = tuple[str, str, str, Exclusion, Selections, str, int]


def _filter(
    profile: Profile, title: str, targets: list[str], exclusion: Exclusion, selections: Selections, condition: str
) -> Filter:
    """A filter as if it had been read from a file beside the profile."""
    stem = title.lower().replace(" ", "_").replace("'", "")
    document = {
        "title": title,
        "id": str(uuid5(_SPACE, f"{profile.site} {title}")),
        "description": f"Made from the profile of {profile.site}.",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "filter": {"rules": targets, **selections, "condition": condition},
        "keytrail": exclusion.as_dict(),
    }
    return read_filter(Rule(profile.path.with_name(f"{stem}.yml"), document, ""))


def as_yaml(one: Filter) -> str:
    """Return a filter as a file that any Sigma tool reads."""
    return plain_yaml(one.rule.document)


def _turned_on(profile: Profile, name: str, exclusion: Exclusion) -> Filter:
    """A filter of the pack, under the site's own owner, reason and expiry."""
    folder = packaged("exclusions")
    found = [one for one in load_filters([folder]).filters if one.stem == name and not one.template]
    if not found:
        raise ProfileError(f"there is no filter {name!r} to turn on", path=profile.path, line=profile.line("filters"))
    place = (profile.path, profile.line("filters"))
    document = {**found[0].rule.document, "keytrail": exclusion.as_dict()}
    return replace(
        found[0],
        rule=replace(found[0].rule, document=document),
        owner=exclusion.owner,
        reason=exclusion.reason,
        expires=exclusion.expires,
        place=place,
    )


# -- scope --------------------------------------------------------------------------------------------------------


def _scopes(profile: Profile) -> Iterator[Made]:
    scope = Exclusion(profile.owner, "about none of the site's own", profile.expires)
    kinds: Mapping[str, Callable[[Profile], tuple[Selections, str]]] = {
        "key": _key_scope,
        "trail": _trail_scope,
        "bucket": _bucket_scope,
    }
    for term, make in kinds.items():
        yield ("scope", term, f"Site {term}s only", scope, *make(profile), profile.line("expires"))


def _key_scope(profile: Profile) -> tuple[Selections, str]:
    """By the key's ARN in resources, which AWS writes; by the request, which its author writes, where there is none.

    An alias tells its key only to who knows all aliases, and a moved or deleted alias no longer tells it at all.
    """
    keys = profile.keys
    anywhere = [f":key/{key.id}" for key in keys if key.multi_region]
    own_resource: list[Selections] = [{"resources.ARN": [key.arn for key in keys]}]
    own_resource += [{"resources.ARN|endswith": anywhere}] if anywhere else []
    aliases = [name for key in keys for name in (*key.aliases, *key.alias_arns)]
    named = dict.fromkeys([*(name for key in keys for name in (key.id, key.arn)), *aliases])
    own_request: list[Selections] = [{"requestParameters.keyId": list(named)}]
    # A regional copy of a key has another ARN, which cannot be told from a foreign one by how it begins.
    starts = ["arn:"] if anywhere else []
    if not profile.all_aliases_listed:
        starts += ["alias/", *dict.fromkeys(key.alias_prefix for key in keys)]
    own_request += [{"requestParameters.keyId|startswith": starts}] if starts else []
    selections: Selections = {
        "told_by_resource": {"resources.ARN|contains": ":key/"},
        "own_resource": own_resource,
        "told_by_request": {"requestParameters.keyId|exists": True},
        "own_request": own_request,
        "alias": {"requestParameters.aliasName|exists": True},
    }
    if profile.all_aliases_listed and aliases:
        selections["alias"] = {"requestParameters.aliasName": aliases}
    elif profile.all_aliases_listed:
        del selections["alias"]
    foreign = (
        "not ((told_by_resource and not own_resource) "
        "or (told_by_request and not told_by_resource and not own_request))"
    )
    return selections, f"alias or {foreign}" if "alias" in selections else foreign


def _trail_scope(profile: Profile) -> tuple[Selections, str]:
    """By the ARN in the response, which AWS writes; by the request where there is none: regions share trails' names."""
    named = list(dict.fromkeys(name for trail in profile.trails for name in (trail.name, trail.arn)))
    arns = list(dict.fromkeys(trail.arn for trail in profile.trails))
    own: list[Selections] = [
        {"requestParameters.name": named, "responseElements.trailARN": None},
        {"requestParameters.trailName": named, "responseElements.trailARN": None},
        {"responseElements.trailARN": arns},
        {f"{_CONTEXT}.aws:cloudtrail:arn": arns},
    ]
    told = ("requestParameters.name", "requestParameters.trailName", f"{_CONTEXT}.aws:cloudtrail:arn")
    return {
        "own_trail": own,
        "told": [{f"{field}|exists": True} for field in told],
    }, "own_trail or not told"


def _bucket_scope(profile: Profile) -> tuple[Selections, str]:
    """By the bucket's name and ARN; an access point has a name of its own, and says in resources whose it is."""
    buckets = list(dict.fromkeys(trail.bucket for trail in profile.trails))
    arns = list(dict.fromkeys(trail.bucket_arn for trail in profile.trails))
    inside = [f"{arn}/" for arn in arns]
    places = ("resources.ARN", f"{_CONTEXT}.aws:s3:arn", f"{_TARGET}.aws:s3:arn")
    own: list[Selections] = [{"requestParameters.bucketName": buckets}]
    own += [one for place in places for one in ({place: arns}, {f"{place}|startswith": inside})]
    told = ("requestParameters.bucketName", *places[1:])
    return {
        "own_bucket": own,
        "access_point": {"requestParameters.bucketName|startswith": "arn:"},
        "told": [{f"{place}|exists": True} for place in told],
    }, "own_bucket or access_point or not told"


# -- lists --------------------------------------------------------------------------------------------------------


def _lists(profile: Profile) -> Iterator[Made]:
    accounts = [entry for entry in profile.readers if entry.kind == "account"]
    yield from _principals("readers", [entry for entry in profile.readers if entry not in accounts], profile)
    yield from _principals("reader_accounts", accounts, profile)
    yield from _principals("administrators", profile.administrators, profile)
    own, line = Exclusion(profile.owner, "named in the profile", profile.expires), profile.line("expires")
    if profile.accounts:
        # Of one key only: a ReEncrypt has two in resources, and one of the site's would cover for a foreign one.
        selection = {"eventName": "GenerateDataKey", "resources.accountId": list(profile.accounts)}
        yield "allow", "accounts", "Site accounts", own, {"own_account": selection}, "not own_account", line
    yield _policy_accounts(profile)
    trails = profile.trails
    current = [trail for trail in trails if not trail.earlier]
    settings = {
        "own_trail": [{"responseElements.trailARN|cased": list(dict.fromkeys(trail.arn for trail in trails))}],
        "own_key": [
            {**_answer(trail), "responseElements.kmsKeyId|cased": [key.arn for key in trail.keys]} for trail in current
        ],
        "own_bucket": [{**_answer(trail), **_place(trail)} for trail in current],
        "paired": [pair for trail in trails for pair in _pairs(trail)],
    }
    for term, selected in settings.items():
        yield "allow", term, f"Site {term.replace('_', ' ')}", own, {term: selected}, f"not {term}", line


def _policy_accounts(profile: Profile) -> Made:
    """Policies in which no account is named but the site's, and those that read its logs until their last day.

    One of the site's in a policy must not cover for a foreign one.
    """
    arns = [arn for trail in profile.trails for arn in (trail.arn, *(key.arn for key in trail.keys))]
    readers = [entry for entry in profile.readers if entry.kind == "account" and entry.exclusion.expires >= today()]
    named = [*profile.accounts, *(arn.split(":")[4] for arn in arns), *(entry.value for entry in readers)]
    expires = min([profile.expires, *(entry.exclusion.expires for entry in readers)])
    own = Exclusion(profile.owner, "names accounts of the profile alone", expires)
    selections = {"known_accounts": {"requestParameters.policy|re|all": list(_no_other(list(dict.fromkeys(named))))}}
    return (
        "allow",
        "policy_accounts",
        "Site policy accounts",
        own,
        selections,
        "not known_accounts",
        profile.line("expires"),
    )


_MOST_ACCOUNTS = 60  # in one expression, which has at most 1,000 characters
_DIGITS = "0123456789"


def _no_other(accounts: Sequence[str]) -> Iterator[str]:
    """Expressions that hold together for a text with no other account's number, which has colons or quotes around it.

    Many accounts are asked for by their first digit: then an expression is about the numbers that begin with it.
    """
    for first in [""] if len(accounts) <= _MOST_ACCOUNTS else _DIGITS:
        others = [f"[{_DIGITS.replace(first, '')}][0-9]{{11}}"] if first else []
        known = "|".join([*others, *(account for account in accounts if account.startswith(first))])
        yield rf'^[^":]*([":]([0-9]*[^0-9":][^":]*|[0-9]{{0,11}}|[0-9]{{13,}}|{known}))*$'


def _answer(trail: Trail) -> Selections:
    """AWS writes it, in the one spelling that there is; of one spelling alone every index can say that it is not so."""
    return {"responseElements.trailARN|cased": trail.arn}


def _place(trail: Trail) -> Selections:
    prefix: Selections = {
        "responseElements.s3KeyPrefix|cased" if trail.prefix else "responseElements.s3KeyPrefix": trail.prefix or None
    }
    return {"responseElements.s3BucketName|cased": trail.bucket, **prefix}


def _pairs(trail: Trail) -> Iterator[Selections]:
    """The contexts of the trail's own objects, under its own keys; a key that is not told disagrees with none."""
    for place in ({"aws:s3:arn|startswith|cased": trail.folder_arn}, {"aws:s3:arn|cased": trail.bucket_arn}):
        context: Selections = {"aws:cloudtrail:arn|cased": trail.arn, **place}
        named = {f"{_CONTEXT}.{name}": value for name, value in context.items()}
        yield {**named, "resources.ARN|cased": [key.arn for key in trail.keys]}
        yield {**named, "resources.ARN": None}


def _principals(term: str, given: Sequence[Principal], profile: Profile) -> Iterator[Made]:
    """One filter for each owner, reason and expiry, so that one that expires leaves the others."""

    def key(entry: Principal) -> tuple[str, str, str]:
        return entry.exclusion.expires.isoformat(), entry.exclusion.owner, entry.exclusion.reason

    template = _template(term)
    from_where = (
        {"sourceIPAddress|cidr": list(profile.networks)} if term == "administrators" and profile.networks else {}
    )
    for number, (_, group) in enumerate(groupby(sorted(given, key=key), key=key), start=1):
        entries = list(group)
        values = {f"%{kind}s%": [entry.value for entry in entries if entry.kind == kind] for kind in _KINDS}
        selections = {name: {**lines, **from_where} for name, lines in _filled(template, values)}
        title = f"Known {term.replace('_', ' ')}" + (f" {number}" if number > 1 else "")
        yield "allow", term, title, entries[0].exclusion, selections, template.condition, entries[0].line


_KINDS = ("role", "user", "account")


def _template(term: str) -> Filter:
    """The filter of the pack whose placeholders the profile fills."""
    return next(one for one in load_filters([packaged("exclusions") / f"known_{term}.yml"]).filters)


def _filled(template: Filter, values: Mapping[str, list[str]]) -> Iterator[tuple[str, Selections]]:
    """The template's selections, each with its placeholder's values; one for which there are none is left out."""
    for name, lines in template.selections.items():
        given = {
            str(key).removesuffix("|expand"): values.get(value, []) if str(key).endswith("|expand") else value
            for key, value in lines.items()
        }
        if all(value != [] for value in given.values()):
            yield name, given
