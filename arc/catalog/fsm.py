"""The state machine of the cluster.

A command comes in order, the catalog becomes its next version, what changed is told.

`apply` is total and deterministic. It never raises for what a command asks: a refusal is a `Result`, and changes
nothing but the index. It asks nobody for the time, for chance or for a file: two machines that apply the same log are
equal. Each part decides for itself (`schemas`, `manifest`, `holders`, `leases`, `insync`, `access`, `teams`, `audit`,
`nodes`, `cluster`, `policies`); here is only who is asked, and what one command means to two parts.

Nothing here knows how commands are agreed on or stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arc.catalog import (
    access,
    audit,
    cluster,
    holders,
    insync,
    leases,
    manifest,
    nodes,
    policies,
    schemas,
    sessions,
    teams,
)
from arc.catalog.access import TokenRecord
from arc.catalog.cells import FileStats
from arc.catalog.commands import (
    WRITER,
    Action,
    AssignLease,
    Audited,
    Command,
    CreateDatabase,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    DeclareColumns,
    DeleteToken,
    DescribeNode,
    DropAccess,
    DropDatabase,
    DropMeasurement,
    DropPolicy,
    ForgetNode,
    FoundCluster,
    HoldFiles,
    JoinTeam,
    LeaveTeam,
    Once,
    PutPolicy,
    RegisterFiles,
    ReplaceFiles,
    RevokeToken,
    RotateToken,
    SetInSync,
    SetNodeState,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
    UpdateToken,
    WidenColumn,
)
from arc.catalog.events import Event, InSyncChanged
from arc.catalog.facts import Catalog
from arc.catalog.leases import Lease, LeaseChange
from arc.catalog.results import Refusal, Result, Step, Value
from arc.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Applied:
    """What one command led to. A refused command has no events."""

    result: Result
    events: tuple[Event, ...] = ()


class ClusterFSM:
    """Holds the current version.

    One task applies; anybody reads ``catalog``, which is replaced as a whole, never changed.
    """

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog if catalog is not None else Catalog()

    def __repr__(self) -> str:
        return f"<ClusterFSM {self._catalog!r}>"

    @property
    def catalog(self) -> Catalog:
        """The version after the last applied command."""
        return self._catalog

    def apply(self, index: int, command: Command) -> Applied:
        """Apply the command at ``index`` of the log, which must lie above the last one."""
        self._catalog, applied = apply(self._catalog, index, command)
        return applied

    def skip(self, index: int) -> None:
        """Note that the log's entry at ``index`` is no command (the consensus has entries of its own)."""
        assert index > self._catalog.index, "the log is applied in order"
        self._catalog = replace(self._catalog, index=index)

    def restore(self, catalog: Catalog) -> Catalog:
        """Jump to the version of a snapshot and return the one before.

        What observers must be told is `difference` of the two: the same events as if it had been applied (P-28).
        """
        before = self._catalog
        assert catalog.index >= before.index, "a snapshot never takes back what was applied"
        self._catalog = catalog
        return before


def apply(catalog: Catalog, index: int, command: Command) -> tuple[Catalog, Applied]:
    """The next version and what to answer and tell; the whole state machine as one pure function."""
    assert index > catalog.index, "the log is applied in order"
    try:
        after, applied = _accept(catalog, index, command)
    except (Refusal, InvalidRequest) as refusal:
        after, applied = catalog, _refused(index, refusal)
    return replace(after, index=index), applied


def _refused(index: int, refusal: Refusal | InvalidRequest) -> Applied:
    code = refusal.code if isinstance(refusal, Refusal) else "invalid"
    return Applied(Result(ok=False, code=code, message=refusal.message, index=index))


def _accept(catalog: Catalog, index: int, command: Command) -> tuple[Catalog, Applied]:
    if not isinstance(command, Once):
        after, value, events = _dispatch(catalog, index, command)
        return after, Applied(Result(ok=True, value=value, index=index), events)
    first = sessions.first_result(catalog.sessions, command)
    if first is not None:
        return catalog, Applied(first)
    try:
        after, applied = _accept(catalog, index, command.action)
    except (Refusal, InvalidRequest) as refusal:
        if not command.is_retry:
            raise
        after, applied = catalog, _refused(index, refusal)
    return replace(after, sessions=sessions.remember(after.sessions, command, applied.result)), applied


