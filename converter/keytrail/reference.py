"""What a Sigma rule means: a plain evaluator of the rule's own YAML over a raw CloudTrail record.

It shares nothing with the converter and the engine but the reading of field paths and the folding of case, so that it
can disagree with them. It follows the Sigma specification 2.1 (https://sigmahq.io/sigma-specification/).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import re2

from keytrail.errors import RuleError
from keytrail.folding import fold
from keytrail.paths import Scalar, exists, text, values

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]


def compile_rule(rule: Mapping[str, Any]) -> Predicate:
    """Return a predicate that tells whether a record matches ``rule``, the parsed YAML of one Sigma rule.

    Raises :class:`RuleError` for whatever the rule says that is no Sigma, or that a single record cannot answer.
    """
    detection = dict(rule["detection"])
    conditions = detection.pop("condition")
    parts = _Selections({str(name): value for name, value in detection.items()})
    listed = conditions if isinstance(conditions, list) else [conditions]
    wanted = [_Condition(str(condition), parts).parse() for condition in listed]
    return lambda record: any(predicate(record) for predicate in wanted)


def matches(rule: Mapping[str, Any], record: Record) -> bool:
    """Tell whether ``record`` matches ``rule``."""
    return compile_rule(rule)(record)


# -- the condition ------------------------------------------------------------------------------------------------


class _Selections(dict[str, Any]):
    """The named selections of a rule, evaluated where the condition names them: an unused one cannot do harm."""

    def predicate(self, name: str) -> Predicate:
        return selection(self[name])


class _Condition:
    """A recursive-descent parser of Sigma's conditions: not binds tightest, then and, then or."""

    def __init__(self, condition: str, parts: _Selections) -> None:
        self.tokens = re.findall(r"[()]|[^\s()]+", condition)
        self.parts = parts
        self.place = 0

    def parse(self) -> Predicate:
        predicate = self._either()
        if self.place < len(self.tokens):
            raise RuleError(f"the condition goes on with {self.tokens[self.place]!r} where it should end")
        return predicate

    def _take(self, wanted: str) -> bool:
        if self.place < len(self.tokens) and self.tokens[self.place] == wanted:
            self.place += 1
            return True
        return False

    def _either(self) -> Predicate:
        found = [self._both()]
        while self._take("or"):
            found.append(self._both())
        return found[0] if len(found) == 1 else lambda record: any(part(record) for part in found)

    def _both(self) -> Predicate:
        found = [self._negated()]
        while self._take("and"):
            found.append(self._negated())
        return found[0] if len(found) == 1 else lambda record: all(part(record) for part in found)

    def _negated(self) -> Predicate:
        if self._take("not"):
            inner = self._negated()
            return lambda record: not inner(record)
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise RuleError("a parenthesis in the condition is not closed")
            return inner
        return self._named()

    def _named(self) -> Predicate:
        if self.place >= len(self.tokens):
            raise RuleError("the condition ends too early")
        name = self.tokens[self.place]
        if self.tokens[self.place + 1 : self.place + 2] == ["of"]:
            pattern = "".join(self.tokens[self.place + 2 : self.place + 3])
            self.place += 3
            return self._selector(name, pattern)
        if name not in self.parts:
            raise RuleError(f"the condition names {name!r}, which the rule does not define")
        self.place += 1
        return self.parts.predicate(name)

    def _selector(self, quantifier: str, pattern: str) -> Predicate:
        wanted = re.compile(re.escape("*" if pattern == "them" else pattern).replace(r"\*", ".*"))
        found = [
            self.parts.predicate(name)
            for name in self.parts
            if wanted.fullmatch(name) and (pattern.startswith("_") or not name.startswith("_"))
        ]
        if quantifier not in ("1", "any", "all") or not found:
            raise RuleError(f"'{quantifier} of {pattern}' in the condition selects nothing")
        join = all if quantifier == "all" else any
        return lambda record: join(part(record) for part in found)


# -- selections ---------------------------------------------------------------------------------------------------


