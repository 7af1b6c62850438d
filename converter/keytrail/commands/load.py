"""``keytrail load``: CloudTrail files into an index."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keytrail import render
from keytrail.cluster import real_elasticsearch
from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    FORMAT,
    Examples,
    complain,
    finish,
    named_errors,
    print_json,
)
from keytrail.errors import UsageError
from keytrail.files import kept_aside
from keytrail.journal import Journal
from keytrail.load import Loaded, create_index, identity, load
from keytrail.logfiles import find_files
from keytrail.progress import Course, watched
from keytrail.records import Reader
from keytrail.schemas import SCHEMAS, get_schema

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

MOST_SHOWN = 10


@click.command(
    cls=Examples,
    examples=[
        "keytrail load AWSLogs/ --elasticsearch http://localhost:9200 --index keytrail-cloudtrail-2026",
        "keytrail load AWSLogs/ --elasticsearch https://siem:9200 --index trails --journal load.journal",
        "keytrail load refused.ndjson --elasticsearch https://siem:9200 --index rest --schema raw --aside again.ndjson",
    ],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--elasticsearch", "url", required=True, help="URL of the Elasticsearch to load into.")
@click.option("--index", required=True, help="The index; it is created as the schema wants it where there is none.")
@click.option(
    "--schema",
    "name",
    type=click.Choice(list(SCHEMAS)),
    default="keytrail",
    show_default=True,
    help="What a document is like.",
)
@click.option(
    "--aside",
    type=click.Path(path_type=Path),
    default=Path("refused.ndjson"),
    show_default=True,
    help="A file for the records that the index refuses, one a line; a new one, unless --journal goes on with a run.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    help="A file that notes which files are done with: the same command again then goes on with the others.",
)
@FORMAT
@named_errors
def command(
    paths: tuple[str, ...], url: str, index: str, name: str, aside: Path, journal: Path | None, style: str
) -> None:
    """Index CloudTrail files, to hunt in them there.

    An id follows from what a record says, so that the same event twice is one document and loading again changes
    nothing. What the index refuses is counted, and its records are kept aside in a file that can be loaded once the
    index is mended. Exit code 1: the index has refused records; 2: some input could not be read.

    Credentials: ELASTICSEARCH_API_KEY, the file that ELASTICSEARCH_API_KEY_FILE names, or ELASTICSEARCH_USERNAME and
    ELASTICSEARCH_PASSWORD; a private certificate authority: ELASTICSEARCH_CA_CERTS.
    """
    if not index.strip() or any(character in index for character in "*,?"):
        raise UsageError(f"{index!r} is not one index", hint="name the one that the documents are for")
    schema = get_schema(name)
    with ExitStack() as stack:
        cluster = stack.enter_context(real_elasticsearch(url))
        noted = _noted(journal, cluster, index, name)
        keep = stack.enter_context(kept_aside(aside, more=noted is not None and noted.begun))
        found = find_files(paths)
        if create_index(cluster, index, schema):
            click.echo(f"created the index {index}", err=True)
            noted = _noted(journal, cluster, index, name)
        left = stack.enter_context(noted).left(found.files) if noted else found.files
        reader = Reader(list(map(str, left)))
        loaded = Loaded()
        stack.enter_context(watched(Course(reader), lambda: f"{loaded.taken:,} new, {loaded.there:,} there already"))

        def tell(now: Loaded) -> None:
            nonlocal loaded
            loaded = now

        done = noted.done if noted else _pass
        try:
            loaded = load(cluster, index, schema, reader if left else (), aside=keep, done=done, progress=tell)
        except BaseException:
            _until_then(loaded, aside, goes_on=noted is not None)
            raise
    skipped = len(found.files) - len(left)
    bad = [*found.bad, *(reader.bad if left else ())]
    bad_count = len(found.bad) + (reader.bad_count if left else 0)
    _show(loaded, style, {"files": reader.files, "bad": bad_count, "done_before": skipped}, aside)
    for error in bad:
        complain(error)
    empty = not loaded.records and not skipped
    if empty:
        complain("no CloudTrail record was read")
    finish(BAD_INPUT if bad or empty else FINE, DOES_NOT_HOLD if loaded.refused else FINE)


def _noted(journal: Path | None, cluster: Cluster, index: str, name: str) -> Journal | None:
    """The journal, which is about the index that is there now, and none that is made later under its name."""
    if journal is None:
        return None
    return Journal(journal, {"index": index, "schema": name}, identity(cluster, index))


def _until_then(loaded: Loaded, aside: Path, *, goes_on: bool) -> None:
    """Say what was refused before a run was stopped."""
    if loaded.refused:
        how = "" if goes_on else ": name another file with --aside, or move this one, before you run it again"
        complain(f"{loaded.refused.total():,} records were refused until then, kept in {aside}{how}")


def _pass(path: str) -> None:
    """Without a journal nothing is noted."""


def _show(loaded: Loaded, style: str, read: dict[str, int], aside: Path) -> None:
    kept = str(aside) if loaded.refused else None
    if style == "json":
        print_json({**read, **loaded.as_dict(), "aside": kept})
        return
    out = render.console()
    if loaded.refused:
        rows = [(f"{count:,}", render.safe(why)) for why, count in loaded.refused.most_common()]
        out.print(render.table("Refused", ("records", "why"), rows))
        for path, number, why in loaded.refusals[:MOST_SHOWN]:
            complain(f"{path}: record {number}: {why}")
        complain(f"{loaded.refused.total():,} records refused, kept in {kept}")
    out.print(
        f"{read['files']:,} files, {loaded.records:,} records: {loaded.taken:,} new, {loaded.there:,} there already, "
        f"{loaded.refused.total():,} refused; {read['done_before']:,} files done before, {read['bad']:,} bad inputs"
    )
