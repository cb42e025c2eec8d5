"""Who holds which file: what nodes say of themselves, and of nobody else; gone with the node that said it."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog import snapshot
from arc.catalog.commands import DescribeNode, ForgetNode, HoldFiles, ReplaceFiles
from arc.catalog.events import FilesAdded, FilesHeld, NodeForgotten
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.holders import FILES_PER_COMMAND_MAX
from arc.catalog.manifest import differing
from arc.ids import NodeId
from arc.storage.files import FileEntry
from tests.catalog.facts import do, file, ready, refused, register

NAMES = ("n1", "n2", "n3")


def cluster() -> ClusterFSM:
    """Three nodes, of which n1 writes."""
    machine = ready()
    for name in NAMES:
        do(machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:9100", role="writer"))
    return machine


def pairs(*entries: FileEntry) -> tuple[tuple[str, str], ...]:
    return tuple((entry.path, entry.sha256) for entry in entries)


def hold(name: str, *entries: FileEntry, incarnation: int = 1) -> HoldFiles:
    return HoldFiles(node=NodeId(name), incarnation=incarnation, holds=pairs(*entries))


def lose(name: str, *entries: FileEntry) -> HoldFiles:
    return HoldFiles(node=NodeId(name), incarnation=1, lost=pairs(*entries))


def forget(name: str) -> ForgetNode:
    return ForgetNode(name=NodeId(name), incarnation=1)


def held(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Holders by the name of the file."""
    return {entry.path.rsplit("/", 1)[1].removesuffix(".parquet"): entry.holders for entry in catalog.all_files()}


A, B, C = file("a"), file("b", hour=30), file("c", span_us=(0, 40 * 3_600_000_000))


def test_who_writes_a_file_holds_it() -> None:
    machine = cluster()
    applied = machine.apply(9, register(A, B))
    assert held(machine.catalog) == {"a": ("n1",), "b": ("n1",)}
    (added,) = applied.events
    assert isinstance(added, FilesAdded) and added.files == tuple(machine.catalog.all_files())
    do(machine, ReplaceFiles(remove=pairs(A), add=(C,), lease="writer", epoch=1))
    assert held(machine.catalog) == {"b": ("n1",), "c": ("n1",)}


def test_a_command_is_not_believed_about_holders() -> None:
    machine = cluster()
    do(machine, register(file("a", holders=("n2", "n3"))))
    assert held(machine.catalog) == {"a": ("n1",)}


def test_a_writer_that_is_no_member_holds_nothing_unless_nobody_is_described() -> None:
    alone = ready()
    do(alone, register(A))
    assert held(alone.catalog) == {"a": ("n1",)}
    away = ready()
    do(away, DescribeNode(name=NodeId("n2"), incarnation=1, address="n2:9100", role="writer"))
    do(away, register(A))
    assert held(away.catalog) == {"a": ()}


def test_what_nodes_have_and_lose_is_noted_and_told() -> None:
    machine = cluster()
    do(machine, register(A, B, C))
    applied = machine.apply(20, hold("n2", A, C))
    assert held(machine.catalog) == {"a": ("n1", "n2"), "b": ("n1",), "c": ("n1", "n2")}
    assert applied.events == (FilesHeld(tuple(f for f in machine.catalog.all_files() if "n2" in f.holders)),)
    do(machine, HoldFiles(node=NodeId("n2"), incarnation=1, holds=pairs(B), lost=pairs(A)))
    assert held(machine.catalog) == {"a": ("n1",), "b": ("n1", "n2"), "c": ("n1", "n2")}
    do(machine, lose("n1", A))
    assert held(machine.catalog)["a"] == ()
    assert machine.catalog.totals().files == 3


@pytest.mark.parametrize(
    "command",
    [
        hold("n1", A),
        lose("n3", A),
        hold("n2", file("gone")),
        hold("n2", file("a", sha256="6" * 64)),
        HoldFiles(node=NodeId("n2"), incarnation=1, holds=(("../etc/passwd", "5" * 64), ("", ""))),
        HoldFiles(node=NodeId("n2"), incarnation=1, holds=pairs(A), lost=pairs(A)),
        HoldFiles(node=NodeId("n2"), incarnation=1),
    ],
    ids=["held", "lost", "gone", "other", "nowhere", "both", "nothing"],
)
def test_what_changes_nothing_makes_no_version(command: HoldFiles) -> None:
    machine = cluster()
    do(machine, register(A))
    before = machine.catalog
    applied = machine.apply(20, command)
    assert applied.result.ok and applied.events == ()
    assert machine.catalog.same_facts(before)


