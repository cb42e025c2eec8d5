"""How far queries on this node see: every logged record up to here is durable on the whole in-sync set.

It never goes back while the cluster keeps its promises, so a reader who has seen a row sees it again.
"""

from __future__ import annotations

import trio

from arc.ingest.buffer import Buffer


class Visibility:
    """The bound of a buffer, and those who wait for it. Begins with nothing visible."""

    def __init__(self, buffer: Buffer, through: int = 0) -> None:
        self._buffer = buffer
        self._more = trio.Event()
        self.through = buffer.visible = through

    def __repr__(self) -> str:
        return f"<Visibility through={self.through}>"

    def show(self, through: int) -> None:
        """Let queries see records up to here; what they see already stays."""
        if through > self.through:
            self.through = self._buffer.visible = through
            self._more.set()
            self._more = trio.Event()

    def take_back(self, through: int) -> None:
        """An operator accepted the loss of rows that were seen."""
        self.through = self._buffer.visible = min(through, self.through)

    async def wait(self, sequence: int) -> None:
        """Return once this record is visible here. The caller sets the time limit."""
        while self.through < sequence:
            await self._more.wait()
