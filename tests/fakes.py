"""The five ports without the world.

A disk in memory that fails on demand, a clock that is told the time, a seeded chance.

`MemoryDisk` keeps the promise of `arc.ports.Disk`: what a durable write returned from survives. A crash is therefore
simple: make the write that is in flight fail with `tear_next_write` or `fail_next_write`, throw the objects under test
away, and open new ones on the same disk. `lose_last_write` takes back the newest write, as if it had never returned;
`flip` is bit rot; `copy` is the disk at this moment, and `on_write` lets a test take such a copy at every write.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import trio
import trio.testing

from arc.ports import BLOCK_BYTES, Buffer, Clock, Disk, Draft, Load, LogFile, Network, Ports, Rng, Workers

T = TypeVar("T")


class MemoryDisk:
    """A disk in memory, with faults.

    ``free`` is what may still be written before ENOSPC; ``writes`` counts durable writes.
    """

    def __init__(self, *, free: int = 1 << 40) -> None:
        self.free = free
        self.writes = 0
        self.on_write: Callable[[str], None] = lambda path: None
        self._files: dict[str, bytearray] = {}
        self._folders: set[str] = set()
        self._fault: OSError | None = None
        self._fault_after = 0
        self._tear_at: int | None = None
        self._undo: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<MemoryDisk files={len(self._files)} bytes={sum(map(len, self._files.values()))} writes={self.writes}>"

    # ---- faults

    def fail_next_write(self, error: OSError | None = None, *, after: int = 0) -> None:
        """Let ``after`` durable writes pass, then raise (EIO unless told otherwise) and leave no trace of that one."""
        self._fault = error if error is not None else OSError(errno.EIO, "injected input/output error")
        self._fault_after = after

    def tear_next_write(self, at_byte: int) -> None:
        """Put only the first bytes of the next log write on disk, then raise EIO: the power went away in the middle.

        A file that `write_durable` installs is never torn; of it nothing is seen at all.
        """
        self._tear_at = at_byte

    def lose_last_write(self) -> None:
        """Take back the newest durable write, whatever it was."""
        self._undo()
        self._undo = lambda: None

    def flip(self, path: str, offset: int, mask: int = 0x01) -> None:
        """Change bits of a stored byte."""
        self._files[path][offset] ^= mask

    def truncate(self, path: str, size: int) -> None:
        """Cut a file short."""
        self._files[path] = self._files[path][:size]

    def copy(self) -> MemoryDisk:
        """A disk of its own with the same content and no faults waiting."""
        twin = MemoryDisk(free=self.free)
        twin._files = {path: bytearray(data) for path, data in self._files.items()}
        twin._folders = set(self._folders)
        return twin

    def _about_to_write(self, path: str, size: int) -> None:
        if self._fault is not None:
            if self._fault_after == 0:
                fault, self._fault = self._fault, None
                raise fault
            self._fault_after -= 1
        if size > self.free:
            raise OSError(errno.ENOSPC, "no space left on device", path)

    def _wrote(self, path: str) -> None:
        self.writes += 1
        self.on_write(path)

    # ---- arc.ports.Disk

    def make_dirs(self, path: str) -> None:
        parts = _checked(path).split("/")
        self._folders.update("/".join(parts[: n + 1]) for n in range(len(parts)))

    def list_dir(self, path: str) -> list[str]:
        prefix = f"{path}/" if path else ""
        names = set()
        for name in (*self._files, *(f"{folder}/" for folder in self._folders)):
            if name.startswith(prefix) and name != prefix:
                head, slash, _ = name[len(prefix) :].partition("/")
                names.add(head + slash)
        return sorted(names)

    def walk(self, path: str) -> list[str]:
        prefix = f"{path}/" if path else ""
        return sorted(name for name in self._files if name.startswith(prefix))

    def exists(self, path: str) -> bool:
        return path in self._files or path in self._folders

    def size(self, path: str) -> int:
        return len(self._file(path))

    def read(self, path: str) -> bytes:
        return bytes(self._file(path))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        return bytes(self._file(path)[offset : offset + size])

    def read_outside(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def map(self, path: str) -> memoryview:
        return memoryview(self._file(path)).toreadonly()

    def write_durable(self, path: str, data: Buffer) -> None:
        self._require_folder_of(path)
        old = self._files.get(path)
        if self._tear_at is not None:
            self._tear_at = None
            raise OSError(errno.EIO, "injected power loss", path)
        self._about_to_write(path, len(data))
        self._files[path] = bytearray(data)
        self.free -= len(data) - (len(old) if old is not None else 0)
        self._undo = lambda: self._put_back(path, old)
        self._wrote(path)

    def rename(self, old: str, new: str) -> None:
        folder = new.rpartition("/")[0]
        if folder:
            self.make_dirs(folder)
        self._files[_checked(new)] = self._take(old)

    def open_draft(self, path: str) -> Draft:
        self._require_folder_of(path)
        return MemoryDraft(self, path, self._files.setdefault(path, bytearray()))

    def install(self, moves: Sequence[tuple[str, str]]) -> None:
        for old, new in moves:
            self._about_to_write(new, 0)
            folder = new.rpartition("/")[0]
            if folder:
                self.make_dirs(folder)
            replaced = self._files.get(_checked(new))
            self.free += len(replaced) if replaced is not None else 0
            self._files[new] = self._take(old)
            self._wrote(new)

    def remove(self, path: str) -> None:
        gone = self._files.pop(_checked(path), None)
        if gone is not None:
            self.free += len(gone)

    def create_log(self, path: str, size: int) -> LogFile:
        self._require_folder_of(path)
        self._about_to_write(path, size)
        if path in self._files:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        self._files[path] = bytearray(size)
        self.free -= size
        self._undo = lambda: self._put_back(path, None)
        self._wrote(path)
        return MemoryLogFile(self, path, self._files[path])

    def open_log(self, path: str) -> LogFile:
        return MemoryLogFile(self, path, self._file(path))

    def free_bytes(self) -> int:
        return self.free

    def native_path(self, path: str) -> str:
        return f"/memory/{path}"

    def _file(self, path: str) -> bytearray:
        try:
            return self._files[_checked(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None

    def _take(self, path: str) -> bytearray:
        data = self._file(path)
        del self._files[path]
        return data

    def _put_back(self, path: str, old: bytearray | None) -> None:
        if old is None:
            self._files.pop(path, None)
        else:
            self._files[path] = old

    def _require_folder_of(self, path: str) -> None:
        folder = _checked(path).rpartition("/")[0]
        if folder and folder not in self._folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder)


class MemoryLogFile:
    """A log file of a `MemoryDisk`.

    It goes on pointing at its bytes when the file is renamed or removed, as a handle does.
    """

    def __init__(self, disk: MemoryDisk, path: str, data: bytearray) -> None:
        self._disk = disk
        self._path = path
        self._data = data
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._data)

    def write_durable(self, offset: int, chunks: Sequence[Buffer]) -> int:
        assert not self._closed, f"{self._path} is closed"
        assert offset % BLOCK_BYTES == 0, offset
        joined = b"".join(chunks)
        padded = joined.ljust(-(-len(joined) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
        assert offset + len(padded) <= len(self._data), (self._path, offset, len(padded), len(self._data))
        disk = self._disk
        if disk._tear_at is not None:
            kept, disk._tear_at = padded[: disk._tear_at], None
            self._data[offset : offset + len(kept)] = kept
            raise OSError(errno.EIO, "injected power loss", self._path)
        disk._about_to_write(self._path, 0)
        before = bytes(self._data[offset : offset + len(padded)])
        self._data[offset : offset + len(padded)] = padded
        disk._undo = lambda: self._put_back(offset, before)
        disk._wrote(self._path)
        return len(padded)

    def close(self) -> None:
        self._closed = True

    def _put_back(self, offset: int, before: bytes) -> None:
        self._data[offset : offset + len(before)] = before


class MemoryDraft:
    """A file of a `MemoryDisk` that is appended to."""

    def __init__(self, disk: MemoryDisk, path: str, data: bytearray) -> None:
        self._disk = disk
        self._path = path
        self._data = data
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._data)

    def append(self, chunks: Sequence[Buffer]) -> None:
        assert not self._closed, f"{self._path} is closed"
        joined = b"".join(chunks)
        self._disk._about_to_write(self._path, len(joined))
        self._data += joined
        self._disk.free -= len(joined)
        self._disk._wrote(self._path)

    def close(self) -> None:
        self._closed = True


def _checked(path: str) -> str:
    assert path and not path.startswith("/") and ".." not in path.split("/"), path
    return path


class ManualClock:
    """Both clocks stand still until `advance`; `jump_wall` moves the wall clock alone, back or forth."""

    def __init__(self, *, now: float = 1_000.0, wall_us: int = 1_750_000_000_000_000) -> None:
        self._now = now
        self._wall_us = wall_us

    def now(self) -> float:
        return self._now

    def wall_us(self) -> int:
        return self._wall_us

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._now += seconds
        self._wall_us += round(seconds * 1_000_000)

    def jump_wall(self, microseconds: int) -> None:
        self._wall_us += microseconds


class SeededRng:
    """The same chance for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class InlineWorkers:
    """Runs the function in place, after a checkpoint.

    Inside `held()` calls wait instead, so a test can look in between.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.waiting = 0
        self._gate: trio.Event | None = None

    def load(self) -> Load:
        """An idle machine."""
        return Load(cpu_seconds=0.0, memory_bytes=1 << 27, memory_total_bytes=1 << 33, cores=2)

    async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self._gate is not None:
            self.waiting += 1
            # A real thread cannot be cancelled either, unless it was said that it may be left behind.
            with trio.CancelScope(shield=not abandon_on_cancel):
                await self._gate.wait()
            self.waiting -= 1
        return fn(*args)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every call that comes in waiting until the end of the block."""
        self._gate = trio.Event()
        try:
            yield
        finally:
            self._gate.set()
            self._gate = None


