"""Everything that may be asked of the catalog: one frozen value per command.

Times, hashes and node names are chosen by the proposer, because applying must give the same answer on every node and
on every replay. Field order is the order on disk (see `codec`): a new field goes last and has a default.
"""

from __future__ import annotations

from dataclasses import dataclass

from arc.catalog.access_commands import (
    AccessAction,
    Audited,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    DropAccess,
    JoinTeam,
    LeaveTeam,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
)
from arc.catalog.values import COMPACTOR, LEASES, WRITER, ColumnSchema, FlushMark
from arc.ids import NodeId
from arc.storage.files import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDatabase:
    """Make an empty database. With ``if_missing`` an existing one is fine; otherwise it is a conflict."""

    name: str
    created_us: int
    if_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    """Forget a database with all its schemas and files.

    ``up_to`` is the last WAL sequence given out when the drop was asked for: rows up to it are gone even if the
    database is made again, because every flush mark of this name starts there. ``epoch`` is that of the writer lease
    whose holder says so, and has to be the current one: of rows that came in under a later one it cannot know. 0 is not
    looked at: so it was in earlier logs.
    """

    name: str
    up_to: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DropMeasurement:
    """Forget a measurement with its schema and its files. ``up_to`` and ``epoch`` are as in `DropDatabase`; its flush
    mark stays, no lower than ``up_to``.
    """

    database: str
    name: str
    up_to: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareColumns:
    """Add what is missing.

    The database, the measurement, columns. Refused as a whole on any conflict of kind or name.
    """

    database: str
    measurement: str
    columns: tuple[ColumnSchema, ...]
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WidenColumn:
    """Turn an integer column into a float one. Already float is fine; nothing else can be widened."""

    database: str
    measurement: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterFiles:
    """Make flushed files visible and move the flush marks, in one step (DURABILITY 5).

    ``epoch`` is that of the writer lease. A file that came from the WAL (``last_sequence`` > 0) must lie between the
    old and the new mark of its measurement, else its rows would be seen twice. Files from elsewhere (an import) have
    both sequences 0. ``policies`` are set in the same step, and any that is refused refuses the whole: so what is known
    of the files (a continuous query's progress) never contradicts them.
    """

    files: tuple[FileEntry, ...]
    flushed: tuple[FlushMark, ...] = ()
    epoch: int
    policies: tuple[PutPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceFiles:
    """Swap files for others in one step (DURABILITY 8).

    ``remove`` has (path, sha256) pairs, all of which must be there. ``holders`` are nodes that have all files of
    ``add`` on their disks already, besides the one that wrote each. ``policies`` as in `RegisterFiles`.
    """

    remove: tuple[tuple[str, str], ...]
    add: tuple[FileEntry, ...] = ()
    lease: str
    epoch: int
    holders: tuple[NodeId, ...] = ()
    policies: tuple[PutPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFiles:
    """Say which files (path, sha256) this incarnation of a node has on its disk, and which it has lost.

    Files that are gone, or stand there with another hash, are passed over: saying it again is fine, and so is saying
    it too late. Who wrote a file need not say that he holds it.
    """

    node: NodeId
    incarnation: int
    holds: tuple[tuple[str, str], ...] = ()
    lost: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignLease:
    """Give a lease to a node if its epoch still is ``expect_epoch`` (0: never granted). The new epoch is this
    command's index.

    The writer lease goes only to a member of the in-sync set, unless an operator says ``accepts_data_loss``: then
    records that only others hold may be gone, and the history says so. ``reason`` is for people.
    """

    lease: str
    node: NodeId
    expect_epoch: int
    reason: str = ""
    at_us: int = 0
    accepts_data_loss: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInSync:
    """Replace the in-sync set of the reign ``epoch``, if it still is ``expect_members`` (DURABILITY 3)."""

    epoch: int
    expect_members: tuple[NodeId, ...]
    members: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCluster:
    """Give the cluster its identity, once and for ever; saying the same again is fine."""

    uuid: str
    name: str
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPolicy:
    """Set the policy of this kind and name; ``body`` is JSON that its followers understand.

    ``expect_us`` is when it was set last, as far as the proposer knows, 0 for one that must not be there yet: a change
    that came between refuses this one. None sets it whatever stands there.

    ``title`` is what people call it: no other policy of the kind has it. Empty: it has none.
    """

    kind: str
    name: str
    body: str
    at_us: int
    expect_us: int | None = None
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropPolicy:
    """Forget a policy."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateToken:
    """Add a token.

    The result's value is its id. ``hash`` is from `security.tokens.hash_token`, never the token itself.
    """

    name: str
    hash: str
    description: str = ""
    permissions: tuple[str, ...] = ("read", "write")
    created_us: int
    expires_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateToken:
    """Change what is not None. ``never_expires`` takes an expiry away."""

    id: int
    name: str | None = None
    description: str | None = None
    permissions: tuple[str, ...] | None = None
    expires_us: int | None = None
    never_expires: bool = False
    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateToken:
    """Replace the secret of a token; the old one stops working."""

    id: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeToken:
    """Keep the record, accept the token no more."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteToken:
    """Forget the token; its id is never given out again."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeNode:
    """Say what this incarnation of a node is and where it is reached.

    Refused while the name belongs to another incarnation. ``address`` is where its peers reach it, empty when it
    listens for none; ``api_address`` where its clients do; ``cores`` what it may use. What stood of an earlier
    description is replaced, but for the state and the time of joining.
    """

    name: NodeId
    incarnation: int
    address: str
    role: str = "standalone"
    api_address: str = ""
    version: str = ""
    cores: int = 0
    at_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNodeState:
    """Say that a node is joining, healthy (it takes what its role allows) or leaving (it is given nothing new)."""

    name: NodeId
    incarnation: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetNode:
    """Forget a node that is no member any more."""

    name: NodeId
    incarnation: int


Action = (
    CreateDatabase
    | DropDatabase
    | DropMeasurement
    | DeclareColumns
    | WidenColumn
    | RegisterFiles
    | ReplaceFiles
    | AssignLease
    | CreateToken
    | UpdateToken
    | RotateToken
    | RevokeToken
    | DeleteToken
    | DescribeNode
    | ForgetNode
    | SetNodeState
    | SetInSync
    | FoundCluster
    | PutPolicy
    | DropPolicy
    | HoldFiles
    | AccessAction
    | Audited
)
"""What a command can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """An action that takes effect at most once: a retry with the same (client, sequence) gets the first result (P-30).

    ``sequence`` grows with every new action of a client, who waits for one before asking the next. ``asked_after`` is
    the index of the catalog that the client knew when it asked for this action first, and stays the same in its
    retries: a first result that was forgotten meanwhile can so be told from one that never was. With ``is_retry`` an
    earlier copy may still be on its way: then a refusal is remembered, too, so that the copy is not accepted after it.
    """

    client: str
    sequence: int
    action: Action
    asked_after: int = 0
    is_retry: bool = False


Command = Action | Once

__all__ = [
    "COMPACTOR",
    "LEASES",
    "WRITER",
    "Action",
    "AssignLease",
    "Audited",
    "ColumnSchema",
    "Command",
    "CreateDatabase",
    "CreateOrganization",
    "CreateRole",
    "CreateRule",
    "CreateTeam",
    "CreateToken",
    "DeclareColumns",
    "DeleteToken",
    "DescribeNode",
    "DropAccess",
    "DropDatabase",
    "DropMeasurement",
    "DropPolicy",
    "FlushMark",
    "ForgetNode",
    "FoundCluster",
    "HoldFiles",
    "JoinTeam",
    "LeaveTeam",
    "Once",
    "PutPolicy",
    "RegisterFiles",
    "ReplaceFiles",
    "RevokeToken",
    "RotateToken",
    "SetInSync",
    "SetNodeState",
    "UpdateOrganization",
    "UpdateRole",
    "UpdateTeam",
    "UpdateToken",
    "WidenColumn",
]
