"""Where one document ends and the next begins within a line, as it is when CloudTrail's files are joined.

CloudTrail's files end without a line feed, so ``zcat *.json.gz`` and ``cat *.json.gz`` give one line ``{…}{…}``, which
may be longer than memory. In sound JSON ``}{`` stands in strings alone, and ``{"Records":`` at the very beginning or
after ``:``, ``,`` or ``[``. So a document that is cut off ends where the next one begins, and costs itself alone.
Whatever the text, no byte of it is looked at more than a few times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from keytrail.jsontext import Piece, is_whole

_JOINT = re.compile(rb"\}[ \t\r]*(?=\{)")
_MARK = re.compile(rb'\{\s*"Records"\s*:')
_OPEN = re.compile(rb'(?:\}[ \t\r]*|(?:\}[ \t\r]*)?\{[ \t\r]*(?:"[Records]{0,7}"?[ \t\r]*)?)\Z')
_BEFORE_VALUES = (b":", b",", b"[")
# What may be the beginning of a seam waits for the next chunk.
_REACH = 64


def unsplit(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks of a text that do not end within a seam; what ends a line waits for nothing."""
    held = b""
    for chunk in chunks:
        text = held + chunk
        found = _OPEN.search(text[-_REACH:])
        held = b"" if found is None else found[0]
        if len(held) < len(text):
            yield text[: len(text) - len(held)]
    if held:
        yield held


def is_marked(text: bytes) -> bool:
    """Tell whether a text begins as CloudTrail's documents do."""
    return _MARK.match(text.lstrip()) is not None


class Lines:
    """The lines of a text that comes in chunks, each given in pieces: one, or a document each.

    ``waiting`` is how many bytes there are of the piece that has not ended yet.
    """

    def __init__(self) -> None:
        self._number = 1
        self._column = 1
        self._begin()

    def take(self, chunk: bytes) -> Iterator[Piece]:
        """Take a chunk; yield the pieces that end in it."""
        # Parts are joined once a line is complete: CloudTrail's own files are one line of many megabytes.
        first, *others = chunk.split(b"\n")
        yield from self._part(first)
        if not others:
            return
        yield self.end()
        *whole, last = others
        if _JOINT.search(chunk) or _MARK.search(chunk):
            for line in whole:
                yield from self._part(line)
                yield self.end()
        else:
            yield from (Piece(line, number, 1) for number, line in enumerate(whole, self._number))
            self._number += len(whole)
        yield from self._part(last)

    def _begin(self) -> None:
        self.waiting = 0
        self._parts: list[bytes] = []
        self._counted = 0  # so many parts were looked at for quotes
        self._in_string = self._escaped = False
        self._broken = False  # there was a seam in it that can be none

    def _part(self, part: bytes) -> Iterator[Piece]:
        """Take a part of a line; yield the documents that end at a seam in it."""
        begin = looked = 0
        # Two expressions, each of which begins with one byte: so they are found at the speed of memory.
        places = {found.end(): False for found in _JOINT.finditer(part)}
        places.update((found.start(), True) for found in _MARK.finditer(part))
        for at, marked in sorted(places.items()):
            if at == begin and not self._parts:
                continue
            self._count([*self._parts[self._counted :], part[looked:at]])
            self._counted, looked = len(self._parts), at
            if self._is_begun(part, begin, at) if marked else self._is_ended(part, begin, at):
                yield self._piece(part[begin:at], ends=True)
                begin = at
        if looked:
            self._count([part[looked:]])
            self._counted += 1
        self._parts.append(part[begin:])
        self.waiting += len(part) - begin

    def end(self) -> Piece:
        """Return what there is of the line that waits, and begin the next one."""
        piece = self._piece(b"", ends=False)
        self._number += 1
        self._column = 1
        return piece

    def _piece(self, last: bytes, *, ends: bool) -> Piece:
        text = b"".join([*self._parts, last])
        piece = Piece(text, self._number, self._column, ends)
        if ends:
            self._column += len(str(text, "utf-8", "replace"))
        self._begin()
        return piece

    def _count(self, texts: Iterable[bytes]) -> None:
        """Note whether a string is open after so much more of the text."""
        for text in texts:
            rest = text[1:] if self._escaped else text
            if text:
                self._escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1
            if b"\\" in rest:
                rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
            self._in_string ^= rest.count(b'"') % 2 == 1

    def _is_begun(self, part: bytes, begin: int, at: int) -> bool:
        """Tell whether a document begins at a place in a part that looks as if."""
        before = b""
        # Mostly one byte is enough, and there may be many such places.
        for reach in (1, _REACH, _REACH**2, at):
            before = before or part[max(begin, at - reach) : at].rstrip()
        before = before or next((text for one in reversed(self._parts) if (text := one.rstrip())), b"")
        return bool(before) and (self._in_string or not before.endswith(_BEFORE_VALUES))

    def _is_ended(self, part: bytes, begin: int, at: int) -> bool:
        """Tell whether a document ends at a place in a part that looks as if."""
        if self._in_string or self._broken:
            return False
        # A line of a document over several lines may close it, and the next one begin there.
        text = b"".join([*self._parts, part[begin:at]])
        self._broken = bool(text.strip(b" \t\r}]")) and not is_whole(text)
        return not self._broken
