"""What the writer lease obliges on every node: to hold it, to follow who holds it, or neither. One nursery per lease.

The log, the buffer that mirrors it and the idempotency keys are open for the whole life of the node, whoever writes, so
that taking over is nothing but beginning: stop following, keep the log as it is, open the intake. Nothing is decided
here: the catalog says who holds the lease, the parts are built, handed their neighbours, started and cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

import trio

from arc.catalog.fsm import Catalog, Lease
from arc.catalog.roles import NodeRole
from arc.catalog.values import WRITER
from arc.duties.doors import Doors
from arc.duties.reign import House, Reign, flush_last, recover, release_followed, require_log
from arc.duties.standing import (
    Changes,
    Feed,
    Report,
    WriterStatistics,
    able_nodes,
    replication_statistics,
    role_of,
    touched,
)
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.ingest.buffer import Buffer, Key
from arc.ingest.config import IngestConfig
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.memory import MemoryBudget
from arc.ingest.mirror import Mirror
from arc.ingest.replay import NOTHING_RECOVERED, Progress
from arc.ingest.requests import WriteRequest, Written
from arc.ingest.retirement import Retirement
from arc.ingest.settlement import Propose
from arc.ingest.visibility import Visibility
from arc.ports import Ports
from arc.replication.copies import Kept
from arc.replication.crossing import Replication
from arc.replication.log import MemoryOnly, ReplicaLog
from arc.replication.ports import Post
from arc.replication.receiver import Receiver
from arc.storage.config import StorageConfig, WalConfig
from arc.storage.shelf import Shelf
from arc.storage.wal.history import History
from arc.storage.wal.log import WalLog
from arc.telemetry import Log

TICK_SECONDS = 1.0
"""Between looks at disk space and lease. At 1 GB/s a reserve of 256 MiB lasts a quarter of it: the log refuses too."""

SOON_SECONDS = 0.1
"""The same while the leader is not heard: clients wait for the moment in which it is."""


class WriterDuty:
    """The rows of this node: written here while it holds the lease, followed while another does.

    ``post`` is None on a node alone. ``is_readable`` says whether a file of the manifest can be read on this node now,
    ``stored`` is told of files that were written here; ``factor`` is on how many disks a file must be for others to
    forget its rows, unless ``shelf``, which all nodes share, has it; ``leader_heard`` is how many seconds ago the
    leader of the cluster was heard, reckoned from when it spoke at the earliest; ``confirm`` is as in `House`.
    """

    def __init__(
        self,
        *,
        ingest: IngestConfig,
        wal: WalConfig,
        storage: StorageConfig,
        ports: Ports,
        node: NodeId,
        catalog: Callable[[], Catalog],
        feed: Feed,
        propose: Propose,
        buffer: Buffer,
        replication: Replication,
        post: Post | None,
        is_readable: Callable[[str], bool],
        stored: Callable[[str], None],
        factor: int,
        leader_heard: Callable[[], float],
        confirm: Callable[[], Awaitable[object]],
        log: Log,
        shelf: Shelf | None = None,
    ) -> None:
        self._ingest_config = ingest
        self._wal_config = wal
        self._ports = ports
        self._node = node
        self._catalog = catalog
        self._feed = feed
        self._propose = propose
        self._buffer = buffer
        self._replication = replication
        self._post = post
        self._is_readable = is_readable
        self._stored, self._shelf = stored, shelf
        self._leader_heard, self._confirm = leader_heard, confirm
        self._log = log.bind(component="writer")
        self._memory = MemoryBudget(ingest.memory_bytes, lambda: buffer.size_bytes)
        window_us = int(wal.idempotency_window_seconds * 1e6)
        self._keys = IdempotencyKeys(window_us, wal.idempotency_keys_max, ports.clock.now)
        self._visibility = Visibility(buffer)
        self._kept = Kept(me=node, catalog=catalog, is_here=is_readable, factor=factor, shelf=shelf)
        self._retirement = Retirement(buffer, catalog, is_readable, ingest.memory_bytes // 4)
        self._not_open = "the write-ahead log is being recovered"
        self.doors = Doors(wal, storage, ports, self._log)
        self._has_seen_all = self._is_log_kept = self._is_stopping = False
        self._wal: WalLog | None = None
        self._replica: ReplicaLog | None = None
        self._house: House | None = None
        self._reign: Reign | None = None
        self._receiver: Receiver | None = None
        self._turn: trio.CancelScope | None = None
        self._turned = trio.Event()

    def __repr__(self) -> str:
        return f"<WriterDuty {self._node} {self._reign or self._receiver or self._not_open!r}>"

    # -------------------------------------------------------------------------------------------------------- the life

    async def run(self, report: Report, *, task_status: trio.TaskStatus[Progress] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover the log, then hold or follow as the catalog says, until cancelled. Raises Corrupt, DiskFailed."""
        able = self._role().capabilities
        recovered = NOTHING_RECOVERED
        if able.can_ingest:
            recovered = await self._recover(report)
        elif able.can_query and self._post is not None:
            self._replica = ReplicaLog(MemoryOnly(), History(), tail_bytes_max=1)
        else:
            self._not_open = f"this node is a {self._role()}"
            self._has_seen_all = True
            task_status.started(recovered)
            while True:
                await self.doors.look_at_space()
                await trio.sleep(TICK_SECONDS)
        replica = self._replica
        assert replica is not None, self
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self.doors.watch_disk, lambda: replica.overdue_seconds)
            await nursery.start(self._take_turns)
            task_status.started(recovered)

    async def _recover(self, report: Report) -> Progress:
        wal, history, recovered = await recover(
            self._wal_config,
            self._ports,
            catalog=self._catalog(),
            buffer=self._buffer,
            keys=self._keys,
            is_readable=self._is_readable,
            report=report,
            tell=self._log,
        )
        self._wal = wal
        self._replica = ReplicaLog(wal, history, tail_bytes_max=self._wal_config.follower_window_bytes)
        self._house = House(
            node=self._node,
            ports=self._ports,
            ingest=self._ingest_config,
            wal_config=self._wal_config,
            catalog=self._catalog,
            propose=self._propose,
            confirm=self._confirm,
            able=self._able,
            kept=self._kept,
            post=self._post,
            replication=self._replication,
            stored=self._stored,
            shelf=self._shelf,
            retire=lambda key: self._settle([key]),
            wal=wal,
            log=self._replica,
            buffer=self._buffer,
            keys=self._keys,
            memory=self._memory,
            visibility=self._visibility,
            tell=self._log,
        )
        return recovered

    async def _take_turns(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One nursery per lease, opened when it is granted and cancelled when it is gone."""
        with self._feed.subscribe() as changes:
            catalog = self._feed.catalog
            self._settle(self._buffer.keys())
            while not self._is_stopping:
                lease = catalog.leases.get(WRITER)
                async with trio.open_nursery() as nursery:
                    self._turn = nursery.cancel_scope
                    await nursery.start(self._turn_of, lease, catalog)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    catalog = await self._until_other(changes, lease)
                    nursery.cancel_scope.cancel()
            self._turned.set()
            await trio.sleep_forever()

    async def _turn_of(
        self, lease: Lease | None, catalog: Catalog, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        if lease is None:
            self._not_open = "nobody holds the writer lease"
            task_status.started()
        elif lease.holder == self._node and self._house is not None:
            await self._hold(self._house, lease, catalog, task_status)
        else:
            self._not_open = f"the writer lease is held by {lease.holder}"
            task_status.started()
            if self._post is not None:
                await self._follow(self._post, lease)

    async def _hold(self, house: House, lease: Lease, catalog: Catalog, task_status: trio.TaskStatus[None]) -> None:
        restart_at = require_log(house.wal, catalog)
        if restart_at is not None:
            # Rows of the log stay in the buffer, and become files as soon as anything can.
            self._log.error("log_restarted", first=restart_at, reason="an operator promoted a node that lacked records")
            await house.log.restart(restart_at, [])
        members = catalog.in_sync.members if catalog.in_sync is not None else (self._node,)
        self._reign = reign = Reign(house, lease.epoch, members)
        self._log.info("reign_begins", epoch=lease.epoch, next=house.log.next_sequence, in_sync=", ".join(members))
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(reign.run)
                self.doors.begin(reign.intake)
                task_status.started()
                if restart_at is not None:
                    nursery.start_soon(reign.flusher.flush_all)
        finally:
            self._not_open = "this node does not hold the writer lease any more"
            self._reign = None
            self.doors.end()
            self._log.info("reign_ends", epoch=lease.epoch, next=house.log.next_sequence)

    async def _follow(self, post: Post, lease: Lease) -> None:
        assert self._replica is not None
        self._receiver = receiver = Receiver(
            holder=lease.holder,
            epoch=lease.epoch,
            log=self._replica,
            rows=Mirror(
                buffer=self._buffer,
                keys=self._keys,
                visibility=self._visibility,
                retirement=self._retirement,
                catalog=self._catalog,
                clock=self._ports.clock,
            ),
            kept=self._kept,
            post=post,
            wait_index=self._feed.wait_index,
            workers=self._ports.workers,
            rng=self._ports.rng,
            is_memory=self._wal is None,
            tell=self._log.bind(component="receiver"),
        )
        try:
            with self._replication.at(receiver):
                await receiver.run()
        finally:
            self._has_seen_all = self._has_seen_all or receiver.is_live
            self._receiver = None

    async def _until_other(self, changes: Changes, lease: Lease | None) -> Catalog:
        """Take in what the catalog becomes, until the lease has another epoch."""
        while True:
            change = await changes.receive()
            catalog = change.catalog
            self._settle(touched(change.events, self._buffer.keys()))
            if catalog.lease_epoch(WRITER) != (lease.epoch if lease is not None else 0):
                return catalog
            # Of now and not of this step: whoever asked for the next set may have taken it in already.
            in_sync = self._catalog().in_sync
            if self._reign is not None and in_sync is not None and in_sync.epoch == self._reign.epoch:
                self._reign.durability.agree(in_sync.members)

    def _settle(self, keys: Sequence[Key]) -> None:
        evicted = self._retirement.settle(keys)
        if evicted:
            self._log.warning(
                "kept_rows_dropped",
                measurements=", ".join(map(str, evicted)),
                reason="their files cannot be read on this node, and the rows take too much memory",
                effect="queries on them are refused here until the files have come",
            )

    # ------------------------------------------------------------------------------------------------------- the watch

    async def _watch(self) -> None:
        while True:
            await (self.doors.watch_space() if self._wal is not None else self.doors.look_at_space())
            if self._reign is not None:
                silent = self._leader_heard() if len(self._able()) > 1 else 0.0
                self.doors.watch_lease(silent, self._reign.durability)
            # Files that came since make rows needless, and these the segments that held them.
            self._settle(self._buffer.kept())
            if self._wal is not None and self._reign is None:
                kept = await release_followed(
                    self._wal,
                    self._wal_config,
                    self._buffer,
                    self._keys,
                    able=self._able(),
                    kept=self._kept,
                    visible=self._visibility.through,
                )
                if kept is not None and not self._is_log_kept:
                    self._log.warning("wal_not_released", reason=kept, next_step="tried again until there is room")
                self._is_log_kept = kept is not None
            await trio.sleep(
                SOON_SECONDS if self.doors.is_lease_over else min(TICK_SECONDS, self._wal_config.lease_seconds / 4)
            )

    # ----------------------------------------------------------------------------------------------------------- facts

    def _role(self) -> NodeRole:
        return role_of(self._catalog(), self._node)

    def _able(self) -> list[str]:
        return able_nodes(self._catalog(), self._node) if self._post is not None else [self._node]

    @property
    def closed_because(self) -> str | None:
        """Why no writes are taken; None while they are."""
        if self._reign is None:
            return self._not_open
        return self._reign.intake.closed_because or self._reign.durability.short

    @property
    def behind(self) -> str | None:
        """Why queries may lack acknowledged rows here; None once this node has heard how far the log is and has it."""
        if self._has_seen_all:
            return None
        receiver, reign = self._receiver, self._reign
        if (receiver is not None and receiver.is_live) or (
            reign is not None and self._visibility.through >= reign.first_sequence - 1
        ):
            self._has_seen_all = True
        return None if self._has_seen_all else "this node has not heard yet which of its rows are durable everywhere"

    @property
    def durable_sequence(self) -> int:
        """How far the log is on the disk of this node."""
        return self._replica.next_sequence - 1 if self._replica is not None else 0

    @property
    def inherited_sequence(self) -> int:
        """The last record that may have been acknowledged before this node's reign; without one, before now."""
        return self._reign.first_sequence - 1 if self._reign is not None else self.durable_sequence

    @property
    def admitted_sequence(self) -> int:
        """How far queries here see."""
        return self._visibility.through

    # ----------------------------------------------------------------------------------------- for the API and others

    async def write(self, request: WriteRequest) -> Written:
        """`Intake.write`. Raises Unavailable while there is no intake."""
        return await self.require_reign().intake.write(request)

    async def wait_admitted(self, sequence: int) -> None:
        """Return once the rows of this record are visible here, whoever wrote it. The caller sets the time limit."""
        await self._visibility.wait(sequence)

    def reserve(self, size_bytes: int) -> AbstractContextManager[None]:
        """Count a request's bytes while it is read and decoded. Raises Overloaded."""
        return self._memory.reserve(size_bytes)

    async def flush_all(self) -> None:
        """`Reign.flush_all`. Raises Unavailable."""
        await self.require_reign().flush_all()

    def require_reign(self) -> Reign:
        """What this node does while it holds the lease, as far as it knows. Raises Unavailable."""
        if self._reign is None:
            raise Unavailable(f"this node takes no writes now: {self.closed_because}")
        return self._reign

    async def hand_over(self, target: NodeId) -> None:
        """Take no more writes, and return when ``target`` has every record: then the lease may be given to it.

        Whoever calls this assigns the lease, or calls `take_back`. Raises Unavailable when this node does not hold it.
        The caller sets the time limit; after it writes are taken again.
        """
        if self._reign is None:
            raise Unavailable(f"there is nothing to hand over: {self.closed_because}")
        self.doors.close("hand-over", f"the writer lease is being handed over to {target}")
        try:
            await self._reign.intake.drain()
            await self._reign.wait_copied(target)
        except BaseException:
            self.take_back()
            raise

    def take_back(self) -> None:
        """The hand-over does not happen: take writes again."""
        self.doors.open("hand-over")

    def close(self, reason: str) -> None:
        """Take no more writes, for good; those inside go on."""
        self.doors.close("stop", reason)

    async def finish(self) -> None:
        """The orderly end: answer every write inside, move all rows to files, mark the end of the log.

        What cannot be flushed stays in the WAL, where the next start finds it.
        """
        if self._wal is None:
            return
        if self._reign is not None:
            with trio.move_on_after(self._ingest_config.write_timeout_seconds):
                await self._reign.intake.drain()
            await flush_last(self._reign.flusher.flush_all, self._log)
        self._is_stopping = True
        if self._turn is not None:
            self._turn.cancel()
            await self._turned.wait()
        await self._wal.close()

    def statistics(self) -> WriterStatistics | None:
        """The write path in numbers; None before it is open."""
        if self._replica is None:
            return None
        reign, receiver = self._reign, self._receiver
        return WriterStatistics(
            memory=self._memory.statistics(),
            buffer=self._buffer.statistics(),
            replication=replication_statistics(
                self._catalog(),
                self._replica,
                receiver.statistics() if receiver is not None else None,
                is_holder=reign is not None,
                visible=self._visibility.through,
                messages=self._replication.statistics(),
            ),
            reign=reign.statistics() if reign is not None else None,
            wal=self._wal.statistics() if self._wal is not None else None,
        )
