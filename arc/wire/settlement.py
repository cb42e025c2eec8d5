"""Two nodes dial each other at once: which of the two sessions stays. Both ends come to the same answer.

The rule: **what the smaller (name, incarnation) dialled stays.** A dialler has no session when it gives its proof, so a
new session replaces the one that stands here whenever the one here is known to be dead at the other end:

- it was dialled by the same node as the new one;
- the new dialler is the smaller one, which would have kept a session of its own;
- the new dialler says that the one here is the last it knew, or it is another process than the one that we know.

Otherwise the new dialler gave its proof before it had heard of the session that we dialled: the two crossed, ours
stays, and it finds out. The same if our own proof is on its way and we are the smaller one.
"""

from __future__ import annotations

from typing import NamedTuple

from arc.raft.types import Peer
from arc.wire.handshake import Claims, Verdict


class Standing(NamedTuple):
    """The session with a peer that this node has."""

    session: bytes
    boot: bytes
    """Of the process at its other end."""
    is_dialled_here: bool


def settle(me: Peer, theirs: Claims, standing: Standing | None, *, is_proving: bool) -> Verdict:
    """What becomes of a session that a proven peer has dialled. ``is_proving``: our own proof waits for its answer."""
    if theirs.peer < me:
        return Verdict.ACCEPTED
    if standing is None:
        return Verdict.SETTLED if is_proving else Verdict.ACCEPTED
    is_dead_there = theirs.known == standing.session or theirs.boot != standing.boot
    return Verdict.ACCEPTED if is_dead_there or not standing.is_dialled_here else Verdict.SETTLED