def _dispatch(catalog: Catalog, index: int, command: Action) -> tuple[Catalog, Value, tuple[Event, ...]]:
    match command:
        case CreateDatabase() | DeclareColumns() | WidenColumn():
            declared = schemas.apply(catalog.databases, index, command)
            return replace(catalog, databases=declared.state), declared.value, declared.events
        case DropDatabase():
            if command.epoch:
                leases.require_epoch(catalog.leases, WRITER, command.epoch)
            dropped = schemas.apply(catalog.databases, index, command)
            emptied = manifest.drop_database(catalog.manifest, command.name, command.up_to)
            after = replace(catalog, databases=dropped.state, manifest=emptied.state)
            return after, dropped.value, dropped.events + emptied.events
        case DropMeasurement():
            leases.require_epoch(catalog.leases, WRITER, command.epoch)
            dropped = schemas.apply(catalog.databases, index, command)
            emptied = manifest.drop_measurement(catalog.manifest, command.database, command.name, command.up_to)
            after = replace(catalog, databases=dropped.state, manifest=emptied.state)
            return after, dropped.value, dropped.events + emptied.events
        case RegisterFiles():
            leases.require_epoch(catalog.leases, WRITER, command.epoch)
            files = manifest.register(catalog.manifest, command, _known(catalog), _member(catalog))
            return _with_policies(catalog, files, command.policies)
        case ReplaceFiles():
            leases.require_epoch(catalog.leases, command.lease, command.epoch)
            files = manifest.replace(catalog.manifest, command, _known(catalog), _member(catalog))
            return _with_policies(catalog, files, command.policies)
        case HoldFiles():
            held = holders.apply(catalog.manifest, command, catalog.nodes)
            return replace(catalog, manifest=held.state), held.value, held.events
        case AssignLease():
            return _grant(catalog, index, command)
        case SetInSync():
            members = insync.apply(catalog.in_sync, command, catalog.leases, catalog.nodes)
            return replace(catalog, in_sync=members.state), members.value, members.events
        case CreateToken() | UpdateToken() | RotateToken() | RevokeToken() | DeleteToken():
            tokens = access.apply(catalog.access, index, command)
            after = replace(catalog, access=tokens.state)
            if isinstance(command, DeleteToken):
                after = replace(after, teams=teams.without_token(catalog.teams, command.id))
            return after, tokens.value, tokens.events
        case CreateOrganization() | CreateTeam() | CreateRole() | CreateRule():
            made = teams.apply(catalog.teams, command, catalog.tokens)
            return replace(catalog, teams=made.state), made.value, made.events
        case UpdateOrganization() | UpdateTeam() | UpdateRole() | JoinTeam() | LeaveTeam():
            changed = teams.apply(catalog.teams, command, catalog.tokens)
            return replace(catalog, teams=changed.state), changed.value, changed.events
        case DropAccess():
            left = teams.apply(catalog.teams, command, catalog.tokens)
            alone = access.only_admin(catalog.access, teams.left_alone(catalog.teams, left.state))
            return replace(catalog, teams=left.state, access=alone.state), left.value, alone.events
        case Audited():
            inner = (catalog, None, ()) if command.action is None else _dispatch(catalog, index, command.action)
            after, value, events = inner
            return replace(after, audit=audit.remember(after.audit, index, command, value)), value, events
        case DescribeNode() | SetNodeState():
            known = nodes.apply(catalog.nodes, command)
            return replace(catalog, nodes=known.state), known.value, known.events
        case ForgetNode():
            return _forget(catalog, command)
        case FoundCluster():
            founded = cluster.apply(catalog.cluster, command)
            return replace(catalog, cluster=founded.state), founded.value, founded.events
        case PutPolicy() | DropPolicy():
            set_ = policies.apply(catalog.policies, command)
            return replace(catalog, policies=set_.state), set_.value, set_.events


def _with_policies(
    catalog: Catalog, files: Step[manifest.Manifest], put: tuple[PutPolicy, ...]
) -> tuple[Catalog, Value, tuple[Event, ...]]:
    """Files and what is known of them, in one step or not at all."""
    told = policies.put_all(catalog.policies, put)
    after = replace(catalog, manifest=files.state, policies=told.state)
    return after, files.value, files.events + told.events


def _grant(catalog: Catalog, index: int, command: AssignLease) -> tuple[Catalog, Value, tuple[Event, ...]]:
    """A lease has a new epoch; the writer's begins a new in-sync set."""
    granted = leases.apply(catalog.leases, index, command, catalog.nodes)
    lease, before = granted.state[command.lease], catalog.leases.get(command.lease)
    previous = before.holder if before is not None else None
    events, in_sync, is_clean = granted.events, catalog.in_sync, True
    if lease.name == WRITER:
        is_clean = in_sync is None or lease.holder in in_sync.members
        if not is_clean and not command.accepts_data_loss:
            assert in_sync is not None
            raise Refusal(
                "not_in_sync",
                f"{lease.holder} may lack acknowledged rows; known to hold them all: {', '.join(in_sync.members)}",
            )
        in_sync = insync.begin(in_sync, lease.epoch, lease.holder, previous, is_clean=is_clean)
        events = (*events, InSyncChanged(in_sync.epoch, in_sync.members))
    change = LeaseChange(lease.name, lease.epoch, lease.holder, previous, command.at_us, command.reason, is_clean)
    history = leases.remember(catalog.history, change)
    return replace(catalog, leases=granted.state, in_sync=in_sync, history=history), granted.value, events


def _forget(catalog: Catalog, command: ForgetNode) -> tuple[Catalog, Value, tuple[Event, ...]]:
    """A node is gone, with what it held: it can take over no more, and whoever comes back under its name holds nothing
    and has nothing. Where only it had all acknowledged rows, nobody takes over without an operator.
    """
    forgotten = nodes.apply(catalog.nodes, command)
    bereft = holders.without(catalog.manifest, command.name)
    vacated = leases.vacate(catalog.leases, command.name)
    events, in_sync = (*bereft.events, *vacated.events, *forgotten.events), catalog.in_sync
    if in_sync is not None and command.name in in_sync.members:
        in_sync = insync.without(in_sync, command.name)
        events = (*events, InSyncChanged(in_sync.epoch, in_sync.members))
    after = replace(catalog, nodes=forgotten.state, manifest=bereft.state, leases=vacated.state, in_sync=in_sync)
    return after, forgotten.value, events


def _known(catalog: Catalog) -> manifest.Known:
    return lambda database, measurement: schemas.find(catalog.databases, database, measurement) is not None


def _member(catalog: Catalog) -> manifest.Member:
    """A node alone describes nobody."""
    return lambda name: not catalog.nodes or name in catalog.nodes


__all__ = ["Applied", "Catalog", "ClusterFSM", "FileStats", "Lease", "TokenRecord", "apply"]
