"""Planted bugs of elections, replication and commit."""

from __future__ import annotations

from simulations.mutants.mutant import Mutant, one
from simulations.mutants.plant import Edit

ELECTION = (
    one(
        "K-02",
        "A",
        "the vote is left out of the durable write",
        "lanes",
        "HardState(state.term, state.vote) if state.hard_dirty else None,",
        "HardState(state.term, None) if state.hard_dirty else None,",
    ),
    one(
        "K-04",
        "A",
        "answers leave before term and vote are synced",
        "state",
        "        if self.hard_dirty:\n            after",
        "        if False:\n            after",
    ),
    one(
        "K-05",
        "B",
        "a candidate counts its own vote before it is durable",
        "election",
        "state.log.last_term, is_transfer)  # C-04\n        )",
        "state.log.last_term, is_transfer)\n        )\n    state.votes[state.me] = True\n    _count(state)",
    ),
    one(
        "K-07",
        "B",
        "a vote of an older term counts",
        "core",
        "case messages.PreVote() | messages.PreVoteReply():",
        "case messages.PreVote() | messages.PreVoteReply() | messages.VoteReply():",
    ),
    one(
        "K-08",
        "A",
        "votes are counted as a number: a copy of an answer counts again",
        "election",
        "        state.votes.setdefault(message.sender, message.is_granted)\n        _count(state)",
        "        spare = next((each for each in state.others if each not in state.votes), message.sender)\n"
        "        state.votes.setdefault(\n"
        "            spare if message.sender in state.votes else message.sender, message.is_granted)\n"
        "        _count(state)",
    ),
    one(
        "K-10",
        "A",
        "freshness compares the index before the term",
        "log",
        "(last_term, last_index) >= (self.last_term, self.last_index)",
        "(last_index, last_term) >= (self.last_index, self.last_term)",
    ),
    one(
        "K-11",
        "A",
        "freshness asks for strictly greater",
        "log",
        "(last_term, last_index) >= (self.last_term, self.last_index)",
        "(last_term, last_index) > (self.last_term, self.last_index)",
    ),
    one("K-13", "A", "half is taken for a majority", "quorum", "return voters // 2 + 1", "return (voters + 1) // 2"),
    one(
        "K-14",
        "A",
        "learners count in quorums",
        "membership",
        "    return (configuration.voters,)",
        "    return (configuration.voters + configuration.learners,)",
    ),
    one(
        "K-16",
        "B",
        "a restarted leader goes on leading",
        "core",
        "        self._before = invariants.remember(self._state)\n\n    def __repr__",
        "        if stored.hard_state.vote == me and self._state.is_promotable:\n"
        "            self._state.change_role(Role.CANDIDATE)\n"
        "            election._lead(self._state)\n"
        "        self._before = invariants.remember(self._state)\n\n    def __repr__",
    ),
    one(
        "K-17",
        "B",
        "a vote is not given again to the same candidate",
        "election",
        "if state.vote not in (None, message.sender) or (",
        "if state.vote is not None or (",
    ),
    one(
        "K-19",
        "B",
        "a refused vote restarts the election timer",
        "election",
        '        state.trace("vote_refused", message.sender, reason)',
        '        state.trace("vote_refused", message.sender, reason)\n        state.restart_timer(state.now)',
    ),
    one(
        "K-20",
        "B",
        "giving a vote does not restart the timer",
        "election",
        "        state.restart_timer(state.now)  # §5.2",
        "        pass  # §5.2",
    ),
    Mutant(
        "K-22",
        "CheckQuorum never fires",
        "A",
        (
            Edit("heartbeat", "return state.config.is_check_quorum and state.now", "return False and state.now"),
            Edit("core", "            if state.config.is_check_quorum:\n", "            if False:\n"),
        ),
    ),
    one(
        "K-23",
        "B",
        "the shield keeps the known leader itself out",
        "state",
        "if not self.config.is_sticky or candidate == self.contact_from:",
        "if not self.config.is_sticky:",
    ),
    one(
        "K-26",
        "A",
        "a higher term in an answer is ignored",
        "core",
        "if term > state.term and kind is not messages.PreVote:",
        "if term > state.term and kind not in (\n"
        "            messages.PreVote, messages.VoteReply, messages.AppendReply, messages.HeartbeatReply):",
    ),
)

