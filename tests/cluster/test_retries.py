"""A proposal that is passed on takes effect once, however often it is asked for and whatever gets lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog import codec, sessions
from arc.catalog.commands import Command, CreateDatabase, DropDatabase, Once, PutPolicy
from arc.catalog.events import PoliciesChanged
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.feed import Feed
from arc.cluster.lanes import Lanes
from arc.cluster.proposals import PATIENCE_SECONDS, Proposals
from arc.errors import LeaderUnreachable, NoLeaderKnown, NotCoordinator, OutcomeUnknown, Unavailable
from arc.raft.node import RaftNode
from arc.raft.requests import NotLeading, Proposed
from arc.raft.types import Peer
from tests.fakes import ManualClock, SeededRng


class Agreed:
    """What the cluster has agreed on: one machine for all nodes, which apply at once."""

    def __init__(self) -> None:
        self.fsm = ClusterFSM()
        self.feed = Feed()
        self.made: list[str] = []
        self.commands: list[Command] = []

    def commit(self, payload: bytes) -> Proposed:
        command = codec.decode(payload)
        self.commands.append(command)
        applied = self.fsm.apply(self.fsm.catalog.index + 1, command)
        self.made += [name for e in applied.events if isinstance(e, PoliciesChanged) for _, name in e.keys]
        self.feed.publish(self.fsm.catalog, applied.events)
        return Proposed(self.fsm.catalog.index, 1, applied.result)


class FakeRaft:
    """Consensus of one node: who leads is told by the test."""

    def __init__(self, name: str, agreed: Agreed, leader: str | None) -> None:
        self.me = Peer(name, 7)
        self.leader = leader
        self.lose_next = False
        self._agreed = agreed
        self._changed = trio.Event()

    @property
    def is_leader(self) -> bool:
        return self.leader == self.me.name

    def led_by(self, leader: str | None) -> None:
        self.leader = leader
        self._changed.set()
        self._changed = trio.Event()

    def others(self) -> tuple[Peer, ...]:
        return (Peer("n3"),)

    async def read(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.leader is None:
            raise NoLeaderKnown("no leader is known now")
        return self._agreed.fsm.catalog.index

    async def propose(self, payload: bytes) -> Proposed:
        await trio.lowlevel.checkpoint()
        if self.leader is None:
            raise NoLeaderKnown("no leader is known now")
        if not self.is_leader:
            raise NotLeading(f"this node does not lead; {self.leader} does", self.leader)
        proposed = self._agreed.commit(payload)
        if self.lose_next:
            self.lose_next = False
            raise OutcomeUnknown("leadership was lost")
        return proposed

    async def wait_changed(self) -> None:
        await self._changed.wait()


class Two:
    """A follower ``n2``, whose proposals are tested, and the leader ``n1``. ``script`` says what becomes of attempts:
    each word is used once, then everything works.
    """

    def __init__(self, script: list[str] | None = None, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.agreed = Agreed()
        self.script = script if script is not None else []
        self.late: list[bytes] = []
        self.asked = 0
        self.leading, self.following = FakeRaft("n1", self.agreed, "n1"), FakeRaft("n2", self.agreed, "n1")
        self._leader = self._proposals(self.leading, 1, patience_seconds)
        self.proposals = self._proposals(self.following, 2, patience_seconds)

    def _proposals(self, raft: FakeRaft, seed: int, patience_seconds: float) -> Proposals:
        return Proposals(
            cast("RaftNode", raft),
            self.agreed.fsm,
            self.agreed.feed,
            ManualClock(),
            self._ask,
            rng=SeededRng(seed),
            patience_seconds=patience_seconds,
        )

    async def _ask(self, peer: str, *question: object, timeout_seconds: float) -> bytes:
        """The wire between them; whatever else stands in a question, its bytes are the last."""
        payload = cast("bytes", question[-1])
        self.asked += 1
        await trio.lowlevel.checkpoint()
        match self.script.pop(0) if self.script else "fine":
            case "fine":
                return await self._leader.answer(self.following.me, payload)
            case "unreachable":
                raise Unavailable(f"{peer} cannot be reached now")
            case "lost on the way":
                raise OutcomeUnknown("no answer")
            case "answer lost":
                self.agreed.commit(payload)
                raise OutcomeUnknown("no answer")
            case "late":
                self.late.append(payload)
                raise OutcomeUnknown("no answer")
            case "silent":
                await trio.sleep_forever()
            case "silent and done":
                self.agreed.commit(payload)
                await trio.sleep_forever()
            case "elsewhere":
                raise Unavailable("n1 does not lead", code="not_leader")
        raise AssertionError

    def deliver_late(self) -> None:
        """What travelled all the time arrives."""
        for payload in self.late:
            self.agreed.commit(payload)
        self.late.clear()

    async def put(self, name: str = "p") -> Result:
        return await self.proposals.propose(put(name))


def put(name: str) -> PutPolicy:
    return PutPolicy(kind="k", name=name, body=name, at_us=1)


WORDS = ["unreachable", "lost on the way", "answer lost", "late", "silent", "silent and done", "elsewhere"]


@pytest.mark.parametrize("word", WORDS)
async def test_whatever_becomes_of_the_first_attempt_the_command_takes_effect_once(
    word: str, autojump_clock: trio.testing.MockClock
) -> None:
    two = Two([word])
    result = await two.put()
    two.deliver_late()
    assert result.ok and two.agreed.made == ["p"]
    assert two.asked == (1 if word == "answer lost" or word == "silent and done" else 2), "what stands is not asked for"


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_no_sequence_of_losses_doubles_a_command_or_tells_its_proposer_wrong(script: list[str]) -> None:
    async def run() -> None:
        two = Two(list(script), patience_seconds=4.0)
        try:
            result = await two.put()
        except OutcomeUnknown:
            assert two.agreed.made in ([], ["p"])
        except Unavailable:
            assert two.agreed.made == [], "an error that says nothing happened"
        else:
            assert result.ok and two.agreed.made == ["p"]
        two.deliver_late()
        assert two.agreed.made in ([], ["p"])

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_the_result_of_a_retry_is_that_of_the_first_acceptance(autojump_clock: trio.testing.MockClock) -> None:
    """Without the number it would be told that the name is taken, by itself."""
    two = Two(["answer lost"])
    result = await two.proposals.propose(CreateDatabase(name="a", created_us=1))
    assert (result.ok, result.index) == (True, 1)


async def test_a_late_copy_of_a_command_that_was_given_up_is_refused_once_its_lane_went_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two(["late"] + ["lost on the way"] * 100, patience_seconds=1.0)
    with pytest.raises(OutcomeUnknown, match="could not be learnt within 1 s"):
        await two.put("given up")
    two.script.clear()
    await two.put("next")
    two.deliver_late()
    assert two.agreed.made == ["next"]


async def test_who_was_told_no_after_a_loss_stays_told_no(autojump_clock: trio.testing.MockClock) -> None:
    """Somebody else had taken the name, and gave it back; then the first attempt arrives."""
    two = Two(["late"])
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            result = await two.proposals.propose(CreateDatabase(name="a", created_us=1))
            assert result.code == "exists"

        nursery.start_soon(ask)
        await trio.sleep(0.02)
        two.agreed.commit(codec.encode(CreateDatabase(name="a", created_us=2)))
    two.agreed.commit(codec.encode(DropDatabase(name="a")))
    two.deliver_late()
    assert "a" not in two.agreed.fsm.catalog.databases


async def test_during_an_election_a_proposal_waits_and_goes_to_the_next_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two()
    two.following.led_by(None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.put)
        await trio.sleep(1.0)
        assert two.agreed.made == []
        two.following.led_by("n1")
    assert two.agreed.made == ["p"]


async def test_a_follower_that_becomes_the_leader_meanwhile_proposes_under_the_same_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two(["late"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.put)
        await trio.testing.wait_all_tasks_blocked()
        two.following.led_by("n2")
    two.deliver_late()
    assert two.agreed.made == ["p"]
    assert all(isinstance(command, Once) for command in two.agreed.commands)


async def test_who_stays_without_a_leader_is_told_so_and_that_nothing_happened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two()
    two.following.led_by(None)
    with pytest.raises(NoLeaderKnown) as caught:
        await two.put()
    assert caught.value.code == "not_leader" and trio.current_time() == pytest.approx(PATIENCE_SECONDS)


async def test_who_cannot_reach_the_leader_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(LeaderUnreachable) as caught:
        await Two(["unreachable"] * 1000).put()
    assert caught.value.code == "leader_unreachable" and isinstance(caught.value, NotCoordinator)


async def test_a_refusal_is_an_answer_and_is_not_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    two = Two()
    await two.proposals.propose(CreateDatabase(name="a", created_us=1))
    result = await two.proposals.propose(CreateDatabase(name="a", created_us=1))
    assert (result.ok, result.code, two.asked) == (False, "exists", 1), "judged here, against all that was agreed on"


@pytest.mark.parametrize("leader", ["n1", "n2"])
async def test_what_changes_nothing_is_answered_and_not_logged_whoever_leads(leader: str) -> None:
    """P-31: its number is no reason to make an entry of it."""
    two = Two()
    two.following.led_by(leader)
    command = CreateDatabase(name="a", created_us=1, if_missing=True)
    assert [(await two.proposals.propose(command)).ok for _ in range(3)] == [True] * 3
    assert len(two.agreed.commands) == 1


async def test_a_leader_that_lost_its_leadership_over_a_command_asks_the_next_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two()
    two.following.led_by("n2")
    await two.put("a")
    two.following.lose_next = True
    assert (await two.put("b")).ok
    assert two.agreed.made == ["a", "b"] and two.asked == 0
    assert all(isinstance(command, Once) for command in two.agreed.commands)


async def test_a_leader_without_a_free_lane_does_not_wait_for_one_and_tells_what_it_cannot_know(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two(["silent"] * 64)
    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(two.put, f"p{number}")
        await trio.testing.wait_all_tasks_blocked()
        two.following.leader = "n2"
        assert (await two.put("plain")).ok
        two.following.lose_next = True
        with pytest.raises(OutcomeUnknown):
            await two.put("lost")
        assert [type(command) for command in two.agreed.commands] == [PutPolicy, PutPolicy]
        nursery.cancel_scope.cancel()
    assert lanes_of(two) == (0, 0)


async def test_many_proposals_are_in_flight_at_once_and_the_next_ones_wait_for_a_lane(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two(["silent"] * 64)
    async with trio.open_nursery() as nursery:
        for number in range(70):
            nursery.start_soon(two.put, f"p{number}")
        await trio.testing.wait_all_tasks_blocked()
        assert lanes_of(two) == (64, 6)
    assert sorted(two.agreed.made) == sorted(f"p{number}" for number in range(70))
    assert len(two.agreed.fsm.catalog.sessions) == 64


async def test_who_asks_for_one_thing_after_the_other_is_one_client(autojump_clock: trio.testing.MockClock) -> None:
    two = Two()
    for number in range(5):
        await two.put(f"p{number}")
    assert [sequence for sequence, _ in two.agreed.fsm.catalog.sessions.values()] == [5]


async def test_a_client_that_was_forgotten_meanwhile_is_told_that_nobody_knows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two(["answer lost", "silent"])
    with remembering(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_unknown, two)
            await trio.sleep(0.02)  # Between the lost answer and the second attempt,
            for number in range(4):  # others fill the table.
                two.agreed.commit(
                    codec.encode(
                        Once(
                            client=f"c{number}",
                            sequence=1,
                            action=put(f"o{number}"),
                            asked_after=two.agreed.fsm.catalog.index,
                        )
                    )
                )
    assert two.agreed.made.count("p") == 1


async def test_a_first_request_of_a_node_that_lags_far_behind_is_asked_again_with_what_it_knows_now(
    autojump_clock: trio.testing.MockClock,
) -> None:
    two = Two()
    with remembering(2):
        for number in range(3):
            two.agreed.commit(
                codec.encode(Once(client=f"c{number}", sequence=1, action=put(f"o{number}"), asked_after=number))
            )
        lagging = Once(client="n2", sequence=1, action=put("p"), asked_after=0)
        assert (await two.proposals.propose(lagging)).ok
    assert two.agreed.made.count("p") == 1


async def test_runs_of_one_node_have_different_names_and_lanes_are_taken_again_in_turn() -> None:
    lanes = Lanes("n1#7.ab", 2)
    async with lanes.open_lane() as first, lanes.open_lane() as second:
        assert (first.client, second.client, lanes.busy) == ("n1#7.ab/1", "n1#7.ab/2", 2)
    async with lanes.open_lane() as again:
        assert again is first, "the one that came free last"
        assert [again.next(put("a"), asked_after=3).sequence for _ in range(2)] == [1, 2]


async def expect_unknown(two: Two) -> None:
    with pytest.raises(OutcomeUnknown, match="not known any more"):
        await two.put()


@contextmanager
def remembering(clients: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "CLIENTS_MAX", clients)
        yield


def lanes_of(two: Two) -> tuple[int, int]:
    """Busy lanes, and commands that wait for one."""
    lanes = two.proposals._lanes
    return lanes.busy, lanes.waiting
