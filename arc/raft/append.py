"""Log replication: propose, append, answer, commit (Raft paper, 5.3 and 5.4; dissertation, 3.5 to 3.7 and 10.2).

The leader writes to its own disk while the followers write to theirs, and counts itself only when its disk is done
(10.2.1). Sending is level-triggered: whatever changed, `pump` runs at the end of a leader's step and sends each
follower what it may get, so that no rule has to remember to send.
"""

from __future__ import annotations

from arc.raft.effects import Committed, NotLeader, ReadEntries, Refused
from arc.raft.events import EntriesRead, Propose
from arc.raft.heartbeat import acknowledged, follow_commit
from arc.raft.lanes import hand_to_machine
from arc.raft.leading import Leading
from arc.raft.membership import quorum_value
from arc.raft.messages import Append, AppendReply, AppendStatus, Commit
from arc.raft.progress import Pace, Progress
from arc.raft.snapshot import begin
from arc.raft.state import State
from arc.raft.types import Entry, EntryKind, entry_bytes

# --------------------------------------------------------------------------------------------------- leader: proposing


def propose(state: State, event: Propose) -> None:
    """Append commands to the own log, as far as the limits allow (5.3; R-01, R-06). The rest is answered at once."""
    leading = state.leading
    for request, payload in event.commands:
        if leading is None:
            state.answer(request, NotLeader(state.leader))
            continue
        refused = _refusal(state, leading, len(payload))
        if refused is not None:
            state.answer(request, refused)
            continue
        index = state.log.last_index + 1
        state.append(Entry(index, state.term, EntryKind.COMMAND, payload))
        leading.proposals.append((index, request, len(payload)))
        leading.uncommitted_bytes += len(payload)


def _refusal(state: State, leading: Leading, size: int) -> Refused | None:
    config = state.config
    if leading.handover is not None:  # §3.10 L-04
        return Refused("transferring", f"leadership is being handed to {leading.handover.target}")
    if not state.has_space:
        return Refused("no_space", "the leader's disk is full")
    if size > config.entry_bytes_max:
        return Refused("too_large", f"{size} bytes, more than {config.entry_bytes_max}")
    is_full = size > 0 and leading.proposals and leading.uncommitted_bytes + size > config.uncommitted_bytes_max
    if is_full or len(leading.proposals) >= config.uncommitted_entries_max:  # F-04, I-31
        state.trace("overloaded", "uncommitted")
        return Refused("overloaded", "too much waits for agreement already")
    return None


# ----------------------------------------------------------------------------------------------------- leader: sending


def pump(state: State, leading: Leading) -> None:
    """Send every follower what it lacks, as far as its window allows; then what is newly committed."""
    config, last, commit = state.config, state.log.last_index, state.commit
    for progress in leading.progress.values():
        while (progress.next <= last or progress.must_send) and progress.is_open(
            config.window_messages_max, config.window_bytes_max
        ):
            if not _send(state, leading, progress):
                break
        told = min(commit, progress.match)
        if told > progress.commit_told and progress.pace is Pace.REPLICATE:
            progress.commit_told = told
            state.send(Commit(progress.peer, state.me, state.term, told))


def _send(state: State, leading: Leading, progress: Progress) -> bool:
    """Send one append; says whether to go on with this follower."""
    log, config = state.log, state.config
    if log.term(progress.next - 1) is None:  # The entry before is cut off, so the check would be blind (7; S-03).
        begin(state, leading, progress)
        return False
    entries: tuple[Entry, ...] = ()
    if progress.next <= log.last_index:
        found = log.read(progress.next, log.last_index, config.append_bytes_max, config.append_entries_max)
        if found is None:
            if progress.pace is Pace.REPLICATE and not progress.reading:
                state.token += 1
                progress.reading = state.token
                last = min(log.memory_index - 1, progress.next + config.append_entries_max - 1)
                state.effects.append(ReadEntries(progress.next, last, config.append_bytes_max, state.token))
            if not progress.must_send and progress.pace is Pace.REPLICATE:
                return False
        entries = found or ()  # A probe, or a sign of life, needs no entries and no disk.
    _send_entries(state, leading, progress, entries)
    return progress.pace is Pace.REPLICATE and bool(entries)


def _send_entries(state: State, leading: Leading, progress: Progress, entries: tuple[Entry, ...]) -> None:
    prev_index = progress.next - 1
    prev_term = state.log.term(prev_index)
    assert prev_term is not None, (progress, state)
    last = prev_index + len(entries)
    progress.sent(last, sum(map(entry_bytes, entries)))
    progress.round_sent = leading.round
    progress.commit_told = max(progress.commit_told, min(state.commit, last))
    state.send(Append(progress.peer, state.me, state.term, prev_index, prev_term, entries, state.commit, leading.round))


def on_entries_read(state: State, event: EntriesRead) -> None:
    """Entries came from the disk, for a follower or for the state machine; the log may have moved on since."""
    if event.token == state.apply_read:
        state.apply_read = 0
        wanted = [entry for entry in event.entries if state.applying < entry.index <= state.commit]
        if wanted and wanted[0].index == state.applying + 1:
            hand_to_machine(state, tuple(wanted))
        return
    leading = state.leading
    waiting = leading.progress.values() if leading is not None else ()
    progress = next((each for each in waiting if each.reading == event.token), None)
    if leading is None or progress is None:
        state.trace("stale_completion", "entries")
        return
    progress.reading = 0
    entries = event.entries
    if progress.pace is Pace.REPLICATE and entries and entries[0].index == progress.next:
        assert all(state.log.matches(entry.index, entry.term) for entry in entries), (entries[0], state)
        if state.log.term(progress.next - 1) is not None:
            _send_entries(state, leading, progress, entries)


