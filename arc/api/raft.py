"""Consensus for its operator: who leads, how far everybody is; hand over, take in, let go.

Everybody tells what he knows; only the leader can be told to do something, and whoever else is asked says who that is.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from arc.api.bodies import json_object, optional_flag, optional_text, text
from arc.api.deps import Consensus, Deps, Members
from arc.api.errors import LeaderElsewhere
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route
from arc.api.schemas import BOOLEAN, INTEGER, NUMBER, STRING, array, json_answer, nullable, obj
from arc.catalog.nodes import Nodes
from arc.errors import Conflict, NotFound, Unavailable
from arc.raft.membership import is_voter, members
from arc.raft.requests import NotLeading
from arc.raft.status import Status
from arc.raft.types import Configuration, Peer, Role

T = TypeVar("T")

_NODE = obj({"name": STRING, "incarnation": INTEGER, "address": nullable(STRING)})
_MEMBER = obj(
    {
        "name": STRING, "incarnation": INTEGER, "address": nullable(STRING),
        "kind": {"type": "string", "enum": ["voter", "learner", "leaving", "none"]}, "is_me": BOOLEAN,
        "is_leader": BOOLEAN, "is_catching_up": BOOLEAN, "is_active": nullable(BOOLEAN), "match": nullable(INTEGER),
        "next": nullable(INTEGER), "in_flight": nullable(INTEGER), "in_flight_bytes": nullable(INTEGER),
        "pace": nullable(STRING),
    }
)  # fmt: skip
_STATUS = obj(
    {
        "success": BOOLEAN, "node": _NODE, "role": STRING, "term": INTEGER, "vote": nullable(STRING),
        "leader": nullable(_NODE), "commit": INTEGER, "applied": INTEGER, "first": INTEGER, "last": INTEGER,
        "last_term": INTEGER, "durable": INTEGER, "snapshot": INTEGER, "is_damaged": BOOLEAN, "has_space": BOOLEAN,
        "lease_seconds": nullable(NUMBER), "transfer_to": nullable(STRING), "uncommitted": INTEGER,
        "uncommitted_bytes": INTEGER, "reads": INTEGER,
        "configuration": obj({"index": INTEGER, "is_joint": BOOLEAN, "is_committed": BOOLEAN}),
        "members": array(_MEMBER), "counters": obj({}),
    }
)  # fmt: skip


class Raft:
    """All rows are for admins."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin = Permission.ADMIN
        base = "/api/v1/raft"
        moved = obj({"success": BOOLEAN, "leader": _NODE})
        saved = obj({"success": BOOLEAN, "index": INTEGER})
        added = obj({"success": BOOLEAN, "member": _NODE, "index": INTEGER})
        removed = obj({"success": BOOLEAN, "removed": STRING, "index": INTEGER})
        address: dict[str, object] = {"type": "string", "description": "`host:port` of the node's peer port."}
        name = Parameter(name="name", place="path", about="Name of a node.", schema=STRING, required=True)
        return (
            Route(
                method="GET", path=f"{base}/status", name="raft_status", tag="raft", permission=admin, unlimited=True,
                summary="Consensus as this node sees it", view=self.status,
                answers={200: json_answer("What only a leader knows is null elsewhere.", _STATUS)},
            ),
            Route(
                method="POST", path=f"{base}/transfer", name="raft_transfer", tag="raft", permission=admin,
                summary="Hand leadership over", view=self.transfer,
                body=RequestBody(
                    content={"application/json": obj({}, {"target": nullable(STRING)})}, required=False
                ),
                answers={200: json_answer("Who leads next.", moved)},
            ),
            Route(
                method="POST", path=f"{base}/snapshot", name="raft_snapshot", tag="raft", permission=admin,
                summary="Write a snapshot of the catalog on this node", view=self.snapshot,
                answers={200: json_answer("Up to which index.", saved)},
            ),
            Route(
                method="POST", path=f"{base}/members", name="raft_add_member", tag="raft", permission=admin,
                summary="Take in a node; answered when it has caught up", view=self.add,
                body=RequestBody(content={
                    "application/json": obj({"address": address}, {"learner": nullable(BOOLEAN)})}),
                answers={200: json_answer("It takes part.", added)},
            ),
            Route(
                method="DELETE", path=f"{base}/members/{{name}}", name="raft_remove_member", tag="raft",
                permission=admin, summary="Let go of a node, dead or alive", view=self.remove, parameters=(name,),
                answers={200: json_answer("It takes no part.", removed)},
            ),
        )  # fmt: skip

    async def status(self, call: Call) -> Reply:
        """What this node knows. Raises Unavailable."""
        raft = self._raft()
        status = raft.status()
        document = show_status(status, self._deps.catalog().nodes, now=self._deps.clock.now())
        return json_reply(200, {"success": True, **document, "counters": raft.counts()._asdict()})

    async def transfer(self, call: Call) -> Reply:
        """To the voter that holds most, when none is named. Raises NotFound, InvalidRequest, Unavailable."""
        raft = self._raft()
        name = optional_text(json_object(call.body), "target") if call.body else None
        target = _named(raft.status().configuration, name) if name else None
        successor = await self._on_leader(raft.transfer(target))
        self._deps.log.info("leadership_transferred", to=successor.name, by=call.principal.name)
        return json_reply(200, {"success": True, "leader": _node(successor, self._deps.catalog().nodes)})

    async def snapshot(self, call: Call) -> Reply:
        """On this node, whatever its role. Raises Unavailable, Overloaded."""
        index = await self._raft().snapshot()
        self._deps.log.info("raft_snapshot_asked_for", index=index, by=call.principal.name)
        return json_reply(200, {"success": True, "index": index})

    async def add(self, call: Call) -> Reply:
        """May take as long as the newcomer needs to catch up; who does not wait changes nothing by leaving.

        Raises Conflict, InvalidRequest, Unavailable, OutcomeUnknown.
        """
        document = json_object(call.body)
        address = text(document, "address")
        as_learner = optional_flag(document, "learner") or False
        peer, index = await self._on_leader(self._members().add(address, as_learner=as_learner))
        self._deps.log.info("member_added", node=peer.name, address=address, index=index, by=call.principal.name)
        member = {"name": peer.name, "incarnation": peer.incarnation, "address": address}
        return json_reply(200, {"success": True, "member": member, "index": index})

    async def remove(self, call: Call) -> Reply:
        """Raises NotFound, Conflict, Unavailable, OutcomeUnknown."""
        name = call.path["name"]
        index = await self._on_leader(self._members().remove(name))
        self._deps.log.info("member_removed", node=name, index=index, by=call.principal.name)
        return json_reply(200, {"success": True, "removed": name, "index": index})

    def _raft(self) -> Consensus:
        if self._deps.raft is None:
            raise Unavailable("consensus is not running on this node")
        return self._deps.raft

    def _members(self) -> Members:
        if self._deps.members is None:
            raise Conflict(
                "this node listens for no others, so it is a cluster of one for good; "
                "start it with cluster.enabled to change that",
                code="cluster_disabled",
            )
        return self._deps.members

    async def _on_leader(self, asked: Awaitable[T]) -> T:
        """What was asked for. Raises LeaderElsewhere where another node must be asked."""
        try:
            return await asked
        except Unavailable as error:
            if error.code != "not_leader":
                raise
            leader = None
            if isinstance(error, NotLeading):
                leader = (error.leader, _address(self._deps.catalog().nodes, error.leader))
            raise LeaderElsewhere(error.message, leader) from error


