"""The state machine of the cluster.

A command comes in order, the catalog becomes its next version, what changed is told.

`apply` is total and deterministic. It never raises for what a command asks: a refusal is a `Result`, and changes
nothing but the index. It asks nobody for the time, for chance or for a file: two machines that apply the same log are
equal. Each part decides for itself (`schemas`, `manifest`, `leases`, `access`, `nodes`); here is only who is asked, and
what one command means to two parts.

Nothing here knows how commands are agreed on or stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arc.catalog import access, leases, manifest, nodes, schemas, sessions
from arc.catalog.access import TokenRecord
from arc.catalog.cells import FileStats
from arc.catalog.commands import (
    WRITER,
    Action,
    AssignLease,
    Command,
    CreateDatabase,
    CreateToken,
    DeclareColumns,
    DeleteToken,
    DescribeNode,
    DropDatabase,
    ForgetNode,
    Once,
    RegisterFiles,
    ReplaceFiles,
    RevokeToken,
    RotateToken,
    UpdateToken,
    WidenColumn,
)
from arc.catalog.events import Event
from arc.catalog.facts import Catalog
from arc.catalog.leases import Lease
from arc.catalog.results import Refusal, Result, Value
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
    except Refusal as refusal:
        after, applied = catalog, _refused(index, refusal.code, refusal.message)
    except InvalidRequest as broken:
        after, applied = catalog, _refused(index, "invalid", broken.message)
    return replace(after, index=index), applied


def _refused(index: int, code: str, message: str) -> Applied:
    return Applied(Result(ok=False, code=code, message=message, index=index))


def _accept(catalog: Catalog, index: int, command: Command) -> tuple[Catalog, Applied]:
    if not isinstance(command, Once):
        after, value, events = _dispatch(catalog, index, command)
        return after, Applied(Result(ok=True, value=value, index=index), events)
    first = sessions.first_result(catalog.sessions, command)
    if first is not None:
        return catalog, Applied(first)
    after, applied = _accept(catalog, index, command.action)
    return replace(after, sessions=sessions.remember(after.sessions, command, applied.result)), applied


def _dispatch(catalog: Catalog, index: int, command: Action) -> tuple[Catalog, Value, tuple[Event, ...]]:
    match command:
        case CreateDatabase() | DeclareColumns() | WidenColumn():
            declared = schemas.apply(catalog.databases, index, command)
            return replace(catalog, databases=declared.state), declared.value, declared.events
        case DropDatabase():
            dropped = schemas.apply(catalog.databases, index, command)
            emptied = manifest.drop_database(catalog.manifest, command.name, command.up_to)
            after = replace(catalog, databases=dropped.state, manifest=emptied.state)
            return after, dropped.value, dropped.events + emptied.events
        case RegisterFiles():
            leases.require_epoch(catalog.leases, WRITER, command.epoch)
            files = manifest.register(catalog.manifest, command, _known(catalog))
            return replace(catalog, manifest=files.state), files.value, files.events
        case ReplaceFiles():
            leases.require_epoch(catalog.leases, command.lease, command.epoch)
            files = manifest.replace(catalog.manifest, command, _known(catalog))
            return replace(catalog, manifest=files.state), files.value, files.events
        case AssignLease():
            granted = leases.apply(catalog.leases, index, command)
            return replace(catalog, leases=granted.state), granted.value, granted.events
        case CreateToken() | UpdateToken() | RotateToken() | RevokeToken() | DeleteToken():
            tokens = access.apply(catalog.access, index, command)
            return replace(catalog, access=tokens.state), tokens.value, tokens.events
        case DescribeNode() | ForgetNode():
            members = nodes.apply(catalog.nodes, command)
            return replace(catalog, nodes=members.state), members.value, members.events


def _known(catalog: Catalog) -> manifest.Known:
    return lambda database, measurement: schemas.find(catalog.databases, database, measurement) is not None


__all__ = ["Applied", "Catalog", "ClusterFSM", "FileStats", "Lease", "TokenRecord", "apply"]
