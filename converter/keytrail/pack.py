"""Finding, reading and checking Sigma rules: one rule a file, nothing to register."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from sigma.exceptions import SigmaConditionError, SigmaError

from keytrail import correlation_yaml, plain
from keytrail.correlation import Correlation
from keytrail.errors import KeytrailError, NeedsProfile, RuleError
from keytrail.lint import check_detections, check_document
from keytrail.yamlload import documents

if TYPE_CHECKING:
    from sigma.collection import SigmaCollection

LARGEST = 1_000_000
MOST_PARTS = 50_000  # names and values in a file
LEVELS = ("informational", "low", "medium", "high", "critical")


@dataclass(frozen=True)
class Applied:
    """A filter that has narrowed a rule: the rule's selections that begin with ``prefix`` are the filter's."""

    stem: str
    title: str
    owner: str
    reason: str
    expires: date
    prefix: str

    def __str__(self) -> str:
        return f"{self.title} ({self.owner}, until {self.expires.isoformat()})"

    def as_dict(self) -> dict[str, str]:
        """Return what is said of the exclusion, as JSON has it."""
        said = {"filter": self.stem, "title": self.title, "owner": self.owner, "reason": self.reason}
        return {**said, "expires": self.expires.isoformat()}


@dataclass(frozen=True)
class Levelled:
    """A level that a site has given a rule, instead of ``pack_level``."""

    level: str
    pack_level: str
    owner: str
    reason: str
    expires: date

    def __str__(self) -> str:
        until = f"until {self.expires.isoformat()}"
        return f"{self.level} instead of {self.pack_level}, by {self.owner} {until}: {self.reason}"


@dataclass(frozen=True)
class Rule:
    """One Sigma rule as read from a file; ``document`` is its YAML, ``text`` the file, ``line`` where it begins.

    ``applied`` are the filters that have narrowed it, in their order, ``site`` the profile that has, ``variant`` sets
    it apart from the rule as it was and from others of its file, ``levelled`` is what the site says of its level.
    ``references`` are the rules that a correlation names, by the way it names them.
    """

    path: Path
    document: Mapping[str, Any]
    text: str = field(repr=False)
    line: int = 1
    applied: tuple[Applied, ...] = ()
    site: str | None = None
    variant: str = ""
    references: Mapping[str, Rule] = field(default_factory=dict, repr=False, compare=False)
    levelled: Levelled | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """The stems of the filters that have narrowed it."""
        return tuple(one.stem for one in self.applied)

    @property
    def kind(self) -> str:
        """``rule``, or ``correlation`` for one that is about several events."""
        return "correlation" if "correlation" in self.document else "rule"

    @cached_property
    def correlation(self) -> Correlation:
        """What a rule of the kind ``correlation`` says of the events of other rules."""
        return correlation_yaml.read(self.document)

    @cached_property
    def stem(self) -> str:
        """The file's name without its ending: the rule's name in commands, cases and expected queries."""
        return self.path.stem + self.variant

    @property
    def id(self) -> str:
        """The rule's UUID, or its stem where it has none."""
        return str(self.document.get("id") or self.stem)

    @property
    def title(self) -> str:
        return str(self.document.get("title", self.stem))

    @property
    def level(self) -> str:
        level = self.document.get("level")
        return level if level in LEVELS else "medium"

    @property
    def own(self) -> Mapping[str, Any]:
        """What the rule says for Keytrail, under the key of that name."""
        found = self.document.get("keytrail")
        return found if isinstance(found, Mapping) else {}

    def own_texts(self, name: str) -> list[str]:
        """Return what the rule says for Keytrail under ``name``, a text or a list of them, as a list."""
        found = self.own.get(name)
        return [found] if isinstance(found, str) else list(map(str, found)) if isinstance(found, list) else []

    @cached_property
    def plain(self) -> plain.Plain | None:
        """The rule's logic, where it can be read without pySigma."""
        return plain.read(self.document)

    def collection(self) -> SigmaCollection:
        """Return the rule parsed by pySigma, afresh each time: pipelines change rule objects in place.

        The rules that a correlation names are in it as well, before the correlation.
        """
        from sigma.collection import SigmaCollection  # half a second, which most rules do not need

        bases = {base.id: dict(base.document) for base in self.references.values()}
        with warnings.catch_warnings():
            # pySigma compiles expressions with Python's re, whose doubts about [[ or && are none of RE2's.
            warnings.simplefilter("ignore", FutureWarning)
            return SigmaCollection.from_dicts([*bases.values(), dict(self.document)])

    def line_of(self, name: str) -> int:
        """Return the line in which a key of the rule (a field, a detection) first stands; the rule's first if none."""
        key = re.compile(rf"^\s*-?\s*[\"']?{re.escape(name)}[\"']?(\||\s*:)", re.MULTILINE)
        # A field may be called like an attribute of the rule: look where the detections are, first.
        logic = re.search(r"^(detection|correlation|filter):", self.text, re.MULTILINE)
        found = key.search(self.text, logic.start() if logic and self.line == 1 else 0) or key.search(self.text)
        return self.line if found is None else self.text.count("\n", 0, found.start()) + 1


