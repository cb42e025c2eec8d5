"""What a run of whole nodes will be, as a value, and the draw of one from a seed.

Like `simulations.plan`, but its nodes are complete: they have an HTTP server, a WAL, files and a query engine, so
sizes are those of a small database, and clients write rows and ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from simulations.chance import Stream, stream
from simulations.plan import Fault
from simulations.world_network import NetworkKind

KIB, MIB = 1 << 10, 1 << 20


class LogKind(NamedTuple):
    """What no operator may set of consensus, made small enough to matter in a short life."""

    segment_bytes: int = 4 * MIB
    snapshot_entries: int = 10_000
    trailing_entries: int = 10_000
    chunk_bytes: int = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPlan:
    """One run of whole nodes. ``config`` is section → key → value of `arc.config.Config`; seconds are simulated."""

    scenario: str = "world"
    seed: int = 0
    size: int = 1
    seconds: float = 30.0
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network: NetworkKind = NetworkKind()  # noqa: RUF009  # a tuple
    log: LogKind = LogKind()  # noqa: RUF009
    capacity_bytes: int = 64 * MIB
    threads: int = 8
    work_seconds: float = 0.0005
    """Mean of the pause before and after everything that a worker does."""
    clocks: tuple[float, ...] = ()
    """Rates of the machines' clocks."""
    clients: int = 3
    think_seconds: float = 0.2
    patience_seconds: float = 8.0
    """How long a client waits for an answer."""
    query_share: float = 0.15
    strong_share: float = 0.0
    """Of the queries: those that have to see all that was acknowledged before, whoever was told so."""
    flush_share: float = 0.03
    catalog_share: float = 0.05
    delete_share: float = 0.0
    key_share: float = 0.5
    bad_share: float = 0.05
    """Of the writes: those with a line that nobody can read."""
    reuse_share: float = 0.0
    """Of the writes: those that have the key of another one by mistake."""
    import_share: float = 0.0
    """Of the writes: those that are imports of a file."""
    rows_max: int = 8
    roles: tuple[str, ...] = ()
    """Of the machines, spares included; those beyond the end are standalone."""
    founding: str = "join"
    """``join``: the first node founds the cluster and a member adds the others. ``seeds``: they found it together."""
    spares: int = 0
    """Machines beyond ``size`` that are off until a fault ``join`` brings them in."""
    rows_age_seconds: float = 0.0
    """How much older than the start the rows are, beside the hours that they always are."""
    has_store: bool = False
    """Whether all nodes share an object store."""
    has_continuous: bool = False
    """Whether a continuous query sums up rows; it needs ``continuous.delay_seconds``."""
    window_seconds: float = 300.0
    """How long its windows are."""
    has_retention: bool = False
    """Whether a retention policy removes old rows."""
    has_drops: bool = False
    """Whether a measurement is dropped again and again."""
    takeover_seconds_max: float = 0.0
    """A writer that was killed has a successor within this; 0: however long it takes."""
    faults: tuple[Fault, ...] = ()

    def role(self, number: int) -> str:
        """Of a machine."""
        return self.roles[number] if number < len(self.roles) else "standalone"

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> WorldPlan:
        """From what `document` gave. Raises TypeError for a field that is not there."""
        values = dict(document)
        values["network"] = NetworkKind(*values["network"])
        values["log"] = LogKind(*values["log"])
        values["clocks"] = tuple(values["clocks"])
        values["roles"] = tuple(values.get("roles", ()))
        values["faults"] = tuple(
            Fault(at, kind, tuple(targets), amount) for at, kind, targets, amount in values["faults"]
        )
        return cls(**values)


LOGS = (LogKind(), LogKind(16 * KIB, 20, 5, 2 * KIB), LogKind(64 * KIB, 8, 0, 4 * KIB), LogKind(32 * KIB, 100, 50, MIB))
"""Drawn from. A snapshot must travel faster than entries come that its successor replaces, or who needs one never gets
the last: with pieces of 512 bytes a manifest of a thousand files took half a minute (seed 81389).
"""

FAULTS: Mapping[str, tuple[float, float]] = {
    "crash": (0.01, 3.0),
    "crash_in_write": (0.0, 25.0),
    "power_cut": (0.1, 3.0),
    "sync_fails": (0.0, 0.0),
    "disk_full": (1.0, 6.0),
    "slow_disk": (5.0, 200.0),
    "stall_disk": (0.5, 12.0),
    "clock": (-120.0, 120.0),
    "isolate": (0.2, 6.0),
    "break_streams": (0.0, 0.0),
    "pause": (0.2, 8.0),
    "stop": (0.0, 1.0),
    "snapshot": (0.0, 0.0),
}
"""Kinds that are drawn, and from where to where their amounts go."""

