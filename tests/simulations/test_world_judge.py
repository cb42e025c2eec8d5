"""What the judge of a world takes for wrong: not a row that came between two questions, but a count that stays off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from arc.catalog import codec, fsm
from arc.catalog.commands import AssignLease, Command, DescribeNode, Once, SetInSync
from arc.catalog.facts import Catalog
from arc.catalog.values import WRITER
from arc.ids import NodeId
from arc.raft.log import Log
from arc.raft.membership import History
from arc.raft.types import Configuration, Entry, EntryKind, Peer, Role
from simulations.checkers.violation import Violation
from simulations.checkers.world_agreement import Durable, Ghost
from simulations.runner import FAILED, PASSED
from simulations.world import run_world
from simulations.world_client import Client
from simulations.world_judge import LOOKS_MAX, TRIES_MAX, Judge, broken
from simulations.world_plan import WorldPlan

CALM = WorldPlan(seconds=3.0, clients=1)


def off_by_one(patch: pytest.MonkeyPatch, is_off: Callable[[int], bool]) -> None:
    """Count one row more than there are, in those of the answers that are chosen by their number."""
    count = Client.count
    asked = 0

    async def wrong(self: Client, measurement: str, *, server: str = "") -> int | None:
        nonlocal asked
        told = await count(self, measurement, server=server)
        asked += 1
        return told + 1 if told is not None and is_off(asked) else told

    patch.setattr(Client, "count", wrong)


def test_a_count_that_differs_from_rows_that_stay_the_same_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-11: even if it is right the next time, for nothing came meanwhile."""
    off_by_one(monkeypatch, lambda asked: asked == 1)
    outcome = run_world(CALM)
    assert (outcome.verdict, outcome.killer) == (FAILED, "W-11")


def test_rows_that_come_while_they_are_judged_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client wrote a row between the query and count(*), and gave up before it was told so (world seed 70116)."""
    look = Judge.look
    looks = 0

    async def late(self: Judge, server: str) -> object:
        nonlocal looks
        looks += 1
        rows, counts = await look(self, server)
        if looks == 1:
            await self.client.write()
            counts = (await look(self, server))[1]
        return rows, counts

    monkeypatch.setattr(Judge, "look", late)
    outcome = run_world(CALM)
    assert outcome.verdict == PASSED, outcome.violation
    assert outcome.probes["rows_came_while_judged"] == 1


@pytest.mark.parametrize(
    ("elected", "waits", "is_level"),
    [([], 1, False), ([0], 2, False), ([0, 1], 3, True), (range(20), TRIES_MAX, False)],
)
async def test_nodes_stay_behind_when_nobody_was_elected_while_they_had_time(
    elected: Sequence[int], waits: int, is_level: bool
) -> None:
    """In a network that cost three leaders their quorum each was about to have all, and got one entry more (70165)."""
    ghost, waited = Ghost(), list[float]()

    async def until(killer: str, what: str, seconds: float, is_so: Callable[[], bool]) -> None:
        waited.append(seconds)
        if len(waited) - 1 in elected:
            ghost.leaders[len(waited)] = "n1.1"
        elif is_level:
            return
        broken(killer, what)

    nothing: Any = None
    judge = Judge(nothing, nothing, ghost, nothing, names=lambda: ["n1"], until=until, election_seconds=1.0)
    if is_level:
        await judge.level()
    else:
        with pytest.raises(Violation, match="V-03"):
            await judge.level()
    assert waited == [10.0] * waits


def test_rows_that_never_stop_coming_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-11: nobody writes any more, and each request comes once."""
    off_by_one(monkeypatch, lambda asked: True)
    look = Judge.look
    looks = 0

    async def growing(self: Judge, server: str) -> object:
        nonlocal looks
        looks += 1
        await self.client.write()
        return await look(self, server)

    monkeypatch.setattr(Judge, "look", growing)
    outcome = run_world(CALM)
    assert (outcome.verdict, outcome.killer) == (FAILED, "W-11")
    assert looks == LOOKS_MAX + 1


