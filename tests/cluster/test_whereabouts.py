"""Where other nodes are reached, before anything of the log is known to be agreed on and after."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arc.catalog import codec
from arc.catalog.commands import Command, CreateDatabase, DescribeNode, Once
from arc.catalog.facts import Catalog
from arc.catalog.fsm import apply
from arc.cluster.whereabouts import Heard, Whereabouts, remembered
from arc.errors import Corrupt
from arc.ids import NodeId
from arc.raft.types import Entry, EntryKind

MADE = CreateDatabase(name="db", created_us=1)


def described(address: str, name: str = "n2") -> DescribeNode:
    return DescribeNode(name=NodeId(name), incarnation=8, address=address)


def entry(index: int, command: Command) -> Entry:
    return Entry(index, 1, EntryKind.COMMAND, codec.encode(command))


def once(action: DescribeNode | CreateDatabase) -> Once:
    return Once(client="n1#7", sequence=3, action=action)


@pytest.mark.parametrize("command", [described("h2:1"), once(described("h2:1"))], ids=["plain", "once"])
def test_the_log_tells_where_a_node_listens_however_that_was_asked_for(command: Command) -> None:
    """The second was found by drawn world 630301: after a power cut of all, nodes that had joined did not know where
    the others are. Two that could still be reached had the shorter logs, so nobody was elected for good.
    """
    assert remembered([entry(4, command)]) == {"n2": Heard(4, "h2:1")}


@pytest.mark.parametrize(
    "other",
    [
        entry(1, MADE),
        entry(1, once(MADE)),
        Entry(1, 1, EntryKind.COMMAND, b"\xff of a newer version"),
        Entry(1, 1, EntryKind.NOTHING, b""),
    ],
    ids=["command", "once", "newer", "nothing"],
)
def test_other_entries_tell_nothing(other: Entry) -> None:
    assert remembered([other, entry(2, described("h2:1"))]) == {"n2": Heard(2, "h2:1")}


def test_the_last_entry_counts_and_what_stands_before_damage() -> None:
    def damaged() -> Iterator[Entry]:
        yield entry(1, described("h2:1"))
        yield entry(2, described("h3:1", "n3"))
        yield entry(3, described("h2:2"))
        raise Corrupt("a checksum does not match", path="raft/log/000000000001.log", offset=4096)

    assert remembered(damaged()) == {"n2": Heard(3, "h2:2"), "n3": Heard(2, "h3:1")}


def catalog(*commands: Command) -> Catalog:
    now = Catalog()
    for index, command in enumerate(commands, start=1):
        now, _ = apply(now, index, command)
    return now


@pytest.mark.parametrize(
    ("now", "log", "told", "expected"),
    [
        (catalog(), {}, {}, None),
        (catalog(), {}, {"n2": Heard(0, "told:1")}, "told:1"),
        (catalog(), {"n2": Heard(1, "log:1")}, {"n2": Heard(0, "told:1")}, "log:1"),
        (catalog(described("agreed:1")), {}, {"n2": Heard(1, "told:1")}, "agreed:1"),
        (catalog(described("agreed:1")), {}, {"n2": Heard(2, "told:1")}, "told:1"),
        (catalog(described("agreed:1")), {"n2": Heard(1, "log:1")}, {}, "agreed:1"),
        (catalog(described("agreed:1")), {"n2": Heard(2, "log:2")}, {"n2": Heard(1, "told:1")}, "log:2"),
        (catalog(MADE), {"n2": Heard(1, "log:1")}, {}, "log:1"),
        (catalog(MADE), {"n2": Heard(1, "log:1")}, {"n2": Heard(1, "told:1")}, "told:1"),
    ],
    ids=[
        "nobody knows",
        "told",
        "later in the log than told",
        "agreed on",
        "the node moved, and others have heard of it",
        "the catalog has come as far as the log's entry",
        "the node moved after the catalog's state",
        "forgotten but still a member",
        "forgotten and let in again",
    ],
)
def test_the_latest_word_counts(
    now: Catalog, log: dict[str, Heard], told: dict[str, Heard], expected: str | None
) -> None:
    assert Whereabouts(lambda: now, log, told.get).address_of("n2") == expected
