"""The mutants of a rule: the rule with one thing changed, each with a name and the case that would kill it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from keytrail import conditions
from keytrail.conditions import Both, Condition, Either, Name, Not, Of
from keytrail.lint import selected

Document = Mapping[str, Any]
Path = tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    """A changed rule. ``name`` says what was changed, ``kill`` which case would tell, ``near`` is a key in the rule."""

    name: str
    document: Document
    kill: str
    near: str


def mutants(document: Document) -> Iterator[Mutant]:
    """Return the mutants of a rule, each with another name."""
    return numbered([*_of_condition(document), *_of_selections(document)])


def numbered(made: Iterable[Mutant]) -> Iterator[Mutant]:
    """Yield mutants with a number behind a name that has been there before."""
    seen: set[str] = set()
    for mutant in made:
        name, number = mutant.name, 2
        while name in seen:
            name = f"{mutant.name} ({number})"
            number += 1
        seen.add(name)
        yield replace(mutant, name=name)


# -- the condition ------------------------------------------------------------------------------------------------


def _of_condition(document: Document) -> Iterator[Mutant]:
    detection = document["detection"]
    given = detection["condition"]
    listed = list(map(str, given)) if isinstance(given, list) else [str(given)]
    defined = [str(name) for name in detection if name != "condition"]
    for number, text in enumerate(listed):
        for name, changed, kill in changed_conditions(conditions.parse(text), defined):
            made = [*listed[:number], conditions.render(changed), *listed[number + 1 :]]
            new = {**detection, "condition": made if isinstance(given, list) else made[0]}
            yield Mutant(f"condition: {name}", {**document, "detection": new}, kill, "condition")
        if len(listed) > 1:
            left = [one for place, one in enumerate(listed) if place != number]
            kill = f"a match by the condition '{text}' alone"
            new = {**detection, "condition": left}
            yield Mutant(f"condition: drop '{text}'", {**document, "detection": new}, kill, "condition")


def changed_conditions(tree: Condition, defined: list[str]) -> Iterator[tuple[str, Condition, str]]:
    """Yield the changes of a condition: what, the new one, and the case that would tell."""
    for path, part, odd in conditions.places(tree):
        shown = _shown(conditions.render(part))
        # Under a negation what would be one match too many is one too few.
        more, fewer = ("a match", "a near miss") if odd else ("a near miss", "a match")
        if isinstance(part, (Both, Either)):
            other = (Either if isinstance(part, Both) else Both)(part.parts)
            which = more if isinstance(part, Both) else fewer
            name = f"{'or' if isinstance(part, Both) else 'and'} instead in '{shown}'"
            yield from _made(tree, path, other, name, f"{which} in which only a part of '{shown}' holds")
            for number, inner in enumerate(part.parts):
                gone = _shown(conditions.render(inner))
                left = conditions.replaced(tree, (*path, number), None)
                kill = (
                    f"{more} in which '{gone}' does not hold and all else does"
                    if isinstance(part, Both)
                    else f"{fewer} in which of '{shown}' only '{gone}' holds"
                )
                if left is not None:
                    yield f"drop '{gone}' from '{shown}'", left, kill
        elif isinstance(part, Not):
            yield from _made(tree, path, part.part, f"no negation in '{shown}'", f"a case that '{shown}' decides")
        elif not _below_not(tree, path):
            yield from _made(tree, path, Not(part), f"not {shown}", f"a case that '{shown}' decides")
        if isinstance(part, Of):
            yield from _selector(tree, path, part, defined, (more, fewer))


def _made(
    tree: Condition, path: tuple[int, ...], new: Condition, name: str, kill: str
) -> Iterator[tuple[str, Condition, str]]:
    made = conditions.replaced(tree, path, new)
    assert made is not None
    yield name, made, kill


def _below_not(tree: Condition, path: tuple[int, ...]) -> bool:
    return any(found == path[:-1] and isinstance(part, Not) for found, part, _ in conditions.places(tree)) and bool(
        path
    )


def _selector(
    tree: Condition, path: tuple[int, ...], part: Of, defined: list[str], words: tuple[str, str]
) -> Iterator[tuple[str, Condition, str]]:
    names = selected(part.pattern, defined)
    if len(names) < 2:
        return
    any_of = part.quantifier != "all"
    shown = conditions.render(part)
    other = Of("all" if any_of else "1", part.pattern)
    which = words[1] if any_of else words[0]
    yield from _made(
        tree, path, other, f"{conditions.render(other)} instead", f"{which} in which only a part of '{shown}' holds"
    )
    for name in names:
        left: tuple[Condition, ...] = tuple(Name(one) for one in names if one != name)
        joined = left[0] if len(left) == 1 else Either(left) if any_of else Both(left)
        kill = f"{which} in which of '{shown}' {'only' if any_of else 'all but'} {name} holds"
        yield from _made(tree, path, joined, f"drop {name} from '{shown}'", kill)


# -- the selections -----------------------------------------------------------------------------------------------


def _of_selections(document: Document) -> Iterator[Mutant]:
    detection = document["detection"]
    defined = [str(name) for name in detection if name != "condition"]
    signs: dict[str, set[bool]] = {}
    given = detection["condition"]
    for text in map(str, given if isinstance(given, list) else [given]):
        for name, found in conditions.names(conditions.parse(text), defined).items():
            signs.setdefault(name, set()).update(found)
    for name in defined:
        for what, changed, wider, kill in _of_part(detection[name], name):
            new = {**document, "detection": {**detection, name: changed}}
            yield Mutant(f"{name}: {what}", new, f"{_which(wider, signs.get(name, set()))} {kill}", name)


def _which(wider: bool | None, signs: set[bool]) -> str:
    """A near miss tells that a rule has become wider, a match that it has become narrower."""
    if wider is None or len(signs) != 1:
        return "a case"
    return "a near miss" if wider is (False in signs) else "a match"


Change = tuple[str, Any, Union[bool, None], str]


def _of_part(part: Any, name: str) -> Iterator[Change]:
    if isinstance(part, list):
        for number, inner in enumerate(part):
            where = _alternative(inner, number)
            if len(part) > 1:
                left = [one for place, one in enumerate(part) if place != number]
                yield f"drop {where}", left, False, f"by {where} alone"
            for what, changed, wider, kill in _of_part(inner, name):
                yield f"{where}: {what}", [*part[:number], changed, *part[number + 1 :]], wider, kill
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if len(part) > 1:
                rest = {one: kept for one, kept in part.items() if one != key}
                yield f"drop {_line(key, value)}", rest, True, f"in which only '{_line(key, value)}' does not hold"
            for what, new_key, new_value, wider, kill in _of_line(str(key), value):
                made = _put(part, key, new_key, new_value)
                if made is not None:
                    yield what, made, wider, kill


def _put(part: Mapping[str, Any], key: str, new_key: str, value: Any) -> dict[str, Any] | None:
    """The lines with one of them changed; None where the new key is there already, which no mapping can hold twice."""
    if new_key != key and new_key in part:
        return None
    return {(new_key if one == key else one): (value if one == key else kept) for one, kept in part.items()}


def _alternative(inner: Any, number: int) -> str:
    first = f" ({next(iter(inner))})" if isinstance(inner, Mapping) and inner else ""
    return f"alternative {number + 1}{first}"


def _line(key: object, value: Any) -> str:
    return f"{key}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        text = ", ".join(map(_shown, value))
    else:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


LineChange = tuple[str, str, Any, Union[bool, None], str]


def _of_line(key: str, value: Any) -> Iterator[LineChange]:
    field, *modifiers = key.split("|")
    listed = value if isinstance(value, list) else [value]
    if len(listed) > 1:
        yield from _entries(key, field, modifiers, listed)
    yield from _modifiers(key, field, modifiers, value)
    for number, one in enumerate(listed):
        for what, new, wider, kill in _values(field, modifiers, one):
            if len(listed) > 1 and what.startswith("change "):
                continue  # the same as dropping the entry
            changed = [*listed[:number], new, *listed[number + 1 :]] if isinstance(value, list) else new
            yield f"{key}: {what}", key, changed, wider, kill


def _entries(key: str, field: str, modifiers: list[str], listed: list[Any]) -> Iterator[LineChange]:
    every = "all" in modifiers
    for number, entry in enumerate(listed):
        left = [one for place, one in enumerate(listed) if place != number]
        kill = (
            f"whose {field} has all but '{_shown(entry)}'"
            if every
            else f"whose {field} is told by '{_shown(entry)}' alone"
        )
        yield f"{key}: drop '{_shown(entry)}'", key, left, every is not ("neq" in modifiers), kill
    if every:
        fewer = "|".join([field, *(name for name in modifiers if name != "all")])
        yield f"{key}: without all", fewer, listed, True, f"whose {field} has only one of the values"


_OTHER: Mapping[str, tuple[tuple[Union[str, None], Union[bool, None], str], ...]] = {
    "contains": (
        ("startswith", False, "with the value elsewhere than at the beginning of {}"),
        ("endswith", False, "with the value elsewhere than at the end of {}"),
    ),
    "startswith": (
        ("contains", True, "with the value elsewhere than at the beginning of {}"),
        (None, False, "whose {} goes on behind the value"),
    ),
    "endswith": (
        ("contains", True, "with the value elsewhere than at the end of {}"),
        (None, False, "whose {} has something before the value"),
    ),
    "lt": (("lte", True, "whose {} is just the number"), ("gte", None, "whose {} is far from the number")),
    "lte": (("lt", False, "whose {} is just the number"), ("gt", None, "whose {} is far from the number")),
    "gt": (("gte", True, "whose {} is just the number"), ("lte", None, "whose {} is far from the number")),
    "gte": (("gt", False, "whose {} is just the number"), ("lt", None, "whose {} is far from the number")),
    "cased": ((None, True, "whose {} is the value in another case"),),
    "neq": ((None, None, "whose {} is the value"),),
    "i": ((None, False, "whose {} is in another case"),),
    "windash": ((None, False, "whose {} has another kind of dash"),),
}


def _modifiers(key: str, field: str, modifiers: list[str], value: Any) -> Iterator[LineChange]:
    for number, name in enumerate(modifiers):
        for other, wider, kill in _OTHER.get(name, ()):
            made = [*modifiers[:number], *([other] if other else []), *modifiers[number + 1 :]]
            what = f"{key}: {other} instead" if other else f"{key}: without {name}"
            yield what, "|".join([field, *made]), value, wider, kill.format(field)


def _values(field: str, modifiers: list[str], value: Any) -> Iterator[tuple[str, Any, bool | None, str]]:
    """The changes of one value: what, the new one, whether the line becomes wider, and what would tell."""
    if value is None:
        yield "change null to a value", "\u2205", None, f"without {field}"
    elif isinstance(value, bool):
        yield f"change {_shown(value)}", not value, None, f"whose {field} decides"
    elif isinstance(value, (int, float)):
        for step in (-1, 1):
            yield (
                f"{_shown(value)} becomes {value + step}",
                value + step,
                None,
                f"whose {field} is {value} or beside it",
            )
    elif "re" in modifiers:
        yield from _expression(field, str(value))
    elif "cidr" in modifiers:
        yield f"change '{value}'", "192.0.2.255/32", None, f"whose {field} is in {value}"
    elif isinstance(value, str):
        yield f"change '{_shown(value)}'", f"{value}\u2205", False, f"whose {field} is told by '{_shown(value)}'"
        yield from _edges(field, modifiers, value)


def _edges(field: str, modifiers: list[str], value: str) -> Iterator[tuple[str, Any, bool | None, str]]:
    """A slash, a dot or a colon at the edge of a value says where a name ends."""
    first, last = value[:1], value[-1:]
    if first in "/.:-" and len(value) > 1 and {"contains", "endswith"} & set(modifiers):
        yield (
            f"'{_shown(value)}' without {first} in front",
            value[1:],
            True,
            f"whose {field} has another character there",
        )
    if last in "/.:-" and len(value) > 1 and {"contains", "startswith"} & set(modifiers):
        yield (
            f"'{_shown(value)}' without {last} at its end",
            value[:-1],
            True,
            f"whose {field} has another character there",
        )


def _expression(field: str, value: str) -> Iterator[tuple[str, Any, bool | None, str]]:
    shown = _shown(value)
    yield f"change '{shown}'", f"\u2205{value}", False, f"whose {field} is told by '{shown}'"
    if value.startswith("^"):
        yield f"'{shown}' without ^", value[1:], True, f"whose {field} has something before it"
    if value.endswith("$") and not value.endswith("\\$"):
        yield f"'{shown}' without $", value[:-1], True, f"whose {field} goes on behind it"
    yield f"'{shown}' matches anything", "", True, f"that has a {field} which it does not match"
