"""The disk of a simulated machine: files in memory that outlive the process, and sessions that die with it.

`Platter` is the machine's; it keeps what is durable. `Session` is what one process is given as `arc.ports.Disk`. Every
operation of that port is durable when it returns, so what a crash can spoil is what was under way: it happened whole,
not at all, or in part. In part means: some 512 byte or 4 KiB pieces of a log write (any of them, in any order), a
draft file that nobody renamed, a log file that is too short, a folder without its children. The exception is `Draft`:
what was appended to one is durable only when it is installed, so the next process finds it whole, shorter, or with a
hole in it. What can be read of a log write that did not end well may be gone after a power cut (`lose_power`).

A session fails in three ways. `fail_next`: an operation raises EIO, and what of it reached the disk is drawn. `die_at`:
the process is killed in the middle of the n-th operation from now. `kill`: from now on every operation raises `Dead`
and changes nothing.

DuckDB opens Parquet files itself, so `native_path` copies the file to a real folder in memory (`mirror`) first. That
folder is never read back.
"""

from __future__ import annotations

import errno
import shutil
import zlib
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from arc.ports import BLOCK_BYTES, Buffer, Draft, LogFile
from arc.storage.keeper import DATA
from simulations.chance import Stream
from simulations.world_pages import SEEN_SHARE, Pages
from simulations.world_trace import Trace

SECTORS = (512, BLOCK_BYTES)


