"""What changed in the catalog, told after the fact. An event says what is true now; who needs more reads the catalog.

Applying a command and restoring a snapshot tell their changes in these words, so nobody needs a second way to learn of
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from arc.catalog.values import FlushMark
from arc.ids import Epoch, NodeId
from arc.storage.files import FileEntry


@dataclass(frozen=True, slots=True)
class DatabaseCreated:
    """A database exists that did not."""

    database: str


@dataclass(frozen=True, slots=True)
class DatabaseDropped:
    """A database is gone with everything in it. The files it had follow as `FilesRemoved`."""

    database: str


@dataclass(frozen=True, slots=True)
class MeasurementDropped:
    """A measurement is gone from a database that stays. The files it had follow as `FilesRemoved`."""

    database: str
    measurement: str


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """A measurement is new, has new columns or a wider one."""

    database: str
    measurement: str
    version: int


@dataclass(frozen=True, slots=True)
class FilesAdded:
    """These files are part of the manifest now."""

    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class FilesRemoved:
    """These files are no longer part of the manifest; their bytes may go after the last query that reads them."""

    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class FilesHeld:
    """Other nodes than before hold these files, which were part of the manifest before. A file that was added tells its
    holders by itself.
    """

    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class MarksMoved:
    """Flush marks stand at these sequences now."""

    marks: tuple[FlushMark, ...]


@dataclass(frozen=True, slots=True)
class LeaseAssigned:
    """A lease has a new epoch, and perhaps a new holder. ``previous`` is who held it before, if anybody did."""

    lease: str
    holder: NodeId
    epoch: Epoch
    previous: NodeId | None


@dataclass(frozen=True, slots=True)
class LeaseVacated:
    """Nobody holds the lease any more: who did is no member."""

    lease: str
    previous: NodeId


@dataclass(frozen=True, slots=True)
class TokensChanged:
    """These tokens were made, changed or deleted: whatever was remembered about them is no longer true."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeDescribed:
    """A node is new, or something known of it changed: where it is reached, its role, its state.

    Follows a `NodeForgotten` when it is another incarnation.
    """

    name: NodeId
    incarnation: int
    address: str


@dataclass(frozen=True, slots=True)
class NodeForgotten:
    """A node is no part of the cluster any more: nobody has reason to talk to it."""

    name: NodeId
    incarnation: int


@dataclass(frozen=True, slots=True)
class InSyncChanged:
    """The in-sync set of this reign is this now."""

    epoch: Epoch
    members: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class ClusterFounded:
    """The cluster has an identity."""

    uuid: str


@dataclass(frozen=True, slots=True)
class PoliciesChanged:
    """These policies (kind, name) were set or dropped."""

    keys: tuple[tuple[str, str], ...]


Event = (
    DatabaseCreated
    | DatabaseDropped
    | MeasurementDropped
    | SchemaChanged
    | FilesAdded
    | FilesRemoved
    | FilesHeld
    | MarksMoved
    | LeaseAssigned
    | LeaseVacated
    | TokensChanged
    | NodeDescribed
    | NodeForgotten
    | InSyncChanged
    | ClusterFounded
    | PoliciesChanged
)
