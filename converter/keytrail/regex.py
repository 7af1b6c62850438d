"""Sigma's regular expressions in the notation of Lucene, which matches whole values and knows no anchors.

What both notations share is translated: literals, classes, groups, alternatives, repetition, anchors at the edges.
Everything else is refused by name. The meaning on Sigma's side is RE2's: ``\\d``, ``\\w`` and ``\\s`` are ASCII, ``.``
excludes the newline, ``$`` is the very end, lazy and greedy repetition match alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Union

from keytrail import automaton
from keytrail.errors import Refused
from keytrail.resolved import Regex

LONGEST = 1000  # Elasticsearch's index.max_regex_length
MOST_REPEATS = 255
DEEPEST = 50
MOST_SHOWN = 60  # of an expression that is refused
_ESCAPED = frozenset('.?+*|{}[]()"\\#@&<>~^$-')
_ESCAPES = str.maketrans({character: "\\" + character for character in _ESCAPED})
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_SHORT = {"d": "0-9", "w": "0-9A-Z_a-z", "s": "\t\n\f\r "}
# RE2 and Unicode fold these two into the ASCII letters; Lucene does not.
_FOLDED = {"k": "\u212a", "s": "\u017f"}


@dataclass(frozen=True)
class _Piece:
    """A part that is already Lucene's notation."""

    text: str


@dataclass(frozen=True)
class _Edge:
    """An anchor: ``^`` or ``$``."""

    sign: str


@dataclass(frozen=True)
class _Group:
    """A group that is not repeated: its alternatives may hold anchors."""

    alternatives: tuple[tuple[_Item, ...], ...]


_PLAIN = re.compile(r"[^\\|()\[\].*+?{}^$]+(?![*+?{])")
_SIMPLE = re.compile(r"[^\\\[\]^-]+(?=])")
_INLINE = "(?i)"  # the modifier i, written into the expression

_Item = Union[_Piece, _Edge, _Group]


@lru_cache(maxsize=4096)
def to_lucene(regex: Regex, excluded: str = "") -> str:
    """Return the Lucene expression that matches a whole value just when ``regex`` is found in it.

    ``excluded`` are characters that the value is known not to have, and that no part of the expression may match: it
    can then stand within a longer expression, where these characters mark the value's ends. Raises :class:`Refused`
    for what Lucene cannot say.
    """
    if regex.multiline and any(sign in regex.pattern for sign in "^$"):
        raise Refused("anchors at every line (the modifier m) have no form in Lucene")
    if regex.ignore_case and not regex.pattern.isascii():
        raise Refused("ignoring the case of non-ASCII letters in a regular expression differs between releases")
    if regex.pattern.startswith(_INLINE):
        return to_lucene(replace(regex, pattern=regex.pattern.removeprefix(_INLINE), ignore_case=True), excluded)
    parser = _Parser(regex, excluded)
    alternatives = _unwrapped(parser.alternatives(0))
    if parser.place < len(parser.text):
        raise parser.refusal("a closing parenthesis without an opening one")
    anything = _negated(excluded) + "*" if excluded else ".*"
    text = _either([_whole(alternative, anything) for alternative in alternatives])
    if len(text) > LONGEST:
        raise Refused(f"the regular expression needs {len(text)} characters; Elasticsearch takes {LONGEST}")
    automaton.check(text)
    return text


def _unwrapped(alternatives: tuple[tuple[_Item, ...], ...]) -> list[tuple[_Item, ...]]:
    """Lay alternatives that are nothing but a group flat, so that anchors inside ``(^a|b$)`` come to the edge."""
    flat: list[tuple[_Item, ...]] = []
    for alternative in alternatives:
        only = alternative[0] if len(alternative) == 1 else None
        flat.extend(_unwrapped(only.alternatives) if isinstance(only, _Group) else [alternative])
    return flat


def _either(alternatives: list[str]) -> str:
    """Alternatives; among several, Lucene reads an empty one as something else unless it stands in parentheses."""
    return alternatives[0] if len(alternatives) == 1 else "|".join(text or "()" for text in alternatives)


def _negated(members: str) -> str:
    return f"[^{literal(members)}]"


