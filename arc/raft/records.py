"""Entries as records of a journal, and what a log of them says about terms and configurations.

A record is the entry's term and kind, then its payload; the index is the record's number. `Plan` gathers those that go
to disk together.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from arc.errors import Corrupt
from arc.journal.frames import Group, Kind
from arc.raft.codec import decode_configuration, encode_configuration
from arc.raft.types import Configuration, Entry, EntryKind, Payload

_ENTRY = struct.Struct("<QB")  # term, kind
_KINDS = {int(kind): kind for kind in EntryKind}
_MEMBERSHIP = EntryKind.MEMBERSHIP


def encode_entries(entries: Sequence[Entry], records: list[bytes]) -> int:
    """Append the entries as records; returns their bytes."""
    pack, size = _ENTRY.pack, 0
    for _, term, kind, payload in entries:
        record = pack(term, kind) + (payload if type(payload) is bytes else _encode_payload(kind, payload))
        records.append(record)
        size += len(record)
    return size


def decode_entry(index: int, record: memoryview, path: str) -> Entry:
    """The entry in a record. Raises Corrupt."""
    try:
        term, number = _ENTRY.unpack_from(record)
        kind = _KINDS[number]
        data = bytes(record[_ENTRY.size :])
        return Entry(index, term, kind, decode_configuration(data) if kind is _MEMBERSHIP else data)
    except (struct.error, KeyError, ValueError) as error:
        raise Corrupt(f"entry {index} cannot be read: {error!r}", path=path, offset=0) from error


def _encode_payload(kind: EntryKind, payload: Payload) -> bytes:
    if isinstance(payload, Configuration):
        assert kind is _MEMBERSHIP, (kind, payload)
        return encode_configuration(payload)
    return bytes(payload)


class LogContents:
    """The terms of a log as runs, and its configurations, built up group by group in the order of writing."""

    __slots__ = ("_path", "configurations", "next_index", "runs")

    def __init__(self, path: str) -> None:
        self._path = path
        self.next_index = 1
        self.runs: list[tuple[int, int]] = []
        """(first index, term), ascending."""
        self.configurations: list[tuple[int, Configuration]] = []

    def add(self, group: Group) -> None:
        """Take in a group. Raises Corrupt when a record of it is no entry."""
        kind, first, records, _, _ = group
        if kind is not Kind.CONTINUES:
            self.cut(0 if kind is Kind.RESTARTS else first)
        self.next_index = first + len(records)
        if not records:
            return
        unpack, runs = _ENTRY.unpack_from, self.runs
        last_term = runs[-1][1] if runs else 0
        try:
            # Terms never fall along a log, so two that are equal enclose only equal ones.
            if not unpack(records[0])[0] == unpack(records[-1])[0] == last_term:
                for index, record in enumerate(records, first):
                    term = unpack(record)[0]
                    if term != last_term:
                        runs.append((index, term))
                        last_term = term
            for index, record in enumerate(records, first):
                if record[8] == _MEMBERSHIP:
                    payload = decode_entry(index, record, self._path).payload
                    assert isinstance(payload, Configuration)
                    self.configurations.append((index, payload))
        except (struct.error, IndexError) as error:
            raise Corrupt(f"entries from {first} on cannot be read: {error!r}", path=self._path, offset=0) from error

    def cut(self, from_index: int) -> None:
        """Forget what is said of entries from there on."""
        del self.runs[bisect_left(self.runs, (from_index, 0)) :]
        while self.configurations and self.configurations[-1][0] >= from_index:
            self.configurations.pop()
        self.next_index = min(self.next_index, from_index)

    def term(self, index: int) -> int | None:
        """The term of an entry, None when nothing is said of it."""
        place = bisect_right(self.runs, (index, 1 << 64)) - 1
        return self.runs[place][1] if place >= 0 and index < self.next_index else None


class Plan:
    """Records on their way to one group, and whether the group replaces what is stored from its first index on."""

    __slots__ = ("first", "is_cut", "owners", "records", "size_bytes")

    def __init__(self, next_index: int) -> None:
        self.first = next_index
        self.is_cut = False
        self.records: list[bytes] = []
        self.owners: list[tuple[int, int]] = []
        """(index of its first entry, id) of each write that gave entries."""
        self.size_bytes = 0

    def cut(self, from_index: int) -> None:
        """Nothing from there on is to be stored; what is only planned just goes."""
        if from_index < self.first:
            self.first, self.is_cut = from_index, True
        del self.records[from_index - self.first :]
        self.size_bytes = sum(map(len, self.records))
        while self.owners and self.owners[-1][0] >= from_index:
            self.owners.pop()

    def add(self, write_id: int, entries: Sequence[Entry]) -> None:
        """These follow."""
        first = entries[0][0]
        assert first == self.first + len(self.records), (entries[0], self.first, len(self.records))
        self.owners.append((first, write_id))
        self.size_bytes += encode_entries(entries, self.records)
