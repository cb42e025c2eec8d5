"""Two nodes dial each other: every order of events ends with both at the same session, or at none for a moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from arc.raft.types import Peer
from arc.wire.facts import ClusterIdentity, PeerFacts
from arc.wire.handshake import Claims, Verdict
from arc.wire.settlement import Standing, settle

SMALL, LARGE = Peer("a", 5), Peer("b", 1)
ACCEPTED, SETTLED = Verdict.ACCEPTED, Verdict.SETTLED


def claims(peer: Peer, known: bytes = b"", boot: bytes = b"boot") -> Claims:
    cluster, facts = ClusterIdentity("c"), PeerFacts()
    return Claims(peer=peer, cluster=cluster, address="h:1", facts=facts, boot=boot, known=known)


OURS, THEIRS = (Standing(b"s1", b"boot", is_here) for is_here in (True, False))


@pytest.mark.parametrize(
    ("me", "theirs", "standing", "is_proving", "expected"),
    [
        (LARGE, claims(SMALL), None, False, ACCEPTED),
        (LARGE, claims(SMALL), None, True, ACCEPTED),
        (LARGE, claims(SMALL), OURS, False, ACCEPTED),
        (LARGE, claims(SMALL), THEIRS, False, ACCEPTED),
        (SMALL, claims(LARGE), None, False, ACCEPTED),
        (SMALL, claims(LARGE), None, True, SETTLED),
        (SMALL, claims(LARGE), OURS, False, SETTLED),
        (SMALL, claims(LARGE, known=b"s0"), OURS, False, SETTLED),
        (SMALL, claims(LARGE, known=b"s1"), OURS, False, ACCEPTED),
        (SMALL, claims(LARGE, boot=b"other"), OURS, False, ACCEPTED),
        (SMALL, claims(LARGE), THEIRS, False, ACCEPTED),
        (SMALL, claims(Peer("a", 6)), OURS, False, SETTLED),
    ],
)
def test_what_becomes_of_a_dial(
    me: Peer, theirs: Claims, standing: Standing | None, is_proving: bool, expected: Verdict
) -> None:
    assert settle(me, theirs, standing, is_proving=is_proving) is expected


# ---- a small model of both ends: proofs and answers travel, in every order that a network allows


@dataclass
class End:
    """One node: as the transport does it, without a transport."""

    me: Peer
    standing: Standing | None = None
    known: bytes = b""
    is_proving: bool = False
    inbox: list[tuple[str, object]] = field(default_factory=list)

    def take(self, session: bytes, *, is_dialled_here: bool) -> None:
        self.standing, self.known = Standing(session, b"boot", is_dialled_here), session


def everything_that_can_happen(ends: tuple[End, End], wants: tuple[int, int], told: list[str]) -> list[list[str]]:
    """All stories of two ends that may give ``wants`` proofs each, told as far as they go."""
    stories: list[list[str]] = []
    moves = [(number, -1) for number, end in enumerate(ends) if wants[number] and not (end.standing or end.is_proving)]
    moves += [(number, place) for number, end in enumerate(ends) for place in range(len(end.inbox))]
    if not moves:
        check(ends, told)
        return [told]
    for number, place in moves:
        copies = tuple(End(end.me, end.standing, end.known, end.is_proving, list(end.inbox)) for end in ends)
        me, other = copies[number], copies[1 - number]
        left = list(wants)
        if place < 0:
            left[number] -= 1
            me.is_proving = True
            other.inbox.append(("proof", claims(me.me, known=me.known)))
        else:
            step(me, other, place, len(told))
        now = [*told, f"{me.me.name} {'dials' if place < 0 else f'receives {place}'}"]
        stories += everything_that_can_happen((copies[0], copies[1]), (left[0], left[1]), now)
    return stories


def step(me: End, other: End, place: int, number: int) -> None:
    """Messages of one dial come one at a time; those of two dials overtake each other."""
    kind, what = me.inbox.pop(place)
    if kind == "proof":
        assert isinstance(what, Claims)
        verdict = settle(me.me, what, me.standing, is_proving=me.is_proving)
        session = b"%s%d" % (what.peer.name.encode(), number)
        if verdict is ACCEPTED:
            me.take(session, is_dialled_here=False)
        other.inbox.append(("answer", (verdict, session)))
    else:
        assert isinstance(what, tuple)
        verdict, session = what
        me.is_proving = False
        if verdict is ACCEPTED and me.standing is None:
            me.take(session, is_dialled_here=True)


def check(ends: tuple[End, End], told: list[str]) -> None:
    first, second = ends
    assert first.standing is not None and second.standing is not None, told
    assert first.standing.session == second.standing.session, told
    assert first.standing.is_dialled_here != second.standing.is_dialled_here, told


def test_whatever_the_order_both_ends_come_to_the_same_session() -> None:
    """All interleavings of dials and answers, both sides dialling up to twice."""
    for wants in ((1, 0), (0, 1), (1, 1), (2, 1), (1, 2)):
        assert everything_that_can_happen((End(SMALL), End(LARGE)), wants, [])


def test_crossing_dials_leave_what_the_smaller_one_dialled() -> None:
    """The rule, seen from outside."""
    small, large = End(SMALL, is_proving=True), End(LARGE, is_proving=True)
    large.inbox.append(("proof", claims(SMALL)))
    small.inbox.append(("proof", claims(LARGE)))
    for end, other in ((large, small), (small, large), (large, small), (small, large)):
        step(end, other, 0, 1)
    check((small, large), [])
    assert small.standing is not None and small.standing.is_dialled_here
