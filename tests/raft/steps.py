"""A disk that shows itself before each step that changes it, as a power cut at that moment would leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arc.ports import BLOCK_BYTES, Buffer, Draft, LogFile
from tests.fakes import MemoryDisk, MemoryDraft, MemoryLogFile

SECTOR_BYTES = 512

Watch = Callable[[str, MemoryDisk], None]


class StepDisk(MemoryDisk):
    """``watch`` gets (what is about to happen, a copy of the disk), and copies with a part of a log write on them."""

    def __init__(self, *, free: int = 1 << 40) -> None:
        super().__init__(free=free)
        self.watch: Watch | None = None

    def step(self, what: str) -> None:
        if self.watch is not None:
            self.watch(what, self.copy())

    def write_durable(self, path: str, data: Buffer) -> None:
        self.step(f"before writing {path}")
        super().write_durable(path, data)

    def rename(self, old: str, new: str) -> None:
        self.step(f"before renaming {old} to {new}")
        super().rename(old, new)

    def remove(self, path: str) -> None:
        if self.exists(path):
            self.step(f"before removing {path}")
        super().remove(path)

    def open_draft(self, path: str) -> Draft:
        return StepDraft(super().open_draft(path), self, path)

    def install(self, moves: Sequence[tuple[str, str]]) -> None:
        for old, new in moves:
            self.step(f"before installing {old} as {new}")
            super().install([(old, new)])

    def create_log(self, path: str, size: int) -> LogFile:
        self.step(f"before creating {path}")
        return StepLog(super().create_log(path, size), self, path)

    def open_log(self, path: str) -> LogFile:
        return StepLog(super().open_log(path), self, path)


class StepDraft:
    """Also shows the disk with the front of what is appended, and with nothing in its place but zeros."""

    def __init__(self, draft: Draft, disk: StepDisk, path: str) -> None:
        assert isinstance(draft, MemoryDraft)
        self._draft = draft
        self._disk = disk
        self._path = path

    @property
    def size(self) -> int:
        return self._draft.size

    def append(self, chunks: Sequence[Buffer]) -> None:
        if self._disk.watch is not None:
            self._disk.step(f"before appending at {self.size} of {self._path}")
            joined, before = b"".join(chunks), len(self._draft._data)
            for name, arrived in (("front", joined[: len(joined) // 2]), ("zeros", bytes(len(joined)))):
                self._draft._data += arrived
                self._disk.step(f"{name} of an append at {before} of {self._path}")
                del self._draft._data[before:]
        self._draft.append(chunks)

    def close(self) -> None:
        self._draft.close()


class StepLog:
    """Also shows the disk with only some of a write on it: the front, the back, every other block, some sectors."""

    def __init__(self, log: LogFile, disk: StepDisk, path: str) -> None:
        assert isinstance(log, MemoryLogFile)
        self._log = log
        self._disk = disk
        self._path = path

    @property
    def size(self) -> int:
        return self._log.size

    def write_durable(self, offset: int, chunks: Sequence[Buffer]) -> int:
        if self._disk.watch is not None:
            self._disk.step(f"before a log write at {offset} of {self._path}")
            data = b"".join(chunks)
            data = data.ljust(-(-len(data) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
            blocks, sectors = range(0, len(data), BLOCK_BYTES), range(0, BLOCK_BYTES, SECTOR_BYTES)
            self._partly("front", offset, data, BLOCK_BYTES, blocks[: len(blocks) // 2])
            self._partly("back", offset, data, BLOCK_BYTES, blocks[1:])
            self._partly("odd", offset, data, BLOCK_BYTES, blocks[1::2])
            self._partly("first sector", offset, data, SECTOR_BYTES, sectors[:1])
            self._partly("last sectors", offset, data, SECTOR_BYTES, sectors[4:])
        return self._log.write_durable(offset, chunks)

    def close(self) -> None:
        self._log.close()

    def _partly(self, name: str, offset: int, data: bytes, unit: int, arrived: Sequence[int]) -> None:
        if not 0 < len(arrived) * unit < len(data):
            return
        before = bytes(self._log._data[offset : offset + len(data)])
        for place in arrived:
            self._log._data[offset + place : offset + place + unit] = data[place : place + unit]
        self._disk.step(f"{name} of a log write at {offset} of {self._path}")
        self._log._data[offset : offset + len(data)] = before
