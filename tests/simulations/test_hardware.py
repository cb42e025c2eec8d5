"""Faults of disks, links and versions: each does something, each is seen by a property when the core, or what stands
between the core and the hardware, is wrong; and experiments show where the guarantees end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from arc.raft.codec import decode
from arc.raft.effects import ReadEntries
from arc.raft.events import SnapshotTaken
from arc.raft.messages import Commit
from arc.raft.types import Peer, SnapshotMeta
from simulations import deeds, wire
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.host import Host
from simulations.mutants.plant import Edit, plant
from simulations.plan import Fault, Plan
from simulations.runner import PASSED, run
from simulations.scenarios import BY_NAME

SHOWS = {
    "late_majority": ("elected_in_an_old_term",),
    "bad_links": ("garbled_dropped", "link_refused", "lost_with_its_connection", "told_unreachable"),
    "rotten": ("rot_in_the_middle", "rot_at_the_end", "rot_found_while_running", "repaired"),
    "rotten_snapshot": ("rot_of_snapshot", "read_error", "tail_head_lost", "repaired"),
    "topologies": ("topology_star", "topology_constrained", "topology_chain", "topology_bridge"),
    "torn_pages": ("tail_torn", "prefix_started_from"),
    "versions": ("life_replayed",),
    "wiped": ("other_incarnation_refused",),
    "wrong_disks": ("foreign_disk_refused", "stale_disk_refused", "other_incarnation_refused"),
}
SEEDS = 5

EXPERIMENTS = {
    "guessed_tail": ("I-", 4),
    "late_clock": ("I-20", 6),
    "lying_disk": ("I-07", 12),
    "old_copy": ("I-10", 12),
    "over_budget": ("V-01", 12),
}

PLANTED: dict[str, tuple[str, str, list[Edit]]] = {
    "a damaged node votes": (
        "rotten",
        "I-30",
        [Edit("election", '    if state.is_damaged:\n        return "own log is damaged"  # I-30, K-53\n', "")],
    ),
    "a damaged node campaigns": (
        "rotten",
        "I-30",
        [Edit("state", "            and not self.is_damaged\n", "")],
    ),
    "whole without what was promised": (
        "rotten",
        "I-30",
        [Edit("snapshot", "state.writes.durable_index) >= state.repair_until", "state.writes.durable_index) >= 0")],
    ),
    "nobody asks for repair": (
        "rotten",
        "V-08",
        [Edit("snapshot", "and state.repair_term != state.term:", "and state.repair_term > state.term:")],
    ),
    "what was taken back is not forgotten": (
        "rotten",
        "V-08",
        [
            Edit(
                "snapshot",
                "    progress.forget(message.above, min(message.above, state.log.last_index) + 1, leading.round + 1)\n",
                "",
            )
        ],
    ),
    "what was said to another incarnation counts": (
        "wiped",
        "I-40",
        [Edit("core", "    if message.to != state.me:", "    if message.to.name != state.me.name:")],
    ),
    "a life remembers the one before": (
        "versions",
        "I-35",
        [
            Edit("state", "class Incoming:", "SEEN: list[float] = []\n\n\nclass Incoming:"),
            Edit(
                "state",
                "        self.timeout = self.rng.uniform(shortest, 2 * shortest)\n",
                "        SEEN.append(shortest)\n"
                "        self.timeout = self.rng.uniform(shortest, 2 * shortest) + len(SEEN) * 1e-6\n",
            ),
        ],
    ),
}
"""Bug: scenario, property, edits."""


@pytest.mark.parametrize("name", SHOWS)
def test_every_fault_does_something_and_the_core_stands_it(name: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        outcome = run(BY_NAME[name].plan(seed))
        assert outcome.verdict == PASSED, outcome.violation
        seen.update(outcome.probes)
    assert [probe for probe in SHOWS[name] if not seen[probe]] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_show_what_can_not_be_survived_and_nothing_else(name: str) -> None:
    """Over budget, the cluster stops and does not lie; the others would be lies of the hardware, and are seen."""
    shown, least = EXPERIMENTS[name]
    seen: Counter[str] = Counter()
    for seed in range(12):
        outcome = run(BY_NAME[name].plan(seed))
        assert outcome.verdict == PASSED, outcome.violation
        seen.update(probe for probe in outcome.probes if probe.startswith(f"shown_{shown}"))
    assert seen.total() >= least


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_seen_by_the_property_that_names_it(bug: str) -> None:
    scenario, killer, edits = PLANTED[bug]
    core = plant(f"hardware {bug}", edits)
    assert any(run(BY_NAME[scenario].plan(seed), core).killer == killer for seed in range(SEEDS))


def test_pre_votes_are_answered_by_those_who_do_not_use_them() -> None:
    """A mixed cluster: the only node that can win asks beforehand, and the other one would not think of it."""
    faults = (
        Fault(3.0, "upgrade", ("n1",), 1.0),
        Fault(6.0, "isolate", ("n1",)),
        Fault(6.1, "burst", ("n2",), 3.0),
        Fault(6.3, "crash", ("n2",), 0.2),
        Fault(7.0, "heal"),
    )
    deaf = plant(
        "hardware deaf",
        [
            Edit(
                "election",
                "    reason = _objection(state, message.sender, message.last_index, message.last_term)\n",
                "    if not state.config.is_pre_vote:\n        return\n"
                "    reason = _objection(state, message.sender, message.last_index, message.last_term)\n",
            )
        ],
    )
    plans = [Plan(seed=seed, size=2, seconds=9.0, faults=faults) for seed in range(SEEDS)]
    assert {run(plan).killer for plan in plans[:3]} == {""}
    assert any(run(plan, deaf).killer == "V-01" for plan in plans)


LEAK = [Edit("heartbeat", "        progress.free_first()  # What it waits for may be lost (F-01, F-02).\n", "")]
"""K-41: what was lost is never taken out of the window."""


@pytest.mark.parametrize("kind", ["freeze", "pause"])
def test_what_arrives_during_a_freeze_is_lost_and_during_a_pause_only_late(kind: str) -> None:
    config = {"window_messages_max": 2, "append_entries_max": 1}
    faults = tuple(Fault(1.5 + turn, kind, ("follower",), 0.4) for turn in range(9))
    plan = Plan(seed=0, seconds=12.0, config=config, think_seconds=0.03, faults=faults)
    assert run(plan).killer == ""
    assert run(plan, plant("hardware leak", LEAK)).killer == ("V-03" if kind == "freeze" else "")


def test_a_full_queue_loses_what_the_window_must_not_wait_for() -> None:
    network = NetworkShape(latency_seconds=0.02, queue_max=2)
    config = {"window_messages_max": 4, "append_entries_max": 1}
    plan = Plan(seed=0, seconds=12.0, network=network, config=config, think_seconds=0.03)
    assert run(plan).killer == ""
    assert run(plan, plant("hardware leak", LEAK)).killer == "V-03"


def test_a_second_sync_is_not_asked_after_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fsyncgate: the kernel dropped the pages, and the next sync says that all is well (I-12)."""

    def synced(host: Host, ticket: tuple[int, int]) -> None:
        (life, covered), disk = ticket, host.disk
        if life != host.life or not disk.is_failing:
            was(host, ticket)
            return
        disk.pending = [write for write in disk.pending if write.write_id > covered]
        disk.is_failing, disk.is_syncing, disk.done = False, False, covered
        host.world.at(host.world.now, deeds._persisted, host, ticket)
        if disk.pending:
            deeds._begin_sync(host)

    was = deeds._synced
    faults = tuple(Fault(2.0 + turn, "sync_fails", ("leader",), 1.0) for turn in range(4))
    plan = Plan(seed=0, seconds=8.0, think_seconds=0.02, faults=faults)
    assert run(plan).killer == ""
    monkeypatch.setattr(deeds, "_synced", synced)
    assert run(plan).killer == "I-12"


