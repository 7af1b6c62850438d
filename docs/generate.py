"""Write the documents that follow from the code, commands, modifiers, rules and schemas: ``make docs``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from keytrail.cli import main
from keytrail.mapping import FieldType
from keytrail.schemas import SCHEMAS, Schema

from docs.modifiers_page import modifiers_page
from docs.rules_page import rules_page

DOCS = Path(__file__).resolve().parent
NOTICE = "<!-- Written by `make docs`. Change the code that it is made of, not this file. -->"
COMMANDS = """\
# The commands

Exit codes, of every command: 0 fine, 1 what was checked does not hold, 2 wrong usage or input that could not be read
(the rest is still done and printed). Results go to standard output, errors and remarks to standard error. What
`--format json` and `ndjson` print is in the [README](../README.md#what-machines-read).
"""
SCHEMAS_INTRO = """\
# The schemas

A schema is one way to keep CloudTrail records in Elasticsearch. It says which field of the index holds a field of the
record, and of which type. Rules name fields as CloudTrail does; the index's own names are taken as well. A field that
is in none of these tables is an error. Values longer than the limit are in the index's documents, and no query finds
them; what that means for a rule is in [semantics.md](semantics.md).
"""


def pages() -> dict[Path, str]:
    """Return the text of each generated document."""
    return {
        DOCS / "commands.md": "\n".join([NOTICE, COMMANDS, *_commands(main, "keytrail")]),
        DOCS / "modifiers.md": f"{NOTICE}\n{modifiers_page()}",
        DOCS / "rules.md": f"{NOTICE}\n{rules_page()}",
        DOCS / "schemas.md": "\n".join([NOTICE, SCHEMAS_INTRO, *(_schema(schema) for schema in SCHEMAS.values())]),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# Commands: from click's own objects, because the help that it prints differs from version to version.


def _commands(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command)
    if isinstance(command, click.Group):
        for key in command.list_commands(context):
            inner = command.get_command(context, key)
            assert inner is not None
            yield from _commands(inner, f"{name} {key}")
        return
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"## {name}\n\n{inspect.cleandoc(command.help or '')}\n\n```\n{usage}\n```\n"
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        yield _table(["option", "value", ""], [_option(option) for option in options])
    examples: Sequence[str] = getattr(command, "examples", ())
    if examples:
        yield "```console\n" + "".join(f"$ {example}\n" for example in examples) + "```\n"


def _option(option: click.Option) -> tuple[str, str, str]:
    choices = option.type.choices if isinstance(option.type, click.Choice) else None
    value = "" if option.is_flag else ", ".join(f"`{one}`" for one in choices) if choices else option.type.name
    default = option.default
    shown = ", ".join(default) if isinstance(default, (list, tuple)) else str(default)
    notes = [option.help or ""]
    if option.show_default:
        notes.append(f"Default: `{shown}`.")
    if option.multiple:
        notes.append("May be given more than once.")
    return " ".join(f"`{name}`" for name in option.opts), value, " ".join(notes)


# Schemas.


def _schema(schema: Schema) -> str:
    text = f"## {schema.name}: {schema.title}\n\nIndex pattern: `{schema.index}`\n\n"
    text += _table(["field of a rule", "field of the index", "type", "longest"], list(_fields(schema)))
    if schema.shared:
        rows = [(f"`{name}`", when) for name, (when, _) in schema.shared.items()]
        text += "\nWhere these are kept, some events have something else. A query on one of them is exact if it …\n\n"
        text += _table(["field of a rule", "…"], rows)
    if schema.taken is not None:
        text += f"\nA query on any of them is exact if {schema.taken[0]}.\n"
    if schema.dropped:
        text += f"\nValues that are not kept: {', '.join(f'`{value!r}`' for value in sorted(schema.dropped))}.\n"
    return text


def _fields(schema: Schema) -> Iterator[tuple[str, str, str, str]]:
    inner = {schema.rule_name(name): name for name in _leaves(schema.body["mappings"]["properties"])}
    prefixes = tuple(schema.prefixes)
    named = {**schema.names, **{rule: name for rule, name in inner.items() if rule.startswith(prefixes)}}
    for rule, name in sorted(named.items(), key=lambda pair: (pair[0].lower(), pair[0])):
        found = schema.field(name)
        also = {kind: schema.companion(found, kind) for kind in ("ip", "double", "keyword")} if found else {}
        kinds = [_kind(found, schema, name), *(f"{kind} as `{one.name}`" for kind, one in also.items() if one)]
        yield f"`{rule}`", f"`{name}`", ", ".join(kinds), _longest(found, schema)
    for prefix, target in sorted(schema.prefixes.items()):
        found = schema.field(f"{target}any")
        yield f"`{prefix}…` (any other)", f"`{target}…`", _kind(found, schema, target), _longest(found, schema)


def _leaves(properties: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for name, spec in properties.items():
        if "properties" in spec:
            yield from _leaves(spec["properties"], f"{parent}{name}.")
        else:
            yield f"{parent}{name}"


def _kind(found: FieldType | None, schema: Schema, name: str) -> str:
    if found is None:
        return "object" if schema.mapping.is_object(name) else "-"
    kind = "key of a flattened field" if found.root else found.type
    kind += f", {found.normalizer}" if found.normalizer else ""
    return kind + (" (if the first value is one)" if found.uncertain else "")


def _longest(found: FieldType | None, schema: Schema) -> str:
    if found is not None and found.type == "text":
        found = schema.companion(found, "keyword")
    return "" if found is None or found.ignore_above is None else f"{found.ignore_above:,}"


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content, encoding="utf-8")
        print(f"{page.parent.name}/{page.name}")
