"""One version of everything that is agreed.

It never changes: who holds one may read it for as long as he likes, on any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from arc.catalog import access, leases, manifest, schemas, teams
from arc.catalog.access import Access, TokenRecord
from arc.catalog.audit import Audit
from arc.catalog.cells import FileStats
from arc.catalog.cluster import ClusterFacts
from arc.catalog.insync import InSync
from arc.catalog.leases import History, Leases
from arc.catalog.manifest import Manifest
from arc.catalog.nodes import Nodes
from arc.catalog.persistent import frozen
from arc.catalog.policies import Policies
from arc.catalog.schemas import Databases, MeasurementSchema
from arc.catalog.sessions import Sessions
from arc.catalog.teams import Teams
from arc.catalog.values import FlushMark
from arc.storage.files import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Catalog:
    """The state after the command ``index``. The fields are the parts, each changed by the module of its name."""

    index: int = 0
    databases: Databases = field(default_factory=lambda: frozen({}))
    manifest: Manifest = field(default_factory=lambda: frozen({}))
    leases: Leases = field(default_factory=lambda: frozen({}))
    access: Access = field(default_factory=access.make)
    sessions: Sessions = field(default_factory=lambda: frozen({}))
    nodes: Nodes = field(default_factory=lambda: frozen({}))
    in_sync: InSync | None = None
    """None until the writer lease is granted for the first time."""
    history: History = ()
    cluster: ClusterFacts | None = None
    policies: Policies = field(default_factory=lambda: frozen({}))
    teams: Teams = teams.EMPTY
    audit: Audit = ()

    def __repr__(self) -> str:
        held = " ".join(f"{lease.name}={lease.holder}@{lease.epoch}" for lease in self.leases.values())
        return f"<Catalog index={self.index} databases={len(self.databases)} files={self.totals().files} {held}>"

    def schema(self, database: str, measurement: str) -> MeasurementSchema | None:
        """The columns of a measurement, None when there is no such measurement."""
        return schemas.find(self.databases, database, measurement)

    def files(self, database: str, measurement: str) -> Iterable[FileEntry]:
        """All files of a measurement, in the same order on every node."""
        return manifest.files_of(self.manifest, database, measurement).all()

    def files_between(self, database: str, measurement: str, min_us: int | None, max_us: int | None) -> list[FileEntry]:
        """Files whose closed time range overlaps the closed range given (microseconds since 1970 UTC.

        None: no bound).
        """
        return manifest.files_of(self.manifest, database, measurement).between(min_us, max_us)

    def file(self, path: str) -> FileEntry | None:
        """The file of this path."""
        return manifest.find(self.manifest, path)

    def all_files(self) -> Iterator[FileEntry]:
        """Every file of every database, in the same order on every node."""
        return manifest.every(self.manifest)

    def file_stats(self, database: str, measurement: str) -> FileStats:
        """Files, rows and bytes of a measurement; kept up to date, so asking costs nothing."""
        return manifest.files_of(self.manifest, database, measurement).stats

    def totals(self) -> FileStats:
        """Files, rows and bytes of everything; adds up the measurements."""
        return manifest.totals(self.manifest)

    def mark(self, database: str, measurement: str) -> int:
        """The flush mark: every WAL record of this measurement up to it is in files, or was dropped.

        0 if there is none.
        """
        return manifest.mark_of(self.manifest, database, measurement)

    def marks(self) -> Iterator[FlushMark]:
        """The mark of every measurement that has its own."""
        for database, old in sorted(self.manifest.items()):
            for measurement, record in sorted(old.measurements.items()):
                if record.mark > 0:
                    yield FlushMark(database, measurement, record.mark)

    def floors(self) -> dict[str, int]:
        """Per database name that was dropped: the sequence up to which its WAL records are void."""
        return {name: old.floor for name, old in sorted(self.manifest.items()) if old.floor > 0}

    def lease_epoch(self, lease: str) -> int:
        """The current epoch of a lease, 0 when it was never granted."""
        return leases.epoch_of(self.leases, lease)

    @property
    def tokens(self) -> Mapping[int, TokenRecord]:
        """Tokens by id."""
        return self.access.tokens

    def token_by_hash(self, hash_hex: str) -> TokenRecord | None:
        """The token whose secret has this hash."""
        found = self.access.by_hash.get(hash_hex)
        return None if found is None else self.access.tokens[found]

    def token_by_name(self, name: str) -> TokenRecord | None:
        """The token of this name."""
        found = self.access.by_name.get(name)
        return None if found is None else self.access.tokens[found]

    def same_facts(self, other: Catalog) -> bool:
        """Whether one came from the other without a change.

        Compares identities, so it is cheap and never wrongly true.
        """
        return (
            self.databases is other.databases
            and self.manifest is other.manifest
            and self.leases is other.leases
            and self.access is other.access
            and self.sessions is other.sessions
            and self.nodes is other.nodes
            and self.in_sync is other.in_sync
            and self.history is other.history
            and self.cluster is other.cluster
            and self.policies is other.policies
            and self.teams is other.teams
            and self.audit is other.audit
        )
