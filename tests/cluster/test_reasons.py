"""What is wrong in a cluster: every code once, in words that name nodes; and how many more may fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arc.cluster.reasons import Look, Reason, Severity, degraded, failures_tolerated
from arc.license import CLUSTERING, License
from arc.raft.status import Status
from tests.cluster.coordinating import Stage, raft_status, trio_of_nodes
from tests.cluster.members import Members


def look(
    members: Members | None = None, *, status: Status | None = None, licence: License | None = None, **states: str
) -> Look:
    """What n1 sees: everybody as agreed on, unless told otherwise."""
    members = members if members is not None else trio_of_nodes()
    found = Stage(members, status=status).coordinator.look()
    views = tuple(replace(view, is_local=view.name == "n1") for view in members.views(**states))
    seen = replace(found, nodes=views)
    return replace(seen, licence=licence) if licence is not None else seen


def codes(found: Look) -> list[str]:
    return [reason.code for reason in degraded(found)]


def only(found: Look, code: str) -> Reason:
    (reason,) = [reason for reason in degraded(found) if reason.code == code]
    return reason


def test_a_cluster_in_which_all_is_well_has_no_reason_and_no_next_command() -> None:
    stage = Stage(trio_of_nodes())
    stage.hear("n2", "n3")
    status = stage.coordinator.status()
    assert (status.reasons, status.next_command, status.failures_tolerated) == ((), "", 1)


def test_without_a_leader_nothing_can_be_agreed_on_and_the_votes_are_counted() -> None:
    reason = only(look(status=raft_status("n1", "n1 n2 n3"), n2="dead", n3="unhealthy"), "no_leader")
    assert reason.severity is Severity.UNAVAILABLE and reason.next_command == "arc raft status"
    assert "2 of 3 voters must reach each other, and this node hears 1" in reason.words


def test_a_node_that_belongs_to_no_cluster_says_how_to_found_one() -> None:
    reason = only(look(Members(), status=raft_status("n1", "")), "not_founded")
    assert reason.next_command == "arc cluster init"


def test_a_silent_holder_is_named_with_what_it_means_and_what_is_planned() -> None:
    members = trio_of_nodes()
    writer = look(members, status=raft_status("n1", "n1 n2 n3", leader="n1", active="n2 n3"))
    members.write("n2")
    held = look(members, n2="unhealthy")
    reason = only(held, "writer_down")
    assert reason.severity is Severity.UNAVAILABLE and "n2 holds the writer lease" in reason.words
    assert "writes are not taken" in reason.words and "writer_down" not in codes(writer)
    compactor = only(look(n3="dead"), "compactor_down")
    assert compactor.severity is Severity.DEGRADED and "small files are not merged" in compactor.words


def test_a_lease_that_nobody_holds_is_told() -> None:
    members = Members(n1="writer", n2="writer")
    assert {"writer_unheld", "compactor_unheld"} <= set(codes(look(members)))


@pytest.mark.parametrize(
    ("state", "code", "next_command"),
    [("dead", "node_dead", "arc cluster remove n2"), ("unhealthy", "node_unhealthy", "arc cluster events")],
)
def test_a_node_that_does_not_answer_is_named(state: str, code: str, next_command: str) -> None:
    reason = only(look(n2=state), code)
    assert reason.next_command == next_command and f"n2 (writer) is {state}: it was last heard 10 s ago" == reason.words


@pytest.mark.parametrize(
    ("states", "active", "tolerated"),
    [
        ({}, "n2 n3", 1),
        ({"n3": "dead"}, "n2", 0),  # two of three votes are left
        ({"n2": "dead"}, "n3", 0),  # the votes, and n1 is alone in sync
        ({"n2": "dead", "n3": "dead"}, "", 0),
    ],
)
def test_how_many_may_still_fail_is_the_scarcer_of_votes_and_writers(
    states: dict[str, str], active: str, tolerated: int
) -> None:
    status = raft_status("n1", "n1 n2 n3", leader="n1", active=active)
    found = look(None, status=status, licence=None, **states)
    assert failures_tolerated(found) == tolerated
    assert ("no_failure_tolerated" in codes(found)) == (tolerated == 0)


def test_with_one_in_sync_no_failure_is_tolerated_though_all_vote() -> None:
    members = trio_of_nodes()
    members.in_sync("n1")
    found = look(members)
    assert failures_tolerated(found) == 0
    assert "only n1 of those who could take over writes answers" in only(found, "no_failure_tolerated").words


def test_a_node_alone_is_not_told_that_it_is_alone() -> None:
    members = Members(n1="standalone")
    members.write("n1")
    members.compact("n1")
    assert codes(look(members)) == []


def test_a_joint_configuration_counts_its_scarcer_half() -> None:
    status = raft_status("n1", "n1 n2 n3", leader="n1", active="n2 n3")
    joint = status.configuration._replace(outgoing=status.configuration.voters[:1])
    assert failures_tolerated(look(status=status._replace(configuration=joint))) == 0


def test_the_log_and_the_disk_of_this_node_are_told() -> None:
    status = raft_status("n1", "n1 n2 n3", leader="n1", active="n2 n3", is_damaged=True, has_space=False)
    assert {"log_damaged", "disk_full"} <= set(codes(look(status=status)))


@pytest.mark.parametrize(("grace_days", "code"), [(100_000, "license_grace"), (0, "license_expired")])
def test_a_licence_that_is_over_is_told_last(grace_days: int, code: str) -> None:
    over = License(holder="Ada", features=(CLUSTERING,), expires_us=1, grace_days=grace_days)
    found = codes(look(licence=over, n2="dead"))
    assert found[-1] == code and len(found) > 1


def test_too_many_cores_are_told() -> None:
    members = trio_of_nodes()
    nodes = {name: replace(record, cores=4) for name, record in members.catalog.nodes.items()}
    limit = License(holder="Ada", features=(CLUSTERING,), max_cores=8)
    seen = look(members, licence=limit)
    found = replace(seen, catalog=replace(seen.catalog, nodes=nodes))
    assert "12 cores and the licence allows 8" in only(found, "cores_exceeded").words


def test_the_worst_comes_first() -> None:
    found = degraded(look(status=raft_status("n1", "n1 n2 n3"), n2="dead", n3="dead"))
    order = list(Severity)[::-1]
    ranks = [order.index(reason.severity) for reason in found]
    assert ranks == sorted(ranks) and found[0].severity is Severity.UNAVAILABLE
