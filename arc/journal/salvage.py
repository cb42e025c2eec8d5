"""What is left of a journal with a hole: how much of it is proven, and how the rest is put aside.

Bytes that were promised are gone, but whoever can get records again from somebody else may keep those before the hole.
Only those that were not cut later, though: a record that was cut and comes back would be taken for one that was
promised. So everything behind the hole that can still be read is asked for cuts, and as groups count them, a cut that
only the hole has seen is noticed, too: then nothing is kept.

Nothing is destroyed. What cannot serve any more is renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arc.errors import Corrupt
from arc.journal import frames
from arc.journal.frames import CUTS_MAX, Group, GroupHeader, Kind
from arc.journal.inspection import SegmentInfo, walk
from arc.ports import BLOCK_BYTES, Disk

SUFFIX = ".damaged"


@dataclass(frozen=True, slots=True)
class Remains:
    """Records below ``keep_below`` are proven; ``hole`` says what is wrong. ``last`` is the segment whose front is good
    up to there, ``behind`` are the files that come after, oldest first.
    """

    keep_below: int
    hole: Corrupt
    last: SegmentInfo | None
    behind: tuple[str, ...]


def survey(disk: Disk, folder: str, visit: Callable[[Group], None] = lambda group: None) -> Remains | None:
    """Look for a hole; None when there is none. ``visit`` gets the groups before it. Changes nothing."""
    found = walk(disk, folder, visit)
    if found.hole is None:
        return None
    last = found.segments[-1] if found.segments else None
    if last is None:
        return Remains(0, found.hole, None, found.behind)
    keep_below, cuts = last.next_index, last.cuts
    for header in _behind(disk, last, found.behind):
        due = cuts if header is None or header.kind is Kind.CONTINUES else cuts + 1 & CUTS_MAX
        if header is None or header.cuts != due or header.kind is Kind.RESTARTS:
            return Remains(0, found.hole, last, found.behind)
        if header.kind is Kind.CUTS:
            keep_below = min(keep_below, header.first_index)
        cuts = header.cuts
    return Remains(keep_below, found.hole, last, found.behind)


def put_aside(disk: Disk, remains: Remains) -> None:
    """Make a journal again of what is before the hole. Newest first, so a crash leaves a hole that is found again.

    The caller still has to cut at ``keep_below``, and must have noted it first. Raises OSError.
    """
    for path in reversed(remains.behind):
        rename_aside(disk, path)
    last = remains.last
    if last is None or last.used_bytes == last.size_bytes:
        return
    # A file of its own: stale groups of the same number behind the hole must not come back.
    draft = f"{last.path}.new"
    disk.remove(draft)
    handle = disk.create_log(draft, last.size_bytes)
    front = bytes(disk.map(last.path)[: last.used_bytes])
    for offset in range(0, len(front), 1 << 20):
        handle.write_durable(offset, [front[offset : offset + (1 << 20)]])
    handle.close()
    rename_aside(disk, last.path)
    disk.rename(draft, last.path)


def put_all_aside(disk: Disk, folder: str) -> None:
    """Rename every segment, newest first; the journal is gone."""
    for name in reversed(disk.list_dir(folder)):
        if name.endswith(".log"):
            rename_aside(disk, f"{folder}/{name}")


def rename_aside(disk: Disk, path: str) -> None:
    """Rename a file so that nobody reads it again, under a name that is not taken."""
    target, number = f"{path}{SUFFIX}", 1
    while disk.exists(target):
        number += 1
        target = f"{path}{SUFFIX}{number}"
    disk.rename(path, target)


def _behind(disk: Disk, last: SegmentInfo, paths: tuple[str, ...]) -> Iterator[GroupHeader | None]:
    """All that can be read behind the hole, in the order of writing; None for a segment without anything readable."""
    yield from _headers(disk.map(last.path), last.number, last.used_bytes)
    for path in paths:
        data = disk.map(path)
        segment = frames.decode_segment_header(data)
        number = int(path.rsplit("/", 1)[1].split(".")[0]) if segment is None else segment.number
        found = False
        if segment is not None:
            yield GroupHeader(Kind.CONTINUES, segment.first_index, 0, segment.cuts, 0)
            found = True
        for header in _headers(data, number, BLOCK_BYTES):
            yield header
            found = True
        if not found:
            yield None


def _headers(data: memoryview, number: int, position: int) -> Iterator[GroupHeader]:
    first = frames.read_header(data, position, number)
    if first is not None:
        yield first
    yield from (header for _, header in frames.headers_behind(data, number, position))
