"""The second half of a swarm draw: disks that rot, are lost, exchanged or restored; links that break, jam or garble;
clocks that drift; versions that differ; crashes between two effects; and the dear checks, in some runs each.

Half of all runs have none of it. What is drawn here has its own chance and shifts nothing of the first half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulations.chance import Stream
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan

TOPOLOGIES = ("bridge", "star", "constrained", "chain")
LEASE_DRIFTS = (0.951, 1.0, 1.049)
"""Within `clock_drift_max` of the swarm's leases."""


OFTEN = frozenset({"joint", "rot", "wipe"})
"""These come to nothing in small clusters, so they are tried more often."""


def add(plan: Plan, chance: Stream) -> Plan:
    """The plan with more in it."""
    audits = tuple(
        name for name, share in (("codec", 0.06), ("replay", 0.06), ("prefixes", 0.2)) if chance.random() < share
    )
    plan = replace(plan, audits=audits)
    if not plan.faults or chance.random() < 0.5:
        return plan
    share = chance.choice((0.1, 0.25, 0.5))
    families = tuple(name for name in FAMILIES if chance.random() < share + (0.15 if name in OFTEN else 0.0))
    if "rot" in families:
        plan = _worth_rotting(plan, chance)
    faults: list[Fault] = []
    for name in families:
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = round(chance.uniform(0.5, max(plan.seconds - 1.0, 1.0)), 6)
            faults += FAMILIES[name](plan, chance, at)
    return replace(
        plan,
        network=_links(plan, chance) if chance.random() < 0.4 else plan.network,
        disk=_disks(plan, chance) if chance.random() < 0.5 else plan.disk,
        faults=tuple(sorted((*plan.faults, *faults))),
    )


def _worth_rotting(plan: Plan, chance: Stream) -> Plan:
    """Rot is found where old entries are read from the disk, or where snapshots stand for a log that is gone."""
    draw = chance.random()
    if draw < 0.35:
        config = {"memory_bytes_max": 64, "trailing_entries": 1000, "trailing_entries_max": 1000}
        return replace(plan, config={**plan.config, **config})
    if draw < 0.8:
        config = {"trailing_entries": chance.choice((0, 1)), "trailing_entries_max": chance.choice((0, 4))}
        disk = plan.disk._replace(head_seconds=chance.choice((0.003, 0.05)))
        config = {**plan.config, **config}
        return replace(plan, config=config, disk=disk, snapshot_every=4, is_compacting_disk=True)
    return plan


def _links(plan: Plan, chance: Stream) -> NetworkShape:
    is_stream = chance.random() < 0.5
    network = plan.network
    return network._replace(
        is_stream=is_stream,
        is_fifo=is_stream or network.is_fifo,
        duplicate=0.0 if is_stream else network.duplicate,
        queue_max=chance.choice((0, 0, 2, 8, 64)),
        bursts=chance.choice((0.0, 0.0, 0.005, 0.05)),
        garble=chance.choice((0.0, 0.02, 0.2)),
    )


def _disks(plan: Plan, chance: Stream) -> DiskShape:
    return plan.disk._replace(
        grain_bytes=chance.choice((0, 1, 512, 4096, 16)),
        head_seconds=chance.choice((0.0, 0.003, 0.05)),
        read_errors=chance.choice((0.0, 0.02, 0.3)),
    )


def _who(chance: Stream) -> str:
    return chance.choice(("leader", "follower", "follower", "random"))


def _name(plan: Plan, chance: Stream) -> str:
    return f"n{chance.randint(1, plan.size)}"


def _heal(chance: Stream, at: float) -> Fault:
    return Fault(at + chance.choice((0.3, 1.0, 2.0, 5.0)) * chance.uniform(0.5, 1.5), "heal")


