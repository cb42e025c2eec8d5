"""The inside of the door: a node asks any member to be let in, or to be let go, and the leader does it.

A member that does not lead passes the question on to the leader, once: what was passed on is not passed on again. It
vouches for who asked, and only members may do so. What can never work is refused with the reason (another cluster's
node, another incarnation, too many cores); what may work later is Unavailable, and the joiner asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cbor2

from arc.catalog.commands import DescribeNode
from arc.catalog.facts import Catalog
from arc.cluster.gathering import Answerer
from arc.cluster.identityfile import IdentityFile
from arc.cluster.membership import Membership, Raft
from arc.errors import Conflict, Forbidden, InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.raft.membership import members
from arc.raft.types import Peer, Role
from arc.telemetry import Log

JOIN = "membership.join"
LEAVE = "membership.leave"
FORWARDED = "membership.forwarded"
"""Kinds of questions; the last is what a member passes on to the leader."""

FORWARD_SECONDS = 10.0
"""A durable description and a durable change, with an election in between."""


class Standing(NamedTuple):
    """What a joiner is told. ``reach`` is how far its catalog must get; ``is_known``: it is described or a member."""

    is_known: bool
    leader: str
    reach: int
    addresses: Mapping[str, str]

    def packed(self) -> bytes:
        """As it goes back."""
        data: bytes = cbor2.dumps([self.is_known, self.leader, self.reach, sorted(self.addresses.items())])
        return data

    @classmethod
    def unpacked(cls, data: bytes) -> Standing:
        """The other way round. Raises ValueError."""
        match cbor2.loads(data):
            case [bool(is_known), str(leader), int(reach), [*addresses]]:
                return cls(is_known, leader, reach, {str(name): str(address) for name, address in addresses})
        raise ValueError("not a standing")


class Application(NamedTuple):
    """What a joiner says. ``asks_only``: to be told where it stands, and nothing is done for it."""

    cluster: str
    uuid: str
    asks_only: bool
    described: DescribeNode

    def packed(self) -> bytes:
        """As it is sent."""
        node = self.described
        facts = [node.name, node.incarnation, node.address, node.role, node.api_address, node.version, node.cores]
        data: bytes = cbor2.dumps([self.cluster, self.uuid, self.asks_only, facts])
        return data

    @classmethod
    def unpacked(cls, data: bytes, now_us: int) -> Application:
        """The other way round. Raises InvalidRequest."""
        try:
            found = cbor2.loads(data)
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise InvalidRequest(f"not an application: {error}") from error
        match found:
            case [
                str(cluster),
                str(uuid),
                bool(asks_only),
                [str(name), int(incarnation), str(address), str(role), str(api_address), str(version), int(cores)],
            ]:
                described = DescribeNode(
                    name=NodeId(name),
                    incarnation=incarnation,
                    address=address,
                    role=role,
                    api_address=api_address,
                    version=version,
                    cores=cores,
                    at_us=now_us,
                )
                return cls(cluster, uuid, asks_only, described)
        raise InvalidRequest("not an application: wrong types")


class CallPeer(Protocol):
    """`cluster.calls.Calls.call`."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """A node's answer. Raises Unavailable, OutcomeUnknown, or what the answerer raised."""
        ...