FAULTS_OF_SEVERAL: Mapping[str, tuple[float, float]] = {
    "transfer": (0.0, 0.0),
    "partition": (0.2, 6.0),
    "power_off": (0.1, 8.0),
    "asymmetric": (0.5, 6.0),
    "both": (0.1, 8.0),
    "drain": (0.5, 8.0),
    "failover": (0.0, 0.0),
    "flap": (0.0, 0.0),
    "rolling": (0.0, 1.0),
    "two_failovers": (0.1, 6.0),
    "wrong_secret": (1.0, 8.0),
}
"""Also drawn for more than one node."""

FAULTS_ONCE: Mapping[str, tuple[float, float]] = {"wipe": (0.5, 6.0), "join": (0.0, 0.0), "leave": (0.0, 0.0)}
"""Drawn for three nodes and more, once each: nobody loses more disks than the rest has copies of."""

FAULTS_OF_STORE: Mapping[str, tuple[float, float]] = {"store_away": (0.5, 12.0), "lose_files": (0.1, 4.0)}
"""Where there is a store; files may be lost on every disk, since all of them are there."""

ROT: tuple[float, ...] = (0.02, 0.2, 1.0)
"""Shares of the files on a disk that rot at once. Not where a disk is lost or given up besides: with two copies that
would be more than is promised. Nor where windows are summed up, since they may be summed up from what rotted.
"""

RECENT_SECONDS = -6520.0
"""``rows_age_seconds`` of rows that begin 58 minutes before the world does: in reach of a query that is made soon."""

AHEAD_SECONDS = 100 * 86_400.0
"""A clock that jumps so far has every row of a world too old for each policy."""

ROLES = ("standalone", "writer", "writer", "reader", "compactor")


def draw(seed: int, size: int = 0) -> WorldPlan:
    """A plan drawn from a seed: so many nodes (0: drawn), some kinds of faults, some shape of a node, some load."""
    chance = stream(seed, "world/plan")
    size = size or stream(seed, "world/size").choice((1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7))
    seconds = chance.uniform(12.0, 40.0)
    kinds = [kind for kind in (FAULTS if size == 1 else {**FAULTS, **FAULTS_OF_SEVERAL}) if chance.random() < 0.4]
    if chance.random() < 0.1:
        kinds = []
    # One cluster in four has little but its catalog to do, and full disks: only then do logs of consensus fill them.
    is_about_logs = size > 1 and stream(seed, "world/family").random() < 0.25
    if is_about_logs:
        kinds = [*kinds, "disk_full"]
    count = round(seconds / chance.uniform(2.0, 8.0)) if kinds else 0
    faults = tuple(sorted(_fault(chance, kinds, seconds, size) for _ in range(count)))
    roles, founding, spares, more = _cluster(stream(seed, "world/cluster"), seconds, size)
    has_store, troubles = _store(stream(seed, "world/store"), seconds, size)
    config = _config(chance)
    age = _compaction(stream(seed, "world/compaction"), config)
    delete_share = stream(seed, "world/delete").choice((0.0, 0.0, 0.03, 0.1))
    config["delete"] = {"enabled": True}
    has_continuous, window_seconds = _continuous(stream(seed, "world/continuous"), config)
    has_retention = _retention(stream(seed, "world/retention"), config)
    if has_retention and size > 1 and not has_continuous:
        more += _ahead(stream(seed, "world/ahead"), seconds)
    if size > 1:
        more += _hanging(stream(seed, "world/hanging"), seconds, config)
        more += _narrow(stream(seed, "world/narrow"), seconds)
    rotting: list[Fault] = []
    if size > 1 and not has_continuous and not any(fault.kind in FAULTS_ONCE for fault in more):
        rotting = _rot(stream(seed, "world/rot"), seconds, size, config)
    return WorldPlan(
        seed=seed,
        size=size,
        seconds=seconds,
        config=config,
        network=NetworkKind(
            latency_seconds=_logarithmic(chance, 0.0001, 0.02),
            tail_chance=chance.choice((0.0, 0.01, 0.1)),
            tail_seconds=_logarithmic(chance, 0.005, 0.5),
            buffer_bytes=chance.choice((4 * KIB, 64 * KIB, 256 * KIB)),
        ),
        log=LOGS[1] if is_about_logs else stream(seed, "world/log").choice(LOGS),
        capacity_bytes=chance.choice((24, 64)) * MIB,
        threads=chance.choice((2, 4, 64)),
        work_seconds=min(_logarithmic(chance, 0.0001, 0.01), 0.0005 if rotting else 1.0),
        clocks=tuple(chance.choice((1.0, 1.0, 0.99, 1.01)) for _ in range(size)),
        clients=chance.choice((1, 2, 4, 8)),
        think_seconds=_logarithmic(chance, 0.1, 1.0),
        query_share=chance.choice((0.0, 0.03, 0.1)),
        strong_share=stream(seed, "world/strong").choice((0.0, 0.2, 0.8)),
        flush_share=chance.choice((0.0, 0.02, 0.05)),
        catalog_share=max(chance.choice((0.0, 0.05, 0.2)), 0.8 * is_about_logs),
        delete_share=delete_share,
        key_share=chance.choice((0.0, 0.5, 1.0)),
        bad_share=stream(seed, "world/bad").choice((0.05, 0.05, 0.5)),
        reuse_share=stream(seed, "world/reuse").choice((0.0, 0.02, 0.1)),
        import_share=stream(seed, "world/import").choice((0.0, 0.0, 0.05)),
        rows_max=chance.choice((1, 8, 60)),
        roles=roles,
        founding=founding,
        spares=spares,
        rows_age_seconds=RECENT_SECONDS if has_continuous else age,
        has_store=has_store,
        has_continuous=has_continuous,
        window_seconds=window_seconds,
        has_retention=has_retention,
        has_drops=stream(seed, "world/drops").random() < 0.25,
        faults=tuple(sorted((*faults, *more, *troubles, *rotting))),
    )


