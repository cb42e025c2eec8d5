"""Tells the catalog which files this node has: what came, and what was lost, in few commands.

What to say follows from a difference (who the manifest says has a file, against what is here), never from a queue of
events, so nothing that arrives or breaks can be left unsaid: what a refused or lost command did not change is in the
difference still, and a command that came too late is put right by the next. The manifest is followed cell by cell.
Whether a file has come is looked at a few times a second while any is awaited; whether one was lost, now and then.

At most one command in `PAUSE_SECONDS`, with all that came meanwhile: one per flush and node, not one per file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from arc.catalog.commands import HoldFiles
from arc.catalog.facts import Catalog
from arc.catalog.holders import FILES_PER_COMMAND_MAX
from arc.catalog.manifest import Manifest, differing
from arc.errors import ArcError
from arc.ids import NodeId
from arc.replication.ports import Changes, Propose
from arc.storage.files import FileEntry
from arc.telemetry import Log

PAUSE_SECONDS = 0.25
"""Between two commands, and between two looks for files that come; a pull of a small file takes some milliseconds."""

LOOK_SECONDS_PER_FILE = 20e-6
"""The looks for awaited files take a hundredth of the time at most, however many there are."""

LOSS_SECONDS = 10.0
"""How often all files are looked at: 50,000 take some 10 ms."""

AGAIN_SECONDS = (0.5, 8.0)
"""First and longest pause after a command that was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncerStatistics:
    """What was told. ``awaited_files`` are not here, or not told yet; ``failed_total`` counts commands not taken."""

    commands_total: int
    held_files_total: int
    lost_files_total: int
    failed_total: int
    awaited_files: int
    last_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What to tell: files that are here, and files that are not."""

    holds: tuple[FileEntry, ...] = ()
    lost: tuple[FileEntry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.holds or self.lost)


def due(
    awaited: Iterable[FileEntry],
    lost: Iterable[FileEntry],
    is_here: Callable[[str], bool],
    *,
    files_max: int = FILES_PER_COMMAND_MAX,
) -> Due:
    """As much as one command may name; what was lost comes first, since others rely on it."""
    gone = [entry for entry in lost if not is_here(entry.path)][:files_max]
    room = files_max - len(gone)
    here: list[FileEntry] = []
    for entry in awaited:
        if len(here) == room:
            break
        if is_here(entry.path):
            here.append(entry)
    return Due(holds=tuple(here), lost=tuple(gone))


class Announcer:
    """Of the node ``me`` in this ``incarnation``. Begun after the disk was looked at: before, everything seems lost."""

    def __init__(
        self,
        *,
        me: NodeId,
        incarnation: Callable[[], int],
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        propose: Propose,
        log: Log,
    ) -> None:
        self._me = me
        self._incarnation = incarnation
        self._catalog = catalog
        self._is_here = is_here
        self._propose = propose
        self._log = log.bind(component="holders")
        self._manifest: Manifest = {}
        self._awaited: dict[str, FileEntry] = {}
        self._lost: dict[str, FileEntry] = {}
        self._commands = self._held = self._lost_total = self._failed = 0
        self._last_error = ""

    def __repr__(self) -> str:
        return f"<Announcer of {self._me} awaited={len(self._awaited)} told={self._held}>"

    @property
    def is_short(self) -> bool:
        """Whether a file of the manifest is not here, as far as was looked, or not known to the others to be."""
        return bool(self._awaited or self._lost)

    async def run(self, changes: Changes) -> None:
        """Tell until cancelled. ``changes`` began before this call."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_losses)
            failures = 0
            while True:
                said = self._due()
                if not said:
                    with trio.move_on_after(self._look_seconds()):
                        await changes.receive()
                elif await self._tell(said):
                    failures = 0
                    await trio.sleep(PAUSE_SECONDS)
                else:
                    await trio.sleep(min(AGAIN_SECONDS[0] * 2**failures, AGAIN_SECONDS[1]))
                    failures = min(failures + 1, 10)

    def _look_seconds(self) -> float:
        return max(PAUSE_SECONDS, len(self._awaited) * LOOK_SECONDS_PER_FILE) if self._awaited else LOSS_SECONDS

    def _due(self) -> Due:
        """Nothing where nobody would believe it, or nobody needs it: this node is no member, or the only one."""
        catalog = self._catalog()
        self._follow(catalog.manifest)
        known = catalog.nodes.get(self._me)
        if known is None or known.incarnation != self._incarnation() or len(catalog.nodes) < 2:
            return Due()
        return due(self._awaited.values(), self._lost.values(), self._is_here)

    def _follow(self, manifest: Manifest) -> None:
        for before, after in differing(self._manifest, manifest):
            for entry in before:
                self._awaited.pop(entry.path, None)
                self._lost.pop(entry.path, None)
            for entry in after:
                self._sort(entry)
        self._manifest = manifest

    def _sort(self, entry: FileEntry) -> None:
        if self._me not in entry.holders:
            self._awaited[entry.path] = entry
        elif not self._is_here(entry.path):
            self._lost[entry.path] = entry

    async def _look_for_losses(self) -> None:
        while True:
            await trio.sleep(LOSS_SECONDS)
            self._follow(self._catalog().manifest)
            for entry in self._catalog().all_files():
                self._sort(entry)

    async def _tell(self, said: Due) -> bool:
        """Whether it was agreed on. What became of a command whose answer was lost, the catalog will show."""
        command = HoldFiles(
            node=self._me, incarnation=self._incarnation(), holds=_pairs(said.holds), lost=_pairs(said.lost)
        )
        try:
            (await self._propose.propose(command)).unwrap()
        except ArcError as error:
            self._failed += 1
            self._last_error = error.message
            self._log.debug("holdings_not_told", files=len(said.holds), lost=len(said.lost), reason=error.message)
            return False
        self._commands += 1
        self._held += len(said.holds)
        self._lost_total += len(said.lost)
        if said.lost:
            self._log.warning(
                "files_lost_here",
                files=len(said.lost),
                first=said.lost[0].path,
                next_step="they are brought from other nodes",
            )
        return True

    def statistics(self) -> AnnouncerStatistics:
        """Numbers for status and metrics."""
        return AnnouncerStatistics(
            commands_total=self._commands,
            held_files_total=self._held,
            lost_files_total=self._lost_total,
            failed_total=self._failed,
            awaited_files=len(self._awaited),
            last_error=self._last_error,
        )


def _pairs(entries: Iterable[FileEntry]) -> tuple[tuple[str, str], ...]:
    return tuple((entry.path, entry.sha256) for entry in entries)