@dataclass
class Pack:
    """The rules that were found, and the errors of those that could not be read.

    ``filters`` are the filter rules that lie among them: they change nothing until they are applied.
    """

    rules: list[Rule] = field(default_factory=list)
    errors: list[KeytrailError] = field(default_factory=list)
    filters: list[Rule] = field(default_factory=list)


def load_rules(paths: Iterable[Path]) -> Pack:
    """Read the Sigma rules in files and folders (``*.yml``, ``*.yaml``, recursively, sorted).

    A rule that cannot be used is an error in the result, and the others are read all the same. Raises
    :class:`RuleError` where a path does not exist or there is not one rule to be found.
    """
    pack = Pack()
    for path in _files(paths):
        try:
            for rule in _read(path):
                (pack.filters if "filter" in rule.document else pack.rules).append(rule)
        except KeytrailError as error:
            pack.errors.append(error)
    if not pack.rules and not pack.errors:
        shown = ", ".join(map(str, paths))
        raise RuleError(f"no Sigma rule in {shown}", hint="rules are .yml files with title, logsource and detection")
    _check_unique(pack)
    _link(pack)
    return pack


def is_template(document: Rule) -> bool:
    """Tell whether a rule or a filter means nothing without a site profile."""
    return bool(document.own.get("needs") == "profile")


def only_correlated(rules: Iterable[Rule]) -> set[str]:
    """Return the ids of the rules that are there for a correlation alone, which says so (``generate: false``)."""
    correlations = (rule for rule in rules if rule.kind == "correlation" and not rule.correlation.generate)
    return {base.id for rule in correlations for base in rule.references.values()}


def needs_profile(rule: Rule) -> bool:
    """Tell whether a rule means nothing without a site profile, and has had none."""
    return rule.site is None and is_template(rule)


def refusal(rule: Rule) -> NeedsProfile:
    """Return what is said of a rule that lacks its profile."""
    return NeedsProfile("needs a profile", path=rule.path, line=rule.line, hint="name the site's with --site FILE")


def rewired(rules: Sequence[Rule], change: Callable[[Sequence[Rule]], Sequence[Rule]]) -> list[Rule]:
    """Return what ``change`` makes of each rule; correlations then name what it makes of the rules that they name.

    Parameters: ``change`` returns a rule for each that it is given, in their order and with their ids.
    """
    given = {rule.id for rule in rules}
    named = {base.id: base for rule in rules for base in rule.references.values()}
    made = change([*rules, *(base for base in named.values() if base.id not in given)])
    by_id = {rule.id: rule for rule in made}
    return [
        replace(rule, references={name: by_id[base.id] for name, base in rule.references.items()})
        for rule in made[: len(rules)]
    ]


def _link(pack: Pack) -> None:
    """Give each correlation the rules that it names; one that names what is not there is an error."""
    known: dict[str, list[Rule]] = {}
    for rule in pack.rules:
        for name in {str(rule.document.get("id", "")).lower(), str(rule.document.get("name", ""))} - {""}:
            known.setdefault(name, []).append(rule)
    for number, rule in reversed(list(enumerate(pack.rules))):
        if rule.kind == "correlation":
            try:
                found = {name: _referred(rule, name, known) for name in rule.correlation.rules}
            except RuleError as error:
                pack.errors.append(error)
                del pack.rules[number]
            else:
                pack.rules[number] = replace(rule, references=found)


def _referred(rule: Rule, name: str, known: Mapping[str, Sequence[Rule]]) -> Rule:
    found = known.get(name) or known.get(name.lower(), ())
    hint = None
    if len(found) > 1:
        problem = f"names the rule {name!r}, which is {' and '.join(str(one.path) for one in found)}"
    elif not found:
        problem = f"names the rule {name!r}, which is not among the rules that were read"
        hint = "rules are named by their id or their attribute name; read the folder that holds them all"
    elif found[0].kind == "correlation":
        problem = f"names {name!r}, a correlation: only rules about single events can be correlated here"
    else:
        return found[0]
    at = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", rule.text[rule.text.find("correlation:") :])
    line = rule.text.count("\n", 0, max(rule.text.find("correlation:"), 0) + (at.start() if at else 0)) + 1
    raise RuleError(f"the correlation {problem}", path=rule.path, line=line, hint=hint)


def read_documents(paths: Iterable[Path]) -> tuple[list[Rule], list[KeytrailError]]:
    """Return every Sigma document in files and folders, filters included, and the errors of the unreadable ones."""
    found: list[Rule] = []
    errors: list[KeytrailError] = []
    for path in _files(paths):
        try:
            found += _read(path)
        except KeytrailError as error:
            errors.append(error)
    return found, errors


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(
                found for found in path.rglob("*") if found.suffix in (".yml", ".yaml") and found.is_file()
            )
        elif path.is_file():
            yield path
        else:
            raise RuleError(f"there is no {path}", hint="name a rule of the pack, a rule file or a folder of rules")


