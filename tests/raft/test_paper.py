"""The Raft paper, sentence by sentence: figures 2 and 3, section 5 and the safety argument, in our own words.

Each test is one sentence; its docstring says where it stands and which scenario of the acceptance matrix it is.
"""

from __future__ import annotations

from itertools import product

import pytest

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Apply, Committed, NotLeader, Send, Write
from arc.raft.events import Campaign, Persisted, Propose, Receive, Tick
from arc.raft.messages import (
    Append,
    AppendReply,
    AppendStatus,
    Commit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Vote,
    VoteReply,
)
from arc.raft.types import Entry, EntryKind, HardState, Peer, Role, Stored, bootstrap
from tests.raft.minicluster import Stream
from tests.raft.talk import FixedRng, Talk

N = tuple(Peer(f"n{number}") for number in range(6))
PLAIN = Config(is_pre_vote=False, is_sticky=False)
"""The paper knows neither pre-votes nor shields."""


def node(*terms: int, term: int = 0, vote: Peer | None = None, size: int = 3, config: Config = PLAIN) -> RaftCore:
    """n1 of a cluster, with a log of these terms."""
    stored = bootstrap(*N[1 : size + 1])._replace(
        hard_state=HardState(max(term, *terms, 0), vote),
        entries=tuple(Entry(index, each) for index, each in enumerate(terms, 1)),
    )
    return RaftCore(N[1], config, stored, FixedRng(1), 0.0)


def sent(effects: list[object], kind: type[Message] | None = None) -> list[Message]:  # type: ignore[valid-type]
    return [each.message for each in effects if isinstance(each, Send) and (not kind or isinstance(each.message, kind))]


def persist(core: RaftCore, effects: list[object]) -> list[object]:
    """Finish the writes of a step."""
    more: list[object] = []
    for each in effects:
        if isinstance(each, Write):
            more += core.step(Persisted(each.write_id), core.state.now)
    return more


def receive(core: RaftCore, message: Message) -> list[object]:
    return list(core.step(Receive(message), core.state.now))


def leader(*terms: int, size: int = 3, term: int = 0, config: Config = PLAIN) -> RaftCore:
    """n1, elected over that log."""
    core = node(*terms, size=size, term=term, config=config)
    persist(core, list(core.step(Campaign(), 0.0)))
    for voter in N[2 : size + 1]:
        if not core.is_leader:
            persist(core, receive(core, VoteReply(N[1], voter, core.term, True)))
    assert core.is_leader
    return core


def append_to(core: RaftCore, prev: int, prev_term: int, *terms: int, commit: int = 0, term: int = 0) -> list[object]:
    """n2, leading, appends entries of these terms after prev."""
    entries = tuple(Entry(index, each, payload=b"new") for index, each in enumerate(terms, prev + 1))
    return receive(core, Append(N[1], N[2], term or core.term, prev, prev_term, entries, commit, 1))


def reply(effects: list[object]) -> AppendReply:
    (answer,) = sent(effects, AppendReply)
    assert isinstance(answer, AppendReply)
    return answer


# ------------------------------------------------------------------------------- figure 2, state; section 5.1, terms


def test_a_server_begins_as_follower() -> None:
    """5.2; T-03: whatever it was before."""
    core = node(1, 2, term=7, vote=N[1])
    assert core.state.role is Role.FOLLOWER and core.leader is None


def test_term_vote_and_log_survive_everything_else_is_volatile() -> None:
    """Figure 2, state; D-07: commit and applied begin anew, at the snapshot."""
    core = node(1, 2, term=7, vote=N[3])
    status = core.status()
    assert (status.term, status.vote, status.last_index, status.commit, status.applied) == (7, N[3], 2, 0, 0)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", ["append", "heartbeat", "vote", "vote_reply", "append_reply"])