def selection(definition: object) -> Predicate:
    """Return the predicate of a named selection: all lines of a mapping, any part of a list of them."""
    if isinstance(definition, Mapping):
        lines = [item(str(key), value) for key, value in definition.items()]
        return lambda record: all(line(record) for line in lines)
    if isinstance(definition, list) and definition and all(isinstance(part, (Mapping, list)) for part in definition):
        parts = [selection(part) for part in definition]
        return lambda record: any(part(record) for part in parts)
    raise RuleError("a value without a field would search everything", hint="name the field that holds it")


def item(key: str, given: object) -> Predicate:
    """One line of a selection: ``field|modifier|modifier: value or list of values``."""
    field, *modifiers = key.split("|")
    wanted: list[Any] = given if isinstance(given, list) else [given]
    if not field or not wanted:
        raise RuleError(f"{key!r} needs a field and a value")
    join = all if "all" in modifiers else any
    tests = [_test(field, [name for name in modifiers if name not in ("all", "neq")], value) for value in wanted]
    if "neq" in modifiers:
        return lambda record: not join(test(record) for test in tests)
    return lambda record: join(test(record) for test in tests)


def _test(field: str, modifiers: Sequence[str], wanted: Any) -> Predicate:
    """One value of a line, as a test of a record."""
    names = list(modifiers)
    if names == ["exists"]:
        return (lambda record: exists(record, field)) if wanted else (lambda record: not exists(record, field))
    if "fieldref" in names:
        return _reference(field, names, str(wanted))
    if wanted is None:
        return lambda record: not exists(record, field)
    if names and names[0] in _COMPARISONS and len(names) == 1:
        return _each(field, partial(_compares, _COMPARISONS[names[0]], wanted))
    if names == ["cidr"]:
        network = ip_network(str(wanted))
        return _each(field, lambda value: _in_network(network, value))
    if names and names[0] == "re":
        return _each(field, _regex(str(wanted), names[1:]))
    if isinstance(wanted, bool) or not isinstance(wanted, str):
        if names:
            raise RuleError(f"{field}|{'|'.join(names)} takes a string, not {wanted!r}")
        return _each(field, lambda value: fold(text(value)) == text(wanted))
    return _string(field, names, wanted)


def _each(field: str, test: Callable[[Scalar], bool]) -> Predicate:
    """Sigma knows no "same element": any value of the field will do."""
    return lambda record: any(test(value) for value in values(record, field))


# -- strings ------------------------------------------------------------------------------------------------------

_WILDCARD = re.compile(r"\\([\\*?])|([*?])", re.DOTALL)


def _tokens(value: str) -> list[str]:
    """Split a Sigma string into characters; the wildcards become the empty-prefixed ``\\0*`` and ``\\0?``."""
    tokens: list[str] = []
    place = 0
    for found in _WILDCARD.finditer(value):
        tokens.extend(value[place : found.start()])
        tokens.append(found[1] or "\0" + found[2])
        place = found.end()
    return tokens + list(value[place:])


def _string(field: str, modifiers: list[str], wanted: str) -> Predicate:
    spellings = [_tokens(wanted)]
    cased = False
    for name in modifiers:
        if name == "cased":
            cased = True
        elif name in _STRING_MODIFIERS:
            spellings = [made for spelling in spellings for made in _STRING_MODIFIERS[name](spelling)]
        else:
            raise RuleError(f"the modifier {name!r} is unknown or does not fit here ({field}|{'|'.join(modifiers)})")
    tests = [_glob(spelling, cased) for spelling in spellings]
    return _each(field, lambda value: any(test(text(value)) for test in tests))


def _glob(tokens: list[str], cased: bool) -> Callable[[str], bool]:
    expression = "".join(
        {"\0*": ".*", "\0?": "."}.get(token) or re2.escape(token if cased else fold(token)) for token in tokens
    )
    compiled = _compiled(expression, dot_nl=True)
    return lambda value: compiled.fullmatch(value if cased else fold(value)) is not None