def show_status(status: Status, nodes: Nodes, *, now: float) -> dict[str, object]:
    """The document of one look; ``now`` by the clock that ``status.lease_until`` is told in."""
    lease = status.lease_until
    return {
        "node": _node(status.me, nodes),
        "role": status.role.name.lower(),
        "term": status.term,
        "vote": status.vote.name if status.vote is not None else None,
        "leader": _node(status.leader, nodes) if status.leader is not None else None,
        "commit": status.commit,
        "applied": status.applied,
        "first": status.first_index,
        "last": status.last_index,
        "last_term": status.last_term,
        "durable": status.durable_index,
        "snapshot": status.snapshot_index,
        "is_damaged": status.is_damaged,
        "has_space": status.has_space,
        "lease_seconds": max(0.0, lease - now) if lease is not None else None,
        "transfer_to": status.transfer_to.name if status.transfer_to is not None else None,
        "uncommitted": status.uncommitted,
        "uncommitted_bytes": status.uncommitted_bytes,
        "reads": status.reads,
        "configuration": {
            "index": status.configuration_index,
            "is_joint": status.configuration.is_joint,
            "is_committed": status.configuration_index <= status.commit,
        },
        "members": _members(status, nodes),
    }


def _members(status: Status, nodes: Nodes) -> list[dict[str, object]]:
    """Everybody who gets the log, then those who are known and take no part."""
    known = members(status.configuration)
    others = (Peer(record.name, record.incarnation) for _, record in sorted(nodes.items()))
    return [_member(peer, status, nodes) for peer in (*known, *(peer for peer in others if peer not in known))]


def _member(peer: Peer, status: Status, nodes: Nodes) -> dict[str, object]:
    is_leading = status.role is Role.LEADER
    follower = next((each for each in status.followers if each.peer == peer), None)
    is_me = peer == status.me
    return {
        **_node(peer, nodes),
        "kind": _kind(peer, status.configuration),
        "is_me": is_me,
        "is_leader": peer == status.leader,
        "is_catching_up": peer in status.catching_up,
        "is_active": follower.is_active if follower is not None else True if is_me else None,
        "match": follower.match if follower is not None else status.durable_index if is_me else None,
        "next": follower.next if follower is not None else status.last_index + 1 if is_me and is_leading else None,
        "in_flight": follower.in_flight if follower is not None else None,
        "in_flight_bytes": follower.in_flight_bytes if follower is not None else None,
        "pace": follower.pace if follower is not None else None,
    }


def _kind(peer: Peer, configuration: Configuration) -> str:
    if peer in configuration.voters:
        return "voter"
    if peer in configuration.learners or peer in configuration.learners_next:
        return "learner"
    return "leaving" if is_voter(configuration, peer) else "none"


def _named(configuration: Configuration, name: str) -> Peer:
    found = [peer for peer in members(configuration) if peer.name == name]
    if not found:
        raise NotFound(f"there is no member {name!r}")
    return next((peer for peer in found if is_voter(configuration, peer)), found[0])


def _node(peer: Peer, nodes: Nodes) -> dict[str, object]:
    record = nodes.get(peer.name)
    is_known = record is not None and record.incarnation == peer.incarnation
    return {
        "name": peer.name,
        "incarnation": peer.incarnation,
        "address": record.address if record is not None and is_known else None,
    }


def _address(nodes: Nodes, name: str) -> str | None:
    record = nodes.get(name)
    return record.address if record is not None else None
