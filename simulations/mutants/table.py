"""The planted bugs, most of them seen in the wild; numbers, sources and tiers are those of the reference, section 4."""

from __future__ import annotations

from simulations.mutants.agreement import ELECTION, REPLICATION
from simulations.mutants.mutant import TIERS, Mutant
from simulations.mutants.upkeep import DURABILITY, MEMBERSHIP, READS, SNAPSHOTS

TABLE: tuple[Mutant, ...] = (*ELECTION, *REPLICATION, *DURABILITY, *SNAPSHOTS, *MEMBERSHIP, *READS)

EQUIVALENT = {
    "K-92": "the target's request for votes waits for its own write, which comes after all of its log (write ids)",
    "K-43": "the count of uncommitted bytes lives in `Leading`, which ends with the leadership",
    "K-25": "terms have no codec in the core; the bound is refused before it is reached",
}
"""Rows that change nothing here, or have no place, and why; one that is killed nevertheless is a finding."""

ELSEWHERE = {
    "storage": ("K-52", "K-53", "K-55", "K-58", "K-62", "K-64"),
    "driver and state machine": ("K-61", "K-67", "K-73", "K-94", "K-95", "K-97"),
}
"""Rows whose code is not the core: they belong to the simulator of whole nodes."""

__all__ = ["ELSEWHERE", "EQUIVALENT", "TABLE", "TIERS", "Mutant"]
