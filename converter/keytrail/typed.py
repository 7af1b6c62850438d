"""The resolved rule, asked of an index with types: which primitive question each test becomes, and on what condition.

Here it is decided whether an index can answer a test at all, and whether the answer is exact. The targets write the
primitives down in their languages; they can refuse one, but not change what it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Union

from keytrail import automaton, regex
from keytrail.errors import Refused
from keytrail.java_map import java_map_expression
from keytrail.mapping import NUMBERS, WHOLE_NUMBERS, FieldType
from keytrail.resolved import (
    And,
    Boolean,
    Cidr,
    Compare,
    Exists,
    FieldReference,
    Leaf,
    Node,
    Not,
    Number,
    Pattern,
    Regex,
    Test,
    Wild,
    passes,
)
from keytrail.schemas import Schema, java
from keytrail.script import CONTAINS, ENDS, EQUALS, STARTS
from keytrail.verdict import Condition, Strays


@dataclass(frozen=True)
class Match:
    """A value of a keyword, or of a key of a flattened field, fits a pattern."""

    field: FieldType
    pattern: Pattern


@dataclass(frozen=True)
class Expression:
    """A value of a keyword fits a Lucene expression as a whole."""

    field: FieldType
    lucene: str


@dataclass(frozen=True)
class Has:
    """The index holds a value of the field, which may be an object; ``below``: of one that lies in it."""

    name: str
    below: bool = False


@dataclass(frozen=True)
class Ignored:
    """The document has a value of the field that the index did not take: too long, or malformed; ``below`` as above."""

    name: str
    below: bool = False


@dataclass(frozen=True)
class Equals:
    """A number, a truth value or an address is this one."""

    field: FieldType
    value: int | float | bool | str


@dataclass(frozen=True)
class Within:
    """An address lies in a network."""

    field: FieldType
    network: IPv4Network | IPv6Network


@dataclass(frozen=True)
class Bounded:
    """A number is lt, lte, gt or gte a bound."""

    field: FieldType
    operator: str
    bound: int | float


@dataclass(frozen=True)
class Related:
    """A value of a field ``equals``, ``starts`` with, ``ends`` with or ``contains`` a value of another, in any case."""

    field: FieldType
    other: FieldType
    how: str


@dataclass(frozen=True)
class Nothing:
    """No document."""


@dataclass(frozen=True)
class AllOf:
    """All of them."""

    children: tuple[Typed, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one of them."""

    children: tuple[Typed, ...]


@dataclass(frozen=True)
class NoneOf:
    """Not this: documents without the field are meant as well."""

    child: Typed


Primitive = Union[Match, Expression, Has, Ignored, Equals, Within, Bounded, Related, Nothing]
Typed = Union[Primitive, AllOf, AnyOf, NoneOf]
Answer = tuple[Typed, tuple[Condition, ...]]


def typed(node: Node, schema: Schema, *, negated: bool = False, folds_keys: bool = True) -> Answer:
    """Return the questions that ``node`` becomes under ``schema``, and the conditions under which they are exact.

    ``folds_keys`` says that the target, ignoring the case of a flattened value, ignores that of its key as well.
    Raises :class:`Refused` where the index cannot answer, and :class:`UnmappedField` where it has no such field.
    """
    if isinstance(node, Leaf):
        return _leaf(node, schema, negated=negated, folds_keys=folds_keys)
    if isinstance(node, Not):
        inner, conditions = typed(node.child, schema, negated=not negated, folds_keys=folds_keys)
        return (inner.child if isinstance(inner, NoneOf) else NoneOf(inner)), conditions
    answers = [typed(child, schema, negated=negated, folds_keys=folds_keys) for child in node.children]
    children = tuple(question for question, _ in answers)
    conditions = tuple(condition for _, found in answers for condition in found)
    return (AllOf if isinstance(node, And) else AnyOf)(children), conditions


def _check_name(leaf: Leaf) -> None:
    """A name that Elasticsearch, or our own index, would take for other fields."""
    parts = leaf.rule_field.split(".")
    if "*" in leaf.field or "" in parts or {"_", "_value"} & set(parts):
        raise Refused(f"{leaf.rule_field!r} cannot be a field's name here", field=leaf.rule_field)


