"""What is meant as a member never becomes a cluster of its own by omission or by a typing error (P-45)."""

from __future__ import annotations

import pytest

from arc.cluster.config import ClusterConfig, check_role
from arc.cluster.sights import Bootstrap
from arc.config import load
from arc.errors import InvalidRequest

ON = "enabled = true\ninsecure_dev = true\n"


def cluster(text: str) -> ClusterConfig:
    return load(toml=f"[cluster]\n{ON}{text}", environment={}).config.cluster


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('seeds = ["n1"]', "host:port"),
        ('seeds = ["n1:1", "n1:1"]', "twice"),
        ("bootstrap_expect = 3", "needs seeds"),
        ('seeds = ["n1:1"]\nbootstrap_expect = 3\njoin = true', "give one of them"),
        ('seeds = ["n1:1", "n2:1", "n3:1"]\nbootstrap_expect = 1', "at least 2, most of the 3 seeds"),
        ('seeds = ["n1:1"]\nbootstrap_expect = 65', "at most 64"),
        ("dead_voter_seconds = 0.5", "longer than election_timeout_seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_at_the_start(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        cluster(text)


@pytest.mark.parametrize("text", ['seeds = ["n1:1"]', "join = true"])
def test_a_member_with_the_cluster_off_does_not_start(text: str) -> None:
    with pytest.raises(InvalidRequest, match="would serve alone"):
        load(toml=f"[cluster]\n{text}", environment={})


@pytest.mark.parametrize(("text", "is_member"), [("", False), ("join = true", True), ('seeds = ["n1:1"]', True)])
def test_who_has_seeds_or_waits_to_be_added_never_founds_alone(text: str, is_member: bool) -> None:
    assert cluster(text).is_member is is_member


def test_seeds_are_the_same_in_any_order() -> None:
    found = cluster('seeds = ["n2:1", "n1:1"]\nbootstrap_expect = 3').bootstrap
    assert found == Bootstrap(cluster="arc", expect=3, seeds=("n1:1", "n2:1"))
    assert found.coordinates_at == "n1:1"


def test_a_typing_error_in_the_role_lists_the_roles() -> None:
    with pytest.raises(InvalidRequest, match="one of standalone, writer, reader, compactor, got 'wirter'"):
        load(toml='[node]\nrole = "wirter"', environment={})


def test_a_role_that_needs_a_cluster_does_not_serve_alone() -> None:
    assert check_role("standalone", ClusterConfig()) == "standalone"
    assert check_role("reader", cluster("")) == "reader"
    with pytest.raises(InvalidRequest, match=r"node\.role = reader is for a node of a cluster"):
        check_role("reader", ClusterConfig())
    with pytest.raises(InvalidRequest, match="none of standalone, writer, reader, compactor"):
        check_role("Reader", cluster(""))
