"""A few hundred short lives of a small cluster under faults; see `minicluster` for what is checked as they run."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from arc.raft.config import Config
from arc.raft.effects import Committed, Readable
from arc.raft.events import Change, ChangeKind
from arc.raft.types import Peer
from tests.raft.minicluster import Cluster

SEEDS = int(os.environ.get("ARC_RAFT_SEEDS", "240"))
FIRST = int(os.environ.get("ARC_RAFT_FIRST_SEED", "0"))
BLOCKS = 8
PROBES: Counter[str] = Counter()


def life(seed: int) -> Cluster:
    """Faults for a while, then peace, then everything must work again."""
    draw = Cluster(f"draw{seed}", 1).chance
    size = draw.choice([1, 2, 3, 3, 4, 5])
    config = Config(
        is_pre_vote=draw.random() < 0.7,
        is_check_quorum=draw.random() < 0.8,
        is_sticky=draw.random() < 0.8,
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
        elif roll < 0.94:
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
