r"""Lucene's query syntax, as Elasticsearch's ``query_string`` and Kibana read it.

It cannot ignore case, so a letter is written as the class of its cases: ``event.action:/[Dd]isable/``. Lucene's
expressions match whole values, and here all their operators are on. A value without letters is a phrase,
``field:"…"``, which is the whole value on anything but text. Precedence is never left to the parser.

A key of a flattened field knows no expressions: a value with few letters is written in all its spellings, one with
more is looked for in the string of the Java map, where the schema has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product

from keytrail import automaton, folding, regex
from keytrail.errors import Refused
from keytrail.mapping import FieldType
from keytrail.query_dsl import MOST_CLAUSES
from keytrail.resolved import Node, Pattern, Wild
from keytrail.schemas import Schema
from keytrail.typed import (
    AllOf,
    Answer,
    AnyOf,
    Bounded,
    Equals,
    Expression,
    Has,
    Ignored,
    Match,
    NoneOf,
    Nothing,
    Primitive,
    Related,
    Typed,
    Within,
    in_java_map,
    typed,
)
from keytrail.verdict import Query

MOST_DEPTH = 100
MOST_SPELLINGS = 32  # five letters
NOTHING = "(NOT *:*)"
_SPECIAL = frozenset('+-=&|><!(){}[]^"~*?:\\/ \t\n\r\u3000')
_WORDS = frozenset({"AND", "OR", "NOT"})
_RANGES = {"gt": "{{{} TO *]", "gte": "[{} TO *]", "lt": "[* TO {}}}", "lte": "[* TO {}]"}

Options = tuple[str, ...]


def generate(node: Node, schema: Schema) -> Query:
    """Return the query_string for ``node`` under ``schema``; raises :class:`Refused` where none means the same."""
    question, conditions = answerable(node, schema)
    return Query(written(question), conditions)


def answerable(node: Node, schema: Schema) -> Answer:
    """Return what ``node`` becomes, in questions that this syntax can ask, and the conditions without repetition.

    Raises :class:`Refused`, as :func:`keytrail.typed.typed` does.
    """
    question, conditions = typed(node, schema, folds_keys=False)
    fitted, added = _fitted(question, schema, negated=False)
    clauses, depth = _size(fitted)
    if clauses > MOST_CLAUSES:
        raise Refused(f"the rule needs {clauses} clauses; {MOST_CLAUSES} is what every node takes")
    if depth > MOST_DEPTH:
        raise Refused(f"the rule nests {depth} deep; {MOST_DEPTH} is what every node takes")
    if sum(map(_memory, _patterns(fitted))) > automaton.MOST_MEMORY:
        raise Refused(f"the rule's patterns would take over {automaton.MOST_MEMORY:,} bytes of a node's heap")
    return fitted, tuple(dict.fromkeys((*conditions, *added)))


def _fitted(question: Typed, schema: Schema, *, negated: bool) -> Answer:
    """The question with what cannot be asked of a flattened key asked of the Java map."""
    if isinstance(question, NoneOf):
        inner, conditions = _fitted(question.child, schema, negated=not negated)
        return NoneOf(inner), conditions
    if isinstance(question, (AllOf, AnyOf)):
        answers = [_fitted(child, schema, negated=negated) for child in question.children]
        children = tuple(child for child, _ in answers)
        return type(question)(children), tuple(condition for _, found in answers for condition in found)
    if not isinstance(question, Match) or question.field.root is None or _spellings(question) is not None:
        return question, ()
    if schema.java_maps.get(question.field.root) is None:
        name = schema.rule_name(question.field.name)
        what = "case cannot be ignored on a key of a flattened field in this query language"
        hint = "write the value with |cased, map the key as keyword, or use the target query-dsl"
        raise Refused(f"{name} ({question.field.name}): {what}", field=name, hint=hint)
    return in_java_map(question.field, question.pattern, schema, negated=negated)


def _size(question: Typed) -> tuple[int, int]:
    """Count the clauses of a question, and how deep it nests."""
    if isinstance(question, NoneOf):
        clauses, depth = _size(question.child)
        return clauses, depth + 1
    if isinstance(question, Match):
        return len(_spellings(question) or "1"), 0
    if not isinstance(question, (AllOf, AnyOf)):
        return (2 if isinstance(question, Bounded) else 1), 0  # a range is asked of points and of doc values
    sizes = [_size(child) for child in question.children]
    return sum(clauses for clauses, _ in sizes), 1 + max(depth for _, depth in sizes)


def _patterns(question: Typed) -> Iterator[Match | Expression]:
    if isinstance(question, NoneOf):
        yield from _patterns(question.child)
    elif isinstance(question, (AllOf, AnyOf)):
        for child in question.children:
            yield from _patterns(child)
    elif isinstance(question, (Match, Expression)):
        yield question


def _memory(question: Match | Expression) -> int:
    """The memory that a pattern takes. What a node may refuse is refused here: its query_string would find nothing."""
    name = question.field.name
    if isinstance(question, Expression):
        costs = [automaton.of_regexp(question.lucene)]
    else:
        spellings = _spellings(question)
        if spellings is None:
            costs = [automaton.of_regexp(_expression(question))]
        elif question.pattern.literal is not None:
            costs = [automaton.of_term(text, ignore_case=False) for text in spellings]
        else:
            costs = [automaton.of_prefix(text, name) for text in spellings]
    for cost in costs:
        if cost.problem is not None:
            raise Refused(f"{name}: {cost.problem}", field=name)
    return sum(cost.memory for cost in costs)


# -- writing ------------------------------------------------------------------------------------------------------


def written(question: Typed) -> str:
    """Return a question as one query, in parentheses where it could fall apart within another."""
    if isinstance(question, AllOf):
        return joined(" AND ", map(written, question.children))
    if isinstance(question, AnyOf):
        return joined(" OR ", _alternatives(question))
    if isinstance(question, NoneOf):
        return f"(NOT {written(question.child)})"
    return "".join(_primitive(question))


def joined(operator: str, parts: Iterable[str]) -> str:
    """Lay parts together with an operator, in parentheses unless there is only one."""
    different = list(dict.fromkeys(parts))
    return different[0] if len(different) == 1 else f"({operator.join(different)})"


def _alternatives(question: AnyOf) -> list[str]:
    """The alternatives; those of one field stand together behind its name."""
    fields: dict[str, list[str]] = {}
    others: list[str] = []
    for child in _flat(question):
        if isinstance(child, (AllOf, AnyOf, NoneOf, Nothing)):
            others.append(written(child))
        else:
            name, wanted = _primitive(child)
            fields.setdefault(name, []).append(wanted)
    return [name + joined(" OR ", wanted) for name, wanted in fields.items()] + others


def _flat(question: AnyOf) -> list[Typed]:
    return [part for child in question.children for part in (_flat(child) if isinstance(child, AnyOf) else [child])]


def _primitive(question: Primitive) -> tuple[str, str]:
    """The field's name with its colon, and what is wanted of it."""
    match question:
        case Match():
            return f"{_name(question.field.name)}:", _matching(question)
        case Expression(field, lucene):
            return f"{_name(field.name)}:", _regular(lucene, field.name)
        case Has(name, below):
            return "_exists_:", _phrase(f"{_plain(name)}.*") if below else _name(name)
        case Ignored(name, below):
            return "_ignored:", _escaped(f"{name}.") + "*" if below else _phrase(name)
        case Equals(field, value):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            return f"{_name(field.name)}:", _phrase(text)
        case Within(field, network):
            return f"{_name(field.name)}:", _phrase(str(network))
        case Bounded(field, operator, bound):
            return f"{_name(field.name)}:", _RANGES[operator].format(bound)
        case Related(field, other):
            raise Refused(f"{field.name}: comparing it with {other.name} needs a script, which query strings have not")
        case Nothing():
            return "", NOTHING


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in _SPECIAL else character for character in text)


