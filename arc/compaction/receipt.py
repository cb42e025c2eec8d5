"""What a job has written and what it is to replace, on the disk from before its outputs lie among the data until the
catalog has them.

So no output is ever without a receipt or an entry of the manifest, and a life that begins can tell what to do with it:
`resume`. A receipt is written whole or not at all; one that cannot be read is a bug or rot, and stops nobody: its
outputs are unknown files, which the keeper of files quarantines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import Enum

import cbor2

from arc.catalog.facts import Catalog
from arc.catalog.values import COMPACTOR
from arc.errors import Corrupt
from arc.ports import Disk
from arc.storage.files import FileEntry

FOLDER = "compaction"
"""Of everything a merge keeps on the disk but its outputs."""

RECEIPTS = f"{FOLDER}/receipts"

WORK = f"{FOLDER}/work"
"""Of what the job that runs has written so far."""

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One job. ``drafts`` are where the outputs are until they get their place; ``sources`` are (path, sha256)."""

    job: int
    tier: str
    epoch: int
    outputs: tuple[FileEntry, ...]
    drafts: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    deduplicate: bool = False


class Resumed(Enum):
    """What a receipt that was found asks for."""

    SWAP = "swap"
    """Nothing happened yet: outputs are whole, sources stand, the lease is still the same. Go on."""
    DISCARD = "discard"
    """The outputs will never be part of the manifest: remove them, and the receipt."""
    DONE = "done"
    """The swap stands: remove the receipt."""


def resume(receipt: Receipt, catalog: Catalog, *, node: str, is_whole: Callable[[FileEntry], bool]) -> Resumed:
    """``is_whole`` says whether an output has its place and length on this disk: one that was installed is whole."""
    stands = [_stands(catalog, entry.path, entry.sha256) for entry in receipt.outputs]
    if any(stands):  # They came together; a later merge may have taken some of them since.
        return Resumed.DONE
    lease = catalog.leases.get(COMPACTOR)
    is_ours = lease is not None and lease.holder == node and lease.epoch == receipt.epoch
    are_sources_there = all(_stands(catalog, path, sha256) for path, sha256 in receipt.sources)
    if is_ours and are_sources_there and all(map(is_whole, receipt.outputs)):
        return Resumed.SWAP
    return Resumed.DISCARD


def receipt_path(job: int) -> str:
    """Where the receipt of a job lies."""
    return f"{RECEIPTS}/{job:014d}.cbor"


def write_receipt(disk: Disk, receipt: Receipt) -> None:
    """Durable on return. Blocks; raises OSError."""
    disk.make_dirs(RECEIPTS)
    disk.write_durable(receipt_path(receipt.job), cbor2.dumps({"version": VERSION, **asdict(receipt)}))


def read_receipts(disk: Disk) -> tuple[list[Receipt], list[str]]:
    """All receipts, and why others cannot be read. Blocks; raises OSError."""
    found, bad = [], []
    for path in disk.walk(RECEIPTS):
        try:
            found.append(_decode(disk.read(path), path))
        except Corrupt as error:
            bad.append(error.message if hasattr(error, "message") else str(error))
    return found, bad


def _decode(data: bytes, path: str) -> Receipt:
    try:
        raw = cbor2.loads(data)
        if raw.pop("version") != VERSION:
            raise ValueError("unknown version")
        raw["outputs"] = tuple(_entry(each) for each in raw["outputs"])
        raw["drafts"] = tuple(raw["drafts"])
        raw["sources"] = tuple((str(source), str(sha256)) for source, sha256 in raw["sources"])
        return Receipt(**raw)
    except (cbor2.CBORDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(f"is no receipt: {error!r}", path=path, offset=0) from error


def _entry(raw: dict[str, object]) -> FileEntry:
    values = {field.name: raw[field.name] for field in fields(FileEntry)}
    for name in ("columns", "holders"):
        values[name] = tuple(raw[name])  # type: ignore[arg-type]  # a list of texts, or TypeError
    return FileEntry(**values)  # type: ignore[arg-type]  # written by `write_receipt`


def _stands(catalog: Catalog, path: str, sha256: str) -> bool:
    entry = catalog.file(path)
    return entry is not None and entry.sha256 == sha256