def peers(names: Sequence[str]) -> tuple[Peer, ...]:
    return tuple(Peer(name) for name in names)


@pytest.mark.parametrize(
    ("voters", "outgoing", "may_go"),
    [
        ("abc", "", "abcdz"),
        ("ab", "", "cdz"),
        ("a", "", "bcdz"),
        ("abc", "ad", "bcz"),
        ("abcd", "", "abcdz"),
    ],
)
def test_who_may_lose_a_disk_is_read_from_the_newest_configuration(voters: str, outgoing: str, may_go: str) -> None:
    """Whoever left has taken a vote along: of the two that stayed one lost its disk (world seed 610133)."""
    newest = History(7, Configuration(voters=peers(voters), outgoing=peers(outgoing)))
    older = History(6, Configuration(voters=peers("abcde")))
    ghost, cores = Ghost(), {"a": newest, "b": older}
    ghost.cores = {name: _core(history=history) for name, history in cores.items()}
    assert [name for name in "abcdz" if ghost.can_lose(name)] == list(may_go)


NODES = (NodeId("a"), NodeId("b"), NodeId("c"))
TO_A_ALONE = SetInSync(epoch=4, expect_members=NODES, members=(NODES[0],))
TO_A_AND_B = replace(TO_A_ALONE, members=NODES[:2])
B_TAKES_OVER = AssignLease(lease=WRITER, node=NODES[1], expect_epoch=4)


@pytest.mark.parametrize(
    ("asked_for", "must_stay"),
    [
        ((), ""),
        ((TO_A_AND_B,), ""),
        ((TO_A_ALONE,), "a"),
        ((Once(client="a", sequence=1, action=TO_A_ALONE),), "a"),
        ((replace(TO_A_ALONE, epoch=3),), ""),
        ((TO_A_AND_B, B_TAKES_OVER), "b"),
        ((TO_A_ALONE, replace(TO_A_ALONE, expect_members=(NODES[0],), members=NODES)), "a"),
        ((None,), "abcz"),
    ],
)
def test_who_may_become_the_only_one_in_sync_loses_no_disk(asked_for: Sequence[Command | None], must_stay: str) -> None:
    """The holder had lost sight of both others and asked to go on alone; it lost its disk before it was heard, and what
    it had asked for was agreed on later (world seed 655050).
    """
    catalog = Catalog()
    members = [DescribeNode(name=name, incarnation=1, address=f"{name}:9100", role="writer", at_us=0) for name in NODES]
    reign = AssignLease(lease=WRITER, node=NODES[0], expect_epoch=0)
    begun = SetInSync(epoch=4, expect_members=NODES[:1], members=NODES)
    for index, command in enumerate((*members, reign, begun), 1):
        catalog, applied = fsm.apply(catalog, index, command)
        assert applied.result.ok, applied
    behind, ahead = Log(3, 1), Log(catalog.index, 1)
    for index, each in enumerate(asked_for, catalog.index + 1):
        if each is None:
            ahead.extend_on_disk([(index, 2)], index)
        else:
            ahead.append(Entry(index, 2, EntryKind.COMMAND, codec.encode(each)))
    ghost = Ghost()
    ghost.cores = {"b": _core(log=behind), "c": _core(log=ahead)}
    assert "".join(name for name in "abcz" if ghost.is_only_in_sync(name, catalog)) == must_stay


JOINT = Configuration(voters=peers("abd"), outgoing=peers("abc"))
AFTER = Configuration(voters=peers("abd"))


def leads(ghost: Ghost, who: str, commit: int, *configurations: Configuration, role: Role = Role.LEADER) -> None:
    """A leader of term 2 took a step, after which so much is committed; the configurations stand from entry 4 on."""
    history = History(3, Configuration(voters=peers("abc")))
    for index, configuration in enumerate(configurations, 4):
        history.push(index, configuration)
    log = SimpleNamespace(term=lambda index: 2)
    ghost.stepped(who, _core(role=role, term=2, commit=commit, history=history, log=log))


