"""A shared store in memory, with faults."""

from __future__ import annotations

from collections.abc import Sequence

from arc.errors import NotFound, Unavailable
from arc.ports import Buffer
from arc.storage.objects import StoredObject


class MemoryObjects:
    """``is_down``: nobody answers. ``lose_answers``: so many puts are stored, and told to have failed."""

    def __init__(self, name: str = "s3://rows/") -> None:
        self.name = name
        self.is_down = False
        self.lose_answers = 0
        self.wall_us = 0
        self.bodies: dict[str, bytes] = {}
        self.put_us: dict[str, int] = {}
        self.reads: list[tuple[str, int, int]] = []

    def check(self) -> None:
        self._ask()

    def put(self, key: str, data: Buffer, sha256: str) -> None:
        self._ask()
        if self.bodies.setdefault(key, bytes(data)) != bytes(data):
            raise Unavailable("is there with other bytes", code="object_conflict")
        self.put_us.setdefault(key, self.wall_us)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable("the answer was lost", code="storage_unavailable")

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        self._ask()
        self.reads.append((key, offset, size))
        if key not in self.bodies:
            raise NotFound("not there", code="not_here")
        return self.bodies[key][offset : offset + size]

    def size(self, key: str) -> int | None:
        self._ask()
        return len(self.bodies[key]) if key in self.bodies else None

    def remove(self, keys: Sequence[str]) -> None:
        self._ask()
        for key in keys:
            self.bodies.pop(key, None)

    def page(self, folder: str, after: str, limit: int) -> list[StoredObject]:
        self._ask()
        found = [key for key in sorted(self.bodies) if key.startswith(f"{folder}/") and key > after]
        return [
            StoredObject(key=key, size_bytes=len(self.bodies[key]), modified_us=self.put_us[key])
            for key in found[:limit]
        ]

    def _ask(self) -> None:
        if self.is_down:
            raise Unavailable("nobody answers", code="storage_unavailable")
