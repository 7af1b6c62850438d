"""The embedded engine: Query DSL evaluated over one document, with the semantics of Elasticsearch under a mapping.

A query is compiled once to a closure, which is then called with each document. Whatever Query DSL is not implemented
is a named error when the query is compiled, never a quiet false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, TypeVar, Union

import re2

from keytrail import automaton, script
from keytrail.errors import UnsupportedQuery
from keytrail.mapping import NUMBERS, FieldType, IndexMapping
from keytrail.paths import Scalar, exists, leaves, text, values

Document = Mapping[str, Any]
Predicate = Callable[[Document], bool]
Subject = TypeVar("Subject")
Indexed = Union[str, float, bool, IPv4Address, IPv6Address]
DEEPEST = 29  # what Elasticsearch takes (indices.query.bool.max_nested_depth)


def compile_query(query: Mapping[str, Any], mapping: IndexMapping) -> Predicate:
    """Return a predicate that tells whether a document matches ``query`` in an index with ``mapping``.

    Parameters: ``query`` is the inside of ``{"query": …}``. Raises :class:`UnsupportedQuery` for whatever this engine
    does not implement and Elasticsearch might.
    """
    return _compile(query, mapping, 0)


def _compile(query: Mapping[str, Any], mapping: IndexMapping, depth: int) -> Predicate:
    if depth > DEEPEST:
        raise UnsupportedQuery(f"the query is nested more than {DEEPEST} deep")
    if not isinstance(query, Mapping) or len(query) != 1:
        raise UnsupportedQuery(f"a query is an object with one key, not {_shown(query)}")
    kind, inner = next(iter(query.items()))
    if kind == "bool":
        return _bool(inner, mapping, depth + 1)
    if kind in ("match_all", "match_none"):
        if inner != {}:
            raise UnsupportedQuery(f"{kind} takes nothing here, not {_shown(inner)}")
        return lambda document: kind == "match_all"
    if kind == "exists":
        return _exists(inner, mapping)
    if kind == "script":
        return _script(inner, mapping)
    maker = _LEAVES.get(kind)
    if maker is None:
        raise UnsupportedQuery(f"the embedded engine has no query {_shown(kind)}")
    return _leaf(kind, maker, inner, mapping)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"


class Clauses(NamedTuple):
    """The clauses of a bool query: all ``needed`` must match, none ``excluded``, and ``wanted`` of ``should``."""

    needed: list[Any]
    should: list[Any]
    excluded: list[Any]
    wanted: int


def read_bool(inner: Any) -> Clauses:
    """Return what a bool query asks for. Raises :class:`UnsupportedQuery` for what this engine does not implement."""
    if not isinstance(inner, Mapping):
        raise UnsupportedQuery(f"bool takes clauses, not {_shown(inner)}")
    unknown = set(inner) - {"filter", "must", "should", "must_not", "minimum_should_match"}
    if unknown:
        raise UnsupportedQuery(f"the embedded engine has no {_shown(sorted(unknown)[0])} in a bool query")
    parts: dict[str, list[Any]] = {}
    for key in ("filter", "must", "should", "must_not"):
        clauses = inner.get(key, [])
        parts[key] = clauses if isinstance(clauses, list) else [clauses]
    needed = parts["filter"] + parts["must"]
    wanted = inner.get("minimum_should_match", 0 if needed or not parts["should"] else 1)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        raise UnsupportedQuery("minimum_should_match is a count here, not a percentage or a formula")
    return Clauses(needed, parts["should"], parts["must_not"], wanted)


def _bool(inner: Mapping[str, Any], mapping: IndexMapping, depth: int) -> Predicate:
    needed, should, excluded, wanted = read_bool(inner)

    def compiled(clauses: list[Any]) -> tuple[Predicate, ...]:
        return tuple(_compile(clause, mapping, depth) for clause in clauses)

    return combined(compiled(needed), compiled(should), compiled(excluded), wanted)


def combined(
    needed: Sequence[Callable[[Subject], bool]],
    should: Sequence[Callable[[Subject], bool]],
    excluded: Sequence[Callable[[Subject], bool]],
    wanted: int,
) -> Callable[[Subject], bool]:
    """Return the predicate of a bool query whose clauses are these; see :class:`Clauses`."""
    return partial(_all_any_none, needed, should, excluded, wanted)


def _all_any_none(
    needed: Sequence[Callable[[Subject], bool]],
    should: Sequence[Callable[[Subject], bool]],
    excluded: Sequence[Callable[[Subject], bool]],
    wanted: int,
    document: Subject,
) -> bool:
    for predicate in needed:
        if not predicate(document):
            return False
    for predicate in excluded:
        if predicate(document):
            return False
    if wanted <= 1:
        return wanted == 0 or any(predicate(document) for predicate in should)
    return sum(predicate(document) for predicate in should) >= wanted


def _exists(inner: Mapping[str, Any], mapping: IndexMapping) -> Predicate:
    name = inner.get("field") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or len(inner) != 1:
        raise UnsupportedQuery("exists takes a field and nothing else")
    if name.endswith(".*") or mapping.is_object(name):
        held, _ = _below(name.removesuffix(".*"), mapping)
        return held
    found = mapping.field(name)
    if found is None:
        return lambda document: False
    if found.uncertain or (found.type == "flattened" and found.root is None):
        return lambda document: exists(document, found.source)
    index = _indexer(found)
    return lambda document: any(index(value) is not None for value in values(document, found.source))


def _script(inner: Any, mapping: IndexMapping) -> Predicate:
    """The one script that Keytrail writes."""
    asked = script.parameters(inner)
    if asked is None:
        raise UnsupportedQuery("the embedded engine knows no script but Keytrail's own comparison of two fields")
    *names, how = asked
    fields = [mapping.field(name) for name in names]
    if any(found is not None and not found.scripted for found in fields):
        raise UnsupportedQuery(f"a script reads no values of {' and '.join(map(_shown, names))}")
    first, second = (reader(found) if found is not None else _no_values for found in fields)
    return lambda document: script.related(first(document), second(document), how)


def _no_values(document: Document) -> list[Indexed]:
    return []


def _below(name: str, mapping: IndexMapping) -> tuple[Predicate, Predicate]:
    """Tell of the fields below an object whether the index holds one, and whether it did not take a value of one."""

    def held(document: Document, wanted: bool = True) -> bool:
        if not exists(document, name):
            return False
        for path, value in leaves(document):
            if path.startswith(f"{name}.") and isinstance(value, (str, int, float, bool)):
                found = mapping.field(path)
                taken = found is not None and (found.uncertain or _indexer(found)(value) is not None)
                if found is not None and taken is wanted:
                    return True
        return False

    return held, partial(held, wanted=False)


def _leaf(kind: str, maker: Callable[[Any, FieldType], Any], inner: Any, mapping: IndexMapping) -> Predicate:
    """A query on one field: a test of each value that the index holds for it."""
    if not isinstance(inner, Mapping) or len(inner) != 1:
        raise UnsupportedQuery(f"{kind} takes one field")
    name, spec = next(iter(inner.items()))
    if name == "_ignored":
        return _ignored(kind, spec, mapping)
    found = mapping.field(name)
    if found is None:
        return lambda document: False
    if found.type == "text" or (found.type == "flattened" and found.root is None):
        raise UnsupportedQuery(f"the embedded engine does not search the {found.type} field {name}")
    _check_effort(kind, name, spec)
    test = maker(spec, found)
    index = _indexer(found)

    def matches(document: Document) -> bool:
        for value in values(document, found.source):
            indexed = index(value)
            if indexed is not None and test(indexed):
                return True
        return False

    return matches


def _check_effort(kind: str, name: str, spec: Any) -> None:
    """Take no pattern that Elasticsearch might refuse."""
    options = spec if isinstance(spec, Mapping) else {"value": spec}
    ignore_case = options.get("case_insensitive") is True
    problem = automaton.of_leaf(kind, name, options.get("value"), ignore_case=ignore_case).problem
    if problem is not None:
        raise UnsupportedQuery(f"{kind} on {name}: {problem}")


def _ignored(kind: str, spec: Any, mapping: IndexMapping) -> Predicate:
    """``_ignored`` holds the names of the fields a value of which was too long or malformed for the index."""
    name = spec.get("value") if isinstance(spec, Mapping) else spec
    if kind == "prefix" and isinstance(name, str) and name.endswith("."):
        return _below(name[:-1], mapping)[1]
    found = mapping.field(name) if isinstance(name, str) else None
    if kind != "term" or found is None or found.root is not None:
        raise UnsupportedQuery(
            "_ignored can be asked for one field's name, with term, or for those of an object, with prefix"
        )
    index = _indexer(found)
    # An empty string in a number is taken for no value, and not noted.
    silent = "" if found.type in NUMBERS else None
    return lambda document: any(index(value) is None and value != silent for value in values(document, found.source))


# -- what the index holds of a value ------------------------------------------------------------------------------


def utf16_length(value: str) -> int:
    """Return the length of ``value`` as Java counts it, in UTF-16 code units."""
    return len(value) if value.isascii() else len(value.encode("utf-16-le", "surrogatepass")) // 2


def _indexer(found: FieldType) -> Callable[[Scalar], Indexed | None]:
    """Return what makes of a document's value the value in the index; None where the index has none."""
    if found.type in ("keyword", "flattened"):
        if found.normalizer not in (None, "lowercase"):
            raise UnsupportedQuery(f"the embedded engine does not know the normalizer {found.normalizer!r}")
        return partial(_keyword, found.ignore_above, found.normalizer is not None)
    if found.type in NUMBERS:
        return partial(_whole, _BITS[found.type]) if found.type in _BITS else _number
    if found.type == "boolean":
        return _truth
    if found.type == "ip":
        return _address
    if found.type == "text":
        return text
    if found.type == "date":
        return lambda value: text(value) or None
    raise UnsupportedQuery(f"the embedded engine has no field type {found.type!r} ({found.name})")


