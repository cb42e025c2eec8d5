"""The bytes of a journal segment, and the rule that tells a torn tail from a damaged middle.

A segment is a header block followed by *groups*. A group is what one durable write wrote: a header, then its records,
each with a length and a CRC32C that continues the one before it, padded with zeros to whole 4 KiB blocks. The next
group is written only after this one is durable, and no acknowledged block is ever written again. From that order
follows the rule:

* a bad group with **no** valid group after it was in flight at the crash: nobody was told it is stored, so it is
  dropped;
* a bad group **with** a valid group after it was durable once: bytes that were promised are gone, and the reader must
  stop.

Records are taken back by writing, too: a group may *cut*, that is begin at or below the end of what is there, which
forgets all from its first number on; or *restart*, which forgets everything. Such a group may be empty. One durable
write is one group, so a cut and the records after it come to disk together or not at all, and what was cut can never
return. Every group carries how often its journal was cut so far: who finds a hole knows whether it hides a cut.

Segments are recycled, so old groups lie behind the new ones. Every group header carries its segment's number and is
checksummed with it, which is how yesterday's records are known as such (the idea is PostgreSQL's and RocksDB's
recycled logs). A segment header names the segment before it, so that none can be missing unnoticed.

This module does no input or output and keeps no state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import google_crc32c

from arc.ports import BLOCK_BYTES, Buffer

SEGMENT_MAGIC = b"ARCJRNL2"
SEGMENT_MAGIC_1 = b"ARCJRNL1"
"""Segments of the first format know neither the one before them nor cuts; they are read, and written to their end."""

GROUP_MAGIC = 0x47435241  # "ARCG"
RECORD_BYTES_MAX = (1 << 32) - 1

_SEGMENT = struct.Struct("<8sQQQQQI")  # magic, number, first index, size, number before, cuts, crc of the six
_SEGMENT_1 = struct.Struct("<8sQQQI")  # magic, number, first index, size, crc of the four
_GROUP = struct.Struct("<IIQQIIQ")  # magic, crc of the rest, number, first index, records, cuts << 2 | kind, bytes
_FRAME = struct.Struct("<II")  # length, chained crc

CUTS_MAX = (1 << 30) - 1
"""Cuts are counted in 30 bits and begin again from 0 after that; only differences mean anything."""


class Kind(IntEnum):
    """What a group does to the records before it. Numbers are on disk: never reused."""

    CONTINUES = 0
    CUTS = 1
    RESTARTS = 2


class SegmentHeader(NamedTuple):
    """What the first block of a segment says about it.

    ``first_index`` is the next index when it was begun, ``cuts`` how often the journal had been cut by then;
    ``previous`` is the segment before it, 0 for the first one, None when the format does not tell.
    """

    number: int
    first_index: int
    size: int
    previous: int | None = 0
    cuts: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a scan stopped before the end: ``torn`` was never acknowledged, otherwise stored bytes are lost."""

    offset: int
    reason: str
    torn: bool


class GroupHeader(NamedTuple):
    """What a group's header says: ``cuts`` counts with itself, ``size_bytes`` is what it takes on disk."""

    kind: Kind
    first_index: int
    records: int
    cuts: int
    frames_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, whole blocks."""
        return padded(_GROUP.size + self.frames_bytes)


class Group(NamedTuple):
    """One durable write as found in a segment: records ``first_index`` … and where the next group would begin."""

    kind: Kind
    first_index: int
    records: tuple[memoryview, ...]
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything a segment holds. ``end`` is where the next group goes; ``closed`` says the writer left in order."""

    groups: tuple[Group, ...]
    end: int
    next_index: int
    cuts: int
    closed: bool
    damage: Damage | None