REPLICATION = (
    one(
        "K-01",
        "A",
        "an entry of an older term is committed by counting",
        "append",
        "if index <= state.commit or state.log.term(index) != state.term:",
        "if index <= state.commit:",
    ),
    one(
        "K-28",
        "A",
        "every append cuts what follows it",
        "append",
        "    place = _first_new(state, entries)\n",
        "    place = 0\n",
    ),
    one(
        "K-29",
        "A",
        "only the previous index is compared, not its term",
        "append",
        "if not log.matches(prev_index, prev_term):",
        "if log.term(prev_index) is None:",
    ),
    one(
        "K-31",
        "A",
        "a follower commits up to its last index",
        "heartbeat",
        "    if state.accepted_term == state.term:\n        reach = min(commit, state.accepted_index)",
        "    if True:\n        reach = min(commit, state.log.last_index)",
    ),
    one(
        "K-32",
        "B",
        "heartbeats tell a commit index beyond what the follower holds",
        "heartbeat",
        "commit = min(state.commit, progress.match)",
        "commit = state.commit",
    ),
    one(
        "K-34",
        "A",
        "match falls on a rejection",
        "progress",
        "            if prev_index <= self.match:\n                return False\n            self.probe()",
        "            self.match = min(self.match, max(retry_next - 1, 0))\n            self.probe()",
    ),
    one(
        "K-35",
        "B",
        "an append answer of an older term moves match",
        "core",
        "        case _:\n            pass\n    return False",
        "        case messages.AppendReply():\n            return True\n"
        "        case _:\n            pass\n    return False",
    ),
    one(
        "K-37",
        "A",
        "a follower acknowledges its last index",
        "append",
        "_reply(state, message, AppendStatus.ACCEPTED, covered, 0)",
        "_reply(state, message, AppendStatus.ACCEPTED, log.last_index, 0)",
    ),
    one(
        "K-38",
        "A",
        "match survives from one leadership to the next",
        "state",
        "        known = leading.progress\n        leading.progress = {",
        "        known = leading.progress or getattr(self.rng, 'kept', {})\n"
        "        leading.progress = self.rng.kept = {",
    ),
    one(
        "K-40",
        "B",
        "a follower that is caught up stays in probe",
        "append",
        "if progress.pace is Pace.PROBE and message.match >= progress.match:",
        "if progress.pace is Pace.PROBE and progress.match <= message.match < state.log.last_index:",
    ),
    one(
        "K-41",
        "A",
        "an acknowledgement does not free the window",
        "progress",
        "while self._in_flight and self._in_flight[0][0] <= match:",
        "while False:",
    ),
    one(
        "K-41b",
        "B",
        "a heartbeat does not free a full window",
        "heartbeat",
        "        progress.free_first()  #",
        "        pass  #",
    ),
    Mutant(
        "K-43",
        "the count of uncommitted bytes outlives a leadership",
        "B",
        (
            Edit(
                "state",
                "        self.leading = None\n        for index, request, _ in leading.proposals:",
                "        self.leading = None\n        self.rng.kept_bytes = leading.uncommitted_bytes\n"
                "        for index, request, _ in leading.proposals:",
            ),
            Edit(
                "election",
                "    state.follow_progress(leading.term_start)",
                "    leading.uncommitted_bytes = getattr(state.rng, 'kept_bytes', 0)\n"
                "    state.follow_progress(leading.term_start)",
            ),
        ),
    ),
    one(
        "K-44",
        "A",
        "an empty append omits the consistency check",
        "append",
        "if not log.matches(prev_index, prev_term):",
        "if entries and not log.matches(prev_index, prev_term):",
    ),
    one(
        "K-46",
        "A",
        "a proposal that waits long is appended again",
        "core",
        "        transfer.send_again(leading)\n",
        "        transfer.send_again(leading)\n"
        "        again = state.log.entry(leading.proposals[0][0]) if leading.proposals else None\n"
        "        if again is not None:\n"
        "            state.append(Entry(state.log.last_index + 1, state.term, again.kind, again.payload))\n",
    ),
)
