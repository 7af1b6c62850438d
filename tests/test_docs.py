"""The documents: what is generated is up to date, what is linked exists, what is named is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from keytrail.cli import main

from docs.generate import pages

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "rules" / "README.md"])
BY_HAND = [path for path in DOCUMENTS if path.name not in ("commands.md", "modifiers.md", "rules.md", "schemas.md")]
PAGES = pages()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def below(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def commands(command: click.Command = main, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in below(command).items():
            yield from commands(inner, *names, name)
    else:
        yield names, command


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.is_file(), f"{name_of(path)} is missing: run 'make docs'"
    assert path.read_text("utf-8") == PAGES[path], f"{name_of(path)} is out of date: run 'make docs'"


@pytest.mark.parametrize(("names", "command"), [pytest.param(*found, id="-".join(found[0])) for found in commands()])
def test_each_command_has_help_and_examples_that_it_would_take(names: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    examples: Sequence[str] = getattr(command, "examples", ())
    assert examples
    for example in examples:
        assert f"keytrail {' '.join(names)}" in example
        check_line(example)


def check_line(line: str) -> None:
    """Let click parse a line of shell that calls keytrail, without running it."""
    for part in re.split(r"\|(?!\w)", line):
        words = shlex.split(part, comments=True)
        if words[:1] != ["keytrail"]:
            continue
        command: click.Command = main
        name, left = "keytrail", words[1:]
        while isinstance(command, click.Group):
            assert left, line
            name = left.pop(0)
            assert name in below(command), f"{line}: there is no command {name}"
            command = below(command)[name]
        command.make_context(name, left)


def shell_lines(text: str) -> Iterator[str]:
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if kind == "sh" or line.startswith("$ "):  # what a console shows beside is output
                yield line.removeprefix("$ ")


@pytest.mark.parametrize("path", BY_HAND, ids=name_of)
def test_commands_in_the_documents_exist(path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = path.read_text("utf-8")
    for line in shell_lines(text):
        check_line(line)
        if line.startswith("make "):
            assert line.split()[1] in targets, line
    for command, rest in re.findall(r"`(keytrail|make) ([^`]+)`", text):
        if command == "make":
            assert rest.split()[0] in targets, rest
        else:
            assert rest.split()[0] in below(main), rest


def test_the_readme_names_each_command() -> None:
    lines = "\n".join(shell_lines((ROOT / "README.md").read_text("utf-8")))
    missing = [" ".join(names) for names, _ in commands() if f"keytrail {' '.join(names)}" not in lines]
    assert missing in ([], ["demo"])  # which is `make demo` there
    assert "make demo" in lines
    assert "make test" in lines


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_each_condition_is_documented() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "converter" / "keytrail").glob("*.py"))
    made = re.findall(r"\b_?[cC]ondition\(([^,()]*),", sources)
    kinds = {kind for first in made for kind in re.findall(r'"(\w+)"', first)}
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "semantics.md").read_text("utf-8"), re.MULTILINE))
    assert kinds == documented


def test_each_module_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    package = ROOT / "converter" / "keytrail"
    modules = {path.stem for path in package.glob("[!_]*.py")}
    modules |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(module for module in modules if f"`{module}`" not in text) == []


def test_the_changelog_knows_this_version() -> None:
    from keytrail import __version__

    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{__version__}]" in text or f"To be {__version__}" in text
