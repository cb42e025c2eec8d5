"""Who votes: the rule as a table, what is never done, and that any state of affairs settles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.commands import Command, ForgetNode
from arc.catalog.facts import Catalog
from arc.catalog.nodes import NodeRecord
from arc.catalog.persistent import frozen
from arc.catalog.results import Result
from arc.cluster.autopilot import Autopilot
from arc.cluster.voting import Action, ChangeVoters, Forget, HandOver, Silence, plan, rule
from arc.errors import Conflict
from arc.ids import NodeId
from arc.quorum import majority
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import members, target
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role
from arc.telemetry import Log
from tests.fakes import ManualClock

DEAD = 600.0
ROLES = {"s": "standalone", "w": "writer", "r": "reader", "c": "compactor"}


@dataclass
class Model:
    """A cluster in which every change succeeds at once. A name's first letter is its role."""

    leader: Peer
    configuration: Configuration
    nodes: dict[str, NodeRecord]
    silent: dict[str, float] = field(default_factory=dict)
    behind: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, voters: str, learners: str = "", *, silent: str = "", dead: str = "", described: str = "") -> Model:
        def peers(names: str) -> tuple[Peer, ...]:
            return tuple(Peer(name, 2) for name in sorted(names.split()))

        configuration = Configuration(voters=peers(voters), learners=peers(learners))
        names = [peer.name for peer in members(configuration)] + described.split()
        quiet = {name: 5.0 for name in silent.split()} | {name: DEAD for name in dead.split()}
        leader = next(name for name in voters.split() if name not in quiet)
        return cls(Peer(leader, 2), configuration, {name: record(name) for name in names}, quiet)

    def status(self) -> Status:
        me = self.leader
        followers = tuple(
            FollowerStatus(
                peer,
                "replicate",
                0 if peer.name in self.behind else 5000,
                5001,
                0,
                0,
                peer.name not in self.silent,
                True,
            )
            for peer in members(self.configuration)
            if peer != me
        )
        blank = dict.fromkeys(Status._fields)
        facts = {
            "me": me,
            "role": Role.LEADER,
            "leader": me,
            "commit": 5000,
            "last_index": 5000,
            "configuration": self.configuration,
            "configuration_index": 7,
            "catching_up": (),
            "followers": followers,
        }
        return Status(**blank | facts)  # type: ignore[arg-type]

    @property
    def catalog(self) -> Catalog:
        return replace(Catalog(), nodes=frozen(self.nodes))

    @property
    def silence(self) -> Silence:
        quiet = {peer: self.silent[peer.name] for peer in members(self.configuration) if peer.name in self.silent}
        return Silence(quiet, DEAD)

    def plan(self) -> list[Action]:
        return plan(self.status(), self.catalog, self.silence)

    def do(self, action: Action) -> None:
        match action:
            case ChangeVoters(changes, _):
                self.configuration = target(self.configuration, changes)
            case HandOver(heir, _):
                assert heir in self.configuration.voters
                assert heir.name not in self.silent
                self.leader = heir
            case Forget(known, _):
                del self.nodes[known.name]

    def settle(self) -> list[Action]:
        """Do what is planned until nothing is; what was done."""
        done: list[Action] = []
        while actions := self.plan():
            assert len(actions) == 1
            before = self.configuration
            self.do(actions[0])
            self.check(before)
            done += actions
            assert len(done) < 60, [action.reason for action in done[-4:]]
        return done

    def check(self, before: Configuration) -> None:
        """What is never done."""
        voters = self.configuration.voters
        if voters == before.voters:
            return
        answering = [peer for peer in voters if peer.name not in self.silent]
        assert len(answering) >= majority(len(voters)), "a majority of the new voters answers"
        if {peer.name for peer in before.voters} <= {
            name for name, known in self.nodes.items() if known.incarnation == 2
        }:
            assert len(voters) >= min(3, len(before.voters) - 1 + len(before.voters) % 2), "never fewer than three"
        assert self.leader in voters, "the leader hands over before it loses its vote"
        for peer in set(voters).difference(before.voters):
            assert peer.name not in self.silent, "nobody silent is given a vote"

    @property
    def voters(self) -> str:
        return " ".join(peer.name for peer in self.configuration.voters)

    @property
    def learners(self) -> str:
        return " ".join(peer.name for peer in self.configuration.learners)


