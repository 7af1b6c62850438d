"""Which records of a log file may matter to a rule, found without reading the others.

A file that is one sound document ``{"Records": [...]}``, as CloudTrail writes it, is unpacked in one go and checked in
one pass from end to end: that it is UTF-8 and JSON, and that each record has an eventSource and an eventName. Only
these are taken out, the time where it is needed, and the JSON of members that most records are asked about. Whatever
is not such a file is left to the careful :class:`keytrail.records.Reader`.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, cast

import msgspec
import orjson
from isal import isal_zlib

from keytrail.errors import RecordError
from keytrail.jsontext import MAX_DEPTH, deeper_than
from keytrail.logfiles import named_ndjson
from keytrail.unpack import BOMB_RATIO, GZIP_MAGIC

# A larger file is read by the careful reader as well, which holds one line of it at a time where that is enough.
LARGEST = 256 << 20
_HEAD = 256
# From one record in so many on, the texts of all are found in one more pass.
MANY = 16
_DOCUMENT = re.compile(rb'\s*\{\s*"Records"\s*:\s*\[')
_Damaged = cast(type[Exception], isal_zlib.error)
_ANCHOR = b'{"eventVersion":'
_Unsound = (UnicodeDecodeError, msgspec.MsgspecError, RecursionError)

ABSENT = msgspec.Raw(b"")
Text = Annotated[str, msgspec.Meta(min_length=1)]
Time = Union[str, msgspec.UnsetType, None]
Kind = tuple[str, str]  # eventSource and eventName
source_of: Callable[[Any], str] = attrgetter("eventSource")
name_of: Callable[[Any], str] = attrgetter("eventName")
time_of: Callable[[Any], Any] = attrgetter("eventTime")


class NotPlain(Exception):
    """The file is for the careful reader."""


def _raws(members: Iterable[str]) -> list[tuple[str, Any, Any]]:
    """Fields that take the JSON of members; of duplicate keys the last one counts, as for the reader."""
    return [
        (f"member{place}", msgspec.Raw, msgspec.field(default=ABSENT, name=member))
        for place, member in enumerate(members)
    ]


class Shape:
    """What is taken out of every record.

    Parameters: ``timed`` says whether the time is; ``members`` are taken as JSON. A record with one of ``strange`` is
    for the careful ways: with a member ``a.b`` beside ``a``, say.
    """

    def __init__(self, members: Sequence[str] = (), strange: Sequence[str] = (), *, timed: bool) -> None:
        # In the order in which CloudTrail writes them, they are found faster.
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("eventVersion", msgspec.Raw, ABSENT)]
        if timed:
            fields.append(("eventTime", Time, msgspec.UNSET))
        fields += [("eventSource", Text), ("eventName", Text), *_raws((*members, *strange))]
        record = msgspec.defstruct("Record", fields, gc=False, kw_only=True)
        digest = [(name, msgspec.Raw, ABSENT) for name in ("digestS3Bucket", "digestS3Object")]
        document = msgspec.defstruct("Document", [("Records", list[record]), *digest], kw_only=True)  # type: ignore[valid-type]
        self.document: msgspec.json.Decoder[Any] = msgspec.json.Decoder(document)
        self.members = tuple(members)
        self.timed = timed
        named = [attrgetter(f"member{place}") for place in range(len(members) + len(strange))]
        self._members, self._strange = named[: len(members)], named[len(members) :]

    def keys(self, outlines: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Return of each record the eventSource, the eventName, and the JSON of each member (empty where it is absent).

        Raises :class:`NotPlain` where a record has a strange member.
        """
        for strange in self._strange:
            if list(map(strange, outlines)).count(ABSENT) < len(outlines):
                raise NotPlain
        columns = (map(bytes, map(member, outlines)) for member in self._members)
        return zip(map(source_of, outlines), map(name_of, outlines), *columns, strict=True)


class _Texts(msgspec.Struct):
    Records: list[msgspec.Raw]


_texts = msgspec.json.Decoder(_Texts)


class Line(msgspec.Struct, gc=False):
    """What is taken out of a record that is a line of its own."""

    eventSource: Text
    eventName: Text
    eventTime: Time = msgspec.UNSET


_line = msgspec.json.Decoder(Line)


class Stored(NamedTuple):
    """A file that was searched, as it was then: its records can be read again when somebody asks for them."""

    path: str
    size: int
    changed: int
    limit: int

    def text(self, place: int) -> bytes:
        """Return the JSON of the record at a place. Raises :class:`RecordError` where the file is another by now."""
        return bytes(_again(self)[place])


@lru_cache(maxsize=1)
def _again(stored: Stored) -> list[msgspec.Raw]:
    """The records of the file that was asked for last: mostly, they are asked for one after the other."""
    try:
        data, now = _content(Path(stored.path), stored.limit)
        if now == stored:
            return _texts.decode(data).Records
    except OSError as error:
        raise RecordError(f"cannot be read again: {error.strerror}", path=stored.path) from error
    except (NotPlain, *_Unsound):
        pass
    hint = "hunt again, when nobody writes there"
    raise RecordError("the file has changed since it was searched", path=stored.path, hint=hint)


