"""Which records of a log file may matter to a rule, found without reading the others.

A file that is one sound document ``{"Records": [...]}``, as CloudTrail writes it, is unpacked in one go and checked in
one pass from end to end: that it is UTF-8 and JSON, and that each record has an eventSource and an eventName. Only
these, and the time, are taken out. Whatever is not such a file is left to the careful :class:`keytrail.records.Reader`.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Union, cast

import msgspec
import orjson
from isal import isal_zlib

from keytrail.jsontext import MAX_DEPTH, deeper_than
from keytrail.records import named_ndjson
from keytrail.unpack import BOMB_RATIO, GZIP_MAGIC

# A larger file is read by the careful reader as well, which holds one line of it at a time where that is enough.
LARGEST = 256 << 20
_HEAD = 256
# From one record in so many on, the texts of all are found in one more pass.
MANY = 16
_DOCUMENT = re.compile(rb'\s*\{\s*"Records"\s*:\s*\[')
_Damaged = cast(type[Exception], isal_zlib.error)
_ANCHOR = b'{"eventVersion":'

Optional = Union[msgspec.Raw, msgspec.UnsetType]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Outline(msgspec.Struct, gc=False):
    """What is taken out of every record; the last of duplicate keys counts, as for the reader."""

    eventSource: Text
    eventName: Text
    eventTime: Union[str, msgspec.UnsetType, None] = msgspec.UNSET
    eventVersion: Optional = msgspec.UNSET


class _Document(msgspec.Struct):
    Records: list[Outline]
    digestS3Bucket: Optional = msgspec.UNSET
    digestS3Object: Optional = msgspec.UNSET


class _Texts(msgspec.Struct):
    Records: list[msgspec.Raw]


_document = msgspec.json.Decoder(_Document)
_texts = msgspec.json.Decoder(_Texts)
_line = msgspec.json.Decoder(Outline)
name_of: Callable[[Outline], str] = attrgetter("eventName")
Kind = tuple[str, str]  # eventSource and eventName
kind_of: Callable[[Outline], Kind] = attrgetter("eventSource", "eventName")
time_of: Callable[[Outline], Any] = attrgetter("eventTime")


class NotPlain(Exception):
    """The file is for the careful reader."""


class Scanned:
    """The outlines of a file's records, and the text of each that is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = _address(data)
        try:
            if not data.isascii():
                str(data, "utf-8")
            document = _document.decode(data)
        except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
            raise NotPlain from error
        if document.digestS3Bucket is not msgspec.UNSET or document.digestS3Object is not msgspec.UNSET:
            raise NotPlain
        self.outlines: Sequence[Outline] = document.Records
        self._all: list[msgspec.Raw] | None = None

    def texts(self, places: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield the JSON of the records at some places, which are counted from 0, each with its place."""
        if len(places) * MANY > len(self.outlines):
            self._all = _texts.decode(self._data).Records
        for place in places:
            yield place, self._text(place)

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
        if isinstance(raw, msgspec.UnsetType):
            return None
        begin = _address(raw) - self._start - len(_ANCHOR)
        return begin if self._data[max(begin, 0) : begin + len(_ANCHOR)] == _ANCHOR else None


def scan(path: Path, limit: int) -> Scanned:
    """Return what is in a file. Raises :class:`NotPlain` for one that the careful reader has to read.

    Parameters: ``limit`` is the most bytes that a document may have. Errors: OSError when it cannot be read.
    """
    largest = min(limit, LARGEST)
    name = str(path)
    with path.open("rb", buffering=0) as stream:
        head = stream.read(_HEAD)
        packed = head.startswith(GZIP_MAGIC)
        plain = not named_ndjson(name) and (packed or not name.lower().endswith(".gz"))
        if not plain or os.fstat(stream.fileno()).st_size > largest or not _DOCUMENT.match(_peek(head, packed)):
            raise NotPlain
        data = head + stream.readall()
    if packed:
        data = _unpacked(data, largest)
    if len(data) > largest:
        raise NotPlain
    return Scanned(data)


def _peek(head: bytes, packed: bool) -> bytes:
    if not packed:
        return head
    try:
        found: bytes = isal_zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except _Damaged as error:
        raise NotPlain from error
    return found


def _unpacked(data: bytes, largest: int) -> bytes:
    """The content of a gzip file of one member, whose last four bytes say how long it is."""
    size = int.from_bytes(data[-4:], "little")
    if size > largest or size > BOMB_RATIO * len(data):
        raise NotPlain
    inflate = isal_zlib.decompressobj(wbits=31)
    try:
        found: bytes = inflate.decompress(data, size + 1)
    except _Damaged as error:
        raise NotPlain from error
    if not inflate.eof or inflate.unused_data or len(found) != size:
        raise NotPlain
    return found


def outline(text: bytes) -> Outline | None:
    """Return the outline of a text that is one sound record; None for anything else."""
    try:
        if not text.isascii():
            str(text, "utf-8")
        return _line.decode(text)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return None


def record(text: bytes) -> dict[str, Any]:
    """Return the record of a text that was scanned. Raises :class:`NotPlain` where it is beyond the reader's limits."""
    try:
        found: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotPlain from error
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and deeper_than(found, MAX_DEPTH):
        raise NotPlain
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


def _address(held: bytes | msgspec.Raw) -> int:
    """Where the bytes of an object lie: msgspec gives parts of its input as views of it, but not their place."""
    view = _Buffer()
    _acquire(held, view, 0)
    try:
        return int(view.buf or 0)
    finally:
        _release(view)
