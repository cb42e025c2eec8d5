"""What an operator may set about backups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupConfig:
    """Section ``[backup]``: where backups lie. The same on every node that may hold the writer lease."""

    backend: Literal["local", "s3"] = "local"
    """``s3``: below ``arc-backups/`` in the bucket of ``[storage]``, which needs ``storage.backend = "s3"``. Every
    node, and every other cluster with the same bucket and prefix, then sees the same backups.
    """

    folder: str = ""
    """Folder of the backups, best a mount that all nodes share. Empty: ``backups`` in the data folder, which helps
    against mistakes and not against the loss of the disk.
    """
