"""A write request's bytes to columns, in one step that can run on a worker thread whole.

Which thread is a matter of size: handing work to a thread and back costs about 100 µs, which is all that a small body
needs; a large one would hold up the event loop, and with it every other request and heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from arc.api.deps import Decoders
from arc.errors import TooLarge
from arc.ingest.columns import Request
from arc.ingest.keys import NOT_KNOWN, fingerprint_of

INLINE_BYTES_MAX = 256 * 1024
"""Largest body decoded on the event loop: 1–3 ms of line protocol with the compiled parser."""

GROWTH_GUESS = 16
"""What a compressed body is first taken to grow to. Metrics shrink 5 to 12 times; who shrank more pays twice."""

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


class Format(Enum):
    """How rows are written down."""

    LINES = "lineprotocol"
    MSGPACK = "msgpack"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """Everything that decoding needs. ``measurement`` and ``tags`` are Arrow's, ``precision`` is line protocol's;
    ``is_keyed`` when the request has an idempotency key.
    """

    form: Format
    body: bytes
    limit_bytes: int
    now_us: int
    precision: str = "ns"
    measurement: str | None = None
    tags: tuple[str, ...] | None = None
    is_keyed: bool = False


class DecodedBody(NamedTuple):
    """A body: the database when it names one itself, its rows, and what goes with its key (`keys.fingerprint_of`)."""

    database: str | None
    request: Request
    fingerprint: int = NOT_KNOWN


def is_compressed(body: bytes) -> bool:
    """Told by the first bytes, as Arc does; the Content-Encoding header is not needed and not believed."""
    return body.startswith((GZIP, ZSTD))


def expected_bytes(job: DecodeJob) -> int:
    """How much there will be to decode, guessed for a compressed body and never above its limit."""
    if not is_compressed(job.body):
        return len(job.body)
    return min(job.limit_bytes, GROWTH_GUESS * len(job.body))


def decode_write(decoders: Decoders, job: DecodeJob, limit_bytes: int) -> DecodedBody:
    """Inflate and decode. Raises TooLarge above ``limit_bytes``, InvalidRequest."""
    plain = decoders.inflate(job.body, limit_bytes) if is_compressed(job.body) else job.body
    if len(plain) > limit_bytes:
        raise TooLarge(f"request body is larger than {limit_bytes} bytes; send smaller pieces")
    fingerprint = NOT_KNOWN
    if job.is_keyed:
        meaning = (job.form.value, job.precision, job.measurement or "", *(job.tags or ()))
        fingerprint = fingerprint_of(plain, *meaning)
    match job.form:
        case Format.LINES:
            return DecodedBody(None, decoders.lines(plain, job.precision, job.now_us), fingerprint)
        case Format.MSGPACK:
            return DecodedBody(None, decoders.msgpack(plain, job.now_us), fingerprint)
        case Format.ARROW:
            return DecodedBody(*decoders.arrow(plain, job.measurement, job.now_us, job.tags), fingerprint)
