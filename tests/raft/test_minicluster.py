"""A few hundred short lives of a small cluster under faults; see `minicluster` for what is checked as they run."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from arc.raft.config import Config
from arc.raft.effects import Committed, Readable
from arc.raft.events import Change, ChangeKind
from arc.raft.types import HardState, Peer, Stored
from tests.raft.minicluster import Cluster, Host

SEEDS = int(os.environ.get("ARC_RAFT_SEEDS", "160"))
FIRST = int(os.environ.get("ARC_RAFT_FIRST_SEED", "0"))
BLOCKS = 8
PROBES: Counter[str] = Counter()


def life(seed: int) -> Cluster:
    """Faults for a while, then peace, then everything must work again."""
    draw = Cluster(f"draw{seed}", 1).chance
    size = draw.choice([1, 2, 3, 3, 4, 5])
    is_safe = draw.random() < 0.8
    config = Config(
        is_pre_vote=draw.random() < 0.7,
        is_check_quorum=is_safe or draw.random() < 0.5,
        is_sticky=is_safe,
        is_lease_read=is_safe and draw.random() < 0.3,
        trailing_entries=draw.choice([0, 1, 4, 100]),
        trailing_entries_max=draw.choice([0, 8, 100]),
        snapshot_chunk_bytes=draw.choice([16, 64, 100_000]),
        window_messages_max=draw.choice([1, 2, 64]),
        append_entries_max=draw.choice([1, 3, 1000]),
        memory_bytes_max=draw.choice([64, 400, 1 << 20]),
        apply_bytes_max=draw.choice([1, 100, 1 << 20]),
        uncommitted_entries_max=draw.choice([4, 1000]),
    )
    cluster = Cluster(seed, size, loss=draw.choice([0.0, 0.05, 0.2]), config=config)
    cluster.snapshot_every = draw.choice([0, 3, 10])
    cluster.disk_seconds = draw.choice([0.0005, 0.003, 0.05, 0.4])
    cluster.latency = draw.choice([0.001, 0.005, 0.05])
    churn = draw.random() < 0.4
    restart_seconds = draw.choice([0.001, 0.3, 1.0, 4.0])
    joined = size
    writes = 0
    for step in range(draw.randint(20, 60)):
        cluster.run(draw.uniform(0, 0.5))
        hosts = list(cluster.hosts.values())
        roll = draw.random()
        if roll < 0.45:
            for _ in range(draw.randint(1, 8)):
                writes += 1
                host = cluster.leader if draw.random() < 0.9 else draw.choice(hosts)
                cluster.propose(f"w{writes}", f"w{writes}".encode(), host)
        elif roll < 0.60:
            cluster.read(f"r{step}", draw.choice(hosts))
        elif roll < 0.72:
            host = draw.choice(hosts if draw.random() < 0.5 else [cluster.leader or hosts[0]])
            if host.core is not None:
                host.crash()
                cluster.later(draw.choice([restart_seconds, 0.001]), lambda h=host: h.core is None and h.start())
        elif roll < 0.82:
            cluster.isolate(draw.choice(list(cluster.hosts)))
        elif roll < 0.90:
            cluster.heal()
        elif roll < 0.91:
            draw.choice(hosts).fill_disk()
        elif roll < 0.92:
            cluster.unreachable(draw.choice(hosts), draw.choice(list(cluster.hosts)))
        elif roll < 0.95:
            cluster.transfer(f"t{step}", draw.choice([None, *cluster.hosts]))
        elif churn:
            known = draw.choice(list(cluster.hosts))
            pick = draw.random()
            if pick < 0.4 and joined < 7:
                joined += 1
                newcomer = Peer(f"n{joined}")
                cluster.join(newcomer)
                changes = [Change(ChangeKind.VOTER, newcomer)]
                if draw.random() < 0.5:
                    changes.append(Change(ChangeKind.REMOVE, known))
            else:
                changes = [Change(draw.choice(list(ChangeKind)), known)]
            cluster.change(f"c{step}", *changes, is_catch_up=draw.random() < 0.5)
    recover(cluster)
    return cluster


def recover(cluster: Cluster) -> None:
    """V-01, V-02, V-03: in peace a leader comes, writes and reads work, all members agree."""
    cluster.heal()
    cluster.loss = cluster.duplicate = 0.0
    cluster.disk_seconds = min(cluster.disk_seconds, 0.05)
    for host in cluster.hosts.values():
        if host.core is None:
            host.start()
    cluster.run(30.0)
    leader = cluster.leader
    assert leader is not None, ("V-01", [host.core for host in cluster.hosts.values()])
    cluster.propose("w-last", b"w-last")
    cluster.read("r-last", leader)
    cluster.run(10.0)
    assert isinstance(cluster.answers.get("w-last"), Committed), ("V-02", cluster.answers.get("w-last"), leader.core)
    assert isinstance(cluster.answers.get("r-last"), Readable), "V-02"
    term = leader.core.term if leader.core else 0
    cluster.run(20.0)
    assert leader.core is not None and leader.core.is_leader and leader.core.term == term, "V-07"
    status = leader.core.status()
    assert not status.configuration.is_joint, "V-04"
    for peer in (*status.configuration.voters, *status.configuration.learners):
        host = cluster.hosts[peer]
        assert host.core is not None
        assert host.applied == status.commit == host.core.status().commit, ("V-03", host.core, leader.core)
        assert host.machine == leader.machine, "I-24"
    assert status.uncommitted == status.uncommitted_bytes == status.reads == 0, "V-10"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_short_lives_under_faults_stay_safe_and_recover(block: int) -> None:
    """I-01 to I-28 as far as a small cluster shows them; Z-01, Z-06, R-15, D-01."""
    for seed in range(FIRST + block, FIRST + SEEDS, BLOCKS):
        try:
            cluster = life(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        PROBES.update(cluster.probes)


def calm(seed: int, size: int = 3, **options: Any) -> Cluster:
    cluster = Cluster(f"calm{seed}", size, config=Config(**options))
    cluster.run(5.0)
    return cluster


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_one_leader_stays_and_everything_is_acknowledged(seed: int) -> None:
    """Z-02, E-08, R-06: the control run; anything else would be the tests' own noise."""
    cluster = calm(seed, 5)
    term = cluster.leader and cluster.leader.core and cluster.leader.core.term
    for number in range(50):
        cluster.propose(f"w{number}", f"w{number}".encode())
        cluster.run(0.05)
    cluster.run(1.0)
    assert all(isinstance(cluster.answers[f"w{number}"], Committed) for number in range(50))
    assert cluster.leader is not None and cluster.leader.core is not None and cluster.leader.core.term == term