def test_strangers_and_earlier_incarnations_say_nothing() -> None:
    machine = cluster()
    do(machine, register(A))
    assert refused(machine, hold("n9", A)).code == "not_found"
    assert refused(machine, hold("n2", A, incarnation=2)).code == "conflict"
    assert refused(ready(), hold("n1", A)).code == "not_found"


def test_one_command_names_a_bounded_number_of_files() -> None:
    machine = cluster()
    many = tuple((f"p{n}", "s") for n in range(FILES_PER_COMMAND_MAX))
    do(machine, HoldFiles(node=NodeId("n2"), incarnation=1, holds=many))
    over = HoldFiles(node=NodeId("n2"), incarnation=1, holds=many, lost=(("p", "s"),))
    assert refused(machine, over).code == "too_many"


def test_a_node_that_is_forgotten_holds_nothing_in_the_same_entry_and_neither_does_who_follows_under_its_name() -> None:
    machine = cluster()
    do(machine, register(A, B, C))
    do(machine, hold("n2", A, B, C))
    applied = machine.apply(20, forget("n2"))
    assert [type(event) for event in applied.events] == [FilesHeld, NodeForgotten]
    assert held(machine.catalog) == dict.fromkeys("abc", ("n1",))
    do(machine, DescribeNode(name=NodeId("n2"), incarnation=2, address="n2:9100", role="writer"))
    assert held(machine.catalog) == dict.fromkeys("abc", ("n1",))
    assert refused(machine, hold("n2", A)).code == "conflict"


def test_files_of_one_batch_share_their_holders_and_cells_that_are_not_touched_are_shared() -> None:
    machine = cluster()
    do(machine, register(A, B, C, file("d", hour=31)))
    before = machine.catalog
    do(machine, hold("n2", B, file("d", hour=31)))
    two = [entry.holders for entry in machine.catalog.all_files() if len(entry.holders) == 2]
    assert len(two) == 2 and two[0] is two[1]
    ((old, new),) = differing(before.manifest, machine.catalog.manifest)
    assert [entry.path for entry in old] == [entry.path for entry in new]
    assert [*differing(machine.catalog.manifest, machine.catalog.manifest)] == []


def test_a_snapshot_keeps_holders_and_one_of_an_earlier_version_gives_files_to_who_wrote_them() -> None:
    machine = cluster()
    do(machine, register(A, B))
    do(machine, hold("n3", B))
    chunks = list(snapshot.encode(machine.catalog))
    restored = snapshot.decode(chunks)
    assert restored == machine.catalog
    assert held(snapshot.decode(map(older, chunks))) == {"a": ("n1",), "b": ("n1",)}
    do(machine, forget("n1"))
    assert held(snapshot.decode(map(older, snapshot.encode(machine.catalog)))) == {"a": (), "b": ()}


def older(chunk: bytes) -> bytes:
    """The chunk as a version without holders wrote it."""
    kind, rows = cbor2.loads(chunk)
    return cbor2.dumps([kind, [row[:-1] for row in rows] if kind == "files" else rows])


entries = st.sampled_from([A, B, C, file("d", hour=31)])
words = st.tuples(st.sampled_from(NAMES), st.lists(entries, max_size=3), st.lists(entries, max_size=3))


@given(st.lists(words, max_size=8))
def test_holders_are_what_the_nodes_said_last(said: list[tuple[str, list[FileEntry], list[FileEntry]]]) -> None:
    machine = cluster()
    every = [A, B, C, file("d", hour=31)]
    do(machine, register(*every))
    model = {entry.path: {"n1"} for entry in every}
    for name, holds, lost in said:
        do(machine, HoldFiles(node=NodeId(name), incarnation=1, holds=pairs(*holds), lost=pairs(*lost)))
        for entry in holds:
            model[entry.path].add(name)
        for entry in lost:
            model[entry.path].discard(name)
    assert {entry.path: set(entry.holders) for entry in machine.catalog.all_files()} == model
    assert all(list(entry.holders) == sorted(entry.holders) for entry in machine.catalog.all_files())
