"""Looks after the files of a node for ever, slowly: what should be here and is not, what is here and should not be.

Every `look_seconds` manifest and disk are compared, both ways, in small steps with pauses in between. In the time
between two looks files are read again (`scrubbing`). All of it together takes no more than a small share of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import trio

from arc.catalog.facts import Catalog
from arc.ports import Clock
from arc.replication.config import ReplicationConfig
from arc.replication.scrubbing import Scrubber, Share
from arc.storage.keeper import FileKeeper, leftover
from arc.telemetry import Log

STEP_FILES = 200
"""Compared in one step."""


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


class AntiEntropy:
    """Runs on every node, and lets ``scrubber`` read. ``reigns`` are epochs of the leases held now; ``can_be_brought``
    says whether others may have what is lost here. ``stray_seconds`` are left to a file to come into the manifest,
    while the epoch under which it was written lasts.
    """

    def __init__(
        self,
        *,
        config: ReplicationConfig,
        catalog: Callable[[], Catalog],
        reigns: Callable[[], Sequence[int]],
        can_be_brought: Callable[[], bool],
        stray_seconds: float,
        files: FileKeeper,
        scrubber: Scrubber,
        clock: Clock,
        share: Share,
        log: Log,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._reigns = reigns
        self._can_be_brought = can_be_brought
        self._stray_seconds = stray_seconds
        self._files = files
        self._scrubber = scrubber
        self._clock = clock
        self._share = share
        self._log = log.bind(component="antientropy")
        self._look_us = round(config.look_seconds * 1e6)
        self._looks = self._lost = self._leftovers = 0
        self._strays: dict[str, float] = {}
        """Files that are not in the manifest, of epochs that are not over, and since when they are known."""

    def __repr__(self) -> str:
        return f"<AntiEntropy looks={self._looks} lost={self._lost} leftovers={self._leftovers} {self._scrubber!r}>"

    async def run(self) -> None:
        """Until cancelled. The start of the node has just looked."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._walk)
            nursery.start_soon(self._scrubber.read_suspects)

    async def _walk(self) -> None:
        since_us = self._clock.wall_us()
        while True:
            began = self._clock.now()
            until_us = max(since_us + self._look_us, self._clock.wall_us())
            reached_us = await self._scrubber.read_due(since_us, until_us)
            await trio.sleep(max(0.0, began + self._config.look_seconds - self._clock.now()))
            try:
                await self.look()
            except OSError as error:
                self._log.warning("look_failed", reason=str(error), next_step="the next look tries again")
            since_us = self._scrubber.next_us(reached_us, self._clock.wall_us())

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
            await self._share.rest(began)
            for entry in page:
                was_here, is_here = entry.path in here, self._files.is_here(entry.path)
                # It may have come, gone or left the manifest while we looked.
                if was_here != is_here or self._catalog().file(entry.path) is None:
                    continue
                if is_here == (entry.path not in absent):
                    continue
                if is_here:
                    self._found_lost(entry.path)
                elif not await self._scrubber.trouble_with(entry) and self._catalog().file(entry.path) is not None:
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
            await self._share.rest(began)
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

    def statistics(self) -> AntiEntropyStatistics:
        """Numbers for status and metrics."""
        return AntiEntropyStatistics(
            looks_total=self._looks,
            lost_total=self._lost,
            leftovers_total=self._leftovers,
            read_files_total=self._scrubber.files_total,
            read_bytes_total=self._scrubber.bytes_total,
            bad_total=self._scrubber.bad_total,
            to_read_files=self._scrubber.to_read,
            behind_seconds=round(self._scrubber.behind_seconds, 3),
            busy_seconds_total=round(self._share.busy_seconds, 3),
        )