def killers(name: str, *, seeds: int = SEEDS) -> set[str]:
    """How runs end, up to the first that fails."""
    for seed in range(seeds):
        killer = run(BY_NAME[name].plan(seed)).killer
        if killer:
            return {killer}
    return {""}


def test_a_frame_without_a_look_at_its_checksum_becomes_another_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-32."""

    def trusting(data: bytes) -> object:
        try:
            return decode(data[wire.HEAD.size :])
        except ValueError:
            return None

    monkeypatch.setattr(wire, "unframe", trusting)
    assert "I-32" in killers("bad_links", seeds=30)


def test_noise_never_passes_the_checksum() -> None:
    """Flipped bits, cut ends, repeated parts; one in 2^32 would."""
    chance = stream(1, "noise")
    message = Commit(Peer("n1"), Peer("n2"), 7, 1234)
    for _ in range(3000):
        assert wire.unframe(wire.noise(wire.frame(message), chance)) in (None, message)
    assert wire.unframe(wire.frame(message)) == message
    assert wire.round_trip(message) == message


def test_a_codec_that_loses_something_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-32."""
    monkeypatch.setattr(wire, "decode", lambda data: Commit(Peer("n1"), Peer("n2"), 7, 1))
    with pytest.raises(Violation, match="I-32"):
        wire.round_trip(Commit(Peer("n1"), Peer("n2"), 7, 1234))