def _cluster(chance: Stream, seconds: float, size: int) -> tuple[tuple[str, ...], str, int, list[Fault]]:
    """Roles, founding, spares, and the faults that come at most once: a node comes, one goes, one loses its disk."""
    if size == 1:
        return (), "join", 0, []
    founding = chance.choice(("join", "seeds"))
    once = [kind for kind in FAULTS_ONCE if size >= 3 and chance.random() < 0.25]
    spares = 1 if "join" in once else 0
    roles: tuple[str, ...] = ()
    if chance.random() < 0.4:
        # Two that take writes come first: the others follow, read, or merge.
        able = [chance.choice(("standalone", "writer")) for _ in range(2)]
        roles = (*able, *(chance.choice(ROLES) for _ in range(size + spares - 2)))
    faults = []
    for kind in once:
        low, high = FAULTS_ONCE[kind]
        who = chance.choice((f"n{chance.randrange(size) + 1}", "leader", "writer"))
        faults.append(Fault(round(chance.uniform(1.0, seconds), 3), kind, (who,), round(chance.uniform(low, high), 3)))
    return roles, founding, spares, faults


def _store(chance: Stream, seconds: float, size: int) -> tuple[bool, list[Fault]]:
    """Whether there is a shared store, and what happens to it and to files that are in it."""
    if chance.random() >= 0.25:
        return False, []
    faults = []
    for _ in range(chance.choice((0, 1, 2, 4))):
        kind = chance.choice(list(FAULTS_OF_STORE))
        low, high = FAULTS_OF_STORE[kind]
        who = chance.choice((f"n{chance.randrange(size) + 1}", "writer", "all"))
        faults.append(Fault(round(chance.uniform(1.0, seconds), 3), kind, (who,), round(chance.uniform(low, high), 3)))
    return True, faults


def _rot(chance: Stream, seconds: float, size: int, config: dict[str, dict[str, Any]]) -> list[Fault]:
    """One world in four: bits flip on disks, and nodes read their files again every few seconds."""
    if chance.random() >= 0.25:
        return []
    config["replication"] = {"look_seconds": 2.0, "scrub_days": chance.choice((4.0, 12.0)) / 86_400}
    faults = []
    for _ in range(chance.choice((1, 2, 4))):
        who, share = f"n{chance.randrange(size) + 1}", chance.choice(ROT)
        faults.append(Fault(round(chance.uniform(0.3 * seconds, seconds), 3), "rot", (who,), share))
    return faults