def record(name: str, state: str = "healthy", incarnation: int = 2) -> NodeRecord:
    return NodeRecord(NodeId(name), incarnation, f"{name}:9100", role=ROLES[name[0]], state=state)


@pytest.mark.parametrize(
    ("model", "voters"),
    [
        pytest.param(Model.of("s1"), "s1", id="one votes"),
        pytest.param(Model.of("s1", "s2"), "s1", id="of two one votes"),
        pytest.param(Model.of("s1 s2"), "s1", id="of two voters one is too many"),
        pytest.param(Model.of("s1", "s2 s3"), "s1 s2 s3", id="with the third both are given a vote"),
        pytest.param(Model.of("s1 s2 s3", "s4"), "s1 s2 s3", id="the fourth follows"),
        pytest.param(Model.of("s1 s2 s3 s4"), "s1 s2 s3", id="an even one is taken back"),
        pytest.param(Model.of("s1 s2 s3", "s4 s5"), "s1 s2 s3 s4 s5", id="five vote"),
        pytest.param(
            Model.of("s1", " ".join(f"s{n}" for n in range(2, 10))), "s1 s2 s3 s4 s5 s6 s7", id="at most seven"
        ),
        pytest.param(Model.of("w1", "r1 r2"), "r1 r2 w1", id="readers help one writer"),
        pytest.param(Model.of("w1", "c1 r1 w2"), "r1 w1 w2", id="a reader helps before a compactor"),
        pytest.param(Model.of("c1 w1 w2", "r1"), "c1 w1 w2", id="who helps already goes on helping"),
        pytest.param(Model.of("r1 w1 w2", "w3"), "w1 w2 w3", id="with the third writer the reader is relieved"),
        pytest.param(Model.of("r1 c1 r2", "w1 w2 w3"), "w1 w2 w3", id="the leader is relieved after the others"),
        pytest.param(Model.of("r1", "w1"), "w1", id="a leader that should not vote hands over"),
        pytest.param(Model.of("s1 s2 s3", dead="s3"), "s1 s2 s3", id="three stay three without a replacement"),
        pytest.param(Model.of("s1 s2 s3", "s4", dead="s3"), "s1 s2 s4", id="a dead voter is replaced"),
        pytest.param(Model.of("s1 s2 s3", "s4", silent="s3"), "s1 s2 s3", id="one that is silent for a moment is not"),
        pytest.param(Model.of("w1 w2 w3", "r1", dead="w3"), "r1 w1 w2", id="a reader replaces a dead writer"),
        pytest.param(Model.of("s1 s2 s3 s4 s5", dead="s4"), "s1 s2 s3 s4 s5", id="one dead of five stays"),
        pytest.param(Model.of("s1 s2 s3 s4 s5", dead="s4 s5"), "s1 s2 s3", id="two dead of five go"),
        pytest.param(Model.of("s1", "s2 s3", silent="s3"), "s1", id="nobody silent is given a vote"),
    ],
)
def test_the_rule(model: Model, voters: str) -> None:
    model.settle()
    assert model.voters == voters


def test_a_dead_voter_stays_a_member_and_votes_again_when_it_is_back() -> None:
    model = Model.of("s1 s2 s3 s4 s5", dead="s4 s5")
    model.settle()
    assert model.learners == "s4 s5"
    model.silent.clear()
    model.settle()
    assert model.voters == "s1 s2 s3 s4 s5"


def test_a_learner_far_behind_is_not_asked_to_vote() -> None:
    model = Model.of("s1", "s2 s3")
    model.behind = {"s3"}
    assert model.settle() == []


def test_a_dead_voter_and_its_replacement_change_places_in_one_change() -> None:
    (action,) = Model.of("s1 s2 s3", "s4", dead="s3").plan()
    assert isinstance(action, ChangeVoters)
    assert action.changes == (Change(ChangeKind.VOTER, Peer("s4", 2)), Change(ChangeKind.LEARNER, Peer("s3", 2)))
    assert action.reason == "s4 is to vote; s3 is silent and votes no more"