def test_a_higher_term_makes_every_role_a_follower_in_it(role: Role, kind: str) -> None:
    """5.1; T-01, T-05, K-26: in requests as in answers; the log stays, the leader is known only from its own word."""
    core = in_role(role)
    last = core.status().last_index
    messages: dict[str, Message] = {
        "append": Append(N[1], N[2], 9, 0, 0, (), 0, 1),
        "heartbeat": Heartbeat(N[1], N[2], 9, 0, 1),
        "vote": Vote(N[1], N[2], 9, 0, 0),
        "vote_reply": VoteReply(N[1], N[2], 9, False),
        "append_reply": AppendReply(N[1], N[2], 9, 0, AppendStatus.ACCEPTED, 0, 0, 1),
    }
    receive(core, messages[kind])
    assert (core.state.role, core.term, core.status().last_index) == (Role.FOLLOWER, 9, last)
    assert core.leader == (N[2] if kind in ("append", "heartbeat") else None)


def in_role(role: Role) -> RaftCore:
    if role is Role.LEADER:
        return leader(1, 1)
    core = node(1, 1, config=Config(is_pre_vote=role is Role.PRE_CANDIDATE, is_sticky=False))
    if role is not Role.FOLLOWER:
        core.step(Campaign(), 0.0)
    assert core.state.role is role
    return core


@pytest.mark.parametrize("role", list(Role))
def test_a_request_of_an_old_term_is_refused(role: Role) -> None:
    """5.1; T-02: it never reaches the role; the asker is told the term."""
    core = in_role(role)
    term = core.term + 5
    receive(core, Heartbeat(N[1], N[3], term, 0, 1))
    before = core.status()
    for message in (Append(N[1], N[2], term - 1, 2, 1, (Entry(3, 1),), 3, 1), Vote(N[1], N[2], term - 1, 9, 9)):
        answers = sent(receive(core, message))
        assert [answer.term for answer in answers] == [term]
        assert not any(getattr(answer, "is_granted", False) for answer in answers)
    assert core.status() == before


@pytest.mark.parametrize(
    "message", [VoteReply(N[1], N[2], 1, True), AppendReply(N[1], N[2], 1, 0, AppendStatus.ACCEPTED, 2, 0, 1)]
)
def test_an_answer_of_an_old_term_is_ignored(message: Message) -> None:
    """5.1; T-02, K-07, K-35, R-13."""
    core = node(1, 1, size=3)
    core.step(Campaign(), 0.0)
    persist(core, list(core.step(Campaign(), 0.0)))
    assert core.term == 3
    before = core.status()
    assert receive(core, message) == [] and core.status() == before


# ----------------------------------------------------------------------------------- figure 2, RequestVote; section 5.2


def test_silence_makes_a_candidate_with_the_next_term_and_its_own_vote() -> None:
    """5.2; E-02: term up, vote for itself, a request to everybody, and again at the next timeout."""
    core = node(1, 2, term=4)
    assert core.step(Tick(), 0.5) == [], "not before the timeout"
    for term in (5, 6):
        effects = core.step(Tick(), core.deadline or 0.0)
        assert core.state.role is Role.CANDIDATE and (core.term, core.state.vote) == (term, N[1])
        assert sent(effects) == [Vote(peer, N[1], term, 2, 2, False) for peer in N[2:4]]


def test_hearing_from_a_leader_keeps_a_follower_quiet() -> None:
    """5.2; E-02, E-25: the timeout counts from the last word of the current leader."""
    core = node(1)
    core.step(Receive(Heartbeat(N[1], N[2], 1, 0, 1)), 0.9)
    assert core.deadline == pytest.approx(0.9 + 1.1)
    core.step(Receive(Commit(N[1], N[2], 1, 0)), 1.5)
    assert core.deadline == pytest.approx(1.5 + 1.1)


@pytest.mark.parametrize(
    ("vote", "asks", "expected"),
    [
        (None, N[2], True),
        (None, N[3], True),
        (N[2], N[2], True),
        (N[3], N[3], True),
        (N[2], N[3], False),
        (N[1], N[2], False),
    ],
)
def test_one_vote_a_term_first_come_first_served(vote: Peer | None, asks: Peer, expected: bool) -> None:
    """5.2; E-04, E-14, K-17: the same candidate may ask twice."""
    core = node(1, term=3, vote=vote)
    (answer,) = sent(receive(core, Vote(N[1], asks, 3, 9, 9)), VoteReply)
    assert answer == VoteReply(asks, N[1], 3, expected)


