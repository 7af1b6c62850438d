"""Which filters Kibana's exceptions say the same as, and which rules are then to have their lists.

An exception compares whole values (``match_phrase``) or wildcards on the index's field, and letters as they are. So a
filter can become one where it takes out ``not selection`` or ``not 1 of`` several, on keyword fields, with values that
have no letters or are ``|cased``. Whatever else a filter says stays in the query of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keytrail import conditions
from keytrail.errors import KeytrailError, Refused
from keytrail.filters import Filter, today
from keytrail.kibana.lists import Excepted
from keytrail.lint import selected
from keytrail.pack import Rule
from keytrail.schemas import Schema

EDGES = {"contains": ("*", "*"), "startswith": ("", "*"), "endswith": ("*", "")}
CASED = "write |cased, because exceptions tell large letters from small ones"


@dataclass
class Split:
    """Filters that become exception lists, by the ids of the rules that are to have them, and why others do not."""

    by_rule: dict[str, list[Excepted]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def takes(self, one: Filter) -> bool:
        """Tell whether a filter is an exception list, and so does not narrow the query."""
        return one.stem in self.taken


def split(filters: Sequence[Filter], rules: Sequence[Rule], schema: Schema) -> Split:
    """Decide for each filter whether exceptions say the same, for every rule that it narrows."""
    found = Split()
    day = today()
    for one in filters:
        if one.expired(day):
            continue
        try:
            made = excepted(one, schema)
            ids = list(_covered(one, rules))
        except KeytrailError as error:
            found.reasons[one.stem] = error.message
            continue
        found.taken.add(one.stem)
        for rule_id in ids:
            found.by_rule.setdefault(rule_id, []).append(made)
    return found


def _covered(one: Filter, rules: Sequence[Rule]) -> Iterator[str]:
    """The rules that are to have the list: also correlations, when the filter is for all of their rules."""
    for rule in rules:
        applied = [one.applies_to(base) for base in rule.references.values()] or [one.applies_to(rule)]
        if all(applied):
            yield rule.id
        elif any(applied):
            raise Refused(f"{rule.stem} correlates rules that the filter is for with others: one list cannot tell them")


def excepted(one: Filter, schema: Schema) -> Excepted:
    """Return a filter as exceptions. Raises :class:`Refused` where they would not say the same."""
    items: list[list[dict[str, Any]]] = []
    for name in _taken_out(one):
        given = one.selections[name]
        for alternative in given if isinstance(given, list) else [given]:
            if not isinstance(alternative, Mapping) or not alternative:
                raise Refused(f"the selection {name} asks for no field")
            items.append([_entry(str(key), value, schema) for key, value in alternative.items()])
    return Excepted(one, items)


def _taken_out(one: Filter) -> list[str]:
    """The selections any of which takes an event out."""
    tree = conditions.parse(one.condition)
    if isinstance(tree, conditions.Not):
        part = tree.part
        alternatives = part.parts if isinstance(part, conditions.Either) else (part,)
        if all(isinstance(each, conditions.Name) for each in alternatives):
            return [each.name for each in alternatives if isinstance(each, conditions.Name)]
        if isinstance(part, conditions.Of) and part.quantifier != "all":
            return selected(part.pattern, one.selections)
    raise Refused(f"exceptions cannot say the condition '{one.condition}'; 'not selection' they can")


def _entry(key: str, value: Any, schema: Schema) -> dict[str, Any]:
    name, *modifiers = key.split("|")
    cased = "cased" in modifiers
    edges = [each for each in modifiers if each != "cased"]
    if len(edges) > 1 or not set(edges) <= EDGES.keys():
        raise Refused(f"exceptions cannot say '{key}'", field=name)
    index_name = schema.index_name(name)
    found = schema.field(index_name)
    if found is None or found.type != "keyword" or found.normalizer or found.uncertain or found.problem:
        kind = "no field" if found is None else f"of type {found.declared or found.type}"
        raise Refused(f"exceptions ask keyword fields, and {index_name} is {kind}", field=name)
    values = value if isinstance(value, list) else [value]
    texts = [_text(key, one, cased) for one in values]
    if edges:
        if len(texts) > 1:
            raise Refused(f"an exception has one wildcard a field, and '{key}' has {len(texts)} values", field=name)
        before, after = EDGES[edges[0]]
        return {"field": index_name, "operator": "included", "type": "wildcard", "value": before + texts[0] + after}
    if len(texts) == 1:
        return {"field": index_name, "operator": "included", "type": "match", "value": texts[0]}
    return {"field": index_name, "operator": "included", "type": "match_any", "value": texts}


def _text(key: str, value: Any, cased: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise Refused(f"exceptions compare with texts, and '{key}' with {value!r}")
    text = str(value)
    if set(text) & set("*?\\%"):
        raise Refused(f"'{key}' has wildcards of its own: {text}")
    if not cased and text.lower() != text.upper():
        raise Refused(f"'{key}' ignores the case of letters: {text}", hint=CASED)
    return text
