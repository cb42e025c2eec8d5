"""Members come and go: what an operator asks for, in the order that leaves nobody half in.

To come: the node at an address says who it is, everybody is told where it is reached, then consensus takes it in. To
go: it is said to be leaving, consensus lets go of it, and then its address is forgotten, because until then it must be
reached. Each step may be the last one that works, so both may be asked again and pick up what is left; and who is said
to be leaving and is no member any more is forgotten by `autopilot`.

Consensus guards its own safety; the rules here are about what an operator would regret: a cluster that cannot go on,
two incarnations under one name. One change at a time on this node: who comes second waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio

from arc.catalog.commands import DescribeNode, ForgetNode, SetNodeState
from arc.catalog.facts import Catalog
from arc.catalog.nodes import NodeRecord, check_address
from arc.catalog.roles import NodeState
from arc.cluster.registrar import Propose
from arc.cluster.voting import stand_ins
from arc.errors import Conflict, NotFound, Unavailable
from arc.ids import NodeId
from arc.quorum import majority
from arc.raft.effects import NotLeader
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import members
from arc.raft.requests import NotLeading, error_of
from arc.raft.status import Status
from arc.raft.types import Peer, Role

ANSWER_SECONDS = 2.0
"""A new leader asks everybody at once; who has not answered by then is not counted on."""

LOOK_SECONDS = 0.05


class Raft(Protocol):
    """What is needed of `arc.raft.node.RaftNode`."""

    def status(self) -> Status:
        """One look at the core."""
        ...

    async def read(self) -> int:
        """Return when the local catalog holds all that was agreed on before. Raises Unavailable."""
        ...

    async def change(self, changes: Iterable[Change], *, expect_index: int | None = None) -> int:
        """Change who takes part; the index of the final configuration.

        Raises Unavailable, Conflict, InvalidRequest, OutcomeUnknown.
        """
        ...

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over. Raises Unavailable."""
        ...