def _leaf(leaf: Leaf, schema: Schema, *, negated: bool, folds_keys: bool) -> Answer:
    _check_name(leaf)
    found = schema.field(leaf.field)
    if found is None:
        if isinstance(leaf.test, Exists) and schema.mapping.is_object(leaf.field):
            question: Typed = AnyOf((Has(leaf.field), Ignored(leaf.field, below=True)))
            conditions = _object_conditions(leaf, schema)
        else:
            raise _unusable(leaf, schema)
    else:
        question, conditions = _Asker(found, schema, leaf.rule_field, folds_keys).ask(leaf.test)
    if negated:
        conditions = tuple(_turned(condition, leaf) for condition in conditions)
    return question, conditions


def _object_conditions(leaf: Leaf, schema: Schema) -> tuple[Condition, ...]:
    """When an object that an event has is in the index as well."""

    def condition(kind: str, text: str) -> Condition:
        name = leaf.rule_field
        return Condition(kind, name, leaf.field, f"{name} {text}", _breaker(name), Strays.MISSES)

    found: list[Condition] = []
    inside = [part.type for name, part in schema.mapping.known().items() if name.startswith(f"{leaf.field}.")]
    if schema.dropped:
        shown = ", ".join(map(repr, sorted(schema.dropped)))
        found.append(condition("kept", f"never holds {shown} ({schema.name} does not keep those)"))
    if NUMBERS.intersection(inside):
        found.append(condition("not_empty", "never holds an empty string (the index takes it for no number)"))
    if not schema.mapping.learns(leaf.field):
        found.append(condition("known_keys", "holds a key that the mapping lists, whenever it is there"))
    return tuple(found)


def in_java_map(found: FieldType, test: Pattern, schema: Schema, *, negated: bool) -> Answer:
    """Return how to ask for a key of a flattened field in the string of its map: for targets that cannot ask the key.

    Raises :class:`Refused` where that string cannot answer.
    """
    leaf = Leaf(found.name, test, schema.rule_name(found.name))
    question, conditions = _Asker(found, schema, leaf.rule_field).in_java_map(test)
    if negated:
        conditions = tuple(_turned(condition, leaf) for condition in conditions)
    return question, conditions


def _turned(condition: Condition, leaf: Leaf) -> Condition:
    """The condition of a leaf under ``not``: what the leaf would add, its negation would miss, and that is refused."""
    if condition.kind == "scripts":
        return condition  # without scripts the whole search fails, and finds nothing
    if condition.strays is not Strays.MISSES:
        what = f"under 'not' the query would miss events unless {condition.text}"
        raise Refused(f"{leaf.rule_field}: {what}", field=leaf.rule_field)
    return replace(condition, strays=condition.strays.negated())


def _unusable(leaf: Leaf, schema: Schema) -> Exception:
    name = leaf.rule_field
    if schema.mapping.is_object(leaf.field):
        return Refused(f"{name} is an object in schema {schema.name}: it has no value of its own", field=name)
    return schema.absent(leaf.field, name)


BY_AWS = "AWS writes this value"
_CHOSEN = ("requestParameters", "userAgent", "tlsDetails.clientProvidedHostHeader", "additionalEventData")
_NAMED = ("arn", "userName", "principalId", "sourceIdentity")


def _breaker(rule_field: str) -> str:
    """Who chooses the values of a field, and could break a condition on them."""
    if rule_field.startswith(_CHOSEN):
        return "whoever makes the call chooses this value"
    if rule_field.startswith("userIdentity") and rule_field.endswith(_NAMED):
        return "whoever names the principal or the session chooses a part of this value"
    return BY_AWS


def _is_anything(pattern: Pattern) -> bool:
    return bool(pattern.parts) and all(part is Wild.MANY for part in pattern.parts)


