"""Which nodes should hold a file: a function of the file, the nodes and the replication factor, and of nothing else.

A query is answered by one node from its own disk, so every node that answers queries holds every file: that is what
bounds a cluster's data by its smallest disk, and what makes a lost node no event for a query. Only where such nodes are
fewer than the factor do others keep copies as well: the one that wrote the file first (it has it), then those that
rendezvous hashing names. Each such node has a weight per path and the heaviest win, so a node that comes takes only the
files where it is heaviest, and one that goes leaves the others where they are.

Nodes that are leaving are no targets: what is on them only has to be brought elsewhere.
"""

from __future__ import annotations

from hashlib import blake2b

from arc.catalog.nodes import Nodes
from arc.catalog.roles import NodeRole, NodeState
from arc.storage.files import FileEntry


class Placement:
    """Of one version of the nodes."""

    def __init__(self, nodes: Nodes, factor: int) -> None:
        self._factor = factor
        staying = {
            name: NodeRole(known.role).capabilities
            for name, known in sorted(nodes.items())
            if known.state != NodeState.LEAVING
        }
        self.serving = tuple(name for name, able in staying.items() if able.can_query)
        """Nodes that answer queries, sorted: targets of every file."""
        self._spare = tuple(
            name for name, able in staying.items() if not able.can_query and (able.can_ingest or able.can_compact)
        )

    def __repr__(self) -> str:
        return f"<Placement serving={len(self.serving)} spare={len(self._spare)} factor={self._factor}>"

    @property
    def keepers(self) -> tuple[str, ...]:
        """Nodes that may be a target of some file, sorted."""
        return self.serving if len(self.serving) >= self._factor else tuple(sorted((*self.serving, *self._spare)))

    def targets(self, entry: FileEntry) -> tuple[str, ...]:
        """Nodes that should hold the file; those that answer queries first, by name."""
        lacking = self._factor - len(self.serving)
        if lacking <= 0 or not self._spare:
            return self.serving
        spare = sorted(self._spare, key=lambda name: (name != entry.origin, -_weight(entry.path, name), name))
        return (*self.serving, *spare[:lacking])

    def copies(self, entry: FileEntry, *, without: str = "") -> int:
        """On how many of them it is, one node left out. What is elsewhere counts for nothing: nobody has to keep it
        there.
        """
        return len({*entry.holders}.intersection(self.targets(entry)) - {without})


def targets(entry: FileEntry, nodes: Nodes, factor: int) -> tuple[str, ...]:
    """`Placement.targets` for one question."""
    return Placement(nodes, factor).targets(entry)


def _weight(path: str, name: str) -> int:
    return int.from_bytes(blake2b(f"{name}\0{path}".encode(), digest_size=8).digest(), "big")
