"""Everything consensus keeps in one folder: log, hard state, snapshots. It may count on all of it after a power cut.

    hard-state.log     term and vote (`hardstate`)
    log/               the entries, an `arc.journal`; an entry is a record with its term and kind in front (`records`)
    snapshots/         (`snapshots`)
    damaged            the mark of damage (`damage`), until the leader has repaired the node

`RaftStorage.open` says what is there as the `Stored` that a core starts from (`opening`); `RaftStorage.write` does what
the core asks for, many writes with at most one device write for the hard state and one for the log. Everything blocks;
`Workers.run` is the way to it.

What an entry means, and whether it is agreed on, is known elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from arc.errors import Corrupt, DiskFailed, Overloaded
from arc.ports import Disk, is_full
from arc.raft.damage import remove_mark
from arc.raft.effects import Write
from arc.raft.opening import Opened, open_folder
from arc.raft.records import Plan, decode_entry
from arc.raft.snapshots import Keep
from arc.raft.types import Configuration, Entry, Peer, SnapshotMeta, entry_bytes

SEGMENT_BYTES = 4 << 20

GROUP_BYTES_MAX = 1 << 20
"""Neighbouring writes share a group up to this size; a single write is never divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageStatistics:
    """What is held, and what was written since the start.

    ``fsyncs_total`` counts durable writes of `RaftStorage.write`; ``dropped_tail`` says what was in flight at the last
    crash, empty when nothing.
    """

    first_index: int
    next_index: int
    snapshot_index: int
    segments: int
    size_bytes: int
    entries_total: int
    bytes_total: int
    groups_total: int
    fsyncs_total: int
    dropped_tail: str
    is_damaged: bool


