"""The end of a job: asks for the swap until the outcome is known, and sees to the copies before each time.

An outcome that is not known is asked for again, with the same files; also when nobody leads just now. Nodes that have
the outputs do not keep them for ever while the manifest does not have them, so they are told again, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from arc.catalog.values import DeleteSource
from arc.compaction.ports import Copies, Swap
from arc.compaction.tally import Tally
from arc.errors import OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.storage.files import FileEntry

RETRY_SECONDS = 1.0


class Swapping:
    """``tally`` is told why it takes long."""

    def __init__(self, swap: Swap, copies: Copies, tally: Tally) -> None:
        self._swap, self._copies, self._tally = swap, copies, tally

    def __repr__(self) -> str:
        return f"<Swapping with {self._swap!r}>"

    async def spread(self, outputs: Sequence[FileEntry]) -> Sequence[NodeId]:
        """`Copies.spread`: before the first `swap`, while the job can still be given up. Raises Unavailable."""
        return await self._copies.spread(outputs)

    async def swap(
        self, job: int, outputs: Sequence[FileEntry], sources: Sequence[str], holders: Sequence[NodeId]
    ) -> None:
        """Return when the outputs stand for the sources, given by path. Raises Conflict: they never will."""
        deletes = [DeleteSource(path=path, reason=f"compaction:{job}") for path in sources]
        while True:
            try:
                await self._swap.batch_file_ops(outputs, deletes, holders)
                return
            except (Unavailable, OutcomeUnknown) as problem:
                self._tally.last_error = problem.message
            await trio.sleep(RETRY_SECONDS)
            try:
                holders = await self._copies.spread(outputs)
            except Unavailable as problem:
                self._tally.last_error = problem.message