class _Asker:
    """Turns a test of one field into primitives."""

    def __init__(self, found: FieldType, schema: Schema, rule_field: str, folds_keys: bool = True) -> None:
        self.folds_keys = folds_keys
        self.field = found
        self.schema = schema
        self.rule_field = rule_field

    def ask(self, test: Test) -> Answer:
        askers: dict[type, Callable[[Any], Answer]] = {
            Exists: self._exists,
            Pattern: self._pattern,
            Number: self._number,
            Boolean: self._boolean,
            Regex: self._regex,
            Cidr: self._cidr,
            Compare: self._compare,
            FieldReference: self._reference,
        }
        if self.field.problem is not None:
            raise self._refusal(*self.field.problem)
        question, conditions = askers[type(test)](test)
        return question, (*conditions, *self._placed(question, test))

    def _placed(self, question: Typed, test: Test) -> tuple[Condition, ...]:
        """What must be so of the field, whatever is asked of its values."""
        placed = (*self._first_value(test), *self._copied(question), *self._shared(), *self._learnt())
        return (*placed, *self._dropped(test), *self._kept_whole(question))

    def _refusal(self, what: str, hint: str | None = None) -> Refused:
        name = self.rule_field
        kind = "key of a flattened field" if self.field.root else self.field.type
        return Refused(f"{name} ({self.field.name}, {kind}): {what}", field=name, hint=hint)

    def _condition(self, kind: str, text: str, strays: Strays, limit: int | None = None) -> Condition:
        name = self.rule_field
        return Condition(kind, name, self.field.name, f"{name} {text}", _breaker(name), strays, limit)

    def _first_value(self, test: Test) -> tuple[Condition, ...]:
        """A field that the index makes has the type of its first value; to exist, any will do."""
        if not self.field.uncertain or isinstance(test, Exists):
            return ()
        literal = test.literal if isinstance(test, Pattern) else None
        if not isinstance(test, (Pattern, Regex, FieldReference)) or (
            literal is not None and not is_plain_text(literal)
        ):
            what = "whether it is a text, a number, a truth value or a date is decided by the first event that has it"
            raise self._refusal(what, "map the field")
        text = "was a text, and none that looks like a date, in the first event that had it"
        # A script sees the number that became of a text; no other test takes one for the other.
        strays = Strays.BOTH if isinstance(test, FieldReference) else Strays.MISSES
        return (self._condition("first_value", text, strays),)

    def _copied(self, question: Typed) -> tuple[Condition, ...]:
        """A copy that a site's own pipeline makes is there from the day of that pipeline on, and not of an object."""
        if self.field.name not in self.schema.copies or question == Nothing():
            return ()
        text = "the site's own pipeline has copied the field (older documents have no copies, nor has an object)"
        who = "nobody but the site, which may lack the pipeline"
        return (Condition("copied", self.rule_field, self.field.name, text, who, Strays.MISSES),)

    def _shared(self) -> tuple[Condition, ...]:
        """The field's place in the index holds something else in some events."""
        found = self.schema.shared.get(self.rule_field)
        return () if found is None else (self._condition("own_place", found[0], Strays.BOTH),)

    def _dropped(self, test: Test) -> tuple[Condition, ...]:
        """Some values are not kept at all, and a test that one of them passes then fails."""
        lost = sorted(value for value in self.schema.dropped if passes(test, value))
        if not lost:
            return ()
        if isinstance(test, Pattern) and test.literal is not None:
            raise self._refusal(f"schema {self.schema.name} does not keep the value {test.literal!r}")
        shown = ", ".join(map(repr, lost))
        return (self._condition("kept", f"is never {shown} ({self.schema.name} does not keep those)", Strays.MISSES),)

    def _kept_whole(self, question: Typed) -> tuple[Condition, ...]:
        """A flattened field is left out when the object is too large, and every test of a key then fails."""
        root = self.field.root or self.schema.copies.get(self.field.name) or self.field.name
        limit = self.schema.size_limits.get(root)
        if limit is None or question == Nothing():
            return ()
        parent = self.schema.rule_name(root)
        text = f"{parent} prints as fewer than {limit:,} characters (the index leaves it out otherwise)"
        return (Condition("kept_whole", parent, root, text, _breaker(parent), Strays.MISSES, limit),)

    def _learnt(self) -> tuple[Condition, ...]:
        """An index that is full of fields takes no new ones, and a caller can invent keys until it is."""
        if not self.field.dynamic or self.schema.taken is not None:
            return ()
        text = "is a field that the index has learnt (it takes only so many, and callers can invent keys)"
        return (self._condition("learnt", text, Strays.MISSES),)

    def _one_spelling(self, test: Pattern) -> tuple[Condition, ...]:
        """Ignoring the case of a value, Elasticsearch ignores that of its key in the flattened field as well."""
        letters = any(part.lower() != part.upper() for part in test.parts if isinstance(part, str))
        if not self.folds_keys or self.field.root is None or test.cased or not letters:
            return ()
        text = "has no neighbour whose name differs in case alone"
        return (self._condition("one_spelling", text, Strays.ADDS),)

    def _too_long(self) -> tuple[Condition, ...]:
        limit = self.field.ignore_above
        whole = self.schema.size_limits.get(self.schema.copies.get(self.field.name, ""))
        if limit is None or (whole is not None and whole <= limit):
            return ()
        text = f"is never longer than {limit:,} characters (the index does not search those)"
        return (self._condition("not_longer", text, Strays.MISSES, limit),)

    # -- existence ----------------------------------------------------------------------------------------------

    def _exists(self, _: Exists) -> Answer:
        """A value lies there or below."""
        found, conditions = self._valued()
        if self.field.root is not None:
            text = "is never an object (the index asks for a key's own values alone)"
            return found, (*conditions, self._condition("no_object", text, Strays.MISSES))
        name = self.field.name
        if self.field.type != "flattened" and (self.field.dynamic or self.schema.mapping.has_beside(name)):
            # What is a value in one event can be an object in another.
            found = AnyOf((found, Has(name, below=True), Ignored(name, below=True)))
            if not self.schema.mapping.learns(name):
                text = "is never an object (the index keeps no new fields)"
                conditions = (*conditions, self._condition("no_object", text, Strays.MISSES))
        return found, conditions

    def _valued(self) -> Answer:
        """A value lies there."""
        name = self.field.name
        if self.field.type == "flattened":
            return Has(name), self._too_long()
        if self.field.type == "text":
            return self._text_exists(), ()
        # A value that the index does not take exists all the same: its field's name is in _ignored.
        found = AnyOf((Has(name), Ignored(name)))
        if self.field.type in NUMBERS:
            text = "is never an empty string (the index takes it for no value)"
            return found, (self._condition("not_empty", text, Strays.MISSES),)
        return found, ()

    def _text_exists(self) -> Typed:
        """An empty string has no words, and exists surely for a keyword sibling alone."""
        sibling = self.schema.companion(self.field, "keyword")
        if sibling is None:
            return Has(self.field.name)
        return AnyOf((Has(self.field.name), Has(sibling.name), Ignored(sibling.name)))

    # -- strings ------------------------------------------------------------------------------------------------

    def _pattern(self, test: Pattern) -> Answer:
        kind = self.field.type
        if kind in ("keyword", "flattened"):
            return self._keyword(test)
        if kind == "text":
            return self._sibling().ask(test)
        if kind == "boolean":
            return self._truth(test)
        if test.literal is None:
            raise self._refusal(f"a wildcard has no meaning on type {kind}", "map the field as keyword")
        if kind in NUMBERS:
            return self._numeric_literal(test.literal)
        if kind == "ip":
            return self._address_literal(test.literal)
        raise self._refusal(f"a string cannot be compared with type {kind}", "map the field as keyword")

    def _sibling(self) -> _Asker:
        sibling = self.schema.companion(self.field, "keyword")
        if sibling is None:
            hint = "add a keyword sub-field"
            raise self._refusal("the index holds words, not the value: nothing but existence can be asked", hint)
        return _Asker(replace(sibling, uncertain=False), self.schema, self.rule_field)

    def _keyword(self, test: Pattern) -> Answer:
        literal = test.literal
        if self.field.type == "flattened" and self.field.root is None:
            raise self._refusal("it holds an object, which has no value of its own", "name one of its keys")
        if _is_anything(test):
            return self._valued()
        limit = self.field.ignore_above
        if limit is not None and sum(java.length(part) for part in test.parts if isinstance(part, str)) > limit:
            raise self._refusal(f"the value is longer than the {limit:,} characters that the index keeps")
        if self.field.normalizer is not None:
            return Match(self.field, test), (*self._lowered(test), *(() if literal is not None else self._too_long()))
        if literal is not None:
            return Match(self.field, test), self._one_spelling(test)
        if self.field.root is not None and not (isinstance(test.parts[0], str) and test.parts[1:] == (Wild.MANY,)):
            return self.in_java_map(test)
        if Wild.ONE in test.parts:
            wild = {Wild.MANY: ".*", Wild.ONE: "."}
            letters = (wild[part] if isinstance(part, Wild) else regex.literal(part) for part in test.parts)
            automaton.check("".join(letters))
        return Match(self.field, test), (*self._too_long(), *self._one_spelling(test))

    def _lowered(self, test: Pattern) -> tuple[Condition, ...]:
        """A lower-case normalizer makes ``k`` of the Kelvin sign and ``i`` of the dotted capital I."""
        if self.field.normalizer != "lowercase":
            raise self._refusal(f"what the normalizer {self.field.normalizer!r} makes of a value is not known here")
        if test.cased:
            raise self._refusal("the normalizer has made all letters small, so case cannot be asked")
        text = "never has the letters \u212a (Kelvin sign) or \u0130"
        return (self._condition("plain_case", text, Strays.ADDS),)

    def in_java_map(self, test: Pattern | Regex) -> Answer:
        """Ask for a key of a flattened field in the string that Java prints for the map."""
        root = self.field.root or self.field.name
        whole = self.schema.java_maps.get(root)
        keyword = None if whole is None else self.schema.field(whole)
        if keyword is None or self.field.root is None:
            raise self._refusal("only whole values, beginnings and existence can be asked", "map it as keyword")
        expression = java_map_expression(test, self.field.name[len(root) + 1 :], keyword.name)
        parent = self.schema.rule_name(root)
        plain = f"{parent} is plain: no comma, brace or bracket inside, objects two deep at most, no list of objects"
        conditions = [Condition("plain_map", parent, root, plain, _breaker(parent), Strays.BOTH)]
        if keyword.ignore_above is not None:
            text = f"{parent} prints as at most {keyword.ignore_above:,} characters"
            strays, limit = Strays.MISSES, keyword.ignore_above
            conditions.append(Condition("map_not_longer", parent, root, text, _breaker(parent), strays, limit))
        return Expression(keyword, expression), tuple(conditions)

    def _regex(self, test: Regex) -> Answer:
        if self.field.type == "text":
            return self._sibling().ask(test)
        if self.field.type == "flattened":
            return self.in_java_map(test)
        if self.field.type == "keyword" and self.field.normalizer is None:
            return Expression(self.field, regex.to_lucene(test)), self._too_long()
        raise self._refusal("a regular expression needs a keyword field without a normalizer")

    def _reference(self, test: FieldReference) -> Answer:
        """Two fields are compared by a script, which reads what the index holds of each."""
        leaf = Leaf(test.field, test, self.schema.rule_name(test.field))
        _check_name(leaf)
        found = self.schema.field(test.field)
        if found is None:
            raise _unusable(leaf, self.schema)
        asker = _Asker(found, self.schema, leaf.rule_field)
        first, conditions = self._scripted()
        second, more = asker._scripted()
        how = {(True, True): CONTAINS, (True, False): STARTS, (False, True): ENDS}.get((test.starts, test.ends), EQUALS)
        question = Related(first, second, how)
        text = "the cluster runs painless scripts given in a query (it refuses the query otherwise)"
        who = "nobody but whoever runs the cluster: script.allowed_types, search.allow_expensive_queries"
        runs = Condition("scripts", self.rule_field, self.field.name, text, who, Strays.MISSES)
        return question, (*conditions, *more, *asker._placed(question, test), runs)

    def _scripted(self) -> tuple[FieldType, tuple[Condition, ...]]:
        """The field that a script reads for this one, and when its values are what was written."""
        field = self.field
        if field.problem is not None:
            raise self._refusal(*field.problem)
        if field.type == "text":
            return self._sibling()._scripted()
        if field.type == "flattened":
            what = "a script's view of a key of a flattened field is proven on no server"
            raise self._refusal(what if field.root else "it holds an object, which has no value of its own")
        if not field.scripted:
            raise self._refusal("a script cannot read its values as they were written", "map it as keyword")
        if field.type in NUMBERS:
            return field, self._plain_numbers()
        if field.type == "boolean":
            return field, self._plain_truths()
        if field.type == "ip":
            return field, self._plain_addresses()
        lowered = () if field.normalizer is None else self._lowered(Pattern(()))
        both = tuple(replace(condition, strays=Strays.BOTH) for condition in lowered)
        return field, (*both, *self._too_long())

    # -- numbers, truth values, addresses -----------------------------------------------------------------------

    def _plain_numbers(self) -> tuple[Condition, ...]:
        whole = self.field.type in WHOLE_NUMBERS
        text = f"is always a {'whole ' * whole}number written plainly (7, not 7.0, 007 or 7e0; at most 15 digits)"
        return (self._condition("whole_number" if whole else "plain_number", text, Strays.BOTH),)

    def _number(self, test: Number) -> Answer:
        if self.field.type in NUMBERS:
            return self._numeric_literal(repr(test.value))
        return self._pattern(Pattern((repr(test.value),), cased=True))

    def _numeric_literal(self, literal: str) -> Answer:
        if not is_plain_number(literal):
            return Nothing(), self._plain_numbers()
        value = float(literal) if "." in literal else int(literal)
        if self.field.type in WHOLE_NUMBERS and isinstance(value, float):
            return Nothing(), self._plain_numbers()
        return Equals(self.field, value), self._plain_numbers()

    def _boolean(self, test: Boolean) -> Answer:
        return self._pattern(Pattern(("true" if test.value else "false",)))

    def _truth(self, test: Pattern) -> Answer:
        if test.literal is None:
            if _is_anything(test):
                return self._valued()
            raise self._refusal("a wildcard has no meaning on true and false", "map the field as keyword")
        literal = test.literal if test.cased else test.literal.lower()
        conditions = self._plain_truths()
        if literal not in ("true", "false"):
            return Nothing(), conditions
        return Equals(self.field, literal == "true"), conditions

    def _plain_truths(self) -> tuple[Condition, ...]:
        text = "is always true or false (the index reads an empty string as false)"
        return (self._condition("plain_truth", text, Strays.BOTH),)

    def _address_literal(self, literal: str) -> Answer:
        return (Equals(self.field, literal) if is_plain_address(literal) else Nothing()), self._plain_addresses()

    def _plain_addresses(self) -> tuple[Condition, ...]:
        text = "is always an address in its shortest form (not ::ffff:10.0.0.1)"
        return (self._condition("plain_address", text, Strays.BOTH),)

    def _cidr(self, test: Cidr) -> Answer:
        address = self.field if self.field.type == "ip" else self.schema.companion(self.field, "ip")
        if address is None:
            raise self._refusal("a network needs an address", "map the field as ip, or add an ip sub-field")
        found: list[Typed] = [Within(address, network) for network in _without_ipv4(test.network)]
        return (found[0] if len(found) == 1 else AnyOf(tuple(found)) if found else Nothing()), ()

    def _compare(self, test: Compare) -> Answer:
        found: FieldType | None = self.field
        if self.field.type not in NUMBERS:
            found = next(filter(None, (self.schema.companion(self.field, kind) for kind in sorted(NUMBERS))), None)
        if found is None:
            raise self._refusal("its values would be compared as text", "add a numeric sub-field (double)")
        return Bounded(found, test.operator, test.value), self._plain_numbers()


