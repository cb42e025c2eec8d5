"""How a command is agreed on: judged here, proposed to Raft here or at the leader, applied here, told.

A command that would be refused, or would change nothing, is answered and not logged (P-31): it is judged against a
version of the catalog that is known to hold everything agreed on before the question (Raft, 6.4), so the answer is as
good as if it had been logged. Everything else becomes an entry. A node that does not lead passes it to the one that
does and waits until it is applied here, too: whoever got a result sees its effect on the node he asked.

Where there are other nodes, an answer may get lost on its way or with the leadership. So a command goes under a number
of its own (`lanes`) and is asked for again, of whoever leads by then, until its outcome is known or patience ends: it
takes effect once (P-30). A leader with no lane free proposes without a number rather than wait, and tells its proposer
that nobody knows if it loses the leadership over it; a node alone needs no numbers.

A proposer who is cancelled loses his answer and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Protocol

import cbor2
import trio

from arc.catalog import codec, fsm, sessions
from arc.catalog.commands import Command, Once
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Refusal, Result
from arc.cluster.feed import Feed
from arc.cluster.lanes import Lanes
from arc.errors import (
    ArcError,
    InvalidRequest,
    LeaderUnreachable,
    NotCoordinator,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from arc.ports import Clock, Rng
from arc.raft.node import RaftNode
from arc.raft.requests import NotLeading
from arc.raft.types import Peer

FORWARD_SECONDS = 10.0
"""How long the leader's answer is waited for; an election and a slow disk fit in."""


PATIENCE_SECONDS = 10.0
"""How long a command is asked for again while nobody leads or answers are lost."""

ATTEMPT_SECONDS = 3.0
"""How long one attempt may take: a leader that was paused has a successor by then, who can be asked."""

PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.5)
"""Between attempts, if no change of leaders comes sooner; the last one repeats."""