# -------------------------------------------------------------------------------------------------- follower: appending


def on_append(state: State, message: Append) -> None:
    """AppendEntries, receiver's side (Raft paper, figure 2; R-02, R-03)."""
    state.heard_leader(message.sender)
    log, prev_index, prev_term, entries = state.log, message.prev_index, message.prev_term, message.entries
    covered = prev_index + len(entries)
    if prev_index < state.commit:
        # What is committed here is in every later leader's log (5.4.3), so only what follows needs a look.
        skipped = state.commit - prev_index
        assert len(entries) < skipped or entries[skipped - 1].term == log.term(state.commit), (message, state)
        entries = entries[skipped:]
        prev_index, prev_term = state.commit, log.term(state.commit) or 0
        covered = max(covered, prev_index)
    if not log.matches(prev_index, prev_term):
        hint_index, hint_term = log.skip_back(prev_index, prev_term)
        _reply(state, message, AppendStatus.MISMATCH, hint_index, hint_term)
        return
    place = _first_new(state, entries)
    if place < len(entries):
        if not state.has_space:
            _reply(state, message, AppendStatus.NO_SPACE, 0, 0)
            return
        if entries[place].index <= log.last_index:
            state.cut(entries[place].index)  # Only from the first conflict on: an old append may be a prefix (K-28).
        for entry in entries[place:]:
            state.append(entry)
    if state.accepted_term != state.term:
        state.accepted_term, state.accepted_index = state.term, 0
    state.accepted_index = max(state.accepted_index, covered)
    follow_commit(state, message.commit)
    _reply(state, message, AppendStatus.ACCEPTED, covered, 0)


def _first_new(state: State, entries: tuple[Entry, ...]) -> int:
    """Place of the first entry that the log lacks or contradicts."""
    log = state.log
    if entries and entries[0].index == log.last_index + 1:
        return 0
    for place, entry in enumerate(entries):
        if log.term(entry.index) != entry.term:
            return place
    return len(entries)


def _reply(state: State, message: Append, status: AppendStatus, match: int, hint_term: int) -> None:
    """Answer with what *this* append covered, never with what the log happens to hold after it (K-37).

    An acceptance leaves only when that much is on disk (3.8; K-47).
    """
    covers = match if status is AppendStatus.ACCEPTED else 0
    state.send(
        AppendReply(message.sender, state.me, state.term, message.prev_index, status, match, hint_term, message.round),
        covers=covers,
    )


# ----------------------------------------------------------------------------------------------------- leader: answers


def on_append_reply(state: State, leading: Leading, message: AppendReply) -> None:
    """A follower accepted or refused an append of this term (R-08)."""
    progress = leading.progress.get(message.sender)
    if progress is None:
        state.trace("stranger", message.sender)  # T-08
        return
    acknowledged(state, leading, progress, message.round)
    if message.round < progress.trust_round:
        return
    if message.status is AppendStatus.ACCEPTED:
        assert message.match <= state.log.last_index, (message, state)
        is_news = progress.accept(message.match)
        if is_news:
            leading.is_settled = False
        if progress.pace is Pace.PROBE and message.match >= progress.match:
            progress.replicate()
        elif progress.pace is Pace.SNAPSHOT and progress.match >= state.log.boundary_index:
            progress.replicate()  # It got there without the snapshot, or its report was lost (S-05).
        if is_news:
            progress.took(state.now, state.snapshot)
    elif message.status is AppendStatus.MISMATCH:
        progress.reject(message.prev_index, _retry_next(state, message))
    else:
        progress.probe()
        progress.is_probe_sent = True  # Ask again with the next heartbeat.


def _retry_next(state: State, message: AppendReply) -> int:
    """Where to try next: skip what has a higher term than the follower has there (dissertation, 3.5; R-05)."""
    log = state.log
    if message.match < log.boundary_index:
        return message.match + 1
    index, term = log.skip_back(message.match, message.hint_term)
    # At the boundary nothing further back is known; if it cannot match either, only a snapshot helps.
    return index + 1 if term <= message.hint_term else index


def advance_commit(state: State, leading: Leading) -> bool:
    """Commit what a quorum of every half holds on disk; says whether anything was (5.3, 5.4.2; C-01, C-08, C-09)."""
    if leading.is_settled:
        return False
    leading.is_settled = True
    matches = {progress.peer: progress.match for progress in leading.progress.values()}
    matches[state.me] = state.writes.durable_index  # Counts only if this node is a voter (M-09, K-80).
    index = quorum_value(state.groups, matches)
    # §5.4.2 C-03: an entry of an older term may be on a majority and still be overwritten (figure 8), so only one of
    # the own term commits, and with it all before it.
    if index <= state.commit or state.log.term(index) != state.term:
        return False
    state.commit_to(index)
    proposals = leading.proposals
    while proposals and proposals[0][0] <= index:
        at, request, size = proposals.popleft()
        leading.uncommitted_bytes -= size
        state.answer(request, Committed(at, state.term))
    return True