def _name(name: str) -> str:
    return "\\" + name if name in _WORDS else _escaped(_plain(name))


def _plain(name: str) -> str:
    """A field's name, but not one with an asterisk, which would be taken for a pattern of names, escaped or not."""
    if "*" in name:
        raise Refused(f"{name}: the asterisk makes a pattern of the field's name in this query language", field=name)
    return name


def _phrase(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _regular(expression: str, name: str) -> str:
    """An expression between slashes: the first slash without a backslash right before it ends it."""
    text = re.sub(r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], expression, flags=re.DOTALL)
    if text.endswith("\\"):
        text = f"({text})"
    length = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if length > regex.LONGEST:
        raise Refused(f"{name}: the value needs an expression of {length} characters; {regex.LONGEST} are taken")
    return f"/{text}/"


# -- values -------------------------------------------------------------------------------------------------------


def _matching(question: Match) -> str:
    spellings = _spellings(question)
    if spellings is None:
        return _regular(_expression(question), question.field.name)
    if question.pattern.literal is None:
        return joined(" OR ", (_escaped(text) + "*" for text in spellings))
    return joined(" OR ", map(_phrase, spellings))


def _expression(question: Match) -> str:
    return "".join(map(_expressed, _parts(question.field, question.pattern)))


def _parts(field: FieldType, pattern: Pattern) -> list[Options | Wild]:
    """Each character as all the ways to write it."""
    lowered = field.normalizer is not None
    parts: list[Options | Wild] = []
    for part in pattern.parts:
        for character in (part,) if isinstance(part, Wild) else part:
            parts.append(character if isinstance(character, Wild) else _cases(character, pattern.cased, lowered))
    return parts


def _cases(character: str, cased: bool, lowered: bool) -> Options:
    cases = (character,) if cased else folding.variants(character)
    return tuple(dict.fromkeys(case.lower() for case in cases)) if lowered else cases


def _spellings(question: Match) -> list[str] | None:
    """All ways to write a whole value or a beginning; None for any other pattern, and where there are too many.

    Where an expression can be asked for, more than one is too many.
    """
    parts = _parts(question.field, question.pattern)
    beginning = len(parts) > 1 and parts[-1] is Wild.MANY
    letters = [part for part in parts if not isinstance(part, Wild)]
    if len(letters) != len(parts) - beginning:
        return None
    count = 1
    for cases in letters:
        count *= len(cases)
        if count > (1 if question.field.root is None else MOST_SPELLINGS):
            return None
    return ["".join(spelling) for spelling in product(*letters)]


def _expressed(part: Options | Wild) -> str:
    if isinstance(part, Wild):
        return ".*" if part is Wild.MANY else "."
    cases = [regex.literal(case) for case in part]
    if len(cases) == 1:
        return cases[0]
    return f"[{''.join(cases)}]" if all(len(case) == 1 for case in part) else f"({'|'.join(cases)})"
