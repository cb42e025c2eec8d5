"""How a command is agreed on: judged here, proposed to Raft here or at the leader, applied here, told.

A command that would be refused, or would change nothing, is answered and not logged (P-31): it is judged against a
version of the catalog that is known to hold everything agreed on before the question (Raft, 6.4), so the answer is as
good as if it had been logged. Everything else becomes an entry. A node that does not lead passes it to the one that
does and waits until it is applied here, too: whoever got a result sees its effect on the node he asked.

A proposer who is cancelled loses his answer and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import cbor2
import trio

from arc.catalog import codec, fsm
from arc.catalog.commands import Command
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.feed import Feed
from arc.errors import InvalidRequest, OutcomeUnknown
from arc.ports import Clock
from arc.raft.node import RaftNode
from arc.raft.requests import NotLeading
from arc.raft.types import Peer

FORWARD_SECONDS = 10.0
"""How long the leader's answer is waited for; an election and a slow disk fit in."""


KIND = "propose"
"""Kind of the questions that `Proposals.answer` answers."""


class Ask(Protocol):
    """`Calls.call`: ask another node. Raises Unavailable, OutcomeUnknown, and what the other node raised."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The peer's answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsStatistics:
    """Counters since the start.

    ``unchanged`` commands stood already; ``commit_seconds_total`` is time that accepted proposals waited.
    """

    accepted_total: int
    unchanged_total: int
    refused_total: int
    forwarded_total: int
    batches_total: int
    commit_seconds_total: float
    snapshots_total: int
    waiting: int
    applied_index: int
    snapshot_index: int
    log_first_index: int
    log_next_index: int
    durable_index: int
    commit_index: int
    term: int
    is_leader: bool
    is_damaged: bool
    has_space: bool
    role_changes_total: int
    messages_sent_total: int
    messages_received_total: int
    messages_dropped_total: int


class Proposals:
    """Changes the catalog. ``ask`` is None on a node without peers."""

    def __init__(self, raft: RaftNode, machine: ClusterFSM, feed: Feed, clock: Clock, ask: Ask | None) -> None:
        self._raft = raft
        self._fsm = machine
        self._feed = feed
        self._clock = clock
        self._ask = ask
        self._accepted = self._unchanged = self._refused = self._forwarded = 0
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"<Proposals accepted={self._accepted} applied={self._fsm.catalog.index}>"

    async def propose(self, command: Command) -> Result:
        """Return the result of the command once it is agreed on and applied here; a refusal is a result too.

        Raises Unavailable when it was not stored (no leader, stopping), Overloaded when too much waits or the disk is
        full (not stored either), OutcomeUnknown when it may have been.
        """
        judged = self._judge(command)
        if judged is not None:
            await self._raft.read()
            judged = self._judge(command)
        if judged is not None:
            self._unchanged += judged.ok
            self._refused += not judged.ok
            return judged
        begun = self._clock.now()
        result = await self._agree(codec.encode(command))
        self._accepted += result.ok
        self._refused += not result.ok
        self._seconds += self._clock.now() - begun
        return result

    async def answer(self, peer: Peer, question: bytes) -> bytes:
        """Propose what another node passes on; its result, as bytes. Raises as `propose`, and InvalidRequest."""
        try:
            codec.decode(question)
            proposed = await self._raft.propose(question)
        except ValueError as error:
            raise InvalidRequest(f"{peer} passed on no command: {error}") from error
        result = proposed.result
        assert isinstance(result, Result), proposed
        return cbor2.dumps([result.ok, result.code, result.message, result.value, result.index])

    def statistics(self) -> ProposalsStatistics:
        """Numbers for status, metrics and gates."""
        counts, status = self._raft.counts(), self._raft.status()
        return ProposalsStatistics(
            accepted_total=self._accepted,
            unchanged_total=self._unchanged,
            refused_total=self._refused,
            forwarded_total=self._forwarded,
            batches_total=counts.disk_groups,
            commit_seconds_total=self._seconds,
            snapshots_total=counts.snapshots,
            waiting=counts.waiting + status.uncommitted,
            applied_index=self._fsm.catalog.index,
            snapshot_index=status.snapshot_index,
            log_first_index=status.first_index,
            log_next_index=status.last_index + 1,
            durable_index=status.durable_index,
            commit_index=status.commit,
            term=status.term,
            is_leader=self._raft.is_leader,
            is_damaged=status.is_damaged,
            has_space=status.has_space,
            role_changes_total=counts.traces.get("role", 0),
            messages_sent_total=counts.messages_sent,
            messages_received_total=counts.messages_received,
            messages_dropped_total=counts.messages_dropped,
        )

    def _judge(self, command: Command) -> Result | None:
        """What the command would come to now without changing anything; None when it has to be agreed on."""
        catalog: Catalog = self._fsm.catalog
        after, applied = fsm.apply(catalog, catalog.index + 1, command)
        if applied.result.ok and not after.same_facts(catalog):
            return None
        if not applied.result.ok:
            return replace(applied.result, index=0)  # It has no place in the log.
        stood = applied.result.index
        return applied.result if stood <= catalog.index else replace(applied.result, index=catalog.index)

    async def _agree(self, payload: bytes) -> Result:
        try:
            proposed = await self._raft.propose(payload)
        except NotLeading as elsewhere:
            if self._ask is None:
                raise
            return await self._forward(self._ask, elsewhere.leader, payload)
        assert isinstance(proposed.result, Result), proposed
        return proposed.result

    async def _forward(self, ask: Ask, leader: str, payload: bytes) -> Result:
        self._forwarded += 1
        answer = await ask(leader, KIND, payload, timeout_seconds=FORWARD_SECONDS)
        ok, code, message, value, index = cbor2.loads(answer)
        with trio.move_on_after(FORWARD_SECONDS) as soon:
            await self._feed.wait_index(index)
        if soon.cancelled_caught:
            raise OutcomeUnknown(f"it was agreed on as entry {index}, which this node has not applied yet")
        return Result(ok=ok, code=code, message=message, value=value, index=index)
