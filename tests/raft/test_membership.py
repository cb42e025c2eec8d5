"""The algebra of configurations against brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import Conflict, InvalidRequest
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import History, Tally, enter, halves, is_one_step, leave, members, quorum_value, tally, target
from arc.raft.types import Configuration, Peer

P = tuple(Peer(f"n{number}") for number in range(1, 8))
ADD, LEARN, DROP = ChangeKind.VOTER, ChangeKind.LEARNER, ChangeKind.REMOVE


def of(*numbers: int, outgoing: tuple[int, ...] = (), learners: tuple[int, ...] = ()) -> Configuration:
    pick = lambda chosen: tuple(P[number - 1] for number in chosen)  # noqa: E731
    return Configuration(voters=pick(numbers), outgoing=pick(outgoing), learners=pick(learners))


def is_quorum(configuration: Configuration, chosen: set[Peer]) -> bool:
    """Counting, by the book: more than half of every half."""
    return all(2 * sum(peer in chosen for peer in group) > len(group) for group in halves(configuration))


groups = st.lists(st.sampled_from(P), min_size=1, max_size=5, unique=True)


@given(groups, st.one_of(st.just([]), groups), st.dictionaries(st.sampled_from(P), st.integers(0, 5)))
@settings(max_examples=200, deadline=None)
def test_the_committed_index_is_what_counting_says(
    voters: list[Peer], outgoing: list[Peer], matches: dict[Peer, int]
) -> None:
    """C-09, C-11: the median rule equals counting who has reached each index, in both halves."""
    configuration = Configuration(voters=tuple(voters), outgoing=tuple(outgoing))
    reached = [
        index for index in range(6) if is_quorum(configuration, {peer for peer in P if matches.get(peer, 0) >= index})
    ]
    assert quorum_value(halves(configuration), matches) == max(reached)


@given(groups, st.one_of(st.just([]), groups), st.dictionaries(st.sampled_from(P), st.booleans()))
@settings(max_examples=200, deadline=None)
def test_the_tally_is_what_counting_says(voters: list[Peer], outgoing: list[Peer], votes: dict[Peer, bool]) -> None:
    """C-10, E-03: won if the grants are a quorum, lost if even all missing votes would not make one."""
    configuration = Configuration(voters=tuple(voters), outgoing=tuple(outgoing))
    granted = {peer for peer, is_granted in votes.items() if is_granted}
    hoped = granted | {peer for peer in P if peer not in votes}
    expected = (
        Tally.WON
        if is_quorum(configuration, granted)
        else Tally.PENDING
        if is_quorum(configuration, hoped)
        else Tally.LOST
    )
    assert tally(halves(configuration), votes) is expected


def test_nobody_wins_without_voters() -> None:
    """E-20, C-09: an empty configuration elects and commits nothing."""
    assert tally(halves(Configuration()), {P[0]: True}) is Tally.LOST
    assert quorum_value(halves(Configuration()), {P[0]: 7}) == 0


def test_outsiders_and_learners_never_count() -> None:
    """C-11, M-03, K-14: only voters of the configuration make a quorum."""
    configuration = of(1, 2, 3, learners=(4, 5))
    assert tally(halves(configuration), {P[0]: True, P[3]: True, P[4]: True, P[6]: True}) is Tally.PENDING
    assert quorum_value(halves(configuration), {P[0]: 9, P[3]: 9, P[4]: 9}) == 0


def quorums(configuration: Configuration) -> list[set[Peer]]:
    everybody = sorted({*configuration.voters, *configuration.outgoing})
    chosen = itertools.chain.from_iterable(
        itertools.combinations(everybody, size) for size in range(len(everybody) + 1)
    )
    return [set(group) for group in chosen if is_quorum(configuration, set(group))]


def test_quorums_of_consecutive_configurations_always_meet() -> None:
    """I-18, M-13 (4.1, 4.3): over all pairs of voter sets of up to five nodes, exhaustively."""
    sets = [tuple(group) for size in range(1, 5) for group in itertools.combinations(P[:5], size)]
    for old_voters, new_voters in itertools.product(sets, sets):
        old = Configuration(voters=old_voters)
        changes = [Change(ADD, peer) for peer in new_voters if peer not in old_voters]
        changes += [Change(DROP, peer) for peer in old_voters if peer not in new_voters]
        way = [old, enter(old, changes)]
        if way[-1].is_joint:
            way.append(leave(way[-1]))
        assert way[-1].voters == new_voters
        assert way[1].is_joint == (len(changes) > 1)
        if len(changes) <= 4 and len({*old_voters, *new_voters}) <= 4:
            for before, after in itertools.pairwise(way):
                assert all(a & b for a in quorums(before) for b in quorums(after)), (before, after)


@given(
    st.lists(st.tuples(st.sampled_from([ADD, LEARN, DROP]), st.sampled_from(P)), max_size=5, unique_by=lambda x: x[1])
)
@settings(max_examples=200, deadline=None)
def test_one_joint_change_equals_the_simple_ones_in_a_row(parts: list[tuple[ChangeKind, Peer]]) -> None:
    """M-13, M-12: same end, whichever way; voters of C_old never are learners of the joint configuration."""
    old = of(1, 2, 3, learners=(4,))
    changes = [Change(*part) for part in parts]
    try:
        whole = enter(old, changes)
    except InvalidRequest:
        return
    step = old
    for change in sorted(changes):  # Additions first, so that nobody is ever the last voter to go.
        step = target(step, [change])
    end = leave(whole) if whole.is_joint else whole
    assert (end.voters, end.learners) == (step.voters, step.learners)
    assert not set(whole.learners) & {*whole.voters, *whole.outgoing}
    assert set(whole.learners_next) <= set(whole.outgoing)
    assert whole.is_joint or is_one_step(old, whole)


def test_a_demoted_voter_votes_until_the_joint_configuration_is_left() -> None:
    """M-12, S-01: it waits among the learners to be."""
    joint = enter(of(1, 2, 3), [Change(LEARN, P[2]), Change(ADD, P[3])])
    assert joint.learners_next == (P[2],) and P[2] in joint.outgoing and P[2] not in joint.learners
    assert leave(joint) == of(1, 2, 4, learners=(3,))
    assert members(joint) == P[:4]


@pytest.mark.parametrize(
    ("old", "changes", "error"),
    [
        (of(1), [Change(DROP, P[0])], InvalidRequest),
        (of(1), [Change(LEARN, P[0])], InvalidRequest),
        (of(1, 2), [Change(ADD, P[2]), Change(DROP, P[2])], InvalidRequest),
        (of(1, 2), [Change(ADD, Peer(""))], InvalidRequest),
        (of(1, 2), [Change(ADD, Peer("n2", 2))], InvalidRequest),
        (of(1, 2, outgoing=(1, 3)), [Change(ADD, P[4])], Conflict),
        (of(1), [Change(ADD, Peer(f"m{number}")) for number in range(64)], InvalidRequest),
    ],
)
def test_what_cannot_be_is_refused(old: Configuration, changes: list[Change], error: type[Exception]) -> None:
    """M-02, M-11, M-12, M-15, M-16: contradictions, nobody left, two incarnations, a change while joint."""
    with pytest.raises(error):
        enter(old, changes)


def test_a_wiped_node_is_replaced_by_its_next_incarnation() -> None:
    """M-17: the old one goes with the same change that the new one comes."""
    joint = enter(of(1, 2, 3), [Change(DROP, P[2]), Change(ADD, Peer("n3", 2))])
    assert leave(joint).voters == (P[0], P[1], Peer("n3", 2))


def test_leaving_what_is_not_joint_is_refused() -> None:
    """M-12."""
    with pytest.raises(Conflict):
        leave(of(1, 2))


def test_history_goes_back_with_the_log_and_forward_with_compaction() -> None:
    """M-14, K-77: cut and compaction keep what is in force at every index of the log."""
    history = History(0, of(1))
    history.push(3, of(1, 2))
    history.push(7, of(1, 2, 3))
    assert [history.at(index)[0] for index in (0, 2, 3, 6, 7, 99)] == [0, 0, 3, 3, 7, 7]
    history.forget(4)
    assert history.at(4) == (3, of(1, 2))
    assert history.cut(7) and history.current == of(1, 2)
    assert not history.cut(5) and not history.cut(1)
    history.reset(9, of(4))
    assert (history.index, history.current) == (9, of(4))
