"""A restore decided: what is restored, whether that may be, in which steps, and which of them have happened. Pure.

Restored rows come into databases that do not exist, or have no measurement; what stands is never mixed with what
comes. The cluster remembers a
restore in a policy of its own (the ledger), written before the first change, so that the same restore may go on after a
crash, and another one is refused.

No row may come twice. Files are registered in batches that are the same at every attempt, each in one entry under a
number of its own (`Once`), so a batch takes effect once whoever asks again; that it did is seen in the ledger, in the
number that the catalog remembers, or in the files themselves, whichever of the three is left.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

from arc.backup.document import LEDGER, Document
from arc.catalog.commands import CreateDatabase, DeclareColumns, Once, PutPolicy, RegisterFiles
from arc.catalog.facts import Catalog
from arc.catalog.policies import Policy
from arc.errors import Conflict, NotFound
from arc.ids import NodeId
from arc.storage.files import FileEntry
from arc.storage.paths import quote_part

BATCH_FILES_MAX = 1000
BATCH_BYTES_MAX = 256 << 20
"""Files of one entry of the log; it is this much that an attempt may do in vain."""

TAG_CHARS = 34

UNDER_WAY, OVER = "under way", "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a cluster remembers of a restore. ``begun_us`` tells one restore of a backup from the next one;
    ``databases`` is the hash of their names, which may be thousands.
    """

    backup_id: str
    begun_us: int
    status: str
    databases: str
    batches_done: int = 0
    updated_us: int = 0

    def command(self, now_us: int) -> PutPolicy:
        """Set it, if nobody else has changed it since it was read."""
        body = asdict(self)
        del body["updated_us"]
        return PutPolicy(
            kind=LEDGER,
            name=self.backup_id,
            body=json.dumps(body, sort_keys=True),
            at_us=max(now_us, self.updated_us + 1),
            expect_us=self.updated_us,
        )

    def set_as(self, command: PutPolicy) -> Ledger:
        """As it stands after that command."""
        return replace(self, updated_us=command.at_us)

    @property
    def client(self) -> str:
        """Whose numbers the batches have."""
        return f"restore/{self.backup_id}/{self.begun_us}"


def find_ledger(catalog: Catalog, backup_id: str) -> Ledger | None:
    """What is remembered of the last restore of this backup."""
    kept = catalog.policies.get((LEDGER, backup_id))
    if kept is None:
        return None
    facts = json.loads(kept.body)
    return Ledger(**facts, updated_us=kept.updated_us)


def chosen(document: Document, databases: Collection[str]) -> Document:
    """Only these databases, with the policies that name one of them; all of it when none is named. Raises NotFound."""
    if not databases:
        return document
    known = {name for name, _ in document.databases}
    if lacking := sorted(set(databases) - known):
        raise NotFound(f"the backup has no database {lacking[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    return replace(
        document,
        databases=tuple(each for each in document.databases if each[0] in databases),
        measurements=tuple(each for each in document.measurements if each.database in databases),
        policies=tuple(each for each in document.policies if _database_of(each) in databases),
        files=tuple(each for each in document.files if each.database in databases),
    )


def begin(catalog: Catalog, document: Document, now_us: int) -> Ledger:
    """The ledger to go on with: of an attempt that did not end, or a new one.

    Raises Conflict when a database that the backup has measurements of has some here, which no earlier attempt made.
    """
    names = tuple(name for name, _ in document.databases)
    found = find_ledger(catalog, document.summary.backup_id)
    filled = sorted({each.database for each in document.measurements})
    is_open = found is not None and found.status == UNDER_WAY
    # Without one of the databases, rows that were brought before would be missing at the end.
    goes_on = found is not None and (found.batches_done == 0 or all(_is_used(catalog, name) for name in filled))
    if found is not None and is_open and goes_on and found.databases == _hash_of(names):
        return found
    if standing := [name for name in filled if _is_used(catalog, name)]:
        raise Conflict(
            f"database {standing[0]!r} exists and has measurements: a restore fills only databases that have none"
            + ("; one with other databases did not end: ask for the same ones, and it goes on" if is_open else ""),
            code="exists",
        )
    return Ledger(
        backup_id=document.summary.backup_id,
        begun_us=max(now_us, found.begun_us + 1) if found is not None else now_us,
        status=UNDER_WAY,
        databases=_hash_of(names),
        updated_us=found.updated_us if found is not None else 0,
    )


