"""What a backup is: one document that names everything, and the files by their hash. Pure.

The document is written last, so a backup that has one is whole. Its first line is a header with the hash of the rest
and the few numbers that a list shows; a document that lost a byte is told as damaged, never read as less. Files lie
beside it under their own hash (`vault`), so two backups share what did not change between them, and the name of a file
says what must be in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson

from arc.backup import access
from arc.backup.access import KeptOrganization
from arc.catalog.access import TokenRecord
from arc.catalog.facts import Catalog
from arc.catalog.policies import Policy
from arc.catalog.values import ColumnSchema
from arc.errors import Corrupt, InvalidRequest
from arc.ports import Buffer
from arc.storage.files import FileEntry, held_by

FORMAT = "arc-backup-1"
DOCUMENTS = "backups"
"""Folder of the documents in a vault."""

OBJECTS = "objects"
"""Folder of the files."""

LEDGER = "restore"
"""Kind of the policy by which a cluster remembers a restore (`plan`); it is in no backup."""

HEADER_BYTES_MAX = 4096
_ID = re.compile(r"backup-[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_START = datetime(1970, 1, 1, tzinfo=UTC)
_FILE = tuple(field.name for field in fields(FileEntry) if field.name != "holders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a list shows. ``backup_type`` is ``full`` when every file was copied for it, else ``incremental``."""

    backup_id: str
    created_us: int
    backup_type: str
    total_files: int
    total_size_bytes: int
    total_rows: int
    database_count: int
    catalog_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measurement and its columns in the order of their first sight."""

    database: str
    name: str
    columns: tuple[ColumnSchema, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A version of the catalog, as far as it can be brought elsewhere: who holds which lease is not part of it.

    ``databases`` are (name, when it was made). ``tokens`` carry hashes, never secrets, and are empty unless asked for.
    """

    summary: Summary
    cluster_uuid: str
    cluster_name: str
    version: str
    databases: tuple[tuple[str, int], ...]
    measurements: tuple[Measurement, ...]
    policies: tuple[Policy, ...]
    organizations: tuple[KeptOrganization, ...]
    tokens: tuple[TokenRecord, ...]
    files: tuple[FileEntry, ...]


def new_id(now_us: int, chance: bytes) -> str:
    """``backup-YYYYMMDD-HHMMSS-<8 hex>``, by UTC."""
    assert len(chance) == 4, chance
    return f"backup-{_START + timedelta(microseconds=now_us):%Y%m%d-%H%M%S}-{chance.hex()}"


def check_id(given: str) -> str:
    """The id itself. Raises InvalidRequest."""
    if not _ID.fullmatch(given):
        raise InvalidRequest(f"{given[:100]!r} is not the id of a backup: backup-YYYYMMDD-HHMMSS-<8 hex>")
    return given


def document_key(backup_id: str) -> str:
    """Where a document lies in its vault."""
    return f"{DOCUMENTS}/{backup_id}.json"


def id_of(key: str) -> str | None:
    """The id of the backup whose document has this key; None for anything else."""
    name = key.removeprefix(f"{DOCUMENTS}/").removesuffix(".json")
    return name if _ID.fullmatch(name) and key == document_key(name) else None


def object_key(sha256: str) -> str:
    """Where a file lies in its vault."""
    assert len(sha256) == 64, sha256
    return f"{OBJECTS}/{sha256[:2]}/{sha256}.parquet"


def compose(
    catalog: Catalog,
    *,
    backup_id: str,
    created_us: int,
    version: str,
    reused: bool,
    with_policies: bool = True,
    with_tokens: bool = False,
) -> Document:
    """The document of a version. Equal versions give equal documents. ``reused``: some files were there already."""
    names = sorted(catalog.databases)
    files = tuple(held_by(file, ()) for file in catalog.all_files())
    return Document(
        summary=Summary(
            backup_id=backup_id,
            created_us=created_us,
            backup_type="incremental" if reused else "full",
            total_files=len(files),
            total_size_bytes=sum(file.size_bytes for file in files),
            total_rows=sum(file.rows for file in files),
            database_count=len(names),
            catalog_index=catalog.index,
        ),
        cluster_uuid=catalog.cluster.uuid if catalog.cluster is not None else "",
        cluster_name=catalog.cluster.name if catalog.cluster is not None else "",
        version=version,
        databases=tuple((name, catalog.databases[name].created_us) for name in names),
        measurements=tuple(
            Measurement(database=name, name=each, columns=tuple(schema.columns.values()))
            for name in names
            for each, schema in sorted(catalog.databases[name].measurements.items())
        ),
        policies=tuple(policy for (kind, _), policy in sorted(catalog.policies.items()) if kind != LEDGER)
        if with_policies
        else (),
        organizations=access.keep(catalog),
        tokens=tuple(token for _, token in sorted(catalog.tokens.items())) if with_tokens else (),
        files=files,
    )


