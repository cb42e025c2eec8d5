"""Reads the files of a node again, slowly and for ever: is what is here still what it was?

When it is which file's turn follows from its hash and the calendar alone, so a restart begins nothing anew, and the
nodes do not all read the same file at once. Most flipped bits are noticed by nobody who reads the file as Parquet: they
are other numbers. Where a query does fail on a file, its files are read at once, out of turn.

A copy that is not what the manifest says is set aside, and fetched again by whoever hears that it went. Where nobody
else could give it, it stays: it is the best there is, most queries do not touch the bad bytes, and taking it away would
turn some lost rows into a whole measurement that nobody can ask for. The operator is told, loudly and at every reading.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from itertools import islice

import trio

from arc.catalog.facts import Catalog
from arc.ports import Clock, Disk, Workers
from arc.replication.config import ReplicationConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
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

PAGE_FILES = 200
"""Of the manifest, looked through at once."""

DAY_US = 86_400_000_000


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


class Share:
    """Keeps steps within a small share of one core; whoever takes one of it rests after each step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.busy_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Share busy={self.busy_seconds:.3f}>"

    async def rest(self, began: float) -> None:
        """Pause after a step, so that all steps together take no more than their share."""
        took = max(0.0, self._clock.now() - began)
        self.busy_seconds += took
        await trio.sleep(min(took * (1 / CORE_SHARE - 1), REST_SECONDS_MAX))


class Scrubber:
    """Reads every file once in `scrub_days`; with 0 only those that are suspected. ``can_be_brought`` says whether
    other nodes may have a copy of what is bad here, and this node fetches files at all.
    """

    def __init__(
        self,
        *,
        me: str,
        config: ReplicationConfig,
        catalog: Callable[[], Catalog],
        can_be_brought: Callable[[], bool],
        files: FileKeeper,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        share: Share,
        log: Log,
    ) -> None:
        self._me = me
        self._config = config
        self._period_us = round(config.scrub_days * DAY_US)
        self._catalog = catalog
        self._can_be_brought = can_be_brought
        self._files = files
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._share = share
        self._log = log.bind(component="antientropy")
        self._suspects: dict[str, FileEntry] = {}
        self._suspected = trio.Event()
        self._vouched: dict[str, float] = {}
        self.files_total = self.bytes_total = self.bad_total = self.to_read = 0
        self.behind_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Scrubber read={self.files_total} bad={self.bad_total} suspects={len(self._suspects)}>"

    @property
    def is_suspicious(self) -> bool:
        """Whether files wait to be read because somebody failed on them."""
        return bool(self._suspects)

    def next_us(self, reached_us: int, now_us: int) -> int:
        """Whence turns are reckoned from here on: without a gap however long reading took, or the same files might be
        left out time and again (world seed 625860). Whole periods that were missed are left out: whose turn is next is
        the same then. A clock that was set back counts from where it is.
        """
        if not self._period_us or now_us < reached_us - self._config.look_seconds * 1e6:
            return now_us
        return reached_us + max(0, now_us - reached_us) // self._period_us * self._period_us

    async def read_due(self, since_us: int, until_us: int) -> int:
        """The files whose turn comes between these moments, each in its turn. Returns how far that came: who is late
        stops after `look_seconds`, for others want their turn as well.
        """
        if not self._period_us:
            return until_us
        began = self._clock.now()
        found: list[tuple[int, FileEntry]] = []
        every = iter(self._catalog().all_files())
        while page := list(islice(every, PAGE_FILES)):
            found += due(page, self._me, since_us=since_us, until_us=until_us, period_us=self._period_us)
            await trio.lowlevel.checkpoint()
        found.sort(key=lambda each: (each[0], each[1].path))
        for number, (at_us, entry) in enumerate(found):
            self.to_read = len(found) - number
            ahead = (at_us - self._clock.wall_us()) / 1e6
            self.behind_seconds = max(0.0, -ahead)
            if ahead < 0 and self._clock.now() - began >= self._config.look_seconds:
                return at_us
            # A clock that was set back must not stop this for longer than the turn is away.
            await trio.sleep(min(max(0.0, ahead), self._config.look_seconds))
            await self.read(entry)
        self.to_read = 0
        return until_us

    def suspect(self, entries: Iterable[FileEntry]) -> None:
        """Somebody failed on one of these files: read them soon."""
        limit = self._clock.now() - VOUCHED_SECONDS
        for entry in entries:
            if self._vouched.get(entry.path, limit) <= limit and len(self._suspects) < SUSPECTS_MAX:
                self._suspects[entry.path] = entry
        if self._suspects:
            self._suspected.set()

    async def read_suspects(self) -> None:
        """Until cancelled: files that somebody failed on."""
        while True:
            await self._suspected.wait()
            self._suspected = trio.Event()
            if not self._suspects:
                continue  # Suspected while it was read.
            self._log.warning(
                "files_suspected", files=len(self._suspects), reason="somebody could not read one of them"
            )
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
            trouble = await self.trouble_with(entry)
        finally:
            self._files.unpin([path])
        self.files_total += 1
        if trouble and self._is_mine(entry):
            await self._found_bad(path, trouble)
        elif not trouble and path in self._files.damaged:
            self._files.came(path)  # The operator has put another in its place.

    def _is_mine(self, entry: FileEntry) -> bool:
        return self._catalog().file(entry.path) is not None and self._files.is_here(entry.path)

    async def trouble_with(self, entry: FileEntry) -> str:
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
            self.bytes_total += size
            await self._share.rest(began)
            if size < READ_BYTES or offset > entry.size_bytes:
                break
        if offset != entry.size_bytes:
            return f"it has {offset} bytes or more, not {entry.size_bytes}"
        found = digest.hexdigest()
        return "" if found == entry.sha256 else f"its SHA-256 begins with {found[:12]}, not with {entry.sha256[:12]}"

    async def _found_bad(self, path: str, trouble: str) -> None:
        self.bad_total += 1
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
