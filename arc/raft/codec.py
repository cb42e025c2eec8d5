"""Messages as bytes: CBOR (RFC 8949) arrays, the kind's number first, then the fields in their declared order.

Whoever carries the bytes frames and checksums them, so that they end where the message ends. What does not decode to
exactly one message of exactly these types is refused as a whole: a peer of another version, or a bug, must not become
half a message. Equal messages have equal bytes, and the bytes of a decoded message are the ones it came from (I-32).

A configuration has the same form here as in the log on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_type_hints

import cbor2

from arc.raft import messages
from arc.raft.messages import AppendStatus, Message
from arc.raft.types import TERM_MAX, Configuration, Entry, EntryKind, Payload, Peer, SnapshotMeta

KINDS: tuple[type, ...] = (
    messages.PreVote,
    messages.PreVoteReply,
    messages.Vote,
    messages.VoteReply,
    messages.Append,
    messages.AppendReply,
    messages.Heartbeat,
    messages.HeartbeatReply,
    messages.Commit,
    messages.TimeoutNow,
    messages.InstallSnapshot,
    messages.InstallSnapshotReply,
    messages.ReadIndex,
    messages.ReadIndexReply,
    messages.SnapshotWanted,
    messages.SnapshotPromised,
    messages.Removed,
)
"""A kind's number on the wire is its place here: append only."""

_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_ENTRY_KINDS = {int(kind): kind for kind in EntryKind}
_STATUSES = {int(status): status for status in AppendStatus}


def encode(message: Message) -> bytes:
    """The message as bytes."""
    return cbor2.dumps((_NUMBERS[type(message)], *message))


def decode(data: bytes | bytearray | memoryview) -> Message:
    """The message that these bytes are. Raises ValueError, naming what is wrong."""
    try:
        number, *fields = cbor2.loads(data)
        kind = KINDS[number] if type(number) is int and 0 <= number < len(KINDS) else _wrong("kind", number)
        readers = _READERS[kind]
        if len(fields) != len(readers):
            raise ValueError(f"{kind.__name__} has {len(readers)} fields, not {len(fields)}")
        message: Message = kind(*[read(field) for read, field in zip(readers, fields, strict=True)])
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise ValueError(f"not a message: {error}") from error
    return message


def encode_configuration(configuration: Configuration) -> bytes:
    """A configuration as the payload of its entry on disk."""
    return cbor2.dumps(configuration)


def decode_configuration(data: bytes) -> Configuration:
    """Read what `encode_configuration` wrote. Raises ValueError."""
    try:
        return _configuration(cbor2.loads(data))
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise ValueError(f"not a configuration: {error}") from error


# ------------------------------------------------------------------------------------------------------------ fields


def _wrong(what: str, value: object) -> NoReturn:
    raise ValueError(f"{what} expected, found {value!r:.80}")


def _number(value: object) -> int:
    return value if type(value) is int and 0 <= value <= TERM_MAX else _wrong("a number", value)


def _flag(value: object) -> bool:
    return value if type(value) is bool else _wrong("true or false", value)


def _text(value: object) -> str:
    return value if type(value) is str else _wrong("text", value)


def _bytes(value: object) -> bytes:
    return value if type(value) is bytes else _wrong("bytes", value)


def _list(value: object, length: int | None = None) -> Sequence[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        _wrong("a list" if length is None else f"a list of {length}", value)
    return value


def _peer(value: object) -> Peer:
    name, incarnation = _list(value, 2)
    return Peer(_text(name), _number(incarnation))


def _peers(value: object) -> tuple[Peer, ...]:
    return tuple(map(_peer, _list(value)))


def _configuration(value: object) -> Configuration:
    voters, outgoing, learners, learners_next, auto_leave = _list(value, 5)
    return Configuration(_peers(voters), _peers(outgoing), _peers(learners), _peers(learners_next), _flag(auto_leave))


def _entry(value: object) -> Entry:
    index, term, number, raw = _list(value, 4)
    kind = _ENTRY_KINDS.get(number) if type(number) is int else None
    if kind is None:
        _wrong("a kind of entry", number)
    payload: Payload = _configuration(raw) if kind is EntryKind.MEMBERSHIP else _bytes(raw)
    return Entry(_number(index), _number(term), kind, payload)


def _entries(value: object) -> tuple[Entry, ...]:
    return tuple(map(_entry, _list(value)))


def _status(value: object) -> AppendStatus:
    status = _STATUSES.get(value) if type(value) is int else None
    return status if status is not None else _wrong("a status", value)


def _meta(value: object) -> SnapshotMeta:
    index, term, configuration, configuration_index, size_bytes, digest = _list(value, 6)
    return SnapshotMeta(
        _number(index),
        _number(term),
        _configuration(configuration),
        _number(configuration_index),
        _number(size_bytes),
        _text(digest),
    )


_BY_TYPE: dict[object, Callable[[object], object]] = {
    Peer: _peer,
    int: _number,
    bool: _flag,
    bytes: _bytes,
    tuple[Entry, ...]: _entries,
    AppendStatus: _status,
    SnapshotMeta: _meta,
}
_READERS: dict[type, tuple[Callable[[object], object], ...]] = {
    kind: tuple(_BY_TYPE[hint] for hint in get_type_hints(kind).values()) for kind in KINDS
}