def _check_unique(pack: Pack) -> None:
    ids: dict[str, Rule] = {}
    stems: dict[str, Rule] = {}
    for rule in list(pack.rules):
        alike, named = ids.setdefault(rule.id, rule), stems.setdefault(rule.stem, rule)
        if alike is not rule:
            message, line, hint = f"the rule's id is that of {alike.path}", rule.line_of("id"), "make a new UUID"
        elif named is not rule:
            message, line = f"the rule has the name of {named.path}", rule.line
            hint = "rules are called by the names of their files: give the file another"
        else:
            continue
        pack.errors.append(RuleError(message, path=rule.path, line=line, hint=hint))
        pack.rules.remove(rule)


def _read(path: Path) -> list[Rule]:
    if path.stat().st_size > LARGEST:
        raise RuleError(f"larger than {LARGEST:,} bytes: no Sigma rule", path=path)
    try:
        text = path.read_text(encoding="utf-8")
        found = [
            _checked(path, document, text, line, f"-{number}" if number > 1 else "")
            for number, (document, line) in enumerate(documents(text, MOST_PARTS), 1)
        ]
    except UnicodeDecodeError as error:
        raise RuleError(f"not UTF-8: {error.reason} at byte {error.start}", path=path) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        raise RuleError(str(problem), path=path, line=line, column=column) from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, KeytrailError):
            raise
        raise RuleError(f"not readable as YAML: {error}", path=path) from error
    if not found:
        raise RuleError("the file is empty", path=path)
    return found


def _checked(path: Path, document: object, text: str, line: int, variant: str) -> Rule:
    """Check one document the way pySigma would, and for what pySigma would pass over."""
    if not isinstance(document, Mapping):
        raise RuleError("a Sigma rule is a mapping", path=path, line=line)
    rule = Rule(path, document, text, line, variant=variant)
    for name, check in _OTHERS.items():
        if name in document:
            return check(rule)
    detection = document.get("detection")
    if not isinstance(detection, Mapping) or "condition" not in detection:
        raise RuleError("no detection with a condition", path=path, line=rule.line_of("detection"))
    try:
        check_document(detection)
        if rule.plain is None:
            conditions = detection["condition"]
            listed = conditions if isinstance(conditions, list) else [conditions]
            check_detections([str(name) for name in detection if name != "condition"], map(str, listed))
            _check_parsed(rule)
    except KeytrailError as error:
        error.path, error.line = str(path), rule.line_of(error.field or "condition")
        raise
    except SigmaConditionError as error:
        said = re.search(r"(found .*?)\s*\(at char (\d+)\)", str(error))
        where = f": {said[1]} at character {int(said[2]) + 1}" if said else f": {error}"
        line = rule.line_of("condition")
        raise RuleError(f"the condition cannot be read{where}", path=path, line=line, hint=_CONDITION) from error
    except SigmaError as error:
        message = str(error.args[0] if error.args else error)
        raise RuleError(message, path=path, line=_line_about(rule, error, message)) from error
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise RuleError(f"not a Sigma rule ({error})", path=path, line=line) from error
    return rule


_CONDITION = "it has names of detections, and, or, not, parentheses, and 1 of or all of a pattern"


def _line_about(rule: Rule, error: SigmaError, message: str) -> int:
    """The line of what pySigma finds wrong: an attribute that its error is named for, or a text that it quotes."""
    attribute = type(error).__name__.removeprefix("Sigma").removesuffix("Error").lower()
    if attribute in rule.document:
        return rule.line_of(attribute)
    start = max(rule.text.find("\ndetection:"), 0)
    places = (rule.text.find(quoted, start) for quoted in re.findall(r"'(.+?)'", message))
    place = next((place for place in places if place >= 0), None)
    return rule.line_of("detection") if place is None else rule.text.count("\n", 0, place) + 1


def _check_parsed(rule: Rule) -> None:
    """What pySigma makes of a rule, how much of it, and whether it can read the conditions."""
    from sigma.rule import SigmaRule

    from keytrail.backend import check_size

    for parsed in rule.collection().rules:
        if isinstance(parsed, SigmaRule):
            check_size(parsed.detection.detections, parsed.detection.condition)
            for condition in parsed.detection.parsed_condition:
                condition.parse(False)


def _refuse_action(rule: Rule) -> Rule:
    raise RuleError("rule collections (action) are not taken", path=rule.path, line=rule.line_of("action"))


def _checked_filter(rule: Rule) -> Rule:
    """Only what pySigma would multiply: :mod:`keytrail.filters` checks the rest."""
    try:
        check_document(found if isinstance(found := rule.document["filter"], Mapping) else {})
    except RuleError as error:
        error.path, error.line = str(rule.path), rule.line_of(error.field or "filter")
        raise
    return rule


def _checked_correlation(rule: Rule) -> Rule:
    try:
        correlation_yaml.read(rule.document)
    except RuleError as error:
        error.path, error.line = str(rule.path), rule.line_of(error.field or "correlation")
        raise
    return rule


# Documents that are no rules about single events, and who checks them.
_OTHERS: dict[str, Callable[[Rule], Rule]] = {
    "action": _refuse_action,
    "filter": _checked_filter,
    "correlation": _checked_correlation,
}
