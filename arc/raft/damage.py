"""The mark of damage: a node that lost entries it had acknowledged remembers it until it is whole again.

Such a node must neither vote nor lead (reference 1.3, "torn tail or corruption"), and a restart must not make it forget
that. The mark is written before anything is put aside, with how much of the log is to be kept; once that is done, it is
written again without.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import google_crc32c

from arc.errors import Corrupt
from arc.ports import Disk

NAME = "damaged"


class Mark(NamedTuple):
    """``keep_below``: the log is still to be cut there, None when it is done."""

    reason: str
    keep_below: int | None = None


def read_mark(disk: Disk, folder: str) -> Mark | None:
    """The mark, if there is one. One that cannot be read still marks, and nothing of the log is to be trusted."""
    path = f"{folder}/{NAME}"
    if not disk.exists(path):
        return None
    crc, _, body = disk.read(path).partition(b"\n")
    if crc != b"%08x" % google_crc32c.value(body):
        return Mark("damage was noted, and the note is damaged itself", 0)
    reason, keep_below = json.loads(body)
    return Mark(reason, keep_below)


def write_mark(disk: Disk, folder: str, mark: Mark) -> None:
    """Durable on return."""
    body = json.dumps(mark).encode()
    disk.write_durable(f"{folder}/{NAME}", b"%08x\n" % google_crc32c.value(body) + body)


def remove_mark(disk: Disk, folder: str) -> None:
    """The node is whole again."""
    disk.remove(f"{folder}/{NAME}")


def beyond_repair(damage: Corrupt) -> Corrupt:
    """Nobody else has what is gone: the same damage, and what a person can do."""
    reason = damage.message.partition(": ")[2]
    return Corrupt(
        f"{reason}. This node is the only voter, so nobody can repair it: restore the data directory from a backup",
        path=damage.path,
        offset=damage.offset,
    )
