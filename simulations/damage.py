"""What rots on a disk, and what a start finds of it.

Entries or a snapshot become unreadable without anybody noticing. Whoever reads them stops; a start keeps what is proven
below the hole and marks the disk damaged, for the rest may have been acknowledged (protocol-aware recovery: Alagappan
et al., 2018). The mark goes when the leader has made the node whole. What the disk held before stays known here, to the
checkers alone: these copies are the budget of faults, and nobody has to find them on the disk meanwhile.
"""

from __future__ import annotations

from collections import Counter

from arc.raft.types import Configuration
from simulations.disk import Disk, Image


def rot(disk: Disk, share: float) -> bool:
    """Let one entry rot: the first (0.0), the last (1.0) or one between. Says whether there was one."""
    image = disk.synced
    if not image.entries:
        return False
    disk.rotten.append(image.base + 1 + int(share * (len(image.entries) - 1)))
    return True


def misdirect(disk: Disk, share: float) -> bool:
    """The newest entry went to the place of another one: it is nowhere, and that other is no more."""
    return rot(disk, 1.0) and rot(disk, share)


def is_doubtful(disk: Disk) -> bool:
    """Whether this copy must not be counted on."""
    return disk.is_damaged or bool(disk.rotten) or disk.is_snapshot_rotten


def is_readable(disk: Disk, first: int, last: int) -> bool:
    """Whether none of these entries is rotten."""
    return not any(first <= index <= last for index in disk.rotten)


def recover(disk: Disk, probes: Counter[str]) -> None:
    """What a start makes of the disk: hold what is proven, and know what is missing."""
    image, before = disk.synced, disk.synced
    found = False
    if disk.is_snapshot_rotten:
        before = image.copy()
        found = _without_snapshot(disk, image, probes)
    newest = image.snapshot.index if image.snapshot is not None else 0
    bad = sorted(index for index in disk.rotten if image.base < index <= image.last)
    if bad and bad[0] <= newest:
        image.compact(newest + 1)  # Nobody needs what the snapshot stands for.
        bad = [index for index in bad if index > newest]
        probes["rot_below_snapshot"] += 1
    if bad:
        is_last = bad[0] == image.last
        before = before if found else image.copy()
        image.drop(bad[0])
        if is_last and disk.shape.is_tail_guessed:
            probes["rot_taken_for_torn_tail"] += 1
        else:
            found = True
            probes["rot_in_the_middle" if not is_last else "rot_at_the_end"] += 1
    if found:
        disk.is_damaged = True
        disk.damages += 1
        disk.promised.append(before)
    disk.rotten.clear()
    disk.is_snapshot_rotten = False
    disk.issued = image.copy()


def _without_snapshot(disk: Disk, image: Image, probes: Counter[str]) -> bool:
    """The newest snapshot cannot be read. Says whether anything is missing then."""
    if image.snapshot == disk.first:
        return False
    founders = disk.first.configuration if disk.first is not None else Configuration()
    image.snapshot = disk.first
    if image.base == 0:
        probes["log_reaches_below_rotten_snapshot"] += 1
        return False
    probes["rot_of_snapshot"] += 1
    image.base = image.base_chain = 0
    image.entries, image.chains = [], []
    image.configurations = [(0, founders)]
    return True