def encode(document: Document) -> bytes:
    """As it lies in its vault."""
    body = orjson.dumps(
        {
            "summary": asdict(document.summary),
            "cluster": {"uuid": document.cluster_uuid, "name": document.cluster_name},
            "version": document.version,
            "databases": [list(each) for each in document.databases],
            "measurements": [
                [each.database, each.name, [[column.name, column.kind] for column in each.columns]]
                for each in document.measurements
            ],
            "policies": [
                [policy.kind, policy.name, policy.body, policy.updated_us, policy.title] for policy in document.policies
            ],
            "organizations": access.packed(document.organizations),
            "tokens": [asdict(token) for token in document.tokens],
            "file_fields": list(_FILE),
            "files": [[getattr(file, name) for name in _FILE] for file in document.files],
        }
    )
    head = {
        "format": FORMAT,
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
        "summary": asdict(document.summary),
    }
    line = orjson.dumps(head)
    assert len(line) < HEADER_BYTES_MAX, len(line)
    return b"%b\n%b\n" % (line, body)


def read_summary(beginning: Buffer, key: str) -> Summary:
    """What the header says, from the first `HEADER_BYTES_MAX` bytes. Raises Corrupt."""
    return _summary(_header(bytes(beginning).partition(b"\n")[0], key)["summary"], key)


def decode(data: bytes, key: str) -> Document:
    """The document that `encode` was given. Raises Corrupt, which names ``key``."""
    line, _, rest = data.partition(b"\n")
    head, body = _header(line, key), rest.removesuffix(b"\n")
    if len(body) != head["bytes"] or hashlib.sha256(body).hexdigest() != head["sha256"]:
        raise Corrupt(
            f"the document has {len(body)} bytes that are not those its header tells", path=key, offset=len(line)
        )
    try:
        found = orjson.loads(body)
        names = found["file_fields"]
        return Document(
            summary=_summary(found["summary"], key),
            cluster_uuid=found["cluster"]["uuid"],
            cluster_name=found["cluster"]["name"],
            version=found["version"],
            databases=tuple((name, created_us) for name, created_us in found["databases"]),
            measurements=tuple(
                Measurement(database=database, name=name, columns=tuple(ColumnSchema(*each) for each in columns))
                for database, name, columns in found["measurements"]
            ),
            policies=tuple(Policy(*each) for each in found["policies"]),
            organizations=access.unpacked(found.get("organizations", ())),
            tokens=tuple(
                TokenRecord(**{**each, "permissions": tuple(each["permissions"])}) for each in found["tokens"]
            ),
            files=tuple(_file(names, row) for row in found["files"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"not a document of this version: {error!r}", path=key, offset=0) from error


def hash_of(pieces: Iterable[Buffer]) -> str:
    """SHA-256 in hex."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def hashes(documents: Iterable[Document]) -> set[str]:
    """Of all files that any of these backups needs."""
    return {file.sha256 for document in documents for file in document.files}


def _file(names: Sequence[str], row: Sequence[object]) -> FileEntry:
    """Keys that a later version added are passed over."""
    named = {name: value for name, value in zip(names, row, strict=True) if name in _FILE}
    return FileEntry(**{**named, "columns": tuple(cast("list[str]", named["columns"]))})  # type: ignore[arg-type]


def _summary(found: object, key: str) -> Summary:
    try:
        known = cast("dict[str, object]", found)
        return Summary(**{field.name: known[field.name] for field in fields(Summary)})  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise Corrupt(f"not a document of this version: {error!r}", path=key, offset=0) from error


def _header(line: bytes, key: str) -> dict[str, object]:
    try:
        head = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Corrupt(f"the header cannot be read: {error}", path=key, offset=0) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise Corrupt(f"not a backup of format {FORMAT}, which this version reads", path=key, offset=0)
    return head
