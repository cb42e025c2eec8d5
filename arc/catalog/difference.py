"""What must be told to bring an observer from one version of the catalog to another: the events of a restored snapshot.

`ClusterFSM.apply` tells its changes directly, because it knows them; the tests hold that both ways tell the same. Parts
that are the same object are skipped, so the difference of close versions is cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from arc.catalog.cells import MeasurementFiles, differing
from arc.catalog.events import (
    ClusterFounded,
    DatabaseCreated,
    DatabaseDropped,
    Event,
    FilesAdded,
    FilesHeld,
    FilesRemoved,
    InSyncChanged,
    LeaseAssigned,
    LeaseVacated,
    MarksMoved,
    MeasurementDropped,
    NodeDescribed,
    NodeForgotten,
    PoliciesChanged,
    SchemaChanged,
    TokensChanged,
)
from arc.catalog.facts import Catalog
from arc.catalog.manifest import NO_FILES, NOTHING
from arc.catalog.schemas import DatabaseFacts
from arc.catalog.values import FlushMark
from arc.storage.files import FileEntry


def difference(before: Catalog, after: Catalog) -> tuple[Event, ...]:
    """Events that lead from ``before`` to ``after``: schemas first, then files and marks, leases, tokens, nodes,
    and the cluster's own facts.
    """
    parts = (_schemas, _files, _leases, _tokens, _nodes, _cluster)
    return tuple(event for part in parts for event in part(before, after))


def _schemas(before: Catalog, after: Catalog) -> Iterator[Event]:
    if before.databases is after.databases:
        return
    for name, old in sorted(before.databases.items()):
        if not _same_database(old, after.databases.get(name)):
            yield DatabaseDropped(name)
    for name, new in sorted(after.databases.items()):
        known = before.databases.get(name)
        if known is new:
            continue
        if known is None or not _same_database(known, new):
            yield DatabaseCreated(name)
            known = None
        for measurement in sorted({*known.measurements} - {*new.measurements} if known is not None else ()):
            yield MeasurementDropped(name, measurement)
        for measurement, schema in sorted(new.measurements.items()):
            older = known.measurements.get(measurement) if known is not None else None
            if older is None or older.version != schema.version:
                yield SchemaChanged(name, measurement, schema.version)


def _same_database(old: DatabaseFacts, new: DatabaseFacts | None) -> bool:
    return new is not None and old.created_index == new.created_index


def _files(before: Catalog, after: Catalog) -> Iterator[Event]:
    if before.manifest is after.manifest:
        return
    added: list[FileEntry] = []
    removed: list[FileEntry] = []
    held: list[FileEntry] = []
    marks: list[FlushMark] = []
    for database in sorted({*before.manifest, *after.manifest}):
        olds = before.manifest.get(database, NO_FILES).measurements
        news = after.manifest.get(database, NO_FILES).measurements
        for measurement in sorted(_changed_keys(olds, news)):
            old, new = olds.get(measurement, NOTHING), news.get(measurement, NOTHING)
            gone, come, others = _file_difference(old, new)
            removed += gone
            added += come
            held += others
            if new.mark not in (old.mark, 0):
                marks.append(FlushMark(database, measurement, new.mark))
    if removed:
        yield FilesRemoved(tuple(removed))
    if added:
        yield FilesAdded(tuple(added))
    if held:
        yield FilesHeld(tuple(held))
    if marks:
        yield MarksMoved(tuple(marks))


def _changed_keys(olds: Mapping[str, MeasurementFiles], news: Mapping[str, MeasurementFiles]) -> set[str]:
    if olds is news:
        return set()
    return {name for name in {*olds, *news} if olds.get(name) is not news.get(name)}


def _file_difference(
    old: MeasurementFiles, new: MeasurementFiles
) -> tuple[list[FileEntry], list[FileEntry], list[FileEntry]]:
    """(gone, come, held by others than before) between two versions; files are told apart by path and hash."""
    olds: dict[tuple[str, str], FileEntry] = {}
    news: dict[tuple[str, str], FileEntry] = {}
    for before, after in differing(old, new):
        olds.update(((file.path, file.sha256), file) for file in before)
        news.update(((file.path, file.sha256), file) for file in after)
    return (
        [file for key, file in olds.items() if key not in news],
        [file for key, file in news.items() if key not in olds],
        [file for key, file in news.items() if key in olds and olds[key].holders != file.holders],
    )


def _leases(before: Catalog, after: Catalog) -> Iterator[Event]:
    for name, gone in sorted(before.leases.items()):
        if name not in after.leases:
            yield LeaseVacated(name, gone.holder)
    for name, lease in sorted(after.leases.items()):
        held = before.leases.get(name)
        if held is None or held.epoch != lease.epoch:
            yield LeaseAssigned(name, lease.holder, lease.epoch, held.holder if held is not None else None)


def _tokens(before: Catalog, after: Catalog) -> Iterator[Event]:
    if before.access is after.access:
        return
    ids = sorted({*before.tokens, *after.tokens})
    changed = tuple(id_ for id_ in ids if before.tokens.get(id_) != after.tokens.get(id_))
    if changed:
        yield TokensChanged(changed)


def _nodes(before: Catalog, after: Catalog) -> Iterator[Event]:
    if before.nodes is after.nodes:
        return
    for name, old in sorted(before.nodes.items()):
        new = after.nodes.get(name)
        if new is None or new.incarnation != old.incarnation:
            yield NodeForgotten(old.name, old.incarnation)
    for name, record in sorted(after.nodes.items()):
        if before.nodes.get(name) != record:
            yield NodeDescribed(record.name, record.incarnation, record.address)


def _cluster(before: Catalog, after: Catalog) -> Iterator[Event]:
    if after.in_sync is not None and after.in_sync != before.in_sync:
        yield InSyncChanged(after.in_sync.epoch, after.in_sync.members)
    if after.cluster is not None and before.cluster is None:
        yield ClusterFounded(after.cluster.uuid)
    if after.policies is not before.policies:
        keys = sorted({*before.policies, *after.policies})
        changed = tuple(key for key in keys if before.policies.get(key) != after.policies.get(key))
        if changed:
            yield PoliciesChanged(changed)
