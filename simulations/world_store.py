"""The object store that the nodes of a world share: what was put stays, but it may be away, fail, and lose its answers.

It is in no machine, so nothing that happens to machines happens to it. A request fails before anything is done, or
after all of it: that is all that can be told of a store over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from arc.errors import NotFound, Unavailable
from arc.ports import Buffer
from arc.storage.objects import StoredObject
from simulations.chance import Stream
from simulations.world_disk import Dead, Session
from simulations.world_ports import EPOCH_US
from simulations.world_trace import Trace

SETTINGS = {
    "storage.backend": "s3",
    "storage.s3_bucket": "rows",
    "storage.s3_access_key_id": "somebody",
    "storage.s3_secret_access_key": "what the store wants to hear",
}
"""What a node is told of it."""


class Bucket:
    """What is stored, by key. A share ``fails`` of requests fails now and then; ``away_until`` is simulated time."""

    def __init__(self, chance: Stream, trace: Trace) -> None:
        self._chance = chance
        self._trace = trace
        self._fails = chance.choice((0.0, 0.0, 0.05))
        self.away_until = 0.0
        self.bodies: dict[str, bytes] = {}
        self.put_us: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Bucket objects={len(self.bodies)}>"

    def calm(self) -> None:
        """It is there, and nothing fails any more."""
        self.away_until, self._fails = 0.0, 0.0

    def ask(self, what: str, key: str) -> None:
        """A request has come. Raises Unavailable when it is lost."""
        self._trace.note("store", what, key)
        if trio.current_time() < self.away_until or self._chance.random() < self._fails:
            self._trace.probe("store_did_not_answer")
            raise Unavailable("the store does not answer", code="storage_unavailable")

    def answer(self) -> None:
        """It is done. Raises Unavailable when nobody will know."""
        if self._chance.random() < self._fails:
            self._trace.probe("store_lost_an_answer")
            raise Unavailable("the store did not answer in time", code="storage_unavailable")

    def put(self, key: str, data: bytes) -> None:
        """Store it unless it is there. Raises Unavailable."""
        if self.bodies.setdefault(key, data) != data:
            raise Unavailable(f"{key} is there with other bytes", code="object_conflict")
        self.put_us.setdefault(key, EPOCH_US + round(trio.current_time() * 1e6))  # Its own clock.


class Door:
    """`arc.storage.objects.Objects` for one process: who is dead reaches nothing."""

    name = "s3://rows/"

    def __init__(self, bucket: Bucket, session: Session) -> None:
        self._bucket = bucket
        self._session = session

    def check(self) -> None:
        """As the start of a node asks."""
        self._ask("check", "")

    def put(self, key: str, data: Buffer, sha256: str) -> None:
        """Store an object that is not there yet."""
        self._ask("put", key)
        self._bucket.put(key, bytes(data))
        self._bucket.answer()

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """Bytes of an object."""
        self._ask("read", key)
        if key not in self._bucket.bodies:
            raise NotFound(f"{key} is not there", code="not_here")
        return self._bucket.bodies[key][offset : offset + size]

    def size(self, key: str) -> int | None:
        """Length in bytes."""
        self._ask("size", key)
        return len(self._bucket.bodies[key]) if key in self._bucket.bodies else None

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects."""
        for key in keys:
            self._ask("remove", key)
            self._bucket.bodies.pop(key, None)
        self._bucket.answer()

    def page(self, folder: str, after: str, limit: int) -> list[StoredObject]:
        """Some of a listing."""
        self._ask("page", folder)
        bucket = self._bucket
        found = [key for key in sorted(bucket.bodies) if key.startswith(f"{folder}/") and key > after]
        return [
            StoredObject(key=key, size_bytes=len(bucket.bodies[key]), modified_us=bucket.put_us[key])
            for key in found[:limit]
        ]

    def _ask(self, what: str, key: str) -> None:
        if self._session.is_dead:
            raise Dead
        self._bucket.ask(what, key)
