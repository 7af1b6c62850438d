"""Asking for one key in the string that Java prints for a map: ``{keyId=…, encryptionContext={aws:s3:arn=…}}``.

Elastic's integration keeps such a string of requestParameters and the like beside the flattened field. A regular
expression finds a key's value in it as long as the map is *plain*: no key or value has a comma, a brace or a bracket,
objects nest two deep at most, and no list holds objects.
"""

from __future__ import annotations

from collections.abc import Mapping

from keytrail import automaton, folding, regex
from keytrail.errors import Refused
from keytrail.resolved import Pattern, Regex, Wild

SPECIAL = frozenset(",{}[]")
_VALUE = "[^,{}\\[\\]]"
_INSIDE = "[^{}]*"
_BESIDE = "([^{}]|\\{[^{}]*\\})*"


def java_map_expression(test: Pattern | Regex, path: str, keyword: str) -> str:
    """Return the Lucene expression for ``test`` on the key ``path`` of a plain map that is kept in ``keyword``.

    Raises :class:`Refused` for what the string cannot answer.
    """
    keys = path.split(".")
    if len(keys) > 2 or SPECIAL & set(path):
        raise Refused(f"{path}: {keyword} can be asked for keys at most two deep", field=keyword)
    if isinstance(test, Regex):
        value = f"({regex.to_lucene(test, excluded=''.join(sorted(SPECIAL)))})"
    else:
        value = "".join(_part(part, test.cased, path) for part in test.parts)
    found = f"{_key(keys[-1])}=({value}|\\[({_INSIDE}, )?{value}(, {_INSIDE})?\\])"
    if len(keys) == 2:
        found = f"{_key(keys[0])}=\\{{({_INSIDE}, )?{found}(, {_INSIDE})?\\}}"
    expression = f"\\{{({_BESIDE}, )?{found}(, .*)?\\}}"
    if len(expression) > regex.LONGEST:
        raise Refused(f"{path}: the value is too long to be looked for in {keyword}", field=keyword)
    automaton.check(expression)
    return expression


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
        return depth < 2 and all(
            not (SPECIAL | {"."}) & set(key) and is_plain(value, depth + 1) for key, value in node.items()
        )
    if isinstance(node, list):
        return all(not isinstance(element, (Mapping, list)) and is_plain(element, depth) for element in node)
    return not (isinstance(node, str) and SPECIAL & set(node))
