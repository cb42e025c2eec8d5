"""What a node knows of others before anything of its log is known to be agreed on."""

from __future__ import annotations

import pytest

from arc.catalog import codec
from arc.catalog.commands import CreateDatabase, DescribeNode, Once
from arc.cluster.consensus import description
from arc.ids import NodeId
from arc.raft.types import Entry, EntryKind

THERE = DescribeNode(name=NodeId("n2"), incarnation=8, address="h2:9100")
MADE = CreateDatabase(name="db", created_us=1)


@pytest.mark.parametrize("command", [THERE, Once(client="n1#7", sequence=3, action=THERE)], ids=["plain", "once"])
def test_an_entry_tells_where_a_node_listens_however_it_was_asked_for(command: DescribeNode | Once) -> None:
    """The second found by drawn world 630301: after a power cut of all, nodes that had joined did not know where the
    others are. Two that could still be reached had the shorter logs, so nobody was elected for good.
    """
    assert description(Entry(1, 1, EntryKind.COMMAND, codec.encode(command))) == THERE


@pytest.mark.parametrize(
    "entry",
    [
        Entry(1, 1, EntryKind.COMMAND, codec.encode(MADE)),
        Entry(1, 1, EntryKind.COMMAND, codec.encode(Once(client="n1#7", sequence=3, action=MADE))),
        Entry(1, 1, EntryKind.COMMAND, b"\xff of a newer version"),
        Entry(1, 1, EntryKind.NOTHING, b""),
    ],
    ids=["other", "other once", "newer", "nothing"],
)
def test_all_others_tell_nothing(entry: Entry) -> None:
    assert description(entry) is None
