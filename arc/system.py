"""The production ports: this machine's clock, chance, files, sockets and threads.

The only module of `arc` that touches the operating system, but for names of hosts (`arc.system_names`). Nothing here
decides anything; a simulator replaces all of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

import trio

from arc.errors import InvalidRequest
from arc.ports import BLOCK_BYTES, Buffer, Draft, Load, LogFile, Ports
from arc.system_names import Names

T = TypeVar("T")

STAGING_BYTES = 1 << 20
"""First size of a log's aligned staging buffer; it grows to the largest group ever written."""


BEGIN_BYTES = 8 << 20
"""A draft's bytes are sent on their way to the disk when so many have come together."""


class SystemClock:
    """The machine's monotonic and wall clocks."""

    def now(self) -> float:
        """Monotonic seconds; Trio's own clock, so that deadlines and measurements agree."""
        return time.perf_counter()

    def wall_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000


class SystemRng:
    """The operating system's entropy."""

    def __init__(self) -> None:
        self._random = SystemRandom()

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return self._random.uniform(low, high)

    def bytes(self, count: int) -> bytes:
        """Bytes fit for secrets."""
        return secrets.token_bytes(count)


class SystemLogFile:
    """A log file written past the page cache (O_DIRECT | O_DSYNC) where the file system can, else pwrite +
    fdatasync.

    Direct writes to preallocated blocks cost a fraction of append + fdatasync: no page cache, no size change to
    journal.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._staging = mmap.mmap(-1, STAGING_BYTES)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_DSYNC | os.O_CLOEXEC)
            self.direct = True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self.direct = False
        self._size = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        """Bytes preallocated."""
        return self._size

    def write_durable(self, offset: int, chunks: Sequence[Buffer]) -> int:
        """Write the chunks at a block boundary and return the bytes used; durable on return."""
        assert offset % BLOCK_BYTES == 0
        length = sum(map(len, chunks))
        total = -(-length // BLOCK_BYTES) * BLOCK_BYTES
        assert offset + total <= self._size, (self._path, offset, total, self._size)
        if total > len(self._staging):
            self._staging = mmap.mmap(-1, total)
        self._staging.seek(0)
        for chunk in chunks:
            self._staging.write(chunk)
        self._staging.write(bytes(total - length))
        with memoryview(self._staging) as whole, whole[:total] as view:
            written = 0
            while written < total:
                written += os.pwrite(self._fd, view[written:], offset + written)
        if not self.direct:
            os.fdatasync(self._fd)
        return total

    def close(self) -> None:
        """Release the handle."""
        os.close(self._fd)


class SystemDraft:
    """A file in the page cache that is only appended to."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = self._begun = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def append(self, chunks: Sequence[Buffer]) -> None:
        """Write at the end."""
        for chunk in chunks:
            view = memoryview(chunk)
            while len(view):
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]
        if self._size - self._begun >= BEGIN_BYTES:
            # Dirty pages are not dropped by this; their way to the disk begins, so that the sync at the end is short.
            os.posix_fadvise(self._fd, self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._size

    def close(self) -> None:
        """Release the handle."""
        os.close(self._fd)


class SystemDisk:
    """Files below one root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._root.mkdir(parents=True, exist_ok=True, mode=0o750)

    def _path(self, path: str) -> Path:
        assert path == "" or not (path.startswith("/") or ".." in path.split("/")), path
        return self._root / path

    def make_dirs(self, path: str) -> None:
        """Create a folder and its parents, each made durable in the one above it."""
        target = self._path(path)
        missing = []
        while not target.exists():
            missing.append(target)
            target = target.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True, mode=0o750)
            _sync_folder(folder.parent)

    def list_dir(self, path: str) -> list[str]:
        """Sorted names; folders end in a slash; empty when there is no such folder."""
        try:
            with os.scandir(self._path(path)) as entries:
                return sorted(entry.name + "/" if entry.is_dir() else entry.name for entry in entries)
        except FileNotFoundError:
            return []

    def walk(self, path: str) -> list[str]:
        """Sorted paths of all files below a folder."""
        found: list[str] = []
        for folder, _, names in os.walk(self._path(path)):
            relative = os.path.relpath(folder, self._root)
            found.extend(f"{relative}/{name}" if relative != "." else name for name in names)
        return sorted(found)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self._path(path).exists()

    def size(self, path: str) -> int:
        """Length of a file in bytes."""
        return self._path(path).stat().st_size

    def read(self, path: str) -> bytes:
        """The whole file."""
        return self._path(path).read_bytes()

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer where the file ends."""
        fd = os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def read_outside(self, path: str) -> bytes:
        """A file anywhere."""
        return Path(path).read_bytes()

    def map(self, path: str) -> memoryview:
        """The whole file, mapped read-only."""
        fd = os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def write_durable(self, path: str, data: Buffer) -> None:
        """Install a file whole or not at all."""
        target = self._path(path)
        draft = target.with_name(f".{target.name}.tmp")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            view = memoryview(data)
            while len(view):
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()  # on a full disk a half-written file would keep the room that others need
            raise
        finally:
            os.close(fd)
        os.replace(draft, target)
        _sync_folder(target.parent)

    def rename(self, old: str, new: str) -> None:
        """Move a file durably; the new folder is created."""
        source, target = self._path(old), self._path(new)
        self.make_dirs(os.path.dirname(new))
        os.replace(source, target)
        _sync_folder(target.parent)
        if source.parent != target.parent:
            _sync_folder(source.parent)

    def open_draft(self, path: str) -> Draft:
        """Open a file for appending."""
        return SystemDraft(self._path(path))

    def install(self, moves: Sequence[tuple[str, str]]) -> None:
        """Sync the drafts, move them, sync every folder once."""
        drafts = [self._path(old) for old, _ in moves]
        targets = [self._path(new) for _, new in moves]
        for folder in dict.fromkeys(os.path.dirname(new) for _, new in moves):
            self.make_dirs(folder)
        for draft in drafts:
            _sync_file(draft)
        for draft, target in zip(drafts, targets, strict=True):
            os.replace(draft, target)
        for target_folder in dict.fromkeys(path.parent for path in (*targets, *drafts)):
            _sync_folder(target_folder)

    def remove(self, path: str) -> None:
        """Unlink a file durably; one that is gone is not an error."""
        target = self._path(path)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
            _sync_folder(target.parent)

    def create_log(self, path: str, size: int) -> LogFile:
        """Make a log file of ``size`` bytes. Raises OSError (ENOSPC) before anything is promised."""
        target = self._path(path)
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(fd, 0, size)
            os.fsync(fd)
        except OSError:
            target.unlink()
            raise
        finally:
            os.close(fd)
        _sync_folder(target.parent)
        return SystemLogFile(str(target))

    def open_log(self, path: str) -> LogFile:
        """Open an existing log file for writing in place."""
        return SystemLogFile(str(self._path(path)))

    def free_bytes(self) -> int:
        """Bytes free for us on the file system of the root."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def native_path(self, path: str) -> str:
        """Absolute path for libraries that open files themselves."""
        return str(self._path(path))


class SystemNetwork:
    """TCP by Trio; names are looked up as in `arc.system_names`."""

    def __init__(self, names: trio.abc.HostnameResolver | None = None) -> None:
        self._names = names or Names()

    async def serve_tcp(
        self,
        handler: Callable[[trio.abc.Stream], Awaitable[None]],
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen for ever; reports the bound port."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, handler, listeners)
            task_status.started(bound)

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream."""
        trio.socket.set_custom_hostname_resolver(self._names)
        return await trio.open_tcp_stream(host, port)


class SystemWorkers:
    """Trio's worker threads, at most ``threads`` at once."""

    def __init__(self, threads: int) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    def load(self) -> Load:
        """Processor and memory of this process."""
        spent = os.times()
        page = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/statm", "rb") as statm:  # Linux, proc(5): size, resident, … in pages
            resident = int(statm.read().split()[1])
        return Load(
            cpu_seconds=spent.user + spent.system,
            memory_bytes=resident * page,
            memory_total_bytes=os.sysconf("SC_PHYS_PAGES") * page,
            cores=len(os.sched_getaffinity(0)),
        )

    async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
        """Run ``fn(*args)`` in a thread."""
        return await trio.to_thread.run_sync(
            partial(fn, *args), abandon_on_cancel=abandon_on_cancel, limiter=self._limiter
        )


@contextlib.contextmanager
def lock_folder(root: Path) -> Iterator[None]:
    """Hold a data directory for one process. Raises InvalidRequest when another one has it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o750)
    fd = os.open(root / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidRequest(
                f"data directory {root} is in use by another arc process; stop it, or choose another --data-dir",
                code="data_dir_in_use",
            ) from error
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)


def system_ports(root: Path, *, threads: int = 64) -> Ports:
    """The world as it is, for one node whose files live below ``root``."""
    return Ports(
        clock=SystemClock(),
        rng=SystemRng(),
        network=SystemNetwork(),
        disk=SystemDisk(root),
        workers=SystemWorkers(threads),
    )


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
