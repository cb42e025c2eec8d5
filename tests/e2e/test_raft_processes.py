"""Bare consensus in real processes, on a real disk: leaders are killed and frozen, and nothing acknowledged is lost."""

from __future__ import annotations

import random
import statistics
import time
from functools import partial
from pathlib import Path

import pytest

from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, EntryKind, Peer
from arc.system import SystemDisk
from tests.e2e.framed import GET, PUT, Framed
from tests.e2e.members import Clients, Members
from tests.e2e.raftd import key_of

FAST = ("--election-seconds", "0.4", "--heartbeat-seconds", "0.05")
"""Rounds are short with it. The figures come from the long test, which has the default times."""


def test_three_processes_find_a_leader_whom_all_of_them_name(tmp_path: Path) -> None:
    """E-21: elections over real processes, and again after the leader is gone and back."""
    with Members(tmp_path, *FAST) as members:
        first = members.wait_all_know()
        members.kill9(first)
        second = members.wait_all_know(but=first)
        members.start(first)
        assert second != first and members.wait_all_know() in members.names


def test_a_follower_names_the_leader_and_reads_what_was_just_written(tmp_path: Path) -> None:
    """R-14, X-01: proposals are refused elsewhere; a read is linearizable at every member."""
    with Members(tmp_path, *FAST) as members:
        leader = members.wait_all_know()
        connections = {name: Framed(("127.0.0.1", members.ports[name])) for name in members.names}
        for turn in range(20):
            assert connections[leader].call(PUT, b"key", b"%d" % turn).ok
            for name, connection in connections.items():
                assert connection.call(GET, b"key").payload == b"%d" % turn, name
        for name in members.names:
            if name != leader:
                refused = connections[name].call(PUT, b"key", b"elsewhere")
                assert not refused.ok and refused.payload == f"not_leader {leader}".encode()
        for connection in connections.values():
            connection.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_no_acknowledged_proposal_is_lost_when_leaders_die_or_stand_still(tmp_path: Path, seed: int) -> None:
    """R-06, Z-06: kill -9 and SIGSTOP of leaders under load; then one history, with every acknowledgement in it.

    Once with whole logs, and once with snapshots that those who come back start from.
    """
    has_snapshots = seed == 2
    with Members(tmp_path, *FAST, "--snapshot-entries", "200" if has_snapshots else "1000000000") as members:
        _torment(members, random.Random(seed), rounds=4, has_snapshots=has_snapshots)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_acknowledged_proposal_is_lost_in_many_rounds_with_snapshots(tmp_path: Path, seed: int) -> None:
    """R-06, Z-06: default times, forty rounds, a snapshot every 2,000 entries, so that whoever was away gets one."""
    with Members(tmp_path, "--snapshot-entries", "2000") as members:
        _torment(members, random.Random(seed), rounds=40, has_snapshots=True)


def _torment(members: Members, chance: random.Random, *, rounds: int, has_snapshots: bool = False) -> None:
    gaps: dict[str, list[float]] = {"kill -9": [], "SIGSTOP": []}
    members.wait_all_know()
    with Clients(members, 8) as clients:
        for turn in range(rounds):
            time.sleep(chance.uniform(0.1, 0.5))  # under load, for a seeded while
            # Both kinds in any two rounds; now and then a follower is away as well, or all three die at once.
            kind = ("kill -9", "SIGSTOP")[(turn + rounds) % 2]
            victim = members.wait_leader()
            if chance.random() < 0.2:
                for name in members.names:
                    members.kill9(name)
                for name in members.names:
                    members.start(name)
                continue
            moment = time.monotonic()
            (members.kill9 if kind == "kill -9" else members.pause)(victim)
            members.wait(partial(clients.gap_after, moment), "a proposal that succeeds without its leader")
            gaps[kind].append(clients.gap_after(moment) or 0.0)
            time.sleep(chance.uniform(0.0, 0.3))
            (members.start if kind == "kill -9" else members.resume)(victim)
            if chance.random() < 0.7:
                members.wait_applied(victim, clients.acknowledged[-1].index)
    _print_gaps(gaps, clients)
    members.wait_all_know()
    members.wait_equal()
    _audit(members, clients, has_snapshots=has_snapshots)


def _audit(members: Members, clients: Clients, *, has_snapshots: bool) -> None:
    """One history everywhere; every acknowledged proposal once in it, at the index that its client was told."""
    orders = [members.order(name) for name in members.names]
    assert orders[0] == orders[1] == orders[2]
    places = {key: index for index, key in orders[0]}
    assert len(places) == len(orders[0]), "a proposal is in the log twice"
    assert len(clients.acknowledged) > 100, "too little happened"
    lost = [each for each in clients.acknowledged if places.get(each.key) != each.index]
    assert not lost, f"{len(lost)} of {len(clients.acknowledged)} acknowledged proposals are gone, first {lost[0]}"
    for name in members.names:
        assert members.terminate(name) == 0, members.told()
    logs = [_log_on_disk(members, name) for name in members.names]
    if has_snapshots:
        first = max(log[0][0] for log in logs)
        logs = [[row for row in log if row[0] >= first] for log in logs]
        assert all(row in set(orders[0]) for row in logs[0])
    else:
        assert logs[0] == orders[0]
    assert logs[0] == logs[1] == logs[2]


def _log_on_disk(members: Members, name: str) -> list[tuple[int, bytes]]:
    """(index, key) of every command in the log that a member left behind."""
    founders = Configuration(voters=tuple(Peer(each) for each in members.names))
    storage = RaftStorage.open(SystemDisk(members.data(name)), "raft", me=Peer(name), founders=founders)
    found: list[tuple[int, bytes]] = []
    index, end = storage.statistics().first_index, storage.statistics().next_index
    while index < end:
        for entry in storage.read_entries(index, end, 1 << 20):
            assert entry.index == index
            index += 1
            if entry.kind is EntryKind.COMMAND:
                assert isinstance(entry.payload, bytes)
                found.append((entry.index, key_of(entry.payload)))
    return found


def _print_gaps(gaps: dict[str, list[float]], clients: Clients) -> None:
    print(f"\n{len(clients.acknowledged)} acknowledged, {clients.unknown} without an answer")
    for kind, seconds in gaps.items():
        if seconds:
            shown = f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {len(seconds)}"
            print(f"gap after {kind} of the leader: {shown}")