def _rot(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    """Some of it is found by a crash, some by a follower that comes back and needs what nobody looked at."""
    what = chance.choice(("entry", "entry", "snapshot", "snapshot", "misdirected")) if plan.snapshot_every else "entry"
    if chance.random() < 0.7:
        return [Fault(at, "rot", (_who(chance), what, "crash"), chance.choice((0.0, 1.0, chance.random())))]
    away = f"n{chance.randint(1, plan.size)}"
    found = [Fault(at, "isolate", (away,)), Fault(at + 0.5, "rot", ("leader", what), chance.random())]
    return [*found, Fault(at + chance.choice((1.0, 2.5)), "heal")]


def _wipe(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    found = [Fault(at, "wipe", (_who(chance),), chance.choice((0.001, 0.5, 2.0)))]
    is_at_once = float(chance.random() < 0.4)
    return found + [Fault(at + after, "replace", (), is_at_once) for after in (0.7, 1.7, 3.1, 4.9)]


def _swap(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    return [Fault(at, "swap", (_name(plan, chance), _name(plan, chance)), chance.choice((0.3, 1.5)))]


def _restore(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    name, age = _name(plan, chance), chance.choice((0.3, 2.0))
    found = [Fault(max(at - age, 0.3), "backup", (name,)), Fault(at, "restore", (name,), chance.choice((0.2, 1.0)))]
    return found + [Fault(at + after, "replace", (), 0.0) for after in (1.6, 3.1)]


def _freeze(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    return [Fault(at, "freeze", (_who(chance),), chance.choice((0.05, 0.8, 2.5)))]


def _drift(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    is_leased = plan.config["is_lease_read"]
    rates = LEASE_DRIFTS if is_leased else (0.5, 0.9, 1.0, 1.1, 2.0)
    found = [Fault(at, "drift", (_name(plan, chance),), chance.choice(rates))]
    if chance.random() < 0.5:  # Back is always allowed: who has a lease notices it.
        found.append(Fault(at + 0.3, "clock", ("leader",), -chance.choice((0.01, 0.3, 3.0))))
    return found


def _fuse(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    return [Fault(at + 0.31 * turn, "fuse", (_who(chance),), float(chance.randint(1, 12))) for turn in range(3)]


def _upgrade(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    switches, pace = float(chance.randint(1, 7)), chance.choice((0.1, 0.8, 2.0))
    return [Fault(at + pace * number, "upgrade", (f"n{number}",), switches) for number in range(1, plan.size + 1)]


def _topology(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    return [Fault(at, "topology", (chance.choice(TOPOLOGIES),)), _heal(chance, at)]


def _flutter(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    """A link that comes and goes with a period from a tenth of an election timeout to ten."""
    period = 10 ** chance.uniform(-1.0, 1.0)
    kind, targets = chance.choice((("isolate", ("leader",)), ("one_way", ("leader",)), ("partition", ())))
    turns = min(int(2 * (plan.seconds - at) / period), 20)
    return [
        Fault(at + period * turn / 2, "heal" if turn % 2 else kind, () if turn % 2 else targets)
        for turn in range(turns)
    ]


def _cache(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    return [Fault(at, "sync_fails", (_who(chance),), 1.0)]


def _full(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    who = _who(chance)
    return [Fault(at + 0.4 * turn, "disk_full", (who,), 0.25) for turn in range(4)]


def _figure_8(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    """Leaders that reach one other, crash, and come back with old entries; and one that crashes when these are on a
    majority (Raft paper, figure 8)."""
    found: list[Fault] = []
    for turn in range(4):
        start = at + 2.4 * turn
        found += [Fault(start, "partition", ("leader",), 2.0), Fault(start + 0.01, "burst", ("leader",), 2.0)]
        found += [Fault(start + 0.25, "crash", ("leader",), 1.0), Fault(start + 0.3, "heal")]
        found += [Fault(start + 0.31, "hunt")]
    return found


def _joint(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    """Two members change sides at once, and then the leader is gone; or leadership goes to one that is leaving."""
    one, other = _name(plan, chance), f"n{chance.randint(1, plan.size + plan.spares)}"
    if one == other:
        return []
    back = Fault(at + 2.0, "change", ("voter", one, "voter", other), float(chance.random() < 0.5))
    if chance.random() < 0.5:
        change = Fault(at + 0.01, "change", ("remove", one, "learner", other), 1.0)
        return [Fault(at, "isolate", (one,)), change, Fault(at + 0.011, "transfer", (one,)), _heal(chance, at), back]
    kinds = chance.choice((("remove", "voter"), ("learner", "remove"), ("voter", "learner")))
    after = chance.choice((0.005, 0.03, 0.1, 0.3))
    change = Fault(at, "change", (kinds[0], one, kinds[1], other), 1.0)
    return [change, Fault(at + after, chance.choice(("crash", "isolate")), ("leader",), 0.3), _heal(chance, at), back]


def _lapse(plan: Plan, chance: Stream, at: float) -> list[Fault]:
    """A leader stands still for longer than its lease, and what it was asked waits for it."""
    return [Fault(at, chance.choice(("pause", "freeze")), ("leader",), chance.choice((1.0, 1.7, 3.0)))]


FAMILIES: dict[str, Callable[[Plan, Stream, float], list[Fault]]] = {
    "rot": _rot,
    "wipe": _wipe,
    "swap": _swap,
    "restore": _restore,
    "freeze": _freeze,
    "drift": _drift,
    "fuse": _fuse,
    "upgrade": _upgrade,
    "topology": _topology,
    "flutter": _flutter,
    "cache": _cache,
    "full": _full,
    "figure_8": _figure_8,
    "joint": _joint,
    "lapse": _lapse,
}
