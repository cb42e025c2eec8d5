"""Compressed request bodies, recognised by their first bytes and never inflated beyond a limit.

The Content-Encoding header is not asked: clients that compress twice over, or say nothing, are common. Output is
counted while it is made, so a bomb costs no more memory than the limit and one chunk, whatever size it claims.

Formats: gzip (RFC 1952, also several members in a row) and Zstandard (RFC 8878, several frames, with or without a
content size).
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import pyarrow as pa

from arc.errors import InvalidRequest, TooLarge

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"

CHUNK_BYTES = 1 << 20
PIECE_BYTES = 1 << 16
"""Input is handed over in pieces, because what is left of one is copied after every chunk and at every member's end."""

GZIP_MEMBERS_MAX = 10_000
"""Members of one gzip body; block-wise writers (BGZF) make one for every 64 KiB.

Without a bound, empty ones cost seconds.
"""

_GZIP_WBITS = 31


class _Inflater(Protocol):
    """What zlib and isal have in common."""

    eof: bool
    unused_data: bytes
    unconsumed_tail: bytes

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


_inflater = cast("Callable[[int], _Inflater]", zlib.decompressobj)
_inflate_errors: tuple[type[Exception], ...] = (zlib.error,)
# isal is the same two to three times faster
with contextlib.suppress(ImportError):
    from isal import isal_zlib

    _inflater = cast("Callable[[int], _Inflater]", isal_zlib.decompressobj)
    _inflate_errors = (zlib.error, cast("type[Exception]", isal_zlib.error))


def inflate(body: bytes, *, limit_bytes: int) -> bytes:
    """The body as it was before compression; a body in no known format is returned as it is.

    Raises TooLarge when it would have more than ``limit_bytes`` bytes, compressed or not, and InvalidRequest when it is
    corrupt or cut short.
    """
    if body[:2] == GZIP:
        return _joined(_gunzip(body), limit_bytes)
    if body[:4] == ZSTD:
        return _joined(_unzstd(body), limit_bytes)
    if len(body) > limit_bytes:
        raise TooLarge(f"the body has {len(body)} bytes; {limit_bytes} are allowed")
    return body


def _joined(chunks: Iterator[bytes], limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"the body inflates to more than {limit_bytes} bytes")
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gunzip(body: bytes) -> Iterator[bytes]:
    view = memoryview(body)
    offset = 0
    for _ in range(GZIP_MEMBERS_MAX):
        if view[offset : offset + 2] != GZIP:
            # Some writers pad the end with zeros; RFC 1952 is silent, gzip(1) ignores them, anything else is damage.
            if body[offset:].strip(b"\0"):
                raise InvalidRequest("the gzip body has bytes after its end")
            return
        inflater = _inflater(_GZIP_WBITS)
        while not inflater.eof:
            piece = view[offset : offset + PIECE_BYTES]
            offset += len(piece)
            yield from _inflated(inflater, piece)
        offset -= len(inflater.unused_data)
    raise TooLarge(f"the gzip body has more than {GZIP_MEMBERS_MAX} members")


def _inflated(inflater: _Inflater, piece: memoryview) -> Iterator[bytes]:
    """What one piece of input gives, in chunks; an empty piece is the end of the body."""
    data: bytes | memoryview = piece
    while not inflater.eof:
        try:
            chunk = inflater.decompress(data, CHUNK_BYTES)
        except _inflate_errors as error:
            raise InvalidRequest(f"the gzip body is corrupt: {error}") from error
        data = inflater.unconsumed_tail
        if chunk:
            yield chunk
        elif not data:
            if not len(piece) and not inflater.eof:
                raise InvalidRequest("the gzip body is cut short")
            return


def _unzstd(body: bytes) -> Iterator[bytes]:
    # Arrow's reader and not the zstandard package: only this one both bounds each piece and notices a frame that is cut
    # short. It also refuses windows above 128 MiB, which a frame could otherwise ask us to allocate.
    stream = pa.CompressedInputStream(pa.BufferReader(body), "zstd")
    while True:
        try:
            chunk: bytes = stream.read(CHUNK_BYTES)
        except (OSError, pa.ArrowException) as error:
            raise InvalidRequest(f"the zstd body is corrupt or cut short: {error}") from error
        if not chunk:
            return
        yield chunk
