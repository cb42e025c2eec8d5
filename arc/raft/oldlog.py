"""The log of a cluster of one, as `arc.cluster.ledger` still uses it; goes with it. `storage` has replaced it.

Raft may count on both after a power cut (Raft paper, figure 2: "persistent state").

The log is an `arc.journal`: one append is one durable write, a torn tail is dropped, damage in the middle is `Corrupt`.
An entry adds a term and a kind. The hard state is one small file that is replaced whole. Everything here blocks and has
one caller at a time: `Workers.run` is the way to it.

What an entry means, and whether it is agreed on, is known elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from arc.errors import Corrupt, DiskFailed
from arc.journal import Journal
from arc.ports import Disk

SEGMENT_BYTES = 4 << 20

_ENTRY = struct.Struct("<QB")  # term, kind
_HARD_STATE = struct.Struct("<8sQI")  # magic, term, length of the vote
_MAGIC = b"ARCHARD1"
_CRC = struct.Struct("<I")


class EntryKind(IntEnum):
    """What the payload is. Numbers are on disk: never reused."""

    COMMAND = 1
    NOTHING = 2
    MEMBERSHIP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One place in the log."""

    index: int
    term: int
    kind: EntryKind = EntryKind.COMMAND
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class HardState:
    """The term this node is in and whom it voted for in it, if anybody."""

    term: int = 0
    vote: str | None = None


class RaftLog:
    """Entries ``first_index`` <= i < ``next_index``, and the hard state, in one folder."""

    def __init__(self, disk: Disk, folder: str, journal: Journal, hard_state: HardState) -> None:
        self._disk = disk
        self._folder = folder
        self._journal = journal
        self._hard_state = hard_state

    def __repr__(self) -> str:
        return f"<RaftLog {self._folder} {self.first_index}..{self.next_index - 1} term={self._hard_state.term}>"

    @classmethod
    def open(cls, disk: Disk, folder: str, *, first_index: int = 1, segment_bytes: int = SEGMENT_BYTES) -> RaftLog:
        """Open the log in ``folder``; a new one begins with ``first_index``.

        An older one must reach to ``first_index`` - 1 at least: pass what a snapshot is known to follow. Raises Corrupt
        for damaged or missing entries and for a damaged hard state, DiskFailed when the disk refuses, Overloaded when
        it is full.
        """
        try:
            disk.make_dirs(folder)
            hard_state = _read_hard_state(disk, _hard_state_path(folder))
            journal = Journal.open(disk, f"{folder}/log", segment_bytes=segment_bytes, first_index=first_index)
        except OSError as error:
            raise DiskFailed(f"opening the log in {folder} failed: {error}") from error
        return cls(disk, folder, journal, hard_state)

    @property
    def first_index(self) -> int:
        """Index of the oldest entry held (of the next one, when there is none)."""
        return self._journal.first_index

    @property
    def next_index(self) -> int:
        """Index that the next entry must have."""
        return self._journal.next_index

    @property
    def hard_state(self) -> HardState:
        """What was saved last."""
        return self._hard_state

    @property
    def dropped_tail(self) -> str | None:
        """What was in flight at the last crash and left out, for the log; None when the last end was clean."""
        damage = self._journal.dropped_tail
        return None if damage is None else f"{damage.reason} (offset {damage.offset})"

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries as one durable group.

        Raises DiskFailed (the node stops) or Overloaded (disk full, nothing written).
        """
        assert entries, "an append has entries"
        for place, entry in enumerate(entries):
            assert entry.index == self.next_index + place, (entry.index, self.next_index, place)
            assert entry.term > 0, entry
        payloads = [_ENTRY.pack(entry.term, entry.kind) + entry.payload for entry in entries]
        self._journal.append(payloads, entries[0].index)

    def read(self, start_index: int) -> Iterator[Entry]:
        """Yield the entries from ``start_index`` on. Raises Corrupt; ValueError when they were compacted away."""
        for index, record in self._journal.read(start_index):
            yield self._decode(index, record)

    def compact(self, below_index: int) -> int:
        """Give up whole segments whose entries all lie below the index. Returns how many. Raises DiskFailed."""
        try:
            return self._journal.release(below_index)
        except OSError as error:
            raise DiskFailed(f"compacting the log in {self._folder} failed: {error}") from error

    def save_hard_state(self, state: HardState) -> None:
        """Replace the hard state; on return it survives.

        Raises DiskFailed. The term never goes back, a vote is given once.
        """
        old = self._hard_state
        assert state.term >= old.term, (state, old)
        assert state.term > old.term or old.vote in (None, state.vote), (state, old)
        try:
            self._disk.write_durable(_hard_state_path(self._folder), _encode_hard_state(state))
        except OSError as error:
            raise DiskFailed(f"writing the hard state in {self._folder} failed: {error}") from error
        self._hard_state = state

    def close(self) -> None:
        """Mark the end as intended. Raises DiskFailed."""
        try:
            self._journal.close()
        except OSError as error:
            raise DiskFailed(f"closing the log in {self._folder} failed: {error}") from error

    def _decode(self, index: int, record: memoryview) -> Entry:
        try:
            term, kind = _ENTRY.unpack_from(record)
            return Entry(index=index, term=term, kind=EntryKind(kind), payload=bytes(record[_ENTRY.size :]))
        except (struct.error, ValueError) as error:
            raise Corrupt(
                f"entry {index} has no term and known kind: {error}", path=f"{self._folder}/log", offset=0
            ) from error


def _hard_state_path(folder: str) -> str:
    return f"{folder}/hard-state"


def _encode_hard_state(state: HardState) -> bytes:
    # One byte before the vote tells "nobody" from "a node whose name is empty".
    vote = b"" if state.vote is None else b"v" + state.vote.encode()
    body = _HARD_STATE.pack(_MAGIC, state.term, len(vote)) + vote
    return body + _CRC.pack(google_crc32c.value(body))


def _read_hard_state(disk: Disk, path: str) -> HardState:
    if not disk.exists(path):
        return HardState()
    data = disk.read(path)
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _HARD_STATE.size or crc != _CRC.pack(google_crc32c.value(body)):
        raise Corrupt("the hard state does not match its checksum", path=path, offset=0)
    magic, term, length = _HARD_STATE.unpack_from(body)
    vote = body[_HARD_STATE.size :]
    if magic != _MAGIC or len(vote) != length:
        raise Corrupt("not a hard state of this version", path=path, offset=0)
    return HardState(term, vote[1:].decode() if vote else None)