def schemas(document: Document) -> list[CreateDatabase | DeclareColumns]:
    """Databases, measurements and columns; saying it again changes nothing."""
    made_us = dict(document.databases)
    return [
        *(CreateDatabase(name=name, created_us=at, if_missing=True) for name, at in document.databases),
        *(
            DeclareColumns(
                database=each.database,
                measurement=each.name,
                columns=each.columns,
                created_us=made_us[each.database],
            )
            for each in document.measurements
        ),
    ]


def batches(document: Document) -> list[tuple[FileEntry, ...]]:
    """The files in the order of their paths, bounded by count and, unless one alone is larger, by bytes."""
    found: list[list[FileEntry]] = []
    room = 0
    for file in sorted(document.files, key=lambda file: file.path):
        if not found or len(found[-1]) == BATCH_FILES_MAX or file.size_bytes > room:
            found.append([])
            room = BATCH_BYTES_MAX
        found[-1].append(file)
        room -= file.size_bytes
    return [tuple(batch) for batch in found]


def placed(file: FileEntry, ledger: Ledger, *, node: NodeId, epoch: int, now_us: int) -> FileEntry:
    """The file under its new path: in the hour of the old one, with rows that no log has.

    The epoch is that of the writer lease, which the node holds: until the file is in the manifest, its name says that
    it is being written (`storage.keeper.leftover`).
    """
    folder = file.path.rpartition("/")[0]
    name = f"{epoch:010d}-{0:014d}-{_tag(file, ledger)}{quote_part(node)}.parquet"
    return replace(
        file,
        path=f"{folder}/{name}",
        origin=node,
        epoch=epoch,
        first_sequence=0,
        last_sequence=0,
        created_us=now_us,
        holders=(),
    )


def has_happened(catalog: Catalog, ledger: Ledger, number: int, batch: Sequence[FileEntry]) -> bool:
    """Whether the batch of this number (from 0) is registered, or was until its files were merged with others."""
    if number < ledger.batches_done:
        return True
    known = catalog.sessions.get(ledger.client)
    if known is not None and number < known[0]:
        return True
    wanted = {_tag(file, ledger) for file in batch}
    tables = dict.fromkeys((file.database, file.measurement) for file in batch)
    return any(_tag_of(file.path) in wanted for table in tables for file in catalog.files(*table))


def registration(ledger: Ledger, number: int, files: Sequence[FileEntry], *, epoch: int, index: int) -> Once:
    """The entry of a batch. ``index`` is that of the catalog by which `has_happened` said no."""
    return Once(
        client=ledger.client,
        sequence=number + 1,
        action=RegisterFiles(files=tuple(files), epoch=epoch),
        asked_after=index,
    )


def lacking_policies(catalog: Catalog, document: Document, now_us: int) -> list[PutPolicy]:
    """Those that the cluster has none of that kind and name of; what stands is left as it is, with its title."""
    taken = {(kept.kind, kept.title) for kept in catalog.policies.values()}
    return [
        PutPolicy(
            kind=each.kind,
            name=each.name,
            body=each.body,
            at_us=now_us,
            expect_us=0,
            title="" if (each.kind, each.title) in taken else each.title,
        )
        for each in document.policies
        if (each.kind, each.name) not in catalog.policies
    ]


def _tag(file: FileEntry, ledger: Ledger) -> str:
    """What the new name of a file has of the old one, the same at every attempt of one restore."""
    told = f"{ledger.client}\n{file.path}\n{file.sha256}".encode()
    tag = f"restored.{sha256(told).hexdigest()[:24]}."
    assert len(tag) == TAG_CHARS, tag
    return tag


def _tag_of(path: str) -> str:
    """The tag in a path that `placed` gave; something else for any other path."""
    return path.rpartition("/")[2].split("-", 2)[-1][:TAG_CHARS]


def _hash_of(names: Sequence[str]) -> str:
    return sha256("\n".join(names).encode()).hexdigest()


def _is_used(catalog: Catalog, name: str) -> bool:
    """Every node makes a database by itself, so one without a measurement is in nobody's way."""
    return name in catalog.databases and bool(catalog.databases[name].measurements)


def _database_of(policy: Policy) -> object:
    body = json.loads(policy.body)
    return body.get("database") if isinstance(body, dict) else None
