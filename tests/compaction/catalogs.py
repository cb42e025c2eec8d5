"""Catalogs with these files, and a compactor lease of that holder and epoch."""

from __future__ import annotations

from collections.abc import Iterable

from arc.catalog.cells import MeasurementFiles, changed, parse_path
from arc.catalog.facts import Catalog
from arc.catalog.leases import Lease
from arc.catalog.manifest import DatabaseFiles
from arc.catalog.values import COMPACTOR
from arc.ids import Epoch, NodeId
from arc.storage.files import FileEntry


def catalog_of(files: Iterable[FileEntry], *, holder: str = "n1", epoch: int = 5) -> Catalog:
    grouped: dict[str, dict[str, list[tuple[FileEntry, int]]]] = {}
    for file in files:
        place = parse_path(file.path)
        assert place is not None, file.path
        grouped.setdefault(file.database, {}).setdefault(file.measurement, []).append((file, place.day))
    manifest = {
        database: DatabaseFiles(
            {name: changed(MeasurementFiles(), add=group, mark=1 << 40) for name, group in by.items()}
        )
        for database, by in grouped.items()
    }
    lease = Lease(name=COMPACTOR, holder=NodeId(holder), epoch=Epoch(epoch))
    return Catalog(manifest=manifest, leases={COMPACTOR: lease})
