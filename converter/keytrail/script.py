"""The one script that queries use: whether a value of one field is, or lies in, a value of another, ignoring case.

Its source is always the same text, compiled once by a server; the fields' names and what is asked are parameters, so
that nothing of a rule is ever code. It folds letters as :mod:`keytrail.folding` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from keytrail.folding import fold

EQUALS, STARTS, ENDS, CONTAINS = "equals", "starts", "ends", "contains"
# Doubles are written as JSON writes plain numbers. A field that an index does not have is one without values. Letters
# are taken one by one, because how Java lowers a sigma depends on its neighbours.
SOURCE = """\
String written(def value) {
  if (value instanceof Double) { return new BigDecimal(value.toString()).stripTrailingZeros().toPlainString(); }
  return value.toString();
}
boolean ascii(String text) {
  for (int i = 0; i < text.length(); i++) { if (text.codePointAt(i) > 127) { return false; } }
  return true;
}
String letter(String one) {
  String upper = one.toUpperCase(Locale.ROOT);
  String low = (upper.codePointCount(0, upper.length()) == 1 ? upper : one).toLowerCase(Locale.ROOT);
  return low.codePointCount(0, low.length()) != 1 || ascii(low) ? one : low;
}
String folded(String text) {
  if (ascii(text)) { return text.toLowerCase(Locale.ROOT); }
  StringBuilder made = new StringBuilder();
  int i = 0;
  while (i < text.length()) {
    int end = i + Character.charCount(text.codePointAt(i));
    String one = text.substring(i, end);
    made.append(ascii(one) ? one.toLowerCase(Locale.ROOT) : letter(one));
    i = end;
  }
  return made.toString();
}
Set values(Map doc, String name) {
  Set found = new HashSet();
  if (doc.containsKey(name)) { for (def value : doc[name]) { found.add(folded(written(value))); } }
  return found;
}
boolean any(String one, Set others, String how) {
  if (how == 'equals') { return others.contains(one); }
  for (String other : others) {
    if (how == 'starts' ? one.startsWith(other) : how == 'ends' ? one.endsWith(other) : one.contains(other)) {
      return true;
    }
  }
  return false;
}
Set others = values(doc, params.other);
for (String one : values(doc, params.field)) { if (any(one, others, params.how)) { return true; } }
return false;
"""

_RELATED: dict[str, Callable[[str, Collection[str]], bool]] = {
    EQUALS: lambda one, others: one in others,
    STARTS: lambda one, others: any(map(one.startswith, others)),
    ENDS: lambda one, others: any(map(one.endswith, others)),
    CONTAINS: lambda one, others: any(other in one for other in others),
}


def query(field: str, other: str, how: str) -> dict[str, Any]:
    """Return the query for the documents with a value of ``field`` that has relation ``how`` to one of ``other``."""
    params = {"field": field, "other": other, "how": how}
    return {"script": {"script": {"lang": "painless", "source": SOURCE, "params": params}}}


def parameters(inner: object) -> tuple[str, str, str] | None:
    """Return field, other and relation of the inside of a script query; None where it is not this module's script."""
    spec = inner.get("script") if isinstance(inner, Mapping) else None
    given = spec.get("params") if isinstance(spec, Mapping) else None
    if not isinstance(given, Mapping):
        return None
    names = given.get("field"), given.get("other"), given.get("how")
    field, other, how = names
    if not (isinstance(field, str) and isinstance(other, str) and isinstance(how, str) and how in _RELATED):
        return None
    return (field, other, how) if {"script": inner} == query(field, other, how) else None


def related(values: Collection[Any], others: Collection[Any], how: str) -> bool:
    """Tell what the script does, of what an index holds for two fields."""
    found = {fold(written(value)) for value in others}
    return any(_RELATED[how](fold(written(value)), found) for value in values)


def written(value: Any) -> str:
    """Return a value of an index as the script writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        plain = format(Decimal(repr(value)), "f")
        shown = plain.rstrip("0").rstrip(".") if "." in plain else plain
        return "0" if shown == "-0" else shown
    return str(value)
