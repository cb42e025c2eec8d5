"""Looking at the segments of a journal, from the oldest to the first bad place, without changing anything.

`walk` is what opening a journal, verifying one offline and saving what is left of one have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from arc.errors import Corrupt
from arc.journal import frames
from arc.journal.frames import Damage, Group, Scan
from arc.journal.index import GroupIndex
from arc.ports import Disk


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment: it took the journal from ``first_index`` to ``next_index``, with ``used_bytes`` of a file of
    ``size_bytes``. ``previous`` is the segment before it (0: none; None: not told), ``cuts`` those until its end.
    """

    number: int
    path: str
    first_index: int
    next_index: int
    used_bytes: int
    size_bytes: int
    previous: int | None = None
    cuts: int = 0
    cuts_before: int = 0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found in one file, damaged or not."""

    info: SegmentInfo
    closed: bool
    damage: Damage | None


@dataclass(slots=True)
class Walk:
    """What is proven: ``segments`` up to the first bad place, ``index`` of what counts there.

    ``hole`` is that place, ``hole_path`` its file when a part of it is good; ``behind`` are the files that were not
    looked at, with the bad one itself if nothing of it is good. ``tail`` is what was in flight at the last crash, and
    ``last_offset`` where in the last segment its last group begins, or would.
    """

    segments: list[SegmentInfo] = field(default_factory=list)
    index: GroupIndex = field(default_factory=GroupIndex)
    tail: Damage | None = None
    hole: Corrupt | None = None
    behind: tuple[str, ...] = ()
    last_offset: int = 0


def walk(disk: Disk, folder: str, visit: Callable[[Group], None] = lambda group: None) -> Walk:
    """Go through a journal in the order of its writing; ``visit`` gets each proven group. Memory: one segment's."""
    found = Walk()
    names = [name for name in disk.list_dir(folder) if name.endswith(".log")]
    for nth, name in enumerate(names):
        path = f"{folder}/{name}"
        before = found.segments[-1] if found.segments else None
        try:
            inspection, scan = look(disk, path)
            check_chain(before, inspection.info)
        except Corrupt as corrupt:
            found.hole, found.behind = corrupt, tuple(f"{folder}/{each}" for each in names[nth:])
            return found
        if before is None:
            found.index = GroupIndex(inspection.info.first_index)
        for group in scan.groups:
            found.index.add(group.kind, group.first_index, len(group.records), inspection.info.number, group.offset)
            visit(group)
        found.segments.append(inspection.info)
        found.last_offset = scan.groups[-1].offset if scan.groups else inspection.info.used_bytes
        try:
            check_damage(inspection, is_last=nth == len(names) - 1)
        except Corrupt as corrupt:
            found.hole, found.behind = corrupt, tuple(f"{folder}/{each}" for each in names[nth + 1 :])
            return found
        found.tail = inspection.damage
    return found


def look(disk: Disk, path: str) -> tuple[Inspection, Scan]:
    """Read one segment file and say what is in it. Raises Corrupt only when not even its header can be read."""
    data = disk.map(path)
    header = frames.decode_segment_header(data)
    if header is None:
        raise Corrupt("the segment header does not match its checksum", path=path, offset=0)
    scan = frames.scan(data, header)
    info = SegmentInfo(
        header.number,
        path,
        header.first_index,
        scan.next_index,
        scan.end,
        len(data),
        header.previous,
        scan.cuts,
        header.cuts,
    )
    return Inspection(info, scan.closed, scan.damage), scan


def inspect(disk: Disk, folder: str) -> list[Inspection]:
    """Look at every segment without judging the whole; for `arc wal inspect` and `arc wal verify`."""
    return [look(disk, f"{folder}/{name}")[0] for name in disk.list_dir(folder) if name.endswith(".log")]


def verify(inspections: Sequence[Inspection]) -> None:
    """Raise Corrupt at the first place where stored records are damaged or missing."""
    before: SegmentInfo | None = None
    for nth, inspection in enumerate(inspections):
        check_damage(inspection, is_last=nth == len(inspections) - 1)
        check_chain(before, inspection.info)
        before = inspection.info


def check_damage(inspection: Inspection, *, is_last: bool) -> None:
    """Raise Corrupt where stored records are damaged. Only the last segment may end in a torn group."""
    info, damage = inspection.info, inspection.damage
    if damage is not None and not (damage.torn and is_last):
        raise Corrupt(damage.reason, path=info.path, offset=damage.offset)


def check_chain(before: SegmentInfo | None, info: SegmentInfo) -> None:
    """Raise Corrupt when this segment does not follow that one."""
    if before is None:
        return
    if info.first_index != before.next_index:
        reason = f"records {before.next_index}..{info.first_index - 1} are missing before {info.path}"
        raise Corrupt(reason, path=before.path, offset=before.used_bytes)
    if info.previous not in (None, before.number) or info.cuts_before != before.cuts:
        reason = f"segment {info.previous} is missing before {info.path}"
        raise Corrupt(reason, path=before.path, offset=before.used_bytes)
