"""Tables for what is no terminal, laid out as rich lays out those of :mod:`keytrail.render`.

rich takes as long to draw a table as all rules take to convert, and a file or a pipe shows nothing of what it is for.
``tests/test_plain_table.py`` holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len, chop_cells

WIDTH = 160  # of what is no terminal
_WORD = re.compile(r"\s*\S+\s*")


def lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table.

    Parameters: ``title`` is not longer than the headings together, ``columns`` are two or more headings, the cells of
    ``rows`` texts of one line without control characters.
    """
    widths = _widths(columns, rows)
    across = sum(widths) + 3 * (len(widths) - 1)
    yield title.ljust(across + 2)
    yield " " * (across + 2)
    yield from _row(columns, widths)
    yield f" {'─' * across} "
    for row in rows:
        yield from _row(row, widths)
    yield " " * (across + 2)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """As wide as the widest cell; where that is too much, the widest columns give way, down to the next widest."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    # rich counts the blanks around a cell as the column's, of which the outer ones have one less.
    outer = [1 if number in (0, len(widths) - 1) else 2 for number in range(len(widths))]
    most = WIDTH - 2 - (len(widths) - 1)
    wide = [min(most, width + blanks) for width, blanks in zip(widths, outer, strict=True)]
    while (excess := sum(wide) - most) > 0:
        largest = max(wide)
        second = max((width for width in wide if width != largest), default=0)
        step = min(excess, largest - second)
        left = wide.count(largest)
        for number, width in enumerate(wide):
            if width == largest:
                cut = min(step, round(excess / left))
                wide[number] -= cut
                excess -= cut
                left -= 1
    return [width - blanks for width, blanks in zip(wide, outer, strict=True)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    folded = [list(_folded(cell, width)) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*folded, fillvalue=""):
        padded = (part + " " * (width - cell_len(part)) for part, width in zip(parts, widths, strict=True))
        yield f" {'   '.join(padded)} "


def _folded(text: str, width: int) -> Iterator[str]:
    """The lines of a cell: broken between words, and within those that are too long for a line."""
    line, used = "", 0
    for word in _WORD.findall(text):
        size = cell_len(word.rstrip())
        if size > width - used:
            if size > width:
                if line:
                    yield line.rstrip()
                *whole, line = chop_cells(word, width)
                yield from whole
                used = cell_len(line)
                continue
            if used:
                yield line.rstrip()
                line, used = "", 0
        line += word
        used += cell_len(word)
    yield line.rstrip()
