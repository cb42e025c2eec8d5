"""A journal on a disk: segments in a folder, opened with proof, appended durably, released from the old end.

Every method blocks and is called from one worker at a time; the owner is a Trio task elsewhere. After an OSError from
`append` the journal is unusable on purpose: what the kernel kept of a failed write is unknown, and a second fsync
would lie ("fsyncgate"). The owner stops the node.

It deliberately knows nothing of what a record means.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from arc.errors import Corrupt, DiskFailed, Overloaded
from arc.journal import frames
from arc.journal.frames import Damage, Scan, SegmentHeader
from arc.ports import BLOCK_BYTES, Buffer, Disk, LogFile

SPARES_MAX = 2
"""Recycled files kept ready: one being filled next, one for the release that comes before it is."""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment: records ``first_index`` <= i < ``next_index`` in ``used_bytes`` of a file of ``size_bytes``."""

    number: int
    path: str
    first_index: int
    next_index: int
    used_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found in one file, damaged or not."""

    info: SegmentInfo
    closed: bool
    damage: Damage | None


class Journal:
    """Numbered records on disk. ``append`` returns when they would survive a power cut."""

    def __init__(
        self, disk: Disk, folder: str, segment_bytes: int, segments: list[SegmentInfo], spares: list[str]
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._spares = spares
        self._active: LogFile | None = None
        self._failed = False
        self.dropped_tail: Damage | None = None

    @classmethod
    def open(cls, disk: Disk, folder: str, *, segment_bytes: int, first_index: int = 1) -> Journal:
        """Open the journal in ``folder``, creating it empty with ``first_index`` as its first number.

        A torn tail is left out and remembered in ``dropped_tail``. Raises Corrupt where stored records are damaged or
        missing.
        """
        assert segment_bytes % BLOCK_BYTES == 0 and segment_bytes >= 4 * BLOCK_BYTES
        disk.make_dirs(folder)
        names = disk.list_dir(folder)
        for name in names:
            if name.endswith(".new"):  # a segment whose creation did not finish; nothing was ever written to it
                disk.remove(f"{folder}/{name}")
        spares = [f"{folder}/{name}" for name in names if name.endswith(".spare")]
        found = [look(disk, f"{folder}/{name}") for name in names if name.endswith(".log")]
        segments = _prove([inspection for inspection, _ in found], first_index)
        journal = cls(disk, folder, segment_bytes, segments, spares)
        if segments:
            journal.dropped_tail = found[-1][0].damage
            journal._active = disk.open_log(segments[-1].path)
        else:
            journal._rotate(first_index)
        return journal

    @property
    def first_index(self) -> int:
        """Number of the oldest record still held (or of the next one, when empty)."""
        return self._segments[0].first_index

    @property
    def next_index(self) -> int:
        """Number the next appended record will get."""
        return self._segments[-1].next_index

    def segments(self) -> tuple[SegmentInfo, ...]:
        """The segments, oldest first; the last one is being written."""
        return tuple(self._segments)

    def append(self, payloads: Sequence[Buffer], first_index: int) -> None:
        """Write records ``first_index`` … as one group, durable on return.

        Raises Overloaded when the disk has no room for another segment: nothing was written, and a later append may
        work. Raises DiskFailed when a write or sync failed: what is on disk is unknown, and the journal refuses
        everything from then on.
        """
        assert payloads and first_index == self.next_index, (first_index, self.next_index)
        if self._failed:
            raise DiskFailed("an earlier write to this log failed; its state is unknown until the node restarts")
        needed = frames.group_bytes(payloads)
        try:
            if self._segments[-1].used_bytes + needed > self._segments[-1].size_bytes:
                self._rotate(first_index, at_least=needed + BLOCK_BYTES)
            self._write(payloads, first_index, needed)
        except OSError as error:
            self._failed = True
            raise DiskFailed(f"writing {self._segments[-1].path} failed: {error}") from error

    def _write(self, payloads: Sequence[Buffer], first_index: int, needed: int) -> None:
        segment, active = self._segments[-1], self._active
        assert active is not None
        written = active.write_durable(segment.used_bytes, frames.encode_group(segment.number, first_index, payloads))
        assert written == needed, (written, needed)
        self._segments[-1] = replace(
            segment, next_index=first_index + len(payloads), used_bytes=segment.used_bytes + written
        )

    def read(self, start_index: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (number, payload) from ``start_index`` on. Payloads are valid while referenced. Raises Corrupt,
        ValueError.
        """
        if start_index < self.first_index:
            raise ValueError(f"record {start_index} is gone; the log begins at {self.first_index}")
        for segment in self.segments():
            if segment.next_index > start_index:
                yield from self.read_segment(segment, start_index)

    def read_segment(self, segment: SegmentInfo, start_index: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (number, payload) of one segment. A payload is a view of the file: copy what must outlive a
        `release`.
        """
        _, scan = look(self._disk, segment.path)
        for group in scan.groups:
            for index, payload in enumerate(group.records, group.first_index):
                if start_index <= index < segment.next_index:
                    yield index, payload

    def release(self, below_index: int) -> int:
        """Give back whole segments whose records are all below ``below_index``; the active one stays. Returns how
        many.
        """
        released = 0
        while len(self._segments) > 1 and self._segments[0].next_index <= below_index:
            oldest = self._segments[0]
            # Unlinked oldest first, so that a crash in between never leaves a hole in the numbers.
            if len(self._spares) < SPARES_MAX and oldest.size_bytes == self._segment_bytes:
                spare = f"{self._folder}/{oldest.number:012d}.spare"
                self._disk.rename(oldest.path, spare)
                self._spares.append(spare)
            else:
                self._disk.remove(oldest.path)
            del self._segments[0]
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
            active.write_durable(segment.used_bytes, frames.encode_group(segment.number, segment.next_index, ()))

    def _rotate(self, first_index: int, *, at_least: int = 0) -> None:
        number = self._segments[-1].number + 1 if self._segments else 1
        if self._spares:  # a spare may carry a number this journal used last; numbers must never repeat
            number = max(number, 1 + max(int(path.rsplit("/", 1)[1].split(".")[0]) for path in self._spares))
        size = max(self._segment_bytes, frames.padded(at_least + BLOCK_BYTES))
        path = f"{self._folder}/{number:012d}.log"
        header = frames.encode_segment_header(SegmentHeader(number, first_index, size))
        if self._spares and size == self._segment_bytes:
            draft = self._spares.pop(0)
            handle = self._disk.open_log(draft)
        else:
            draft = f"{path}.new"
            handle = self._create(draft, size)
        # The old segment is left only now, when its successor is sure: a full disk must not end a log that still works.
        if self._active is not None:
            self._mark_end()
            self._active.close()
        handle.write_durable(0, [header])
        self._disk.rename(draft, path)
        self._active = handle
        self._segments.append(SegmentInfo(number, path, first_index, first_index, BLOCK_BYTES, size))

    def _create(self, draft: str, size: int) -> LogFile:
        try:
            return self._disk.create_log(draft, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Overloaded(
                f"the disk has no room for the next log segment of {size} bytes ({self._folder}); nothing was stored. "
                "Free space, or wait until flushed segments are recycled",
                code="disk_full",
                retry_after_seconds=5,
            ) from error


def look(disk: Disk, path: str) -> tuple[Inspection, Scan]:
    """Read one segment file and say what is in it. Raises Corrupt only when not even its header can be read."""
    data = disk.map(path)
    header = frames.decode_segment_header(data)
    if header is None:
        raise Corrupt("the segment header does not match its checksum", path=path, offset=0)
    scan = frames.scan(data, header)
    info = SegmentInfo(header.number, path, header.first_index, scan.next_index, scan.end, len(data))
    return Inspection(info, scan.closed, scan.damage), scan


def inspect(disk: Disk, folder: str) -> list[Inspection]:
    """Look at every segment without judging the whole; for `arc wal inspect` and `arc wal verify`."""
    return [look(disk, f"{folder}/{name}")[0] for name in disk.list_dir(folder) if name.endswith(".log")]


def verify(inspections: Sequence[Inspection]) -> None:
    """Raise Corrupt at the first place where stored records are damaged or missing."""
    _prove(list(inspections), inspections[0].info.first_index if inspections else 1)


def _prove(inspections: list[Inspection], first_index: int) -> list[SegmentInfo]:
    for nth, inspection in enumerate(inspections):
        info, damage, last = inspection.info, inspection.damage, nth == len(inspections) - 1
        if damage is not None and not (damage.torn and last):
            raise Corrupt(damage.reason, path=info.path, offset=damage.offset)
        if nth and info.first_index != inspections[nth - 1].info.next_index:
            before = inspections[nth - 1].info
            raise Corrupt(
                f"records {before.next_index}..{info.first_index - 1} are missing before {info.path}",
                path=before.path,
                offset=before.used_bytes,
            )
    if inspections and inspections[-1].info.next_index < first_index:
        last_info = inspections[-1].info
        raise Corrupt(
            f"the log ends at record {last_info.next_index - 1}, but {first_index - 1} was known to be stored",
            path=last_info.path,
            offset=last_info.used_bytes,
        )
    return [inspection.info for inspection in inspections]