def test_whoever_is_described_is_taken_in_as_a_learner() -> None:
    model = Model.of("s1", described="s2")
    (action,) = model.plan()
    assert action == ChangeVoters((Change(ChangeKind.LEARNER, Peer("s2", 2)),), "s2 is described and no member")


def test_whoever_left_is_forgotten_and_not_taken_in_again() -> None:
    model = Model.of("s1")
    model.nodes["s2"] = record("s2", "leaving")
    assert model.settle() == [Forget(record("s2", "leaving"), "s2 has left")]


def test_whoever_drains_keeps_its_vote_and_is_given_none() -> None:
    model = Model.of("s1 s2 s3", "s4 s5")
    model.nodes["s3"] = record("s3", "leaving")
    model.nodes["s5"] = record("s5", "leaving")
    model.settle()
    assert model.voters == "s1 s2 s3"


def test_the_only_voter_gives_its_vote_and_its_office_away_before_it_goes() -> None:
    model = Model.of("s1", "s2")
    model.nodes["s1"] = record("s1", "leaving")
    done = model.settle()
    assert [type(action) for action in done] == [ChangeVoters, HandOver, ChangeVoters]
    assert (model.leader.name, model.voters, model.learners) == ("s2", "s2", "s1")


def test_what_is_left_of_another_incarnation_goes() -> None:
    model = Model.of("s1 s2 s3")
    model.nodes["s3"] = record("s3", incarnation=9)
    done = model.settle()
    assert done[0] == ChangeVoters((Change(ChangeKind.REMOVE, Peer("s3", 2)),), "s3#2 goes: s3 is incarnation 9 now")
    assert Peer("s3", 9) in members(model.configuration)


def test_a_founder_that_has_not_described_itself_yet_keeps_its_vote() -> None:
    model = Model.of("s1 s2 s3")
    del model.nodes["s2"]
    assert model.settle() == []


