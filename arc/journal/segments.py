"""A journal on a disk: segments in a folder, opened with proof, written durably, released from the old end.

Every method blocks and is called from one worker at a time; the owner is a Trio task elsewhere. After an OSError from
a write the journal is unusable on purpose: what the kernel kept of a failed write is unknown, and a second fsync
would lie ("fsyncgate"). The owner stops the node.

Whatever is written is one group, so it is there whole after a crash, or not at all: also a cut, and a cut together with
the records that take the place of what was cut.

It deliberately knows nothing of what a record means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from arc.errors import Corrupt, DiskFailed, Overloaded
from arc.journal import frames
from arc.journal.frames import CUTS_MAX, Damage, Kind, SegmentHeader
from arc.journal.index import GroupIndex
from arc.journal.inspection import SegmentInfo, Walk, walk
from arc.ports import BLOCK_BYTES, Buffer, Disk, LogFile, is_full

SPARES_MAX = 2
"""Recycled files kept ready: one being filled next, one for the release that comes before it is."""


class Journal:
    """Numbered records on disk. What writes returns when it would survive a power cut.

    With ``has_reserve`` a spare segment is kept that records never get, so that a cut finds room on a full disk.
    """

    def __init__(
        self, disk: Disk, folder: str, segment_bytes: int, index: GroupIndex, spares: list[str], *, has_reserve: bool
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._reserve = int(has_reserve)
        self._segments: list[SegmentInfo] = []
        self._index = index
        self._spares = spares
        self._active: LogFile | None = None
        self._failed = False
        self.dropped_tail: Damage | None = None

    def __repr__(self) -> str:
        return f"<Journal {self._folder} {self._index!r} segments={len(self._segments)} spares={len(self._spares)}>"

    @classmethod
    def open(
        cls,
        disk: Disk,
        folder: str,
        *,
        segment_bytes: int,
        first_index: int = 1,
        has_reserve: bool = False,
        found: Walk | None = None,
    ) -> Journal:
        """Open the journal in ``folder``, creating it empty with ``first_index`` as its first number.

        ``found`` is a `walk` that was just done. A torn tail is left out and remembered in ``dropped_tail``; what is
        there is durable on return. Raises Corrupt where stored records are damaged or missing, OSError.
        """
        assert segment_bytes % BLOCK_BYTES == 0 and segment_bytes >= 4 * BLOCK_BYTES
        disk.make_dirs(folder)
        names = disk.list_dir(folder)
        for name in names:
            if name.endswith(".new"):  # a segment whose creation did not finish; nothing was ever written to it
                disk.remove(f"{folder}/{name}")
        found = found if found is not None else walk(disk, folder)
        if found.hole is not None:
            raise found.hole
        spares = [f"{folder}/{name}" for name in names if name.endswith(".spare")]
        index = found.index if found.segments else GroupIndex(first_index)
        journal = cls(disk, folder, segment_bytes, index, spares, has_reserve=has_reserve)
        if not found.segments:
            journal._rotate()
            return journal
        last = found.segments[-1]
        if last.next_index < first_index:
            reason = f"the log ends at record {last.next_index - 1}, but {first_index - 1} was known to be stored"
            raise Corrupt(reason, path=last.path, offset=last.used_bytes)
        journal._segments = found.segments
        journal.dropped_tail = found.tail
        journal._active = disk.open_log(last.path)
        journal._write_again(found.last_offset)
        return journal

    @property
    def first_index(self) -> int:
        """Number of the oldest record still held (or of the next one, when empty)."""
        return self._index.first_index

    @property
    def next_index(self) -> int:
        """Number the next appended record will get."""
        return self._index.next_index

    def segments(self) -> tuple[SegmentInfo, ...]:
        """The segments, oldest first; the last one is being written."""
        return tuple(self._segments)

    # -------------------------------------------------------------------------------------------------- writing

    def append(self, payloads: Sequence[Buffer], first_index: int) -> None:
        """Write records ``first_index`` … as one group, durable on return.

        Raises Overloaded when the disk has no room for another segment: nothing was written, and a later append may
        work. Raises DiskFailed when a write or sync failed: what is on disk is unknown, and the journal refuses
        everything from then on.
        """
        assert payloads and first_index == self.next_index, (first_index, self.next_index)
        self._put(Kind.CONTINUES, first_index, payloads)

    def cut(self, first_index: int, payloads: Sequence[Buffer] = ()) -> None:
        """Forget the records from ``first_index`` on and write these instead, all as one group. Raises as `append`;
        without records Overloaded is raised only when the reserve is used up, too.
        """
        assert self.first_index <= first_index <= self.next_index, (first_index, self)
        self._put(Kind.CUTS, first_index, payloads)

    def restart(self, next_index: int) -> None:
        """Forget all records; the next one is ``next_index``. Raises as `cut` without records."""
        self._put(Kind.RESTARTS, next_index, ())

    def _put(self, kind: Kind, first_index: int, payloads: Sequence[Buffer]) -> None:
        if self._failed:
            raise DiskFailed("an earlier write to this log failed; its state is unknown until the node restarts")
        needed = frames.group_bytes(payloads)
        try:
            if payloads and len(self._spares) < self._reserve:
                self._make_spare()
            if self._segments[-1].used_bytes + needed > self._segments[-1].size_bytes:
                self._rotate(at_least=needed + BLOCK_BYTES, spares_left=self._reserve if payloads else 0)
            self._write(kind, first_index, payloads, needed)
        except OSError as error:
            self._failed = True
            raise DiskFailed(f"writing {self._segments[-1].path} failed: {error}") from error

    def _write(self, kind: Kind, first_index: int, payloads: Sequence[Buffer], needed: int) -> None:
        segment, active = self._segments[-1], self._active
        assert active is not None
        cuts = segment.cuts if kind is Kind.CONTINUES else segment.cuts + 1 & CUTS_MAX
        group = frames.encode_group(segment.number, first_index, payloads, kind=kind, cuts=cuts)
        written = active.write_durable(segment.used_bytes, group)
        assert written == needed, (written, needed)
        self._index.add(kind, first_index, len(payloads), segment.number, segment.used_bytes)
        used_bytes = segment.used_bytes + written
        self._segments[-1] = replace(segment, next_index=self._index.next_index, used_bytes=used_bytes, cuts=cuts)

    def _write_again(self, offset: int) -> None:
        """Make sure of the last group: its writer may have died, or been told that it failed, while it was no more than
        a page in the memory of the kernel, and whoever opens a journal goes by what can be read.
        """
        segment, active = self._segments[-1], self._active
        assert active is not None
        if offset < segment.used_bytes:
            active.write_durable(offset, [bytes(self._disk.map(segment.path)[offset : segment.used_bytes])])

    def ensure_room(self) -> bool:
        """Whether records will be taken, however many come next: makes the spare for them if it can. Raises
        DiskFailed.
        """
        try:
            while len(self._spares) <= self._reserve:
                self._make_spare()
        except Overloaded:
            return False
        except OSError as error:
            self._failed = True
            raise DiskFailed(f"making a segment in {self._folder} failed: {error}") from error
        return True

    # -------------------------------------------------------------------------------------------------- reading

    def read(self, start_index: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (number, payload) from ``start_index`` on. Payloads are valid while referenced. Raises Corrupt,
        ValueError.
        """
        if start_index < self.first_index:
            raise ValueError(f"record {start_index} is gone; the log begins at {self.first_index}")
        if start_index < self.next_index:
            yield from self._read_groups(self._index.find(start_index), len(self._index), start_index)

    def read_segment(self, segment: SegmentInfo, start_index: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (number, payload) of one segment. A payload is a view of the file: copy what must outlive a
        `release`.
        """
        first, last = map(self._index.groups_before, (segment.number, segment.number + 1))
        yield from self._read_groups(first, last, start_index)

    def start_of_tail(self, bytes_max: int) -> int:
        """Number of the first record of the last groups that take about ``bytes_max`` on disk (at least one does)."""
        ends = {segment.number: segment.used_bytes for segment in self._segments}
        size, start = 0, self.next_index
        for nth in range(len(self._index) - 1, -1, -1):
            first_index, _, number, offset = self._index.group(nth)
            size += ends[number] - offset
            ends[number] = offset
            if size > bytes_max and start < self.next_index:
                break
            start = first_index
        return start

    def _read_groups(self, first: int, last: int, start_index: int) -> Iterator[tuple[int, memoryview]]:
        opened, data = 0, memoryview(b"")
        for nth in range(first, last):
            first_index, limit, number, offset = self._index.group(nth)
            path = self._path(number)
            if number != opened:
                opened, data = number, self._disk.map(path)
            header = frames.read_header(data, offset, number)
            group = "its header is gone" if header is None else frames.read_group(data, offset, number, header)
            if isinstance(group, str) or group.first_index != first_index:
                raise Corrupt(f"the group of record {first_index}: {group}", path=path, offset=offset)
            for index, payload in enumerate(group.records, first_index):
                if start_index <= index < limit:
                    yield index, payload

    # ------------------------------------------------------------------------------------------------- segments

    def release(self, below_index: int) -> int:
        """Give back whole segments whose records are all below ``below_index`` or were cut; the active one stays.
        Returns how many.
        """
        released = 0
        while len(self._segments) > 1:
            groups = self._index.groups_before(self._segments[1].number)
            held = self._index.group(groups - 1)[1] if groups else 0
            if held > below_index:
                break
            oldest = self._segments[0]
            # Unlinked oldest first, so that a crash in between never leaves a hole in the numbers.
            if len(self._spares) < SPARES_MAX + self._reserve and oldest.size_bytes == self._segment_bytes:
                spare = f"{self._folder}/{oldest.number:012d}.spare"
                self._disk.rename(oldest.path, spare)
                self._spares.append(spare)
            else:
                self._disk.remove(oldest.path)
            del self._segments[0]
            self._index.drop(groups)
            released += 1
        return released

    def close(self) -> None:
        """Mark the end as intended, so that the next open can tell rot in the last group from a torn write."""
        if self._active is not None and not self._failed:
            self._mark_end()
            self._active.close()
        self._active = None

    def _mark_end(self) -> None:
        segment, active = self._segments[-1], self._active
        assert active is not None
        if segment.used_bytes + BLOCK_BYTES <= segment.size_bytes:
            mark = frames.encode_group(segment.number, segment.next_index, (), cuts=segment.cuts)
            active.write_durable(segment.used_bytes, mark)

    def _rotate(self, *, at_least: int = 0, spares_left: int = 0) -> None:
        before = self._segments[-1] if self._segments else None
        number, size = self._next_number(), max(self._segment_bytes, frames.padded(at_least + BLOCK_BYTES))
        path, previous, cuts = self._path(number), before.number if before else 0, before.cuts if before else 0
        header = SegmentHeader(number, self.next_index, size, previous, cuts)
        if len(self._spares) > spares_left and size == self._segment_bytes:
            draft = self._spares.pop(0)
            handle = self._disk.open_log(draft)
        else:
            draft = f"{path}.new"
            handle = self._create(draft, size)
        # The old segment is left only now, when its successor is sure: a full disk must not end a log that still works.
        if self._active is not None:
            self._mark_end()
            self._active.close()
        handle.write_durable(0, [frames.encode_segment_header(header)])
        self._disk.rename(draft, path)
        self._active = handle
        info = SegmentInfo(number, path, self.next_index, self.next_index, BLOCK_BYTES, size, previous, cuts, cuts)
        self._segments.append(info)

    def _next_number(self) -> int:
        """Numbers never repeat, or records from a file's former life would count; a spare may carry the last one."""
        used = [segment.number for segment in self._segments[-1:]]
        return 1 + max([0, *used, *(int(path.rsplit("/", 1)[1].split(".")[0]) for path in self._spares)])

    def _make_spare(self) -> None:
        number = self._next_number()
        draft, spare = f"{self._path(number)}.new", f"{self._folder}/{number:012d}.spare"
        self._create(draft, self._segment_bytes).close()
        self._disk.rename(draft, spare)
        self._spares.append(spare)

    def _create(self, draft: str, size: int) -> LogFile:
        try:
            return self._disk.create_log(draft, size)
        except OSError as error:
            if not is_full(error):
                raise
            raise Overloaded(
                f"the disk has no room for the next log segment of {size} bytes ({self._folder}); nothing was stored. "
                "Free space, or wait until flushed segments are recycled",
                code="disk_full",
                retry_after_seconds=5,
            ) from error

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:012d}.log"
