"""A power cut without hardware: each node's data on an ext4 image of its own, stopped in one instant.

The FS_IOC_SHUTDOWN ioctl with NOLOGFLUSH makes a file system forget everything that was not flushed to its image, as
when the plug is pulled. Needs root, loop devices and ext4 (or xfs); no device mapper.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
IMAGE_BYTES = 1 << 30
UNMOUNT_ATTEMPTS = 50


class Disks:
    """File systems mounted on these folders for as long as the context lasts."""

    def __init__(self, folders: Sequence[Path], size_bytes: int = IMAGE_BYTES) -> None:
        self._images = {folder: folder.with_suffix(".img") for folder in folders}
        self._size_bytes = size_bytes
        self._mounted: list[Path] = []

    def __enter__(self) -> Self:
        try:
            for folder, image in self._images.items():
                folder.mkdir(parents=True, exist_ok=True)
                with image.open("wb") as file:
                    file.truncate(self._size_bytes)
                _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
                self._mount(folder)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for folder in list(self._mounted):
            self._unmount(folder)
        for image in self._images.values():
            image.unlink(missing_ok=True)

    def cut(self) -> None:
        """Pull the plug of all of them."""
        handles = [os.open(folder, os.O_RDONLY) for folder in self._images]
        for handle in handles:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        for handle in handles:
            os.close(handle)

    def restore(self) -> None:
        """Mount again what survived; no process may have files open there any more."""
        for folder in self._images:
            self._unmount(folder)
            self._mount(folder)

    def _mount(self, folder: Path) -> None:
        _run("mount", "-o", "loop", str(self._images[folder]), str(folder))
        self._mounted.append(folder)

    def _unmount(self, folder: Path) -> None:
        for attempt in range(UNMOUNT_ATTEMPTS):
            try:
                _run("umount", str(folder))
                break
            except subprocess.CalledProcessError:
                if attempt == UNMOUNT_ATTEMPTS - 1:
                    raise
                time.sleep(0.1)  # a killed process still lets go of its files
        self._mounted.remove(folder)


def why_not(folder: Path) -> str:
    """Empty if a cut loses exactly what was not synced here; else what is in the way."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            mount = Path(name) / "a"
            with Disks([mount], 48 << 20) as disks:
                handle = os.open(mount / "file", os.O_CREAT | os.O_WRONLY)
                os.write(handle, b"s" * 1000)
                os.fsync(handle)
                os.write(handle, b"u" * 1000)
                disks.cut()
                with contextlib.suppress(OSError):
                    os.close(handle)
                disks.restore()
                kept = (mount / "file").stat().st_size
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no power cuts here: {getattr(error, 'stderr', b'') or error!r}"
    return "" if kept == 1000 else f"no power cuts here: {kept} bytes survived, 1000 were synced"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