class Membership:
    """Adds and removes members; only on the leader.

    ``greet`` connects to an address and returns who answers there; it raises Unavailable.
    """

    def __init__(
        self,
        raft: Raft,
        propose: Propose,
        catalog: Callable[[], Catalog],
        greet: Callable[[str], Awaitable[Peer]],
    ) -> None:
        self._raft = raft
        self._propose = propose
        self._catalog = catalog
        self._greet = greet
        self._changing = trio.Lock()

    async def add(self, address: str, *, as_learner: bool) -> tuple[Peer, int]:
        """Take in the node at ``address``: it follows, and once it has caught up it votes, unless ``as_learner``.

        Returns who it is and the index of the configuration that has it. What stands already is no error, so a call
        that failed on its way may be repeated; a learner is made a voter by the same call.

        Raises NotLeading, Unavailable (code ``peer_unreachable``: nobody answers there; else too slow to catch up, it
        stays a learner), Conflict (another incarnation of that name stands; another change is under way),
        InvalidRequest (no address), OutcomeUnknown.
        """
        check_address(address)
        async with self._changing:
            await self._begin()
            status = self._raft.status()
            mine = self._catalog().nodes.get(status.me.name)
            if mine is not None and mine.address == address and not as_learner:
                return status.me, status.configuration_index  # It leads by now; it would not let itself in.
            try:
                peer = await self._greet(address)
            except Unavailable as error:
                raise Unavailable(error.message, code="peer_unreachable") from error
            status = self._raft.status()
            self._require_one_incarnation(peer, status)
            if as_learner and peer in (*status.configuration.voters, *status.configuration.outgoing):
                raise Conflict(f"{peer.name} votes already; to make it a learner, remove it first")
            (await self._propose.propose(self._described(peer, address))).unwrap()
            kind = ChangeKind.LEARNER if as_learner else ChangeKind.VOTER
            return peer, await self._raft.change([Change(kind, peer)], expect_index=status.configuration_index)

    async def admit(self, described: DescribeNode) -> int:
        """Take in a node that asked for it: everybody is told what it is, and it follows. It votes by the rule of
        `autopilot`. A member is only described anew. Returns the commit index that it has to reach.

        Raises NotLeading, Unavailable, Conflict (code ``other_incarnation``; another change is under way),
        InvalidRequest, OutcomeUnknown.
        """
        async with self._changing:
            await self._begin()
            peer, status = Peer(described.name, described.incarnation), self._raft.status()
            self._require_one_incarnation(peer, status)
            (await self._propose.propose(described)).unwrap()
            if peer not in members(status.configuration):
                await self._raft.change([Change(ChangeKind.LEARNER, peer)], expect_index=status.configuration_index)
            return self._raft.status().commit

    async def change(self, changes: Iterable[Change], *, expect_index: int) -> int:
        """What `autopilot` decided on, if the configuration still is the one that it saw.

        Raises NotLeading, Unavailable, Conflict, InvalidRequest, OutcomeUnknown.
        """
        async with self._changing:
            await self._begin()
            return await self._raft.change(changes, expect_index=expect_index)

    async def remove(self, name: str) -> int:
        """Let go of a node, dead or alive, and forget its address; the index of the last entry that did so.

        The leader hands over instead, and says who is to be asked. Raises NotLeading, NotFound, Conflict (the last
        voter; the rest could not go on; another change is under way), Unavailable, OutcomeUnknown.
        """
        async with self._changing:
            await self._begin()
            return await self._remove(name)

    async def _remove(self, name: str) -> int:
        status = self._raft.status()
        leaving = tuple(peer for peer in members(status.configuration) if peer.name == name)
        record = self._catalog().nodes.get(name)
        if not leaving and record is None:
            raise NotFound(f"there is no node {name!r} in this cluster")
        status = await self._all_asked(leaving)
        _require_rest(status, leaving)
        if status.me in leaving:
            successor = await self._raft.transfer()
            raise NotLeading(f"{name} has led and handed over to {successor.name}, which can remove it", successor.name)
        index = 0
        if leaving:
            if record is not None and record.state != NodeState.LEAVING:
                (await self._propose.propose(_leaves(record))).unwrap()
            index = await self._swap(leaving, status)
        if record is not None:
            forgotten = await self._propose.propose(ForgetNode(name=record.name, incarnation=record.incarnation))
            if forgotten.code != "not_found":  # Else somebody else was quicker to clean up.
                forgotten.unwrap()
                index = forgotten.index
        return index

    async def _swap(self, leaving: tuple[Peer, ...], status: Status) -> int:
        """Take members away and give their votes to others in one entry, whose index it returns."""
        removals = [Change(ChangeKind.REMOVE, peer) for peer in leaving]
        coming = stand_ins(status, self._catalog(), leaving)
        try:
            return await self._raft.change([*coming, *removals], expect_index=status.configuration_index)
        except Unavailable:
            if not coming:
                raise
            # Whoever was to vote could not catch up: who wants to go is not kept for that.
            return await self._raft.change(removals, expect_index=status.configuration_index)

    async def _all_asked(self, leaving: tuple[Peer, ...]) -> Status:
        """How things stand once the voters that stay have answered this leader, or had the time to.

        A leader gives everybody some time before it calls a node silent, and this one may lead for a moment only:
        whoever leaves hands over first. Raises Unavailable when it leads no more.
        """
        with trio.move_on_after(ANSWER_SECONDS):
            while unheard(self._raft.status(), leaving):  # noqa: ASYNC110 (the core tells nobody of an answer)
                await trio.sleep(LOOK_SECONDS)
        status = self._raft.status()
        if status.role is not Role.LEADER:
            raise Unavailable(f"{status.me.name} does not lead any more; nothing was changed")
        return status

    def _described(self, peer: Peer, address: str) -> DescribeNode:
        """What is known of a node that said no more than who it is."""
        record = self._catalog().nodes.get(peer.name)
        if record is None:
            return DescribeNode(name=NodeId(peer.name), incarnation=peer.incarnation, address=address)
        return DescribeNode(
            name=record.name,
            incarnation=record.incarnation,
            address=address,
            role=record.role,
            api_address=record.api_address,
            version=record.version,
            cores=record.cores,
        )

    async def _begin(self) -> None:
        """Raises NotLeading or Unavailable unless this node leads and its catalog holds all that was agreed on."""
        status = self._raft.status()
        if status.role is Role.LEADER:
            await self._raft.read()
            status = self._raft.status()
        if status.role is not Role.LEADER:
            error = error_of(NotLeader(status.leader))
            assert error is not None
            raise error

    def _require_one_incarnation(self, peer: Peer, status: Status) -> None:
        known = [each for each in members(status.configuration) if each.name == peer.name]
        record = self._catalog().nodes.get(peer.name)
        if record is not None:
            known.append(Peer(record.name, record.incarnation))
        others = [each for each in known if each != peer]
        if others:
            raise Conflict(
                f"the node there is {peer.name} with other data than before (incarnation {peer.incarnation}, and this "
                f"cluster knows {others[0].incarnation}): it was emptied, or two nodes have one name; remove it first: "
                f"{peer.name}",
                code="other_incarnation",
            )


def _leaves(record: NodeRecord) -> SetNodeState:
    return SetNodeState(name=record.name, incarnation=record.incarnation, state=NodeState.LEAVING.value)


def unheard(status: Status, leaving: tuple[Peer, ...]) -> list[Peer]:
    """Voters that would stay and have not answered this leader yet; nobody on who does not lead."""
    silent = {follower.peer for follower in status.followers if not follower.has_answered}
    return [peer for peer in status.configuration.voters if peer in silent and peer not in leaving]


def _require_rest(status: Status, leaving: tuple[Peer, ...]) -> None:
    """Raises Conflict unless the voters that stay can go on by themselves."""
    voters = status.configuration.voters
    rest = [peer for peer in voters if peer not in leaving]
    if not rest:
        raise Conflict(f"{leaving[0].name} is the last voter; add another one first, or nobody would be left to vote")
    heard = {follower.peer for follower in status.followers if follower.is_active and follower.has_answered}
    silent = [peer for peer in rest if peer not in heard and peer != status.me]
    if len(rest) < len(voters) and len(rest) - len(silent) < majority(len(rest)):
        raise Conflict(
            f"without {leaving[0].name} the cluster would stand still: of the voters that stay, "
            f"{', '.join(peer.name for peer in silent)} {'does' if len(silent) == 1 else 'do'} not answer; bring them "
            "back, or remove them first"
        )