@pytest.mark.parametrize(
    ("own", "index", "term", "expected"),
    [
        ((1,), 1, 1, True), ((1,), 2, 1, True), ((1, 1), 1, 1, False), ((1,), 1, 2, True), ((1,), 2, 2, True),
        ((1, 1), 1, 2, True), ((2,), 1, 1, False), ((2,), 2, 1, False), ((2, 2), 1, 1, False), ((1, 1), 1, 1, False),
    ],
)  # fmt: skip
def test_a_voter_refuses_a_log_that_is_behind_its_own(
    own: tuple[int, ...], index: int, term: int, expected: bool
) -> None:
    """5.4.1; C-04, E-14, K-10, K-11: last term first, then length; equal is good enough."""
    core = node(*own, term=3)
    (answer,) = sent(receive(core, Vote(N[1], N[2], 3, index, term)), VoteReply)
    assert isinstance(answer, VoteReply) and answer.is_granted is expected


def test_a_vote_leaves_only_when_it_is_on_disk() -> None:
    """Figure 2: updated on stable storage before responding; E-17, D-01, K-02, K-04."""
    effects = receive(node(1), Vote(N[1], N[2], 5, 9, 9))
    write = next(each for each in effects if isinstance(each, Write))
    send = next(each for each in effects if isinstance(each, Send))
    assert write.hard_state == HardState(5, N[2]) and send.after == write.write_id


def test_a_given_vote_restarts_the_timeout_and_a_refused_one_does_not() -> None:
    """5.2, figure 2 rules for followers; K-19, K-20."""
    core = node(2)
    core.step(Receive(Vote(N[1], N[2], 5, 1, 1)), 0.5)
    assert core.deadline == pytest.approx(1.1)
    core.step(Receive(Vote(N[1], N[2], 6, 9, 9)), 0.6)
    assert core.deadline == pytest.approx(1.7)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_every_vector_of_votes_elects_by_majority(size: int) -> None:
    """5.2; E-03, E-13, K-05, K-13: leader, follower or still candidate, and the own vote counts when it is durable."""
    for votes in product([True, False, None], repeat=size - 1):
        core = node(1, size=size)
        effects = list(core.step(Campaign(), 0.0))
        for voter, is_granted in zip(N[2:], votes, strict=False):
            if is_granted is not None and core.state.role is Role.CANDIDATE:
                receive(core, VoteReply(N[1], voter, core.term, is_granted))
        assert not core.is_leader or votes.count(True) > size / 2
        persist(core, effects)
        granted, refused = votes.count(True) + 1, votes.count(False)
        expected = Role.LEADER if granted > size / 2 else Role.FOLLOWER if refused >= size / 2 else Role.CANDIDATE
        assert core.state.role is expected, votes


def test_a_doubled_vote_counts_once() -> None:
    """5.2; K-08, E-03."""
    core = node(1, size=5)
    persist(core, list(core.step(Campaign(), 0.0)))
    for _ in range(3):
        receive(core, VoteReply(N[1], N[2], core.term, True))
    assert core.state.role is Role.CANDIDATE


@pytest.mark.parametrize("term", [2, 3])
def test_a_candidate_yields_to_a_leader_of_its_term_or_a_later_one(term: int) -> None:
    """5.2; E-05: and takes its entries."""
    core = node(1)
    core.step(Campaign(), 0.0)
    append_to(core, 1, 1, term, term=term)
    assert (core.state.role, core.leader, core.status().last_index) == (Role.FOLLOWER, N[2], 2)


