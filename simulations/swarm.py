"""One seed, one plan: every run draws which faults there are at all, how strong, and which protections are off.

Each protection hides the bugs of others (PreVote hides late votes, FIFO links hide reordering, odd sizes hide wrong
majorities, a quick disk hides everything about durability, long trailing logs hide snapshots), so each is off in some
runs. One in ten has no faults, one in ten a single kind, often. (Reference, 4 and 7.8.)
"""

from __future__ import annotations

from typing import Any

from simulations import hardware
from simulations.chance import Stream, stream
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan

FAMILIES = (
    "crash",
    "power_cut",
    "partition",
    "isolate",
    "one_way",
    "flap",
    "ring",
    "pause",
    "slow_disk",
    "stall_disk",
    "sync_fails",
    "disk_full",
    "clock",
    "loss",
    "hold",
    "transfer",
    "nudge",
    "change",
    "old_leader",
)

HELD = ("AppendReply", "VoteReply", "Vote", "Append", "Heartbeat", "HeartbeatReply", "InstallSnapshot", "PreVoteReply")


def draw(seed: int) -> Plan:
    """The plan of a seed. What `hardware` adds has chance of its own, so it shifts nothing that is drawn here."""
    return hardware.add(_draw(seed), stream(seed, "hardware"))


def _draw(seed: int) -> Plan:
    chance = stream(seed, "swarm")
    size = chance.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6, 7))
    families = _families(chance)
    spares = chance.choice((0, 1, 2)) if "change" in families else 0
    seconds = chance.choice((6.0, 10.0, 20.0))
    config = _config(chance, size, families)
    is_fifo = chance.random() < 0.25
    network = NetworkShape(
        latency_seconds=chance.choice((0.001, 0.005, 0.02, 0.06)),
        is_heavy_tailed=chance.random() < 0.3,
        loss=chance.choice((0.0, 0.0, 0.02, 0.1, 0.25)) if families else 0.0,
        duplicate=chance.choice((0.0, 0.05, 0.3)) if families else 0.0,
        is_fifo=is_fifo,
        is_cutting_in_flight=chance.random() < 0.5,
    )
    keep = chance.choice((0.0, 0.3, 0.6, 0.95))
    disk = DiskShape(
        sync_seconds=chance.choice((0.0002, 0.003, 0.02, 0.08)),
        report_seconds=chance.choice((0.0, 0.0, 0.004, 0.05)),
        is_grouped=chance.random() < 0.6,
        keep=keep,
        tear=chance.uniform(0.0, 1.0 - keep),
    )
    is_crashing = "crash" in families or "power_cut" in families
    return Plan(
        scenario="swarm",
        seed=seed,
        size=size,
        spares=spares,
        seconds=seconds,
        config=config,
        network=network,
        disk=disk,
        clients=chance.choice((1, 3, 5)),
        keys=chance.choice((1, 2, 3)),
        think_seconds=chance.choice((0.03, 0.15, 0.4)),
        read_share=chance.choice((0.1, 0.3, 0.6)),
        has_sessions=chance.random() < 0.6,
        snapshot_every=chance.choice((0, 3, 8, 25)),
        is_compacting_disk=chance.random() < 0.7,
        apply_seconds=chance.choice((0.0001, 0.005, 0.1)),
        guided=chance.choice((0.0, 0.001, 0.004, 0.02)) if is_crashing else 0.0,
        restarts=chance.choice(((0.001,), (0.001, 0.3), (0.3, 1.0), (0.001, 0.3, 1.0, 5.0), (1.0, 5.0))),
        clocks=_clocks(chance, size + spares, config),
        faults=tuple(sorted(_faults(chance, families, seconds, size, spares))),
        is_core_partial=chance.random() < 0.4,
        calm_seconds=20.0 if chance.random() < 0.2 else 0.0,
    )


def _families(chance: Stream) -> tuple[str, ...]:
    draw = chance.random()
    if draw < 0.1:
        return ()
    if draw < 0.2:
        return (chance.choice(FAMILIES),)
    share = chance.choice((0.2, 0.35, 0.6))
    return tuple(family for family in FAMILIES if chance.random() < share)


def _config(chance: Stream, size: int, families: tuple[str, ...]) -> dict[str, Any]:
    is_lease_read = chance.random() < 0.25 and "clock" not in families
    return {
        "election_timeout_seconds": 1.0,
        "heartbeat_seconds": chance.choice((0.05, 0.1, 0.25, 0.4)),
        "is_pre_vote": chance.random() < 0.65,
        "is_check_quorum": is_lease_read or chance.random() < 0.8,
        "is_sticky": is_lease_read or chance.random() < 0.7,
        "is_lease_read": is_lease_read,
        "clock_drift_max": 0.05,
        "append_entries_max": chance.choice((1, 2, 8, 1024)),
        "append_bytes_max": chance.choice((1, 120, 1 << 20)),
        "window_messages_max": chance.choice((1, 2, 8, 64)),
        "window_bytes_max": chance.choice((100, 1 << 20)),
        "uncommitted_bytes_max": chance.choice((60, 1 << 20)),
        "uncommitted_entries_max": chance.choice((2, 1000)),
        "apply_bytes_max": chance.choice((1, 1 << 20)),
        "memory_bytes_max": chance.choice((64, 600, 1 << 20)),
        "snapshot_chunk_bytes": chance.choice((24, 100, 1 << 20)),
        "snapshot_retry_seconds": chance.choice((0.2, 1.0)),
        "trailing_entries": chance.choice((0, 1, 3, 1000)),
        "trailing_entries_max": chance.choice((0, 4, 1000)),
        "catch_up_timeout_seconds": chance.choice((1.0, 3.0)),
        "catch_up_rounds_max": chance.choice((1, 3, 10)),
        "disk_stall_seconds": chance.choice((1.0, 3.0)),
        "read_timeout_seconds": chance.choice((1.0, 3.0)),
    }


