"""What happens to the node that writes while clients write through every node: no row is lost or doubled.

Real processes, sockets and disks. The gap, as the clients saw it, is printed; how long it may be is measured elsewhere,
on a machine that does nothing besides.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest
import trustme

from tests.e2e import breaking
from tests.e2e.cluster import Cluster, Document, wait_until
from tests.e2e.harness import POLL_SECONDS, TOKEN, run_arc
from tests.e2e.keyed import KeyedLoad
from tests.e2e.links import between

PAUSED_SECONDS = 3.0
"""Long enough that the others replace the writer, which then wakes up and believes that it still is the one."""

Hurt = Callable[[Cluster, str], Callable[[], None]]


def killed(cluster: Cluster, victim: str) -> Callable[[], None]:
    """``kill -9``; made good by a start on what is on its disk."""
    cluster.nodes[victim].kill9()

    def start() -> None:
        cluster.nodes[victim].start(wait=False)

    return start


def paused(cluster: Cluster, victim: str) -> Callable[[], None]:
    """``kill -STOP``; made good after a while by ``kill -CONT``."""
    woken_at = time.monotonic() + PAUSED_SECONDS
    cluster.nodes[victim].signal(signal.SIGSTOP)

    def wake() -> None:
        while time.monotonic() < woken_at:
            time.sleep(POLL_SECONDS)
        cluster.nodes[victim].signal(signal.SIGCONT)

    return wake


def cut_off(cluster: Cluster, victim: str) -> Callable[[], None]:
    """Its peer port and those of the others reach each other no more; clients reach all of them."""
    cluster.links.cut(between((victim,), tuple(cluster.others(victim))))
    return lambda: cluster.links.cut(frozenset())


def survive(cluster: Cluster, load: KeyedLoad, hurt: Hurt) -> None:
    """Hurt the node that writes, wait for another one and for acknowledgements, make it good, wait until all is well.

    Clients get on meanwhile.
    """
    victim = cluster.writer()
    load.wait_progress()
    hurt_at = time.monotonic()
    heal = hurt(cluster, victim)
    successor = cluster.writer(but=victim)
    taken_over_at = time.monotonic()
    load.wait_progress()
    heal()
    load.wait_progress()
    cluster.wait_whole()
    print(
        f"{hurt.__name__}: {victim} → {successor}, known after {taken_over_at - hurt_at:.2f} s, "
        f"no row acknowledged for {load.gap_after(hurt_at):.2f} s"
    )


def check_every_node(cluster: Cluster, load: KeyedLoad) -> None:
    """Each node has, by itself, each acknowledged row once, and no other."""
    expected = load.acknowledged_ids()
    assert expected
    for name, node in cluster.nodes.items():

        def has_all(name: str = name) -> bool:
            found = load.ids_at(name)
            if found is None:
                return False
            assert len(found) == len(set(found)), f"{name} has rows twice: {len(found)} of {len(set(found))}"
            assert set(found) <= expected, f"{name} has rows that were never acknowledged"
            return len(found) == len(expected)

        wait_until(f"{name} has all {len(expected)} rows", has_all, node.stderr)


@pytest.mark.timeout(400)
def test_every_acknowledged_row_is_on_every_node_once_whatever_happens_to_the_writer(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with KeyedLoad(cluster.nodes) as load:
            for hurt in (killed, paused, cut_off):
                survive(cluster, load, hurt)
        check_every_node(cluster, load)


@pytest.mark.timeout(400)
def test_the_same_where_the_disk_of_the_writer_hangs(tmp_path: Path, broken_disk: Path) -> None:
    """Nothing fails and nothing ends there: the node is heard, and in its words healthy."""

    def variables(home: Path) -> Mapping[str, str]:
        return breaking.variables(broken_disk, home / "broken", home / "data")

    def hung(cluster: Cluster, victim: str) -> Callable[[], None]:
        broken = cluster.nodes[victim].folder / "broken"
        breaking.hang(broken)

        def go_on() -> None:
            seen_by = cluster.others(victim)[0]
            wait_until(f"{seen_by} says what is wrong", lambda: "disk_stalled" in reasons(cluster, seen_by))
            broken.unlink()

        return go_on

    with Cluster(tmp_path, variables=variables) as cluster:
        cluster.start()
        with KeyedLoad(cluster.nodes) as load:
            survive(cluster, load, hung)
        check_every_node(cluster, load)


def reasons(cluster: Cluster, name: str) -> list[str]:
    """The codes of all that is wrong, as that node has it."""
    return [str(trouble["code"]) for trouble in cast("list[Document]", cluster.document(name).get("degraded", []))]


@pytest.mark.timeout(400)
def test_the_same_over_mutual_tls_between_nodes_and_https_for_clients(tmp_path: Path) -> None:
    """Requests that a node passes on go to the HTTPS port of another, whose certificate it checks."""
    with Cluster(tmp_path, authority=trustme.CA()) as cluster:
        cluster.start()
        standby = cluster.others(cluster.writer())[0]
        passed_on = cluster.nodes[standby].write("cpu v=1")
        assert passed_on.headers["x-arc-served-by"] == cluster.writer()
        give_leadership(cluster, cluster.others(cluster.leader())[0], tmp_path / "n1" / "ca.pem")
        with KeyedLoad(cluster.nodes) as load:
            survive(cluster, load, killed)
        check_every_node(cluster, load)


def give_leadership(cluster: Cluster, name: str, authority: Path) -> None:
    """By the command line at a follower, which names the leader: it is asked over HTTPS, too."""
    orders = ("cluster", "transfer-leader", name, "--endpoint", cluster.nodes[name].url, "--token", TOKEN)
    done = run_arc(*orders, variables={"ARC_CA_FILE": str(authority)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leads; asking it" in done.stderr, done.stderr
    wait_until(f"{name} leads", lambda: cluster.leader() == name)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("turn", range(5))
def test_the_writer_is_hurt_many_times_in_a_row(tmp_path: Path, turn: int) -> None:
    with Cluster(tmp_path, authority=trustme.CA() if turn % 2 else None) as cluster:
        cluster.start()
        with KeyedLoad(cluster.nodes) as load:
            for hurt in (killed, paused, cut_off, killed, cut_off, paused):
                survive(cluster, load, hurt)
        check_every_node(cluster, load)
