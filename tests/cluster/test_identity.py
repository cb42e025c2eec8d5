"""Who a node is stays what it is: on disk before anybody sees it, and read as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from arc.cluster.identity import IDENTITY, Founder, Founding, Identity, adopted, new_uuid, read_identity, show_identity
from arc.cluster.identityfile import IdentityFile, open_identity
from arc.errors import Conflict, Corrupt, DiskFailed, InvalidRequest, Overloaded
from arc.ids import NodeId
from arc.raft.types import Configuration, Peer
from tests.fakes import InlineWorkers, MemoryDisk, SeededRng

OURS = Founding("u1", Peer("n1", 5), 1, (Founder("n1", 5, "h1:1"), Founder("n2", 6, "h2:1")))
names = st.text(st.characters(codec="utf-8", exclude_characters="#/"), min_size=1, max_size=8)
foundings = st.none() | st.builds(
    Founding,
    st.text(max_size=40),
    st.builds(Peer, names, st.integers(1, 1 << 60)),
    st.integers(0, 1 << 30),
    st.lists(
        st.builds(Founder, names, st.integers(1, 1 << 60), st.sampled_from(["", "h:1", "[::1]:9"])), max_size=3
    ).map(tuple),
)


def opened(disk: MemoryDisk, *, chosen: str = "", is_alone: bool = False, seed: int = 0) -> IdentityFile:
    return open_identity(disk, InlineWorkers(), SeededRng(seed), now_us=7, chosen=chosen, is_alone=is_alone)


def test_a_new_folder_gets_a_name_and_an_incarnation_and_keeps_them() -> None:
    disk = MemoryDisk()
    first = opened(disk).current
    assert first.node.startswith("arc-")
    assert first.is_waiting
    assert first.configuration == Configuration()
    assert opened(disk, seed=1).current == first


def test_a_node_alone_founds_its_cluster_at_once() -> None:
    disk = MemoryDisk()
    first = opened(disk, chosen="n1", is_alone=True).current
    assert not first.is_waiting
    assert first.configuration == Configuration(voters=(first.peer,))
    assert first.founding is not None and first.founding.uuid == first.cluster_uuid
    assert opened(disk, chosen="n1", is_alone=True, seed=1).current == first
    assert opened(disk, chosen="n1", is_alone=False, seed=1).current == first, "a founder stays one"


def test_an_emptied_folder_is_another_incarnation() -> None:
    assert opened(MemoryDisk(), chosen="n1").current.peer != opened(MemoryDisk(), chosen="n1", seed=1).current.peer


def test_another_name_is_refused() -> None:
    disk = MemoryDisk()
    opened(disk, chosen="n1")
    with pytest.raises(InvalidRequest, match='belongs to node "n1"'):
        opened(disk, chosen="n2")


@pytest.mark.parametrize(
    ("kept", "configuration"),
    [
        ({"node_id": "n1"}, Configuration(voters=(Peer("n1", 1),))),
        ({"node_id": "n1", "incarnation": 5, "is_founder": True}, Configuration(voters=(Peer("n1", 5),))),
        ({"node_id": "n1", "incarnation": 5, "is_founder": False}, Configuration()),
    ],
)
def test_older_files_are_understood_and_a_founder_draws_a_uuid(
    kept: dict[str, object], configuration: Configuration
) -> None:
    disk = MemoryDisk()
    disk.write_durable(IDENTITY, json.dumps(kept).encode())
    identity = opened(disk).current
    assert identity.configuration == configuration
    assert bool(identity.cluster_uuid) == bool(configuration.voters)
    assert opened(disk, seed=1).current == identity


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"node_id": "n1", "promise": 3}',
        b'{"node_id": "n1", "founding": ["u", ["n", 1], 1, [["n", 1, "nowhere"]]]}',
    ],
)
def test_what_cannot_be_read_stops_the_node(data: bytes) -> None:
    disk = MemoryDisk()
    disk.write_durable(IDENTITY, data)
    with pytest.raises(Corrupt):
        opened(disk)


@given(promise=foundings, founding=foundings, uuid=st.text(max_size=40), flags=st.tuples(st.booleans(), st.booleans()))
def test_it_is_read_as_it_was_written(
    promise: Founding | None, founding: Founding | None, uuid: str, flags: tuple[bool, bool]
) -> None:
    identity = Identity(
        node=NodeId("n1"),
        incarnation=5,
        created_us=3,
        promise=promise,
        founding=founding,
        cluster_uuid=uuid,
        has_joined=flags[0],
        has_left=flags[1],
    )
    assert read_identity(show_identity(identity)) == identity


async def test_a_change_is_on_disk_before_it_is_seen() -> None:
    disk, workers = MemoryDisk(), InlineWorkers()
    file = open_identity(disk, workers, SeededRng(), now_us=7, chosen="n1", is_alone=False)
    async with trio.open_nursery() as nursery:
        with workers.held():
            nursery.start_soon(file.change, lambda identity: replace(identity, promise=OURS))
            await trio.testing.wait_all_tasks_blocked()
            assert file.current.promise is None
    assert file.current.promise == OURS
    assert opened(disk).current == file.current


async def test_changes_come_one_after_the_other_and_each_sees_the_one_before() -> None:
    file = opened(MemoryDisk())

    def once(uuid: str, identity: Identity) -> Identity:
        if identity.cluster_uuid:
            raise Conflict("taken")
        return replace(identity, cluster_uuid=uuid)

    refused = 0

    async def ask(uuid: str) -> None:
        nonlocal refused
        try:
            await file.change(partial(once, uuid))
        except Conflict:
            refused += 1

    async with trio.open_nursery() as nursery:
        for uuid in ("u1", "u2", "u3"):
            nursery.start_soon(ask, uuid)
    assert refused == 2


async def test_a_change_that_cannot_be_written_is_none() -> None:
    disk = MemoryDisk()
    file = opened(disk)
    disk.fail_next_write()
    with pytest.raises(DiskFailed):
        await file.change(lambda identity: replace(identity, promise=OURS))
    assert file.current.promise is None


async def test_a_full_disk_breaks_nothing_and_the_change_may_be_made_later() -> None:
    disk = MemoryDisk()
    file = opened(disk)
    disk.free = 0
    with pytest.raises(Overloaded, match="no room"):
        await file.change(lambda identity: replace(identity, promise=OURS))
    assert file.current.promise is None
    disk.free = 1 << 20
    await file.change(lambda identity: replace(identity, promise=OURS))
    assert opened(disk).current.promise == OURS


def test_a_node_belongs_to_one_cluster() -> None:
    stranger = Identity(node=NodeId("n3"), incarnation=9)
    assert adopted(stranger, "u1").cluster_uuid == "u1"
    assert adopted(adopted(stranger, "u1"), "u1") == adopted(stranger, "u1")
    for bound in (adopted(stranger, "u1"), replace(stranger, promise=OURS)):
        with pytest.raises(InvalidRequest) as caught:
            adopted(bound, "u2")
        assert caught.value.code == "other_cluster"


def test_a_uuid_looks_like_one() -> None:
    assert new_uuid(SeededRng()) != new_uuid(SeededRng(1))
    drawn = new_uuid(SeededRng())
    assert [len(part) for part in drawn.split("-")] == [8, 4, 4, 4, 12]
    assert drawn[14] == "4" and drawn[19] in "89ab"


def test_the_other_founders_are_reached_where_the_plan_says() -> None:
    founder = Identity(node=NodeId("n1"), incarnation=5, promise=OURS, founding=OURS, cluster_uuid="u1")
    assert founder.addresses == {"n2": "h2:1"}