@pytest.mark.parametrize("seed", range(3))
def test_leaders_are_cut_off_one_after_the_other_and_nothing_is_lost(seed: int) -> None:
    """Z-06, Z-01, Q-06, E-08: ten rounds; what was acknowledged is there in the end."""
    cluster = calm(seed, 5)
    for turn in range(10):
        if cluster.leader is not None:
            cluster.isolate(cluster.leader.peer)
        cluster.run(4.0)
        cluster.propose(f"w{turn}", f"w{turn}".encode())
        cluster.run(1.0)
        cluster.heal()
        cluster.run(1.0)
    recover(cluster)
    acknowledged = [name for name, answer in cluster.answers.items() if isinstance(answer, Committed)]
    machine = next(iter(cluster.hosts.values())).machine
    assert len(acknowledged) > 8 and all(f"{name};".encode() in machine for name in acknowledged)


def test_slow_votes_delay_an_election_and_break_nothing() -> None:
    """Z-03: messages take as long as an election timeout."""
    cluster = Cluster("slow", 3)
    cluster.latency = 0.3
    recover(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_leadership_goes_round_under_load_without_loss(seed: int) -> None:
    """Z-05, L-07, E-09: every proposal is acknowledged, refused or unknown, and none is applied twice."""
    cluster = calm(seed, 3)
    for turn in range(20):
        cluster.propose(f"w{turn}", f"w{turn}".encode())
        cluster.transfer(f"t{turn}")
        cluster.run(0.7)
    recover(cluster)
    machine = next(iter(cluster.hosts.values())).machine
    assert len(cluster.leaders) > 10
    for turn in range(20):
        count = machine.count(f"w{turn};".encode())
        assert count <= 1 and (count == 1 or not isinstance(cluster.answers.get(f"w{turn}"), Committed))


@pytest.mark.parametrize("seed", range(3))
def test_all_are_killed_at_once_and_come_back(seed: int) -> None:
    """Z-06, D-01: whatever was acknowledged was on a majority of disks."""
    cluster = calm(seed, 3)
    cluster.disk_seconds = 0.02
    for number in range(30):
        cluster.propose(f"w{number}", f"w{number}".encode())
        cluster.run(0.004)
    acknowledged = [name for name, answer in cluster.answers.items() if isinstance(answer, Committed)]
    for host in cluster.hosts.values():
        host.crash()
    recover(cluster)
    machine = next(iter(cluster.hosts.values())).machine
    assert acknowledged and all(f"{name};".encode() in machine for name in acknowledged)


@pytest.mark.parametrize(
    "cuts",
    [
        # n1 leads. Quorum loss: all reach only n3. Constrained: n1 is gone, all reach only n3. Chained: n1 - n3 - n2.
        [(1, 2), (1, 4), (1, 5), (2, 4), (2, 5), (4, 5)],
        [(1, 2), (1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (4, 5)],
        [(1, 2)],
    ],
    ids=["quorum loss", "constrained election", "chained"],
)
def test_partial_partitions_find_a_leader_in_few_terms(cuts: list[tuple[int, int]]) -> None:
    """Q-08: whoever has a quorum connected comes to lead, and it stays so."""
    size = 3 if len(cuts) == 1 else 5
    cluster = calm(0, size)
    assert cluster.leader is not None
    cluster.transfer("t", Peer("n1"))
    cluster.run(2.0)
    before = max(cluster.leaders)
    for a, b in cuts:
        cluster.cut |= {(f"n{a}", f"n{b}"), (f"n{b}", f"n{a}")}
    cluster.run(30.0)
    cluster.propose("w-there", b"w-there", cluster.leader)
    cluster.run(2.0)
    assert isinstance(cluster.answers.get("w-there"), Committed)
    assert len([term for term in cluster.leaders if term > before]) <= 4


def test_split_votes_after_pre_votes_are_resolved() -> None:
    """P-03, E-07, E-12: many elections from a cold start, all end."""
    for seed in range(20):
        cluster = Cluster(f"split{seed}", 4)
        cluster.latency = 0.1
        cluster.run(12.0)
        assert cluster.leader is not None, seed


def test_a_newcomer_with_a_high_term_does_not_wedge_the_cluster() -> None:
    """E-24: its answers raise the term; the next election goes past it."""
    cluster = calm(7, 3)
    newcomer = Peer("n9")
    cluster.hosts[newcomer] = Host(cluster, newcomer, Stored(hard_state=HardState(50, None)))
    cluster.change("c", Change(ChangeKind.LEARNER, newcomer))
    cluster.run(10.0)
    recover(cluster)
    assert cluster.leader is not None and cluster.leader.core is not None and cluster.leader.core.term > 50