def _clocks(chance: Stream, count: int, config: dict[str, Any]) -> tuple[float, ...]:
    """Rates within the bound where leases depend on it, beyond it elsewhere."""
    if chance.random() < 0.5:
        return ()
    bound = 0.049 if config["is_lease_read"] else chance.choice((0.05, 0.3))
    return tuple(1.0 + chance.choice((-bound, bound, chance.uniform(-bound, bound))) for _ in range(count))


def _faults(chance: Stream, families: tuple[str, ...], seconds: float, size: int, spares: int) -> list[Fault]:
    found: list[Fault] = []
    for family in families:
        count = 1 + int(chance.expovariate(1.0) * seconds / chance.choice((4.0, 8.0, 20.0)))
        for _ in range(min(count, 12)):
            at = round(chance.uniform(0.5, seconds), 6)
            found.extend(_of_family(chance, family, at, size, spares))
    return found


def _of_family(chance: Stream, family: str, at: float, size: int, spares: int) -> list[Fault]:
    who = (chance.choice(("leader", "leader", "follower", "random")),)
    heal = Fault(at + chance.choice((0.2, 0.6, 1.5, 3.0, 8.0)) * chance.uniform(0.5, 1.5), "heal")
    match family:
        case "crash" | "power_cut":
            after = chance.choice((0.0, 0.001, 0.3, 1.0, 5.0))
            return [Fault(at, family, who if family == "crash" else (), after)]
        case "partition":
            return [Fault(at, family, chance.choice(((), ("leader",))), float(chance.randint(0, size - 1))), heal]
        case "isolate" | "ring":
            return [Fault(at, family, who), heal]
        case "one_way":
            return [Fault(at, family, who, float(chance.random() < 0.5)), heal]
        case "flap":
            period = chance.choice((0.1, 0.5, 1.0, 3.0))
            targets = (f"n{chance.randint(1, size)}",)
            kinds = ("isolate", "heal")
            return [Fault(at + period * turn, kinds[turn % 2], targets if turn % 2 == 0 else ()) for turn in range(8)]
        case "pause":
            return [Fault(at, family, who, chance.choice((0.05, 0.8, 2.5)))]
        case "slow_disk":
            node = (f"n{chance.randint(1, size)}",)
            return [Fault(at, family, node, chance.choice((10.0, 100.0))), Fault(heal.at, family, node, 1.0)]
        case "stall_disk":
            return [Fault(at, family, who, chance.choice((0.3, 1.2, 4.0)))]
        case "disk_full":
            return [Fault(at, family, who, chance.choice((0.1, 1.0, 4.0)))]
        case "clock":
            return [Fault(at, family, who, chance.choice((-3.0, -0.2, 0.2, 3.0)))]
        case "loss":
            return [Fault(at, family, (), chance.choice((0.3, 0.6, 0.9))), heal]
        case "hold":
            return [Fault(at, family, (chance.choice(HELD),), chance.choice((0.2, 0.7, 1.5)))]
        case "transfer":
            node = (chance.choice(("best", "random", "follower", f"n{chance.randint(1, size)}")),)
            if chance.random() < 0.5 or node == ("best",):
                return [Fault(at, family, node)]
            return [Fault(at, "isolate", (f"n{chance.randint(1, size)}",)), Fault(at + 0.01, family, node), heal]
        case "old_leader":  # A long tail of an old term meets a short one of a newer term (5.4.1).
            back = at + chance.choice((1.5, 3.0))
            faults = [Fault(at, "isolate", ("leader",)), Fault(at + 0.05, "burst", ("leader",), chance.randint(1, 9))]
            return [*faults, Fault(back, "heal"), Fault(back + 0.02, "crash", ("leader",), chance.choice((0.001, 5.0)))]
        case "nudge":
            return [Fault(at, family, who, float(chance.randrange(3)))]
        case "change":
            return [Fault(at, family, _changes(chance, size, spares), float(chance.random() < 0.5))]
        case _:
            return [Fault(at, family, who)]


def _changes(chance: Stream, size: int, spares: int) -> tuple[str, ...]:
    names = [f"n{number}" for number in range(1, size + spares + 1)]
    chosen = chance.sample(names, min(len(names), chance.choice((1, 1, 1, 2, 3))))
    words: list[str] = []
    for name in chosen:
        words += [chance.choice(("voter", "voter", "learner", "remove")), name]
    return tuple(words)
