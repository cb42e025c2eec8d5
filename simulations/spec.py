"""Raft as a specification that runs: figure 2 of the paper, configuration changes and snapshots, as sets and loops.

It is a relation, not a second implementation: given a node before and after one step, is there a sequence of allowed
actions that leads from one to the other, and was the node allowed to say what it said? Choices that Raft leaves open
(which commands of a batch are taken, how far the commit index moves within its bounds) are read off the ``goal``, the
node after the step; what remains is whether the rules allow them. Safety follows from these rules alone, so timers,
pre-votes, windows, reads, leases and transfers are "nothing happens" or "the election timeout passed" here: the
specification is wider than the core wherever that costs no safety. Nothing here is optimised; nothing imports the
core's own algebra of quorums, logs or configurations.

What a node may rely on is on its disk: `may_leave` says which messages wait for it. `costep` watches a core with this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from arc.raft import messages as m
from arc.raft.events import Campaign, Event, Persisted, Propose, Receive, SnapshotStored, Tick, WriteRefused
from arc.raft.messages import Message
from arc.raft.types import Configuration, Entry, EntryKind, Peer, Role, SnapshotMeta, Stored
from simulations.spec_log import Log, halves, is_quorum, may_follow, members


class Disk(NamedTuple):
    """What a node would find after a power cut."""

    term: int
    vote: Peer | None
    log: Log


class Node(NamedTuple):
    """One node (figure 2, "State"). ``agreed``: up to where its log is known to be that of its term's leader."""

    me: Peer
    term: int
    vote: Peer | None
    role: Role
    log: Log
    commit: int
    applied: int
    agreed: int = 0
    votes: frozenset[Peer] = frozenset()
    match: frozenset[tuple[Peer, int]] = frozenset()

    @property
    def configuration(self) -> Configuration:
        """In force: the newest in the log."""
        return self.log.configuration(self.log.last)[1]


Nodes: TypeAlias = Iterator[Node]
Action: TypeAlias = Callable[[Node, Event, Node, Disk], Nodes]
"""An allowed action: given node, event, goal and disk, what the node may be next (nothing: the action is disabled)."""


# ------------------------------------------------------------------------------------------------------ every server


