"""An explanation as a tree on a terminal: what holds and what does not, with the event's values, shortened."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.tree import Tree

from keytrail.correlation_explain import CorrelationExplanation
from keytrail.explain import Explanation, Line, Node
from keytrail.folding import fold
from keytrail.render import safe

MOST_VALUES = 3
LONGEST = 120
_AROUND = 30
_WIDEST = 10_000
_WHY = {
    "absent": "absent",
    "null": "null",
    "object": "an object, no value",
    "present": "must be absent",
    "equal": "must be something else",
}


def show(found: Explanation | CorrelationExplanation, out: Console, heading: str = "") -> None:
    """Print an explanation, below a ``heading`` that says what it is of."""
    if heading:
        out.print(f"[dim]{safe(heading)}[/]", soft_wrap=True)
    answer = "[green]matches[/]" if found.matches else "[red]does not match[/]"
    out.print(f"[bold]{safe(found.rule.title)}[/] {answer}", soft_wrap=True)
    rule = found.tree.children[0] if found.tree.kind == "filtered" else found.tree
    for one in found.excluded_by if rule.holds else ():
        said = f"excluded by the filter {one}: {one.reason}"
        out.print(f"[yellow]{safe(said)}[/]", soft_wrap=True)
    View(out).print(found.tree)


class View:
    """Prints trees on one console; where it takes no more than ASCII, in ASCII."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._ascii = out.options.ascii_only
        self._pointing = False

    def print(self, root: Node) -> None:
        """Print a tree."""
        self._pointing = not root.holds
        tree = Tree(self._label(root, ""), guide_style="dim")
        self._grow(tree, root, "")
        narrow = self._out.width
        if not self._out.is_terminal:  # a line of the tree is a line for who reads it with other tools
            self._out.width = _WIDEST
        self._out.print(tree)
        self._out.width = narrow

    def _grow(self, tree: Tree, node: Node, prefix: str) -> None:
        prefix = node.exclusion.prefix if node.exclusion is not None else prefix
        for child in node.children:
            self._grow(tree.add(self._label(child, prefix)), child, prefix)

    def _label(self, node: Node, prefix: str) -> str:
        text = _line(node.line) if node.line is not None else safe(_named(node, prefix))
        pointer = " [bold]<- decides[/]" if self._pointing and node.decisive and node.line is not None else ""
        text = f"{self._mark(node.holds)} {text}{pointer}"
        return text.encode("ascii", "backslashreplace").decode() if self._ascii else text

    def _mark(self, held: bool) -> str:
        yes, no = ("yes", "no ") if self._ascii else ("✓", "✗")
        return f"[green]{yes}[/]" if held else f"[red]{no}[/]"


def _named(node: Node, prefix: str) -> str:
    text = node.text_without(prefix)
    if node.exclusion is not None:
        what = "passes the filter" if node.holds else "excluded by the filter"
        return f"{what} {node.exclusion}"
    if node.kind == "filtered":
        count = len(node.children) - 1
        return f"the rule and {count} filter{'s' if count > 1 else ''}"
    return f"{text} (any of these)" if node.kind == "alternatives" else text


def _line(line: Line) -> str:
    wanted = _list(line.met if line.holds and line.met else _as_list(line.wanted), [], line)
    left = len(_as_list(line.wanted)) - len(line.met) if line.holds and line.met else 0
    shown = f"{safe(line.asked)}: {wanted}{f' (or {left} more)' if left > 0 else ''}"
    if line.compared is not None:
        shown += f" ({_list(line.compared, [], line) if line.compared else 'absent'})"
    texts = [str(value) for value in _as_list(line.wanted) if isinstance(value, str)]
    found = _list(line.found, texts, line) if line.found else ""
    why = _WHY.get(line.state, "")
    if line.state == "holds" and not line.found:
        why = "an object" if line.present else "absent"
    said = "; ".join(part for part in (found, why) if part)
    return f"{shown}   [dim]event: {said}[/]"


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _list(values: Sequence[Any], wanted: Sequence[str], line: Line) -> str:
    parts = [_value(value, wanted, line) for value in values[:MOST_VALUES]]
    if len(values) > MOST_VALUES:
        parts.append(f"{len(values) - MOST_VALUES} more")
    return safe(", ".join(parts))


def _value(value: Any, wanted: Sequence[str], line: Line) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return f"'{excerpt(value, wanted, line.asked.split('|')[1:])}'"


def excerpt(value: str, wanted: Sequence[str], modifiers: Sequence[str] = ()) -> str:
    """Return ``value``, where it is long only the part that matters to who looks for ``wanted``.

    That is its end for ``endswith``; for ``contains`` and wildcards where the longest beginning of what is wanted
    stands; else the place where the two begin to differ.
    """
    if len(value) <= LONGEST:
        return value
    if "endswith" in modifiers:
        return "…" + value[-LONGEST:]
    inside = "contains" in modifiers or any(re.search(r"[*?]", text) for text in wanted)
    folded = fold(value)
    places = [_nearest(folded, fold(text)) if inside else (0, _common(folded, fold(text))) for text in wanted]
    place, length = max(places, key=lambda found: found[1], default=(0, 0))
    start = max(0, place - _AROUND if inside else place + length - LONGEST // 2)
    end = min(len(value), max(start + LONGEST, place + length + _AROUND if inside else 0), start + 2 * LONGEST)
    return ("…" if start else "") + value[start:end] + ("…" if end < len(value) else "")


def _nearest(value: str, wanted: str) -> tuple[int, int]:
    """Where the longest beginning of the longest plain piece of ``wanted`` stands in ``value``, and its length."""
    piece = max(re.split(r"[*?]", wanted), key=len)
    low, high = 0, len(piece)
    while low < high:  # what has a beginning of n characters has the shorter ones too
        middle = (low + high + 1) // 2
        low, high = (middle, high) if piece[:middle] in value else (low, middle - 1)
    return value.find(piece[:low]), low


def _common(one: str, two: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
