"""Files from the shared store, asked for as if it were one more node: it answers the same questions.

So everything that guards a copy from another node guards one from there: pieces in a draft, resumed where they ended,
installed only when all of it has the manifest's hash, and another holder asked when it has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cbor2
import trio

from arc.catalog.facts import Catalog
from arc.errors import NotFound, Unavailable
from arc.ports import Workers
from arc.replication.fetch import KIND, Ask
from arc.storage.files import FileEntry
from arc.storage.shelf import Shelf

READS_MAX = 8
"""Under way at once, more wait: a store that hangs must not hold all the threads that the disks are served by."""

STORE_PIECE_BYTES = 1 << 20
"""Larger than between nodes: each piece is a request that is paid for, and shares no session with anything urgent."""


class StoreOrNodes:
    """An `Ask`: questions to the store by its name, all others to ``nodes``; None on a node alone.

    The time limit of whoever asks does not hold for the store: a request that is given up still has its thread, and its
    own settings bound it.
    """

    def __init__(self, shelf: Shelf, nodes: Ask | None, catalog: Callable[[], Catalog], workers: Workers) -> None:
        self._shelf = shelf
        self._nodes = nodes
        self._catalog = catalog
        self._workers = workers
        self._reads = trio.CapacityLimiter(READS_MAX)

    def __repr__(self) -> str:
        return f"<StoreOrNodes {self._shelf.name} reads={self._reads.borrowed_tokens}>"

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The answer. Raises NotFound, Unavailable, and what ``nodes`` raises."""
        if peer != self._shelf.name:
            if self._nodes is None:
                raise Unavailable(f"{peer} cannot be asked: this node is alone")
            return await self._nodes(peer, kind, question, timeout_seconds=timeout_seconds)
        if kind == KIND:
            return await self._read(*cbor2.loads(question))
        bodies = await self._read_several([path for path, _ in cbor2.loads(question)])
        answer: bytes = cbor2.dumps(bodies)
        return answer

    async def _read_several(self, paths: Sequence[str]) -> list[bytes | None]:
        """None for what is not there, and for what cannot be had now; raises Unavailable when that is all of it."""
        bodies: list[bytes | None] = [None] * len(paths)
        trouble: list[Unavailable] = []

        async def bring(place: int, entry: FileEntry) -> None:
            try:
                bodies[place] = await self._read(entry.path, entry.sha256, 0, entry.size_bytes)
            except NotFound:
                pass
            except Unavailable as error:
                trouble.append(error)

        catalog = self._catalog()
        async with trio.open_nursery() as nursery:
            for place, path in enumerate(paths):
                entry = catalog.file(path)
                if entry is not None:
                    nursery.start_soon(bring, place, entry)
        if trouble and not any(bodies):
            raise trouble[0]
        return bodies

    async def _read(self, path: str, sha256: str, offset: int, size: int) -> bytes:
        async with self._reads:
            return await self._workers.run(self._shelf.read_at, path, sha256, offset, size, abandon_on_cancel=True)
