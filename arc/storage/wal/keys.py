"""The checkpoint of idempotency keys: what is left of records that have gone from the log.

One small file beside the log, replaced as a whole before a segment goes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import google_crc32c

from arc.errors import Corrupt
from arc.ports import Disk

FOLDER = "wal"
CHECKPOINT = f"{FOLDER}/keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """An idempotency key in the checkpoint; the fields are `ingest.keys.Remembered`'s."""

    database: str
    key: str
    epoch: int
    sequence: int
    rows: int
    moment_us: int
    fingerprint: int = 0


NAMES = tuple(field.name for field in fields(StoredKey))
"""The order of the values in the checkpoint, and in messages: append only."""


def save_keys(disk: Disk, keys: Sequence[StoredKey]) -> None:
    """Replace the checkpoint of idempotency keys; blocking, durable on return."""
    body = json.dumps([[getattr(key, name) for name in NAMES] for key in keys]).encode()
    disk.write_durable(CHECKPOINT, b"%08x\n" % google_crc32c.value(body) + body)


def load_keys(disk: Disk) -> list[StoredKey]:
    """The checkpoint, empty when there is none; blocking. Raises Corrupt."""
    if not disk.exists(CHECKPOINT):
        return []
    crc, _, body = disk.read(CHECKPOINT).partition(b"\n")
    if crc != b"%08x" % google_crc32c.value(body):
        raise Corrupt("the checkpoint of idempotency keys does not match its checksum", path=CHECKPOINT, offset=0)
    # Without `strict`: checkpoints of before fingerprints end one value sooner.
    return [StoredKey(**dict(zip(NAMES, values, strict=False))) for values in json.loads(body)]
