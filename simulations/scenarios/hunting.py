"""Runs made to bring out what chance rarely brings together: one family of bugs each, episode after episode.

They belong to the campaign that planted bugs must not survive; on a clean core they pass like any other run. What is
left open, sizes, masks and moments, is drawn from the seed. The election timeout is one second throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulations.chance import Stream, stream
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan

UNSHIELDED = {"is_pre_vote": False, "is_sticky": False}
QUICK = DiskShape(sync_seconds=0.0002)


def _stale_leader(seed: int) -> Plan:
    """A leader is cut off and a successor elected at once, before the old one has reason to doubt (6.4)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(7):
        at = 1.5 + 2.0 * turn + chance.uniform(0.0, 0.4)
        faults += [Fault(at, "isolate", ("leader",)), *_campaigns(chance, at + 0.02, 5), Fault(at + 1.1, "heal")]
    config = {**UNSHIELDED, "heartbeat_seconds": 0.4, "is_check_quorum": chance.random() < 0.5}
    return _plan("stale_leader", seed, faults, config=config, size=5, disk=QUICK, read_share=0.7)


def _lease_edge(seed: int) -> Plan:
    """Answers are late, the leader is cut off, and others campaign the moment their shield may fall (6.4.1)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(5):
        at = 1.5 + 3.0 * turn + chance.uniform(0.0, 0.3)
        faults += [Fault(at, "hold", (kind,), 0.7) for kind in ("HeartbeatReply", "AppendReply")]
        faults += [Fault(at + 0.12, "isolate", ("leader",)), Fault(at + 2.2, "heal")]
        faults += _campaigns(chance, at + 1.05, 3)
        faults += [Fault(at + 2.5, "hold", ("TimeoutNow",), 0.4), Fault(at + 2.51, "transfer", ("best",))]
    config = {"is_lease_read": True, "is_pre_vote": chance.random() < 0.5, "clock_drift_max": 0.05}
    clocks = (0.951, 1.049, 1.049, 1.0, 0.951)
    network = NetworkShape(latency_seconds=0.002, is_cutting_in_flight=False)
    return _plan(
        "lease_edge", seed, faults, config=config, size=5, disk=QUICK, network=network, clocks=clocks, read_share=0.8
    )


def _late_snapshot(seed: int) -> Plan:
    """Logs end right behind the snapshot and everything overtakes everything: snapshots come late, twice, in pieces."""
    chance = stream(seed, "hunting")
    faults = [Fault(2.0 + 2.5 * turn, "isolate", ("follower",)) for turn in range(4)]
    faults += [Fault(3.2 + 2.5 * turn, "heal") for turn in range(4)]
    faults += [Fault(3.25 + 2.5 * turn, "transfer", ("best",)) for turn in range(0, 4, 2)]
    faults += [Fault(3.27 + 2.5 * turn, "crash", ("leader",), 0.3) for turn in range(1, 4, 2)]
    config = {
        "trailing_entries": 0,
        "trailing_entries_max": 0,
        "append_entries_max": chance.choice((1, 3)),
        "heartbeat_seconds": 0.1,
        "snapshot_chunk_bytes": chance.choice((40, 1 << 20, 1 << 20)),
        "snapshot_retry_seconds": 0.2,
    }
    network = NetworkShape(latency_seconds=0.06, is_heavy_tailed=True, duplicate=0.6)
    return _plan(
        "late_snapshot",
        seed,
        faults,
        config=config,
        size=chance.choice((3, 5)),
        disk=QUICK,
        network=network,
        snapshot_every=chance.choice((1, 2, 4)),
        seconds=13.0,
    )


def _disjoint(seed: int) -> Plan:
    """The whole cluster is replaced, back and forth, with crashes inside the joint configuration (4.3)."""
    chance = stream(seed, "hunting")
    old, new = ("n1", "n2", "n3"), ("n4", "n5", "n6")
    faults: list[Fault] = []
    for turn in range(5):
        at = 1.5 + 3.0 * turn
        out, into = (old, new) if turn % 2 == 0 else (new, old)
        kind = chance.choice(("remove", "learner"))
        words = [*(word for name in into for word in ("voter", name)), *(word for name in out for word in (kind, name))]
        faults.append(Fault(at, "change", tuple(words), 1.0))
        if chance.random() < 0.6:
            faults.append(Fault(at + chance.choice((0.01, 0.02, 0.05)), "crash", ("leader",), 0.001))
        if chance.random() < 0.4:
            faults += [Fault(at + 0.03, "partition", ("leader",), 3.0), Fault(at + 1.5, "heal")]
        faults.append(Fault(at + 2.2, "power_cut", (), 0.001))
    return _plan(
        "disjoint", seed, faults, spares=3, snapshot_every=chance.choice((0, 5)), config={"trailing_entries": 1}
    )


def _removed(seed: int) -> Plan:
    """Absent followers are removed and campaign when they are back, for nobody told them (4.2.3)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn, name in enumerate(("n1", "n2", "n3", "n4")):
        at = 1.5 + 3.5 * turn
        faults += [Fault(at, "isolate", (name,)), Fault(at + 1.2, "change", ("remove", name), 1.0)]
        faults += [Fault(at + 2.0, "heal"), Fault(at + 2.6, "change", ("voter", name), float(chance.random() < 0.5))]
    config = {"is_pre_vote": False, "is_sticky": True, "heartbeat_seconds": chance.choice((0.1, 0.4))}
    return _plan("removed", seed, faults, config=config, size=chance.choice((4, 5)), seconds=16.0)