def reader(found: FieldType) -> Callable[[Document], list[Indexed]]:
    """Return what reads the values of a field that an index holds of a document."""
    index = _indexer(found)
    return lambda document: [held for held in map(index, values(document, found.source)) if held is not None]


def _keyword(limit: int | None, lowered: bool, value: Scalar) -> str | None:
    shown = text(value)
    if limit is not None and utf16_length(shown) > limit:
        return None
    return shown.lower() if lowered else shown


_DECIMAL = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,5})?"
_DOUBLE = re.compile(rf"[\0- ]*{_DECIMAL}[dDfF]?[\0- ]*", re.ASCII)  # Java takes 7d, and blanks around a number
_WHOLE = re.compile(_DECIMAL)
_BITS = {"long": 63, "integer": 31, "short": 15, "byte": 7}


def _number(value: Scalar) -> float | None:
    if isinstance(value, bool) or (isinstance(value, str) and not _DOUBLE.fullmatch(value)):
        return None
    try:
        number = float(value.strip("dDfF\0 \t\n\r") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(bits: int, value: Scalar) -> float | None:
    """A whole number of so many bits; fractions are cut off."""
    if isinstance(value, bool) or (isinstance(value, str) and not _WHOLE.fullmatch(value)):
        return None
    exact = Decimal(value)
    return int(exact) if exact.adjusted() < 20 and -(2**bits) - 1 < exact < 2**bits else None


def _truth(value: Scalar) -> bool | None:
    return {"true": True, "false": False}.get(text(value))


def _address(value: Scalar) -> IPv4Address | IPv6Address | None:
    """An address; one of IPv4 written in IPv6 (::ffff:10.0.0.1) is that of IPv4, as in Elasticsearch."""
    try:
        found = ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


# -- tests of one indexed value -----------------------------------------------------------------------------------


def _spec(spec: Any, kind: str, *allowed: str) -> tuple[Any, bool]:
    """The value of a leaf, and whether its case is ignored."""
    options = spec if isinstance(spec, Mapping) else {"value": spec}
    unknown = set(options) - {"value", "case_insensitive", *allowed}
    if unknown or "value" not in options:
        raise UnsupportedQuery(f"the embedded engine has no {_shown(sorted(unknown or {'value'})[0])} in {kind}")
    value, ignore_case = options["value"], options.get("case_insensitive", False)
    if not isinstance(ignore_case, bool):
        raise UnsupportedQuery(f"case_insensitive is true or false, not {_shown(ignore_case)}")
    if not isinstance(value, str if kind != "term" else (str, int, float)):
        raise UnsupportedQuery(f"{kind} takes a value, not {_shown(value)}")
    return value, ignore_case


def ascii_lower(value: str) -> str:
    """Return ``value`` with the letters A to Z in lower case: whose case a case-insensitive query ignores."""
    return value.lower() if value.isascii() else value.translate(_ASCII)


_ASCII = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _textual(kind: str, found: FieldType) -> None:
    if found.type not in ("keyword", "flattened"):
        raise UnsupportedQuery(f"Elasticsearch has no {kind} query on type {found.type} ({found.name})")


def _term(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    value, ignore_case = _spec(spec, "term")
    if found.type == "ip" and isinstance(value, str) and "/" in value:
        network = _network(value)
        if isinstance(network, IPv4Network):
            return lambda address: address in network
        # An IPv4 address is kept as one of IPv6.
        return lambda address: (IPv6Address(f"::ffff:{address}") if address.version == 4 else address) in network
    wanted = _wanted(value, found)
    if ignore_case:
        _textual("case-insensitive term", found)
        lowered = ascii_lower(str(wanted))
        return lambda indexed: ascii_lower(indexed) == lowered
    return lambda indexed: bool(indexed == wanted)


def _network(value: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value, strict=False)
    except ValueError as error:
        raise UnsupportedQuery(f"{_shown(value)} is no network") from error


def _wanted(value: Any, found: FieldType) -> Indexed:
    """What the index would hold of a value that is asked for; a query for what it cannot hold is an error there."""
    if found.type == "date":
        raise UnsupportedQuery(f"the embedded engine asks dates for their existence only ({found.name})")
    if not isinstance(value, (str, int, float)):
        raise UnsupportedQuery(f"a term is a value, not {_shown(value)}")
    wanted = _indexer(replace(found, ignore_above=None))(value)
    if wanted is None or (found.type in _BITS and wanted != _number(value)):
        raise UnsupportedQuery(f"{_shown(value)} is no value of type {found.type} ({found.name})")
    return wanted


def _terms(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    if not isinstance(spec, list):
        raise UnsupportedQuery("terms takes a list of values")
    wanted = {_wanted(value, found) for value in spec}
    return lambda indexed: indexed in wanted


def _prefix(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    _textual("prefix", found)
    value, ignore_case = _spec(spec, "prefix")
    if ignore_case:
        lowered = ascii_lower(value)
        return lambda indexed: ascii_lower(indexed).startswith(lowered)
    return lambda indexed: bool(indexed.startswith(value))


def _wildcard(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    _textual("wildcard", found)
    if found.root is not None:
        raise UnsupportedQuery(f"Elasticsearch has no wildcard query on a key of a flattened field ({found.name})")
    value, ignore_case = _spec(spec, "wildcard")
    expression = "".join(_wildcard_parts(ascii_lower(value) if ignore_case else value))
    matcher = _linear(expression)
    if ignore_case:
        return lambda indexed: matcher(ascii_lower(indexed))
    return matcher


def _wildcard_parts(value: str) -> list[str]:
    parts = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            parts.append(re2.escape(next(characters, "\\")))
        else:
            parts.append({"*": ".*", "?": "."}.get(character) or re2.escape(character))
    return parts


def _regexp(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    _textual("regexp", found)
    if found.root is not None:
        raise UnsupportedQuery(f"Elasticsearch has no regexp query on a key of a flattened field ({found.name})")
    value, ignore_case = _spec(spec, "regexp", "flags")
    if ignore_case or not isinstance(spec, Mapping) or spec.get("flags") != "NONE":
        raise UnsupportedQuery("regexp is known here with the flags NONE and without case_insensitive")
    return _linear(_re2_from_lucene(value))


def _re2_from_lucene(value: str) -> str:
    """Lucene's notation without optional operators is RE2's, but for anchors (literal there) and quotes."""
    parts = []
    in_class = False
    characters = iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            parts.append(re2.escape(escaped) if not escaped.isalnum() else "\\" + escaped)
            continue
        if character == '"' and not in_class:
            raise UnsupportedQuery('a quoted string in a regular expression ("…")')
        if character == "[" and not in_class:
            in_class = True
        elif character == "]":
            in_class = False
        anchor = character in "^$" and not (in_class and parts and parts[-1] == "[")
        parts.append("\\" + character if anchor else character)
    return "".join(parts)


def _linear(expression: str) -> Callable[[str], bool]:
    """A matcher of whole values whose time grows with the value's length and no faster, whatever the expression."""
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(expression, options)
    except re2.error as error:
        raise UnsupportedQuery(f"the expression {_shown(expression)} is too large or broken: {error}") from error
    return lambda indexed: compiled.fullmatch(indexed) is not None


def _range(spec: Any, found: FieldType) -> Callable[[Any], bool]:
    if found.type not in NUMBERS:
        raise UnsupportedQuery(f"the embedded engine compares numbers only, not {found.type} ({found.name})")
    unknown = set(spec) - {"lt", "lte", "gt", "gte"} if isinstance(spec, Mapping) and spec else {"such bound"}
    if unknown:
        raise UnsupportedQuery(f"the embedded engine has no {_shown(sorted(unknown)[0])} in range")
    for bound in spec.values():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise UnsupportedQuery(f"a bound of a range is a number here, not {_shown(bound)}")
    tests: list[Callable[[float], bool]] = [_COMPARISONS[operator](float(bound)) for operator, bound in spec.items()]
    return lambda indexed: all(test(indexed) for test in tests)


_COMPARISONS: dict[str, Callable[[float], Callable[[float], bool]]] = {
    "lt": lambda bound: lambda value: value < bound,
    "lte": lambda bound: lambda value: value <= bound,
    "gt": lambda bound: lambda value: value > bound,
    "gte": lambda bound: lambda value: value >= bound,
}

_LEAVES: dict[str, Callable[[Any, FieldType], Callable[[Any], bool]]] = {
    "term": _term,
    "terms": _terms,
    "prefix": _prefix,
    "wildcard": _wildcard,
    "regexp": _regexp,
    "range": _range,
}
