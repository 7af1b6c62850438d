"""Fixtures: documented events, and the cases of each rule as patches of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from keytrail.errors import CaseError, RecordError
from keytrail.jsontext import parse
from keytrail.patch import add_value, nearest, remove_value, set_value
from keytrail.records import flaw_of

_TAG = "tag:yaml.org,2002:"
_REQUIRED = ("name", "event", "match")
_OPTIONAL = ("set", "add", "remove", "site")
_FILE = ("cases", "site", "equivalent")
# What YAML and JSON read alike. YAML reads 0123 as octal, 12:30 as sexagesimal and "no" as false.
_SCALARS = {
    "str": re.compile(r".*", re.DOTALL),
    "null": re.compile(r"|~|null"),
    "bool": re.compile(r"true|false"),
    "int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "float": re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?"),
}
_ACCOUNT = re.compile(r"[0-9]{12}")


@dataclass(frozen=True)
class Case:
    """An event that a rule must match, or must not: ``record`` is the patched event, ``line`` where it is.

    ``site`` is the profile that the case is about: it speaks of the rule as narrowed to that site.
    """

    rule: str
    name: str
    match: bool
    record: dict[str, Any]
    path: Path
    line: int
    event: str
    site: Path | None = None


@dataclass(frozen=True)
class Equivalent:
    """A mutant of a rule that no event can tell from it, and why."""

    mutant: str
    why: str
    path: Path
    line: int


def load_events(folder: Path) -> dict[str, dict[str, Any]]:
    """The events in a folder of JSON files and below it, by the stem of the file's name.

    Errors: CaseError for a folder without events, two of one name, and a file that is no CloudTrail record.
    """
    events: dict[str, dict[str, Any]] = {}
    for path in _by_stem(folder, (".json",), "event"):
        try:
            event = parse(path.read_bytes())
        except RecordError as error:
            raise CaseError(error.message, path=path, line=error.line, column=error.column) from None
        except OSError as error:
            raise CaseError(f"cannot be read: {error.strerror}", path=path) from None
        flaw = flaw_of(event)
        if flaw is not None or not isinstance(event, dict):
            raise CaseError(f"the event {flaw}", path=path)
        events[path.stem] = event
    return events


def load_cases(folder: Path, events: Mapping[str, Mapping[str, Any]]) -> list[Case]:
    """The cases in a folder of YAML files and below it; a file's stem is the rule's.

    Parameters: ``events`` as ``load_events`` gives them. They are copied before they are patched.
    Errors: CaseError, with file and line, for whatever is missing, unknown, misspelt or said twice.
    """
    return [case for path in _by_stem(folder, (".yml", ".yaml"), "case") for case in _file(path, events)]


def load_matching(
    folder: Path, stems: Container[str], events: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Case]]:
    """The cases in ``folder`` that some rules must match as they are, without a site, by the rule's stem.

    Errors: CaseError as for ``load_cases``.
    """
    files = [path for path in _by_stem(folder, (".yml", ".yaml"), "case") if path.stem in stems]
    return {path.stem: [case for case in _file(path, events) if case.match and case.site is None] for path in files}


def load_equivalents(folder: Path) -> dict[str, list[Equivalent]]:
    """What the case files in a folder declare of their rules' mutants, by the rule's stem.

    Errors: CaseError as for ``load_cases``.
    """
    files = ((path, *opened(path, {})) for path in _by_stem(folder, (".yml", ".yaml"), "case"))
    return {path.stem: reader.equivalents(root) for path, reader, root in files}


def _by_stem(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in suffixes or not path.is_file():
            continue
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise CaseError(f"{other} has the same name", path=path, hint="rename one of them")
    if not found:
        hint = f"they end in {' or '.join(suffixes)}"
        raise CaseError(f"no {what} file in this folder", path=folder, hint=hint)
    return list(found.values())


def _file(path: Path, events: Mapping[str, Mapping[str, Any]]) -> list[Case]:
    """The cases of one file; none where they are about sequences of events, which ``sequence_cases`` reads."""
    reader, root = opened(path, events)
    return [] if has_sequences(root) else reader.cases(root)


def has_sequences(root: yaml.Node) -> bool:
    """Tell whether the cases of a file are about sequences of events, as those of correlations are."""
    parts = root.value if isinstance(root, yaml.MappingNode) else ()
    listed = next((node.value for key, node in parts if key.value == "cases" and isinstance(node.value, list)), ())
    return any(
        isinstance(node, yaml.MappingNode) and any(key.value == "events" for key, _ in node.value) for node in listed
    )


def case_files(folder: Path) -> list[Path]:
    """The YAML files in a folder and below it. Errors: CaseError where there is none, or two have one name."""
    return _by_stem(folder, (".yml", ".yaml"), "case")


def opened(
    path: Path, events: Mapping[str, Mapping[str, Any]], kind: type[CaseReader] | None = None
) -> tuple[CaseReader, yaml.Node]:
    """A reader of one file, of a ``kind`` of readers, and the file's YAML."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise CaseError(f"not valid YAML: {error.problem}", path=path, line=line, column=column) from None
    except OSError as error:
        raise CaseError(f"cannot be read: {error.strerror}", path=path) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CaseError(f"not valid YAML: {error}", path=path) from None
    reader = (kind or CaseReader)(path, events, loader)
    if root is None:
        raise CaseError("the file is empty", path=path, hint="it must hold cases: and a list of them")
    return reader, root


