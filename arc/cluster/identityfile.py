"""The identity of a node on its disk: every change is written down before anybody sees it.

What a change may be is decided by whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from arc.cluster.identity import (
    FIRST_INCARNATION,
    IDENTITY,
    Identity,
    founded_alone,
    read_identity,
    show_identity,
    with_uuid,
)
from arc.errors import ArcError, Corrupt, DiskFailed, InvalidRequest, Overloaded
from arc.ids import NodeId
from arc.ports import Disk, Rng, Workers, is_full


class IdentityFile:
    """The identity on disk; ``current`` is what stands there for certain."""

    def __init__(self, disk: Disk, workers: Workers, current: Identity) -> None:
        self._disk = disk
        self._workers = workers
        self._current = current
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<IdentityFile {self._current.peer} of {self._current.cluster_uuid or 'no cluster'}>"

    @property
    def current(self) -> Identity:
        """As it was last written."""
        return self._current

    async def change(self, edit: Callable[[Identity], Identity]) -> Identity:
        """Write what ``edit`` makes of it; one change at a time. What ``edit`` raises leaves all as it was.

        Raises Overloaded (the disk is full: nothing was changed), DiskFailed.
        """
        async with self._lock:
            changed = edit(self._current)
            if changed != self._current:
                await self._workers.run(_write, self._disk, changed)
                self._current = changed
            return changed


def open_identity(
    disk: Disk, workers: Workers, rng: Rng, *, now_us: int, chosen: str, is_alone: bool, address: str = ""
) -> IdentityFile:
    """The identity in the folder, or a new one, written; blocking.

    ``chosen`` is the configured name, empty to have one made up. ``is_alone``: a new folder founds a cluster of its
    own at once; no node that is configured as a member does (P-45).

    Raises InvalidRequest when another name is configured than the one the data was written under, Corrupt,
    Overloaded, DiskFailed.
    """
    if disk.exists(IDENTITY):
        kept = _read(disk)
        if chosen and chosen != kept.node:
            raise InvalidRequest(
                f'node.id = "{chosen}", but this data directory belongs to node "{kept.node}"; '
                "remove node.id from the configuration, or point node.data_dir to an empty folder"
            )
        identity = with_uuid(kept, rng)
        if identity != kept:
            _write(disk, identity)
        return IdentityFile(disk, workers, identity)
    identity = Identity(
        node=NodeId(chosen or f"arc-{rng.bytes(4).hex()}"),
        incarnation=FIRST_INCARNATION + int.from_bytes(rng.bytes(6), "big"),
        created_us=now_us,
    )
    if is_alone:
        identity = founded_alone(identity, rng, address)
    _write(disk, identity)
    return IdentityFile(disk, workers, identity)


def _read(disk: Disk) -> Identity:
    try:
        return read_identity(disk.read(IDENTITY))
    except (ValueError, KeyError, AttributeError, TypeError, ArcError) as error:
        raise Corrupt("the node's identity cannot be read", path=IDENTITY, offset=0) from error


def _write(disk: Disk, identity: Identity) -> None:
    try:
        disk.write_durable(IDENTITY, show_identity(identity))
    except OSError as error:
        if is_full(error):
            raise Overloaded(f"the disk has no room for the node's identity: {error}", code="disk_full") from error
        raise DiskFailed(f"the node's identity cannot be written: {error}") from error
