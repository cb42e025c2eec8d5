"""A node goes: for a while, for maintenance, or for good. The order is what keeps the cluster whole (P-47).

First everybody is told that the node takes nothing new, then its leases find other holders, then its leadership does;
before a node leaves for good, others have every file that it has.
An orderly stop ends there and keeps the membership: the node is back at its next start. Leaving for good goes on: the
members let go of it, and forget it. Whatever is cut short leaves the node a member that says it is leaving, which its
next start puts right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from arc.catalog.commands import SetNodeState
from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.cluster.admission import LEAVE, CallPeer
from arc.cluster.identityfile import IdentityFile
from arc.cluster.registrar import Propose
from arc.errors import ArcError, Conflict, NotFound, OutcomeUnknown, Unavailable
from arc.raft.membership import members
from arc.raft.status import Status
from arc.raft.types import Peer, Role
from arc.telemetry import Log

TELL_SECONDS = 5.0
"""How long an orderly stop tries to tell the others; without a leader they will notice."""

LEASES_SECONDS = 30.0
"""How long leases may take to find other holders: the next writer finishes its queue first."""

FILES_SECONDS = 60.0
"""How long others may take to bring the last files from here; on a slow line the order is simply given again."""

TRANSFER_SECONDS = 5.0
"""A transfer takes a round trip and an election, and where only the leader votes somebody else is given a vote first
(`autopilot`). Whoever does not lead by then is elected without it.
"""

ASK_SECONDS = 15.0
PAUSE_SECONDS = 0.5


class LeavingRaft(Protocol):
    """What is needed of `arc.raft.node.RaftNode`."""

    def status(self) -> Status:
        """One look at the core."""
        ...

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over. Raises Unavailable."""
        ...


async def set_state(propose: Propose, catalog: Catalog, name: str, state: NodeState) -> int:
    """Drain a node (``leaving``) or take it back (``healthy``); the index at which that was agreed on.

    Raises NotFound, Conflict (the table of `arc.catalog.roles` has no such step), Unavailable, OutcomeUnknown.
    """
    known = catalog.nodes.get(name)
    if known is None:
        raise NotFound(f"there is no node {name!r} in this cluster")
    command = SetNodeState(name=known.name, incarnation=known.incarnation, state=state.value)
    result = await propose.propose(command)
    result.unwrap()
    return result.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What was done before the end. A step that was not needed counts as done."""

    is_told: bool
    are_leases_gone: bool
    is_leadership_gone: bool


class Leaving:
    """Takes this node out of duty.

    ``wait_leases_gone`` returns when this node holds no lease any more, according to its catalog; who moves them is
    the coordinator's matter, which sees that the node is leaving. ``wait_files_copied`` returns when every file on this
    node is on one that stays, too.
    """

    def __init__(
        self,
        identity: IdentityFile,
        raft: LeavingRaft,
        propose: Propose,
        catalog: Callable[[], Catalog],
        wait_leases_gone: Callable[[], Awaitable[None]],
        wait_files_copied: Callable[[], Awaitable[None]],
        *,
        call: CallPeer,
        log: Log,
    ) -> None:
        self._identity = identity
        self._raft = raft
        self._propose = propose
        self._catalog = catalog
        self._wait_leases_gone = wait_leases_gone
        self._wait_files_copied = wait_files_copied
        self._call = call
        self._log = log.bind(component="leaving")

    async def stand_down(self) -> Left:
        """Before an orderly stop: hand over what can be handed over in time. Never raises, never takes for ever."""
        if not self._others():
            await trio.lowlevel.checkpoint()
            return Left(is_told=True, are_leases_gone=True, is_leadership_gone=True)
        left = Left(
            is_told=await self._tried(TELL_SECONDS, self._tell),
            are_leases_gone=await self._tried(LEASES_SECONDS, self._wait_leases_gone),
            is_leadership_gone=await self._tried(TRANSFER_SECONDS, self._transfer),
        )
        self._log.info("stood_down", told=left.is_told, leases=left.are_leases_gone, leadership=left.is_leadership_gone)
        return left

    async def leave(self) -> None:
        """Leave for good, as far as this run of the process is concerned; a later start asks to come back.

        Raises Conflict: it is the only member, the rest could not go on without it, nobody takes its leases or files;
        Unavailable, OutcomeUnknown: it did not work now. It then is a member that is draining, and may be asked again.
        """
        if not self._others():
            raise Conflict("this node is the only member of its cluster: there is nobody to leave it to")
        await self._tell()
        with trio.move_on_after(LEASES_SECONDS) as soon:
            await self._wait_leases_gone()
        if soon.cancelled_caught:
            raise Conflict(
                f"nobody has taken over the leases of this node within {LEASES_SECONDS:g} s; it is draining and still "
                "a member. See who could take them, then leave again",
                code="leases_held",
            )
        # Without a lease nothing is flushed here any more: what is here now is all there will be.
        with trio.move_on_after(FILES_SECONDS) as soon:
            await self._wait_files_copied()
        if soon.cancelled_caught:
            raise Conflict(
                f"files are on this node alone, and nobody has copied them within {FILES_SECONDS:g} s; it is draining "
                "and still a member. Look after the other nodes, then leave again",
                code="files_held",
            )
        with trio.move_on_after(TRANSFER_SECONDS) as soon:
            await self._transfer()
        if soon.cancelled_caught:
            raise Unavailable("no other voter could take over leadership; this node is draining and still a member")
        await self._identity.change(lambda current: replace(current, has_left=True))
        await self._be_let_go()
        self._log.info("left", cluster=self._identity.current.cluster_uuid)

    # ----------------------------------------------------------------------------------------------------------- steps

    async def _tell(self) -> None:
        await set_state(self._propose, self._catalog(), self._identity.current.node, NodeState.LEAVING)

    async def _transfer(self) -> None:
        while self._raft.status().role is Role.LEADER:
            with suppress(Unavailable):
                await self._raft.transfer()
                return
            await trio.sleep(PAUSE_SECONDS)

    async def _be_let_go(self) -> None:
        """Ask the leader, or whoever may know it, until this node is out. Raises what cannot be helped."""
        last: ArcError = Unavailable("no other member answers")
        for name in self._whom_to_ask():
            try:
                await self._call(name, LEAVE, b"", timeout_seconds=ASK_SECONDS)
                return
            except (Unavailable, OutcomeUnknown) as error:
                last = error
                await trio.sleep(PAUSE_SECONDS)
            except ArcError:
                await self._identity.change(lambda current: replace(current, has_left=False))
                raise
        raise last

    def _whom_to_ask(self) -> list[str]:
        """The leader first, then everybody, twice: an election may be under way."""
        leader = self._raft.status().leader
        first = [leader.name] if leader is not None and leader.name != self._identity.current.node else []
        return list(dict.fromkeys([*first, *self._others()])) * 2

    def _others(self) -> list[str]:
        status = self._raft.status()
        return [peer.name for peer in members(status.configuration) if peer != status.me]

    async def _tried(self, seconds: float, step: Callable[[], Awaitable[None]]) -> bool:
        """Whether the step was done in time."""
        try:
            with trio.move_on_after(seconds) as soon:
                await step()
        except ArcError as error:
            self._log.info("step_skipped", reason=error.message)
            return False
        return not soon.cancelled_caught