class CaseReader:
    """Turns the YAML nodes of one file into cases; nodes, because they know their lines."""

    def __init__(self, path: Path, events: Mapping[str, Mapping[str, Any]], loader: yaml.SafeLoader) -> None:
        self._path = path
        self._events = events
        self._loader = loader

    def cases(self, root: yaml.Node) -> list[Case]:
        parts = self._fields(root, ("cases",), _FILE, "a case file")
        listed = parts["cases"]
        if not isinstance(listed, yaml.SequenceNode) or not listed.value:
            raise self._error(listed, "cases must be a list of at least one case")
        site = self._site(parts)
        cases = [self._case(node, site) for node in listed.value]
        first: dict[str, int] = {}
        for case in cases:
            if case.name in first:
                message = f"a second case named {case.name!r}; the first is in line {first[case.name]}"
                raise CaseError(message, path=self._path, line=case.line, hint="say what sets it apart")
            first[case.name] = case.line
        return cases

    def equivalents(self, root: yaml.Node) -> list[Equivalent]:
        """What the file declares of mutants."""
        listed = self._fields(root, ("cases",), _FILE, "a case file").get("equivalent")
        if listed is not None and not isinstance(listed, yaml.SequenceNode):
            raise self._error(listed, "equivalent must be a list of mutants, each with why it is one")
        found = []
        for node in listed.value if listed is not None else ():
            fields = self._fields(node, ("mutant", "why"), ("mutant", "why"), "an equivalent mutant")
            mutant, why = self._value(fields["mutant"]), self._value(fields["why"])
            if not (isinstance(mutant, str) and isinstance(why, str) and why.strip()):
                raise self._error(node, "mutant and why must be text")
            found.append(Equivalent(mutant, why, self._path, node.start_mark.line + 1))
        return found

    def _site(self, fields: Mapping[str, yaml.Node]) -> Path | None:
        """The profile that a file or a case names, from the folder that the file is in."""
        if "site" not in fields:
            return None
        named = self._value(fields["site"])
        path = self._path.parent / str(named)
        if not isinstance(named, str) or not path.is_file():
            raise self._error(
                fields["site"], f"there is no profile {path}", "from this file's folder, like ../../site.yml"
            )
        return path.resolve()

    def _case(self, node: yaml.Node, site: Path | None) -> Case:
        fields = self._fields(node, _REQUIRED, _REQUIRED + _OPTIONAL, "a case")
        name = self._value(fields["name"])
        match = self._value(fields["match"])
        if not isinstance(name, str) or not name.strip():
            raise self._error(fields["name"], "the name must say what the case shows")
        if not isinstance(match, bool):
            raise self._error(fields["match"], "match must be true or false")
        event = self._event(fields["event"])
        record = copy.deepcopy(dict(self._events[event]))
        self._patch(record, fields)
        line = node.start_mark.line + 1
        return Case(self._path.stem, name, match, record, self._path, line, event, self._site(fields) or site)

    def _event(self, node: yaml.Node) -> str:
        event = self._value(node)
        if not isinstance(event, str) or event not in self._events:
            raise self._error(node, f"there is no event {event!r}", nearest(str(event), self._events))
        return event

    def _patch(self, record: dict[str, Any], fields: Mapping[str, yaml.Node]) -> None:
        """Apply set, then add, then remove, each in the order written."""
        done: set[str] = set()
        for node, path, apply in self._changes(record, fields):
            if path in done:
                raise self._error(node, f"{path} is patched twice in one case")
            done.add(path)
            try:
                apply()
            except CaseError as error:
                raise self._error(node, error.message, error.hint) from None

    def _changes(
        self, record: dict[str, Any], fields: Mapping[str, yaml.Node]
    ) -> Iterator[tuple[yaml.Node, str, Callable[[], None]]]:
        """The single changes of a record: where each is written, its path, and a call that makes it."""
        for field, put in (("set", set_value), ("add", add_value)):
            for key, path, node in self._pairs(fields[field]) if field in fields else ():
                # Copied, because YAML's anchors give one list or object to many places.
                yield key, path, partial(put, record, path, copy.deepcopy(self._value(node)))
        if "remove" in fields:
            removed = fields["remove"]
            paths = self._value(removed)
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise self._error(removed, "remove must be a list of paths")
            for node, path in zip(removed.value, paths, strict=True):
                yield node, path, partial(remove_value, record, path)

    def _fields(
        self, node: yaml.Node, required: Iterable[str], known: Iterable[str], what: str
    ) -> dict[str, yaml.Node]:
        """The fields of a mapping that must have some names and may have no others."""
        fields: dict[str, yaml.Node] = {}
        for key, name, value in self._pairs(node):
            if name not in known:
                hint = nearest(name, known) or f"{what} has {', '.join(known)}"
                raise self._error(key, f"{what} has no {name!r}", hint)
            fields[name] = value
        missing = [name for name in required if name not in fields]
        if missing:
            raise self._error(node, f"{what} needs {' and '.join(missing)}")
        return fields

    def _pairs(self, node: yaml.Node) -> list[tuple[yaml.Node, str, yaml.Node]]:
        """Key node, key and value node of a mapping whose keys are text, each there once."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "names with values are expected here (name: value)")
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != f"{_TAG}str":
                raise self._error(key, f"{_text(key)} is no name", "put it in quotes")
            if key.value in seen:
                raise self._error(key, f"{key.value!r} is there twice")
            seen.add(key.value)
        return [(key, key.value, value) for key, value in node.value]

    def _value(self, node: yaml.Node) -> object:
        """The node's value, which JSON must be able to hold."""
        self._check(node, ())
        value: object = self._loader.construct_object(node, deep=True)
        return value

    def _check(self, node: yaml.Node, above: tuple[yaml.Node, ...]) -> None:
        """Refuse what YAML reads as something else than it looks like."""
        if node in above:
            raise self._error(node, "a value that contains itself")
        if isinstance(node, yaml.MappingNode):
            for _, _, value in self._pairs(node):
                self._check(value, (*above, node))
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._check(value, (*above, node))
        else:
            kind = node.tag.removeprefix(_TAG)
            looks = _SCALARS.get(kind)
            if looks is None or not looks.fullmatch(node.value):
                raise self._error(node, f"YAML reads {node.value} as {kind}", "text must be in quotes")
            if kind == "int" and _ACCOUNT.fullmatch(node.value):
                raise self._error(node, f"the account {node.value} is text in CloudTrail", "put it in quotes")

    def _error(self, node: yaml.Node, message: str, hint: str | None = None) -> CaseError:
        mark = node.start_mark
        return CaseError(message, path=self._path, line=mark.line + 1, column=mark.column + 1, hint=hint)


def _text(node: yaml.Node) -> str:
    return node.value if isinstance(node.value, str) else "a list or mapping"
