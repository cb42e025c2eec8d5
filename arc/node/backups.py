"""The parts that take and restore backups, handed their neighbours."""

from __future__ import annotations

from arc.backup.ports import Propose
from arc.backup.restoring import Restorer
from arc.backup.service import BackupService
from arc.backup.taking import Taker
from arc.backup.vault import FolderVault, StoreVault, Vault
from arc.errors import InvalidRequest
from arc.node.ground import Ground
from arc.node.rows import Rows

FOLDER = "backups"
"""In the data folder, where nothing else is set."""

PREFIX = "arc-backups"
"""In a store: no identity of a cluster is called so."""


def build_backups(ground: Ground, propose: Propose, rows: Rows) -> BackupService:
    """The service over the vault that the configuration names."""
    ports, log = ground.ports, ground.log.bind(component="backup")
    vault, fetch = _vault(ground), rows.awaiting
    return BackupService(
        vault=vault,
        taker=Taker(
            vault=vault,
            ports=ports,
            files=rows.keeper,
            fetch=fetch,
            flush=rows.writer,
            catalog=lambda: ground.fsm.catalog,
            version=ground.version,
            log=log,
        ),
        restorer=Restorer(
            vault=vault,
            ports=ports,
            files=rows.keeper,
            propose=propose,
            catalog=lambda: ground.fsm.catalog,
            shelf=rows.shelf,
            node=ground.node,
            reserve_bytes=ground.config.storage.reserve_bytes,
            log=log,
        ),
        ports=ports,
        files=rows.keeper,
        fetch=fetch,
        flush=rows.writer,
        catalog=lambda: ground.fsm.catalog,
        log=log,
    )


def _vault(ground: Ground) -> Vault:
    if ground.config.backup.backend == "s3":
        if ground.objects is None:
            raise InvalidRequest('backup.backend = "s3" needs storage.backend = "s3"', code="invalid_configuration")
        return StoreVault(ground.objects, PREFIX)
    if ground.backup_disk is not None:
        return FolderVault(ground.backup_disk, "", ground.node)
    return FolderVault(ground.ports.disk, FOLDER, ground.node)
