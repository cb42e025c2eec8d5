"""Looks after the files of a node for ever, slowly: what should be here and is not, what is here and should not be, and
whether what is here is still what it was.

Two walks and a reading, one at a time, each in small steps with pauses in between, so that all of it together takes no
more than a small share of one core. Every `look_seconds` manifest and disk are compared, both ways. In between, files
are read and their bytes compared with their checksums; when it is which file's turn follows from its hash and the
calendar alone, so a restart begins nothing anew, and the nodes do not all read the same file at once.

A copy that is not what the manifest says is set aside, and fetched again by whoever hears that it went. Where nobody
else could give it, it stays: it is the best there is, most queries do not touch the bad bytes, and taking it away would
turn some lost rows into a whole measurement that nobody can ask for. The operator is told, loudly and at every reading.

Most flipped bits are noticed by nobody who reads the file as Parquet: they are other numbers. Where a query does fail
on a file, its files are read at once, out of turn.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import trio

from arc.catalog.facts import Catalog
from arc.ports import Clock, Disk, Workers
from arc.replication.config import ReplicationConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper, leftover
from arc.telemetry import Log

CORE_SHARE = 0.01
"""Of the time of one core, at most: each step is followed by a pause that is so much longer. The target is 2 %, and a
step costs the event loop a little too.
"""

READ_BYTES = 1 << 20
"""Read and hashed in one step: about a millisecond."""

REST_SECONDS_MAX = 10.0
"""A step that took longer than a tenth of a second waited for a disk, and used no core."""

SUSPECTS_MAX = 10_000
"""Files that are to be read out of turn; those beyond wait for their turn."""

VOUCHED_SECONDS = 600.0
"""A file that was good when it was suspected is not suspected again so soon: what fails is something else."""

STEP_FILES = 200
"""Compared in one step."""

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AntiEntropyStatistics:
    """What was looked at and read. ``behind_seconds``: how late the last reading began."""

    looks_total: int
    lost_total: int
    leftovers_total: int
    read_files_total: int
    read_bytes_total: int
    bad_total: int
    to_read_files: int
    behind_seconds: float
    busy_seconds_total: float


def due(
    entries: Iterable[FileEntry], node: str, *, since_us: int, until_us: int, period_us: int
) -> list[tuple[int, FileEntry]]:
    """The files whose turn comes between two moments (µs since 1970 UTC), with the moments, in order.

    A file's turn comes once in every period, at a place of its own that is as likely as any other.
    """
    shift = zlib.crc32(node.encode())
    found = []
    for entry in entries:
        place = ((int(entry.sha256[:8], 16) + shift) % (1 << 32) * period_us) >> 32
        at = since_us + (place - since_us) % period_us
        if at < until_us:
            found.append((at, entry))
    return sorted(found, key=lambda each: (each[0], each[1].path))


class AntiEntropy:
    """Runs on every node. ``reigns`` are epochs of the leases held now; ``can_be_brought`` says whether
    other nodes may have a copy of what is bad here, and this node fetches files at all. ``stray_seconds`` are left to a
    file to come into the manifest, while the epoch under which it was written lasts.
    """

    def __init__(
        self,
        *,
        me: str,
        config: ReplicationConfig,
        catalog: Callable[[], Catalog],
        reigns: Callable[[], Sequence[int]],
        can_be_brought: Callable[[], bool],
        stray_seconds: float,
        files: FileKeeper,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        log: Log,
    ) -> None:
        self._me = me
        self._config = config
        self._catalog = catalog
        self._reigns = reigns
        self._can_be_brought = can_be_brought
        self._stray_seconds = stray_seconds
        self._files = files
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._log = log.bind(component="antientropy")
        self._look_us = round(config.look_seconds * 1e6)
        self._period_us = round(config.scrub_days * DAY_US)
        self._looks = self._lost = self._leftovers = self._read_files = self._read_bytes = self._bad = 0
        self._to_read = 0
        self._strays: dict[str, float] = {}
        """Files that are not in the manifest, of epochs that are not over, and since when they are known."""
        self._suspects: dict[str, FileEntry] = {}
        self._suspected = trio.Event()
        self._vouched: dict[str, float] = {}
        self._behind = self._busy = 0.0

    def __repr__(self) -> str:
        return f"<AntiEntropy looks={self._looks} read={self._read_files} bad={self._bad}>"

    @property
    def is_suspicious(self) -> bool:
        """Whether files wait to be read because somebody failed on them."""
        return bool(self._suspects)

    async def run(self) -> None:
        """Until cancelled. The start of the node has just looked."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._walk)
            nursery.start_soon(self._read_suspects)

    async def _walk(self) -> None:
        since_us = self._clock.wall_us()
        while True:
            began = self._clock.now()
            until_us = since_us + self._look_us
            await self._read_due(since_us, until_us)
            await trio.sleep(max(0.0, began + self._config.look_seconds - self._clock.now()))
            try:
                await self.look()
            except OSError as error:
                self._log.warning("look_failed", reason=str(error), next_step="the next look tries again")
            now_us = self._clock.wall_us()
            # Without a gap, unless the clock was set or the node stood still: then from now on.
            since_us = until_us if abs(now_us - until_us) < self._look_us else now_us

    # ------------------------------------------------------------------------------------------------ manifest and disk

    async def look(self) -> None:
        """Compare manifest and disk once. Raises OSError."""
        await self._look_for_lost()
        await self._look_for_leftovers()
        await self._files.tidy(lambda path: self._catalog().file(path) is not None)
        self._looks += 1

    async def _look_for_lost(self) -> None:
        every = iter(self._catalog().all_files())
        while page := list(islice(every, STEP_FILES)):
            began = self._clock.now()
            here = {entry.path for entry in page if self._files.is_here(entry.path)}
            absent = set(await self._files.check(page))
            await self._rest(began)
            for entry in page:
                was_here, is_here = entry.path in here, self._files.is_here(entry.path)
                # It may have come, gone or left the manifest while we looked.
                if was_here != is_here or self._catalog().file(entry.path) is None:
                    continue
                if is_here == (entry.path not in absent):
                    continue
                if is_here:
                    self._found_lost(entry.path)
                elif not await self._trouble_with(entry) and self._catalog().file(entry.path) is not None:
                    self._log.info("file_restored", path=entry.path, reason="somebody put it in place")
                    self._files.came(entry.path)

    def _found_lost(self, path: str) -> None:
        self._lost += 1
        self._log.error(
            "file_lost",
            path=path,
            effect="queries that need it are refused here until it is back",
            next_step="it is fetched from another node"
            if self._can_be_brought()
            else "put it from a backup in its place; the manifest has its checksum",
        )
        self._files.went(path)

    async def _look_for_leftovers(self) -> None:
        folders = [""]
        found = 0
        seen: dict[str, float] = {}
        while folders:
            began = self._clock.now()
            paths, folders = await self._files.step(folders, STEP_FILES)
            # The manifest of now, and not of when the walk began: what was on the disk then may be in it by now.
            nobodys = leftover(paths, self._is_known, ())
            unknown = leftover(nobodys, lambda path: False, self._reigns())
            unknown += self._long_known(set(nobodys).difference(unknown), seen)
            if unknown:
                await self._files.quarantine(unknown)
                found += len(unknown)
            await self._rest(began)
        self._strays = seen
        if found:
            self._leftovers += found
            self._log.warning("orphans_quarantined", files=found, reason="left over from before a crash")

    def _long_known(self, strays: Iterable[str], seen: dict[str, float]) -> list[str]:
        """Of files that the manifest may be about to have, those for which it has had time enough: they left it while
        this node was down, under an epoch that may last for months (world seed 710054).
        """
        now = self._clock.now()
        for path in strays:
            seen[path] = self._strays.get(path, now)
        return sorted(path for path in strays if seen[path] <= now - self._stray_seconds)

    def _is_known(self, path: str) -> bool:
        return self._catalog().file(path) is not None or self._files.is_in_use(path)

    # ----------------------------------------------------------------------------------------------------------- bytes

    async def _read_due(self, since_us: int, until_us: int) -> None:
        if not self._period_us:
            return
        found: list[tuple[int, FileEntry]] = []
        every = iter(self._catalog().all_files())
        while page := list(islice(every, STEP_FILES)):
            found += due(page, self._me, since_us=since_us, until_us=until_us, period_us=self._period_us)
            await trio.lowlevel.checkpoint()
        found.sort(key=lambda each: (each[0], each[1].path))
        for number, (at_us, entry) in enumerate(found):
            self._to_read = len(found) - number
            ahead = (at_us - self._clock.wall_us()) / 1e6
            self._behind = max(0.0, -ahead)
            # A clock that was set back must not stop this for longer than the turn is away.
            await trio.sleep(min(max(0.0, ahead), self._config.look_seconds))
            await self.read(entry)
        self._to_read = 0

    def suspect(self, entries: Iterable[FileEntry]) -> None:
        """Somebody failed on one of these files: read them soon."""
        limit = self._clock.now() - VOUCHED_SECONDS
        for entry in entries:
            if self._vouched.get(entry.path, limit) <= limit and len(self._suspects) < SUSPECTS_MAX:
                self._suspects[entry.path] = entry
        if self._suspects:
            self._suspected.set()

    async def _read_suspects(self) -> None:
        while True:
            await self._suspected.wait()
            self._suspected = trio.Event()
            if not self._suspects:
                continue  # Suspected while it was read.
            self._log.warning("files_suspected", files=len(self._suspects), reason="a query failed on one of them")
            while self._suspects:
                entry = next(iter(self._suspects.values()))
                await self.read(entry)
                del self._suspects[entry.path]
                if self._is_mine(entry) and entry.path not in self._files.damaged:
                    self._vouched[entry.path] = self._clock.now()
            limit = self._clock.now() - VOUCHED_SECONDS
            self._vouched = {path: at for path, at in self._vouched.items() if at > limit}

    async def read(self, entry: FileEntry) -> None:
        """Compare one file with its checksum, and do what has to be done."""
        path = entry.path
        if not self._is_mine(entry):
            return
        self._files.pin([path])
        try:
            trouble = await self._trouble_with(entry)
        finally:
            self._files.unpin([path])
        self._read_files += 1
        if trouble and self._is_mine(entry):
            await self._found_bad(path, trouble)
        elif not trouble and path in self._files.damaged:
            self._files.came(path)  # The operator has put another in its place.

    def _is_mine(self, entry: FileEntry) -> bool:
        return self._catalog().file(entry.path) is not None and self._files.is_here(entry.path)

    async def _trouble_with(self, entry: FileEntry) -> str:
        """What is wrong with a file; empty when it is what it should be."""
        digest, offset = hashlib.sha256(), 0

        def step() -> int:
            piece = self._disk.read_at(f"{DATA}/{entry.path}", offset, READ_BYTES)
            digest.update(piece)
            return len(piece)

        while True:
            began = self._clock.now()
            try:
                size = await self._workers.run(step)
            except OSError as error:
                return f"it cannot be read: {error}"
            offset += size
            self._read_bytes += size
            await self._rest(began)
            if size < READ_BYTES or offset > entry.size_bytes:
                break
        if offset != entry.size_bytes:
            return f"it has {offset} bytes or more, not {entry.size_bytes}"
        found = digest.hexdigest()
        return "" if found == entry.sha256 else f"its SHA-256 begins with {found[:12]}, not with {entry.sha256[:12]}"

    async def _found_bad(self, path: str, trouble: str) -> None:
        self._bad += 1
        is_replaceable = self._can_be_brought()
        self._log.error(
            "file_damaged",
            path=path,
            reason=trouble,
            effect="queries that need it are refused here until it is back"
            if is_replaceable
            else "nobody else has it, so it stays; queries that read the bad part fail, or are wrong",
            next_step="it is set aside and fetched from another node"
            if is_replaceable
            else "restore it from a backup, then check the disk and the memory of this machine",
        )
        if not is_replaceable:
            self._files.tell_damaged(path)
            return
        try:
            await self._files.condemn(path)
        except OSError as error:
            self._log.warning("bad_copy_not_set_aside", path=path, reason=str(error), effect="it is not read any more")

    async def _rest(self, began: float) -> None:
        """Pause after a step, so that all steps together take no more than their share."""
        took = max(0.0, self._clock.now() - began)
        self._busy += took
        await trio.sleep(min(took * (1 / CORE_SHARE - 1), REST_SECONDS_MAX))

    def statistics(self) -> AntiEntropyStatistics:
        """Numbers for status and metrics."""
        return AntiEntropyStatistics(
            looks_total=self._looks,
            lost_total=self._lost,
            leftovers_total=self._leftovers,
            read_files_total=self._read_files,
            read_bytes_total=self._read_bytes,
            bad_total=self._bad,
            to_read_files=self._to_read,
            behind_seconds=round(self._behind, 3),
            busy_seconds_total=round(self._busy, 3),
        )
