"""What the holder of the writer lease and its followers say to each other, and its bytes.

A follower opens a *session* with `Hello`: what it has, under a number of its own choice. The holder answers where their
histories part (`Resume`), or where the follower has to begin (`Base`), and then sends `Records`, each message where the
one before ended; an empty one says that the holder is there and how far the rest is. The follower says with `Ack` what
is durable. Every message carries the epoch and the session, so what comes late from another reign or another session
is known as such.

On the wire: a CBOR array, the kind's number first, then the fields as declared; a long one goes in several pieces.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import cbor2

from arc.storage.wal.history import Span
from arc.storage.wal.keys import NAMES as KEY_NAMES
from arc.storage.wal.keys import StoredKey

PIECE_BYTES = 64 << 10
"""A longer message is sent in pieces of this size. Each that comes says that more is on its way: every second, also
over a line of 64 kB/s.
"""

MESSAGE_BYTES_MAX = 4 << 30
"""Nobody has a request that large: who says so is not listened to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Follower → holder. Its log holds ``first`` … ``next`` - 1, written in the epochs of ``spans``."""

    epoch: int
    session: int
    first: int
    next: int
    spans: tuple[Span, ...]
    is_memory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Holder → follower: we agree below ``next``; cut what you have from there on, the stream goes on there.

    Records up to ``inherited`` are of earlier epochs: all of them may have been acknowledged, and seen by queries, on
    whatever node, though a holder that has just begun does not know it and says a lower ``high``.
    """

    epoch: int
    session: int
    next: int
    high: int
    inherited: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Holder → follower: begin with an empty log at ``first``.

    All below is in files in the catalog at ``catalog_index``; ``keys`` are the idempotency keys of what is below.
    ``inherited`` is as in `Resume`.
    """

    epoch: int
    session: int
    first: int
    high: int
    catalog_index: int
    keys: tuple[StoredKey, ...]
    inherited: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Holder → follower: whole requests from ``first`` on. ``high`` is the high watermark; the schemas that the records
    need are in the catalog at ``catalog_index``.
    """

    epoch: int
    session: int
    first: int
    high: int
    catalog_index: int
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Follower → holder: records up to ``durable`` survive a power cut here."""

    epoch: int
    session: int
    durable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """Holder → everybody: the reign has begun, or your session is over; say `Hello` (again)."""

    epoch: int


Message: TypeAlias = Hello | Resume | Base | Records | Ack | Invite

KINDS: tuple[type[Message], ...] = (Hello, Resume, Base, Records, Ack, Invite)
"""A kind's number on the wire is its place here: append only."""

_PIECE = 200
"""Number of a piece: no kind will ever have it."""

_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in KINDS}


def encode(message: Message) -> bytes:
    """The message as bytes."""
    values = (getattr(message, name) for name in _NAMES[type(message)])
    return cbor2.dumps([_NUMBERS[type(message)], *map(_plain, values)])


def decode(data: bytes) -> Message:
    """The message that these bytes are. Raises ValueError."""
    try:
        number, *values = cbor2.loads(data)
        if type(number) is not int or not 0 <= number < len(KINDS):
            raise ValueError(f"no kind has the number {number!r:.40}")
        kind = KINDS[number]
        names = _NAMES[kind]
        if len(values) != len(names):
            raise ValueError(f"{kind.__name__} has {len(names)} fields, not {len(values)}")
        found: dict[str, Any] = {name: _READ[name](value) for name, value in zip(names, values, strict=True)}
        return kind(**found)
    except (cbor2.CBORDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"not a message: {error}") from error


def pieces(data: bytes) -> Iterator[bytes]:
    """The message whole, or in pieces that `Joiner` puts together again."""
    if len(data) <= PIECE_BYTES:
        yield data
        return
    view = memoryview(data)
    for offset in range(0, len(data), PIECE_BYTES):
        yield cbor2.dumps([_PIECE, offset, len(data), bytes(view[offset : offset + PIECE_BYTES])])


class Joiner:
    """Puts the pieces of one peer's messages together; they come in order or not at all."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def join(self, data: bytes) -> Message | None:
        """The message that these bytes are or complete. A piece that does not fit ends what was begun, which the
        session's numbers will show as a gap. Raises ValueError.
        """
        if data[:3] != _PIECE_HEAD:
            self._parts, self._size = [], 0
            return decode(data)
        try:
            _, offset, total, part = cbor2.loads(data)
        except (cbor2.CBORDecodeError, TypeError) as error:
            raise ValueError(f"not a piece: {error}") from error
        if type(part) is not bytes or type(total) is not int or not 0 < total <= MESSAGE_BYTES_MAX:
            raise ValueError("not a piece: wrong types")
        if offset == 0:
            self._parts, self._size = [], 0
        elif offset != self._size:
            self._parts, self._size = [], 0
            return None
        self._parts.append(part)
        self._size += len(part)
        if self._size < total:
            return None
        whole, self._parts, self._size = b"".join(self._parts), [], 0
        return decode(whole)


_PIECE_HEAD = cbor2.dumps([_PIECE, 0, 0, b""])[:3]
"""An array of four, and a number in two bytes."""


def _plain(value: object) -> object:
    match value:
        case Span():
            return [value.epoch, value.first, value.end]
        case StoredKey():
            return [getattr(value, name) for name in KEY_NAMES]
        case tuple():
            return [_plain(item) for item in value]
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"a number expected, found {value!r:.40}")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"true or false expected, found {value!r:.40}")
    return value


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"a list expected, found {value!r:.40}")
    return value


def _spans(value: object) -> tuple[Span, ...]:
    return tuple(Span(*map(_number, _list(item))) for item in _list(value))


def _keys(value: object) -> tuple[StoredKey, ...]:
    # Without `strict`: a node of before fingerprints sends one value less.
    return tuple(StoredKey(**dict(zip(KEY_NAMES, _list(item), strict=False))) for item in _list(value))


def _records(value: object) -> tuple[bytes, ...]:
    found = _list(value)
    if not all(type(item) is bytes for item in found):
        raise ValueError("records are bytes")
    return tuple(found)


_READ: dict[str, Any] = {
    "epoch": _number,
    "session": _number,
    "first": _number,
    "next": _number,
    "spans": _spans,
    "is_memory": _flag,
    "high": _number,
    "inherited": _number,
    "catalog_index": _number,
    "keys": _keys,
    "records": _records,
    "durable": _number,
}
