"""A shared store: a file is in it, whole, before the catalog knows of it (DURABILITY 7)."""

from __future__ import annotations

from collections.abc import Mapping

from arc.catalog import manifest
from arc.catalog.facts import Catalog
from arc.storage.objects import key_of
from simulations.checkers.violation import Violation


def check_added(before: Catalog, after: Catalog, bodies: Mapping[str, bytes]) -> None:
    """Two versions, one after the other, and what is in the store when the second is new. Raises Violation D-07."""
    if after.cluster is None:
        return
    for old, new in manifest.differing(before.manifest, after.manifest):
        known = {file.path for file in old}
        for file in new:
            if file.path in known:
                continue
            found = bodies.get(key_of(after.cluster.uuid, file.path, file.sha256))
            if found is None or len(found) != file.size_bytes:
                raise Violation("D-07", "a file was registered that is not in the store", file.path, file.size_bytes)