def _abdication(seed: int) -> Plan:
    """Leaders remove or demote themselves while they work, and come back; voters are slow, learners quick (4.2.2)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(6):
        at = 1.5 + 2.5 * turn
        kind, slow = chance.choice(("remove", "remove", "learner")), f"n{1 + turn % 3}"
        faults += [Fault(at - 0.01, "slow_disk", (slow,), 100.0), Fault(at + 0.6, "slow_disk", (slow,), 1.0)]
        faults += [Fault(at, "burst", ("leader",), 2.0), Fault(at, "change", (kind, "leader"), 1.0)]
        faults += [Fault(at + 0.001, "burst", ("leader",), 3.0), Fault(at + 0.01, "burst", ("leader",), 3.0)]
        if chance.random() < 0.5:
            faults += [Fault(at + 0.004, "isolate", ("leader",)), Fault(at + 1.2, "heal")]
        words = tuple(word for name in ("n1", "n2", "n3") for word in ("voter", name))
        faults.append(Fault(at + 1.6, "change", words, 1.0))
    learners = tuple(word for name in ("n4", "n5") for word in ("learner", name))
    faults.append(Fault(1.0, "change", learners))
    config = {"heartbeat_seconds": 0.1, "is_pre_vote": chance.random() < 0.5}
    return _plan("abdication", seed, faults, config=config, spares=2, think_seconds=0.1)


def _handovers(seed: int) -> Plan:
    """Leadership is handed to who is absent, gone or slow, and the leader is cut off meanwhile (3.10)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(5):
        at, name = 1.5 + 3.0 * turn, f"n{1 + turn % 3}"
        faults += [Fault(at, "isolate", (name,)), Fault(at + 0.05, "transfer", (name,))]
        faults += [Fault(at + 1.3, "transfer", ("follower",)), Fault(at + 1.7, "heal")]
        faults += [Fault(at + 2.0, "slow_disk", (name,), 200.0), Fault(at + 2.1, "burst", ("leader",), 3.0)]
        faults += [Fault(at + 2.11, "transfer", (name,)), Fault(at + 2.8, "slow_disk", (name,), 1.0)]
    config = {"is_lease_read": chance.random() < 0.5, "clock_drift_max": 0.05, "heartbeat_seconds": 0.1}
    return _plan("handovers", seed, faults, config=config, read_share=0.5)


def _long_tails(seed: int) -> Plan:
    """A leader alone with many entries comes back and campaigns, or has its log cut while that is being written."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(6):
        at = 1.5 + 3.0 * turn
        faults.append(Fault(at, "isolate", ("leader",)))
        if chance.random() < 0.5:  # Its disk hangs, so that the cut meets what is on its way there (10.2.1).
            faults += [Fault(at + 0.01, "stall_disk", ("leader",), 1.2), Fault(at + 0.02, "burst", ("leader",), 5.0)]
            faults += [Fault(at + 0.06, "heal"), *_campaigns(chance, at + 0.061, 2)]
            if chance.random() < 0.5:
                faults.append(Fault(at + 0.9, "power_cut", (), 0.001))
            continue
        # It has been a candidate for a while when it is back: a long old log against shorter new ones (5.4.1).
        faults += [Fault(at + 0.02, "burst", ("leader",), 60.0), *_campaigns(chance, at + 0.05, 3)]
        back = at + 2.2
        faults += [Fault(back, "heal"), *(Fault(back + 0.002, "nudge", (f"n{place}",), 0.0) for place in (1, 2, 3))]
    config = {
        **UNSHIELDED,
        "append_entries_max": chance.choice((1, 8)),
        "heartbeat_seconds": 0.1,
        "memory_bytes_max": chance.choice((64, 1 << 20)),
    }
    size = chance.choice((3, 3, 5))
    disk = DiskShape(keep=0.6, tear=0.38)
    return _plan(
        "long_tails", seed, faults, config=config, disk=disk, size=size, clients=3, think_seconds=0.3, seconds=19.5
    )


def _repeated(seed: int) -> Plan:
    """Votes and their answers come late and many times over, also where there are too few; even sizes (5.2)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(7):
        at = 1.5 + 2.0 * turn
        faults += [Fault(at, "partition", ("leader",), float(chance.choice((2, 2, 1)))), Fault(at + 1.3, "heal")]
        if chance.random() < 0.4:
            faults.append(Fault(at - 0.01, "hold", (chance.choice(("VoteReply", "Vote", "PreVoteReply")),), 1.2))
        faults += [*_campaigns(chance, at + 0.02, 3), Fault(at + 0.4, "crash", ("random",), 0.001)]
    config = {**UNSHIELDED, "is_check_quorum": chance.random() < 0.5, "is_pre_vote": chance.random() < 0.3}
    network = NetworkShape(latency_seconds=0.01, duplicate=0.6, loss=0.1)
    return _plan("repeated", seed, faults, config=config, size=chance.choice((2, 4, 5, 5)), network=network)