def _compiled(expression: str, **flags: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    for name, value in flags.items():
        setattr(options, name, value)
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        raise RuleError(f"the expression {expression[:60]!r} is no regular expression: {error}") from error


def _plain(tokens: list[str], name: str) -> str:
    if any(token.startswith("\0") and len(token) == 2 for token in tokens):
        raise RuleError(f"the modifier {name} takes no wildcards")
    return "".join(tokens)


def _base64_offset(tokens: list[str]) -> list[list[str]]:
    """The three ways in which a string can stand inside base64, by its offset from a multiple of three bytes."""
    raw = _plain(tokens, "base64offset").encode()
    found = []
    for offset in range(3):
        encoded = base64.b64encode(b" " * offset + raw).decode()
        start = (0, 2, 3)[offset]
        end = (None, -3, -2)[(len(raw) + offset) % 3]
        found.append(list(encoded[start:end]))
    return found


def _wide(encoding: str, tokens: list[str]) -> list[list[str]]:
    prefix = ["\ufeff"] if encoding == "utf-16" else []
    codec = "utf-16-be" if encoding == "utf-16-be" else "utf-16-le"
    made = [token if token.startswith("\0") and len(token) == 2 else token.encode(codec).decode() for token in tokens]
    return [prefix + [character for token in made for character in ([token] if token in ("\0*", "\0?") else token)]]


def _windash(tokens: list[str]) -> list[list[str]]:
    shown = "".join(token if len(token) == 1 else "*" for token in tokens)
    places = [found.start() for found in re.finditer(r"\B[-/]\b", shown)]
    spellings = [tokens]
    for place in places:
        spellings = [
            [*spelling[:place], dash, *spelling[place + 1 :]]
            for spelling in spellings
            for dash in "-/\u2013\u2014\u2015"
        ]
    return spellings


def _unexpanded(tokens: list[str]) -> list[str]:
    """The string itself: nothing here says what would stand for a placeholder. ``\\%`` is a percent sign."""
    text = "".join(tokens)
    if re.search(r"(?<!\\)%[^%]+%", text):
        raise RuleError("a placeholder has no value here")
    return [token for token, after in zip(tokens, [*tokens[1:], ""], strict=True) if (token, after) != ("\\", "%")]


_STRING_MODIFIERS: dict[str, Callable[[list[str]], list[list[str]]]] = {
    "contains": lambda tokens: [["\0*", *tokens, "\0*"]],
    "startswith": lambda tokens: [[*tokens, "\0*"]],
    "endswith": lambda tokens: [["\0*", *tokens]],
    "base64": lambda tokens: [list(base64.b64encode(_plain(tokens, "base64").encode()).decode())],
    "base64offset": _base64_offset,
    "wide": partial(_wide, "utf-16-le"),
    "utf16be": partial(_wide, "utf-16-be"),
    "utf16": partial(_wide, "utf-16"),
    "windash": _windash,
    "expand": lambda tokens: [_unexpanded(tokens)],
}


# -- everything else ----------------------------------------------------------------------------------------------

_FLAGS = {"i": "i", "ignorecase": "i", "m": "m", "multiline": "m", "s": "s", "dotall": "s"}


def _regex(pattern: str, modifiers: list[str]) -> Callable[[Scalar], bool]:
    unknown = [name for name in modifiers if name not in _FLAGS]
    if unknown:
        raise RuleError(f"the modifier {unknown[0]!r} does not go with re")
    flags = "".join(sorted({_FLAGS[name] for name in modifiers}))
    compiled = _compiled(f"(?{flags}){pattern}" if flags else pattern)
    return lambda value: compiled.search(text(value)) is not None


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)


def _compares(compare: Callable[[float, float], bool], wanted: Any, value: Scalar) -> bool:
    """Numbers compare as numbers, also when they are written as strings."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return False
    return compare(float(value), float(wanted))


def _in_network(network: Any, value: Scalar) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(str(value))
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version == network.version and address in network


def _reference(field: str, modifiers: list[str], other: str) -> Predicate:
    how = set(modifiers) - {"fieldref"}
    if how - {"startswith", "endswith", "contains"}:
        raise RuleError(f"fieldref goes with startswith, endswith and contains only, not {sorted(how)}")

    def matches(record: Record) -> bool:
        pairs = [(fold(text(one)), fold(text(two))) for one in values(record, field) for two in values(record, other)]
        return any(_related(one, two, how) for one, two in pairs)

    return matches


def _related(one: str, two: str, how: set[str]) -> bool:
    if "contains" in how or how == {"startswith", "endswith"}:
        return two in one
    if "startswith" in how:
        return one.startswith(two)
    return one.endswith(two) if "endswith" in how else one == two