RUN_BYTES = 8
"""Of chance, in the name of a run: two runs of one node never share a name."""

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

    ``unchanged`` commands stood already; ``failed_total`` got no result: they were not stored, or nobody knows.
    ``commit_seconds_total`` is time that accepted proposals waited.
    """

    accepted_total: int
    unchanged_total: int
    refused_total: int
    failed_total: int
    forwarded_total: int
    retried_total: int
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
    lanes_busy: int
    lanes_waiting: int


class Proposals:
    """Changes the catalog. ``ask`` is None on a node without peers; ``rng`` names this run."""

    def __init__(
        self,
        raft: RaftNode,
        machine: ClusterFSM,
        feed: Feed,
        clock: Clock,
        ask: Ask | None,
        *,
        rng: Rng,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._raft = raft
        self._fsm = machine
        self._feed = feed
        self._clock = clock
        self._ask = ask
        self._patience_seconds = patience_seconds
        self._lanes = Lanes(f"{raft.me.name}#{raft.me.incarnation}.{rng.bytes(RUN_BYTES).hex()}")
        self._accepted = self._unchanged = self._refused = self._failed = self._forwarded = self._retried = 0
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"<Proposals accepted={self._accepted} applied={self._fsm.catalog.index}>"

    async def propose(self, command: Command) -> Result:
        """Return the result of the command once it is agreed on and applied here; a refusal is a result too.

        A command that is a `Once` keeps its number, whoever gave it. Raises Unavailable when it was not stored
        (stopping; `NoLeaderKnown` or `LeaderUnreachable` when that lasted), Overloaded when too much waits or the disk
        is full (not stored either), OutcomeUnknown when it may have been.
        """
        try:
            return await self._propose(command)
        except ArcError:
            self._failed += 1
            raise

    async def _propose(self, command: Command) -> Result:
        if self._ask is None or not self._raft.others():
            return await self._decide(command, _Flight(), self._here)
        if self._raft.is_leader and not self._lanes.has_free:
            try:
                return await self._decide(command, _Flight(), self._here)
            except NotCoordinator:
                pass  # Nothing happened, and another one leads now.
        if isinstance(command, Once):
            return await self._until_known(command)
        async with self._lanes.open_lane() as lane:
            return await self._until_known(lane.next(command, asked_after=self._fsm.catalog.index))

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
            failed_total=self._failed,
            forwarded_total=self._forwarded,
            retried_total=self._retried,
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
            lanes_busy=self._lanes.busy,
            lanes_waiting=self._lanes.waiting,
        )

    def _judge(self, command: Command) -> Result | None:
        """What the command would come to now without changing anything; None when it has to be agreed on."""
        catalog: Catalog = self._fsm.catalog
        if isinstance(command, Once) and not command.is_retry and _is_first(catalog, command):
            return self._judge(command.action)  # That it would be remembered is no reason to log it.
        after, applied = fsm.apply(catalog, catalog.index + 1, command)
        if not after.same_facts(catalog):
            return None
        if not applied.result.ok:
            return replace(applied.result, index=0)  # It has no place in the log.
        stood = applied.result.index
        return applied.result if stood <= catalog.index else replace(applied.result, index=catalog.index)

    async def _decide(self, command: Command, flight: _Flight, agree: Agree) -> Result:
        """Judge, and have it agreed on if it would change something."""
        judged = self._judge(command)
        if judged is not None:
            await self._raft.read()
            judged = self._judge(command)
        if judged is not None:
            self._unchanged += judged.ok
            self._refused += not judged.ok
            return judged
        begun = self._clock.now()
        flight.is_out = True
        result = await agree(codec.encode(command))
        self._accepted += result.ok
        self._refused += not result.ok
        self._seconds += self._clock.now() - begun
        return result

    async def _until_known(self, command: Once) -> Result:
        """Ask again until there is a result, or patience ends. The command takes effect once at the most."""
        flight = _Flight()
        trouble: ArcError = Unavailable("the cluster was not asked in time; nothing was stored")
        with trio.move_on_after(self._patience_seconds):
            for pause in chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1])):
                flight.is_out = False
                with trio.move_on_after(ATTEMPT_SECONDS):
                    try:
                        result = await self._decide(command, flight, self._anywhere)
                    except ArcError as error:
                        if not flight.may_repeat(error):
                            raise
                        trouble = error
                    else:
                        if result.code != "client_forgotten":
                            return result
                        flight.require_never_out(result)
                        # This node knew too little when it asked first; what it asks for now it asks for first.
                        command = replace(command, asked_after=self._fsm.catalog.index)
                flight.is_lost |= flight.is_out
                command = replace(command, is_retry=command.is_retry or flight.is_lost)
                self._retried += 1
                with trio.move_on_after(pause):
                    await self._raft.wait_changed()
        if flight.is_lost or flight.is_out:
            raise OutcomeUnknown(
                f"whether it happened could not be learnt within {self._patience_seconds:g} s: {trouble.message}"
            ) from trouble
        raise trouble

    async def _here(self, payload: bytes) -> Result:
        proposed = await self._raft.propose(payload)
        assert isinstance(proposed.result, Result), proposed
        return proposed.result

    async def _anywhere(self, payload: bytes) -> Result:
        try:
            return await self._here(payload)
        except NotLeading as elsewhere:
            assert self._ask is not None, "a node without peers asks nobody"
            leader = elsewhere.leader
        try:
            return await self._forward(self._ask, leader, payload)
        except Overloaded:
            raise
        except Unavailable as error:
            raise LeaderUnreachable(f"{leader} leads and did not take it: {error.message}") from error

    async def _forward(self, ask: Ask, leader: str, payload: bytes) -> Result:
        self._forwarded += 1
        answer = await ask(leader, KIND, payload, timeout_seconds=FORWARD_SECONDS)
        ok, code, message, value, index = cbor2.loads(answer)
        with trio.move_on_after(FORWARD_SECONDS) as soon:
            await self._feed.wait_index(index)
        if soon.cancelled_caught:
            raise OutcomeUnknown(f"it was agreed on as entry {index}, which this node has not applied yet")
        return Result(ok=ok, code=code, message=message, value=value, index=index)


def _is_first(catalog: Catalog, command: Once) -> bool:
    """Whether nothing speaks against its being new."""
    try:
        return sessions.first_result(catalog.sessions, command) is None
    except Refusal:
        return False


Agree = Callable[[bytes], Awaitable[Result]]


class _Flight:
    """What became of the attempts for one command. ``is_out``: the present one may have got through; ``is_lost``: an
    earlier one may have, and its answer will never come.
    """

    def __init__(self) -> None:
        self.is_out = False
        self.is_lost = False

    def may_repeat(self, error: ArcError) -> bool:
        """Note how the present attempt failed; says whether another one is worth it."""
        self.is_out = isinstance(error, OutcomeUnknown)
        if self.is_out or isinstance(error, NotCoordinator) or error.code == "transferring":
            return True
        # What failed otherwise did not happen. It is the last word, unless an earlier attempt got through.
        return self.is_lost and isinstance(error, Unavailable)

    def require_never_out(self, result: Result) -> None:
        """Raises OutcomeUnknown when an earlier attempt may have been accepted, and forgotten."""
        self.is_out = False
        if self.is_lost:
            result.unwrap()
