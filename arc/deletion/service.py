"""The door for orders to delete: carried out here while this node holds the writer lease, else by the node that does.

An order is carried out in a task of its own, so that a failed disk stops the node and not just the request, and so that
a drop, once begun, does not depend on somebody waiting for it. A delete ends when nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from arc.catalog.commands import WRITER
from arc.catalog.facts import Catalog
from arc.deletion.config import DeleteConfig
from arc.deletion.deleter import DeleteStatistics
from arc.deletion.dropper import DropStatistics
from arc.deletion.orders import (
    DeleteOrder,
    DropOrder,
    Order,
    Outcome,
    pack_order,
    pack_outcome,
    unpack_order,
    unpack_outcome,
)
from arc.deletion.ports import Ask
from arc.errors import ArcError, Conflict, DiskFailed, Forbidden, OutcomeUnknown, Unavailable
from arc.ids import NodeId

KIND = "delete"
"""Of the question between nodes."""

ANSWER_SECONDS = 3600.0
"""How long the holder of the lease may take; whoever asked may hang up sooner."""

SEEN_SECONDS = 10.0
"""How long this node waits until it sees what another one did."""


class Deletes(Protocol):
    """`deleter.Deleter`."""

    async def delete(self, order: DeleteOrder) -> Outcome:
        """See there."""
        ...

    def statistics(self) -> DeleteStatistics:
        """See there."""
        ...


class Drops(Protocol):
    """`dropper.Dropper`."""

    async def drop(self, order: DropOrder) -> Outcome:
        """See there."""
        ...

    def statistics(self) -> DropStatistics:
        """See there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionStatistics:
    """What this node carried out, and orders that it passed on."""

    deletes: DeleteStatistics
    drops: DropStatistics
    passed_on_total: int
    running: int


@dataclass(slots=True)
class _Work:
    order: Order
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome | None = None
    error: ArcError | None = None


class Deletions:
    """``ask`` is None on a node alone. ``wait_index`` returns once the catalog here has reached an index."""

    def __init__(
        self,
        config: DeleteConfig,
        deleter: Deletes,
        dropper: Drops,
        catalog: Callable[[], Catalog],
        *,
        node: NodeId,
        ask: Ask | None,
        wait_index: Callable[[int], Awaitable[object]],
    ) -> None:
        self.config = config
        self._deleter = deleter
        self._dropper = dropper
        self._catalog = catalog
        self._node = node
        self._ask = ask
        self._wait_index = wait_index
        self._nursery: trio.Nursery | None = None
        self._passed_on = self._running = 0

    def __repr__(self) -> str:
        return f"<Deletions {self._node} running={self._running}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out orders until cancelled. Raises DiskFailed, after which the node must stop."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def execute(self, order: Order) -> Outcome:
        """Carry an order out, wherever the lease is; this node sees it on return.

        Raises Forbidden (not enabled), and what `Deleter.delete` and `Dropper.drop` raise.
        """
        self._require_enabled()
        lease = self._catalog().leases.get(WRITER)
        if lease is None:
            raise Unavailable("nobody holds the writer lease: nothing can be deleted now")
        if lease.holder == self._node or self._ask is None:
            return await self._here(order)
        self._passed_on += 1
        answer = await self._ask(lease.holder, KIND, pack_order(order), timeout_seconds=ANSWER_SECONDS)
        outcome = unpack_outcome(answer)
        with trio.move_on_after(SEEN_SECONDS):
            await self._wait_index(outcome.index)
        return outcome

    async def answer(self, peer: object, question: bytes) -> bytes:
        """Another node passes an order on. Raises as `execute`, and InvalidRequest."""
        self._require_enabled()
        return pack_outcome(await self._here(unpack_order(question)))

    def _require_enabled(self) -> None:
        if not self.config.enabled:
            raise Forbidden(
                "delete is not enabled: set delete.enabled in the configuration of every node", code="delete_disabled"
            )

    async def _here(self, order: Order) -> Outcome:
        if self._nursery is None:
            raise Unavailable("this node is starting or stopping: nothing can be deleted now")
        work = _Work(order)
        self._nursery.start_soon(self._carry_out, work)
        try:
            await work.done.wait()
        except BaseException:
            if isinstance(order, DeleteOrder):
                work.scope.cancel()
            raise
        if work.outcome is not None:
            return work.outcome
        raise work.error or OutcomeUnknown("the node stopped meanwhile; look what is left, and ask again")

    async def _carry_out(self, work: _Work) -> None:
        self._running += 1
        try:
            with work.scope:
                if isinstance(work.order, DeleteOrder):
                    work.outcome = await self._deleter.delete(work.order)
                else:
                    work.outcome = await self._dropper.drop(work.order)
        except DiskFailed as error:
            work.error = OutcomeUnknown(f"the disk failed, and the node stops: {error.message}")
            raise
        except Conflict as error:
            # Whoever asks again is brought to the node that holds the lease by then.
            work.error = Unavailable(error.message) if error.code == "stale_epoch" else error
        except ArcError as error:
            work.error = error
        finally:
            self._running -= 1
            work.done.set()

    def statistics(self) -> DeletionStatistics:
        """Numbers for status and metrics."""
        return DeletionStatistics(
            deletes=self._deleter.statistics(),
            drops=self._dropper.statistics(),
            passed_on_total=self._passed_on,
            running=self._running,
        )
