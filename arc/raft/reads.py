"""Linearizable reads without writing to the log (dissertation, 6.4).

The leader notes its commit index, lets a quorum confirm that it still leads, and then whoever asked may read once its
state machine has come that far. A follower asks the leader for the index and waits for its own state machine. Three
traps:

- Before its first commit of the term a leader may not know what is committed: reads wait for it (K-85, X-03).
- A confirmation counts for reads that came before its round *began*; rounds only count up and are never shared with a
  later read (K-86, X-04).
- An answer is matched by a token that no earlier life of this process ever used (X-07).

With lease reads a confirmed round confirms for the lease that follows it; everything else is the same.
"""

from __future__ import annotations

from heapq import heappop, heappush

from arc.raft.effects import Readable, Refused
from arc.raft.events import Read, Request
from arc.raft.heartbeat import begin_round, has_lease
from arc.raft.leading import Leading, WaitingRead
from arc.raft.messages import ReadIndex, ReadIndexReply
from arc.raft.state import State
from arc.raft.types import Peer


def on_read(state: State, event: Read) -> None:
    """A local read: the leader confirms it, a follower asks the leader."""
    if outstanding(state) >= state.config.reads_max:
        state.trace("overloaded", "reads")
        state.answer(event.request, Refused("overloaded", "too many reads wait already"))
        return
    state.token += 1
    leading = state.leading
    if leading is not None:
        _admit(state, leading, WaitingRead(event.request, None, state.token, state.now))
        return
    state.asked[state.token] = (event.request, state.now)
    if state.leader is not None and state.asked_of == (state.term, state.leader):
        state.send(ReadIndex(state.leader, state.me, state.term, state.token))


def outstanding(state: State) -> int:
    """Reads that wait for anything."""
    leading = state.leading
    led = len(leading.reads) + len(leading.reads_early) if leading is not None else 0
    return led + len(state.asked) + len(state.readable)


def on_read_index(state: State, leading: Leading, message: ReadIndex) -> None:
    """A follower's read. Beyond the limit it is not answered; the follower asks again or gives up."""
    if message.sender not in leading.progress:
        state.trace("stranger", message.sender)
    elif outstanding(state) < state.config.reads_max:
        _admit(state, leading, WaitingRead(None, message.sender, message.token, state.now))


def on_read_index_reply(state: State, message: ReadIndexReply) -> None:
    """The leader confirmed: wait until the own state machine is there (I-22)."""
    asked = state.asked.pop(message.token, None)
    if asked is not None:
        heappush(state.readable, (message.index, message.token, asked[0]))


def _admit(state: State, leading: Leading, read: WaitingRead) -> None:
    if state.commit < leading.term_start:
        state.trace("read_early")
        leading.reads_early.append(read)
        return
    read.index = state.commit  # I-21
    if has_lease(state, leading):
        state.trace("lease_read")
        _release(state, read)
        return
    # The next round to begin. Whether one is under way is no matter: it began before this read was known.
    read.round = leading.round + 1
    leading.reads.append(read)


def advance(state: State, leading: Leading) -> None:
    """Release what is confirmed, and begin a round for what waits, one at a time (batching, X-01)."""
    if state.asked:  # Asked for as a follower; now we are the one to answer.
        for token in list(state.asked):
            request, asked_at = state.asked.pop(token)
            _admit(state, leading, WaitingRead(request, None, token, asked_at))
    if leading.reads_early and state.commit >= leading.term_start:
        early, leading.reads_early = leading.reads_early, []
        for read in early:
            _admit(state, leading, read)
    reads = leading.reads
    if reads and reads[-1].round > leading.round and leading.confirmed_round == leading.round:
        begin_round(state, leading)
    if reads and reads[0].round <= leading.confirmed_round:
        state.trace("read_round", leading.confirmed_round)
        while reads and reads[0].round <= leading.confirmed_round:  # I-39: in the order of their rounds
            _release(state, reads.popleft())
        if reads and leading.confirmed_round == leading.round:
            begin_round(state, leading)


def _release(state: State, read: WaitingRead) -> None:
    if read.origin is None:
        heappush(state.readable, (read.index, read.token, read.request))
    else:
        state.send(ReadIndexReply(read.origin, state.me, state.term, read.token, read.index))


def answer_readable(state: State) -> None:
    """Answer the reads whose index the state machine has reached."""
    while state.readable and state.readable[0][0] <= state.applied:
        index, _, request = heappop(state.readable)
        state.answer(request, Readable(index))


def ask_leader(state: State) -> None:
    """Ask a leader that is new to us about everything that waits; ask again when nothing came back (X-01)."""
    leader: tuple[int, Peer | None] = (state.term, state.leader)
    if leader == state.asked_of and state.now < state.ask_again_at:
        return
    state.asked_of = leader
    state.ask_again_at = state.now + state.config.election_timeout_seconds / 2
    expired: list[tuple[int, Request]] = []
    for token, (request, asked_at) in state.asked.items():
        if state.now >= asked_at + state.config.read_timeout_seconds:
            expired.append((token, request))
        elif state.leader is not None:
            state.send(ReadIndex(state.leader, state.me, state.term, token))
    for token, request in expired:
        del state.asked[token]
        state.answer(request, Refused("unavailable", "no leader confirmed the read in time"))
