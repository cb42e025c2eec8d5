"""What holds for the core as a whole: the same events have the same effects, and an operator can ask.

Here and in test_core_*: what the dissertation adds to the paper (`test_paper`), and what we add to both; one fact a
test, in the language of `talk`.
"""

from __future__ import annotations

import pytest

from arc.raft.config import Config
from arc.raft.events import Receive
from arc.raft.messages import Heartbeat
from arc.raft.types import TERM_MAX, Role
from tests.raft.resting import N1, N2, cluster
from tests.raft.talk import Talk


def test_terms_end_with_a_refusal_and_not_with_an_overflow() -> None:
    """1.1, K-25: neither an own campaign nor a message gets past the largest term."""
    talk = Talk(3, is_pre_vote=False)
    talk.do(f"found n1 term={TERM_MAX - 1}", "timeout n1")
    assert talk.core("n1").term == TERM_MAX - 1 and talk.traced("term_overflow")
    talk.step("n1", Receive(Heartbeat(N1, N2, TERM_MAX + 1, 0, 1)))
    assert talk.core("n1").term == TERM_MAX - 1


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_seconds": 2.0}, {"heartbeat_seconds": 0.0}, {"is_lease_read": True, "is_check_quorum": False},
        {"clock_drift_max": 1.0}, {"window_messages_max": 0}, {"read_timeout_seconds": -1.0},
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, float]) -> None:
    """N-03."""
    with pytest.raises(ValueError, match=r"\w"):
        Config(**options)  # type: ignore[arg-type]


def test_the_status_tells_what_an_operator_asks() -> None:
    """N-02: and the repr fits in one line."""
    talk = cluster()
    status = talk.core("n1").status()
    assert (status.role, status.leader, len(status.followers)) == (Role.LEADER, N1, 2)
    assert all(each.is_active and each.match == 1 for each in status.followers)
    assert repr(talk.core("n1")) == "<Raft n1 leader term=1 log=1..1 commit=1 applied=1>"


def test_same_events_same_effects() -> None:
    """I-35, I-36, N-02: two runs of one story print the same."""
    story = (
        "timeout n1",
        "settle",
        "propose n1 a b",
        "settle",
        "join n4",
        "change n1 +n4",
        "settle",
        "read n2 r",
        "settle",
    )
    assert Talk(3).do(*story) == Talk(3).do(*story)
