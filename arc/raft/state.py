"""The one mutable state of a core, and the moves that every topic shares: change role, term or log, send, answer.

No rule of Raft that has a topic file of its own is here. What is here keeps facts together that must change together:
a new term forgets the vote, a cut log forgets configurations and durability, the end of a leadership answers everybody
who waited for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from arc.ports import Rng
from arc.raft.config import Config
from arc.raft.durability import Durability
from arc.raft.effects import (
    Answer,
    Compact,
    Effects,
    NotLeader,
    Refused,
    Result,
    Send,
    Trace,
    Unknown,
)
from arc.raft.events import Request
from arc.raft.leading import Leading
from arc.raft.log import Log
from arc.raft.membership import History, halves, is_voter, members, quorum_value
from arc.raft.messages import Message
from arc.raft.progress import Progress
from arc.raft.recovery import recover
from arc.raft.types import Configuration, Entry, EntryKind, Peer, Role, SnapshotMeta, Stored

TRACES: Mapping[str, str] = {
    "role": "role, term, leader: this node changed its role or learnt who leads",
    "membership": "index, configuration: now in force",
    "membership_reverted": "index, configuration: back in force because its successor was cut off",
    "membership_committed": "index, configuration",
    "cut": "first, last, terms: conflicting entries dropped",
    "vote_shielded": "candidate: ignored, a leader was heard lately",
    "pre_vote_refused": "candidate, reason",
    "pre_vote_granted": "candidate",
    "vote_granted": "candidate",
    "vote_refused": "candidate, reason",
    "self_vote_late": "the own vote became durable after the election was over",
    "leader_lost_quorum": "stepped down: no quorum answered for one window",
    "leader_disk_stalled": "stepped down: the own disk does not finish",
    "leader_removed": "stepped down: not a voter of the committed configuration",
    "handover_ended": "target, reason: transfer over (sent, timeout, stepped_down, target_removed, replaced)",
    "campaign_waits_for_disk": "told to campaign, but the log is not durable yet",
    "removed": "index: told that the committed configuration goes on without this node",
    "misaddressed": "message meant for another incarnation",
    "stranger": "message from no member, where only members may speak",
    "term_overflow": "message or campaign beyond the largest term",
    "window_full": "follower, messages|bytes",
    "overloaded": "what",
    "snapshot_begun": "follower, snapshot",
    "snapshot_resumed": "follower, offset",
    "snapshot_refused": "checksum or digest did not match",
    "snapshot_installed": "snapshot, kept: whether the log after it matched and stayed",
    "compacted": "boundary",
    "catch_up_done": "peers, rounds",
    "catch_up_aborted": "peers, reason",
    "no_space": "first: entries from there on were not stored",
    "clock_went_back": "seconds",
    "stale_completion": "write or read that is not waited for any more",
    "repair_begun": "above",
    "repaired": "until",
    "read_early": "waits for the first commit of the term",
    "read_round": "round: a quorum confirmed the leadership",
    "lease_read": "answered without a round",
}
"""Names of `effects.Trace`, and what their detail holds."""


class Incoming:
    """A foreign snapshot that arrives piece by piece; ``offset`` is up to where it is stored."""

    __slots__ = ("is_last", "is_storing", "meta", "offset", "round", "sender", "size")

    def __init__(self, meta: SnapshotMeta, sender: Peer) -> None:
        self.meta = meta
        self.sender = sender
        self.offset = 0
        self.is_storing = False
        self.size = 0
        self.is_last = False
        self.round = 0


class State:
    """Everything a core knows. Fields are read by all topic files; each says who changes it."""

    # fmt: off
    __slots__ = (
        "accepted_index", "accepted_term", "applied", "apply_read", "applying", "applying_bytes", "ask_again_at",
        "asked", "asked_of", "campaign_after", "commit", "config", "contact_at", "contact_from", "effects",
        "election_at", "groups", "hard_dirty", "has_space", "history", "incoming", "is_damaged", "is_holding",
        "late_vote_after", "leader", "leading", "lives", "log", "me", "now", "others", "pre_round", "readable",
        "removed_at", "repair_term", "repair_until", "restore_after", "restoring", "rng", "role", "self_vote_after",
        "snapshot", "snapshot_to_write", "term", "timeout", "timer_from", "token", "truncate_from", "unwritten",
        "vote", "votes", "writes",
    )
    # fmt: on

    def __init__(self, me: Peer, config: Config, stored: Stored, rng: Rng, now: float) -> None:
        self.me = me
        self.config = config
        self.rng = rng
        self.now = now
        self.effects: Effects = []
        self.lives = 1
        """Counts restarts and also the soft ones after a full disk."""

        # Persistent (Raft paper, figure 2).
        self.term, self.vote = stored.hard_state
        self.snapshot: SnapshotMeta | None = stored.snapshot
        boundary = stored.snapshot or SnapshotMeta(0, 0, Configuration())
        self.log = Log(boundary.index, boundary.term)
        self.history = History(boundary.configuration_index, boundary.configuration)
        recover(self.log, self.history, stored)
        assert self.log.last_term <= self.term, (self.log, self.term)  # I-09

        # Volatile, on every node.
        self.role = Role.FOLLOWER  # T-03
        self.leader: Peer | None = None
        self.commit = boundary.index
        self.applied = max(stored.applied, boundary.index)
        assert self.applied <= max(self.log.last_index, boundary.index), (self.applied, self.log)
        self.commit = max(self.commit, self.applied)
        self.applying, self.apply_read = self.applied, 0
        self.applying_bytes: deque[tuple[int, int]] = deque()
        self.restoring: SnapshotMeta | None = None
        self.restore_after = 0
        """The snapshot that replaces the state machine, once this write has made it durable (0: it was told)."""
        self.accepted_term = self.accepted_index = 0
        """What was taken over from the leader of ``accepted_term``: commit notices reach no further (K-31, K-44)."""
        self.contact_from: Peer | None = None
        self.contact_at = now if config.is_lease_read and self.term > 0 else float("-inf")
        """When a leader was last heard. After a start nobody remembers, so lease reads ask to assume the worst."""

        # Elections.
        self.votes: dict[Peer, bool] = {}
        self.pre_round = 0
        self.self_vote_after = self.late_vote_after = self.campaign_after = 0
        self.removed_at = 0
        self.is_damaged = stored.is_damaged
        self.repair_until = self.repair_term = 0
        self.has_space = True
        self.timer_from = now
        self.timeout = 0.0
        self.election_at: float | None = None

        # Disk.
        self.writes = Durability(self.log.last_index)
        self.hard_dirty = False
        self.unwritten = self.log.last_index + 1
        self.truncate_from: int | None = None
        self.snapshot_to_write: SnapshotMeta | None = None
        self.incoming: Incoming | None = None
        self.is_holding = False
        """More of the log is kept than the budget says, for a follower that is being rebuilt (`snapshot.trim`)."""

        # Reads. Tokens start at random, so that no answer to an earlier life of this process fits.
        self.token = int.from_bytes(rng.bytes(6), "little") << 8
        self.pre_round = self.token
        self.asked: dict[int, tuple[Request, float]] = {}
        self.asked_of: tuple[int, Peer | None] = (0, None)
        self.ask_again_at = 0.0
        self.readable: list[tuple[int, int, Request]] = []
        """Heap of (index, token, request): confirmed reads that wait for the state machine."""

        self.leading: Leading | None = None
        self.groups = halves(self.history.current)
        self.others: tuple[Peer, ...] = ()
        self.follow_membership()
        self.draw_timeout()

    def __repr__(self) -> str:
        return (
            f"<Raft {self.me} {self.role.name.lower()} term={self.term} log={self.log.boundary_index + 1}.."
            f"{self.log.last_index} commit={self.commit} applied={self.applied}>"
        )

    # ---------------------------------------------------------------------------------------------- saying things

    def send(self, message: Message, *, covers: int = 0) -> None:
        """Send a message that promises the current term, the vote in it, and the log up to ``covers`` (I-12, I-28)."""
        writes = self.writes
        after = 0
        if self.hard_dirty:
            after = writes.next_id
        elif writes.hard_state_id > writes.persisted_id:
            after = writes.hard_state_id
        if covers > writes.durable_index:
            after = max(after, writes.covering(covers))
        self.effects.append(Send(message, after or None))

    def answer(self, request: Request, result: Result) -> None:
        """Give a request its one answer."""
        self.effects.append(Answer(request, result))

    def trace(self, name: str, *detail: object) -> None:
        """Tell whoever listens."""
        assert name in TRACES, name
        self.effects.append(Trace(name, detail))

    # ---------------------------------------------------------------------------------------------- role and term

    def draw_timeout(self) -> None:
        """Draw the election timeout: once for every term and role, so that traces do not depend on polling (E-06)."""
        shortest = self.config.election_timeout_seconds
        self.timeout = self.rng.uniform(shortest, 2 * shortest)
        self.restart_timer(self.timer_from)

    def restart_timer(self, since: float) -> None:
        """Count the election timeout from ``since``. Only voters that are whole ever campaign (E-20, I-19, I-30)."""
        self.timer_from = since
        self.election_at = since + self.timeout if self.role is not Role.LEADER and self.is_promotable else None

    @property
    def is_promotable(self) -> bool:
        """Whether this node may campaign: it votes in its newest configuration, or in the one known to be committed.

        The second half is for a leader that appended its own removal and lost its office before anybody else had the
        entry: it alone can win then, and finish the removal, for its log is ahead of the remaining voters' (4.2.2).
        """
        return (
            (is_voter(self.history.current, self.me) or is_voter(self.history.at(self.commit)[1], self.me))
            and not self.is_damaged
            and self.has_space
            and (self.removed_at == 0 or self.removed_at < self.history.index)
        )

    def change_role(self, role: Role) -> None:
        """Take a role; the legal moves are those of figure 4 (T-04)."""
        assert not (self.role is Role.LEADER and role in (Role.CANDIDATE, Role.PRE_CANDIDATE)), self
        assert role is not Role.LEADER or self.role is Role.CANDIDATE, self
        self.role = role
        self.votes = {}
        self.late_vote_after = self.self_vote_after or self.late_vote_after
        self.self_vote_after = 0
        self.campaign_after = 0

    def become_follower(self, term: int, leader: Peer | None) -> None:
        """Follow ``leader`` (None: whoever it turns out to be) in ``term`` (Raft paper, 5.1; T-01, T-05)."""
        assert term >= self.term, (term, self)
        was, was_term, was_leader = self.role, self.term, self.leader
        if was is Role.LEADER:
            self._resign(leader if term > self.term else None)
        if term > self.term:
            self.set_hard_state(term, None)
        self.change_role(Role.FOLLOWER)
        self.leader = leader
        if was is Role.LEADER:
            self.timer_from = self.now
        # A new term alone does not restart the timer, or a refused candidate could keep everybody waiting (K-19).
        if was is not Role.FOLLOWER or term != was_term:
            self.draw_timeout()
        if (was, was_term, was_leader) != (self.role, self.term, leader):
            self.trace("role", self.role, self.term, leader)

    def set_hard_state(self, term: int, vote: Peer | None) -> None:
        """A new term or a vote; it goes to disk with this step's write."""
        assert term > self.term or (term == self.term and self.vote in (None, vote)), (term, vote, self)  # E-04
        self.term, self.vote = term, vote
        self.hard_dirty = True

    def heard_leader(self, leader: Peer) -> None:
        """The leader of this term spoke: the timer starts anew and the shield is up (5.2; 4.2.3)."""
        if self.leader != leader or self.role is not Role.FOLLOWER:
            assert self.leader in (None, leader), (leader, self)  # I-01: one leader a term
            self.become_follower(self.term, leader)
        self.contact_from = leader
        self.contact_at = self.now
        self.timer_from = self.now
        if self.election_at is not None:
            self.election_at = self.now + self.timeout

    def is_shielding(self, candidate: Peer) -> bool:
        """Whether a leader that was heard within T is to be spared an election (4.2.3, 6.4.1; E-22, Q-02).

        Counted from the contact and not from who leads *now*: a lease lasts although our term moved on. The leader's
        own candidacy needs no shield against itself (P-06, K-23).
        """
        if not self.config.is_sticky or candidate == self.contact_from:
            return False
        return self.role is Role.LEADER or self.now < self.contact_at + self.config.election_timeout_seconds

    def _resign(self, hint: Peer | None) -> None:
        """Leadership ends here and nowhere else: nobody who waited for it is forgotten (K-91, I-33, V-09)."""
        leading = self.leading
        assert leading is not None, self
        self.leading = None
        for index, request, _ in leading.proposals:
            self.answer(request, Unknown(index, self.term))
        if leading.change_request is not None:
            self.answer(leading.change_request, Unknown(self.history.index, self.term))
        if leading.catch_up is not None:
            self.trace("catch_up_aborted", leading.catch_up.peers, "stepped_down")
            self.answer(leading.catch_up.request, NotLeader(hint))
        if leading.handover is not None:
            self.end_handover(leading, "stepped_down")
        for read in (*leading.reads_early, *leading.reads):
            if read.origin is None:  # Others ask the next leader themselves; so do we.
                self.token += 1
                self.asked[self.token] = (read.request, read.asked_at)

    def end_handover(self, leading: Leading, reason: str) -> None:
        """The one way out of a transfer, whatever ended it (L-05, L-08)."""
        handover = leading.handover
        assert handover is not None, self
        leading.handover = None
        self.trace("handover_ended", handover.target, reason)
        for request in handover.requests:
            self.answer(request, Refused("transferring", f"the transfer to {handover.target} ended: {reason}"))

    # ----------------------------------------------------------------------------------------- log and membership

    def append(self, entry: Entry) -> None:
        """Put an entry at the end of the log. A configuration is in force from here on (4.1; I-18)."""
        self.log.append(entry)
        if entry.kind is EntryKind.MEMBERSHIP:
            assert isinstance(entry.payload, Configuration), entry
            self.history.push(entry.index, entry.payload)
            self.trace("membership", entry.index, entry.payload)
            self.follow_membership()

    def cut(self, from_index: int) -> None:
        """Drop entries that conflict with the leader's; committed ones never do (5.3, I-02, I-07)."""
        assert self.role is not Role.LEADER and from_index > self.commit, (from_index, self)
        self.trace("cut", from_index, self.log.last_index, self.log.last_term)
        self.log.cut(from_index)
        self.writes.cut(from_index)
        self.accepted_index = min(self.accepted_index, from_index - 1)
        if from_index < self.unwritten:
            self.unwritten = from_index
            self.truncate_from = min(from_index, self.truncate_from or from_index)
        if self.history.cut(from_index):  # K-77
            self.trace("membership_reverted", self.history.index, self.history.current)
            self.follow_membership()

    def follow_membership(self) -> None:
        """The configuration in force changed: who counts, who gets the log, whether this node may campaign."""
        current = self.history.current
        self.groups = halves(current)
        self.others = tuple(peer for peer in members(current) if peer != self.me)
        if self.removed_at and self.removed_at < self.history.index:
            self.removed_at = 0
        self.restart_timer(self.timer_from)
        if self.leading is not None:
            self.follow_progress(self.log.last_index)  # So the first thing a newcomer is sent is this very entry.

    def follow_progress(self, next_index: int) -> None:
        """A leader serves exactly the members of the configuration in force (M-02)."""
        leading = self.leading
        assert leading is not None
        known = leading.progress
        leading.progress = {peer: known.get(peer) or Progress(peer, next_index, self.now) for peer in self.others}
        leading.is_settled = False
        self.follow_contact(leading)

    def follow_contact(self, leading: Leading) -> None:
        """Work out since when no quorum of the configuration in force was heard (4.1, 6.2; Q-01, K-22)."""
        contacts = {progress.peer: progress.contact_at for progress in leading.progress.values()}
        contacts[self.me] = float("inf")
        leading.quorum_at = quorum_value(self.groups, contacts)

    def commit_to(self, index: int) -> None:
        """Everything up to ``index`` is committed; that never changes again (I-08)."""
        assert self.commit < index <= self.log.last_index, (index, self)  # C-06
        was_open = self.commit < self.history.index
        self.commit = index
        if was_open:
            if self.history.index <= index:
                self.trace("membership_committed", self.history.index, self.history.current)
            self.restart_timer(self.timer_from)  # Who may campaign depends on what is known to be committed.

    def compact(self, index: int) -> None:
        """Let go of the log up to ``index``."""
        self.log.compact(index)
        self.history.forget(index)
        self.trace("compacted", index)
        self.effects.append(Compact(index + 1))
