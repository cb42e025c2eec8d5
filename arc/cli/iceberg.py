"""Iceberg tables over Parquet files that Arc wrote: made, and brought up to date with the manifest, in one snapshot.

A file is taken as it is where Iceberg can: its columns are found by name (a name mapping), since Arc's files carry no
field ids. Where it cannot, because the file has unsigned integers, which Iceberg does not know, or integers of a column
that became one of floats since, a fitted copy stands for it.

The table is partitioned by day as long as every file lies within one. Which files a table has is compared with which it
should have, so whatever happened before, a run ends with the right ones, and what it commits is counted again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from arc.cli.exits import Failure
from arc.cli.export_folder import CATALOG, DATA, TABLES, local_name, table_folder

DAY_US = 86_400_000_000
DAY_FIELD = "time_day"
UNSIGNED = DecimalType(20, 0)
"""Holds every unsigned 64-bit number, as no integer of Iceberg does."""

TYPES: Mapping[str, IcebergType] = {
    "tag": StringType(),
    "string": StringType(),
    "float": DoubleType(),
    "integer": LongType(),
    "unsigned": UNSIGNED,
    "boolean": BooleanType(),
}
"""By the kind of a column."""

_FITTED: Mapping[str, pa.DataType] = {
    "float": pa.float64(),
    "unsigned": pa.decimal128(20, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of one table. ``location`` is that of its newest metadata."""

    table: str
    what: str
    files: int = 0
    added: int = 0
    removed: int = 0
    fitted: int = 0
    rows: int = 0
    snapshot_id: int | None = None
    location: str = ""

    def document(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)


def bring_up_to_date(
    root: Path, listed: Sequence[Mapping[str, Any]], *, index: int, databases: Sequence[str], keep_days: float
) -> list[Told]:
    """Make every table hold the rows of its measurement, as listed (`arc.api.export`). The files are in ``root``.

    Tables of databases that were asked for (all, if none is named) and are not listed are dropped. Raises Failure.
    """
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)  # It tells of each dictionary and each lacking statistic.
    root.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("arc", uri=f"sqlite:///{root / CATALOG}", warehouse=f"file://{root / TABLES}")
    told = [_Exported(catalog, root, each, index).bring_up_to_date() for each in listed]
    told += _drop_others(catalog, listed, databases)
    _expire(catalog, root, keep_days)
    return told


