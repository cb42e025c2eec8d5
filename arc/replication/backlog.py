"""Which missing files are fetched next: the newest data first, small files several at a time, failed ones later.

Pure: what is wanted goes in, what to start comes out. Nothing leaves but by `drop`, so whatever fails stays wanted. A
step costs as much for a million missing files as for ten.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from arc.storage.files import FileEntry

SMALL_BYTES = 128 << 10
"""Up to this a file is fetched together with others."""

BATCH_FILES_MAX = 256
BATCH_BYTES_MAX = 2 << 20
"""Of one question for several files: some 20 ms of a gigabit line."""


class Backlog:
    """Files that this node wants, by path; each is ready, under way, or waits for its next try."""

    def __init__(self) -> None:
        self._wanted: dict[str, FileEntry] = {}
        self._busy: set[str] = set()
        self._due: dict[str, float] = {}
        """Those that wait, and until when."""
        self._ready: list[tuple[int, str]] = []
        self._later: list[tuple[float, str]] = []
        """Heaps. They may hold what is true no more; it is passed over when it comes up."""

    def __repr__(self) -> str:
        return f"<Backlog wanted={len(self._wanted)} under_way={len(self._busy)} waiting={len(self._due)}>"

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, path: object) -> bool:
        return path in self._wanted

    def __iter__(self) -> Iterator[FileEntry]:
        return iter(self._wanted.values())

    @property
    def under_way(self) -> int:
        """Files that were taken and not given back."""
        return len(self._busy)

    def add(self, entry: FileEntry) -> None:
        """Want a file. One that is wanted already is not wanted twice; with another hash it takes the other's place."""
        known = self._wanted.get(entry.path)
        self._wanted[entry.path] = entry
        if known is None or known.sha256 != entry.sha256:
            self._due.pop(entry.path, None)
            if entry.path not in self._busy:
                self._push(entry)

    def drop(self, path: str) -> None:
        """Want it no more: it came, or left the manifest."""
        self._wanted.pop(path, None)
        self._due.pop(path, None)

    def take(self, now: float, holders: Callable[[FileEntry], Sequence[str]]) -> list[FileEntry]:
        """What to fetch next, marked as under way: one file, or small ones that the same ``holders`` are asked for.
        Empty when nothing is ready.
        """
        self._wake(now)
        first = self._pop()
        if first is None:
            return []
        batch = [first]
        if first.size_bytes <= SMALL_BYTES:
            self._gather(batch, holders)
        self._busy.update(entry.path for entry in batch)
        return batch

    def give_back(self, entry: FileEntry, due: float) -> None:
        """It is under way no more; if it is still wanted, its next try is at ``due``."""
        self._busy.discard(entry.path)
        wanted = self._wanted.get(entry.path)
        if wanted is not None and wanted.sha256 == entry.sha256:
            self._due[entry.path] = due
            heapq.heappush(self._later, (due, entry.path))
        elif wanted is not None:
            self._push(wanted)

    def done(self, entry: FileEntry) -> None:
        """It is under way no more, and wanted no more, unless another has taken its place meanwhile."""
        self._busy.discard(entry.path)
        wanted = self._wanted.get(entry.path)
        if wanted is not None and wanted.sha256 == entry.sha256:
            self.drop(entry.path)
        elif wanted is not None:
            self._push(wanted)

    def hurry(self, path: str) -> None:
        """Try it now, if it waits."""
        if self._due.pop(path, None) is not None:
            self._push(self._wanted[path])

    def next_due(self) -> float | None:
        """When the first that waits is to be tried; None when none waits."""
        while self._later and self._due.get(self._later[0][1]) != self._later[0][0]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def _wake(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            self.hurry(heapq.heappop(self._later)[1])

    def _push(self, entry: FileEntry) -> None:
        heapq.heappush(self._ready, (-entry.max_time_us, entry.path))

    def _pop(self) -> FileEntry | None:
        while self._ready:
            _, path = heapq.heappop(self._ready)
            entry = self._wanted.get(path)
            if entry is not None and path not in self._busy and path not in self._due:
                return entry
        return None

    def _gather(self, batch: list[FileEntry], holders: Callable[[FileEntry], Sequence[str]]) -> None:
        asked, size = list(holders(batch[0])), batch[0].size_bytes
        taken, passed = {batch[0].path}, list[FileEntry]()
        while len(batch) < BATCH_FILES_MAX and len(passed) < BATCH_FILES_MAX:
            entry = self._pop()
            if entry is None:
                break
            if entry.path in taken:
                continue  # Twice in the heap: it was dropped and wanted again.
            if (
                entry.size_bytes <= SMALL_BYTES
                and size + entry.size_bytes <= BATCH_BYTES_MAX
                and list(holders(entry)) == asked
            ):
                batch.append(entry)
                taken.add(entry.path)
                size += entry.size_bytes
            else:
                passed.append(entry)
        for entry in passed:
            self._push(entry)