def test_a_completion_of_an_earlier_life_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-38."""

    def persisted(host: Host, ticket: tuple[int, int]) -> None:
        was(host, ticket if host.core is None else (host.life, ticket[1]))

    was = deeds._persisted
    monkeypatch.setattr(deeds, "_persisted", persisted)
    plans = [replace(BY_NAME["power_cut"].plan(seed), disk=DiskShape(report_seconds=0.3)) for seed in range(4)]
    assert "I-38" in {run(plan).killer for plan in plans}


def test_a_snapshot_that_counts_before_its_directory_is_synced_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log before it is gone, and after a crash so is its name."""

    def safe(host: Host, ticket: tuple[int, SnapshotMeta, bytes]) -> None:
        was(host, ticket)
        if ticket[0] == host.life and host.disk.renamed:
            meta = host.disk.renamed[-1]
            host.disk.issued.snapshot = meta
            image, host.disk.synced.snapshot = host.disk.synced.snapshot, meta
            host.step(SnapshotTaken(meta))
            host.disk.synced.snapshot = image

    was = deeds._snapshot_safe
    monkeypatch.setattr(deeds, "_snapshot_safe", safe)
    assert killers("rotten_snapshot") - {""}


def test_a_read_that_is_not_checked_hands_out_other_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misdirected read: the record says what it is, and somebody has to look."""

    def read(host: Host, effect: ReadEntries) -> None:
        first = host.disk.issued.base + 1
        was(host, effect._replace(first=first) if effect.first > first + 2 else effect)

    was = deeds._read_entries
    monkeypatch.setitem(deeds.DO, ReadEntries, read)
    assert killers("rotten") - {""}


def test_a_node_that_takes_any_disk_forgets_what_it_promised() -> None:
    """I-10, I-29: without the look at whose disk it is, and whether it is a copy."""
    plans = [replace(BY_NAME["wrong_disks"].plan(seed), is_disk_checked=False) for seed in range(SEEDS)]
    assert {run(plan).killer for plan in plans} - {""}


def test_damage_beyond_what_the_others_can_make_good_is_spared() -> None:
    """The atlas: in a cluster of three, a second copy is left alone while the first is not whole again."""
    plan = BY_NAME["over_budget"].plan(1)
    world = Cores(replace(plan, is_over_budget=False, expects=()))
    world.run()
    assert world.probes["rot_spared_by_atlas"] == 1
    assert sum(host.disk.damages for host in world.hosts.values()) == 1


def test_a_change_that_its_leader_has_not_taken_in_yet_counts_for_what_may_be_lost() -> None:
    """Swarm seed 523324: a frozen leader was asked to go on with n1 and n3 alone, and before it woke n3 was wiped."""
    faults = (
        Fault(1.4, "freeze", ("leader",), 0.8),
        Fault(2.0, "change", ("remove", "n2", "voter", "n3")),
        Fault(2.0, "wipe", ("n3",), 0.001),
    )
    world = Cores(Plan(scenario="swarm", seed=2, size=3, seconds=3.0, clients=1, faults=faults))
    world.run()
    assert world.leader is not None and world.probes["wipe_spared_by_atlas"] == 1
    assert sorted(peer.name for peer in world.leader.state.history.current.voters) == ["n1", "n3"]