def _fault(chance: Stream, kinds: list[str], seconds: float, size: int) -> Fault:
    kind = chance.choice(kinds)
    low, high = FAULTS[kind] if kind in FAULTS else FAULTS_OF_SEVERAL[kind]
    who = (
        f"n{chance.randrange(size) + 1}"
        if size == 1 or chance.random() < 0.5
        else chance.choice(("leader", "writer", "compactor"))
    )
    return Fault(round(chance.uniform(1.0, seconds), 3), kind, (who,), round(chance.uniform(low, high), 3))


def _config(chance: Stream) -> dict[str, dict[str, Any]]:
    """Small sizes, so that a short life rotates, flushes and releases often."""
    return {
        "wal": {
            "segment_bytes": chance.choice((16, 32, 128)) * KIB,
            "group_bytes": chance.choice((8, 64)) * KIB,
            "max_bytes": chance.choice((64, 1024)) * KIB,
        },
        "ingest": {
            "flush_rows": chance.choice((20, 200, 1_000_000)),
            "flush_age_seconds": chance.choice((1.0, 5.0, 600.0)),
            "flush_workers": chance.choice((1, 3)),
            "write_timeout_seconds": chance.choice((2.0, 30.0)),
        },
        "storage": {"reserve_bytes": chance.choice((0, 256)) * KIB},
        "server": {"keep_alive_seconds": chance.choice((1.0, 75.0))},
    }


def _compaction(chance: Stream, config: dict[str, dict[str, Any]]) -> float:
    """Two worlds in three merge what they can as soon as they can, half of them rows of a day that is over."""
    if chance.random() < 1 / 3:
        return 0.0
    config["storage"]["delete_grace_seconds"] = chance.choice((1.0, 30.0))
    config["compaction"] = {
        "hourly_min_age_seconds": chance.choice((0.0, 2.0)),
        "hourly_min_files": chance.choice((2, 4)),
        "daily_min_age_seconds": 0.0,
        "daily_min_files": chance.choice((2, 4)),
        "late_min_files": chance.choice((2, 4)),
        "late_quiet_seconds": chance.choice((1.0, 86_400.0)),
        "size_ratio": chance.choice((1.0, 4.0)),
        "target_file_bytes": MIB,
        "memory_bytes": 32 * MIB,
        "poll_seconds": chance.choice((0.3, 2.0)),
    }
    return chance.choice((0.0, 86_400.0))


def _continuous(chance: Stream, config: dict[str, dict[str, Any]]) -> tuple[bool, float]:
    """One world in three sums up rows, in windows of so many seconds."""
    if chance.random() >= 1 / 3:
        return False, 300.0
    config["continuous"] = {
        "delay_seconds": chance.choice((0.5, 2.0)),
        "late_check_seconds": chance.choice((0.5, 3.0)),
        "concurrent": chance.choice((1, 2)),
    }
    return True, chance.choice((120.0, 300.0, 600.0))


def _retention(chance: Stream, config: dict[str, dict[str, Any]]) -> bool:
    """One world in four has rows that are too old, and looks for them all the time."""
    if chance.random() >= 0.25:
        return False
    config["retention"] = {"every_seconds": chance.choice((0.5, 3.0))}
    return True


def _ahead(chance: Stream, seconds: float) -> list[Fault]:
    """In every second world with a policy one clock jumps far ahead."""
    if chance.random() < 0.5:
        return []
    who = chance.choice(("n1", "n2", "leader", "writer"))
    return [Fault(round(chance.uniform(1.0, seconds), 3), "clock", (who,), AHEAD_SECONDS)]


def _hanging(chance: Stream, seconds: float, config: dict[str, dict[str, Any]]) -> list[Fault]:
    """In one cluster of four a disk is given one second, and that of the writer stands still for longer."""
    if chance.random() < 0.75:
        return []
    config["wal"]["stall_seconds"] = 1.0
    return [Fault(round(chance.uniform(1.0, seconds), 3), "stall_disk", ("writer",), chance.uniform(2.0, 12.0))]


def _narrow(chance: Stream, seconds: float) -> list[Fault]:
    """In one cluster of four a node sends slowly for a while: about as fast as rows come, or far slower."""
    if chance.random() < 0.75:
        return []
    who = chance.choice(("n1", "leader", "writer", "writer"))
    return [Fault(round(chance.uniform(1.0, seconds), 3), "narrow", (who,), _logarithmic(chance, 10_000.0, 300_000.0))]


def _logarithmic(chance: Stream, low: float, high: float) -> float:
    return float(low * (high / low) ** chance.random())