class Scanned:
    """The outlines of a file's records, and the text of each that is asked for."""

    def __init__(self, data: bytes, shape: Shape, stored: Stored) -> None:
        self._data = data
        self._start = _address(data)
        self.stored = stored
        try:
            if not data.isascii():
                str(data, "utf-8")
            document = shape.document.decode(data)
        except _Unsound as error:
            raise NotPlain from error
        if document.digestS3Bucket is not ABSENT or document.digestS3Object is not ABSENT:
            raise NotPlain
        self.outlines: Sequence[Any] = document.Records
        self._all: list[msgspec.Raw] | None = None

    def texts(self, places: Sequence[int]) -> Iterator[bytes]:
        """Yield the JSON of the records at some places, which are counted from 0."""
        if self._all is None and len(places) * MANY > len(self.outlines):
            self._all = _texts.decode(self._data).Records
        return map(self._text, places)

    def _text(self, place: int) -> bytes:
        if self._all is None:
            begin = self._begin(place)
            end = None if place + 1 == len(self.outlines) else self._begin(place + 1)
            if begin is not None and end is not None:
                # Between two records there is a comma, and perhaps white space.
                return self._data[begin : self._data.rindex(b",", begin, end)]
            self._all = _texts.decode(self._data).Records
        return bytes(self._all[place])

    def _begin(self, place: int) -> int | None:
        """Where a record begins whose first key is eventVersion, as CloudTrail writes it; None for any other.

        The brace before a key that is the record's own is the record's.
        """
        raw = self.outlines[place].eventVersion
        if raw is ABSENT:
            return None
        begin = _address(raw) - self._start - len(_ANCHOR)
        return begin if self._data[max(begin, 0) : begin + len(_ANCHOR)] == _ANCHOR else None


def scan(path: Path, limit: int, shape: Shape) -> Scanned:
    """Return what is in a file. Raises :class:`NotPlain` for one that the careful reader has to read.

    Parameters: ``limit`` is the most bytes that a document may have. Errors: OSError when it cannot be read.
    """
    data, stored = _content(path, limit)
    return Scanned(data, shape, stored)


def _content(path: Path, limit: int) -> tuple[bytes, Stored]:
    """What is in a file, unpacked, and which file that is."""
    largest = min(limit, LARGEST)
    name = str(path)
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # what is read of a pipe is gone for the careful reader
        raise NotPlain
    if named_ndjson(name) or status.st_size > largest:
        raise NotPlain
    with path.open("rb", buffering=0) as stream:
        data = stream.readall()
    packed = data.startswith(GZIP_MAGIC)
    plain = packed or not name.lower().endswith(".gz")
    if not plain or not _DOCUMENT.match(_inflated(data[:_HEAD], _HEAD)[0] if packed else data):
        raise NotPlain
    if packed:
        data = _unpacked(data, largest)
    if len(data) > largest:
        raise NotPlain
    return data, Stored(name, status.st_size, status.st_mtime_ns, limit)


def _unpacked(data: bytes, largest: int) -> bytes:
    """The content of a gzip file of one member, whose last four bytes say how long it is."""
    size = int.from_bytes(data[-4:], "little")
    if size > largest or size > BOMB_RATIO * len(data):
        raise NotPlain
    found, ended = _inflated(data, size + 1)
    if not ended or len(found) != size:
        raise NotPlain
    return found


def _inflated(data: bytes, most: int) -> tuple[bytes, bool]:
    """What a gzip member has, as far as it is there and no more than so many bytes; whether it and the data end."""
    inflate = isal_zlib.decompressobj(wbits=31)
    try:
        return inflate.decompress(data, most), inflate.eof and not inflate.unused_data
    except _Damaged as error:
        raise NotPlain from error


def line(text: bytes) -> Line | None:
    """Return the outline of a text that is one sound record; None for anything else."""
    try:
        if not text.isascii():
            str(text, "utf-8")
        return _line.decode(text)
    except _Unsound:
        return None


class Picker:
    """Takes the JSON of some members out of the text of a record."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self._members = members
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Members", _raws(members), gc=False))

    def __call__(self, text: bytes) -> dict[str, bytes]:
        """Return the members that the record has, each with its JSON."""
        found = msgspec.structs.astuple(self._decoder.decode(text))
        return {name: bytes(raw) for name, raw in zip(self._members, found, strict=True) if raw is not ABSENT}


picker = lru_cache(maxsize=1024)(Picker)


def value(text: bytes, levels: int = MAX_DEPTH - 1) -> Any:
    """Return the value of JSON that was scanned. Raises :class:`NotPlain` where it is beyond the reader's limits.

    Parameters: ``levels`` is how deep it may be nested; a record's member by default.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotPlain from error
    if text.count(b"{") + text.count(b"[") > levels and deeper_than(found, levels):
        raise NotPlain
    return found


def record(text: bytes) -> dict[str, Any]:
    """Return the record of a text that was scanned. Raises :class:`NotPlain` where it is beyond the reader's limits."""
    found: dict[str, Any] = value(text, MAX_DEPTH)
    return found


# -- where in a buffer a part of it lies --------------------------------------------------------------------------


class _Buffer(ctypes.Structure):
    """Py_buffer, as the stable interface of Python lays it out."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_acquire, _release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
_acquire.argtypes, _acquire.restype = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int], ctypes.c_int
_release.argtypes, _release.restype = [ctypes.POINTER(_Buffer)], None


_view = _Buffer()


def _address(held: bytes | msgspec.Raw) -> int:
    """Where the bytes of an object lie: msgspec gives parts of its input as views of it, but not their place."""
    _acquire(held, _view, 0)
    try:
        return int(_view.buf or 0)
    finally:
        _release(_view)
