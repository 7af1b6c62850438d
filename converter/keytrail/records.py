"""Read CloudTrail records from files, folders and standard input; report what is bad among the good."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from keytrail.errors import RecordError
from keytrail.jsontext import MAX_DEPTH, Piece, deeper_than, is_whole, parse, split_records
from keytrail.logfiles import STDIN, Found, find_files, named_ndjson
from keytrail.seams import is_marked
from keytrail.unpack import Unpacked

# The largest JSON document that is read. Public data sets have files of 200 MB; CloudTrail's are smaller.
MAX_DOCUMENT = 512 << 20
# So many errors are kept with their text; all are counted. A million broken lines must not fill the memory.
MAX_KEPT = 1000

_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
_SHAPES = 'neither {"Records": [...]}, nor a list of records, nor a CloudTrail record'


Skip = Callable[[bytes], bool]


class Record(NamedTuple):
    """One CloudTrail record and where it stands: the file, and its number in it, counted from 1."""

    record: dict[str, Any]
    path: str
    number: int


@dataclass
class Tally:
    """What a reader has counted: ``bad`` holds the first thousand errors, ``unread`` files that could not be read."""

    files: int = 0
    records: int = 0
    digests: int = 0
    insights: int = 0
    bad_count: int = 0
    bad: list[RecordError] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def report(self, error: RecordError) -> None:
        """Count an error."""
        # A traceback would keep the frames, and with them the whole file, for as long as the error is kept.
        error.__traceback__ = None
        self.bad_count += 1
        if len(self.bad) < MAX_KEPT:
            self.bad.append(error)

    def add(self, other: Tally) -> None:
        """Count what another reader has counted."""
        self.files += other.files
        self.records += other.records
        self.digests += other.digests
        self.insights += other.insights
        self.bad_count += other.bad_count
        self.bad += other.bad[: MAX_KEPT - len(self.bad)]
        self.unread += other.unread


class Reader(Tally):
    """The CloudTrail records in some paths, one after the other: ``for record in Reader(["logs/"])``.

    Parameters: ``paths`` as for ``find_files``, or what that found; ``stdin`` is read for ``-``; ``limit`` is the most
    bytes that one JSON document may have. One file is in memory at a time, of NDJSON one line.
    Bad input is never raised: it is counted, described, and reading goes on with the next record or file.
    Iterating again reads again, and counts from the start.

    ``files`` counts the files that were opened and were no digests, ``records`` what was yielded, ``digests``
    the digest files, ``insights`` the Insights records (both are written by CloudTrail and describe no call),
    ``passed_over`` files in folders that are no log files by their names, ``bad_count`` everything that is
    bad; ``bad`` holds the errors, the first thousand of them.
    """

    def __init__(
        self, paths: Iterable[str] | Found, *, stdin: io.BufferedIOBase | None = None, limit: int = MAX_DOCUMENT
    ) -> None:
        self.found = paths if isinstance(paths, Found) else find_files(paths)
        self.limit = limit
        self._stdin = stdin
        self._skip: Skip | None = None
        self._number = 0
        self._source: Unpacked | None = None
        self.passed_over = self.found.passed_over
        self.restart()

    @property
    def paths(self) -> Sequence[Path]:
        """The files, in the order in which they are read; ``files + digests`` of them have been opened."""
        return self.found.files

    @property
    def inside(self) -> int:
        """How many bytes of the file that is being read, or was read last, were taken out of it."""
        return 0 if self._source is None else self._source.taken

    def restart(self) -> None:
        """Count from the start."""
        super().__init__()
        self._source = None
        for error in self.found.bad:
            self.report(error)

    def lose(self, error: RecordError) -> None:
        """Count a file that was read, and is another or gone by the time when it is asked for again."""
        self.unread.append(str(error.path))
        self.report(error)

    def __iter__(self) -> Iterator[Record]:
        self.restart()
        for path in self.found.files:
            yield from self.read(path)

    def read(self, path: Path, skip: Skip | None = None) -> Iterator[Record]:
        """Yield the records of one file, and count them.

        Parameters: ``skip`` is given each line of NDJSON and may say that it is one sound record that is of no
        interest; then it is counted and not parsed.
        """
        self.files += 1
        self._skip = skip
        self._source = None
        try:
            with self._open(path) as stream:
                self._source = Unpacked(stream, str(path), self.limit)
                yield from self._file(self._source)
        except OSError as error:
            self.unread.append(str(path))
            self.report(RecordError(f"cannot be read: {error.strerror}", path=path))

    def _open(self, path: Path) -> AbstractContextManager[io.BufferedIOBase]:
        if path != STDIN:
            return path.open("rb")
        if self._stdin is None and sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        # Not ours to close.
        return nullcontext(self._stdin or cast(io.BufferedIOBase, sys.stdin.buffer))

    def _file(self, source: Unpacked) -> Iterator[Record]:
        """The records of one file: NDJSON when its first line is a whole JSON value, else documents, mostly one."""
        self._number = 0
        before = self.records
        pieces = (piece for piece in source.pieces() if piece.text and not piece.text.isspace())
        first = list(islice(pieces, 2))
        if len(first) == 2 and not first[0].ends and _is_ndjson(source.path, *(piece.text for piece in first)):
            for piece in chain(first, pieces):
                yield from self._line(source, piece)
        elif first:
            yield from self._documents(source, chain(first, pieces))
        elif source.problem is None:
            self.report(RecordError("nothing but white space", path=source.path))
        if source.problem is not None:
            used = self.records - before
            source.problem.message += f"; {used:,} records before that are used" if used else ""
            self.report(source.problem)

    def _line(self, source: Unpacked, piece: Piece) -> Iterator[Record]:
        """The records of a line of NDJSON."""
        if self._skip is not None and self._skip(piece.text):
            self._number += 1
            self.records += 1
            return
        try:
            value = parse(piece.text, path=source.path, line=piece.line, column=piece.column)
        except RecordError as error:
            yield from self._salvage(source, piece, error, by_lines=False)
        else:
            yield from self._document(value, source.path, piece.line)

    def _documents(self, source: Unpacked, pieces: Iterable[Piece]) -> Iterator[Record]:
        """The records of a file that is one JSON document, or several end to end, of which one is held at a time."""
        data = bytearray()
        start = last = Piece(b"", 1, 1)
        broken = False
        for piece in pieces:
            joined = last.ends and is_marked(piece.text)
            if not joined and not broken and last.text.rstrip().endswith(b"}") and piece.text.lstrip().startswith(b"{"):
                # No sound document has that within it; and one that is not sound is not asked again and again.
                joined = is_whole(data)
                broken = not joined
            if joined:
                yield from self._whole(source, data, start, ends=True)
                data, start, broken = bytearray(), piece, False
            # As many line feeds as there were, so that errors name the right line.
            data += b"\n" * (piece.line - (last.line if data else start.line)) + piece.text
            last = piece
            if len(data) > source.limit:
                source.stop_too_long()
                return
        yield from self._whole(source, data, start, ends=False)

    def _whole(self, source: Unpacked, data: bytearray, start: Piece, *, ends: bool) -> Iterator[Record]:
        """The records of one JSON document, which begins where ``start`` does; another follows where it ``ends``."""
        try:
            value = parse(data, path=source.path, line=start.line, column=start.column)
        except RecordError as error:
            yield from self._salvage(source, start._replace(text=bytes(data), ends=ends), error, by_lines=True)
        else:
            # The text is half of what a file needs in memory.
            data.clear()
            yield from self._document(value, source.path, start.line if start.text else None)

    def _salvage(self, source: Unpacked, whole: Piece, error: RecordError, *, by_lines: bool) -> Iterator[Record]:
        """The good records of a document that does not parse: the trouble may be in one of them only."""
        pieces = split_records(whole.text, whole.line, whole.column)
        for piece in pieces or ():
            try:
                value = parse(piece.text, path=source.path, line=piece.line, column=piece.column)
            except RecordError as flaw:
                self._number += 1
                flaw.message = f"record {self._number}: {flaw.message}"
                self.report(flaw)
            else:
                yield from self._checked([value], source.path, piece.line)
        if pieces:
            return
        lines = [Piece(text, at, 1) for at, text in enumerate(whole.text.split(b"\n"), whole.line) if text.strip()]
        if by_lines and len(lines) > 1 and (named_ndjson(source.path) or is_whole(lines[1].text)):
            # NDJSON whose first line is broken.
            for line in lines:
                yield from self._line(source, line)
        elif source.problem is None or whole.ends:
            # Of a file that is cut off, that is the trouble, and not how its last line ends.
            self.report(error)

    def _document(self, value: object, path: str, line: int | None) -> Iterator[Record]:
        """The records of a parsed document: a list of them, one of them, or CloudTrail's file format."""
        items = value
        if isinstance(value, dict):
            if "digestS3Bucket" in value and "digestS3Object" in value:
                self.digests += 1
                self.files -= 1
                return
            items = value["Records"] if "Records" in value else [value] if _is_like_record(value) else None
        if isinstance(items, list):
            yield from self._checked(items, path, line)
        else:
            self.report(RecordError(_SHAPES, path=path, line=line, hint=_shape_hint(value)))

    def _checked(self, items: list[Any], path: str, line: int | None) -> Iterator[Record]:
        """Those items that are CloudTrail records."""
        some_deep = deeper_than(items, MAX_DEPTH + 1)
        for item in items:
            self._number += 1
            if _is_insight(item):
                self.insights += 1
                continue
            flaw = flaw_of(item)
            if flaw is None and some_deep and deeper_than(item, MAX_DEPTH):
                flaw = f"is nested more than {MAX_DEPTH} levels deep"
            if flaw is not None:
                self.report(RecordError(f"record {self._number} {flaw}", path=path, line=line))
                continue
            self.records += 1
            yield Record(item, path, self._number)


def _is_ndjson(path: str, first: bytes, second: bytes) -> bool:
    """Whether a file of several lines is NDJSON, by its first lines; the first may be broken."""
    return is_whole(first) or (named_ndjson(path) and is_whole(second))


def _is_like_record(value: dict[str, Any]) -> bool:
    return "eventSource" in value or "eventName" in value or _is_insight(value)


def _is_insight(item: object) -> bool:
    if not isinstance(item, dict) or "eventName" in item:
        return False
    return item.get("eventType") == "AwsCloudTrailInsight"


def flaw_of(item: object) -> str | None:
    """Why this is no CloudTrail record: that has eventSource and eventName; all else can be absent."""
    if not isinstance(item, dict):
        return f"is no object but {_KINDS.get(type(item), 'a number')}"
    names = ("eventSource", "eventName")
    missing = [name for name in names if not (isinstance(item.get(name), str) and item[name])]
    return f"is no CloudTrail record: it has no {' and no '.join(missing)}" if missing else None


def _shape_hint(value: object) -> str | None:
    if isinstance(value, dict) and "Events" in value:
        return "lookup-events output: take the records out with jq -c '.Events[].CloudTrailEvent | fromjson'"
    return None
