"""The bytes of a journal segment, and the rule that tells a torn tail from a damaged middle.

A segment is a header block followed by *groups*. A group is what one durable write wrote: a header, then its records,
each with a length and a CRC32C that continues the one before it, padded with zeros to whole 4 KiB blocks. The next
group is written only after this one is durable, and no acknowledged block is ever written again. From that order
follows the rule:

* a bad group with **no** valid group after it was in flight at the crash: nobody was told it is stored, so it is
  dropped;
* a bad group **with** a valid group after it was durable once: bytes that were promised are gone, and the reader must
  stop.

Segments are recycled, so old groups lie behind the new ones. Every group header carries its segment's number and is
checksummed with it, which is how yesterday's records are known as such (the idea is PostgreSQL's and RocksDB's
recycled logs).

This module does no input or output and keeps no state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import google_crc32c

from arc.ports import BLOCK_BYTES, Buffer

SEGMENT_MAGIC = b"ARCJRNL1"
GROUP_MAGIC = 0x47435241  # "ARCG"
RECORD_BYTES_MAX = (1 << 32) - 1

_SEGMENT = struct.Struct("<8sQQQI")  # magic, number, first index, size, crc of the four
_GROUP = struct.Struct("<IIQQIIQ")  # magic, crc of the rest, number, first index, count, unused, bytes of the frames
_FRAME = struct.Struct("<II")  # length, chained crc


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first block of a segment says about it."""

    number: int
    first_index: int
    size: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a scan stopped before the end: ``torn`` was never acknowledged, otherwise stored bytes are lost."""

    offset: int
    reason: str
    torn: bool


@dataclass(frozen=True, slots=True)
class Group:
    """One durable write as found in a segment: records ``first_index`` … and where the next group would begin."""

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
    closed: bool
    damage: Damage | None


def padded(size: int) -> int:
    """Round up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def encode_segment_header(header: SegmentHeader) -> bytes:
    """One block that names the segment."""
    body = _SEGMENT.pack(SEGMENT_MAGIC, header.number, header.first_index, header.size, 0)[:-4]
    return (body + struct.pack("<I", google_crc32c.value(body))).ljust(BLOCK_BYTES, b"\0")


def decode_segment_header(data: Buffer) -> SegmentHeader | None:
    """The header in the first block, or None when these bytes are not one."""
    if len(data) < BLOCK_BYTES:
        return None
    magic, number, first_index, size, crc = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC or crc != google_crc32c.value(bytes(data[: _SEGMENT.size - 4])):
        return None
    return SegmentHeader(number, first_index, size)


def group_bytes(payloads: Sequence[Buffer]) -> int:
    """Bytes on disk of the group that would hold these records."""
    return padded(_GROUP.size + sum(_FRAME.size + len(payload) for payload in payloads))


def encode_group(number: int, first_index: int, payloads: Sequence[Buffer]) -> list[Buffer]:
    """The chunks of one group, to be written one after another; the disk pads the last block with zeros.

    A group without records is the mark that the writer closed the segment in order.
    """
    chunks: list[Buffer] = [b""]
    crc = _seed(number, first_index)
    total = 0
    for payload in payloads:
        assert len(payload) <= RECORD_BYTES_MAX
        crc = _extend(crc, payload)
        chunks.append(_FRAME.pack(len(payload), crc))
        chunks.append(payload)
        total += _FRAME.size + len(payload)
    chunks[0] = _group_header(number, first_index, len(payloads), total)
    return chunks


def scan(data: memoryview, header: SegmentHeader) -> Scan:
    """Read every group of a segment and judge the first bad place by what comes after it."""
    groups: list[Group] = []
    position = BLOCK_BYTES
    index = header.first_index
    while position + _GROUP.size <= len(data):
        found = _read_group(data, position, header.number, index)
        if isinstance(found, str):
            return _judge(data, header.number, index, position, found, tuple(groups))
        if not found.records:
            return Scan(tuple(groups), position, index, True, None)
        groups.append(found)
        index += len(found.records)
        position = found.end
    return Scan(tuple(groups), position, index, True, None)


