"""A node as backups see it: a real catalog, a real keeper of files and disks in memory; rows are any bytes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from arc.backup.progress import Progress
from arc.backup.restoring import Restorer
from arc.backup.service import BackupService
from arc.backup.taking import Taker
from arc.backup.vault import FolderVault, Vault
from arc.catalog.commands import WRITER, AssignLease, Command, DeclareColumns, RegisterFiles
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.catalog.schemas import ColumnSchema
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.replication.awaiting import Awaiting
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.storage.paths import file_path
from arc.telemetry import Log, RingSink
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk, SeededRng, make_ports

HOUR_US = 3_600_000_000
T = TypeVar("T")


class Crashed(BaseException):
    """The end of a process, as nothing in it can catch."""


class Node:
    """``vault`` is a disk that other nodes may use, too."""

    def __init__(self, vault: MemoryDisk, *, name: str = "n1", fsm: ClusterFSM | None = None, seed: int = 0) -> None:
        self.name = NodeId(name)
        self.fsm = fsm if fsm is not None else ClusterFSM()
        self.disk = MemoryDisk()
        self.clock = ManualClock()
        self.vault_disk = vault
        self.vault: Vault = FolderVault(vault, "", name)
        self.proposals = 0
        self.crash_at: int | None = None
        self.answer_is_lost = False
        self.before_proposal: dict[int, Callable[[], None]] = {}
        self.flushes = 0
        self.on_flush: Callable[[], None] = lambda: None
        self.ring = RingSink(1000)
        self.sequence = 0
        self.seed = seed
        self.start()

    def start(self) -> None:
        """As a process begins: everything but disks and catalog is new, and the lease has a new epoch."""
        log = Log([self.ring], self.clock.wall_us, level="debug")
        self.ports = make_ports(disk=self.disk, clock=self.clock, rng=SeededRng(self.seed), workers=InlineWorkers())
        self.keeper = FileKeeper(self.disk, self.ports.workers, self.clock, StorageConfig())
        for entry in self.catalog.all_files():
            if self.disk.exists(f"{DATA}/{entry.path}"):
                self.keeper.came(entry.path)
        self.apply(AssignLease(lease=WRITER, node=self.name, expect_epoch=self.catalog.lease_epoch(WRITER)))
        self.taker = Taker(
            vault=self.vault,
            ports=self.ports,
            files=self.keeper,
            fetch=Awaiting(self.keeper, is_brought=True),
            flush=self,
            catalog=lambda: self.catalog,
            version="1",
            log=log,
        )
        self.restorer = Restorer(
            vault=self.vault,
            ports=self.ports,
            files=self.keeper,
            propose=self,
            catalog=lambda: self.catalog,
            shelf=None,
            node=self.name,
            reserve_bytes=1000,
            log=log,
        )
        self.service = BackupService(
            vault=self.vault,
            taker=self.taker,
            restorer=self.restorer,
            ports=self.ports,
            files=self.keeper,
            fetch=Awaiting(self.keeper, is_brought=True),
            flush=self,
            catalog=lambda: self.catalog,
            log=log,
        )

    # ---- what the parts ask for

    @property
    def catalog(self) -> Catalog:
        return self.fsm.catalog

    async def flush_all(self) -> None:
        await trio.lowlevel.checkpoint()
        self.flushes += 1
        self.on_flush()

    async def propose(self, command: Command) -> Result:
        """Applied at once; at ``crash_at`` the process ends before it or, with ``answer_is_lost``, after it."""
        await trio.lowlevel.checkpoint()
        self.before_proposal.get(self.proposals, lambda: None)()
        is_last = self.proposals == self.crash_at
        self.proposals += 1
        if is_last and not self.answer_is_lost:
            raise Crashed
        result = self.apply(command)
        if is_last:
            raise Crashed
        return result

    # ---- what tests do

    def apply(self, command: Command) -> Result:
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result

    def do(self, command: Command) -> None:
        result = self.apply(command)
        assert result.ok, result

    def declare(self, database: str = "plant", measurement: str = "cpu") -> None:
        columns = (ColumnSchema("host", "tag"), ColumnSchema("v", "float"))
        self.do(DeclareColumns(database=database, measurement=measurement, columns=columns, created_us=1))

    def add(self, data: bytes, *, hour: int = 0, database: str = "plant", measurement: str = "cpu") -> FileEntry:
        """A file on this disk and in the manifest; its rows are its bytes."""
        self.sequence += 1
        epoch = self.catalog.lease_epoch(WRITER)
        path = file_path(database, measurement, hour, node=self.name, epoch=epoch, sequence=self.sequence)
        self.disk.make_dirs(f"{DATA}/{path}".rpartition("/")[0])
        self.disk.write_durable(f"{DATA}/{path}", data)
        self.keeper.came(path)
        entry = FileEntry(
            path=path,
            database=database,
            measurement=measurement,
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            rows=len(data),
            min_time_us=hour * HOUR_US,
            max_time_us=hour * HOUR_US + 1,
            origin=self.name,
            epoch=epoch,
            first_sequence=0,
            last_sequence=0,
            created_us=5,
            columns=("host", "v"),
        )
        self.do(RegisterFiles(files=(entry,), epoch=epoch))
        return entry

    def rows(self) -> list[bytes]:
        """What a query of everything would see, in some order: every file of the manifest, from this disk."""
        return sorted(self.disk.read(f"{DATA}/{entry.path}") for entry in self.catalog.all_files())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BackupService]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.service.run)
            yield self.service
            nursery.cancel_scope.cancel()


async def ended(service: BackupService) -> Progress:
    """The operation that is under way, once it is over."""
    while service.running is not None:
        await trio.lowlevel.checkpoint()
    assert service.last is not None
    return service.last


def unavailable() -> None:
    raise Unavailable("nobody writes here")
