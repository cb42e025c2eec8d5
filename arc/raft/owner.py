"""Whose folder this is: a log and a vote mean something only to the incarnation that wrote them (I-10, K-64).

One small file, written before anything else. A folder that was copied from another node, or kept from before its node
was wiped, is refused: whoever went on with it would answer for promises that another one made.
"""

from __future__ import annotations

import cbor2
import google_crc32c

from arc.errors import Corrupt, InvalidRequest
from arc.ports import Disk
from arc.raft.types import Peer

NAME = "owner.cbor"

NOBODY = Peer("", 0)
"""Who opens a folder to repair it: a sole voter's damage would be refused to its owner."""


def claim(disk: Disk, folder: str, me: Peer) -> None:
    """Take a folder that is nobody's. Raises InvalidRequest for one of another incarnation, Corrupt, OSError.

    A folder from before there were owners is its node's own.
    """
    path = f"{folder}/{NAME}"
    if not disk.exists(path):
        body = cbor2.dumps([me.name, me.incarnation])
        disk.write_durable(path, body + google_crc32c.value(body).to_bytes(4, "little"))
        return
    owner = _read(disk.read(path), path)
    if owner != me:
        raise InvalidRequest(
            f"the log in {folder} was written by {owner!s}, not by {me!s}: it was copied or restored from elsewhere. "
            "Start this node with an empty data folder and add it to its cluster (docs/raft.md)",
            code="foreign_log",
        )


def _read(data: bytes, path: str) -> Peer:
    body, crc = data[:-4], data[-4:]
    if len(data) < 5 or google_crc32c.value(body).to_bytes(4, "little") != crc:
        raise Corrupt("the owner of this log cannot be read", path=path, offset=0)
    name, incarnation = cbor2.loads(body)
    return Peer(name, incarnation)
