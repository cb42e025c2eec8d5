"""A query's result on the wire: which encoder was asked for, how it is compressed, and when its first byte may go.

The beginning of a result is held back until it is whole or too long to hold. A short result so gets its length and, if
it fails, its right status; only a long one is sent while it is still being made, and is cut when it fails.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import zstandard

from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.api.replies import Headers, Reply
from arc.errors import InvalidRequest
from arc.ports import Workers
from arc.query.answer import Answer
from arc.query.results import Encoder
from arc.query.results_arrow import ArrowEncoder
from arc.query.results_csv import CsvEncoder
from arc.query.results_json import JsonEncoder
from arc.query.results_msgpack import MsgpackEncoder

HELD_BYTES_MAX = 256 * 1024
"""How much of a result is held back. Most results are shorter; the longer ones lose less than a millisecond by it."""

COMPRESS_BYTES_MIN = 1024
"""Below it, compression costs more than it saves."""

INLINE_COMPRESS_BYTES_MAX = 64 * 1024
"""A chunk larger than this is compressed on a worker."""


class Compressor(Protocol):
    """A stream compressor as zlib and zstandard have it."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some bytes; may return none yet."""
        ...

    def flush(self) -> bytes:
        """The end of the stream."""
        ...


def choose_encoder(kind: str, head: Head, *, materialised_bytes_max: int) -> Encoder:
    """The encoder for ``json``, ``msgpack``, ``arrow`` or ``csv``. Raises InvalidRequest for a bad Arrow option."""
    match kind:
        case "arrow":
            return ArrowEncoder(
                compression=head.header(b"x-arc-arrow-compression").lower() or None,
                dictionary=_is_yes(head.header(b"x-arc-arrow-dictionary"), "x-arc-arrow-dictionary"),
            )
        case "csv":
            return CsvEncoder()
        case "msgpack":
            return MsgpackEncoder(bytes_max=materialised_bytes_max)
        case _:
            return JsonEncoder()


def wants_csv(head: Head) -> bool:
    """Whether CSV was asked for by ``Accept``."""
    return head.header(b"accept").partition(",")[0].partition(";")[0].strip().lower() == "text/csv"


def wants_profile(head: Head) -> bool:
    """Whether the profile block was asked for."""
    return head.header(b"x-arc-profile").lower() == "true"


async def send_result(exchange: Exchange, answer: Answer, encoder: Encoder, workers: Workers) -> None:
    """Encode the answer and send it. Raises what the query raises; then nothing was sent, or the answer must be cut."""
    chunks = answer.encoded(encoder, profile=wants_profile(exchange.head))
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size > HELD_BYTES_MAX:
            break
    else:
        await _send_whole(exchange, answer, encoder, b"".join(held), workers)
        return
    await _send_pieces(exchange, answer, encoder, held, chunks, workers)


async def _send_whole(exchange: Exchange, answer: Answer, encoder: Encoder, body: bytes, workers: Workers) -> None:
    encoding = _encoding(exchange.head, encoder) if len(body) >= COMPRESS_BYTES_MIN else None
    if encoding is not None:
        compressor = _compressor(encoding)
        body = await _compress(compressor, body, workers) + compressor.flush()
    elapsed = (b"arc-execution-time-ms", str(answer.elapsed_ms).encode())
    await exchange.reply(Reply(200, body, (*_headers(answer, encoder, encoding), elapsed)))


async def _send_pieces(
    exchange: Exchange,
    answer: Answer,
    encoder: Encoder,
    held: list[bytes],
    chunks: AsyncIterator[bytes],
    workers: Workers,
) -> None:
    encoding = _encoding(exchange.head, encoder)
    compressor = _compressor(encoding) if encoding is not None else None
    await exchange.begin(200, _headers(answer, encoder, encoding))
    first = b"".join(held)
    held.clear()
    await _send_piece(exchange, compressor, first, workers)
    async for chunk in chunks:
        await _send_piece(exchange, compressor, chunk, workers)
    if compressor is not None:
        await exchange.piece(compressor.flush())
    await exchange.end()


async def _send_piece(exchange: Exchange, compressor: Compressor | None, data: bytes, workers: Workers) -> None:
    if compressor is not None:
        data = await _compress(compressor, data, workers)
    if data:
        await exchange.piece(data)


async def _compress(compressor: Compressor, data: bytes, workers: Workers) -> bytes:
    if len(data) <= INLINE_COMPRESS_BYTES_MAX:
        return compressor.compress(data)
    return await workers.run(compressor.compress, data)


def _headers(answer: Answer, encoder: Encoder, encoding: str | None) -> Headers:
    found: Headers = (
        (b"content-type", encoder.content_type.encode()),
        (b"x-arc-query-id", answer.query_id.encode()),
        (b"cache-control", b"no-store"),
    )
    if not isinstance(encoder, ArrowEncoder):
        found += ((b"vary", b"Accept-Encoding"),)
    if encoding is not None:
        found += ((b"content-encoding", encoding.encode()),)
    return found


def _encoding(head: Head, encoder: Encoder) -> str | None:
    # Arrow has compression of its own, which its readers can undo column by column.
    return None if isinstance(encoder, ArrowEncoder) else choose_encoding(head.header(b"accept-encoding"))


def choose_encoding(accepted: str) -> str | None:
    """``zstd`` before ``gzip``, whichever is accepted; ``q=0`` excludes (RFC 9110 12.5.3)."""
    allowed: dict[str, bool] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        allowed[name.strip()] = not _is_excluded(parameters)
    for name, known in (("zstd", ("zstd",)), ("gzip", ("gzip", "x-gzip"))):
        if any(allowed.get(alias, False) for alias in known):
            return name
    return None


def _is_excluded(parameters: str) -> bool:
    name, _, value = parameters.partition("=")
    return name.strip() == "q" and value.strip() in ("0", "0.", "0.0", "0.00", "0.000")


def _compressor(encoding: str) -> Compressor:
    if encoding == "zstd":
        compressor: Compressor = zstandard.ZstdCompressor(level=1).compressobj()
        return compressor
    return zlib.compressobj(1, zlib.DEFLATED, 31)


def _is_yes(text: str, name: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("", "false", "0"):
        return False
    raise InvalidRequest(f"{name} is true or false, not {text[:40]!r}")
