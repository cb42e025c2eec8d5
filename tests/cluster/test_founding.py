"""Exactly one cluster comes out of several empty nodes, whatever is lost, late, doubled, cut off or crashed.

The world here is a pool of messages and a row of folders. Hypothesis chooses every step: who looks around, which
message arrives, twice or never, who crashes, who is emptied. After every step there is at most one founding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.roles import NodeRole
from arc.cluster.founding import AskPromises, Begin, DrawUp, Gathering, Join, Wait, begun, drawn_up, joinable, promised
from arc.cluster.identity import Founder, Founding, Identity, new_uuid
from arc.cluster.sights import Bootstrap, Sight
from arc.errors import Conflict
from arc.ids import NodeId
from arc.raft.types import Peer
from tests.fakes import SeededRng


class Message(NamedTuple):
    """``life`` is that of the receiver of an answer: who crashed since does not wait for it any more."""

    kind: str
    to: str
    sender: str
    body: object
    at: str = ""
    life: int = -1


@dataclass
class Node:
    """A folder and what runs on it."""

    address: str
    identity: Identity
    gathering: Gathering
    life: int = 0


@dataclass
class World:
    """Nodes by address, and what is under way between them."""

    bootstrap: Bootstrap
    rng: SeededRng = field(default_factory=SeededRng)
    nodes: dict[str, Node] = field(default_factory=dict)
    pool: list[Message] = field(default_factory=list)
    founded: set[Founding] = field(default_factory=set)
    now: float = 100.0
    emptied: int = 0

    def add(self, address: str, role: NodeRole = NodeRole.STANDALONE, bootstrap: Bootstrap | None = None) -> Node:
        name = address.partition(":")[0]
        identity = Identity(node=NodeId(name), incarnation=2 + len(self.nodes) + 100 * self.emptied)
        node = self.nodes[address] = Node(address, identity, self._gather(address, identity, role, bootstrap))
        return node

    def _gather(
        self, address: str, identity: Identity, role: NodeRole, bootstrap: Bootstrap | None = None
    ) -> Gathering:
        me = Founder(identity.node, identity.incarnation, address)
        return Gathering(bootstrap or self.bootstrap, me, role)

    # ---- steps

    def tick(self, address: str) -> None:
        """Look around, and do what is next."""
        node = self.nodes[address]
        if not node.identity.is_waiting:
            return
        for seed in node.gathering.bootstrap.seeds:
            if seed != address:
                self.pool.append(Message("look", seed, address, self._show(node), seed, node.life))
        with suppress(Conflict):
            self._act(node)

    def _act(self, node: Node) -> None:
        deed = node.gathering.decide(node.identity, self.now)
        match deed:
            case DrawUp(number, founders):
                plan = Founding(new_uuid(self.rng), node.identity.peer, number, founders)
                node.identity = drawn_up(node.identity, plan)
            case AskPromises(plan, founders):
                for founder in founders:
                    self.pool.append(Message("promise", founder.address, node.address, plan, life=node.life))
            case Begin(founding):
                node.identity = begun(node.identity, founding)
                self.founded.add(founding)
            case Join(uuid):
                node.identity = joinable(node.identity, uuid)
            case Wait(reason):
                assert reason

    def deliver(self, message: Message) -> None:
        node = self.nodes.get(message.to)
        if node is None:
            return
        match message.kind, message.body:
            case "look", Sight() as sight:
                node.gathering.see(sight, self.now)
                shown = self._show(node)
                self.pool.append(Message("shown", message.sender, message.to, shown, message.at, message.life))
            case "shown", Sight() as sight:
                if node.life == message.life:
                    node.gathering.see(sight, self.now, at_seed=message.at)
            case "promise", Founding() as plan:
                try:
                    node.identity = promised(node.identity, plan, self._peer(message, plan))
                except Conflict:
                    return
                answer = (plan, node.identity.peer)
                self.pool.append(Message("promised", message.sender, message.to, answer, life=message.life))
            case "promised", (Founding() as plan, Peer() as peer):
                if node.life == message.life:
                    node.gathering.hear_promise(plan, peer)

    def _peer(self, message: Message, plan: Founding) -> Peer:
        return plan.coordinator  # The session proves who asks; only coordinators ask here.

    def crash(self, address: str) -> None:
        """The process ends and starts again: only the folder is left."""
        node = self.nodes[address]
        node.life += 1
        node.gathering = self._gather(address, node.identity, node.gathering.role, node.gathering.bootstrap)

    def empty(self, address: str) -> None:
        """The folder is lost."""
        self.emptied += 1
        life, role = self.nodes[address].life, self.nodes[address].gathering.role
        self.add(address, role).life = life + 1

    def heal(self, rounds: int = 40) -> None:
        """Everything arrives from now on."""
        for _ in range(rounds):
            for address in sorted(self.nodes):
                self.tick(address)
            while self.pool:
                self.deliver(self.pool.pop(0))
            self.now += 1.0

    def _show(self, node: Node) -> Sight:
        return Sight.unpacked(node.gathering.show(node.identity, "looks").packed())

    def check(self) -> None:
        assert len(self.founded) <= 1, self.founded
        for founding in self.founded:
            assert sum(founder.address in self.bootstrap.seeds for founder in founding.founders) >= min(
                self.bootstrap.expect, len(self.bootstrap.seeds)
            )
        uuids = {node.identity.cluster_uuid for node in self.nodes.values()} - {""}
        assert uuids <= {founding.uuid for founding in self.founded}


def addresses(count: int) -> tuple[str, ...]:
    return tuple(f"n{number}:9100" for number in range(1, count + 1))


def make(*, seeds: int, expect: int, nodes: int) -> World:
    world = World(Bootstrap(cluster="arc", expect=expect, seeds=addresses(seeds)))
    for address in addresses(nodes):
        world.add(address)
    return world


SHAPES = [(3, 3, 3), (3, 3, 5), (3, 2, 4), (1, 3, 4), (2, 3, 4), (5, 3, 5), (1, 1, 3)]


@pytest.mark.parametrize(("seeds", "expect", "nodes"), SHAPES)
@given(data=st.data())
def test_there_are_never_two_clusters_and_in_the_end_everybody_is_in_one(
    seeds: int, expect: int, nodes: int, data: st.DataObject
) -> None:
    world = make(seeds=seeds, expect=expect, nodes=nodes)
    disturb(world, data, steps=data.draw(st.integers(0, 60), label="steps"), wipes=0)
    world.heal()
    assert len(world.founded) == 1
    (founding,) = world.founded
    for node in world.nodes.values():
        assert node.identity.cluster_uuid == founding.uuid, node
        assert (node.identity.founding == founding) == founding.has(node.identity.peer)


@given(data=st.data())
def test_two_of_three_emptied_seeds_do_not_make_a_second_cluster(data: st.DataObject) -> None:
    world = make(seeds=3, expect=3, nodes=6)
    disturb(world, data, steps=data.draw(st.integers(0, 80), label="steps"), wipes=2)
    world.heal()
    world.check()


def disturb(world: World, data: st.DataObject, *, steps: int, wipes: int) -> None:
    """Let anything happen, a step at a time; heal in between, so that something is founded to be disturbed."""
    for _ in range(steps):
        what = data.draw(
            st.sampled_from(["tick"] * 6 + ["deliver"] * 12 + ["twice", "drop", "crash", "wait", "wipe", "round"])
        )
        address = data.draw(st.sampled_from(sorted(world.nodes)))
        if what == "tick":
            world.tick(address)
        elif what in ("deliver", "twice", "drop") and world.pool:
            message = world.pool[data.draw(st.integers(0, len(world.pool) - 1))]
            if what != "twice":
                world.pool.remove(message)
            if what != "drop":
                world.deliver(message)
        elif what == "crash":
            world.crash(address)
        elif what == "wait":
            world.now += data.draw(st.sampled_from([0.5, 2.0, 6.0]))
        elif what == "wipe" and world.emptied < wipes:
            world.empty(address)
        elif what == "round":
            cut = set(data.draw(st.lists(st.sampled_from(sorted(world.nodes)), max_size=3)))
            for each in sorted(set(world.nodes) - cut):
                world.tick(each)
            world.pool = [each for each in world.pool if each.to not in cut and each.sender not in cut]
            for _ in range(2):
                pool, world.pool = world.pool, []
                for message in pool:
                    world.deliver(message)
        world.now += 0.05
        world.check()


@pytest.mark.parametrize("victim", addresses(3))
def test_a_crash_after_every_single_step_changes_nothing(victim: str) -> None:
    """The undisturbed founding takes fewer steps than this."""
    for moment in range(60):
        world = make(seeds=3, expect=3, nodes=3)
        for step, _ in enumerate(found_step_by_step(world)):
            if step == moment:
                world.crash(victim)
            world.check()
        world.heal(10)
        assert len(world.founded) == 1
        assert all(node.identity.founding is not None for node in world.nodes.values())


def found_step_by_step(world: World) -> Iterator[None]:
    for _ in range(5):
        for address in addresses(3):
            world.tick(address)
            yield
        while world.pool:
            world.deliver(world.pool.pop(0))
            yield
        world.now += 1.0


# ------------------------------------------------------------------------------------------------------- conversations


def test_three_nodes_found_together_and_all_of_them_begin_with_the_same_voters() -> None:
    world = make(seeds=3, expect=3, nodes=3)
    world.heal(5)
    (founding,) = world.founded
    assert [founder.address for founder in founding.founders] == [*addresses(3)]
    assert founding.coordinator == world.nodes["n1:9100"].identity.peer
    assert {node.identity.configuration for node in world.nodes.values()} == {founding.configuration}


def test_fewer_than_expected_wait_and_say_for_whom() -> None:
    world = make(seeds=3, expect=3, nodes=2)
    world.heal(5)
    assert not world.founded
    deed = world.nodes["n1:9100"].gathering.decide(world.nodes["n1:9100"].identity, world.now)
    assert deed == Wait("waits for 3 nodes to found a cluster: 2 here (n1, n2); nobody has answered at n3:9100")


def test_the_fourth_joins() -> None:
    world = make(seeds=3, expect=3, nodes=3)
    world.heal(5)
    fourth = world.add("n4:9100")
    world.heal(5)
    (founding,) = world.founded
    assert fourth.identity.cluster_uuid == founding.uuid
    assert fourth.identity.founding is None


def test_a_node_that_expects_nothing_only_joins() -> None:
    world = make(seeds=3, expect=3, nodes=2)
    world.add("n3:9100", bootstrap=replace(world.bootstrap, expect=0))
    world.heal(5)
    assert not world.founded
    node = world.nodes["n3:9100"]
    deed = node.gathering.decide(node.identity, world.now)
    assert isinstance(deed, Wait) and deed.reason.startswith("waits for a cluster to join")


def test_other_seeds_or_another_number_are_told_and_do_not_count() -> None:
    world = make(seeds=3, expect=3, nodes=2)
    world.add("n3:9100", bootstrap=replace(world.bootstrap, expect=2))
    world.heal(5)
    assert not world.founded
    node = world.nodes["n1:9100"]
    deed = node.gathering.decide(node.identity, world.now)
    assert isinstance(deed, Wait)
    assert "n3 is configured otherwise: cluster.bootstrap_expect is 3 here and 2 there" in deed.reason


def test_a_founder_that_is_emptied_before_it_promised_is_replaced_by_its_next_incarnation() -> None:
    world = make(seeds=3, expect=3, nodes=3)
    for _ in range(2):  # The plan is drawn up, and no question for a promise arrives.
        for address in addresses(3):
            world.tick(address)
        while world.pool:
            message = world.pool.pop(0)
            if message.kind in ("look", "shown"):
                world.deliver(message)
    assert world.nodes["n1:9100"].identity.promise is not None
    world.empty("n3:9100")
    world.now += 6
    world.heal()
    (founding,) = world.founded
    assert founding.plan == 2
    assert founding.has(world.nodes["n3:9100"].identity.peer)


def test_nobody_follows_an_emptied_coordinator() -> None:
    """The count alone (three empty-looking nodes) would let it found a second time."""
    world = make(seeds=3, expect=3, nodes=3)
    world.heal(5)
    for address in addresses(3)[1:]:
        node = world.nodes[address]  # They promised, and the news that the plan came true never arrived.
        node.identity = replace(node.identity, founding=None, cluster_uuid="")
        world.crash(address)
    world.empty("n1:9100")
    world.heal()
    assert len(world.founded) == 1
    node = world.nodes["n2:9100"]
    deed = node.gathering.decide(node.identity, world.now)
    assert isinstance(deed, Wait) and deed.reason.startswith("has promised n1 to found cluster")


def test_a_folder_that_is_older_than_its_promise_is_noticed() -> None:
    world = make(seeds=3, expect=3, nodes=3)
    world.heal(5)
    node = world.nodes["n3:9100"]
    node.identity = replace(node.identity, founding=None, promise=None, cluster_uuid="")
    world.crash("n3:9100")
    world.heal(3)
    deed = node.gathering.decide(node.identity, world.now)
    assert isinstance(deed, Wait) and "older than what the node promised" in deed.reason


PLAN = Founding("u1", Peer("n1", 5), 3, (Founder("n1", 5, "n1:1"), Founder("n2", 6, "n2:1")))
N2 = Identity(node=NodeId("n2"), incarnation=6)


@pytest.mark.parametrize(
    ("identity", "plan", "asker", "refusal"),
    [
        (N2, PLAN, Peer("n1", 5), None),
        (replace(N2, promise=PLAN), PLAN, Peer("n1", 5), None),
        (replace(N2, promise=PLAN._replace(plan=2, uuid="u0")), PLAN, Peer("n1", 5), None),
        (replace(N2, promise=PLAN._replace(plan=4, uuid="u2")), PLAN, Peer("n1", 5), "newer than 3"),
        (replace(N2, promise=PLAN._replace(uuid="u2")), PLAN, Peer("n1", 5), "newer than 3"),
        (replace(N2, promise=PLAN._replace(coordinator=Peer("n1", 4))), PLAN, Peer("n1", 5), "promised to follow n1#4"),
        (N2, PLAN, Peer("n3", 9), "may ask"),
        (replace(N2, incarnation=7), PLAN, Peer("n1", 5), "may ask"),
        (replace(N2, cluster_uuid="u9"), PLAN, Peer("n1", 5), "belongs to a cluster"),
    ],
)
def test_a_promise_is_given_once(identity: Identity, plan: Founding, asker: Peer, refusal: str | None) -> None:
    if refusal is None:
        assert promised(identity, plan, asker).promise == plan
    else:
        with pytest.raises(Conflict, match=refusal):
            promised(identity, plan, asker)


def test_what_came_true_is_begun_only_by_those_who_promised_it() -> None:
    assert begun(replace(N2, promise=PLAN), PLAN).founding == PLAN
    with pytest.raises(Conflict):
        begun(N2, PLAN)
    with pytest.raises(Conflict):
        begun(replace(N2, promise=PLAN._replace(plan=4, uuid="u2")), PLAN)


def test_a_sight_survives_the_wire() -> None:
    bootstrap = Bootstrap(cluster="arc", expect=3, seeds=("a:1", "b:1"))
    sight = Sight(bootstrap, Founder("n2", 6, "n2:1"), NodeRole.READER, "", None, PLAN, "waits")
    assert Sight.unpacked(sight.packed()) == sight


@pytest.mark.parametrize("value", [None, [], [["arc", 3, []], ["n", 1, "no address"], "reader", "", None, None, ""]])
def test_nonsense_is_no_sight(value: object) -> None:
    with pytest.raises(ValueError):
        Sight.unpacked(value)
