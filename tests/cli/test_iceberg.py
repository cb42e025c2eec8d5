"""Exported tables, read by an engine that is not ours (Polars; DuckDB's own extension where it can be loaded)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from arc.cli.export_folder import CATALOG, DATA, TABLES, local_name, table_folder
from arc.cli.iceberg import Told, bring_up_to_date
from arc.storage.parquet import encode_hours, merge

HOUR_US = 3_600_000_000
START_US = 1_767_225_600_000_000
KINDS = {"host": "tag", "v": "float", "n": "integer"}


@pytest.fixture(autouse=True)
def plans_by_pyiceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


def batch(hour: int, *, rows: int = 100, **more: Any) -> pa.RecordBatch:
    times = START_US + hour * HOUR_US + np.arange(rows) * 1_000_000
    columns: dict[str, Any] = {
        "time": pa.array(times, pa.timestamp("us", "UTC")),
        "host": pa.array([f"h{n % 3}" for n in range(rows)]).dictionary_encode(),
        "v": pa.array(np.arange(rows) * 0.5),
        "n": pa.array(np.arange(rows)),
    }
    return pa.record_batch({**columns, **more})


class Lake:
    """A folder of tables, and what Arc would say of its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = 0

    def file(self, *batches: pa.RecordBatch) -> dict[str, Any]:
        """As a flush writes it, or a merge when there are several."""
        encoded = encode_hours((merge(batches).to_batches()[0],), {"a": "b"})
        if len(encoded) > 1:
            sink = pa.BufferOutputStream()
            pq.write_table(merge(batches), sink)
            data = sink.getvalue().to_pybytes()
        else:
            data = encoded[0].data.to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.root / local_name(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {
            "sha256": sha256,
            "size_bytes": len(data),
            "rows": sum(len(each) for each in batches),
            "min_time_us": min(each.min_time_us for each in encoded),
            "max_time_us": max(each.max_time_us for each in encoded),
        }

    def export(self, *files: Mapping[str, Any], kinds: Mapping[str, str] = KINDS, **how: Any) -> Told:
        self.index += 1
        table = {
            "database": "plant",
            "measurement": how.pop("measurement", "cpu"),
            "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
            "files": files,
        }
        how = {"databases": (), "keep_days": 7.0, **how}
        found = bring_up_to_date(self.root, [table], index=self.index, **how)
        return found[0]

    def read(self, *, measurement: str = "cpu", snapshot_id: int | None = None) -> pl.DataFrame:
        """As an engine does that is given the folder of the table."""
        metadata = table_folder(self.root, "plant", measurement) / "metadata"
        newest = (metadata / "version-hint.text").read_text()
        return pl.scan_iceberg(f"file://{metadata / newest}.metadata.json", snapshot_id=snapshot_id).collect()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_another_engine_reads_what_was_exported(lake: Lake) -> None:
    told = lake.export(lake.file(batch(0)), lake.file(batch(1)))
    assert (told.what, told.files, told.added, told.rows, told.fitted) == ("made", 2, 2, 200, 0)
    found = lake.read()
    assert found.schema == {
        "time": pl.Datetime("us", "UTC"), "host": pl.String, "v": pl.Float64, "n": pl.Int64,
    }  # fmt: skip
    per_host = found.group_by("host").agg(pl.len(), pl.col("v").sum()).sort("host").rows()
    assert per_host == [("h0", 68, 1683.0), ("h1", 66, 1617.0), ("h2", 66, 1650.0)]


def test_files_are_those_of_arc_byte_by_byte(lake: Lake) -> None:
    file = lake.file(batch(0))
    before = (lake.root / local_name(file["sha256"])).read_bytes()
    lake.export(file)
    [path] = [path for path in (lake.root / DATA).rglob("*") if path.is_file()]
    assert path.read_bytes() == before


def test_a_merge_is_one_snapshot_and_earlier_ones_stay_as_they_were(lake: Lake) -> None:
    one, two, three = batch(0), batch(1), batch(2)
    first = lake.export(lake.file(one), lake.file(two))
    second = lake.export(lake.file(one, two), lake.file(three))
    assert (second.what, second.files, second.added, second.removed, second.rows) == ("snapshot", 2, 2, 2, 300)
    assert len(lake.read()) == 300
    assert len(lake.read(snapshot_id=first.snapshot_id)) == 200
    table = SqlCatalog("arc", uri=f"sqlite:///{lake.root / CATALOG}").load_table(("plant", "cpu"))
    assert [each.summary["arc.catalog-index"] for each in table.snapshots() if each.summary] == ["1", "2"]


def test_nothing_new_is_no_snapshot(lake: Lake) -> None:
    file = lake.file(batch(0))
    first = lake.export(file)
    second = lake.export(file)
    assert second.what == "unchanged" and second.snapshot_id == first.snapshot_id


def test_a_measurement_without_files_is_an_empty_table_and_fills_later(lake: Lake) -> None:
    assert lake.export().rows == 0
    assert len(lake.read()) == 0
    assert lake.export(lake.file(batch(0))).added == 1
    assert len(lake.read()) == 100
    assert lake.export().removed == 1
    assert len(lake.read()) == 0


def test_a_new_column_is_empty_in_older_files(lake: Lake) -> None:
    old = lake.file(batch(0))
    lake.export(old)
    new = lake.file(batch(1, up=pa.array([True] * 100)))
    told = lake.export(old, new, kinds={**KINDS, "up": "boolean"})
    assert (told.what, told.added) == ("snapshot", 1)
    assert lake.read()["up"].to_list().count(None) == 100


def test_what_iceberg_has_no_type_for_is_fitted_and_exact(lake: Lake) -> None:
    """The largest unsigned number, and an integer column that became one of floats after the first export."""
    big = 2**64 - 1
    old = lake.file(batch(0, u=pa.array([big] * 100, pa.uint64())))
    kinds = {**KINDS, "u": "unsigned"}
    assert lake.export(old, kinds=kinds).fitted == 1
    assert {int(each) for each in lake.read()["u"]} == {big}
    new = lake.file(batch(1, u=pa.array([1] * 100, pa.uint64()), n=pa.array([0.5] * 100)))
    told = lake.export(old, new, kinds={**kinds, "n": "float"})
    assert (told.what, told.files, told.fitted) == ("made anew", 2, 2)
    found = lake.read()
    assert found.schema["n"] == pl.Float64 and found["n"].sum() == sum(range(100)) + 50


def test_a_table_is_partitioned_by_day_while_every_file_lies_in_one(lake: Lake) -> None:
    def days() -> int:
        table = SqlCatalog("arc", uri=f"sqlite:///{lake.root / CATALOG}").load_table(("plant", "cpu"))
        return len(table.spec().fields)

    first, second = batch(23), batch(24)
    lake.export(lake.file(first), lake.file(second))
    assert days() == 1
    lake.export(lake.file(first, second))
    assert days() == 0 and len(lake.read()) == 200
    lake.export(lake.file(first), lake.file(second), lake.file(batch(25)))
    assert days() == 1 - 1 and len(lake.read()) == 300


def test_names_of_all_sorts_have_tables_of_their_own(lake: Lake) -> None:
    file = lake.file(batch(0))
    names = ["cpu.load", "CPU", "cpu", "größe", "a b", "..", "%2E"]
    for name in names:
        bring = [
            {
                "database": "plant", "measurement": each, "files": [file],
                "columns": [{"name": key, "kind": kind} for key, kind in KINDS.items()],
            }
            for each in names[: names.index(name) + 1]
        ]  # fmt: skip
        told = bring_up_to_date(lake.root, bring, index=1, databases=(), keep_days=7.0)
        assert [each.what for each in told] == ["unchanged"] * (len(bring) - 1) + ["made"]
        assert len(lake.read(measurement=name)) == 100
    assert len([path for path in (lake.root / TABLES / "plant").iterdir()]) == len(names)


def test_a_measurement_that_was_dropped_loses_its_table_and_others_do_not(lake: Lake) -> None:
    file = lake.file(batch(0))
    lake.export(file)
    bring_up_to_date(lake.root, [], index=2, databases=("lab",), keep_days=7.0)
    assert lake.export(file).what == "unchanged"
    [told] = bring_up_to_date(lake.root, [], index=3, databases=(), keep_days=7.0)
    assert (told.table, told.what) == ("plant.cpu", "dropped")


def test_old_snapshots_go_and_then_the_files_that_only_they_need(lake: Lake) -> None:
    one, two = batch(0), batch(1)
    old = [lake.file(one), lake.file(two)]
    lake.export(*old)
    merged = lake.file(one, two)
    lake.export(merged)
    assert all((lake.root / local_name(each["sha256"])).exists() for each in old)
    lake.export(merged, keep_days=0.0)
    assert not any((lake.root / local_name(each["sha256"])).exists() for each in old)
    assert len(lake.read()) == 200


def test_duckdb_reads_the_folder_of_a_table(lake: Lake) -> None:
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    try:
        connection.execute("LOAD iceberg")
    except duckdb.Error as error:
        pytest.skip(f"DuckDB's iceberg extension is no part of its package: {str(error).splitlines()[0]}")
    lake.export(lake.file(batch(0)))
    folder = table_folder(lake.root, "plant", "cpu")
    assert connection.sql(f"SELECT count(*) FROM iceberg_scan('{folder}')").fetchall() == [(100,)]
