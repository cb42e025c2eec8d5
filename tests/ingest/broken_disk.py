"""A real disk that fails when it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arc.system import SystemDisk


class BrokenDisk(SystemDisk):
    """A disk whose log writes or creations can be made to fail."""

    write_error: int | None = None
    create_error: int | None = None

    def create_log(self, path: str, size: int) -> Any:
        if self.create_error is not None:
            raise OSError(self.create_error, "injected")
        return _Breaking(super().create_log(path, size), self)

    def open_log(self, path: str) -> Any:
        return _Breaking(super().open_log(path), self)


class _Breaking:
    def __init__(self, file: Any, disk: BrokenDisk) -> None:
        self._file = file
        self._disk = disk

    @property
    def size(self) -> int:
        return int(self._file.size)

    def write_durable(self, offset: int, chunks: Sequence[bytes]) -> int:
        if self._disk.write_error is not None:
            raise OSError(self._disk.write_error, "injected")
        return int(self._file.write_durable(offset, chunks))

    def close(self) -> None:
        self._file.close()