class _Exported:
    """One table."""

    def __init__(self, catalog: SqlCatalog, root: Path, listed: Mapping[str, Any], index: int) -> None:
        self._catalog = catalog
        self._root = root
        self._listed = listed
        self._index = index
        self._kinds = {each["name"]: each["kind"] for each in listed["columns"]}
        self._name = (str(listed["database"]), str(listed["measurement"]))
        self._has_days = all(each["min_time_us"] // DAY_US == each["max_time_us"] // DAY_US for each in listed["files"])
        self._fitted = 0

    def bring_up_to_date(self) -> Told:
        table, what = self._table()
        wanted = {f"file://{self._file(each)}" for each in self._listed["files"]}
        standing = {task.file.file_path: task.file for task in table.scan().plan_files()}
        added = sorted(wanted - standing.keys())
        removed = [standing[path] for path in sorted(standing.keys() - wanted)]
        if added or removed:
            self._commit(table, added, removed)
            what = what or "snapshot"
        table = self._catalog.load_table(self._name)
        self._require_right(table, wanted)
        _hint(table)
        snapshot = table.current_snapshot()
        return Told(
            table=".".join(self._name),
            what=what or "unchanged",
            files=len(wanted),
            added=len(added),
            removed=len(removed),
            fitted=self._fitted,
            rows=sum(each["rows"] for each in self._listed["files"]),
            snapshot_id=snapshot.snapshot_id if snapshot is not None else None,
            location=table.metadata_location,
        )

    def _table(self) -> tuple[Table, str]:
        """The table with its columns and its partitioning as they have to be, and what was done to it so far."""
        try:
            table = self._catalog.load_table(self._name)
        except NoSuchTableError:
            return self._make(), "made"
        types = {each.name: each.field_type for each in table.schema().fields}
        if any(name in types and types[name] != TYPES[kind] for name, kind in self._kinds.items()) or (
            types.keys() - self._kinds.keys() - {"time"}
        ):
            # An integer column became one of floats, which Iceberg cannot follow, or the measurement is another one.
            self._catalog.drop_table(self._name)
            return self._make(), "made anew"
        if lacking := [name for name in self._kinds if name not in types]:
            with table.update_schema() as update:
                for name in lacking:
                    update.add_column((name,), TYPES[self._kinds[name]])
            self._map_names(self._catalog.load_table(self._name))
        if not self._has_days and table.spec().fields:
            with table.update_spec() as spec:
                spec.remove_field(DAY_FIELD)
        return self._catalog.load_table(self._name), ""

    def _make(self) -> Table:
        fields = [NestedField(1, "time", TimestamptzType(), required=False)]
        fields += [
            NestedField(2 + nth, name, TYPES[kind], required=False)
            for nth, (name, kind) in enumerate(self._kinds.items())
        ]
        spec = PartitionSpec(PartitionField(source_id=1, field_id=1000, transform=DayTransform(), name=DAY_FIELD))
        self._catalog.create_namespace_if_not_exists(self._name[:1])
        folder = table_folder(self._root, *self._name)
        folder.mkdir(parents=True, exist_ok=True)
        table = self._catalog.create_table(
            self._name,
            schema=Schema(*fields),
            partition_spec=spec if self._has_days else PartitionSpec(),
            location=f"file://{folder}",
        )
        self._map_names(table)
        return self._catalog.load_table(self._name)

    def _map_names(self, table: Table) -> None:
        mapping = table.schema().name_mapping.model_dump_json()
        with table.transaction() as change:
            change.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})

    def _commit(self, table: Table, added: Sequence[str], removed: Sequence[DataFile]) -> None:
        """One snapshot, whatever came and went: nobody sees the rows of a merged file twice or not at all."""
        properties = {"arc.catalog-index": str(self._index)}
        with (
            table.transaction() as change,
            change.update_snapshot(snapshot_properties=properties).overwrite() as files,
        ):
            for file in removed:
                files.delete_data_file(file)
            for path in added:
                files.append_data_file(
                    parquet_file_to_data_file(io=table.io, table_metadata=table.metadata, file_path=path)
                )

    def _require_right(self, table: Table, wanted: set[str]) -> None:
        """Raises Failure: a mistake that must not pass for an export."""
        found = [task.file for task in table.scan().plan_files()]
        rows, found_rows = sum(each["rows"] for each in self._listed["files"]), sum(each.record_count for each in found)
        if {each.file_path for each in found} != wanted or found_rows != rows:
            raise Failure(
                f"{'.'.join(self._name)} has {len(found)} files with {found_rows} rows, and should have"
                f" {len(wanted)} with {rows}",
                next_step="Delete the folder of the tables and export again; and please report it.",
                code="internal",
            )

    def _file(self, listed: Mapping[str, Any]) -> Path:
        """The file that the table refers to: the copy, or one that was fitted."""
        copy = self._root / local_name(listed["sha256"])
        schema = pq.read_schema(copy)
        wrong = sorted(
            name
            for name, kind in self._kinds.items()
            if kind in _FITTED and name in schema.names and schema.field(name).type != _FITTED[kind]
        )
        if not wrong:
            return copy
        self._fitted += 1
        told = "\n".join(f"{name} {_FITTED[self._kinds[name]]}" for name in wrong)
        fitted = copy.with_name(f"{copy.stem}.{hashlib.sha256(told.encode()).hexdigest()[:8]}.parquet")
        if not fitted.exists():
            self._fit(copy, fitted, wrong)
        return fitted

    def _fit(self, copy: Path, fitted: Path, wrong: Sequence[str]) -> None:
        """One row group at a time."""
        draft = fitted.with_name(f"{fitted.name}.part")
        source = pq.ParquetFile(copy)
        schema = source.schema_arrow
        for name in wrong:
            at = schema.get_field_index(name)
            schema = schema.set(at, pa.field(name, _FITTED[self._kinds[name]]))
        with pq.ParquetWriter(draft, schema, compression="zstd") as target:
            for group in range(source.num_row_groups):
                target.write_table(source.read_row_group(group).cast(schema))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(fitted)


def _hint(table: Table) -> None:
    """For engines that are given the folder of a table: the name of its newest metadata."""
    metadata = Path(table.metadata_location.removeprefix("file://"))
    draft = metadata.with_name(".version-hint.tmp")
    draft.write_text(metadata.name.removesuffix(".metadata.json"), encoding="utf-8")
    draft.replace(metadata.with_name("version-hint.text"))


def _drop_others(catalog: SqlCatalog, listed: Sequence[Mapping[str, Any]], databases: Sequence[str]) -> list[Told]:
    known = {(each["database"], each["measurement"]) for each in listed}
    told: list[Told] = []
    for namespace in catalog.list_namespaces():
        if databases and namespace[0] not in databases:
            continue
        for name in catalog.list_tables(namespace):
            if tuple(name) not in known:
                catalog.drop_table(name)
                told.append(Told(table=".".join(name), what="dropped"))
    return told


def _expire(catalog: SqlCatalog, root: Path, keep_days: float) -> None:
    """Old snapshots go, and then the files that none of those left refers to. A current snapshot never goes."""
    before = datetime.now(UTC) - timedelta(days=keep_days)
    needed: set[str] = set()
    for namespace in catalog.list_namespaces():
        for name in catalog.list_tables(namespace):
            table = catalog.load_table(name)
            current = table.current_snapshot()
            old = [
                each.snapshot_id
                for each in table.snapshots()
                if each.timestamp_ms < before.timestamp() * 1000
                and (current is None or each.snapshot_id != current.snapshot_id)
            ]
            if old:
                table.maintenance.expire_snapshots().by_ids(old).commit()
                table = catalog.load_table(name)
                _hint(table)
            if table.snapshots():
                needed |= set(table.inspect.all_data_files().column("file_path").to_pylist())
    stems = {_stem(path) for path in needed}
    limit = time.time() - keep_days * 86_400
    for path in (root / DATA).glob("*/*"):
        if _stem(path.name) not in stems and path.stat().st_mtime < limit:
            with suppress(FileNotFoundError):
                path.unlink()


def _stem(path: str) -> str:
    """The hash that a file is named by. Of a file and what was fitted to it both stay: it is not fetched again."""
    return path.rpartition("/")[2].partition(".")[0]