class RaftStorage:
    """Everything consensus keeps in one folder.

    One caller at a time, but `save_snapshot` and `load_snapshot` may run beside the others. After DiskFailed nothing
    more is written. ``findings`` are sentences for the log.
    """

    def __init__(self, disk: Disk, folder: str, opened: Opened) -> None:
        self._disk = disk
        self._folder = folder
        self._journal, self._hard, self._snapshots, self.stored, self.findings = opened
        self._failed = False
        self._entries = self._bytes = self._groups = self._fsyncs = 0
        self._is_damaged = self.stored.is_damaged
        self._newest = self.stored.snapshot.index if self.stored.snapshot is not None else 0

    def __repr__(self) -> str:
        held = f"{self._journal.first_index}..{self._journal.next_index - 1}"
        return f"<RaftStorage {self._folder} {held} snapshot={self._newest} {self._hard!r}>"

    @classmethod
    def open(
        cls, disk: Disk, folder: str, *, me: Peer, founders: Configuration, segment_bytes: int = SEGMENT_BYTES
    ) -> RaftStorage:
        """Open the folder, or begin it.

        Raises Corrupt where nothing can make the node whole again, DiskFailed when the disk refuses, Overloaded when it
        is full. Damage that a leader can repair is in ``stored.is_damaged`` and ``findings``.
        """
        try:
            disk.make_dirs(folder)
            return cls(disk, folder, open_folder(disk, folder, me, founders, segment_bytes))
        except OSError as error:
            if is_full(error):
                raise Overloaded(f"the disk has no room to open {folder}: {error}", code="disk_full") from error
            raise DiskFailed(f"opening {folder} failed: {error}") from error

    # -------------------------------------------------------------------------------------------------------- writing

    def write(self, writes: Sequence[Write]) -> int | None:
        """Do these writes; on return all of it is durable.

        Returns None, or the id of the first write whose entries found no room on a full disk: its entries and those of
        all later ones are not stored, all else is. Raises DiskFailed: what is stored is unknown, the node stops.

        The last hard state goes first: to know a later term or vote never hurts, and nobody was told the earlier ones.
        Entries of neighbouring writes share a group.
        """
        with self._failing("writing"):
            states = [state for _, state, _, _, _ in writes if state is not None]
            if states:
                self._fsyncs += self._hard.save(states[-1])
            plan, refused = Plan(self._journal.next_index), None
            for write_id, _, cut, entries, snapshot in writes:
                if snapshot is not None or plan.size_bytes > GROUP_BYTES_MAX:
                    refused = self._flush(plan) or refused
                    plan = Plan(self._journal.next_index)
                if snapshot is not None:
                    self._snapshots.accept(snapshot)
                    self._fsyncs += 1
                    self._newest = snapshot.index
                    if cut is not None and cut <= snapshot.index:
                        self._mark(self._journal.restart, snapshot.index + 1)
                        self._journal.release(0)
                        plan, cut = Plan(self._journal.next_index), None
                if cut is not None:
                    plan.cut(cut)
                if entries and refused is None:
                    plan.add(write_id, entries)
            return self._flush(plan) or refused

    def _flush(self, plan: Plan) -> int | None:
        """Write what is planned; returns None, or the first write whose entries found no room."""
        refused = None
        if plan.records:
            try:
                if plan.is_cut:
                    self._journal.cut(plan.first, plan.records)
                else:
                    self._journal.append(plan.records, plan.first)
            except Overloaded:
                refused = plan.owners[0][1]
            else:
                self._entries += len(plan.records)
                self._bytes += plan.size_bytes
                self._count_group()
                return None
        if plan.is_cut:
            self._mark(self._journal.cut, plan.first)
        return refused

    def _mark(self, write: Callable[[int], None], index: int) -> None:
        try:
            write(index)
        except Overloaded as error:
            raise DiskFailed(f"the disk is full, and so is the log's reserve: {error.message}") from error
        self._count_group()

    def _count_group(self) -> None:
        self._groups += 1
        self._fsyncs += 1

    def has_room(self) -> bool:
        """Whether entries would be taken, for a node that was told that the disk is full."""
        with self._failing("making room"):
            return self._journal.ensure_room()

    def compact(self, first: int) -> None:
        """Entries below ``first`` are not needed; those that the older snapshot needs stay. Raises DiskFailed."""
        with self._failing("compacting"):
            kept = self._snapshots.indexes()
            if len(kept) > 1:
                self._journal.release(min(first, kept[0] + 1))

    # -------------------------------------------------------------------------------------------------------- reading

    def read_entries(self, first: int, last: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from ``first`` on, at least that one, up to ``last`` and about ``bytes_max``; none when it was
        compacted away. Raises Corrupt.
        """
        if not self._journal.first_index <= first < self._journal.next_index:
            return ()
        found: list[Entry] = []
        size, path = 0, f"{self._folder}/log"
        for index, record in self._journal.read(first):
            if index > last:
                break
            entry = decode_entry(index, record, path)
            size += entry_bytes(entry)
            if found and size > bytes_max:
                break
            found.append(entry)
        return tuple(found)

    def statistics(self) -> StorageStatistics:
        """Numbers for status and metrics."""
        segments, tail = self._journal.segments(), self._journal.dropped_tail
        return StorageStatistics(
            first_index=self._journal.first_index,
            next_index=self._journal.next_index,
            snapshot_index=self._newest,
            segments=len(segments),
            size_bytes=sum(segment.used_bytes for segment in segments),
            entries_total=self._entries,
            bytes_total=self._bytes,
            groups_total=self._groups,
            fsyncs_total=self._fsyncs,
            dropped_tail="" if tail is None else f"{tail.reason} at offset {tail.offset}",
            is_damaged=self._is_damaged,
        )

    # ------------------------------------------------------------------------------------------------------ snapshots

    def save_snapshot(
        self,
        index: int,
        term: int,
        configuration: Configuration,
        configuration_index: int,
        chunks: Iterable[bytes],
        *,
        keep: Keep = frozenset(),
    ) -> SnapshotMeta | None:
        """Write a snapshot; on return it survives, and old ones are gone but those of the indexes ``keep``. None: the
        disk is full, nothing changed. Raises DiskFailed.
        """
        try:
            saved = self._snapshots.save(index, term, chunks, configuration, configuration_index, keep=keep)
        except OSError as error:
            if is_full(error):
                self._snapshots.discard(index)
                return None
            raise DiskFailed(f"writing snapshot {index} in {self._folder} failed: {error}") from error
        self._newest = max(self._newest, index)
        return saved.meta

    def load_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The chunks that `save_snapshot` was given, here or where it came from. Raises Corrupt, also at the end."""
        found = self._snapshots.find(meta)
        if found is None:
            raise Corrupt(f"snapshot {meta.index} is not there", path=f"{self._folder}/snapshots", offset=0)
        return self._snapshots.chunks(found)

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> tuple[bytes, int, bool] | None:
        """(bytes of the transfer stream, their CRC32C, whether they are its last); None: not there any more."""
        with self._failing("reading a snapshot"):
            return self._snapshots.read_piece(meta, offset, bytes_max)

    def stage_chunk(self, meta: SnapshotMeta, offset: int, data: bytes, checksum: int, is_last: bool) -> bool:
        """Store a piece of another node's snapshot (offset 0 drops what was staged before); False when it is not what
        was sent, or there is no room for it now. Complete only counts with a `Write`; a restart drops it.
        """
        with self._failing("storing a snapshot"):
            return self._snapshots.stage_piece(meta, offset, data, checksum, is_last)

    # ----------------------------------------------------------------------------------------------------------- ends

    def repaired(self) -> None:
        """The leader has made this node whole: forget the mark of damage. Raises DiskFailed."""
        with self._failing("removing the mark of damage"):
            remove_mark(self._disk, self._folder)
            self._is_damaged = False

    def close(self) -> None:
        """The orderly end; after a failure nothing is written any more. Raises DiskFailed."""
        if self._failed:
            return
        with self._failing("closing"):
            self._journal.close()
            self._hard.close()

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        if self._failed:
            raise DiskFailed(f"the disk below {self._folder} failed before; nothing is known until the node restarts")
        try:
            yield
        except OSError as error:
            self._failed = True
            raise DiskFailed(f"{what} in {self._folder} failed: {error}") from error
        except DiskFailed:
            self._failed = True
            raise