class MemoryNetwork:
    """Streams in memory between everybody who was given this object. Port 0 asks for a free one."""

    def __init__(self) -> None:
        self._listeners: dict[int, tuple[trio.Nursery, Callable[[trio.abc.Stream], Awaitable[None]]]] = {}

    async def serve_tcp(
        self,
        handler: Callable[[trio.abc.Stream], Awaitable[None]],
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        bound = port or 1 + max(self._listeners, default=40_000)
        if bound in self._listeners:
            raise OSError(errno.EADDRINUSE, "address already in use")
        async with trio.open_nursery() as nursery:
            self._listeners[bound] = (nursery, handler)
            try:
                task_status.started(bound)
                await trio.sleep_forever()
            finally:
                del self._listeners[bound]

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if port not in self._listeners:
            raise OSError(errno.ECONNREFUSED, "connection refused")
        nursery, handler = self._listeners[port]
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(handler, theirs)
        return ours


def make_ports(
    *,
    seed: int = 0,
    clock: Clock | None = None,
    rng: Rng | None = None,
    network: Network | None = None,
    disk: Disk | None = None,
    workers: Workers | None = None,
) -> Ports:
    """The bundle, made of fakes where nothing else is given."""
    return Ports(
        clock=clock if clock is not None else ManualClock(),
        rng=rng if rng is not None else SeededRng(seed),
        network=network if network is not None else MemoryNetwork(),
        disk=disk if disk is not None else MemoryDisk(),
        workers=workers if workers is not None else InlineWorkers(),
    )
