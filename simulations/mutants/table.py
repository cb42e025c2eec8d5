"""The planted bugs, most of them seen in the wild; numbers, sources and tiers are those of the reference, section 4."""

from __future__ import annotations

from simulations.mutants.agreement import ELECTION, REPLICATION
from simulations.mutants.around import AROUND
from simulations.mutants.mutant import TIERS, Mutant
from simulations.mutants.upkeep import DURABILITY, MEMBERSHIP, READS, SNAPSHOTS

BLACK_BOX = {
    **{"K-01": "B", "K-02": "C", "K-04": "C", "K-10": "A", "K-28": "A", "K-31": "A", "K-35": "B", "K-37": "A"},
    **{"K-46": "A", "K-47": "B", "K-53": "A", "K-59": "A", "K-61": "A", "K-74": "C", "K-85": "A", "K-86": "B"},
    **{"K-89": "A", "K-97": "A"},
}
"""Rows marked BB, with the tier for it where the reference gives one, else their own."""

TABLE: tuple[Mutant, ...] = tuple(
    mutant._replace(black_box=BLACK_BOX.get(mutant.id, ""))
    for mutant in sorted((*ELECTION, *REPLICATION, *DURABILITY, *SNAPSHOTS, *MEMBERSHIP, *READS, *AROUND))
)

EQUIVALENT: dict[str, str] = {}
"""Rows that change nothing here, and why; one that is killed nevertheless is a finding."""

__all__ = ["BLACK_BOX", "EQUIVALENT", "TABLE", "TIERS", "Mutant"]