def test_timeouts_are_spread_over_the_whole_range() -> None:
    """5.2, 9.3; E-06, E-07, T-06: each between T and 2T, roughly evenly, rarely together."""
    drawn = [RaftCore(N[1], PLAIN, bootstrap(*N[1:4]), Stream(f"{seed}"), 0.0).deadline or 0 for seed in range(1000)]
    assert all(1.0 <= each < 2.0 for each in drawn)
    tenths = [sum(low / 10 <= each - 1 < (low + 1) / 10 for each in drawn) for low in range(10)]
    assert min(tenths) > 60 and max(tenths) < 140
    groups = [sorted(drawn[start : start + 5]) for start in range(0, 1000, 5)]
    assert sum(second - first < 0.015 for first, second, *_ in groups) < 0.3 * len(groups)


def test_a_won_election_is_told_at_once() -> None:
    """5.2; E-01: heartbeats to everybody, and again each interval."""
    core = leader(1)
    effects = core.step(Tick(), core.deadline or 0.0)
    assert [message.to for message in sent(effects, Heartbeat)] == [N[2], N[3]]
    assert core.step(Tick(), core.state.now) == []


def test_nobody_but_a_leader_sends_heartbeats() -> None:
    """5.2; E-01."""
    core = node(1)
    assert not sent(core.step(Tick(), 0.3)) and not sent(core.step(Tick(), 5.0), Heartbeat)


# ------------------------------------------------------------------------------- figure 2, AppendEntries; section 5.3


def test_a_proposal_is_appended_in_the_own_term_and_sent_with_its_predecessor() -> None:
    """5.3; R-01: not committed yet."""
    core = leader(1)
    receive(core, AppendReply(N[1], N[2], 2, 1, AppendStatus.ACCEPTED, 2, 0, 1))
    effects = core.step(Propose((("a", b"x"),)), 0.0)
    entry = Entry(3, 2, payload=b"x")
    assert [write.entries for write in effects if isinstance(write, Write)] == [(entry,)]
    (message,) = [each for each in sent(effects, Append) if each.to == N[2]]
    assert message[3:6] == (2, 2, (entry,)) and core.status().commit == 2


def test_who_does_not_lead_takes_no_proposals() -> None:
    """5.3; R-06, N-01: it says who does."""
    core = node(1)
    receive(core, Heartbeat(N[1], N[3], 1, 0, 1))
    (answer,) = core.step(Propose((("a", b"x"),)), 0.0)
    assert answer[1] == NotLeader(N[3])


@pytest.mark.parametrize(
    ("prev", "prev_term", "status", "match"),
    [
        (0, 0, AppendStatus.ACCEPTED, 0), (1, 1, AppendStatus.ACCEPTED, 1), (2, 2, AppendStatus.ACCEPTED, 2),
        (1, 2, AppendStatus.MISMATCH, 1), (2, 1, AppendStatus.MISMATCH, 1), (3, 3, AppendStatus.MISMATCH, 2),
    ],
)  # fmt: skip
def test_an_append_is_refused_unless_its_predecessor_is_there(
    prev: int, prev_term: int, status: AppendStatus, match: int
) -> None:
    """5.3, figure 2 receiver 2; R-02, K-29: same index and same term; the refusal says where to look."""
    answer = reply(append_to(node(1, 2, term=3), prev, prev_term))
    assert (answer.status, answer.match) == (status, match)