@pytest.mark.parametrize(
    "change",
    [
        {"role": Role.FOLLOWER, "followers": ()},
        {"configuration_index": 5001},
        {"catching_up": (Peer("s2", 2),)},
        {"transfer_to": Peer("s2", 2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_change_at_a_time_and_only_on_the_leader(change: dict[str, object]) -> None:
    model = Model.of("s1", "s2 s3")
    assert model.plan()
    assert plan(model.status()._replace(**change), model.catalog, model.silence) == []  # type: ignore[arg-type]


@given(data=st.data())
def test_any_state_of_affairs_settles_and_nothing_is_done_that_must_not_be(data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.sampled_from([f"{role}{n}" for role in "swrc" for n in (1, 2, 3)]), min_size=1, unique=True)
    )
    voters = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=7, unique=True))
    # A leader has a majority that answers.
    quiet = data.draw(st.lists(st.sampled_from(voters), max_size=(len(voters) - 1) // 2, unique=True))
    learners = data.draw(st.lists(st.sampled_from(names), unique=True))
    learners = [name for name in learners if name not in voters]
    model = Model.of(" ".join(voters), " ".join(learners), dead=" ".join(quiet))
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        if name in learners and data.draw(st.booleans()):
            model.silent[name] = data.draw(st.sampled_from([1.0, DEAD]))
    for name in names:
        state = data.draw(st.sampled_from(["healthy", "joining", "leaving"]))
        described = data.draw(st.sampled_from(["same", "same", "same", "other", "none"]))
        model.nodes.pop(name, None)
        if described != "none":
            model.nodes[name] = record(name, state, 2 if described == "same" or name == model.leader.name else 9)
    model.settle()
    is_even = len(model.configuration.voters) % 2 == 0
    undescribed = [peer for peer in model.configuration.voters if peer.name not in model.nodes]
    assert not is_even or undescribed or model.silent
    if not model.silent:  # Else what is left of another incarnation may be a vote that cannot be spared.
        described_nodes = {Peer(name, known.incarnation) for name, known in model.nodes.items()}
        assert described_nodes <= {*members(model.configuration)}, "described and member are one thing"


def test_the_rule_is_told_in_words() -> None:
    model = Model.of("r1 w1 w2")
    assert rule(model.status(), model.catalog) == (
        "3 of 3 members vote: r1, w1, w2; standalones and writers are fewer than 3 (2), so r1 votes, too"
    )
    model = Model.of("s1", "s2")
    assert rule(model.status(), model.catalog).endswith("so one votes until a third node comes")


# ----------------------------------------------------------------------------------------------------------- the runner


class Running:
    """A leader on which changes may fail."""

    def __init__(self, model: Model, log: Log) -> None:
        self.model = model
        self.clock = ManualClock()
        self.error: Exception | None = None
        self.proposed: list[Command] = []
        self.autopilot = Autopilot(
            self, self, self, lambda: model.catalog, clock=self.clock, log=log, dead_voter_seconds=DEAD
        )

    def status(self) -> Status:
        return self.model.status()

    async def transfer(self, target: Peer | None = None) -> Peer:
        await trio.lowlevel.checkpoint()
        assert target is not None
        self.model.leader = target
        return target

    async def change(self, changes: Iterable[Change], *, expect_index: int) -> int:
        await trio.lowlevel.checkpoint()
        assert expect_index == 7
        if self.error is not None:
            raise self.error
        self.model.configuration = target(self.model.configuration, tuple(changes))
        return 8

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.proposed.append(command)
        return Result(ok=True)


async def test_silence_is_counted_from_when_this_leader_first_noticed_it(log: Log) -> None:
    running = Running(Model.of("s1 s2 s3", "s4", silent="s3"), log)
    assert await running.autopilot.step() is None
    running.clock.advance(DEAD - 1)
    assert await running.autopilot.step() is None
    running.clock.advance(1)
    assert isinstance(await running.autopilot.step(), ChangeVoters)
    assert running.model.voters == "s1 s2 s4"


async def test_one_that_answers_in_between_is_counted_anew(log: Log) -> None:
    running = Running(Model.of("s1 s2 s3", "s4", silent="s3"), log)
    await running.autopilot.step()
    running.clock.advance(DEAD - 1)
    quiet, running.model.silent = running.model.silent, {}
    await running.autopilot.step()
    running.model.silent = quiet
    running.clock.advance(DEAD - 1)
    assert await running.autopilot.step() is None


async def test_what_fails_is_counted_and_tried_again(log: Log) -> None:
    running = Running(Model.of("s1", "s2 s3"), log)
    running.error = Conflict("another change is not committed yet")
    assert await running.autopilot.step() is None
    assert running.autopilot.statistics().failures_total == 1
    running.error = None
    assert await running.autopilot.step() is not None
    assert running.autopilot.statistics().last_reason == "s2 is to vote; s3 is to vote"


async def test_leadership_goes_where_it_should_and_who_left_is_forgotten(log: Log) -> None:
    running = Running(Model.of("r1 w1", "w2 w3"), log)
    running.model.leader = Peer("r1", 2)
    running.model.nodes["w9"] = record("w9", "leaving")
    await running.autopilot.step()
    assert running.proposed == [ForgetNode(name=NodeId("w9"), incarnation=2)]
    del running.model.nodes["w9"]
    assert isinstance(await running.autopilot.step(), HandOver)
    assert running.model.leader == Peer("w1", 2)


def test_a_leader_that_is_leaving_hands_over_to_a_voter_that_stays() -> None:
    """Whoever asked for it: an operator drains a node through any other."""
    model = Model.of("w1 w2 w3")
    for name in ("w1", "w2"):
        model.nodes[name] = replace(model.nodes[name], state="leaving")
    (action,) = model.plan()
    assert action == HandOver(Peer("w3", 2), "w1 is leaving, and leads no more")
    model.nodes["w3"] = replace(model.nodes["w3"], state="leaving")
    assert not any(isinstance(each, HandOver) for each in model.plan()), "somebody has to lead"