def update_term(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower." """
    if type(event) is Receive and type(event.message) is not m.PreVote and event.message.term > node.term:
        yield follower(node)._replace(term=event.message.term, vote=None, agreed=0)


def follower(node: Node) -> Node:
    """The node in the same term, without any office."""
    return node._replace(role=Role.FOLLOWER, votes=frozenset(), match=frozenset())


def give_up(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """Whoever is no follower may become one of the same term at any time: it only loses what it might have done."""
    if node.role is not Role.FOLLOWER and goal.role is Role.FOLLOWER:
        yield follower(node)


def apply(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If commitIndex > lastApplied: apply log[lastApplied]"; here only what is on the own disk (DIVERGENCE 4)."""
    if node.applied < goal.applied <= min(node.commit, node.log.shared(disk.log)):
        yield node._replace(applied=goal.applied)


def compact(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """What is applied may become the snapshot (7)."""
    if node.log.base < goal.log.base <= min(node.applied, node.log.last):
        yield node._replace(log=node.log.compacted(goal.log.base))


def lose_what_found_no_room(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """A full disk: as after a crash, without the crash (DIVERGENCE 22). What is durable stays."""
    if type(event) is WriteRefused and goal.log.last >= min(node.log.shared(disk.log), node.log.last):
        last = min(goal.log.last, node.log.last)
        kept = follower(node)._replace(log=node.log.up_to(last))
        yield kept._replace(commit=min(node.commit, last), agreed=min(node.agreed, last))


# --------------------------------------------------------------------------------------------------------- elections


def timeout(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "Increment currentTerm, vote for self": when time is over, a pre-vote is won, or the leader wants it."""
    is_due = type(event) in (Tick, Campaign, Persisted) or (
        type(event) is Receive and type(event.message) in (m.PreVoteReply, m.TimeoutNow)
    )
    # Also whoever leaves only by an entry that is not committed yet (4.2.2; DIVERGENCE 12).
    known = (node.configuration, node.log.configuration(node.commit)[1])
    may_vote = any(node.me in half for configuration in known for half in halves(configuration))
    if is_due and node.role is not Role.LEADER and may_vote:
        yield follower(node)._replace(term=node.term + 1, vote=node.me, role=Role.CANDIDATE, agreed=0)


def count_own_vote(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """A candidate's own vote counts when it is on its disk (DIVERGENCE 3)."""
    if type(event) is Persisted and node.role is Role.CANDIDATE and (disk.term, disk.vote) == (node.term, node.me):
        yield node._replace(votes=node.votes | {node.me})


def become_leader(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If votes received from majority of servers: become leader", and begin the term with an empty entry (8)."""
    if node.role is Role.CANDIDATE and is_quorum(node.configuration, node.votes):
        begun = Entry(node.log.last + 1, node.term, EntryKind.NOTHING)
        yield with_entries(node._replace(role=Role.LEADER, votes=frozenset(), match=frozenset()), begun)


def handle_vote(node: Node, message: m.Vote) -> Nodes:
    """ "If votedFor is null or candidateId, and candidate's log is at least as up-to-date: grant vote." """
    own = (node.log.term(node.log.last) or 0, node.log.last)
    if node.vote in (None, message.sender) and (message.last_term, message.last_index) >= own:
        yield node._replace(vote=message.sender)


def handle_vote_reply(node: Node, message: m.VoteReply) -> Nodes:
    """Votes are a set: an answer that comes twice is one vote."""
    if node.role is Role.CANDIDATE and message.is_granted:
        yield node._replace(votes=node.votes | {message.sender})


# ------------------------------------------------------------------------------------------------- leader: the log


def with_entries(node: Node, *entries: Entry) -> Node:
    """A leader with more entries. A configuration is in force at once: whom it serves follows it (4.1)."""
    grown = node._replace(log=node.log._replace(entries=node.log.entries + entries))
    known = dict(node.match)
    others = members(grown.configuration) - {node.me}
    return grown._replace(match=frozenset((peer, known.get(peer, 0)) for peer in others))


def client_request(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If command received from client: append entry to local log": some of the batch, in order, each once."""
    if type(event) is not Propose or node.role is not Role.LEADER:
        return
    waiting: Iterator[object] = iter([payload for _, payload in event.commands])
    taken: list[Entry] = []
    for entry in goal.log.after(node.log.last):
        is_next = (entry.index, entry.term) == (node.log.last + len(taken) + 1, node.term)
        if entry.kind is not EntryKind.COMMAND or not is_next or entry.payload not in waiting:
            break
        taken.append(entry)
    if taken:
        yield with_entries(node, *taken)


def append_configuration(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """One change at a time, after the leader committed an entry of its own term, and one that may follow (4.1)."""
    at, current = node.log.configuration(node.log.last)
    is_free = node.role is Role.LEADER and at <= node.commit and node.log.term(node.commit) == node.term
    for entry in goal.log.after(node.log.last)[:1]:
        is_next = (entry.index, entry.term) == (node.log.last + 1, node.term)
        if is_free and is_next and isinstance(entry.payload, Configuration) and may_follow(current, entry.payload):
            yield with_entries(node, entry)


def handle_append_reply(node: Node, message: m.AppendReply) -> Nodes:
    """ "If successful: update matchIndex for follower." Only ever up; refusals move nothing but where to look next."""
    if message.status is m.AppendStatus.ACCEPTED:
        yield from raise_match(node, message.sender, message.match)


def handle_install_reply(node: Node, message: m.InstallSnapshotReply) -> Nodes:
    """A snapshot that is installed is as good as the entries it stands for."""
    if message.is_done:
        yield from raise_match(node, message.sender, message.index)


def raise_match(node: Node, peer: Peer, index: int) -> Nodes:
    """The follower said that it holds everything up to ``index`` on its disk."""
    known = dict(node.match)
    if node.role is Role.LEADER and peer in known:
        yield node._replace(match=frozenset({**known, peer: max(known[peer], index)}.items()))


def advance_commit(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If there exists an N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term == currentTerm."

    The highest N that the configuration in force allows. It may lie below where the step ends: once a joint
    configuration is committed the next one may follow at once, and its majority can hold more (swarm seeds 710000 and
    731584).
    """
    if node.role is not Role.LEADER or not node.commit < goal.commit <= node.log.last:
        return
    own = node.log.shared(disk.log)
    for index in range(goal.commit, node.commit, -1):
        if node.log.term(index) != node.term:
            return
        holders = {peer for peer, held in node.match if held >= index}
        if own >= index:
            holders.add(node.me)  # Its own disk counts like everybody's (10.2.1); is_quorum asks whether it votes.
        if is_quorum(node.configuration, frozenset(holders)):
            yield node._replace(commit=index)
            return


# ------------------------------------------------------------------------------------------------ follower: the log


def handle_append(node: Node, message: m.Append) -> Nodes:
    """ "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm. If an existing
    entry conflicts with a new one, delete it and all that follow it. Append any new entries not already in the log."
    """
    is_matching = message.prev_index <= node.commit or node.log.term(message.prev_index) == message.prev_term
    if node.role is Role.LEADER or not is_matching:
        return
    log, last_new = node.log, message.prev_index + len(message.entries)
    for entry in message.entries:
        if entry.index <= max(node.commit, log.base):
            continue  # Committed here, hence the same in every later leader's log (5.4.3).
        if log.term(entry.index) != entry.term:
            log = log.up_to(entry.index - 1)
            log = log._replace(entries=(*log.entries, entry))
    known = max(last_new, node.commit if message.prev_index < node.commit else 0)
    yield follower(node)._replace(log=log, agreed=max(node.agreed, known))


def follow_commit(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)." """
    if type(event) is not Receive or type(event.message) not in (m.Append, m.Heartbeat, m.Commit):
        return
    told = min(event.message.commit, node.agreed)  # type: ignore[union-attr]
    if event.message.term == node.term and node.role is not Role.LEADER and node.commit < told == goal.commit:
        yield node._replace(commit=told)


def handle_install(node: Node, message: m.InstallSnapshot) -> Nodes:
    """ "If existing log entry has same index and term as snapshot's last included entry, retain log": it commits."""
    if node.role is not Role.LEADER and node.log.term(message.meta.index) == message.meta.term:
        yield follower(node)._replace(commit=max(node.commit, message.meta.index))


def install(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """ "Discard the entire log; reset state machine using snapshot contents", once its last piece is stored."""
    if type(event) is not SnapshotStored or not event.is_ok or event.meta.index <= node.commit:
        return
    meta = event.meta
    if node.log.term(meta.index) == meta.term:
        yield node._replace(commit=meta.index)
    else:
        log = Log(meta.index, meta.term, meta.configuration)
        agreed = min(node.agreed, meta.index)
        yield node._replace(log=log, commit=meta.index, applied=meta.index, agreed=agreed)


def forget_match(node: Node, message: m.SnapshotWanted) -> Nodes:
    """A follower whose disk lost entries takes its acknowledgement back (DIVERGENCE 23)."""
    known = dict(node.match)
    if node.role is Role.LEADER and message.sender in known:
        lower = min(known[message.sender], message.above)
        yield node._replace(match=frozenset({**known, message.sender: lower}.items()))


HANDLERS: dict[type, Callable[[Node, Message], Nodes]] = {
    m.Vote: handle_vote,  # type: ignore[dict-item]
    m.VoteReply: handle_vote_reply,  # type: ignore[dict-item]
    m.Append: handle_append,  # type: ignore[dict-item]
    m.AppendReply: handle_append_reply,  # type: ignore[dict-item]
    m.InstallSnapshot: handle_install,  # type: ignore[dict-item]
    m.InstallSnapshotReply: handle_install_reply,  # type: ignore[dict-item]
    m.SnapshotWanted: forget_match,  # type: ignore[dict-item]
}


def handle(node: Node, event: Event, goal: Node, disk: Disk) -> Nodes:
    """A message of the own term, addressed to this very incarnation, is handled; everything else changes nothing."""
    if type(event) is Receive and event.message.term == node.term and event.message.to == node.me:
        handler = HANDLERS.get(type(event.message))
        if handler is not None:
            yield from handler(node, event.message)


# ---------------------------------------------------------------------------------------------------------- the step

ONCE: tuple[tuple[Action, ...], ...] = (
    (update_term,),
    (handle, timeout, count_own_vote, client_request, install, lose_what_found_no_room),
)
"""What an event may cause, one of each row, in this order."""

AFTERWARDS: tuple[Action, ...] = (
    become_leader,
    advance_commit,
    follow_commit,
    append_configuration,
    give_up,
    apply,
    compact,
)
"""What may follow from it, in any order. Each moves one way only, so there is an end."""


def explain(before: Node, event: Event, after: Node, disk: Disk) -> tuple[Node, ...] | None:
    """The states of an allowed way from ``before`` to ``after``, both included; None if there is none."""
    return _search((before,), 0, event, after, disk)


def _search(path: tuple[Node, ...], row: int, event: Event, goal: Node, disk: Disk) -> tuple[Node, ...] | None:
    node = path[-1]
    if node == goal:
        return path
    for later in range(row, len(ONCE) + 1):
        for action in ONCE[later] if later < len(ONCE) else AFTERWARDS:
            for successor in action(node, event, goal, disk):
                found = _search((*path, successor), min(later + 1, len(ONCE)), event, goal, disk)
                if found is not None:
                    return found
    return None


def recover(me: Peer, stored: Stored) -> Node:
    """A start: what was on the disk and nothing else; nobody starts with an office (5.2)."""
    snapshot = stored.snapshot or SnapshotMeta(0, 0, Configuration())
    base, entries = snapshot.index, tuple(stored.entries)
    at_base = [entry.term for entry in entries if entry.index == base]
    is_of_use = not at_base or base == 0 or at_base == [snapshot.term]
    rest = tuple(entry for entry in entries if entry.index > base) if is_of_use else ()
    log = Log(base, snapshot.term, snapshot.configuration, rest)
    known = max(base, stored.applied)
    return Node(me, stored.hard_state.term, stored.hard_state.vote, Role.FOLLOWER, log, known, known)


# ------------------------------------------------------------------------------------------------------ what is said


def may_say(node: Node, message: Message) -> bool:
    """Whether a node in this state may say that. Refusals, pre-votes and questions bind nobody."""
    if message.sender != node.me or message.term != node.term:
        return False
    log, is_leader = node.log, node.role is Role.LEADER
    match message:
        case m.Vote():
            end = (log.last, log.term(log.last))
            is_asked = any(message.to in half for half in halves(node.configuration))
            return node.role is Role.CANDIDATE and is_asked and (message.last_index, message.last_term) == end
        case m.VoteReply():
            return not message.is_granted or node.vote == message.to
        case m.Append():
            prev, count = message.prev_index, len(message.entries)
            is_own = log.term(prev) == message.prev_term and message.entries == log.after(prev)[:count]
            return is_leader and is_own and prev >= log.base and message.commit <= node.commit
        case m.AppendReply():
            is_refusal = message.status is not m.AppendStatus.ACCEPTED
            return not is_leader and (is_refusal or message.match <= max(node.agreed, node.commit))
        case m.Heartbeat() | m.Commit():
            return is_leader and message.commit <= min(node.commit, dict(node.match).get(message.to, 0))
        case m.HeartbeatReply():
            return message.accepted <= node.agreed
        case m.InstallSnapshot():
            at, meta = message.meta.index, message.meta
            is_same = log.term(at) in (None, meta.term) and (
                at < log.base or log.configuration(at)[1] == meta.configuration
            )
            return is_leader and at <= node.commit and is_same
        case m.InstallSnapshotReply():
            return not message.is_done or message.index <= node.commit
        case m.ReadIndexReply():
            return is_leader and message.index <= node.commit and log.term(node.commit) == node.term
        case m.TimeoutNow():
            return is_leader and any(message.to in half for half in halves(node.configuration))
        case m.SnapshotPromised():
            return is_leader and message.until <= log.last
        case m.Removed():
            return message.to not in members(log.configuration(node.commit)[1])
    return True


def may_leave(said: Node, disk: Disk, message: Message) -> bool:
    """ "Updated on stable storage before responding to RPCs": whether the disk holds what the message promises.

    ``said`` is the node that said it: what it has become since matters to nobody.
    """
    match message:
        case m.VoteReply(is_granted=True):
            is_held = disk.term > message.term or disk.vote == message.to
        case m.AppendReply(status=m.AppendStatus.ACCEPTED):
            is_held = message.match <= disk.log.base or said.log.shared(disk.log) >= message.match
        case m.InstallSnapshotReply(is_done=True):
            is_held = message.index <= disk.log.base or said.log.shared(disk.log) >= message.index
        case _:
            is_held = True
    return is_held and disk.term >= message.term


__all__ = ["Disk", "Log", "Node", "explain", "is_quorum", "may_follow", "may_leave", "may_say", "recover"]
