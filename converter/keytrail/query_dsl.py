"""Elasticsearch Query DSL for a resolved rule: native leaves chosen by each field's type, and the verdict on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import product
from typing import Any

from keytrail import folding, regex
from keytrail.errors import Refused, UnmappedField
from keytrail.java_map import java_map_query
from keytrail.mapping import NUMBERS, FieldType
from keytrail.resolved import (
    Boolean,
    Cidr,
    Compare,
    Exists,
    FieldReference,
    Leaf,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Regex,
    Test,
    Wild,
)
from keytrail.schemas import Schema
from keytrail.verdict import Condition, Query, Strays

Dsl = dict[str, Any]
NOTHING: Dsl = {"match_none": {}}
MOST_CLAUSES = 4096
MOST_DEPTH = 30  # indices.query.bool.max_nested_depth
MOST_CASES = 16


@dataclass(frozen=True)
class Part:
    """A piece of a query and the conditions under which it is exact."""

    dsl: Dsl
    conditions: tuple[Condition, ...] = ()


def generate(node: Node, schema: Schema) -> Query:
    """Return the search body for ``node`` under ``schema``; raises :class:`Refused` where no query means the same."""
    part = _part(node, schema, negated=False)
    dsl = part.dsl if "bool" in part.dsl else {"bool": {"filter": [part.dsl]}}
    clauses, depth = _size(dsl)
    if clauses > MOST_CLAUSES:
        raise Refused(f"the rule needs {clauses} clauses; {MOST_CLAUSES} is what a node surely takes")
    if depth > MOST_DEPTH:
        raise Refused(f"the rule nests {depth} boolean queries; Elasticsearch takes {MOST_DEPTH}")
    return Query({"query": dsl}, tuple(dict.fromkeys(part.conditions)))


def _size(dsl: Dsl) -> tuple[int, int]:
    """Count the leaves of a query, and how deep its boolean queries nest."""
    inner = dsl.get("bool")
    if inner is None:
        return 1, 0
    parts = [_size(part) for key in ("filter", "should", "must_not") for part in inner.get(key, ())]
    return sum(clauses for clauses, _ in parts), 1 + max(depth for _, depth in parts)


def _part(node: Node, schema: Schema, *, negated: bool) -> Part:
    if isinstance(node, Leaf):
        return _leaf(node, schema, negated=negated)
    if isinstance(node, Not):
        inner = _part(node.child, schema, negated=not negated)
        return Part({"bool": {"must_not": [inner.dsl]}}, inner.conditions)
    parts = [_part(child, schema, negated=negated) for child in node.children]
    conditions = tuple(condition for part in parts for condition in part.conditions)
    if isinstance(node, Or):
        return Part({"bool": {"should": [part.dsl for part in parts], "minimum_should_match": 1}}, conditions)
    return Part(_all([part.dsl for part in parts]), conditions)


def _all(parts: list[Dsl]) -> Dsl:
    """A bool that says all of ``parts``; what they exclude is said beside what they ask for."""
    asked = [part for part in parts if set(part.get("bool", ())) != {"must_not"}]
    excluded = [part["bool"]["must_not"] for part in parts if part not in asked]
    found: Dsl = {"filter": asked} if asked else {}
    if excluded:
        found["must_not"] = [clause for clauses in excluded for clause in clauses]
    return {"bool": found}


def _leaf(leaf: Leaf, schema: Schema, *, negated: bool) -> Part:
    found = schema.field(leaf.field)
    if found is None:
        if isinstance(leaf.test, Exists) and schema.mapping.is_object(leaf.field):
            return Part({"exists": {"field": leaf.field}}, _empty(schema, leaf.field))
        raise _unusable(leaf, schema)
    made = _Compiler(found, schema)(leaf.test)
    if not negated:
        return made
    conditions = tuple(_turned(condition, leaf) for condition in made.conditions)
    return Part(made.dsl, conditions)


def _turned(condition: Condition, leaf: Leaf) -> Condition:
    """The condition of a leaf under ``not``: what the leaf would add, its negation would miss, and that is refused."""
    turned = condition.strays.negated()
    if condition.strays is not Strays.MISSES:
        raise Refused(
            f"{leaf.field}: under 'not' the query would miss events unless {condition.text}", field=leaf.field
        )
    return Condition(condition.kind, condition.field, condition.text, condition.breaker, turned, condition.limit)


def _unusable(leaf: Leaf, schema: Schema) -> Exception:
    name = schema.rule_name(leaf.field)
    if schema.mapping.is_object(leaf.field):
        return Refused(f"{name} is an object in schema {schema.name}: it has no value of its own", field=leaf.field)
    return UnmappedField(f"schema {schema.name} has no field {leaf.field!r} (the rule's {name!r})", field=leaf.field)


def _breaker(rule_field: str) -> str:
    """Who chooses the values of a field, and could break a condition on them."""
    if rule_field.startswith(("requestParameters", "userAgent", "tlsDetails.clientProvidedHostHeader")):
        return "whoever makes the call chooses this value"
    if rule_field.startswith("userIdentity"):
        return "whoever names the principal or the session chooses a part of this value"
    return "AWS writes this value"


def _empty(schema: Schema, index_field: str) -> tuple[Condition, ...]:
    if not schema.drops_empty:
        return ()
    name = schema.rule_name(index_field)
    text = f"no value of {name} is an empty string (schema {schema.name} does not keep those)"
    return (Condition("not_empty", index_field, text, _breaker(name), Strays.MISSES),)


class _Compiler:
    """Makes the query for a test of one field."""

    def __init__(self, found: FieldType, schema: Schema) -> None:
        self.field = found
        self.schema = schema

    def __call__(self, test: Test) -> Part:
        makers: dict[type, Callable[[Any], Part]] = {
            Exists: self._exists,
            Pattern: self._pattern,
            Number: self._number,
            Boolean: self._boolean,
            Regex: self._regex,
            Cidr: self._cidr,
            Compare: self._compare,
            FieldReference: self._reference,
        }
        made = makers[type(test)](test)
        return Part(made.dsl, (*made.conditions, *self._kept_whole(made.dsl)))

    def _refusal(self, what: str, hint: str | None = None) -> Refused:
        name = self.schema.rule_name(self.field.name)
        kind = "key of a flattened field" if self.field.root else self.field.type
        return Refused(f"{name} ({self.field.name}, {kind}): {what}", field=self.field.name, hint=hint)

    def _condition(self, kind: str, text: str, strays: Strays, limit: int | None = None) -> Condition:
        name = self.schema.rule_name(self.field.name)
        return Condition(kind, self.field.name, text.format(name=name), _breaker(name), strays, limit)

    def _kept_whole(self, dsl: Dsl) -> tuple[Condition, ...]:
        """A flattened field is left out when the object is too large, and every test of a key then fails."""
        limit = self.schema.size_limits.get(self.field.root or self.field.name)
        if limit is None or dsl == NOTHING:
            return ()
        parent = self.schema.rule_name(self.field.root or self.field.name).rstrip(".")
        text = f"{parent} is shorter than {limit:,} characters of JSON (the index leaves it out otherwise)"
        breaker = _breaker(parent)
        return (Condition("kept_whole", self.field.root or self.field.name, text, breaker, Strays.MISSES, limit),)

    def _too_long(self) -> tuple[Condition, ...]:
        limit = self.field.ignore_above
        if limit is None:
            return ()
        text = f"no value of {{name}} is longer than {limit:,} characters (the index does not search those)"
        return (self._condition("not_longer", text, Strays.MISSES, limit),)

    # -- existence ----------------------------------------------------------------------------------------------

    def _exists(self, _: Exists) -> Part:
        dsl: Dsl = {"exists": {"field": self.field.name}}
        conditions = _empty(self.schema, self.field.name)
        if self.field.root is not None:
            return Part(dsl, (*conditions, *self._too_long()))
        if self.field.ignore_above is not None:
            # A value too long for the index exists all the same: Elasticsearch notes the field's name in _ignored.
            ignored: Dsl = {"term": {"_ignored": {"value": self.field.name}}}
            dsl = {"bool": {"should": [dsl, ignored], "minimum_should_match": 1}}
        return Part(dsl, conditions)

    # -- strings ------------------------------------------------------------------------------------------------

    def _pattern(self, test: Pattern) -> Part:
        kind = self.field.type
        if kind == "keyword":
            return self._keyword(test)
        if kind == "flattened":
            return self._flattened(test)
        if kind == "boolean":
            return self._boolean_pattern(test)
        if kind == "text":
            return self._sibling(test)
        if test.literal is None:
            raise self._refusal(f"a wildcard has no meaning on type {kind}", "map the field as keyword")
        if kind in NUMBERS:
            return self._numeric_literal(test.literal)
        if kind == "ip":
            return self._address_literal(test.literal)
        raise self._refusal(f"a string cannot be compared with type {kind}", "map the field as keyword")

    def _sibling(self, test: Test) -> Part:
        sibling = self.schema.companion(self.field, "keyword")
        if sibling is None:
            raise self._refusal(
                "the index holds words, not the value: nothing but existence can be asked", "add a keyword sub-field"
            )
        return _Compiler(sibling, self.schema)(test)

    def _keyword(self, test: Pattern) -> Part:
        if self.field.normalizer is not None:
            raise self._refusal(f"what the normalizer {self.field.normalizer!r} makes of a value is not known here")
        literal = test.literal
        if literal is not None:
            return Part(self._cases(test, partial(self._term, cased=test.cased)))
        if all(part is Wild.MANY for part in test.parts):
            return self._exists(Exists())
        dsl = self._cases(test, partial(self._wildcard, cased=test.cased))
        return Part(dsl, self._too_long())

    def _flattened(self, test: Pattern) -> Part:
        if test.literal is not None:
            return Part(self._cases(test, partial(self._term, cased=test.cased)))
        if all(part is Wild.MANY for part in test.parts):
            return self._exists(Exists())
        if test.parts[1:] == (Wild.MANY,):
            return Part(self._cases(test, partial(self._wildcard, cased=test.cased)), self._too_long())
        return self._java_map(test)

    def _java_map(self, test: Test) -> Part:
        root = self.field.root or self.field.name
        whole = self.schema.java_maps.get(root)
        keyword = None if whole is None else self.schema.field(whole)
        if keyword is None or self.field.root is None:
            raise self._refusal("only whole values, beginnings and existence can be asked", "map it as keyword")
        return Part(*java_map_query(test, self.field.name[len(root) + 1 :], keyword, self._condition))

    def _cases(self, test: Pattern, leaf: Callable[[tuple[str | Wild, ...]], Dsl]) -> Dsl:
        """The leaf for each way to write the non-ASCII letters, whose case Elasticsearch does not ignore."""
        spellings = list(self._spellings(test))
        queries = [leaf(spelling) for spelling in spellings]
        return queries[0] if len(queries) == 1 else {"bool": {"should": queries, "minimum_should_match": 1}}

    def _spellings(self, test: Pattern) -> list[tuple[str | Wild, ...]]:
        if test.cased or not any(isinstance(part, str) and folding.needs_folding(part) for part in test.parts):
            return [test.parts]
        choices: list[list[str | Wild]] = []
        count = 1
        for part in test.parts:
            for character in [part] if isinstance(part, Wild) else part:
                cases: list[str | Wild] = [character]
                if isinstance(character, str) and not character.isascii():
                    cases = list(folding.variants(character))
                choices.append(cases)
                count *= len(cases)
        if count > MOST_CASES:
            raise self._refusal(
                f"{count} ways to write its non-ASCII letters, whose case Elasticsearch does not ignore",
                "write the value with |cased",
            )
        return [_joined(spelling) for spelling in product(*choices)]

    def _term(self, parts: tuple[str | Wild, ...], *, cased: bool) -> Dsl:
        text = "".join(part for part in parts if isinstance(part, str))
        if not text and self.schema.drops_empty:
            raise self._refusal(f"schema {self.schema.name} does not keep empty strings")
        limit = self.field.ignore_above
        if limit is not None and len(text) > limit:
            raise self._refusal(f"the value is longer than the {limit:,} characters that the index keeps")
        return {"term": {self.field.name: _value(text, text, cased=cased)}}

    def _wildcard(self, parts: tuple[str | Wild, ...], *, cased: bool) -> Dsl:
        text = "".join(part for part in parts if isinstance(part, str))
        if len(parts) == 2 and isinstance(parts[0], str) and parts[1] is Wild.MANY:
            return {"prefix": {self.field.name: _value(text, text, cased=cased)}}
        escaped = "".join(part.value if isinstance(part, Wild) else _escaped(part) for part in parts)
        return {"wildcard": {self.field.name: _value(escaped, text, cased=cased)}}

    def _regex(self, test: Regex) -> Part:
        expression = regex.to_lucene(test)
        if self.field.type == "text":
            return self._sibling(test)
        if self.field.type == "flattened":
            return self._java_map(test)
        if self.field.type != "keyword" or self.field.normalizer is not None:
            raise self._refusal("a regular expression needs a keyword field without a normalizer")
        dsl: Dsl = {"regexp": {self.field.name: {"value": expression, "flags": "NONE"}}}
        return Part(dsl, self._too_long())

    def _reference(self, test: FieldReference) -> Part:
        raise self._refusal(
            f"comparing it with {self.schema.rule_name(test.field)} needs a script, which native Query DSL has not"
        )

    # -- numbers, booleans, addresses ---------------------------------------------------------------------------

    def _number(self, test: Number) -> Part:
        if self.field.type in NUMBERS:
            return Part({"term": {self.field.name: {"value": test.value}}})
        return self._pattern(Pattern((repr(test.value),), cased=True))

    def _boolean(self, test: Boolean) -> Part:
        return self._pattern(Pattern(("true" if test.value else "false",)))

    def _boolean_pattern(self, test: Pattern) -> Part:
        literal = None if test.literal is None else test.literal if test.cased else test.literal.lower()
        if test.literal is None:
            raise self._refusal("a wildcard has no meaning on true and false", "map the field as keyword")
        if literal not in ("true", "false"):
            return Part(NOTHING)
        return Part({"term": {self.field.name: {"value": literal == "true"}}})

    def _numeric_literal(self, literal: str) -> Part:
        digits = literal.removeprefix("-")
        whole = digits.isascii() and digits.isdigit() and (digits == "0" or not digits.startswith("0"))
        if not whole:
            return Part(NOTHING)
        return Part({"term": {self.field.name: {"value": int(literal)}}})

    def _address_literal(self, literal: str) -> Part:
        try:
            ip_address(literal)
        except ValueError:
            return Part(NOTHING)
        return Part({"term": {self.field.name: {"value": literal}}})

    def _cidr(self, test: Cidr) -> Part:
        address = self.field if self.field.type == "ip" else self.schema.companion(self.field, "ip")
        if address is None:
            raise self._refusal("a network needs an address", "map the field as ip, or add an ip sub-field")
        return Part({"term": {address.name: {"value": str(test.network)}}})

    def _compare(self, test: Compare) -> Part:
        found: FieldType | None = self.field
        if self.field.type not in NUMBERS:
            found = next(filter(None, (self.schema.companion(self.field, kind) for kind in sorted(NUMBERS))), None)
        if found is None:
            raise self._refusal("its values would be compared as text", "add a numeric sub-field (double)")
        return Part({"range": {found.name: {test.operator: test.value}}})


def _joined(parts: tuple[str | Wild, ...]) -> tuple[str | Wild, ...]:
    """Lay characters side by side together again."""
    joined: list[str | Wild] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        else:
            joined.append(part)
    return tuple(joined)


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in "*?\\" else character for character in text)


def _value(value: str, text: str, *, cased: bool) -> Dsl:
    """The value of a leaf; case is ignored only where ``text`` has a letter with another case."""
    letters = any(character.isascii() and character.isalpha() for character in text)
    return {"value": value} if cased or not letters else {"value": value, "case_insensitive": True}
