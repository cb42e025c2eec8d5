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

EQUIVALENT = {
    "K-92": "no simulation can see it, so a unit test kills it. A request for votes leaves when the write of its own "
    "term is durable, and writes are durable in the order of their ids, so all of the log is, too; and it promises "
    "nothing about the disk: what is lost with the candidate was acknowledged by nobody, and a leader counts itself "
    "only as far as its own disk is (10.2.1). Reviewed: `election.on_timeout_now`, `State.send`, `Durability`.",
}
"""Rows that change no run of a simulation, and why; one that is killed there nevertheless is a finding."""

__all__ = ["BLACK_BOX", "EQUIVALENT", "TABLE", "TIERS", "Mutant"]