def _back_at_once(seed: int) -> Plan:
    """A leader restarts within its followers' shield and campaigns at once (4.2.3)."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = []
    for turn in range(7):
        at = 1.5 + 2.0 * turn
        faults.append(Fault(at, "crash", ("leader",), 0.001))
        faults += [Fault(at + 0.1 + 0.05 * place, "nudge", (f"n{place}",), 0.0) for place in (1, 2, 3)]
    config = {"is_pre_vote": chance.random() < 0.5, "is_sticky": True, "heartbeat_seconds": 0.25}
    return _plan("back_at_once", seed, faults, config=config, disk=QUICK, guided=0.002)


def _bad_disks(seed: int) -> Plan:
    """Syncs that fail, disks that are full, rot or are restored from a copy, and power that goes while they work."""
    chance = stream(seed, "hunting")
    faults: list[Fault] = [Fault(1.2, "backup", ("follower",))]
    for turn, what in enumerate(("rot", *chance.sample(("rot", "restore", "sync", "full", "cut"), 5))):
        at = 1.6 + 2.2 * turn
        who = chance.choice(("leader", "follower"))
        match what:
            case "rot":
                faults.append(Fault(at, "rot", (who, "entry", "crash"), chance.choice((0.3, 0.7))))
            case "restore":
                faults.append(Fault(at, "restore", ("follower",), 0.5))
            case "sync":
                faults.append(Fault(at, "sync_fails", ("leader",)))
            case "full":
                faults.append(Fault(at, "disk_full", (who,), 0.6))
            case _:
                faults += [Fault(at, "power_cut", (), 0.001), Fault(at + 0.9, "power_cut", (), 0.3)]
    disk = DiskShape(sync_seconds=0.01, keep=0.3, tear=0.5)
    return _plan(
        "bad_disks",
        seed,
        faults,
        disk=disk,
        size=chance.choice((3, 5)),
        snapshot_every=chance.choice((0, 4)),
        guided=0.002,
        restarts=(0.001, 0.3, 1.0),
    )


def _campaigns(chance: Stream, at: float, count: int) -> list[Fault]:
    """Somebody who does not lead campaigns, several times in a row."""
    return [Fault(at + 0.03 * turn, "nudge", ("follower",), 0.0) for turn in range(count)]


def _plan(name: str, seed: int, faults: list[Fault], **more: Any) -> Plan:
    """Many clients in a hurry, and whatever the scenario says."""
    given: dict[str, Any] = {"seconds": 17.0, "clients": 5, "think_seconds": 0.03, **more}
    return Plan(scenario=name, seed=seed, faults=tuple(sorted(faults)), **given)


HUNTING: tuple[tuple[str, str, Callable[[int], Plan]], ...] = (
    ("long_tails", "lonely leaders with long tails, and logs that are cut while they are written", _long_tails),
    ("repeated", "votes and answers that come late and many times", _repeated),
    ("disjoint", "the whole cluster replaced, with crashes in between", _disjoint),
    ("bad_disks", "syncs that fail, disks that are full, rot, or are restored", _bad_disks),
    ("abdication", "leaders that remove or demote themselves, between slow voters and quick learners", _abdication),
    ("late_snapshot", "snapshots that come late, twice and in pieces", _late_snapshot),
    ("handovers", "leadership handed to the absent and the slow", _handovers),
    ("removed", "members removed while they are away, who campaign when they are back", _removed),
    ("lease_edge", "late answers, and campaigns the moment a lease may end", _lease_edge),
    ("stale_leader", "successors elected before the old leader has any doubt", _stale_leader),
    ("back_at_once", "a leader that restarts within the shield of its followers", _back_at_once),
)
"""Name, what it shows, and the plan of a seed."""