@pytest.mark.parametrize(
    ("prev", "prev_term", "terms", "expected"),
    [
        (2, 2, (3,), (1, 2, 3)), (1, 1, (3, 4), (1, 3, 4)), (0, 0, (1,), (1, 2)), (0, 0, (3,), (3,)),
        (0, 0, (1, 2), (1, 2)), (1, 1, (2, 2), (1, 2, 2)), (0, 0, (), (1, 2)),
    ],
)  # fmt: skip
def test_entries_are_overwritten_from_the_first_conflict_only(
    prev: int, prev_term: int, terms: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """5.3, figure 2 receiver 3 and 4; R-03, K-28: a prefix of what is there cuts nothing."""
    core = node(1, 2, term=5)
    answer = reply(append_to(core, prev, prev_term, *terms))
    log = core.state.log
    assert tuple(log.term(index) for index in range(1, log.last_index + 1)) == expected
    assert (answer.status, answer.match) == (AppendStatus.ACCEPTED, prev + len(terms)), "what it covered (K-37)"


def test_an_acceptance_leaves_only_when_the_entries_are_on_disk() -> None:
    """Figure 2; D-01, K-47: while an append without news is answered at once."""
    core = node(1, term=1)
    effects = append_to(core, 1, 1, 1, 1)
    (send,) = [each for each in effects if isinstance(each, Send)]
    (write,) = [each for each in effects if isinstance(each, Write)]
    assert send.after == write.write_id
    (send,) = [each for each in append_to(core, 1, 1) if isinstance(each, Send)]
    assert send.after is None


def test_a_follower_commits_as_far_as_the_leader_and_the_append_reach() -> None:
    """Figure 2 receiver 5; C-02, C-06: min(leader's commit, last new entry), and it applies in order."""
    core = node(1, 1, 1, term=1)
    append_to(core, 0, 0, 1, commit=9)
    assert core.status().commit == 1
    effects = append_to(core, 1, 1, 1, 1, commit=2)
    assert core.status().commit == 2
    assert [each.entries[0].index for each in effects if isinstance(each, Apply)] == [2]
    append_to(core, 1, 1, 1, commit=1)
    assert core.status().commit == 2, "never backwards"


def test_cutting_a_committed_entry_is_a_loud_fault() -> None:
    """5.4.3; R-03, C-06: only a broken peer could ask for it."""
    core = node(1, 1, term=1)
    append_to(core, 2, 1, commit=2)
    with pytest.raises(AssertionError):
        append_to(core, 0, 0, 5, 5, 5, term=6)


def test_a_leader_never_changes_what_it_has() -> None:
    """Figure 3, leader append-only; I-02: whatever an impostor of its own term says, it stops."""
    core = leader(1)
    with pytest.raises(AssertionError):
        append_to(core, 0, 0, 1, 1, 1)


def test_a_refusal_moves_next_back_and_is_tried_again() -> None:
    """5.3; R-05, R-08: by whole terms, with what the follower told."""
    core = leader(1, 1, 1, 4, 4, 4)
    effects = receive(core, AppendReply(N[1], N[2], 5, 6, AppendStatus.MISMATCH, 5, 3, 1))
    (again,) = sent(effects, Append)
    assert again[3:5] == (3, 1)


def test_a_repeated_or_late_answer_changes_nothing() -> None:
    """5.5; R-07, R-08, K-34."""
    core = leader(1)
    accepted = AppendReply(N[1], N[2], 2, 1, AppendStatus.ACCEPTED, 2, 0, 1)
    receive(core, accepted)
    before = core.status()
    receive(core, accepted)
    receive(core, AppendReply(N[1], N[2], 2, 1, AppendStatus.MISMATCH, 0, 0, 1))
    assert core.status() == before


def test_answers_of_strangers_are_ignored() -> None:
    """T-08: only members of the configuration are heard."""
    core = leader(1)
    before = core.status()
    for kind in (
        AppendReply(N[1], N[5], 2, 1, AppendStatus.ACCEPTED, 2, 0, 1),
        HeartbeatReply(N[1], N[5], 2, 0, 1),
    ):
        assert not sent(receive(core, kind))
    assert core.status() == before


# ---------------------------------------------------------------------------------- commitment, sections 5.3 and 5.4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_an_entry_commits_exactly_when_a_majority_has_it(size: int) -> None:
    """5.3; C-01, C-05, K-13: over every set of answers; the leader counts when its own disk is done (10.2.1)."""
    for acknowledged in product([True, False], repeat=size):
        core = leader(1, size=size)
        for voter in N[2 : size + 1]:
            receive(core, AppendReply(N[1], voter, core.term, 1, AppendStatus.ACCEPTED, 2, 0, 1))
        effects = list(core.step(Propose((("a", b"x"),)), 0.0))
        for voter, has_it in zip(N[2 : size + 1], acknowledged[1:], strict=True):
            if has_it:
                receive(core, AppendReply(N[1], voter, core.term, 2, AppendStatus.ACCEPTED, 3, 0, 1))
        if acknowledged[0]:
            persist(core, effects)
        assert (core.status().commit == 3) == (sum(acknowledged) > size / 2), acknowledged


def test_committing_commits_all_before_it_and_the_proposer_hears() -> None:
    """5.3; C-02: entries of former leaders, too."""
    talk = Talk(3)
    talk.do("found n1 terms=1,1 term=1")
    talk.do("timeout n1", "settle", "propose n1 a b", "settle")
    assert [talk.core(name).status().commit for name in ("n1", "n2", "n3")] == [5, 5, 5]
    assert talk.answers == {"a": Committed(4, 2), "b": Committed(5, 2)}


def test_a_majority_does_not_commit_an_entry_of_an_older_term() -> None:
    """5.4.2, figure 8; C-03, K-01: not until one of the own term is on a majority, too."""
    core = leader(1, 2, term=3)
    receive(core, AppendReply(N[1], N[2], 4, 1, AppendStatus.ACCEPTED, 2, 0, 1))
    assert core.status().commit == 0
    receive(core, AppendReply(N[1], N[2], 4, 2, AppendStatus.ACCEPTED, 3, 0, 1))
    assert core.status().commit == 3


def test_a_new_leader_begins_with_an_empty_entry() -> None:
    """8; C-03: so it learns what is committed without waiting for a client."""
    core = node(1, size=1)
    core.step(Campaign(), 0.0)
    effects = core.step(Persisted(1), 0.0)
    empty = Entry(2, 2, EntryKind.NOTHING)
    assert core.is_leader and [each.entries for each in effects if isinstance(each, Write)] == [(empty,)]


def test_a_cluster_of_one_commits_alone_but_not_before_its_disk() -> None:
    """C-05, E-13: no message is needed, the disk is."""
    core = leader(size=1)
    effects = list(core.step(Propose((("a", b"x"),)), 0.0))
    assert core.status().commit == 0
    persist(core, effects)
    assert core.status().commit == 2


def test_the_winner_has_every_committed_entry() -> None:
    """Figure 3, leader completeness; I-04, E-10: whoever lacks one cannot win."""
    talk = Talk(3, is_pre_vote=False, is_sticky=False)
    talk.elect("n1")
    talk.do("propose n1 a", "drop n1->n3", "settle n3", "drop *->*", "timeout n3", "settle n1")
    assert not talk.core("n3").is_leader
    talk.do("timeout n2", "settle n1")
    assert talk.core("n2").is_leader and talk.core("n3").status().last_index == 3


def test_two_logs_with_the_same_entry_are_the_same_before_it() -> None:
    """Figure 3, log matching; R-04: brought about by the consistency check of every append."""
    talk = Talk(3, is_pre_vote=False, is_sticky=False)
    talk.do("found n1 terms=1,1,3", "found n2 terms=1,2,2", "found n3 terms=1,1,1,1", "timeout n1", "settle")
    logs = [[talk.core(name).entry(index) for index in range(1, 5)] for name in ("n1", "n2", "n3")]
    assert logs[0] == logs[1] == logs[2]


def test_what_one_applies_at_an_index_all_apply_there() -> None:
    """Figure 3, state machine safety; C-02, I-05."""
    talk = Talk(3)
    talk.elect("n1")
    for turn in range(3):
        following = f"n{(turn + 1) % 3 + 1}"
        talk.do(f"propose n{turn + 1} x{turn} y{turn}", "settle", "time 5", f"timeout {following}", "settle")
    applied = [[(entry.index, entry.payload) for entry in node.applied] for node in talk.nodes.values()]
    assert applied[0] == applied[1] == applied[2] and len(applied[0]) >= 6


def test_an_empty_disk_knows_no_cluster_and_never_campaigns() -> None:
    """E-20, E-23, M-16: a node that was told of no configuration waits to be found."""
    core = RaftCore(N[1], PLAIN, Stored(), FixedRng(1), 0.0)
    assert core.deadline is None
    assert core.step(Campaign(), 99.0) == [] and core.term == 0
