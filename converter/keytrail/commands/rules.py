"""``keytrail rules``: the pack, or one rule in full."""

from __future__ import annotations

import json
from pathlib import Path

import click

from keytrail import render
from keytrail.commands._common import BAD_INPUT, FINE, Examples, complain, finish, named_errors, packs, plain
from keytrail.commands._narrowing import SITE, narrow_pack
from keytrail.site import load_site


@click.command(cls=Examples, examples=["keytrail rules", "keytrail rules trail_key_disabled", "keytrail rules --json"])
@click.argument("rule", required=False)
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="A folder of Sigma rules instead of the pack.")
@click.option("--json", "as_json", is_flag=True, help="Print a list, one object a rule.")
@SITE
@named_errors
def command(rule: str | None, folder: Path | None, as_json: bool, site: Path | None) -> None:
    """List the rules; with RULE (a stem, an id or a file), show one in full.

    With a site's profile or folder, its own rules are among them, and each is as the site has it.
    """
    own = load_site(site)
    pack = packs([rule] if rule else [], folder, own.rules)
    narrow_pack(pack, (), own, folder).complain()
    for error in pack.errors:
        complain(error)
    if as_json:
        # YAML has dates, JSON has not.
        shown = [{"stem": one.stem, **one.document} for one in pack.rules]
        click.echo(json.dumps(shown, indent=2, default=str))
    elif rule:
        for one in pack.rules:
            click.echo(plain(one.text))
    else:
        render.console().print(render.rules_table(pack.rules))
    finish(BAD_INPUT if pack.errors else FINE)