def padded(size: int) -> int:
    """Round up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def encode_segment_header(header: SegmentHeader) -> bytes:
    """One block that names the segment."""
    number, first_index, size, previous, cuts = header
    body = _SEGMENT.pack(SEGMENT_MAGIC, number, first_index, size, previous or 0, cuts, 0)[:-4]
    return (body + struct.pack("<I", google_crc32c.value(body))).ljust(BLOCK_BYTES, b"\0")


def decode_segment_header(data: Buffer) -> SegmentHeader | None:
    """The header in the first block, or None when these bytes are not one."""
    if len(data) < BLOCK_BYTES:
        return None
    if bytes(data[:8]) == SEGMENT_MAGIC:
        _, number, first_index, size, previous, cuts, crc = _SEGMENT.unpack_from(data)
        whole = crc == google_crc32c.value(bytes(data[: _SEGMENT.size - 4]))
        return SegmentHeader(number, first_index, size, previous, cuts) if whole else None
    magic, number, first_index, size, crc = _SEGMENT_1.unpack_from(data)
    if magic != SEGMENT_MAGIC_1 or crc != google_crc32c.value(bytes(data[: _SEGMENT_1.size - 4])):
        return None
    return SegmentHeader(number, first_index, size, None)


def group_bytes(payloads: Sequence[Buffer]) -> int:
    """Bytes on disk of the group that would hold these records."""
    return padded(_GROUP.size + _FRAME.size * len(payloads) + sum(map(len, payloads)))


def encode_group(
    number: int, first_index: int, payloads: Sequence[Buffer], *, kind: Kind = Kind.CONTINUES, cuts: int = 0
) -> list[Buffer]:
    """The chunks of one group, to be written one after another; the disk pads the last block with zeros.

    A group without records that cuts nothing is the mark that the writer closed the segment in order.
    """
    chunks: list[Buffer] = [b""]
    crc = _seed(number, first_index)
    pack, extend = _FRAME.pack, google_crc32c.extend
    total = _FRAME.size * len(payloads)
    for payload in payloads:
        length = len(payload)
        assert length <= RECORD_BYTES_MAX
        # The C extension takes bytes only; a copy at memory speed is cheap beside the disk.
        crc = extend(crc, payload if type(payload) is bytes else bytes(payload))
        chunks.append(pack(length, crc))
        chunks.append(payload)
        total += length
    chunks[0] = _group_header(number, first_index, len(payloads), cuts << 2 | kind, total)
    return chunks


def scan(data: memoryview, header: SegmentHeader) -> Scan:
    """Read every group of a segment and judge the first bad place by what comes after it."""
    groups: list[Group] = []
    position = BLOCK_BYTES
    index, cuts = header.first_index, header.cuts
    while position + _GROUP.size <= len(data):
        found = read_header(data, position, header.number)
        problem = _unreadable(data, position) if found is None else _misplaced(found, index, cuts)
        if found is None or problem:
            return _judge(data, header.number, index, cuts, position, problem, tuple(groups))
        group = read_group(data, position, header.number, found)
        if isinstance(group, str):
            return _judge(data, header.number, index, cuts, position, group, tuple(groups))
        if found.records == 0 and found.kind is Kind.CONTINUES:
            return Scan(tuple(groups), position, index, cuts, True, None)
        groups.append(group)
        index, cuts = found.first_index + found.records, found.cuts
        position = group.end
    return Scan(tuple(groups), position, index, cuts, True, None)


def _judge(
    data: memoryview, number: int, index: int, cuts: int, position: int, reason: str, groups: tuple[Group, ...]
) -> Scan:
    later = next(headers_behind(data, number, position), None)
    damage: Damage | None = None
    if later is not None:
        damage = Damage(position, f"{reason}, yet the log goes on at offset {later[0]}", torn=False)
    elif reason != _NOTHING:
        damage = Damage(position, reason, torn=True)
    return Scan(groups, position, index, cuts, False, damage)


def headers_behind(data: memoryview, number: int, position: int) -> Iterator[tuple[int, GroupHeader]]:
    """Offsets and contents of the valid group headers behind a bad place.

    Where a header can be read, its payload is stepped over: a client's bytes never count as a header.
    """
    found = read_header(data, position, number)
    offset = position + (BLOCK_BYTES if found is None else found.size_bytes)
    while offset + _GROUP.size <= len(data):
        found = read_header(data, offset, number) if data[offset] == GROUP_MAGIC & 0xFF else None
        if found is not None:
            yield offset, found
        offset += BLOCK_BYTES if found is None else found.size_bytes


_NOTHING = "nothing written here"


def _unreadable(data: memoryview, position: int) -> str:
    if not any(data[position : position + _GROUP.size]):
        return _NOTHING
    magic, _, owner, *_ = _GROUP.unpack_from(data, position)
    # A valid group of *another* segment is what a recycled file held before.
    is_stale = magic == GROUP_MAGIC and read_header(data, position, owner) is not None
    return _NOTHING if is_stale else "group header does not match its checksum"


def _misplaced(found: GroupHeader, index: int, cuts: int) -> str:
    """Why this group cannot follow ``index`` - 1 and that many cuts; empty when it can."""
    if found.kind is Kind.CONTINUES:
        if found.first_index != index:
            return f"group begins with record {found.first_index} where {index} is due"
    elif found.kind is Kind.CUTS and found.first_index > index:
        return f"group cuts at record {found.first_index} where only {index} is due"
    due = cuts if found.kind is Kind.CONTINUES else cuts + 1 & CUTS_MAX
    return "" if found.cuts == due else f"group is of cut {found.cuts} where {due} is due"


def read_group(data: memoryview, position: int, number: int, header: GroupHeader) -> Group | str:
    """The group whose header is there, proven by its checksums, or what is wrong with it."""
    kind, first_index, count, _, total = header
    end = position + padded(_GROUP.size + total)
    if end > len(data):
        return "group reaches beyond the segment"
    unpack, frame = _FRAME.unpack_from, _FRAME.size
    cursor = position + _GROUP.size
    limit = cursor + total
    records: list[memoryview] = []
    stored = crc = _seed(number, first_index)
    for nth in range(count):
        start = cursor + frame
        if start > limit:
            return f"record {first_index + nth} reaches beyond its group"
        length, stored = unpack(data, cursor)
        cursor = start + length
        if cursor > limit:
            break
        records.append(data[start:cursor])
    # The last checksum continues all before it, so it proves the whole group at once; only a bad one asks which.
    if cursor == limit and google_crc32c.extend(crc, b"".join(records)) == stored:
        return Group(kind, first_index, tuple(records), position, end)
    return _first_bad(data, position + _GROUP.size, limit, first_index, count, crc)


def _first_bad(data: memoryview, cursor: int, limit: int, first_index: int, count: int, crc: int) -> str:
    for index in range(first_index, first_index + count):
        if cursor + _FRAME.size > limit:
            return f"record {index} reaches beyond its group"
        length, stored = _FRAME.unpack_from(data, cursor)
        crc = google_crc32c.extend(crc, bytes(data[cursor + _FRAME.size : cursor + _FRAME.size + length]))
        cursor += _FRAME.size + length
        if cursor > limit or crc != stored:
            return f"record {index} does not match its checksum"
    return "the group's records do not fill it"


def read_header(data: memoryview, position: int, number: int) -> GroupHeader | None:
    """The valid header of a group of this segment at this place, else None."""
    if position + _GROUP.size > len(data):
        return None
    magic, crc, owner, first_index, count, marks, total = _GROUP.unpack_from(data, position)
    if magic != GROUP_MAGIC or owner != number or marks & 3 not in _KINDS:
        return None
    if crc != google_crc32c.value(bytes(data[position + 8 : position + _GROUP.size])):
        return None
    return GroupHeader(_KINDS[marks & 3], first_index, count, marks >> 2, total)


_KINDS = {int(kind): kind for kind in Kind}


def _group_header(number: int, first_index: int, count: int, marks: int, total: int) -> bytes:
    body = _GROUP.pack(GROUP_MAGIC, 0, number, first_index, count, marks, total)[8:]
    return struct.pack("<II", GROUP_MAGIC, google_crc32c.value(body)) + body


def _seed(number: int, first_index: int) -> int:
    return int(google_crc32c.value(struct.pack("<QQ", number, first_index)))
