"""Named runs: what everybody should see once, and one for every bug that was ever found. Values, not programs.

Each takes a seed: the seed settles everything that the scenario leaves open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from simulations import swarm
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan
from simulations.scenarios import hardware
from simulations.scenarios.hunting import HUNTING

BAD_LINKS = NetworkShape(latency_seconds=0.005, loss=0.05, duplicate=0.1)
SMALL_LOGS = {"trailing_entries": 1, "trailing_entries_max": 4, "snapshot_chunk_bytes": 40}


class Scenario(NamedTuple):
    """A name, what it shows, and its plan for a seed."""

    name: str
    what: str
    plan: Callable[[int], Plan]


def _calm(seed: int) -> Plan:
    return Plan(scenario="calm", seed=seed, seconds=10.0, calm_seconds=20.0)


def _crash_leader(seed: int) -> Plan:
    faults = tuple(Fault(at, "crash", ("leader",)) for at in (2.0, 5.0, 8.0, 11.0, 14.0))
    return Plan(scenario="crash_leader", seed=seed, seconds=18.0, network=BAD_LINKS, guided=0.002, faults=faults)


def _partition(seed: int) -> Plan:
    faults = [Fault(2.0 + 3 * turn, "partition", ("leader",) if turn % 2 else (), 2.0 - turn % 2) for turn in range(5)]
    heals = [Fault(3.8 + 3 * turn, "heal") for turn in range(5)]
    return Plan(scenario="partition", seed=seed, size=5, seconds=18.0, faults=tuple(sorted([*faults, *heals])))


def _figure_8(seed: int) -> Plan:
    """Raft paper, figure 8: leaders that replicate to one other, crash, and come back with old entries."""
    faults: list[Fault] = []
    for turn in range(8):
        at = 1.5 + 2.4 * turn
        faults += [Fault(at, "partition", ("leader",), 2.0), Fault(at + 0.25, "crash", ("leader",), 1.0)]
        faults += [Fault(at + 0.3, "heal")]
    config = {"is_pre_vote": False, "is_sticky": False, "append_entries_max": 1, "heartbeat_seconds": 0.1}
    return Plan(
        scenario="figure_8",
        seed=seed,
        size=5,
        seconds=22.0,
        config=config,
        think_seconds=0.03,
        faults=tuple(sorted(faults)),
    )


def _power_cut(seed: int) -> Plan:
    faults = tuple(Fault(at, "power_cut") for at in (1.5, 4.0, 6.5, 9.0))
    disk = DiskShape(sync_seconds=0.02, keep=0.3, tear=0.4)
    return Plan(
        scenario="power_cut", seed=seed, seconds=12.0, disk=disk, think_seconds=0.03, guided=0.004, faults=faults
    )


def _slow_disk(seed: int) -> Plan:
    faults = (
        Fault(2.0, "slow_disk", ("n1",), 100.0),
        Fault(4.0, "stall_disk", ("leader",), 4.0),
        Fault(9.0, "slow_disk", ("n2",), 100.0),
        Fault(10.0, "sync_fails", ("leader",)),
        Fault(12.0, "slow_disk", ("n1",), 1.0),
    )
    return Plan(scenario="slow_disk", seed=seed, seconds=16.0, config={"disk_stall_seconds": 2.0}, faults=faults)


def _full_disk(seed: int) -> Plan:
    faults = tuple(
        Fault(at, "disk_full", (who,), 1.5) for at, who in ((2.0, "leader"), (5.0, "follower"), (8.0, "leader"))
    )
    return Plan(scenario="full_disk", seed=seed, seconds=12.0, think_seconds=0.03, faults=faults)


def _one_way(seed: int) -> Plan:
    faults = tuple(
        Fault(at, kind, ("leader",) if kind == "one_way" else (), amount)
        for at, kind, amount in ((2.0, "one_way", 0.0), (5.0, "heal", 0.0), (8.0, "one_way", 1.0), (11.0, "heal", 0.0))
    )
    return Plan(scenario="one_way", seed=seed, seconds=14.0, faults=faults)


def _flapping(seed: int) -> Plan:
    faults = tuple(
        Fault(1.5 + 0.6 * turn, "heal" if turn % 2 else "isolate", () if turn % 2 else ("leader",))
        for turn in range(24)
    )
    return Plan(scenario="flapping", seed=seed, size=5, seconds=18.0, faults=faults)


def _transfer(seed: int) -> Plan:
    faults = [Fault(1.5 + 1.5 * turn, "transfer", (("best", "random", "follower")[turn % 3],)) for turn in range(8)]
    faults.append(Fault(7.6, "crash", ("follower",), 1.0))
    config = {"is_lease_read": True, "clock_drift_max": 0.05}
    return Plan(
        scenario="transfer", seed=seed, seconds=15.0, config=config, read_share=0.6, faults=tuple(sorted(faults))
    )


def _membership(seed: int) -> Plan:
    faults = (
        Fault(1.5, "change", ("voter", "n4")),
        Fault(3.0, "change", ("voter", "n5", "remove", "n1"), 1.0),
        Fault(3.02, "crash", ("leader",), 0.3),
        Fault(5.0, "change", ("learner", "n2")),
        Fault(6.5, "partition", ("leader",), 1.0),
        Fault(6.6, "change", ("remove", "n3"), 1.0),
        Fault(8.0, "heal"),
        Fault(9.5, "change", ("voter", "n1", "voter", "n2"), 1.0),
        Fault(9.6, "crash", ("leader",), 0.3),
    )
    return Plan(scenario="membership", seed=seed, spares=2, seconds=14.0, network=BAD_LINKS, faults=faults)


def _snapshots(seed: int) -> Plan:
    faults = tuple(
        Fault(at, kind, (who,) if who else (), 0.0)
        for at, kind, who in (
            (2.0, "isolate", "n1"),
            (5.0, "heal", ""),
            (5.1, "crash", "leader"),
            (8.0, "isolate", "follower"),
            (10.5, "heal", ""),
            (10.6, "transfer", "best"),
        )
    )
    return Plan(
        scenario="snapshots",
        seed=seed,
        seconds=14.0,
        config=SMALL_LOGS,
        network=BAD_LINKS,
        snapshot_every=4,
        think_seconds=0.03,
        faults=faults,
    )


def _split_clocks(seed: int) -> Plan:
    config = {"is_lease_read": True, "clock_drift_max": 0.05}
    faults = tuple(
        Fault(2.0 + 2.5 * turn, ("pause", "isolate")[turn % 2], ("leader",), 2.0 if turn % 2 == 0 else 0.0)
        for turn in range(4)
    )
    heals = (Fault(6.0, "heal"), Fault(11.0, "heal"))
    return Plan(
        scenario="split_clocks",
        seed=seed,
        seconds=14.0,
        config=config,
        read_share=0.7,
        network=NetworkShape(latency_seconds=0.2),
        clocks=(0.951, 1.049, 1.049),
        faults=tuple(sorted((*faults, *heals))),
    )


ORDINARY: tuple[Scenario, ...] = (
    Scenario("calm", "no fault: one election, and the same leader for good", _calm),
    Scenario("crash_leader", "leaders crash, also in the middle of a step, and come back", _crash_leader),
    Scenario("figure_8", "old entries on a majority that may still be overwritten", _figure_8),
    Scenario("flapping", "the leader is cut off and back, again and again", _flapping),
    Scenario("full_disk", "disks run full and get room again", _full_disk),
    Scenario("membership", "nodes come, go, change sides, while leaders crash", _membership),
    Scenario("one_way", "a leader that is heard and does not hear, and the reverse", _one_way),
    Scenario("partition", "two sides, with and without a majority", _partition),
    Scenario("power_cut", "all nodes at once; unsynced writes kept, lost or torn", _power_cut),
    Scenario("slow_disk", "slow, stuck and failing disks", _slow_disk),
    Scenario("snapshots", "short logs: whoever was away gets a snapshot", _snapshots),
    Scenario("split_clocks", "lease reads with clocks at their bounds, pauses and cuts", _split_clocks),
    Scenario("swarm", "everything drawn from the seed", swarm.draw),
    Scenario("transfer", "leadership handed over, also to who is not there", _transfer),
)

TABLE = (*ORDINARY, *(Scenario(*each) for each in (*hardware.ROWS, *HUNTING)))

BY_NAME = {scenario.name: scenario for scenario in TABLE}