def _judge(data: memoryview, number: int, index: int, position: int, reason: str, groups: tuple[Group, ...]) -> Scan:
    later = next(_later_groups(data, number, index, position), None)
    if later is not None:
        damage = Damage(position, f"{reason}, yet the log goes on at offset {later}", torn=False)
    elif reason == _NOTHING:
        return Scan(groups, position, index, False, None)
    else:
        damage = Damage(position, reason, torn=True)
    return Scan(groups, position, index, False, damage)


def _later_groups(data: memoryview, number: int, index: int, position: int) -> Iterator[int]:
    """Offsets of valid group headers behind a bad place.

    When the bad group's own header can be read, its payload is stepped over: a client's bytes never count as a header.
    """
    header = _read_header(data, position, number)
    start = position + BLOCK_BYTES if header is None else position + padded(_GROUP.size + header[2])
    for offset in range(start, len(data) - _GROUP.size + 1, BLOCK_BYTES):
        if data[offset] != GROUP_MAGIC & 0xFF:
            continue
        found = _read_header(data, offset, number)
        if found is not None and found[0] >= index:
            yield offset


_NOTHING = "nothing written here"


def _read_group(data: memoryview, position: int, number: int, index: int) -> Group | str:
    header = _read_header(data, position, number)
    if header is None:
        blank = not any(data[position : position + _GROUP.size])
        stale = _any_header(data, position)
        return _NOTHING if blank or stale else "group header does not match its checksum"
    first_index, count, total = header
    if first_index != index:
        return f"group begins with record {first_index} where {index} is due"
    end = position + padded(_GROUP.size + total)
    if end > len(data):
        return "group reaches beyond the segment"
    crc = _seed(number, first_index)
    cursor = position + _GROUP.size
    limit = cursor + total
    records = []
    for nth in range(count):
        if cursor + _FRAME.size > limit:
            return f"record {index + nth} reaches beyond its group"
        length, stored = _FRAME.unpack_from(data, cursor)
        payload = data[cursor + _FRAME.size : cursor + _FRAME.size + length]
        cursor += _FRAME.size + length
        crc = _extend(crc, payload)
        if cursor > limit or crc != stored:
            return f"record {index + nth} does not match its checksum"
        records.append(payload)
    return Group(index, tuple(records), position, end)


def _group_header(number: int, first_index: int, count: int, total: int) -> bytes:
    body = _GROUP.pack(GROUP_MAGIC, 0, number, first_index, count, 0, total)[8:]
    return struct.pack("<II", GROUP_MAGIC, google_crc32c.value(body)) + body


def _read_header(data: memoryview, position: int, number: int) -> tuple[int, int, int] | None:
    """(first index, count, bytes of the frames) of a valid group of this segment, else None."""
    if position + _GROUP.size > len(data):
        return None
    magic, crc, owner, first_index, count, _, total = _GROUP.unpack_from(data, position)
    if magic != GROUP_MAGIC or owner != number:
        return None
    if crc != google_crc32c.value(bytes(data[position + 8 : position + _GROUP.size])):
        return None
    return first_index, count, total


def _any_header(data: memoryview, position: int) -> bool:
    """Whether a valid group of *another* segment lies here: what a recycled file held before."""
    magic, _, owner, *_ = _GROUP.unpack_from(data, position)
    return magic == GROUP_MAGIC and _read_header(data, position, owner) is not None


def _extend(crc: int, payload: Buffer) -> int:
    # The C extension takes bytes only; a copy at memory speed is cheap beside the disk.
    return int(google_crc32c.extend(crc, payload if isinstance(payload, bytes) else bytes(payload)))


def _seed(number: int, first_index: int) -> int:
    return int(google_crc32c.value(struct.pack("<QQ", number, first_index)))
