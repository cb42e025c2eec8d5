"""What holding the writer lease obliges, for the length of one epoch: intake, flush, stream to the followers and the
in-sync set, built under that epoch and ended with it.

A reign begins with the log as it is: what this node has followed is its own now. It asks nobody. Nothing is decided
here; parts are built, handed their neighbours and started in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import trio

from arc.catalog.fsm import Catalog
from arc.catalog.values import WRITER
from arc.cluster.registrar import FileRegistrar, RegistrarStatistics
from arc.errors import Corrupt, DiskFailed, Unavailable
from arc.ids import Epoch, NodeId
from arc.ingest.buffer import EVERYTHING, Buffer, Key
from arc.ingest.config import IngestConfig
from arc.ingest.flush import Flusher, FlushStatistics, release_log
from arc.ingest.holds import Hold
from arc.ingest.intake import Intake, IntakeStatistics
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.memory import MemoryBudget
from arc.ingest.replay import Progress, replay
from arc.ingest.rescue import Rescuer, RescueStatistics
from arc.ingest.settlement import Propose
from arc.ingest.visibility import Visibility
from arc.ports import Ports, is_full
from arc.replication.copies import Kept
from arc.replication.crossing import Replication
from arc.replication.durability import Durability
from arc.replication.keeper import InSyncKeeper, InSyncStatistics
from arc.replication.log import ReplicaLog
from arc.replication.ports import Facts, Post
from arc.replication.sender import Sender, SenderStatistics
from arc.replication.watermark import Watermark
from arc.storage.config import WalConfig
from arc.storage.shelf import Shelf
from arc.storage.wal.history import History
from arc.storage.wal.keys import FOLDER, load_keys
from arc.storage.wal.log import WalLog
from arc.telemetry import Log

FINISH_SECONDS = 30.0
"""An orderly stop waits so long for the last flush, which cannot end while nobody leads the cluster. The rows are in
the log; whoever stops services gives up after 90 s and kills.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a node has before, during and after every reign: its log in all forms, and its surroundings.

    ``confirm`` returns when the catalog here has all that was agreed on before the call, and raises Unavailable where
    no leader says so. ``able`` are the nodes of the cluster that may take over, this one included; ``kept`` says what
    of the log must stay for files with too few copies; ``post`` is None on a node alone.
    ``stored`` is told of every file that a flush has written; ``shelf`` is the store that all nodes share, if any.
    """

    node: NodeId
    ports: Ports
    ingest: IngestConfig
    wal_config: WalConfig
    catalog: Callable[[], Catalog]
    propose: Propose
    confirm: Callable[[], Awaitable[object]]
    able: Callable[[], Collection[str]]
    kept: Kept
    post: Post | None
    replication: Replication
    stored: Callable[[str], None]
    shelf: Shelf | None
    retire: Callable[[Key], None]
    wal: WalLog
    log: ReplicaLog
    buffer: Buffer
    keys: IdempotencyKeys
    memory: MemoryBudget
    visibility: Visibility
    tell: Log


@dataclass(frozen=True, slots=True, kw_only=True)
class ReignStatistics:
    """What only the holder of the lease has."""

    ingest: IntakeStatistics
    flush: FlushStatistics
    registrar: RegistrarStatistics
    sender: SenderStatistics
    in_sync: InSyncStatistics
    rescue: RescueStatistics


async def recover(
    config: WalConfig,
    ports: Ports,
    *,
    catalog: Catalog,
    buffer: Buffer,
    keys: IdempotencyKeys,
    is_readable: Callable[[str], bool],
    report: Callable[[Progress], None],
    tell: Log,
) -> tuple[WalLog, History, Progress]:
    """Open the log and fill buffer, keys and history from it. Raises Corrupt."""
    first = 1 + catalog.last_marked()
    wal = await ports.workers.run(
        lambda: WalLog.open(ports.disk, ports.workers, ports.clock, config, first_sequence=first)
    )
    if wal.dropped_tail is not None:
        # Nobody was told that these bytes are stored; recycled files end this way after every crash.
        tell.info("wal_tail_dropped", reason=wal.dropped_tail)
    history = History()
    recovered = await replay(
        wal,
        catalog=catalog,
        buffer=buffer,
        keys=keys,
        stored_keys=await ports.workers.run(load_keys, ports.disk),
        clock=ports.clock,
        workers=ports.workers,
        report=report,
        history=history,
        is_readable=is_readable,
    )
    return wal, history, recovered


class Reign:
    """The writer lease in ``epoch``."""

    def __init__(self, house: House, epoch: Epoch, members: Collection[str]) -> None:
        self.epoch = epoch
        self.first_sequence = house.log.next_sequence
        """Of the epoch; what lies below was written in earlier ones."""
        self._house = house
        ports, wal = house.ports, house.wal_config
        self.durability = Durability(
            Watermark(house.node, members, high=house.visibility.through),
            house.node,
            house.log,
            level=wal.write_level,
            min_insync=self._min_insync,
        )
        facts = Facts(
            catalog=house.catalog,
            oldest_needed=self._oldest_needed,
            keys=house.keys.below,
            able=house.able,
            least=self._min_insync,
        )
        self.sender = Sender(
            epoch=epoch,
            log=house.log,
            durability=self.durability,
            facts=facts,
            post=house.post if house.post is not None else _to_nobody,
            clock=ports.clock,
            window_bytes=wal.follower_window_bytes,
            tell=house.tell.bind(component="sender"),
        )
        self.keeper = InSyncKeeper(
            me=house.node,
            epoch=epoch,
            client=f"in-sync/{house.node}/{ports.rng.bytes(8).hex()}",
            stream=self.sender,
            durability=self.durability,
            facts=facts,
            propose=house.propose,
            clock=ports.clock,
            timeout_seconds=wal.lag_timeout_seconds,
            tell=house.tell.bind(component="in-sync"),
        )
        self.intake = Intake(
            config=house.ingest,
            group_bytes=wal.group_bytes,
            epoch=epoch,
            clock=ports.clock,
            workers=ports.workers,
            catalog=house.catalog,
            propose=house.propose,
            log=house.log,
            durability=self.durability,
            buffer=house.buffer,
            keys=house.keys,
            memory=house.memory,
            visibility=house.visibility,
        )
        self.registrar = FileRegistrar(house.propose, house.catalog, epoch, house.tell)
        self.rescuer = Rescuer(
            node=house.node,
            epoch=epoch,
            lost=house.kept.nowhere,
            wal=house.wal,
            propose=house.propose,
            stored=house.stored,
            clock=ports.clock,
            disk=ports.disk,
            workers=ports.workers,
            log=house.tell,
        )
        self.flusher = Flusher(
            config=house.ingest,
            wal_bytes_max=wal.max_bytes,
            node=house.node,
            epoch=epoch,
            clock=ports.clock,
            disk=ports.disk,
            workers=ports.workers,
            buffer=house.buffer,
            keys=house.keys,
            wal=house.wal,
            registrar=self.registrar,
            admitted=lambda: self.durability.high,
            needed_from=self._needed_from,
            stored=house.stored,
            retire=house.retire,
            log=house.tell,
            shelf=house.shelf,
        )

    def __repr__(self) -> str:
        return f"<Reign {self.epoch} {self.intake!r} {self.sender!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take writes until cancelled; whoever is inside then is answered. Raises DiskFailed."""
        house = self._house
        house.visibility.show(self.durability.high)
        try:
            with house.replication.at(self.sender):
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.intake.run)
                    await nursery.start(self.flusher.run)
                    if house.post is not None:
                        nursery.start_soon(self.sender.run, house.replication.connected())
                        nursery.start_soon(self.keeper.run)
                    nursery.start_soon(self.rescuer.run)
                    nursery.start_soon(self._show)
                    task_status.started()
        finally:
            self.durability.end()

    def statistics(self) -> ReignStatistics:
        """Numbers for status and metrics."""
        return ReignStatistics(
            ingest=self.intake.statistics(),
            flush=self.flusher.statistics(),
            registrar=self.registrar.statistics(),
            sender=self.sender.statistics(),
            in_sync=self.keeper.statistics(),
            rescue=self.rescuer.statistics(),
        )

    async def _show(self) -> None:
        """What is durable on the whole in-sync set is visible, though it may not be acknowledged yet."""
        seen = 0
        while True:
            seen = await self.durability.wait_high(seen)
            self._house.visibility.show(seen)

    async def confirm(self) -> None:
        """Return once the cluster has confirmed that this reign stood when this was called: until then no other holder
        had told anybody that a row is stored, and the catalog here is as new. A node that stood still does not know at
        first that it was replaced (world seed 730808). Raises Unavailable.
        """
        await self._house.confirm()
        if self._house.catalog().lease_epoch(WRITER) != self.epoch:
            raise Unavailable("this node does not hold the writer lease any more", code="not_holder")

    async def wait_copied(self, target: str) -> None:
        """Return when ``target`` is in sync and has every record of the log on its disk. Raises Unavailable when the
        reign ended before.
        """
        log = self._house.log
        while target not in self.durability.members or self.durability.confirmed(target) < log.next_sequence - 1:
            if self.durability.is_over:
                raise Unavailable("the writer lease went elsewhere meanwhile")
            await log.pulse.wait()

    async def flush_rows(self, database: str, measurement: str) -> int:
        """A record: all that anybody was told to be stored lies below or at it, and what of it is of this measurement
        is in files on return. Raises Unavailable.
        """
        through = await self.wait_known()
        await self.flusher.flush_all(lambda key: key == Key(database, measurement))
        return through

    async def flush_all(self) -> None:
        """All rows that anybody was told to be stored into files. Raises Unavailable."""
        await self.wait_known()
        await self.flusher.flush_all()

    async def wait_known(self) -> int:
        """Return, as a record, how far anybody was told that rows are stored, once all up to it may be flushed.

        A reign does not know at its beginning which records of the ones before were acknowledged: all that are in the
        log here may have been, and none is flushed before the in-sync set has it. Raises Unavailable when that takes
        too long, and when nobody can `confirm` the reign.
        """
        await self.confirm()
        through = max(self.first_sequence - 1, self._house.visibility.through)
        limit = self._house.ingest.write_timeout_seconds
        with trio.move_on_after(limit):
            await self._house.visibility.wait(through)
            return through
        raise Unavailable(
            f"the in-sync set has not confirmed record {through} within {limit:g} s: nobody knows yet what is stored"
        )

    async def hold_rows(self, database: str, measurement: str | None) -> Hold:
        """Keep rows of a database, or of one measurement, out until the hold is released; all that were let in before
        are in files. Writers wait meanwhile. Raises Unavailable, and then nothing is held.
        """

        def wanted(key: Key) -> bool:
            return key.database == database and measurement in (None, key.measurement)

        await self.flusher.flush_all(wanted)  # Most of it before anybody has to wait.
        limit = self._house.ingest.write_timeout_seconds
        with trio.move_on_after(limit):
            hold = await self.intake.hold(database, measurement)
            try:
                await self.flusher.flush_all(wanted)
            except BaseException:
                hold.release()
                raise
            return hold
        raise Unavailable(f"the rows that were on their way did not come to rest within {limit:g} s")

    def _min_insync(self) -> int:
        configured = self._house.wal_config.min_insync
        if configured:
            return configured
        return 2 if len(self._house.able()) >= 2 else 1

    def _oldest_needed(self) -> int:
        oldest = self._house.buffer.oldest_sequence()
        return min(oldest if oldest is not None else EVERYTHING, self.durability.high + 1)

    def _needed_from(self) -> int:
        """The first record that the log must keep for others, flushed or not."""
        return min(
            retained_from(self._house.wal, self._house.wal_config, self._house.able()),
            self._house.kept.first(self._house.wal.first_sequence),
            *(self.durability.confirmed(name) + 1 for name in self.durability.counted),
        )


