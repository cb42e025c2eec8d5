"""The five ways out of the program: Clock, Rng, Network, Disk, Workers.

Everything a node knows of the world enters here, so that a simulator can be the world. Sleeping and deadlines belong
to Trio, whose clock the simulator replaces as a whole; `Clock` only tells the time.

`Disk` blocks: its methods run in a worker thread through `Workers.run`, which is also where a simulator makes them
slow. A path is always relative to the node's data directory and uses forward slashes.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import trio

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

BLOCK_BYTES = 4096
"""Unit of a durable log write: the sector size that every disk we know writes whole."""


def is_full(error: OSError) -> bool:
    """Whether a `Disk` has no room, by space or quota: it may have some later, and nothing was broken."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Clock(Protocol):
    """Tells the time; never sleeps."""

    def now(self) -> float:
        """Seconds of a clock that never goes back. Only differences mean anything."""
        ...

    def wall_us(self) -> int:
        """Microseconds since 1970 UTC. May jump; never used to order events."""
        ...


class Rng(Protocol):
    """The only source of chance. In production it comes from the operating system."""

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        ...

    def bytes(self, count: int) -> bytes:
        """Bytes fit for secrets in production, repeatable in simulation."""
        ...


class LogFile(Protocol):
    """A preallocated file written in whole blocks; a write that returned survives a power cut."""

    @property
    def size(self) -> int:
        """Bytes preallocated; writes beyond it are a bug of the caller."""
        ...

    def write_durable(self, offset: int, chunks: Sequence[Buffer]) -> int:
        """Write the chunks one after another at a block boundary, zero-padded to whole blocks. Returns bytes used on
        disk.

        Raises OSError; after that nothing is known about the written range, and the caller must stop.
        """
        ...

    def close(self) -> None:
        """Release the handle."""
        ...


class Draft(Protocol):
    """A file that grows at its end until `Disk.install` gives it its place. A power cut may take what was appended
    since it was opened, or leave anything there: only a hash tells.
    """

    @property
    def size(self) -> int:
        """Bytes so far, with those that were there when it was opened."""
        ...

    def append(self, chunks: Sequence[Buffer]) -> None:
        """Write the chunks one after another at the end. Raises OSError; after that the draft is worth nothing."""
        ...

    def close(self) -> None:
        """Release the handle; the file stays."""
        ...


class Disk(Protocol):
    """Files below one data directory. Every method may raise OSError; none is asynchronous."""

    def make_dirs(self, path: str) -> None:
        """Create a folder and its parents, durably."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """Names in a folder, sorted; empty when the folder does not exist. Folders end in a slash."""
        ...

    def walk(self, path: str) -> list[str]:
        """Paths of all files below a folder, sorted."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        ...

    def size(self, path: str) -> int:
        """Length of a file in bytes."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file."""
        ...

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file from ``offset`` on; fewer than ``size`` where it ends."""
        ...

    def read_outside(self, path: str) -> bytes:
        """A file of the operator's that is not below the data directory, by the path he gave: certificates."""
        ...

    def map(self, path: str) -> memoryview:
        """The whole file, read-only, without copying it where the system can. Valid until the last reference goes."""
        ...

    def write_durable(self, path: str, data: Buffer) -> None:
        """Install a file whole or not at all: temporary name, fsync, rename, fsync of the folder. Replaces an older
        one.
        """
        ...

    def rename(self, old: str, new: str) -> None:
        """Move a file, durably, creating the new folder."""
        ...

    def open_draft(self, path: str) -> Draft:
        """Open a file for appending, made if need be; its folder is there."""
        ...

    def install(self, moves: Sequence[tuple[str, str]]) -> None:
        """Give drafts, which are closed, their places: (old path, new path). Each is there whole or not at all, also
        after a power cut, and all are durable on return. Their new folders are made; older files are replaced.

        Raises OSError, when any of them may have moved; a draft that has not is worth nothing.
        """
        ...

    def remove(self, path: str) -> None:
        """Unlink a file, durably. A file that is already gone is not an error."""
        ...

    def create_log(self, path: str, size: int) -> LogFile:
        """Make and preallocate a log file; durable in its folder before this returns."""
        ...

    def open_log(self, path: str) -> LogFile:
        """Open a log file that exists, for writing in place."""
        ...

    def free_bytes(self) -> int:
        """Bytes that may still be written below the data directory."""
        ...

    def native_path(self, path: str) -> str:
        """The path as the operating system knows it, for libraries that open files themselves (DuckDB)."""
        ...


class Network(Protocol):
    """Streams between machines."""

    async def serve_tcp(
        self,
        handler: Callable[[trio.abc.Stream], Awaitable[None]],
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int],
    ) -> None:
        """Listen for ever; reports the bound port once connections are accepted."""
        ...

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the process has used of its machine. ``cores`` and ``memory_total_bytes`` are what it may use."""

    cpu_seconds: float
    memory_bytes: int
    memory_total_bytes: int
    cores: int


class Workers(Protocol):
    """Threads in production; in simulation the call runs in place after a simulated delay."""

    def load(self) -> Load:
        """Processor and memory, as of now; cheap."""
        ...

    async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
        """Run a blocking function elsewhere and return its result.

        With ``abandon_on_cancel`` a cancelled caller goes on at once and the function's late result is dropped.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The bundle a node is given at birth."""

    clock: Clock
    rng: Rng
    network: Network
    disk: Disk
    workers: Workers
