"""Rows on disks: a write is confirmed when it is durable on the whole in-sync set, and nothing durable goes away.

It believes only disk writes that returned. Records are compared byte for byte, so one of another epoch in the same
place does not count. Who is in sync is what the newest catalog says that any node has applied: whoever of these takes
over has what was confirmed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from arc.catalog.facts import Catalog
from arc.raft.types import Entry
from simulations.checkers.violation import Violation


class Held:
    """What the log of rows on one machine's disk holds for certain: records from ``first`` up to ``end``."""

    def __init__(self) -> None:
        self.first = self.end = 1
        self.floor = 1
        """The end, even if what is under way is never finished."""
        self.records: dict[int, bytes] = {}
        self.maybe: dict[int, bytes] = {}
        """What is being written: after a crash it may be there."""

    def has(self, sequence: int, record: bytes) -> bool:
        """Whether this record survives a crash of this machine now, in the log or (below it) in files."""
        return sequence < self.first or self.records.get(sequence) == record


class Rows:
    """`world_rows_spy.RowsWatch`. ``newest`` is the newest catalog that anybody has applied. Every method raises
    Violation.
    """

    def __init__(self, newest: Callable[[], Catalog | None]) -> None:
        self._newest = newest
        self._disks: dict[str, Held] = {}
        self._wiped: dict[str, None] = {}
        self._high: tuple[int, bytes] | None = None
        self._members: frozenset[str] = frozenset()
        self._manifest: object = None
        self.acknowledgements = 0
        self.watermarks = 0

    # ---- told by the spy

    def log_opened(self, who: str, first: int, end: int) -> None:
        """D-02: what was durable is there after a restart."""
        held = self._disks.setdefault(_machine(who), Held())
        if end < held.floor:
            raise Violation("D-02", "durable records are gone", who, held.floor, end)
        held.records.update((at, record) for at, record in held.maybe.items() if held.end <= at < end)
        self._keep(held, first, end)

    def log_appending(self, who: str, first: int, records: Sequence[bytes]) -> None:
        """From here on they may be there after a crash."""
        held = self._disks[_machine(who)]
        held.maybe = {first + nth: _digest(record) for nth, record in enumerate(records)}

    def log_appended(self, who: str, end: int) -> None:
        """The disk has them."""
        held = self._disks[_machine(who)]
        held.records.update(held.maybe)
        self._keep(held, held.first, end)

    def log_changing(self, who: str, first: int) -> None:
        """From here on nobody knows where a crash would leave the end."""
        held = self._disks[_machine(who)]
        held.floor = min(held.floor, first)

    def log_changed(self, who: str, first: int, end: int) -> None:
        """The disk says so. What is being written at the end is written on while the beginning is given back."""
        held = self._disks[_machine(who)]
        maybe = {at: record for at, record in held.maybe.items() if at >= end}
        self._keep(held, first, end)
        held.maybe = maybe

    def counted(self, who: str, high: int) -> None:
        """D-03: no watermark passes a record that a member of the in-sync set lacks."""
        self.watermarks += 1
        own = self._disks[_machine(who)].records.get(high)
        if own is not None and (self._high is None or high > self._high[0]):
            self._high = (high, own)
        self._require(who, high, "D-03", "the high watermark passed a record that is not durable in the in-sync set")

    def shown(self, who: str, through: int) -> None:
        """D-05: what queries see is durable on every node that may take over, so that nobody sees it go."""
        self._require(who, through, "D-05", "rows are shown that are not durable in the in-sync set")

    def acknowledged(self, who: str, epoch: int, sequence: int) -> None:
        """D-01: what is confirmed is durable on every node that may take over."""
        self.acknowledgements += 1
        self._require(who, sequence, "D-01", "a write was confirmed that is not durable in the in-sync set")

    def applied(self, who: str, entry: Entry, catalog: Catalog) -> None:
        """D-04: whoever comes into the in-sync set holds all that the watermark has passed. D-06."""
        if catalog is not self._newest() or catalog.in_sync is None:
            return
        members = frozenset(map(str, catalog.in_sync.members))
        if catalog.manifest is not self._manifest:
            self._manifest = catalog.manifest
            self._check_marks(catalog, members)
        added, self._members = members - self._members, members
        for name in sorted(added if self._high is not None else ()):
            held = self._disks.get(name)
            assert self._high is not None
            if held is None or not held.has(*self._high):
                raise Violation("D-04", "a node came into the in-sync set without every record", name, self._high[0])

    def restored(self, who: str, catalog: Catalog) -> None:
        """What somebody jumped over was applied before."""

    # ---- told by the world

    def wiped(self, machine: str) -> None:
        """Its disk is empty now. Until the cluster has let go of it, it is a member that holds nothing."""
        self._disks.pop(machine, None)
        self._wiped[machine] = None

    # ---- rules

    def _check_marks(self, catalog: Catalog, members: frozenset[str]) -> None:
        """D-06: what is in files is in the logs of all who may take over: else numbers would be given twice."""
        mark = catalog.last_marked()
        for name in sorted(members - self._wiped.keys()):
            held = self._disks.get(name)
            if held is not None and held.end <= mark:
                raise Violation("D-06", "a flush mark passed the end of a log of the in-sync set", name, held.end, mark)

    def _require(self, who: str, sequence: int, killer: str, what: str) -> None:
        machine = _machine(who)
        own = self._disks.get(machine)
        record = own.records.get(sequence) if own is not None else None
        if own is None or (record is None and sequence < own.first):
            return  # Of an earlier reign, and in files by now.
        catalog = self._newest()
        members = catalog.in_sync.members if catalog is not None and catalog.in_sync is not None else (machine,)
        for gone in [name for name in self._wiped if name not in members]:
            del self._wiped[gone]
        for name in members:
            held = self._disks.get(name)
            is_there = held is not None and record is not None and held.has(sequence, record)
            if name not in self._wiped and not is_there:
                place = f"{held.first}..{held.end - 1}" if held is not None else "nothing"
                raise Violation(killer, what, who, sequence, f"{name} holds {place}", members)

    @staticmethod
    def _keep(held: Held, first: int, end: int) -> None:
        for gone in [at for at in held.records if not first <= at < end]:
            del held.records[gone]
        held.first, held.end, held.floor, held.maybe = first, end, end, {}


def _machine(who: str) -> str:
    return who.partition(".")[0]


def _digest(record: bytes) -> bytes:
    return hashlib.blake2b(record, digest_size=16).digest()