async def flush_last(flush_all: Callable[[], Awaitable[None]], tell: Log) -> None:
    """Before an orderly end: move all rows to files, or say why not all of them are."""
    reason = f"they were not in files after {FINISH_SECONDS:g} s"
    with trio.move_on_after(FINISH_SECONDS):
        try:
            await flush_all()
        except Unavailable as error:
            reason = error.message
        else:
            reason = ""
    if reason:
        tell.warning("rows_left_in_wal", reason=reason)


def retained_from(wal: WalLog, config: WalConfig, able: Collection[str]) -> int:
    """The first record that is kept although it is in files, for nodes that catch up: they get it without waiting for
    files. Whoever is further behind begins at the base. Alone, nothing is kept.

    This is a courtesy, and it is bounded; what must be kept so that no row is lost is `replication.copies.Kept`.
    """
    return wal.tail_first(config.max_bytes) if len(able) >= 2 else EVERYTHING


async def release_followed(
    wal: WalLog,
    config: WalConfig,
    buffer: Buffer,
    keys: IdempotencyKeys,
    *,
    able: Collection[str],
    kept: Kept,
    visible: int,
) -> str | None:
    """A follower's log shrinks by the same rules as the holder's, where each flush does it. Returns why it could not,
    when the disk is full: then it stays as it is until there is room. Raises DiskFailed.
    """
    below = min(visible + 1, retained_from(wal, config, able), kept.first(wal.first_sequence))
    if wal.may_release(below):
        try:
            await release_log(wal, buffer, keys, below=below)
        except OSError as error:
            if is_full(error):
                return str(error)
            raise DiskFailed(f"releasing the write-ahead log failed: {error}") from error
    return None


def require_log(wal: WalLog, catalog: Catalog) -> int | None:
    """The sequence that the log must be restarted at before a reign, None when it goes on as it is.

    Every flush mark lies below the end of the log of whoever was in sync. Raises Corrupt where it does not, unless
    an operator accepted that: then no number below a mark may be given again.
    """
    marked = catalog.last_marked()
    if wal.next_sequence > marked:
        return None
    epoch = catalog.lease_epoch(WRITER)
    grants = [change for change in catalog.history if (change.lease, change.epoch) == (WRITER, epoch)]
    if grants and not grants[0].is_clean:
        return marked + 1
    raise Corrupt(
        f"the log ends at record {wal.next_sequence - 1}, but {marked} was known to be stored", path=FOLDER, offset=0
    )


def _to_nobody(name: str, payload: bytes, *, is_bulk: bool) -> bool:
    return False
