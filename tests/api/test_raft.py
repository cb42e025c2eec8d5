"""Consensus for its operator: what is shown, what is asked, and who is named when another node must be asked."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from arc.catalog.commands import DescribeNode
from arc.errors import ArcError, Conflict, NotFound, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.raft.membership import members
from arc.raft.node import Counts
from arc.raft.requests import NotLeading
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role
from tests.api.fakes import READER, World

N1, N2, N3 = Peer("n1", 11), Peer("n2", 22), Peer("n3", 33)
BASE = "/api/v1/raft"

LEADER = Status(
    me=N1, role=Role.LEADER, term=4, vote=N1, leader=N1, commit=90, applied=89, first_index=11, last_index=95,
    last_term=4, durable_index=94, persisted_write=7, snapshot_index=10,
    configuration=Configuration(voters=(N1, N2), learners=(N3,)), configuration_index=40, is_damaged=False,
    has_space=True, lives=1, lease_until=12.5, transfer_to=None, catching_up=(N3,), uncommitted=5,
    uncommitted_bytes=500, reads=2,
    followers=(
        FollowerStatus(N2, "replicate", 93, 96, 2, 200, True, True),
        FollowerStatus(N3, "snapshot", 0, 11, 1, 1000, False, True),
    ),
)  # fmt: skip
FOLLOWER = LEADER._replace(
    me=N2, role=Role.FOLLOWER, leader=N1, vote=None, lease_until=None, followers=(), catching_up=()
)
COUNTS = Counts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, {"role": 3})


class FakeConsensus:
    """Says what it is told to say, and remembers what it was asked."""

    def __init__(self, status: Status = LEADER) -> None:
        self._status = status
        self.asked: list[object] = []
        self.error: ArcError | None = None

    def status(self) -> Status:
        return self._status

    def counts(self) -> Counts:
        return COUNTS

    async def transfer(self, target: Peer | None = None) -> Peer:
        await self._do("transfer", target)
        return target or N2

    async def snapshot(self) -> int:
        await self._do("snapshot")
        return 89

    async def add(self, address: str, *, as_learner: bool) -> tuple[Peer, int]:
        await self._do("add", address, as_learner)
        return N3, 97

    async def remove(self, name: str) -> int:
        await self._do("remove", name)
        return 98

    async def _do(self, *asked: object) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


def world_of(consensus: FakeConsensus) -> World:
    world = World()
    world.clock.seconds = 12.0
    for peer in (N1, N2, Peer("n9", 9)):
        world.apply(
            DescribeNode(name=NodeId(peer.name), incarnation=peer.incarnation, address=f"{peer.name}.example:9100")
        )
    world.replace(raft=consensus, members=consensus)
    return world


async def status_of(status: Status) -> Any:
    async with world_of(FakeConsensus(status)).client() as client:
        answer = await client.get(f"{BASE}/status")
    assert answer.status_code == 200
    return answer.json()


async def test_the_leader_tells_how_far_everybody_is() -> None:
    found = await status_of(LEADER)
    assert found["success"] is True
    assert found["node"] == {"name": "n1", "incarnation": 11, "address": "n1.example:9100"}
    assert found["leader"] == found["node"]
    assert (found["role"], found["term"], found["vote"]) == ("leader", 4, "n1")
    assert [found[name] for name in ("commit", "applied", "first", "last", "durable", "snapshot")] == [
        90, 89, 11, 95, 94, 10,
    ]  # fmt: skip
    assert found["configuration"] == {"index": 40, "is_joint": False, "is_committed": True}
    assert found["lease_seconds"] == 0.5
    assert found["counters"]["messages_dropped"] == 7
    assert found["counters"]["traces"] == {"role": 3}
    me, other, newcomer, gone = found["members"]
    assert me == {
        "name": "n1", "incarnation": 11, "address": "n1.example:9100", "kind": "voter", "is_me": True,
        "is_leader": True, "is_catching_up": False, "is_active": True, "match": 94, "next": 96, "in_flight": None,
        "in_flight_bytes": None, "pace": None,
    }  # fmt: skip
    assert other == {
        "name": "n2", "incarnation": 22, "address": "n2.example:9100", "kind": "voter", "is_me": False,
        "is_leader": False, "is_catching_up": False, "is_active": True, "match": 93, "next": 96, "in_flight": 2,
        "in_flight_bytes": 200, "pace": "replicate",
    }  # fmt: skip
    assert (newcomer["kind"], newcomer["is_catching_up"], newcomer["is_active"]) == ("learner", True, False)
    assert newcomer["address"] is None, "nobody described it"
    assert (gone["name"], gone["kind"], gone["match"]) == ("n9", "none", None)


async def test_a_follower_tells_what_it_knows_and_null_for_the_rest() -> None:
    found = await status_of(FOLLOWER)
    assert (found["role"], found["leader"]["name"], found["vote"], found["lease_seconds"]) == (
        "follower", "n1", None, None,
    )  # fmt: skip
    leader, me = found["members"][:2]
    assert (leader["is_leader"], leader["match"], leader["is_active"]) == (True, None, None)
    assert (me["is_me"], me["match"], me["next"], me["is_active"]) == (True, 94, None, True)


async def test_a_node_between_two_configurations_shows_who_comes_and_who_goes() -> None:
    joint = Configuration(voters=(N1, N3), outgoing=(N1, N2), learners_next=())
    found = await status_of(LEADER._replace(configuration=joint, configuration_index=92))
    assert found["configuration"] == {"index": 92, "is_joint": True, "is_committed": False}
    assert [each["kind"] for each in found["members"]] == ["voter", "leaving", "voter", "none"]


async def test_an_address_of_another_incarnation_is_not_shown_as_this_ones() -> None:
    found = await status_of(LEADER._replace(configuration=Configuration(voters=(N1, Peer("n2", 99)))))
    assert [(each["name"], each["incarnation"], each["address"]) for each in found["members"]] == [
        ("n1", 11, "n1.example:9100"), ("n2", 99, None), ("n2", 22, "n2.example:9100"), ("n9", 9, "n9.example:9100"),
    ]  # fmt: skip


async def test_nobody_leads() -> None:
    found = await status_of(FOLLOWER._replace(leader=None, role=Role.PRE_CANDIDATE, is_damaged=True, has_space=False))
    assert (found["leader"], found["role"]) == (None, "pre_candidate")
    assert (found["is_damaged"], found["has_space"]) == (True, False)
    assert not any(each["is_leader"] for each in found["members"])


async def test_what_an_admin_asks_for_reaches_consensus_and_is_logged_with_his_name() -> None:
    consensus = FakeConsensus()
    world = world_of(consensus)
    async with world.client() as client:
        for method, path, body, expected in (
            ("POST", "/transfer", None, {"leader": {"name": "n2", "incarnation": 22, "address": "n2.example:9100"}}),
            ("POST", "/transfer", {"target": "n2"}, None),
            ("POST", "/snapshot", None, {"index": 89}),
            ("POST", "/members", {"address": "h:1"}, {"member": {"name": "n3", "incarnation": 33, "address": "h:1"},
                                                      "index": 97}),
            ("POST", "/members", {"address": "h:1", "learner": True}, None),
            ("DELETE", "/members/n%20é", None, {"removed": "n é", "index": 98}),
        ):  # fmt: skip
            answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
            assert answer.status_code == 200, answer.text
            if expected is not None:
                assert answer.json() == {"success": True, **expected}
    assert consensus.asked == [
        ("transfer", None), ("transfer", N2), ("snapshot",), ("add", "h:1", False), ("add", "h:1", True),
        ("remove", "n é"),
    ]  # fmt: skip
    for event in ("leadership_transferred", "raft_snapshot_asked_for", "member_added", "member_removed"):
        assert world.logged(event)[0]["by"] == "admin"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/transfer", {"target": "n9"}, 404),
        ("/transfer", {"target": 3}, 400),
        ("/transfer", [], 400),
        ("/members", {}, 400),
        ("/members", {"address": ""}, 400),
        ("/members", {"address": "h:1", "learner": "yes"}, 400),
    ],
)
async def test_a_wrong_request_asks_nobody(path: str, body: object, status: int) -> None:
    consensus = FakeConsensus()
    async with world_of(consensus).client() as client:
        answer = await client.post(BASE + path, json=body)
    assert answer.status_code == status
    assert consensus.asked == []


ASKED = [
    ("POST", "/transfer", None),
    ("POST", "/members", {"address": "h:1"}),
    ("DELETE", "/members/n2", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
@pytest.mark.parametrize(
    ("error", "leader"),
    [
        (NotLeading("this node does not lead; n2 does", "n2"), {"name": "n2", "address": "n2.example:9100"}),
        (NotLeading("this node does not lead; n3 does", "n3"), {"name": "n3", "address": None}),
        (Unavailable("no leader is known now", code="not_leader"), None),
    ],
    ids=["described", "not described", "nobody"],
)
async def test_whoever_does_not_lead_says_who_does(
    method: str, path: str, body: object, error: ArcError, leader: object
) -> None:
    consensus = FakeConsensus()
    consensus.error = error
    async with world_of(consensus).client() as client:
        answer = await client.request(method, BASE + path, json=body)
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_leader"
    assert answer.json()["leader"] == leader
    assert answer.json()["error"] == error.message
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("remove it first"), 409), (NotFound("no node"), 404), (Unavailable("too slow"), 503),
     (OutcomeUnknown("leadership was lost"), 503)],
)  # fmt: skip
async def test_other_refusals_keep_their_words(error: ArcError, status: int) -> None:
    consensus = FakeConsensus()
    consensus.error = error
    async with world_of(consensus).client() as client:
        answer = await client.post(f"{BASE}/members", json={"address": "h:1"})
    assert (answer.status_code, answer.json()["error"]) == (status, error.message)
    assert "leader" not in answer.json()


async def test_a_node_that_listens_for_no_others_says_so() -> None:
    world = world_of(FakeConsensus())
    world.replace(members=None)
    async with world.client() as client:
        answer = await client.post(f"{BASE}/members", json={"address": "h:1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "cluster_disabled")


async def test_only_admins_look_and_ask() -> None:
    async with world_of(FakeConsensus()).client(READER) as client:
        for method, path, body in (*ASKED, ("GET", "/status", None), ("POST", "/snapshot", None)):
            assert (await client.request(method, BASE + path, json=body)).status_code == 403


def test_the_leader_of_these_tests_is_one_that_could_be() -> None:
    assert {each.peer for each in LEADER.followers} | {LEADER.me} == {*members(LEADER.configuration)}
