"""Leases: one holder acts in an epoch, only a node in sync is given the writer's, no file comes in under an old epoch,
and flush marks only move forward. Also how long it took until a lost writer had a successor.

It goes by entries as they are applied for the first time anywhere, with the catalog before and after them, and works
the rules out for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import trio

from arc.catalog import codec
from arc.catalog.commands import Once, RegisterFiles, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.values import WRITER
from arc.raft.types import Entry, EntryKind
from simulations.checkers.violation import Violation
from simulations.checkers.world_compaction import Swaps
from simulations.checkers.world_store import check_added


class Takeover(NamedTuple):
    """After the writer was lost: the new epoch was agreed on ``granted`` seconds later, and its holder confirmed the
    first write ``confirmed`` seconds later; None when that never happened.
    """

    lost: str
    at: float
    granted: float | None
    confirmed: float | None


class _Loss(NamedTuple):
    machine: str
    epoch: int
    at: float


class Leases:
    """Told by `world_spy` and `world_rows_spy`. ``newest`` is the newest catalog that anybody has applied. Every method
    raises Violation. ``stored`` is what is in the store that all nodes share, None where there is none;
    ``probe`` counts what is worth having been seen.
    """

    def __init__(
        self,
        stored: Mapping[str, bytes] | None = None,
        swaps: Swaps | None = None,
        probe: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.newest: Catalog | None = None
        self._stored = stored
        self._swaps = swaps
        self._probe = probe
        self._holders: dict[int, str] = {}
        self._granted_at: dict[int, float] = {}
        self._confirmed_at: dict[int, float] = {}
        self._losses: list[_Loss] = []

    # ---- told by the spies

    def applied(self, who: str, entry: Entry, catalog: Catalog) -> None:
        """L-02 to L-05, for an entry that is applied for the first time."""
        before = self.newest
        if before is not None and catalog.index <= before.index:
            return
        self.newest = catalog
        if before is not None and before.index + 1 == catalog.index:
            self._check_lease(before, catalog)
            self._check_files(before, catalog, entry)
            if self._stored is not None:
                check_added(before, catalog, self._stored)
        self._remember(catalog)

    def restored(self, who: str, catalog: Catalog) -> None:
        """A node jumped ahead of all others that are left; what it jumped over was applied before."""
        if self.newest is None or catalog.index > self.newest.index:
            self.newest = catalog
            self._remember(catalog)

    def acknowledged(self, who: str, epoch: int, sequence: int) -> None:
        """L-01: whoever confirms a write in an epoch holds the lease of that epoch."""
        machine = who.partition(".")[0]
        if self._holders.get(epoch, machine) != machine:
            raise Violation("L-01", "a write was confirmed in an epoch of another holder", who, epoch, self._holders)
        self._confirmed_at.setdefault(epoch, trio.current_time())

    # ---- told and asked by the world

    def lost(self, machine: str) -> None:
        """This machine went away; if it was the writer, the time until there is another one counts from now."""
        lease = self.newest.leases.get(WRITER) if self.newest is not None else None
        if lease is not None and lease.holder == machine:
            self._losses.append(_Loss(machine, lease.epoch, trio.current_time()))

    @property
    def epochs(self) -> tuple[int, ...]:
        """Every epoch of the writer lease that was ever granted."""
        return tuple(sorted(self._holders))

    def takeovers(self) -> tuple[Takeover, ...]:
        """Every loss of a writer, and how long it took."""
        found = []
        for loss in self._losses:
            granted = [at for epoch, at in self._granted_at.items() if epoch > loss.epoch]
            confirmed = [at for epoch, at in self._confirmed_at.items() if epoch > loss.epoch]
            found.append(
                Takeover(
                    loss.machine,
                    loss.at,
                    min(granted) - loss.at if granted else None,
                    min(confirmed) - loss.at if confirmed else None,
                )
            )
        return tuple(found)

    def check_takeovers(self, seconds_max: float) -> None:
        """T-01: a lost writer has a successor in time."""
        for each in self.takeovers():
            if each.granted is None or each.granted > seconds_max:
                raise Violation("T-01", "a lost writer had no successor in time", seconds_max, each)

    # ---- rules

    def _check_lease(self, before: Catalog, after: Catalog) -> None:
        old, new = before.leases.get(WRITER), after.leases.get(WRITER)
        if new is None or (old is not None and old.epoch == new.epoch):
            return
        if new.epoch <= max(self._holders, default=0):
            raise Violation("L-02", "an epoch was granted twice, or went back", new.epoch, self._holders)
        is_clean = after.history[-1].is_clean
        members = before.in_sync.members if before.in_sync is not None else None
        if is_clean and members is not None and new.holder not in members:
            raise Violation("L-03", "the writer lease went to a node that is not in sync", new, members)

    def _check_files(self, before: Catalog, after: Catalog, entry: Entry) -> None:
        if before.manifest is after.manifest or entry.kind is not EntryKind.COMMAND:
            return
        assert isinstance(entry.payload, bytes)
        command = codec.decode(entry.payload)
        inner = command.action if isinstance(command, Once) else command
        if isinstance(inner, RegisterFiles | ReplaceFiles):
            current = before.lease_epoch(inner.lease if isinstance(inner, ReplaceFiles) else WRITER)
            # Catalogs of two machines are equal without being one: only what came of the command tells.
            if inner.epoch != current and before.manifest != after.manifest:
                raise Violation("L-04", "files were taken in under an old epoch", after.index, inner.epoch, current)
        if isinstance(inner, ReplaceFiles) and self._swaps is not None:
            self._swaps.check(before, after, inner)
        for mark in before.marks():
            now = after.mark(mark.database, mark.measurement)
            if now < mark.sequence and mark.database in after.databases:
                raise Violation("L-05", "a flush mark went back", after.index, mark, now)

    def _remember(self, catalog: Catalog) -> None:
        if self._swaps is not None:
            self._swaps.saw(catalog)
        for change in catalog.history:
            if change.lease == WRITER and change.epoch not in self._holders:
                self._holders[change.epoch] = str(change.holder)
                self._granted_at[change.epoch] = trio.current_time()
                if "stands still" in change.reason:
                    self._probe("disk_stood_still")
