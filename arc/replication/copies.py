"""On how many disks the files are: what of this node's log has to stay because of it, and how many have too few copies.

Both follow the manifest cell by cell (`catalog.manifest.differing`), so a look costs what changed since the last one.

**When a record may leave the log of a node.** Every node that may be counted on keeps this: *a record that it ever
confirmed is in its log, or in files on its own disk (or in a store that all share), or in files on ``factor`` disks of
nodes that stay.* `Kept` is the last two of it; that the record is in registered files at all is the flush mark's
matter. Why it is enough, for a factor of two and any one disk lost for good:

- A row is acknowledged when it is in the logs of the whole in-sync set, two nodes at least (``wal.min_insync``). Also
  where that is two of three: the third is not counted on.
- A flush puts the rows into files on the writer's disk, and the catalog says so in the entry that moves the mark. From
  then on the writer may release them. The other member may not: it has no such file, and the catalog names one holder.
  Lose the writer's disk now, and the rows are in that log; lose the other's, and they are in the files.
- It releases them when it has the files itself (two disks), or when two others are known to have them (two disks).
- A follower that is told to begin anew, because the holder's log starts above its own, gives up its log as a whole: it
  waits with that until nothing in it is needed any more by the same rule (`replication.receiver`). Else the node that
  was cut off with the second copy would throw it away just because it is late.

The writer does not wait for others: its own log is on the same disk as its files and is no second copy. So its log
stays bounded by ``wal.max_bytes`` as ever, however few nodes can be reached. A node that cannot get a file keeps its
log, says so, and drops nothing; when its disk is full it stops following, and is not counted on any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from arc.catalog.facts import Catalog
from arc.catalog.manifest import Manifest, differing
from arc.catalog.nodes import Nodes
from arc.replication.placement import Placement
from arc.storage.files import FileEntry
from arc.storage.shelf import Shelf

NOTHING = 1 << 62
"""Above every sequence: nothing is kept."""

FRESH_US = 60_000_000
"""A file has this long to find its copies before anybody is told that it has too few."""


class Kept:
    """Files whose rows this node's log must keep. ``is_here`` tells of whole files on this disk; what is on ``shelf``,
    the store that all nodes share, needs nobody's log.

    A file that is lost here later is looked at again when the catalog is told of it (`replication.announcing`).
    """

    def __init__(
        self,
        *,
        me: str,
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        factor: int,
        shelf: Shelf | None = None,
    ) -> None:
        self._me = me
        self._catalog = catalog
        self._is_here = is_here
        self._factor = factor
        self._shelf = shelf
        self._nodes: Nodes = {}
        self._manifest: Manifest = {}
        self._placement = Placement({}, factor)
        self._unsafe: dict[str, FileEntry] = {}

    def __repr__(self) -> str:
        return f"<Kept for {len(self._unsafe)} files>"

    def first(self, log_first: int) -> int:
        """The first record of a log that begins with ``log_first`` that must stay; `NOTHING` where none must.

        Files all of whose records left the log long ago keep nothing: it could not help them.
        """
        self._follow()
        firsts = (max(entry.first_sequence, log_first) for entry in self._reaching(log_first))
        return min(firsts, default=NOTHING)

    def nowhere(self) -> list[FileEntry]:
        """Files that nobody has, as far as anybody said, in the order of their records."""
        self._follow()
        found = [entry for entry in self._reaching(0) if not entry.holders]
        return sorted(found, key=lambda entry: (entry.first_sequence, entry.path))

    def needed(self, first: int, end: int) -> FileEntry | None:
        """A file for whose sake the records from ``first`` up to and without ``end`` must stay; None: they may go."""
        if first >= end:
            return None
        self._follow()
        found = (entry for entry in self._reaching(first) if entry.first_sequence < end)
        return min(found, key=lambda entry: (entry.first_sequence, entry.path), default=None)

    def _reaching(self, first: int) -> list[FileEntry]:
        come = [path for path in self._unsafe if self._is_safe(path)]
        for path in come:
            del self._unsafe[path]
        return [entry for entry in self._unsafe.values() if entry.last_sequence >= first]

    def _follow(self) -> None:
        catalog = self._catalog()
        if catalog.nodes is not self._nodes:
            self._nodes, self._placement = catalog.nodes, Placement(catalog.nodes, self._factor)
            self._manifest = {}
            self._unsafe.clear()
        for before, after in differing(self._manifest, catalog.manifest):
            for entry in before:
                self._unsafe.pop(entry.path, None)
            for entry in after:
                if entry.last_sequence and not self._is_safe(entry.path) and self._has_few(entry):
                    self._unsafe[entry.path] = entry
        self._manifest = catalog.manifest

    def _is_safe(self, path: str) -> bool:
        return self._is_here(path) or (self._shelf is not None and self._shelf.has(path))

    def _has_few(self, entry: FileEntry) -> bool:
        """This node's does not count: it is not here, whatever the catalog says."""
        return self._placement.copies(entry, without=self._me) < self._factor


class Tally:
    """How many files are on which nodes, for status: grouped by their holders, so counting again costs nothing.
    ``unshared`` gives the files that a store which all share is not known to have; None where there is no such store.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        factor: int,
        unshared: Callable[[], Collection[FileEntry]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._unshared = unshared
        self._factor = factor
        self._manifest: Manifest = {}
        self._groups: Counter[tuple[str, ...]] = Counter()
        self._few: dict[str, FileEntry] = {}

    def under_replicated(self, living: Collection[str], now_us: int) -> int:
        """Files that fewer ``living`` nodes hold than should, but for those written within the last minute."""
        catalog = self._follow()
        keepers = {*Placement(catalog.nodes, self._factor).keepers}.intersection(living)
        if self._unshared is not None:
            known = (catalog.file(entry.path) for entry in self._unshared())
            old = [entry for entry in known if entry is not None and now_us - entry.created_us >= FRESH_US]
            return sum(len(keepers.intersection(entry.holders)) < self._factor for entry in old)
        lacking = {group for group in self._groups if len(keepers.intersection(group)) < self._factor}
        fresh = sum(entry.holders in lacking and now_us - entry.created_us < FRESH_US for entry in self._few.values())
        return sum(self._groups[group] for group in lacking) - fresh

    def by_holders(self) -> Mapping[tuple[str, ...], int]:
        """Number of files by who holds them."""
        self._follow()
        return dict(sorted(self._groups.items()))

    def _follow(self) -> Catalog:
        catalog = self._catalog()
        for before, after in differing(self._manifest, catalog.manifest):
            for entry in before:
                self._groups[entry.holders] -= 1
                self._few.pop(entry.path, None)
            for entry in after:
                self._groups[entry.holders] += 1
                if len(entry.holders) < self._factor:
                    self._few[entry.path] = entry
        self._manifest = catalog.manifest
        self._groups = +self._groups
        return catalog
