"""Asking for one key in the string that Java prints for a map: ``{keyId=…, encryptionContext={aws:s3:arn=…}}``.

Elastic's integration keeps such a string of requestParameters and the like beside the flattened field. A regular
expression finds a key's value in it as long as the map is *plain*: no key or value has a comma, a brace or a bracket,
objects nest two deep at most, and no list holds objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keytrail import folding, regex
from keytrail.errors import Refused
from keytrail.mapping import FieldType
from keytrail.resolved import Pattern, Regex, Test, Wild
from keytrail.verdict import Condition, Strays

SPECIAL = frozenset(",{}[]")
_VALUE = "[^,{}\\[\\]]"
_INSIDE = "[^{}]*"
_BESIDE = "([^{}]|\\{[^{}]*\\})*"


def java_map_query(
    test: Test, path: str, keyword: FieldType, condition: Callable[[str, str, Strays, int | None], Condition]
) -> tuple[dict[str, Any], tuple[Condition, ...]]:
    """Return the query for ``test`` on the key ``path`` of the map kept in ``keyword``, and its conditions.

    ``condition`` makes a condition of (kind, text, strays, limit). Raises :class:`Refused` for what the string
    cannot answer.
    """
    keys = path.split(".")
    if not isinstance(test, (Pattern, Regex)) or len(keys) > 2 or SPECIAL & set(path):
        raise Refused(
            f"{path}: only a string can be looked for in {keyword.name}, at most two keys deep", field=keyword.name
        )
    if isinstance(test, Regex):
        value = f"({regex.to_lucene(test, excluded=''.join(sorted(SPECIAL)))})"
    else:
        value = "".join(_part(part, test.cased, path) for part in test.parts)
    found = f"{_key(keys[-1])}=({value}|\\[({_INSIDE}, )?{value}(, {_INSIDE})?\\])"
    if len(keys) == 2:
        found = f"{_key(keys[0])}=\\{{({_INSIDE}, )?{found}(, {_INSIDE})?\\}}"
    expression = f"\\{{({_BESIDE}, )?{found}(, .*)?\\}}"
    if len(expression) > regex.LONGEST:
        raise Refused(f"{path}: the value is too long to be looked for in {keyword.name}", field=keyword.name)
    plain = (
        "the object that holds {name} is plain: no comma, brace or bracket in a key or value, "
        "objects two deep at most, no list of objects"
    )
    conditions = [condition("plain_map", plain, Strays.BOTH, None)]
    if keyword.ignore_above is not None:
        text = f"that object prints as at most {keyword.ignore_above:,} characters"
        conditions.append(condition("map_not_longer", text, Strays.MISSES, keyword.ignore_above))
    return {"regexp": {keyword.name: {"value": expression, "flags": "NONE"}}}, tuple(conditions)


def _key(key: str) -> str:
    return "".join(map(regex.escape, key))


def _part(part: str | Wild, cased: bool, path: str) -> str:
    if part is Wild.MANY:
        return _VALUE + "*"
    if part is Wild.ONE:
        return _VALUE
    if SPECIAL & set(part):
        raise Refused(f"{path}: a value with a comma, brace or bracket cannot be told apart in a Java map")
    return "".join(_letter(character, cased) for character in part)


def _letter(character: str, cased: bool) -> str:
    cases = (character,) if cased else folding.variants(character)
    return regex.escape(character) if len(cases) == 1 else "[" + "".join(cases) + "]"


def is_plain(node: object, depth: int = 0) -> bool:
    """Tell whether an object is plain in the sense above."""
    if isinstance(node, Mapping):
        return depth < 2 and all(not SPECIAL & set(key) and is_plain(value, depth + 1) for key, value in node.items())
    if isinstance(node, list):
        return all(not isinstance(element, (Mapping, list)) and is_plain(element, depth) for element in node)
    return not (isinstance(node, str) and SPECIAL & set(node))