class Dead(OSError):
    """The process that asks was killed: nobody will see this but code that is being cancelled."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the simulated process is dead")


class Fate(Enum):
    """What becomes of an operation."""

    DONE = "done"
    LOST = "lost"
    PART = "part"


class Platter:
    """What survives. ``capacity`` is in bytes; ``mirror`` is the real folder for libraries that open files."""

    def __init__(self, name: str, capacity: int, chance: Stream, trace: Trace, mirror: Path) -> None:
        self.name = name
        self.capacity = capacity
        self.chance = chance
        self.trace = trace
        self.mirror = mirror
        self.files: dict[str, bytearray] = {}
        self.folders: set[str] = set()
        self.unsynced: dict[str, int] = {}
        """Drafts, with their lengths when they were opened: what is behind it may not survive."""
        self.pages = Pages()
        self.doubtful: dict[str, tuple[str, bytearray] | None] = {}
        """Files that rotted once, with the session and the bytes that were last copied to ``mirror``."""
        self.sessions = 0

    def __repr__(self) -> str:
        return f"<Platter {self.name} files={len(self.files)} used={self.used} of {self.capacity}>"

    @property
    def used(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def session(self, on_death: Callable[[], None]) -> Session:
        """A handle for a new process; ``on_death`` is called when `Session.die_at` has come."""
        self.sessions += 1
        for path, kept in sorted(self.unsynced.items()):
            self._spoil(path, kept)
        self.unsynced.clear()
        return Session(self, f"{self.name}.{self.sessions}", on_death)

    def _spoil(self, path: str, kept: int) -> None:
        """The draft as it is found after its process is gone, and perhaps the power was."""
        data = self.files.get(path)
        if data is None or len(data) <= kept:
            return
        fate, at = self.chance.randrange(3), kept + self.chance.randrange(len(data) - kept)
        if fate == 1:
            # Another object: whoever of the old process still has it mapped would keep it from being shorter.
            self.files[path] = data[:at]
        elif fate == 2:
            data[at:] = bytes(len(data) - at)
        self.trace.probe(f"draft_found_{('whole', 'short', 'with_a_hole')[fate]}")

    def lose_power(self) -> None:
        """What was in the memory of the kernel is gone."""
        if self.pages.lose():
            self.trace.probe("log_write_was_only_seen")

    def copy(self) -> Platter:
        """The same files, for somebody who looks; what is done to it changes nothing."""
        twin = Platter(self.name, 1 << 60, self.chance, Trace(), self.mirror / "copy")
        twin.files = {path: bytearray(data) for path, data in self.files.items()}
        twin.folders = set(self.folders)
        return twin

    def rot(self, path: str, offset: int, mask: int) -> bytearray:
        """Flip bits of a stored byte. Whoever has the file mapped keeps the good page; gives what is stored now."""
        body = bytearray(self.files[path])
        body[offset] ^= mask
        self.files[path] = body
        self.doubtful[path] = None
        return body


class Session:
    """`arc.ports.Disk` for one process."""

    def __init__(self, platter: Platter, name: str, on_death: Callable[[], None]) -> None:
        self._platter = platter
        self._name = name
        self._on_death = on_death
        self.is_dead = False
        self.operations = 0
        self.failures = 0
        self.refusals = 0
        self._fail_next = False
        self._die_in: int | None = None
        self._has_mirror = False

    def __repr__(self) -> str:
        return f"<Session {self._name} {'dead' if self.is_dead else 'alive'} operations={self.operations}>"

    def fail_next(self) -> None:
        """The next operation that writes raises EIO."""
        self._fail_next = True

    def die_at(self, operations: int) -> None:
        """Be killed in the middle of a write, ``operations`` of them from now (0: the next)."""
        self._die_in = operations

    def calm(self) -> None:
        """Forget what was to fail."""
        self._fail_next, self._die_in = False, None

    def kill(self) -> None:
        """Nothing of this process reaches the disk any more."""
        self.is_dead = True

    # ---- arc.ports.Disk

    def make_dirs(self, path: str) -> None:
        """Create a folder and its parents."""
        parts = _checked(path).split("/")
        wanted = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        missing = [each for each in wanted if each not in self._platter.folders]
        if not missing:
            self._alive()
            return
        fate = self._write("make_dirs", path)
        if fate is not Fate.DONE:
            missing = missing[: self._platter.chance.randrange(len(missing) + 1)]
        self._platter.folders.update(missing)
        self._after(fate, path)

    def list_dir(self, path: str) -> list[str]:
        """Names in a folder; folders end in a slash."""
        self._alive()
        prefix = f"{path}/" if path else ""
        names = set()
        for name in (*self._platter.files, *(f"{folder}/" for folder in self._platter.folders)):
            if name.startswith(prefix) and name != prefix:
                head, slash, _ = name[len(prefix) :].partition("/")
                names.add(head + slash)
        return sorted(names)

    def walk(self, path: str) -> list[str]:
        """All files below a folder."""
        self._alive()
        prefix = f"{path}/" if path else ""
        return sorted(name for name in self._platter.files if name.startswith(prefix))

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        self._alive()
        return path in self._platter.files or path in self._platter.folders

    def size(self, path: str) -> int:
        """Length of a file."""
        return len(self._file(path))

    def read(self, path: str) -> bytes:
        """The whole file."""
        return bytes(self._file(path))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """Bytes from an offset on."""
        return bytes(self._file(path)[offset : offset + size])

    def read_outside(self, path: str) -> bytes:
        """Nothing is outside."""
        raise FileNotFoundError(errno.ENOENT, "no such file", path)

    def map(self, path: str) -> memoryview:
        """The living bytes of a file, as a mapping shows them."""
        return memoryview(self._file(path)).toreadonly()

    def write_durable(self, path: str, data: Buffer) -> None:
        """Install a file whole, by a draft and a rename."""
        platter = self._platter
        folder, _, name = _checked(path).rpartition("/")
        self._require_folder(folder)
        content = bytearray(data)
        draft = f"{folder}/.{name}.tmp" if folder else f".{name}.tmp"
        fate = self._write("write", path, content, grows=len(content))
        if fate is Fate.DONE:
            platter.files.pop(draft, None)
            platter.files[path] = content
        elif fate is Fate.PART:
            platter.files[draft] = content[: platter.chance.randrange(len(content) + 1)]
        self._after(fate, path)

    def rename(self, old: str, new: str) -> None:
        """Move a file, making its new folder."""
        platter = self._platter
        self._file(old)
        fate = self._write("rename", f"{old} -> {_checked(new)}")
        folder = new.rpartition("/")[0]
        if fate is not Fate.LOST and folder:
            parts = folder.split("/")
            platter.folders.update("/".join(parts[: n + 1]) for n in range(len(parts)))
        if fate is Fate.DONE:
            platter.files[new] = platter.files.pop(old)
        self._after(fate, new)

    def open_draft(self, path: str) -> Draft:
        """Open a file for appending."""
        self._require_folder(_checked(path).rpartition("/")[0])
        data = self._platter.files.setdefault(path, bytearray())
        self._platter.unsynced.setdefault(path, len(data))
        return SessionDraft(self, path, data)

    def install(self, moves: Sequence[tuple[str, str]]) -> None:
        """Give drafts their places, one after the other."""
        platter = self._platter
        for old, new in moves:
            content = self._file(old)
            fate = self._write("install", f"{old} -> {_checked(new)}", content)
            if fate is not Fate.LOST:
                parts = new.rpartition("/")[0].split("/")
                platter.folders.update("/".join(parts[: n + 1]) for n in range(len(parts)))
            if fate is Fate.DONE:
                platter.files[new] = platter.files.pop(old)
                platter.unsynced.pop(old, None)
            self._after(fate, new)

    def remove(self, path: str) -> None:
        """Unlink a file; one that is gone is not an error."""
        self._alive()
        if _checked(path) not in self._platter.files:
            return
        fate = self._write("remove", path)
        if fate is Fate.DONE:
            del self._platter.files[path]
        self._after(fate, path)

    def create_log(self, path: str, size: int) -> LogFile:
        """Make a log file of zeros."""
        platter = self._platter
        self._require_folder(_checked(path).rpartition("/")[0])
        if path in platter.files:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        fate = self._write("create", path, grows=size)
        if fate is not Fate.LOST:
            whole = fate is Fate.DONE
            platter.files[path] = bytearray(
                size if whole else platter.chance.randrange(size // BLOCK_BYTES) * BLOCK_BYTES
            )
        if self._fail_next and not self.is_dead:
            platter.files.pop(path, None)  # as `SystemDisk` does after an error
        self._after(fate, path)
        return SessionLog(self, path, platter.files[path])

    def open_log(self, path: str) -> LogFile:
        """Open a log file for writing in place."""
        return SessionLog(self, path, self._file(path))

    def free_bytes(self) -> int:
        """Room that is left."""
        self._alive()
        return max(0, self._platter.capacity - self._platter.used)

    def native_path(self, path: str) -> str:
        """A real path with the same content, for DuckDB."""
        folder, slash, rest = path.partition("/")
        # One folder is made and removed faster than one for every hour of every measurement.
        target = self._platter.mirror / self._name / (folder + slash + rest.replace("/", "%"))
        content = self._platter.files.get(path)
        if content is not None:
            if not self._has_mirror:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._has_mirror = folder == DATA
            if path in self._platter.doubtful:
                copied = self._platter.doubtful[path]
                if copied is None or copied[0] != self._name or copied[1] is not content:
                    target.unlink(missing_ok=True)  # Not written over: a query may still read it.
                    self._platter.doubtful[path] = (self._name, content)
            if not target.exists() or target.stat().st_size != len(content):
                target.write_bytes(content)
        return str(target)

    def forget_mirror(self) -> None:
        """Remove the real copies: the process is gone."""
        shutil.rmtree(self._platter.mirror / self._name, ignore_errors=True)

    # ---- fates

    def _alive(self) -> None:
        if self.is_dead:
            raise Dead

    def _file(self, path: str) -> bytearray:
        self._alive()
        try:
            return self._platter.files[_checked(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None

    def _require_folder(self, folder: str) -> None:
        self._alive()
        if folder and folder not in self._platter.folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder)

    def _write(self, kind: str, path: str, content: Buffer = b"", *, grows: int = 0) -> Fate:
        """What becomes of this operation; the caller carries it out and then calls `_after`."""
        self._alive()
        platter = self._platter
        if grows and platter.used + grows > platter.capacity:
            platter.trace.note(self._name, "full", kind, path)
            self.refusals += 1
            platter.trace.probe("disk_full_refused_a_write")
            raise OSError(errno.ENOSPC, "no space left on device", path)
        self.operations += 1
        fate = Fate.DONE
        if self._die_in is not None:
            if self._die_in == 0:
                self.is_dead = True
            self._die_in -= 1
        if self.is_dead or self._fail_next:
            fate = (Fate.DONE, Fate.LOST, Fate.PART)[platter.chance.randrange(3)]
            platter.trace.probe(f"{'died' if self.is_dead else 'failed'}_in_{kind}_{fate.value}")
        platter.trace.note(self._name, kind, path, len(content), zlib.crc32(content), fate.value)
        return fate

    def _after(self, fate: Fate, path: str) -> None:
        """Tell the process how its operation went: raises Dead or OSError."""
        if self.is_dead:
            self._on_death()
            raise Dead
        if self._fail_next:
            self._fail_next = False
            self.failures += 1
            raise OSError(errno.EIO, "input/output error", path)


class SessionDraft:
    """A file of a session that is appended to."""

    def __init__(self, session: Session, path: str, data: bytearray) -> None:
        self._session = session
        self._path = path
        self._data = data
        self._is_closed = False

    @property
    def size(self) -> int:
        """Bytes so far."""
        return len(self._data)

    def append(self, chunks: Sequence[Buffer]) -> None:
        """Write at the end."""
        assert not self._is_closed, f"{self._path} is closed"
        content, session = b"".join(chunks), self._session
        fate = session._write("append", f"{self._path}@{len(self._data)}", content, grows=len(content))
        if fate is Fate.DONE:
            self._data += content
        elif fate is Fate.PART:
            self._data += content[: session._platter.chance.randrange(len(content) + 1)]
        session._after(fate, self._path)

    def close(self) -> None:
        """Release the handle."""
        self._is_closed = True


class SessionLog:
    """A log file of a session; it points at its bytes when the file is renamed or removed, as a handle does."""

    def __init__(self, session: Session, path: str, data: bytearray) -> None:
        self._session = session
        self._path = path
        self._data = data
        self._is_closed = False

    @property
    def size(self) -> int:
        """Bytes preallocated."""
        return len(self._data)

    def write_durable(self, offset: int, chunks: Sequence[Buffer]) -> int:
        """Write whole blocks in place."""
        assert not self._is_closed, f"{self._path} is closed"
        assert offset % BLOCK_BYTES == 0, offset
        content = b"".join(chunks)
        content = content.ljust(-(-len(content) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
        assert offset + len(content) <= len(self._data), (self._path, offset, len(content), len(self._data))
        session = self._session
        fate, end = session._write("log_write", f"{self._path}@{offset}", content), offset + len(content)
        former, platter = bytes(self._data[offset:end]), session._platter
        if fate is Fate.DONE:
            self._data[offset:end] = content
        elif fate is Fate.PART:
            self._tear(offset, content, platter.chance)
        if not (session.is_dead or session._fail_next):
            platter.pages.settle(self._data, offset, end)
        elif platter.chance.random() < SEEN_SHARE:
            platter.pages.doubt(self._data, offset, former)
        session._after(fate, self._path)
        return len(content)

    def close(self) -> None:
        """Release the handle."""
        self._is_closed = True

    def _tear(self, offset: int, content: bytes, chance: Stream) -> None:
        sector = SECTORS[chance.randrange(len(SECTORS))]
        for at in range(0, len(content), sector):
            if chance.random() < 0.5:
                self._data[offset + at : offset + at + sector] = content[at : at + sector]


def _checked(path: str) -> str:
    assert path and not path.startswith("/") and ".." not in path.split("/"), path
    return path
