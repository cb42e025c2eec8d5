"""Where other nodes are reached, told by whatever knows it best at the moment.

The catalog tells where every node listens, but only as far as it was applied. After a crash of all nodes the log is
there and nobody knows what of it was agreed on: that takes a leader, a leader takes votes, and votes take addresses. So
a node that starts reads them from its log as well (`remembered`), above the newest snapshot. An entry that was never
agreed on does no harm: whoever is dialled says who he is.

A member that has been away may be told by others where they are now (`Joiner`), before its own log has come that far.

Of several sources the latest counts. What the log told loses its word once the catalog has come past that entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from arc.catalog import codec
from arc.catalog.commands import DescribeNode, Once
from arc.catalog.facts import Catalog
from arc.errors import Corrupt
from arc.raft.types import Entry, EntryKind


class Heard(NamedTuple):
    """An address (``host:port``), and the index of the entry that told it or up to which whoever told it had heard."""

    entry: int
    address: str


def remembered(entries: Iterable[Entry]) -> dict[str, Heard]:
    """By name, the last of what these entries tell; entries in order. Where they turn out to be damaged it ends."""
    found: dict[str, Heard] = {}
    with suppress(Corrupt):  # What is damaged is repaired later; what stands before it will do.
        for entry in entries:
            if (described := _description(entry)) is not None:
                found[described.name] = Heard(entry.index, described.address)
    return found


class Whereabouts:
    """``told`` is what else is known, from before there was a log or by other members; None where it is not."""

    def __init__(
        self, catalog: Callable[[], Catalog], log: Mapping[str, Heard], told: Callable[[str], Heard | None]
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._told = told

    def __repr__(self) -> str:
        return f"<Whereabouts of {len(self._catalog().nodes)}, in the log {len(self._log)}>"

    def address_of(self, name: str) -> str | None:
        """Where the node of this name listens, None when nobody has said it."""
        catalog = self._catalog()
        node = catalog.nodes.get(name)
        agreed = Heard(catalog.index, node.address) if node is not None else None
        known = [heard for heard in (agreed, self._told(name), self._log.get(name)) if heard is not None]
        # Of words of the same time the first counts: what was agreed on.
        return max(known, key=lambda heard: heard.entry).address if known else None


def _description(entry: Entry) -> DescribeNode | None:
    """What the entry tells of a node, if that is what it is about; most are asked for once (`Once`), some plainly."""
    if entry.kind is not EntryKind.COMMAND or not isinstance(entry.payload, bytes):
        return None
    try:
        command = codec.decode(entry.payload)
    except ValueError:  # Of a newer version: who applies it will say so.
        return None
    action = command.action if isinstance(command, Once) else command
    return action if isinstance(action, DescribeNode) else None
