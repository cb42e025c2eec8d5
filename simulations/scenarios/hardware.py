"""Named runs about disks, links and versions, and the experiments: faults beyond what can be survived.

An experiment names the properties that may break (`Plan.expects`); anything else that breaks is a failure like in every
run. They show where the guarantees end: a disk that lies about its syncs, a start that guesses, a copy that is taken
for the original, damage to more copies than the others can make good.
"""

from __future__ import annotations

from collections.abc import Callable

from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan

SMALL_LOGS = {"trailing_entries": 1, "trailing_entries_max": 4, "snapshot_chunk_bytes": 40}
HELD = {"memory_bytes_max": 64, "trailing_entries": 1000, "trailing_entries_max": 1000}
"""Entries are read from the disk as soon as somebody needs old ones."""


def _rotten(seed: int) -> Plan:
    """One hole after the other, each found by a crash or by a follower that comes back."""
    faults = (
        Fault(1.5, "rot", ("follower", "entry", "crash"), 0.5),
        Fault(3.5, "rot", ("leader", "entry", "crash"), 0.3),
        Fault(5.5, "rot", ("random", "misdirected", "crash"), 0.6),
        Fault(7.0, "isolate", ("n1",)),
        Fault(7.5, "rot", ("leader", "entry"), 0.9),
        Fault(8.5, "heal"),
        Fault(10.5, "rot", ("follower", "entry", "crash"), 1.0),
    )
    return Plan(
        scenario="rotten",
        seed=seed,
        size=5,
        seconds=13.0,
        config=HELD,
        network=NetworkShape(latency_seconds=0.02, duplicate=0.2),
        think_seconds=0.05,
        guided=0.001,
        faults=faults,
    )


def _rotten_snapshot(seed: int) -> Plan:
    """Snapshots rot while the log no longer reaches back; heads are renamed in directories that are synced later."""
    faults = (
        Fault(2.0, "rot", ("follower", "snapshot", "crash")),
        Fault(4.5, "power_cut"),
        Fault(6.5, "isolate", ("follower",)),
        Fault(8.0, "rot", ("leader", "snapshot")),
        Fault(8.5, "heal"),
    )
    disk = DiskShape(head_seconds=0.02, read_errors=0.1)
    return Plan(
        scenario="rotten_snapshot",
        seed=seed,
        seconds=11.0,
        config=SMALL_LOGS,
        disk=disk,
        snapshot_every=4,
        think_seconds=0.05,
        guided=0.003,
        faults=faults,
    )


def _wiped(seed: int) -> Plan:
    """Disks are lost; the nodes come back as strangers and are taken in again by name."""
    faults: list[Fault] = []
    for turn, who in enumerate(("follower", "leader", "random")):
        at = 1.5 + 4.0 * turn
        faults += [Fault(at, "wipe", (who,), 0.3)]
        faults += [Fault(at + after, "replace", (), float(turn % 2)) for after in (1.0, 2.0, 3.0)]
    return Plan(scenario="wiped", seed=seed, size=4, seconds=14.0, guided=0.001, faults=tuple(sorted(faults)))


def _wrong_disks(seed: int) -> Plan:
    """Disks are exchanged, and put right; a disk is replaced by an older copy of itself, which does not start."""
    faults = (
        Fault(1.5, "swap", ("n1", "n2"), 1.0),
        Fault(4.0, "backup", ("n3",)),
        Fault(6.0, "restore", ("n3",), 0.5),
        *(Fault(at, "replace") for at in (7.5, 9.0, 10.5)),
    )
    return Plan(scenario="wrong_disks", seed=seed, size=5, seconds=12.0, think_seconds=0.05, faults=faults)


def _torn_pages(seed: int) -> Plan:
    """Crashes that keep any sectors or pages of what was not synced, in any order."""
    faults = tuple(Fault(at, "power_cut") for at in (1.5, 3.5, 5.5, 7.5))
    grain = (1, 64, 512, 4096)[seed % 4]
    disk = DiskShape(sync_seconds=0.04, keep=0.7, grain_bytes=grain)
    return Plan(
        scenario="torn_pages",
        seed=seed,
        seconds=9.0,
        disk=disk,
        clients=5,
        think_seconds=0.02,
        guided=0.01,
        audits=("prefixes",),
        faults=faults,
    )


def _bad_links(seed: int) -> Plan:
    """Streams that break, hold little, go bad for a while, and garble."""
    network = NetworkShape(is_fifo=True, is_stream=True, queue_max=8, bursts=0.005, garble=0.03)
    faults = (
        Fault(3.0, "isolate", ("leader",)),
        Fault(5.0, "heal"),
        Fault(7.0, "topology", ("chain",)),
        Fault(9.0, "heal"),
    )
    return Plan(scenario="bad_links", seed=seed, seconds=11.0, network=network, audits=("codec",), faults=faults)


def _topologies(seed: int) -> Plan:
    """Partial connections of every kind."""
    kinds = ("star", "constrained", "chain", "bridge")
    cuts = [Fault(2.0 + 4.0 * turn, "topology", (kind,)) for turn, kind in enumerate(kinds)]
    heals = [Fault(5.0 + 4.0 * turn, "heal") for turn in range(len(kinds))]
    return Plan(scenario="topologies", seed=seed, size=5, seconds=18.0, faults=tuple(sorted((*cuts, *heals))))


def _versions(seed: int) -> Plan:
    """PreVote, CheckQuorum and the shield are switched on one node after the other, and off again."""
    config = {"is_pre_vote": False, "is_check_quorum": False, "is_sticky": False}
    rolls = [Fault(1.5 + turn * 0.7, "upgrade", (f"n{turn % 5 + 1}",), 7.0 - turn % 3) for turn in range(15)]
    cuts = (Fault(3.1, "isolate", ("leader",)), Fault(6.0, "heal"))
    return Plan(
        scenario="versions",
        seed=seed,
        size=5,
        seconds=14.0,
        config=config,
        calm_seconds=20.0,
        audits=("replay",),
        faults=tuple(sorted((*rolls, *cuts))),
    )


