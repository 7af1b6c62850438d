"""A Sigma rule as every generator reads it: and, or, not over tests of one field, free of Sigma's own notation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Union

import re2

from keytrail.folding import fold


class Wild(Enum):
    """The two wildcards of a Sigma string."""

    MANY = "*"
    ONE = "?"


@dataclass(frozen=True)
class Pattern:
    """A string with wildcards: literal text and wildcards in turn, no two literals side by side."""

    parts: tuple[str | Wild, ...]
    cased: bool = False

    @property
    def literal(self) -> str | None:
        """The text, where there is no wildcard."""
        if not self.parts:
            return ""
        only = self.parts[0]
        return only if len(self.parts) == 1 and isinstance(only, str) else None


@dataclass(frozen=True)
class Number:
    """A number, which a value equals when it is written the same."""

    value: int | float


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    value: bool


@dataclass(frozen=True)
class Exists:
    """The field has a value: ``exists: true``, and turned round by :class:`Not`, ``null``."""


@dataclass(frozen=True)
class Regex:
    """A regular expression of Sigma, found anywhere in the value unless it is anchored."""

    pattern: str
    ignore_case: bool = False
    multiline: bool = False
    dotall: bool = False


@dataclass(frozen=True)
class Cidr:
    """A network that holds the address."""

    network: IPv4Network | IPv6Network


@dataclass(frozen=True)
class Compare:
    """A numeric comparison; ``operator`` is Elasticsearch's and Sigma's own: lt, lte, gt, gte."""

    operator: str
    value: int | float


@dataclass(frozen=True)
class FieldReference:
    """The value of another field (named as in the index), or one that it starts or ends with, or both."""

    field: str
    starts: bool = False
    ends: bool = False


Test = Union[Pattern, Number, Boolean, Exists, Regex, Cidr, Compare, FieldReference]


@dataclass(frozen=True)
class Leaf:
    """One test of one field; ``field`` is the index's name, ``rule_field`` the rule's."""

    field: str
    test: Test
    rule_field: str


@dataclass(frozen=True)
class And:
    """All of them."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """At least one of them."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """It does not hold: whatever lacks the field is meant as well."""

    child: Node


Node = Union[Leaf, And, Or, Not]


def conjunction(children: list[Node]) -> Node:
    """Return the children joined by and, nested ones of the same kind laid flat."""
    flat = [part for child in children for part in (child.children if isinstance(child, And) else (child,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def disjunction(children: list[Node]) -> Node:
    """Return the children joined by or, nested ones of the same kind laid flat."""
    flat = [part for child in children for part in (child.children if isinstance(child, Or) else (child,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def negation(child: Node) -> Node:
    """Return the opposite of ``child``."""
    return child.child if isinstance(child, Not) else Not(child)


def passes(test: Test, value: str) -> bool:
    """Tell whether a string could pass a test of its text or existence; a test of a number or an address, none does."""
    if isinstance(test, (Exists, FieldReference)):
        return True
    if isinstance(test, Boolean):
        return False
    if isinstance(test, Regex):
        flags = "".join(flag for flag, on in (("i", test.ignore_case), ("s", test.dotall)) if on)
        return re2.search(f"(?{flags}){test.pattern}" if flags else test.pattern, value) is not None
    if isinstance(test, Pattern):
        letters = [part if isinstance(part, Wild) else part if test.cased else fold(part) for part in test.parts]
        expression = "".join(
            {Wild.MANY: ".*", Wild.ONE: "."}[part] if isinstance(part, Wild) else re2.escape(part) for part in letters
        )
        return re2.fullmatch(f"(?s){expression}", value if test.cased else fold(value)) is not None
    return False