def always(schema: Schema) -> tuple[Condition, ...]:
    """Return the conditions of every query under ``schema``: what it takes for an event to be in the index at all."""
    if schema.taken is None:
        return ()
    who = "whoever makes the call chooses keys and values of its parameters"
    return (Condition("taken", "*", schema.index, schema.taken[0], who, Strays.MISSES),)


def _without_ipv4(network: IPv4Network | IPv6Network) -> list[IPv4Network | IPv6Network]:
    """The network in parts that hold no IPv4 addresses, which the index keeps as ::ffff:0:0/96 of IPv6."""
    ipv4 = IPv6Network("::ffff:0:0/96")
    if isinstance(network, IPv4Network) or not network.overlaps(ipv4):
        return [network]
    return [] if network.subnet_of(ipv4) else sorted(network.address_exclude(ipv4))


def is_plain_text(value: str) -> bool:
    """Tell whether the index, by its defaults, takes a string for a text: not for a date, as it does 2026-11-20."""
    return value not in ("true", "false") and not _NUMBER.fullmatch(value) and not _DATE.match(value)


_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")
_DATE = re.compile(r"[-+]?\d{4}(-\d\d|/\d\d/\d\d|T)")


def is_plain_number(literal: str) -> bool:
    """Tell whether a number is written as JSON writes it in the fewest characters, with at most 15 digits."""
    whole, dot, fraction = literal.removeprefix("-").partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and whole) or len(digits) > 15 or literal in ("-0", "-"):
        return False
    return (whole == "0" or whole[0] != "0") and (not dot or (fraction != "" and fraction[-1] != "0"))


def is_plain_address(literal: str) -> bool:
    """Tell whether an address is written in its shortest form; case does not matter."""
    try:
        address = ip_address(literal)
    except ValueError:
        return False
    return str(address) == literal.lower() and getattr(address, "ipv4_mapped", None) is None
