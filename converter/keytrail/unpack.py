"""The bytes of one log file, unpacked when they are gzip, as lines; what cuts them short is kept."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator, Iterator

from keytrail.errors import RecordError
from keytrail.jsontext import Piece
from keytrail.seams import Lines, unsplit

CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
# CloudTrail's JSON shrinks to a twentieth or so; only something made to explode shrinks to less than this.
BOMB_RATIO = 200


class Unpacked:
    """One file's bytes.

    Parameters: ``stream`` is the open file; ``path`` names it in errors; ``limit`` is how many bytes a single
    line may have, and from how many unpacked bytes on a gzip file is suspected to be a bomb.
    Nothing is raised for bad bytes: they end the stream, and ``problem`` then says why. So a reader can use
    what came before. It is set before the last, perhaps incomplete, line is given. ``taken`` is how many bytes of
    the file were read.
    """

    def __init__(self, stream: io.BufferedIOBase, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.problem: RecordError | None = None
        self._stream = stream
        self.taken = 0
        self._given = 0

    def pieces(self) -> Iterator[Piece]:
        """The lines without their line feeds, cut where several documents stand in one: see :mod:`keytrail.seams`.

        A piece over the limit is a problem and ends them.
        """
        lines = Lines()
        for chunk in unsplit(self._chunks()):
            yield from lines.take(chunk)
            if lines.waiting > self.limit:
                self.stop_too_long()
                return
        yield lines.end()

    def _chunks(self) -> Iterator[bytes]:
        """The unpacked bytes, without a byte order mark."""
        head = self._read(len(BOM))
        if not head:
            self._stop('empty: not even {"Records": []}', "fetch the file again; a log file is never empty")
        elif head.startswith(GZIP_MAGIC):
            yield from _without_bom(self._gunzip(head))
        elif self.path.lower().endswith(".gz"):
            self._stop("named .gz, but the content is no gzip", "if it is unpacked, take .gz off its name")
        else:
            yield from _without_bom(self._plain(head))

    def _plain(self, head: bytes) -> Iterator[bytes]:
        while head:
            yield head
            head = self._read()

    def _gunzip(self, data: bytes) -> Iterator[bytes]:
        """All members of a gzip file: joining files with cat is allowed, zeros after the last are padding."""
        rest: bytes | None = data
        while rest:
            if len(rest) < len(GZIP_MAGIC):
                rest += self._read()
            if not rest.startswith(GZIP_MAGIC):
                self._stop("bytes that are no gzip follow the gzip data", "fetch the file again")
                return
            rest = yield from self._member(rest)
            while rest is not None and not (rest := rest.lstrip(b"\0")):
                rest = self._read() or None

    def _member(self, data: bytes) -> Generator[bytes, None, bytes | None]:
        """One gzip member; returns the bytes after it, or None when the file cannot be read any further."""
        inflate = zlib.decompressobj(wbits=31)
        while not inflate.eof:
            try:
                out = inflate.decompress(data, CHUNK)
            except zlib.error as error:
                self._stop(f"damaged gzip data after {self._given:,} bytes ({error})", "fetch the file again")
                return None
            if not out and not data:
                self._stop(f"cut off: the gzip data ends after {self._given:,} bytes", "fetch the file again")
                return None
            self._given += len(out)
            if self._given > self.limit and self._given > BOMB_RATIO * self.taken:
                self._stop(
                    f"a gzip bomb: {self.taken:,} bytes unpack to more than {self._given - len(out):,}",
                    "if you trust it, unpack it with gunzip and give the unpacked file",
                )
                return None
            if out:
                yield out
            data = inflate.unconsumed_tail or (b"" if inflate.eof else self._read())
        return inflate.unused_data

    def _read(self, size: int = -1) -> bytes:
        """Some bytes as soon as there are any, so that a pipe that stays open is followed; b"" at the end."""
        data = self._stream.read(size) if size > 0 else self._stream.read1(CHUNK)
        self.taken += len(data)
        return data

    def stop_too_long(self) -> None:
        """Note that one document is over the limit."""
        self._stop(f"one JSON document of more than {self.limit:,} bytes", "split it into smaller files")

    def _stop(self, message: str, hint: str) -> None:
        self.problem = RecordError(message, path=self.path, hint=hint)


def _without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(BOM):
            yield head.removeprefix(BOM)
            yield from chunks
            return
    yield head