def any_cores(cores: int) -> None:
    """No limit: what `check_cores` is without a licence that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionStatistics:
    """Counters since the start."""

    admitted_total: int
    removed_total: int
    forwarded_total: int
    refused_total: int


class Admission:
    """Answers those who want in or out.

    ``check_cores`` is told how many cores the cluster would have and raises what the licence says (P-45). With
    ``replaces_wiped`` a node that comes back emptied takes the place of its silent former self without an operator.
    """

    def __init__(
        self,
        cluster: str,
        identity: IdentityFile,
        raft: Raft,
        membership: Membership,
        catalog: Callable[[], Catalog],
        *,
        call: CallPeer,
        clock: Clock,
        log: Log,
        check_cores: Callable[[int], None] = any_cores,
        replaces_wiped: bool = False,
    ) -> None:
        self._cluster = cluster
        self._identity = identity
        self._raft = raft
        self._membership = membership
        self._catalog = catalog
        self._call = call
        self._clock = clock
        self._log = log.bind(component="admission")
        self._check_cores = check_cores
        self._replaces_wiped = replaces_wiped
        self._admitted = self._removed = self._forwarded = self._refused = 0

    def __repr__(self) -> str:
        return f"<Admission admitted={self._admitted} removed={self._removed} refused={self._refused}>"

    @property
    def answerers(self) -> Mapping[str, Answerer]:
        """For `cluster.calls.Calls`."""
        return {JOIN: self.answer_join, LEAVE: self.answer_leave, FORWARDED: self.answer_forwarded}

    def statistics(self) -> AdmissionStatistics:
        """Numbers for status and metrics."""
        return AdmissionStatistics(
            admitted_total=self._admitted,
            removed_total=self._removed,
            forwarded_total=self._forwarded,
            refused_total=self._refused,
        )

    async def answer_join(self, peer: Peer, question: bytes) -> bytes:
        """A node asks to be let in, here or through here. Raises what `admit` does."""
        return await self._here_or_leader(JOIN, peer, question)

    async def answer_leave(self, peer: Peer, question: bytes) -> bytes:
        """A node asks to be let go. Raises what `Membership.remove` does."""
        return await self._here_or_leader(LEAVE, peer, question)

    async def answer_forwarded(self, peer: Peer, question: bytes) -> bytes:
        """A member passes on what a node asked. Raises Forbidden, or what was refused."""
        try:
            kind, name, incarnation, asked = cbor2.loads(question)
            asker = Peer(name, incarnation)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"nothing that is passed on: {error}") from error
        status = self._raft.status()
        if peer not in members(status.configuration):
            raise Forbidden(f"{peer} is no member and speaks for nobody else", code="not_a_member")
        if status.role is not Role.LEADER:
            raise Unavailable(f"{status.me.name} does not lead any more")  # At most one hop.
        return await self._decide(kind, asker, asked)

    async def _here_or_leader(self, kind: str, peer: Peer, question: bytes) -> bytes:
        status = self._raft.status()
        if status.role is Role.LEADER:
            return await self._decide(kind, peer, question)
        if status.leader is None or status.leader == status.me:
            raise Unavailable(f"{status.me.name} knows of no leader now")
        self._forwarded += 1
        passed_on = cbor2.dumps([kind, *peer, question])
        return await self._call(status.leader.name, FORWARDED, passed_on, timeout_seconds=FORWARD_SECONDS)

    async def _decide(self, kind: str, peer: Peer, question: bytes) -> bytes:
        try:
            if kind == LEAVE:
                return await self._let_go(peer)
            if kind == JOIN:
                return (await self.admit(Application.unpacked(question, self._clock.wall_us()), peer)).packed()
        except (InvalidRequest, Forbidden) as error:
            self._refused += 1
            self._log.warning("membership_refused", asked=kind, node=str(peer), reason=error.message)
            raise
        raise InvalidRequest(f"nobody asks for {kind!r:.80} here")

    async def admit(self, application: Application, peer: Peer) -> Standing:
        """Let a node in, on the leader.

        Raises Conflict (``other_cluster``, ``other_incarnation``), InvalidRequest, what ``check_cores`` raises,
        Unavailable, OutcomeUnknown.
        """
        described, uuid = application.described, self._identity.current.cluster_uuid
        if Peer(described.name, described.incarnation) != peer:
            raise InvalidRequest(f"{peer} asks for {described.name}")
        if application.cluster != self._cluster or (application.uuid and application.uuid != uuid):
            raise Conflict(
                f"{peer.name} belongs to cluster {application.uuid or application.cluster}, and this is {uuid} "
                f"({self._cluster}); with an empty data folder and the right cluster.name it can join",
                code="other_cluster",
            )
        if application.asks_only:
            await self._raft.read()
            return self._standing(peer)
        others = sum(each.cores for each in self._catalog().nodes.values() if each.name != described.name)
        self._check_cores(others + described.cores)
        try:
            index = await self._membership.admit(described)
        except Conflict as error:
            if error.code != "other_incarnation" or not self._replaces_wiped or not self._is_silent(peer.name):
                raise
            self._log.warning("wiped_node_replaced", node=str(peer), reason=error.message)
            await self._membership.remove(peer.name)
            index = await self._membership.admit(described)
        self._admitted += 1
        self._log.info("node_admitted", node=str(peer), address=described.address, role=described.role)
        return self._standing(peer)._replace(reach=index)

    def _standing(self, peer: Peer) -> Standing:
        status, nodes = self._raft.status(), self._catalog().nodes
        record = nodes.get(peer.name)
        is_described = record is not None and record.incarnation == peer.incarnation
        addresses = {str(each.name): each.address for each in nodes.values() if each.address}
        return Standing(is_described or peer in members(status.configuration), status.me.name, status.commit, addresses)

    async def _let_go(self, peer: Peer) -> bytes:
        known = members(self._raft.status().configuration)
        record = self._catalog().nodes.get(peer.name)
        is_described = record is not None and record.incarnation == peer.incarnation
        if peer not in known and not is_described:
            return Standing(False, self._raft.status().me.name, 0, {}).packed()  # It asks again and is out already.
        index = await self._membership.remove(peer.name)
        self._removed += 1
        self._log.info("node_let_go", node=str(peer), index=index)
        return Standing(False, self._raft.status().me.name, index, {}).packed()

    def _is_silent(self, name: str) -> bool:
        """Whether no member of that name answers now."""
        return not any(each.peer.name == name and each.is_active for each in self._raft.status().followers)