def _late_majority(seed: int) -> Plan:
    """A candidate stands still while the votes for it arrive, and leads a term that is long over when it goes on: the
    leaders of later terms need not be in its log (5.4.3 speaks of higher terms only). Swarm seed 2378 showed that the
    checker of I-04 did not know."""
    nudges = [Fault(4.0 + 4.0 * turn, "nudge", (f"n{turn + 1}",), 0.0) for turn in range(3)]
    pauses = [Fault(4.003 + 4.0 * turn, "pause", (f"n{turn + 1}",), 3.5) for turn in range(3)]
    config = {"is_pre_vote": False, "is_check_quorum": False, "is_sticky": False}
    faults = tuple(sorted((*nudges, *pauses)))
    network = NetworkShape(latency_seconds=0.02)
    return Plan(scenario="late_majority", seed=seed, seconds=17.0, config=config, network=network, faults=faults)


def _over_budget(seed: int) -> Plan:
    """A majority of the copies is damaged at once: the cluster stops (V-01), and nothing that it says is wrong."""
    rots = tuple(Fault(4.0 + 0.001 * turn, "rot", (f"n{turn + 1}", "entry"), 0.4) for turn in range(2))
    return Plan(
        scenario="over_budget",
        seed=seed,
        seconds=8.0,
        is_over_budget=True,
        expects=("V-01",),
        faults=(*rots, Fault(4.1, "power_cut", (), 0.3)),
    )


def _lying_disk(seed: int) -> Plan:
    """Syncs report what is still in a cache that the power cut empties. No protocol survives that: it is noticed here
    because the simulator sees terms fall (I-10), votes repeated (I-11) or committed entries gone."""
    return Plan(
        scenario="lying_disk",
        seed=seed,
        seconds=10.0,
        disk=DiskShape(is_lying=True),
        expects=LIES,
        faults=tuple(Fault(at, "power_cut", (), 0.2) for at in (2.0, 4.0, 6.0, 8.0)),
    )


def _guessed_tail(seed: int) -> Plan:
    """The newest entry rots and a start takes it for a torn write that nobody was promised: the one kind of damage that
    needs more than checksums to be told from a power cut."""
    turns = [(3.0 + 1.0 * turn, ("leader", "follower")[turn % 2]) for turn in range(8)]
    faults = tuple(Fault(at, "rot", (who, "entry", "crash"), 1.0) for at, who in turns)
    return Plan(
        scenario="guessed_tail",
        seed=seed,
        seconds=12.0,
        disk=DiskShape(is_tail_guessed=True),
        restarts=(0.001, 0.3),
        think_seconds=0.05,
        expects=LIES,
        faults=faults,
    )


def _old_copy(seed: int) -> Plan:
    """A node starts from an older copy of its disk, and nobody looks: it has forgotten terms and votes (I-10)."""
    faults = (
        Fault(1.2, "backup", ("n1",)),
        Fault(3.0, "crash", ("leader",), 0.3),
        Fault(5.0, "crash", ("leader",), 0.3),
        Fault(7.0, "restore", ("n1",), 9.0),
    )
    return Plan(scenario="old_copy", seed=seed, seconds=9.0, is_disk_checked=False, expects=LIES, faults=faults)


def _late_clock(seed: int) -> Plan:
    """A leader whose clock goes at a third of its rate, far beyond the bound that leases were promised (6.4.1)."""
    return Plan(
        scenario="late_clock",
        seed=seed,
        seconds=10.0,
        config={"is_lease_read": True, "clock_drift_max": 0.05},
        read_share=0.7,
        think_seconds=0.02,
        expects=("I-20", "I-21", "I-22"),
        faults=(Fault(2.5, "drift", ("leader",), 0.3), Fault(4.0, "isolate", ("leader",)), Fault(8.0, "heal")),
    )


LIES = ("I-01", "I-03", "I-04", "I-05", "I-06", "I-07", "I-08", "I-10", "I-11", "I-12", "I-13", "I-14", "I-15", "I-23",
        "CORE", "D-05")  # fmt: skip
"""What a disk that forgets what it promised may break."""

ROWS: tuple[tuple[str, str, Callable[[int], Plan]], ...] = (
    ("bad_links", "streams that break, hold little, go bad and garble; every message as bytes", _bad_links),
    ("guessed_tail", "experiment: a rotten last entry taken for a torn one", _guessed_tail),
    ("late_clock", "experiment: lease reads with a clock far beyond its bound", _late_clock),
    ("late_majority", "a candidate that is elected when its term is long over", _late_majority),
    ("lying_disk", "experiment: syncs that did not happen", _lying_disk),
    ("old_copy", "experiment: a node that starts from an older copy of its disk", _old_copy),
    (
        "over_budget",
        "experiment: more copies damaged than the others make good; it stops and does not lie",
        _over_budget,
    ),
    ("rotten", "holes in logs, found at starts and reads, made whole by the leader", _rotten),
    ("rotten_snapshot", "snapshots that rot, heads that lose their names, reads that fail", _rotten_snapshot),
    ("topologies", "bridge, star, constrained election, chain", _topologies),
    ("torn_pages", "power cuts that keep any bytes, sectors or pages", _torn_pages),
    ("versions", "PreVote, CheckQuorum and the shield differ between nodes", _versions),
    ("wiped", "disks lost: another incarnation, refused until it is taken in", _wiped),
    ("wrong_disks", "disks exchanged, or replaced by an older copy: no start", _wrong_disks),
)