def _whole(items: tuple[_Item, ...], anything: str) -> str:
    """One alternative as a match of the whole value."""
    start, end = 0, len(items)
    while start < end and items[start] == _Edge("^"):
        start += 1
    while end > start and items[end - 1] == _Edge("$"):
        end -= 1
    inner = "".join(map(_text, items[start:end]))
    return ("" if start else anything) + inner + ("" if end < len(items) else anything)


def _text(item: _Item) -> str:
    if isinstance(item, _Edge):
        raise Refused(f"the anchor {item.sign} inside a regular expression has no form in Lucene")
    if isinstance(item, _Piece):
        return item.text
    return "(" + _either(["".join(map(_text, items)) for items in item.alternatives]) + ")"


def escape(character: str) -> str:
    """Return a literal character in Lucene's notation."""
    return "\\" + character if character in _ESCAPED else character


def literal(text: str) -> str:
    """Return a text in Lucene's notation."""
    return text.translate(_ESCAPES)


class _Parser:
    """A recursive-descent parser of the shared notation; ``place`` is where it stands in ``text``."""

    def __init__(self, regex: Regex, excluded: str) -> None:
        self.excluded = excluded
        self.text = regex.pattern
        self.place = 0
        self.ignore_case = regex.ignore_case
        self.dotall = regex.dotall

    def refusal(self, what: str) -> Refused:
        shown = self.text if len(self.text) <= MOST_SHOWN else self.text[:MOST_SHOWN] + "\u2026"
        return Refused(f"regular expression {shown!r}: {what}, at character {self.place + 1}")

    def alternatives(self, depth: int) -> tuple[tuple[_Item, ...], ...]:
        if depth > DEEPEST:
            raise self.refusal(f"groups nested more than {DEEPEST} deep")
        found: list[tuple[_Item, ...]] = [self._sequence(depth)]
        while self._take("|"):
            found.append(self._sequence(depth))
        return tuple(found)

    def _sequence(self, depth: int) -> tuple[_Item, ...]:
        items: list[_Item] = []
        while self.place < len(self.text) and self.text[self.place] not in "|)":
            plain = self._plain()
            items.append(_Piece(plain) if plain else self._repeated(self._atom(depth)))
        return tuple(items)

    def _plain(self) -> str:
        """Take the literals that come next, but for one that is repeated; none where one of them is to be refused."""
        found = _PLAIN.match(self.text, self.place)
        if found is None or any(character in found[0] for character in self.excluded):
            return ""
        self.place = found.end()
        return "".join(map(self._literal, found[0])) if self.ignore_case else literal(found[0])

    def _take(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.place):
            self.place += len(wanted)
            return True
        return False

    def _next(self) -> str:
        if self.place >= len(self.text):
            raise self.refusal("it ends too early")
        self.place += 1
        return self.text[self.place - 1]

    def _atom(self, depth: int) -> _Item:
        character = self._next()
        if character in "^$":
            return _Edge(character)
        if character == "(":
            return self._group(depth)
        if character == "[":
            return _Piece(self._class())
        if character == ".":
            members = self.excluded + ("" if self.dotall else "\n")
            return _Piece(_negated(members) if members else ".")
        if character in "*+?":
            raise self.refusal("a repetition of nothing")
        if character == "\\":
            return _Piece(self._escape())
        return _Piece(self._literal(character))

    def _group(self, depth: int) -> _Item:
        if self._take("?"):
            if self._take("i)") and self.place == 4:
                if not self.text.isascii():
                    raise self.refusal("non-ASCII letters whose case is to be ignored")
                self.ignore_case = True
                return _Piece("")
            if not self._take(":"):
                raise self.refusal("lookaround, flags and named groups have no form in Lucene")
        found = self.alternatives(depth + 1)
        if not self._take(")"):
            raise self.refusal("a parenthesis is not closed")
        return _Group(found)

    def _escape(self) -> str:
        character = self._next()
        if character in "wW" and self.ignore_case:
            raise self.refusal(f"\\{character} while case is ignored takes in letters that are not ASCII")
        if character in _SHORT:
            return f"[{_SHORT[character]}]"
        if character.lower() in _SHORT:
            return f"[^{_SHORT[character.lower()]}{literal(self.excluded)}]"
        return self._literal(self._escaped(character))

    def _escaped(self, character: str) -> str:
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "x":
            digits = self.text[self.place : self.place + 2]
            try:
                value = int(digits, 16) if len(digits) == 2 else -1
            except ValueError:
                value = -1
            if value < 0:
                raise self.refusal("\\x needs two hexadecimal digits")
            self.place += 2
            return chr(value)
        if character.isalnum():
            raise self.refusal(f"\\{character} has no form in Lucene")
        return character

    def _literal(self, character: str) -> str:
        self._check(character, character)
        cases = self._cases(character)
        return escape(character) if len(cases) == 1 else "[" + "".join(cases) + "]"

    def _check(self, first: str, last: str) -> None:
        if any(first <= character <= last for character in self.excluded):
            raise self.refusal(f"one of the characters {self.excluded} cannot be told apart here")

    def _cases(self, character: str) -> list[str]:
        if not self.ignore_case or not character.isalpha():
            return [character]
        return sorted({character.lower(), character.upper()} | set(_FOLDED.get(character.lower(), "")))

    def _repeated(self, item: _Item) -> _Item:
        sign = self.text[self.place : self.place + 1]
        if sign not in ("*", "+", "?", "{") or not sign:
            return item
        if isinstance(item, _Edge):
            raise self.refusal("a repeated anchor")
        start = self.place
        self.place += 1
        if sign == "{":
            sign = self._count(start)
        self._take("?")
        if self.text[self.place : self.place + 1] in ("*", "+", "{"):
            raise self.refusal("possessive or doubled repetition")
        text = _text(item)
        return _Piece((text if isinstance(item, _Group) or len(text) <= 2 or text[0] == "[" else f"({text})") + sign)

    def _count(self, start: int) -> str:
        end = self.text.find("}", self.place)
        inside = self.text[self.place : end] if end > 0 else ""
        bounds = inside.split(",")
        if end < 0 or not re.fullmatch(r"[0-9]+(,[0-9]*)?", inside):
            self.place = start
            raise self.refusal("a brace that is not a count; write \\{ for the character")
        if max(int(bound) for bound in bounds if bound) > MOST_REPEATS:
            raise self.refusal(f"a count above {MOST_REPEATS}")
        self.place = end + 1
        return "{" + inside + "}"

    def _class(self) -> str:
        negated = self._take("^")
        excluded, self.excluded = self.excluded, "" if negated else self.excluded
        members = self._simple()
        first = not members
        while first or not self._take("]"):
            first = False
            members += self._member()
        self.excluded = excluded
        return f"[^{members}{literal(excluded)}]" if negated else f"[{members}]"

    def _simple(self) -> str:
        """Take the rest of a class where each character means itself; none where it is not as simple."""
        found = None if self.ignore_case or self.excluded else _SIMPLE.match(self.text, self.place)
        if found is None:
            return ""
        self.place = found.end()
        return literal(found[0])

    def _member(self) -> str:
        character = self._next()
        if character == "[" and self.text[self.place : self.place + 1] in (":", ".", "="):
            raise self.refusal("a POSIX class")
        if character == "\\":
            character = self._next()
            if character == "w" and self.ignore_case:
                raise self.refusal("\\w while case is ignored takes in letters that are not ASCII")
            if character in _SHORT:
                return _SHORT[character]
            if character.lower() in _SHORT:
                raise self.refusal(f"\\{character} inside a class")
            character = self._escaped(character)
        last = self._range_end()
        self._check(character, last or character)
        if last is None:
            return literal("".join(self._cases(character)))
        if last < character:
            raise self.refusal("a range that runs backwards")
        return self._range(character, last)

    def _range_end(self) -> str | None:
        if self.text[self.place : self.place + 1] != "-" or self.text[self.place + 1 : self.place + 2] in ("]", ""):
            return None
        self.place += 1
        character = self._next()
        if character == "\\":
            character = self._next()
            if character.lower() in _SHORT:
                raise self.refusal("a range that ends in a class")
            return self._escaped(character)
        return character

    def _range(self, first: str, last: str) -> str:
        if not self.ignore_case:
            return f"{escape(first)}-{escape(last)}"
        if ord(last) > 127:
            raise self.refusal("a range of non-ASCII letters whose case is to be ignored")
        codes = range(ord(first), ord(last) + 1)
        return "".join(sorted({escape(case) for code in codes for case in self._cases(chr(code))}))
