"""``keytrail profile``: the site profile, learned from logs, or written as Sigma filters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import click

from keytrail.commands._common import BAD_INPUT, DOES_NOT_HOLD, FINE, Examples, complain, finish, named_errors, packs
from keytrail.errors import ProfileError, UsageError
from keytrail.files import write_text
from keytrail.filters import expired, today
from keytrail.learn import Learner
from keytrail.learned import Heading, Judged, as_text, as_value, judge
from keytrail.profile import SCHEMA, load_profile
from keytrail.records import Reader
from keytrail.site_filters import as_yaml, site_filters

NOBODY = "learned by keytrail, reviewed by nobody yet"
VALID = timedelta(days=90)


@click.command(
    cls=Examples,
    examples=[
        "keytrail profile AWSLogs/ -o site.yml",
        "keytrail profile AWSLogs/ --owner 'security team' --expires 2027-06-30 -o site.yml --force",
        "keytrail profile site.yml --as-filters filters/",
    ],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the profile.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--name", default="site", show_default=True, help="What to call the site.")
@click.option("--owner", default=NOBODY, show_default=True, help="Who answers for what the profile allows.")
@click.option("--expires", help="The last day of what it allows; in 90 days by default.")
@click.option("--account", "accounts", multiple=True, help="An account of the site without records here.")
@click.option(
    "--as-filters",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the profile PATH as Sigma filters into this folder.",
)
@click.option("--rules", type=click.Path(path_type=Path), help="With --as-filters: the rules that they are for.")
@named_errors
def command(
    paths: tuple[str, ...],
    output: Path | None,
    force: bool,
    name: str,
    owner: str,
    expires: str | None,
    accounts: tuple[str, ...],
    folder: Path | None,
    rules: Path | None,
) -> None:
    """Learn which trails, keys, buckets and readers are the site's own, from CloudTrail files.

    What an attacker could have planted is listed in the profile as untrusted, and not used. With --as-filters, PATH is
    a profile, and is written as filters that any Sigma tool takes: sigma convert --filter DIR.
    """
    if folder is not None:
        finish(_write_filters(paths, folder, rules, force))
    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} is there already", hint="--force writes over it")
    heading = Heading(name, owner, _day(expires))
    if not re.fullmatch(SCHEMA["properties"]["site"]["pattern"], name) or not owner.strip():
        raise UsageError(f"{name!r} is no name for a site" if owner.strip() else "the owner has no name")
    bad = [account for account in accounts if not re.fullmatch(r"[0-9]{12}", account)]
    if bad:
        raise UsageError(f"{bad[0]!r} is no account", hint="an account has 12 digits")
    reader = Reader(paths)
    learner = Learner(accounts)
    for record, _, _ in reader:
        learner.take(record)
    judged = judge(learner)
    for error in reader.bad:
        complain(error)
    read = {"files": reader.files, "records": reader.records, "bad": reader.bad_count}
    text = as_text(as_value(learner, judged, heading, read))
    if judged.trails and output is not None:
        write_text(output, text)
    elif judged.trails:
        click.echo(text, nl=False)
    _summary(judged, reader)
    unread = reader.bad_count or not reader.records
    finish(BAD_INPUT if unread else FINE, FINE if judged.trails else DOES_NOT_HOLD)


def _day(given: str | None) -> date:
    if given is None:
        return today() + VALID
    try:
        return date.fromisoformat(given)
    except ValueError as error:
        raise UsageError(f"{given!r} is no day", hint="write 2027-06-30") from error


def _summary(judged: Judged, reader: Reader) -> None:
    """Say in a few lines what was learned and what was not."""
    if not judged.trails:
        complain(f"no trail can be learned from {reader.records:,} records: CloudTrail seals no log file in them")
    kinds: dict[str, int] = {}
    for entry in judged.untrusted:
        kinds[entry["what"]] = kinds.get(entry["what"], 0) + 1
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"
    click.echo(f"trails: {len(judged.trails)}, readers: {len(judged.readers)}; untrusted: {shown}", err=True)


def _write_filters(paths: Sequence[str], folder: Path, rules: Path | None, force: bool) -> int:
    if len(paths) != 1:
        raise UsageError("--as-filters takes one profile", hint="keytrail profile site.yml --as-filters filters/")
    profile = load_profile(Path(paths[0]))
    pack = packs([], rules)
    made = site_filters(profile, pack.rules)
    old = expired(made)
    for error in (*pack.errors, *old):
        complain(error)
    written = [one for one in made if not one.expired(today())]
    taken = [folder / f"{one.stem}.yml" for one in written if (folder / f"{one.stem}.yml").exists()]
    if taken and not force:
        raise UsageError(f"{taken[0]} is there already", hint="--force writes over it")
    if not written:
        raise ProfileError("the profile has nothing that narrows a rule", path=paths[0])
    for one in written:
        write_text(folder / f"{one.stem}.yml", as_yaml(one))
        click.echo(folder / f"{one.stem}.yml")
    return BAD_INPUT if pack.errors else DOES_NOT_HOLD if old else FINE