def on_disks(**last: int) -> Ghost:
    """What a leader of term 2 sent is on these disks up to these entries."""
    ghost = Ghost()
    for name, index in last.items():
        disk = ghost.disks[name] = Durable()
        disk.last, disk.terms = index, dict.fromkeys(range(1, index + 1), 2)
    return ghost


def test_what_a_leader_commits_by_the_next_configuration_may_be_applied_by_who_does_not_have_it_yet() -> None:
    """World seed 700291: the joint configuration was committed, and the one after it counted for the next entry."""
    ghost = on_disks(a=4, b=5, c=3, d=5)
    leads(ghost, "a.1", 3, JOINT)
    with pytest.raises(Violation, match="I-06 committed"):
        leads(ghost, "a.1", 5, JOINT)  # d counts in one half only.
    ghost = on_disks(a=5, b=5, c=3, d=4)
    leads(ghost, "a.1", 5, JOINT)
    ghost = on_disks(a=4, b=5, c=3, d=5)
    leads(ghost, "a.1", 4, JOINT)
    leads(ghost, "a.1", 5, JOINT, AFTER)
    ghost.applied("d.1", Entry(5, 2), replace(Catalog(), index=5))


def test_who_commits_that_it_is_no_voter_has_committed_as_a_leader() -> None:
    """It steps down in the same step (dissertation, 4.2.2). World seed 730131: others applied the entry before the next
    leader was elected.
    """
    without_c = Configuration(voters=peers("ab"))
    ghost = on_disks(a=4, b=4, c=4)
    leads(ghost, "c.1", 3, without_c)
    leads(ghost, "c.1", 4, without_c, role=Role.FOLLOWER)
    ghost.applied("a.1", Entry(4, 2), replace(Catalog(), index=4))
    with pytest.raises(Violation, match="I-06 applied"):
        ghost.applied("a.1", Entry(5, 2), replace(Catalog(), index=5))


@pytest.mark.parametrize("steps", [((3, Role.LEADER), (4, Role.FOLLOWER)), ((3, Role.LEADER), (4, Role.LEADER))])
def test_who_steps_down_must_have_a_quorum_for_what_it_commits(steps: tuple[tuple[int, Role], ...]) -> None:
    """As every leader."""
    ghost = on_disks(a=4, b=3, c=4)
    with pytest.raises(Violation, match="I-06 committed"):
        for commit, role in steps:
            leads(ghost, "c.1", commit, Configuration(voters=peers("ab")), role=role)


def test_what_a_follower_knows_to_be_committed_is_no_commit() -> None:
    """Even of one that led once."""
    ghost = on_disks(a=5, b=5, c=5)
    for commit, role in ((4, Role.LEADER), (4, Role.FOLLOWER), (5, Role.FOLLOWER)):
        leads(ghost, "a.1", commit, role=role)
    with pytest.raises(Violation, match="I-06 applied"):
        ghost.applied("b.1", Entry(5, 2), replace(Catalog(), index=5))


def test_what_no_leader_has_committed_is_applied_by_nobody() -> None:
    """I-06."""
    ghost = on_disks(a=5, b=5, c=5)
    leads(ghost, "a.1", 4)
    ghost.applied("b.1", Entry(4, 2), replace(Catalog(), index=4))
    with pytest.raises(Violation, match="I-06 applied"):
        ghost.applied("b.1", Entry(5, 2), replace(Catalog(), index=5))


def test_where_nobody_is_in_sync_nobody_loses_a_disk() -> None:
    """Before the first reign nobody knows who has what."""
    assert Ghost().is_only_in_sync("a", Catalog())


def _core(**state: object) -> Any:
    return SimpleNamespace(state=SimpleNamespace(**state))
