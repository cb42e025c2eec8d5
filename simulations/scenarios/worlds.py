"""Named runs of whole nodes: each way in which a cluster loses, moves or changes who leads and who writes.

Settings are the defaults, except for sizes, which are small, so that logs rotate and buffers flush in a short life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulations.chance import stream
from simulations.plan import Fault
from simulations.world_plan import AHEAD_SECONDS, RECENT_SECONDS, LogKind, WorldPlan, draw

SMALL = {"wal": {"segment_bytes": 16384, "max_bytes": 65536}, "ingest": {"flush_rows": 30, "flush_age_seconds": 2.0}}
SMALL_LOG = LogKind(16384, 20, 5, 2048)

MERGING = {
    "hourly_min_age_seconds": 0.0,
    "hourly_min_files": 2,
    "daily_min_age_seconds": 0.0,
    "daily_min_files": 2,
    "late_min_files": 2,
    "late_quiet_seconds": 5.0,
    "size_ratio": 4.0,
    "poll_seconds": 0.3,
}
"""Everything is merged as soon as it can be."""

TAKEOVER_SECONDS_MAX = 5.0
"""From the loss of the writer to a new epoch, with default settings, while a leader and a node in sync are there."""

ELECTION_SECONDS = 3.0
"""What it may take longer when the leader is lost with it: first the election, then the new one hears everybody."""

STALL_SECONDS = 5.0
"""How long a disk is given, with default settings, before it counts as one that stands still."""

NARROW_BYTES_PER_SECOND = (8_000.0, 14_000.0)
"""Of a line that is too narrow for rows, and wide enough for what nodes have to say of themselves."""


def _plan(name: str, seed: int, *faults: Fault, seconds: float = 12.0, **more: Any) -> WorldPlan:
    chance = stream(seed, f"scenario/{name}")
    plan: dict[str, Any] = {
        "size": 3,
        "clients": 3,
        "think_seconds": 0.25,
        "config": SMALL,
        "key_share": 0.7,
        "founding": chance.choice(("join", "seeds")),
    }
    return replace(WorldPlan(scenario=name, seed=seed, seconds=seconds, faults=tuple(sorted(faults))), **(plan | more))


def _leader_loss(seed: int) -> WorldPlan:
    faults = [Fault(1.5, "crash", ("leader",), 3.0), Fault(6.0, "power_off", ("leader",), 3.0)]
    return _plan("world_leader_loss", seed, *faults)


def _writer_loss(seed: int) -> WorldPlan:
    """Roles keep the leader elsewhere now and then; the writer stays away for longer than a takeover takes."""
    chance = stream(seed, "scenario/world_writer_loss/kind")
    faults = [
        Fault(1.5, "transfer", ("leader",)),
        Fault(3.0, chance.choice(("crash", "power_off")), ("writer",), 8.0),
    ]
    longest = TAKEOVER_SECONDS_MAX + ELECTION_SECONDS
    return _plan("world_writer_loss", seed, *faults, takeover_seconds_max=longest)


def _stalled_writer(seed: int) -> WorldPlan:
    """The disk of the writer stands still for longer than a takeover takes. The node lives, is heard, may lead."""
    faults = [Fault(1.5, "transfer", ("leader",)), Fault(3.0, "stall_disk", ("writer",), 20.0)]
    longest = STALL_SECONDS + TAKEOVER_SECONDS_MAX + ELECTION_SECONDS
    return _plan("world_stalled_writer", seed, *faults, seconds=18.0, takeover_seconds_max=longest)


def _narrow_writer(seed: int) -> WorldPlan:
    """More rows come than the line of the writer carries to the others, and then it is lost. Another one leads."""
    chance = stream(seed, "scenario/world_narrow_writer/rate")
    faults = [
        Fault(1.0, "transfer", ("leader",)),
        Fault(1.6, "narrow", ("writer",), chance.uniform(*NARROW_BYTES_PER_SECOND)),
        Fault(6.0, "crash", ("writer",), 20.0),
    ]
    more = {"clients": 8, "think_seconds": 0.1, "rows_max": 60, "query_share": 0.0}
    longest = TAKEOVER_SECONDS_MAX + ELECTION_SECONDS
    plan = _plan("world_narrow_writer", seed, *faults, seconds=9.0, takeover_seconds_max=longest, **more)
    return replace(plan, network=plan.network._replace(buffer_bytes=16 * 1024))


def _both(seed: int) -> WorldPlan:
    faults = [Fault(1.5, "transfer", ("leader",)), Fault(3.0, "both", (), 6.0)]
    return _plan("world_both", seed, *faults, size=5, clients=2, seconds=11.0)


def _flap(seed: int) -> WorldPlan:
    chance = stream(seed, "scenario/world_flap/who")
    return _plan("world_flap", seed, Fault(1.5, "flap", (chance.choice(("leader", "writer", "random")),)), seconds=13.0)


def _asymmetric(seed: int) -> WorldPlan:
    faults = [Fault(1.5, "asymmetric", ("writer",), 3.0), Fault(6.5, "asymmetric", ("leader",), 3.0)]
    return _plan("world_asymmetric", seed, *faults)


def _paused_primary(seed: int) -> WorldPlan:
    """It wakes up as the writer of an epoch that is long over, with requests in its hands."""
    chance = stream(seed, "scenario/world_paused_primary/seconds")
    faults = [Fault(1.5, "pause", ("writer",), chance.uniform(2.5, 7.0))]
    return _plan("world_paused_primary", seed, *faults)


def _joins(seed: int) -> WorldPlan:
    """Two come and two go while clients write."""
    faults = [
        Fault(1.0, "join"),
        Fault(3.0, "leave", ("writer",)),
        Fault(5.0, "join"),
        Fault(7.0, "leave", ("leader",)),
    ]
    return _plan("world_joins", seed, *faults, spares=2, log=SMALL_LOG)


def _two_failovers(seed: int) -> WorldPlan:
    return _plan("world_two_failovers", seed, Fault(1.5, "two_failovers", (), 7.0), size=5, clients=2)


def _two_lost(seed: int) -> WorldPlan:
    """The writer, and another node with it that had all it wrote: until that one is left out, its successor shows
    nothing new, and everybody asks strongly. It was not told of the last that is durable: what the writer heard and
    said to clients in its last moments it could tell no other node any more.
    """
    name = "world_two_lost"
    faults = [
        Fault(2.7, "mute", ("writer",), 1.0),
        Fault(3.3, "crash", ("writer",), 20.0),
        Fault(3.3, "crash", ("random",), 20.0),
    ]
    more = {"strong_share": 1.0, "query_share": 0.5, "clients": 24, "think_seconds": 0.02}
    plan = _plan(name, seed, *faults, size=5, seconds=6.5, **more)
    return replace(plan, network=plan.network._replace(latency_seconds=0.08))


def _registrar_leader_loss(seed: int) -> WorldPlan:
    """Files are registered all the time, and leaders go while they are asked for it."""
    faults = [
        Fault(1.5, "crash", ("leader",), 1.0),
        Fault(4.0, "isolate", ("leader",), 2.0),
        Fault(7.0, "crash_in_write", ("leader",), 6.0),
        Fault(9.0, "transfer", ("leader",)),
    ]
    config = SMALL | {"ingest": {"flush_rows": 10, "flush_age_seconds": 1.0}}
    return _plan("world_registrar_leader_loss", seed, *faults, config=config, flush_share=0.1)


def _compaction(seed: int) -> WorldPlan:
    """Everything is merged all the time, and whoever merges is lost in every way while queries run."""
    chance = stream(seed, "scenario/world_compaction")
    faults = [
        Fault(1.5, "crash_in_write", ("compactor",), chance.choice((1.0, 3.0, 6.0, 9.0))),
        Fault(4.0, chance.choice(("crash", "power_off", "pause", "isolate")), ("compactor",), chance.uniform(0.5, 6.0)),
        Fault(7.0, "crash", ("writer",), 1.0),
        Fault(9.0, chance.choice(("isolate", "asymmetric")), ("compactor",), 2.0),
    ]
    config = SMALL | {
        "ingest": {"flush_rows": 10, "flush_age_seconds": 0.5},
        "compaction": MERGING,
        "storage": {"delete_grace_seconds": 1.0},
        # A compactor that is gone is replaced while the run lasts.
        "failover": {"compactor_patience_seconds": 2.0, "compactor_cooldown_seconds": 1.0},
    }
    age = chance.choice((0.0, 86_400.0))
    more = {"query_share": 0.3, "flush_share": 0.1, "rows_age_seconds": age, "seconds": 14.0}
    return _plan("world_compaction", seed, *faults, config=config, **more)


def _aimed(seed: int, name: str) -> list[Fault]:
    """Whoever writes, and so has things done with rows, is lost in every way."""
    chance = stream(seed, f"scenario/{name}/faults")
    return [
        Fault(2.0, "crash_in_write", ("writer",), chance.choice((1.0, 3.0, 6.0, 9.0))),
        Fault(4.5, chance.choice(("crash", "power_off", "pause", "isolate")), ("writer",), chance.uniform(0.5, 6.0)),
        Fault(8.0, chance.choice(("failover", "drain", "transfer")), ("writer",), 2.0),
        Fault(10.0, "crash_in_write", ("writer",), chance.choice((2.0, 4.0, 8.0, 12.0))),
    ]


def _continuous(seed: int) -> WorldPlan:
    """Windows are executed again and again as their rows come in, by one writer after the other."""
    name = "world_continuous"
    chance = stream(seed, f"scenario/{name}")
    config = SMALL | {"continuous": {"delay_seconds": 0.5, "late_check_seconds": 0.5}}
    more = {"has_continuous": True, "rows_age_seconds": RECENT_SECONDS, "window_seconds": 120.0, "rows_max": 3}
    if chance.random() < 0.5:
        config |= {"compaction": MERGING, "storage": {"delete_grace_seconds": 1.0}}
    jump = Fault(6.0, "clock", ("writer",), chance.choice((-120.0, 120.0)))
    return _plan(name, seed, *_aimed(seed, name), jump, config=config, seconds=14.0, **more)


def _retention(seed: int) -> WorldPlan:
    """Rows that are too old are removed as soon as they are in files, and merged meanwhile."""
    name = "world_retention"
    config = SMALL | {
        "ingest": {"flush_rows": 10, "flush_age_seconds": 0.5},
        "retention": {"every_seconds": 0.5},
        "compaction": MERGING,
        "storage": {"delete_grace_seconds": 1.0},
    }
    return _plan(name, seed, *_aimed(seed, name), config=config, seconds=14.0, clients=1, has_retention=True)


def _years_ahead(seed: int) -> WorldPlan:
    """The clocks of two writers jump so far ahead that by them every row is too old."""
    name = "world_years_ahead"
    jumps = [Fault(at, "clock", ("writer",), AHEAD_SECONDS) for at in (3.0, 9.0)]
    return replace(_retention(seed), scenario=name, faults=(*_aimed(seed, name), *jumps))


def _drops(seed: int) -> WorldPlan:
    """A measurement is dropped while it is written to, and made anew by the next row."""
    name = "world_drops"
    config = SMALL | {"delete": {"enabled": True}}
    return _plan(name, seed, *_aimed(seed, name), config=config, seconds=14.0, clients=1, has_drops=True)


def _rolling(seed: int) -> WorldPlan:
    return _plan("world_rolling", seed, Fault(1.5, "rolling", (), 0.3), seconds=24.0)


def _wiped(seed: int) -> WorldPlan:
    chance = stream(seed, "scenario/world_wiped/who")
    return _plan("world_wiped", seed, Fault(2.5, "wipe", (chance.choice(("writer", "leader", "random")),), 4.0))


def _store(seed: int) -> WorldPlan:
    """Files are put while the store is away, by a writer that is lost; then no disk has any file left."""
    chance = stream(seed, "scenario/world_store")
    faults = [
        Fault(1.5, "store_away", (), chance.uniform(1.0, 5.0)),
        Fault(3.0, "crash", ("writer",), 1.0),
        Fault(8.0, "lose_files", ("all",), 1.0),
    ]
    return _plan("world_store", seed, *faults, has_store=True, seconds=13.0)


def _wrong_secret(seed: int) -> WorldPlan:
    faults = [Fault(1.0, "wrong_secret", (), 8.0), Fault(3.0, "crash", ("leader",), 1.0)]
    return _plan("world_wrong_secret", seed, *faults, seconds=11.0)


def _clock(seed: int) -> WorldPlan:
    """Wall clocks jump by hours in both directions; what is decided goes by clocks that do not."""
    chance = stream(seed, "scenario/world_clock/jumps")
    faults = [
        Fault(1.0 + nth * 1.3, "clock", (who,), chance.choice((-1.0, 1.0)) * chance.choice((5.0, 600.0, 90_000.0)))
        for nth, who in enumerate(("leader", "writer", "random", "leader", "writer", "random"))
    ]
    faults += [Fault(4.0, "failover", ()), Fault(6.0, "crash", ("writer",), 4.0)]
    return _plan("world_clock", seed, *faults, clocks=(0.99, 1.0, 1.01))


WORLDS: tuple[tuple[str, str, Callable[[int], WorldPlan]], ...] = (
    ("world_asymmetric", "whole nodes that are heard and do not hear, and the reverse", _asymmetric),
    ("world_both", "leader and writer lost at once", _both),
    ("world_clock", "wall clocks jump while leases move", _clock),
    ("world_compaction", "whoever merges files is lost, in every way, while queries run", _compaction),
    ("world_continuous", "the writer is lost while it executes continuous queries", _continuous),
    ("world_drops", "a measurement dropped and made anew while writers are lost", _drops),
    ("world_flap", "a node cut off and back about as fast as it is noticed", _flap),
    ("world_joins", "nodes come and go under load", _joins),
    ("world_leader_loss", "whole nodes lose their leader", _leader_loss),
    ("world_narrow_writer", "more rows than the line of the writer carries, and then its loss", _narrow_writer),
    ("world_paused_primary", "the writer sleeps through its own succession", _paused_primary),
    ("world_registrar_leader_loss", "leaders lost while files are registered", _registrar_leader_loss),
    ("world_retention", "old rows removed by whoever writes, merged meanwhile", _retention),
    ("world_rolling", "one node after the other stopped in order and started again", _rolling),
    ("world_stalled_writer", "the disk of the writer stands still, and the node lives on", _stalled_writer),
    ("world_store", "a store that all share, away for a while, and every file lost on every disk", _store),
    ("world_two_failovers", "the writer lost, and at once its successor", _two_failovers),
    (
        "world_two_lost",
        "the writer and one more of the in-sync set lost at once, while everybody asks strongly",
        _two_lost,
    ),
    ("world_wiped", "a disk lost: back only after its removal, and then whole again", _wiped),
    ("world_writer_loss", "the writer lost: a successor in bounded time, nothing lost or doubled", _writer_loss),
    ("world_wrong_secret", "somebody with another secret wants in", _wrong_secret),
    ("world_years_ahead", "clocks of writers by which every row is too old", _years_ahead),
)
"""Name, what it shows, and the plan of a seed."""


def _named(seed: int) -> WorldPlan:
    """Keeps the name of the scenario, so that the last line of a report repeats it."""
    return WORLDS[seed % len(WORLDS)][2](seed)


DRAWN: tuple[tuple[str, str, Callable[[int], WorldPlan]], ...] = (
    ("world", "whole nodes instead of bare cores: storage, WAL, HTTP; everything drawn from the seed", draw),
    ("world_named", "the scenarios of whole nodes in turn, one per seed", _named),
)

NAMED = {name: plan for name, _, plan in (*WORLDS, *DRAWN)}
