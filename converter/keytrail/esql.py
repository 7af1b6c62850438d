r"""ES|QL: a full query whose conditions are those of the rule.

ES|QL's own comparisons, LIKE and RLIKE give null for a field with several values, a column that no index has yet is
an error, and flattened fields are not supported. ``QSTR`` has none of these limits: it asks the index, is true or
false and never null, so that ``NOT`` keeps the events that lack the field. So what is asked of a field is Lucene's
syntax (:mod:`keytrail.lucene`), and what joins it is ES|QL. QSTR is generally available since 8.19 and 9.1.
"""

from __future__ import annotations

import re

from keytrail.errors import Refused
from keytrail.lucene import answerable, written
from keytrail.resolved import Node
from keytrail.schemas import Schema
from keytrail.typed import AllOf, AnyOf, NoneOf, Nothing, Related, Typed
from keytrail.verdict import Query

METADATA = "_id, _index, _version"  # what Kibana needs to keep one alert an event
MOST_OPERATORS = 100  # an expression may be 300 deep, and a chain of operators counts in full
LONGEST = 1_000_000  # characters in a query
_CONDITION = "\n| WHERE "
_PLAIN_SOURCE = re.compile(r"[A-Za-z0-9_.*@][A-Za-z0-9_.*@-]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def generate(node: Node, schema: Schema) -> Query:
    """Return the ES|QL query for ``node`` under ``schema``; raises :class:`Refused` where none means the same.

    It ends without LIMIT, so that more commands can follow; Elasticsearch then adds one of 1,000 rows.
    """
    question, conditions = answerable(node, schema)
    parts = question.children if isinstance(question, AllOf) else (question,)
    where = "\n    AND ".join(_where(part) for part in parts)
    if where.count("QSTR(") > MOST_OPERATORS or where.count("NOT (") > MOST_OPERATORS:
        where = _asked(question)
    body = f"{source(schema.index)}{_CONDITION}{where}"
    if len(body) > LONGEST:
        raise Refused(f"the rule needs a query of {len(body):,} characters; ES|QL takes {LONGEST:,}")
    return Query(body, conditions)


def source(index: str) -> str:
    """Return the command that reads an index, or a pattern of indices, with what Kibana needs of each event."""
    return f"FROM {index_name(index)} METADATA {METADATA}"


def index_name(index: str) -> str:
    """Return an index, or a pattern of indices, as ``FROM`` takes it."""
    return index if _PLAIN_SOURCE.fullmatch(index) else _string(index)


def column(name: str) -> str:
    """Return a field's name as ES|QL takes it, whatever signs are in it."""
    return "`" + name.replace("`", "``") + "`"


def condition(query: Query) -> str:
    """Return what a query of :func:`generate` asks of each event, for commands that ask it of some events only."""
    return f"({str(query.body).partition(_CONDITION)[2]})"


def _where(question: Typed) -> str:
    if isinstance(question, Nothing):
        return "false"
    if isinstance(question, NoneOf):
        return f"NOT {_where(question.child)}"
    if isinstance(question, Related):
        what = f"comparing it with {question.other.name} is null for a list here, and folds letters in another way"
        raise Refused(f"{question.field.name}: {what}", field=question.field.name, hint="use the target query-dsl")
    if isinstance(question, AllOf) or (isinstance(question, AnyOf) and not _simple(question)):
        operator = " AND " if isinstance(question, AllOf) else " OR "
        parts = list(dict.fromkeys(map(_where, question.children)))
        return parts[0] if len(parts) == 1 else f"({operator.join(parts)})"
    return _asked(question)


def _simple(question: Typed) -> bool:
    """Whether it is alternatives and nothing else."""
    return (
        all(map(_simple, question.children))
        if isinstance(question, AnyOf)
        else not isinstance(question, (AllOf, NoneOf, Related))
    )


def _asked(question: Typed) -> str:
    return f"QSTR({_string(written(question))})"


def _string(text: str) -> str:
    """A string in three quotes, where backslashes are themselves, or in one where that cannot hold the text."""
    if (
        any(sign in text for sign in '\\"')
        and not text.endswith('"')
        and not any(part in text for part in ('"""', "\n", "\r"))
    ):
        return f'"""{text}"""'
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'
