"""What Java prints for a value, and in which order: Elastic's ingest pipelines keep objects in that form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache


def text(node: object) -> str:
    """Return what Java's ``toString`` gives for a JSON value: ``{k=v, list=[1, 2]}``.

    A map prints in its own order; bring its keys into :func:`hash_order` first.
    """
    if isinstance(node, Mapping):
        return "{" + ", ".join(f"{key}={text(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(text, node)) + "]"
    if node is None or isinstance(node, bool):
        return {None: "null", True: "true", False: "false"}[node]
    return _double(node) if isinstance(node, float) else str(node)


def length(string: str) -> int:
    """Return the length that Java gives a string: its UTF-16 code units."""
    return len(string) + sum(character > "\uffff" for character in string)


def hash_order(keys: Iterable[str]) -> list[str]:
    """Return the keys in the order in which a Java HashMap that took them one by one gives them back."""
    names = list(keys)
    buckets = 16
    while len(names) * 4 > buckets * 3:
        buckets *= 2
    return sorted(names, key=lambda name: _spread(name) & (buckets - 1))


@lru_cache(maxsize=65536)
def _spread(key: str) -> int:
    units = key.encode("utf-16-le", "surrogatepass")
    code = 0
    for at in range(0, len(units), 2):
        code = (31 * code + (units[at + 1] << 8 | units[at])) & 0xFFFFFFFF
    return code ^ (code >> 16)


def _double(number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    written = Decimal(repr(number))
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        plain = format(written, "f")
        return plain if "." in plain else plain + ".0"
    sign, places, exponent = written.as_tuple()
    digits = "".join(map(str, places))
    power = len(digits) - 1 + int(exponent)
    return f"{'-' if sign else ''}{digits[0]}.{digits[1:].rstrip('0') or '0'}E{power}"
