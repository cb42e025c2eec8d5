"""Out and in with real processes: a cluster is backed up and exported while it is written to, and restored as one."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.cluster import Cluster, wait_until
from tests.e2e.conftest import MakeServer
from tests.e2e.harness import TOKEN, run_arc

ROWS_PER_WRITE = 100


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vault")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, vault: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), settings={"backup.folder": str(vault)}) as cluster:
        cluster.start()
        cluster.wait_whole()
        yield cluster


class Load:
    """Writes through one node until it is told to stop; ``acknowledged`` only grows."""

    def __init__(self, cluster: Cluster, measurement: str) -> None:
        self.acknowledged = 0
        self._measurement = measurement
        self._server = next(iter(cluster.nodes.values()))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            first = self.acknowledged
            lines = (
                f"{self._measurement},host=h{n % 3} v={n}i {1_767_225_600 + n}000000000"
                for n in range(first, first + ROWS_PER_WRITE)
            )
            self._server.write("\n".join(lines), db="plant")
            self.acknowledged += ROWS_PER_WRITE


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_arc(*arguments, variables={"ARC_TOKEN": TOKEN}, seconds=120)


def arc(url: str, *arguments: str) -> dict[str, object]:
    done = run(*arguments, "--json", "--endpoint", url)
    assert done.returncode == 0, f"{done.returncode} {done.stdout} {done.stderr}"
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(300)
def test_a_cluster_comes_back_as_one_node(cluster: Cluster, make_server: MakeServer, vault: Path) -> None:
    """Whichever node is asked. Every row that was acknowledged before is there once; of later ones a prefix may be."""
    writer = cluster.writer()
    asked = cluster.nodes[cluster.others(writer)[0]]
    with Load(cluster, "live") as load:
        while load.acknowledged < 20 * ROWS_PER_WRITE:
            pass
        before = load.acknowledged
        made = arc(asked.url, "backup", "create")
        after = load.acknowledged + ROWS_PER_WRITE
        again = arc(asked.url, "backup", "create")
    assert int(str(again["reused_files"])) > 0
    assert arc(asked.url, "backup", "verify", str(made["backup_id"]))["status"] == "completed"
    one = make_server(settings={"backup.folder": str(vault)}).start()
    restored = arc(one.url, "backup", "restore", str(made["backup_id"]))
    assert restored["status"] == "completed"
    [[rows, values, highest]] = one.rows("SELECT count(*), count(DISTINCT v), max(v) FROM live", db="plant")
    assert rows == values == int(str(highest)) + 1
    assert before <= int(str(rows)) <= after
    one.kill9()
    one.start()
    assert one.one("SELECT count(*) FROM live", db="plant") == rows
    refused = run("backup", "restore", str(made["backup_id"]), "--endpoint", one.url)
    assert refused.returncode == 2 and "plant" in refused.stderr


@pytest.mark.timeout(300)
def test_one_node_comes_back_as_a_cluster(cluster: Cluster, make_server: MakeServer, vault: Path) -> None:
    """Asked of a node that does not write. Every node answers with every row, from files of its own."""
    one = make_server(settings={"backup.folder": str(vault)}).start()
    one.write("\n".join(f"m,host=h{n % 7} v={n}i {n}000000000000" for n in range(2000)), db="solo")
    made = arc(one.url, "backup", "create")
    asked = cluster.nodes[cluster.others(cluster.writer())[0]]
    restored = arc(asked.url, "backup", "restore", str(made["backup_id"]), "--db", "solo")
    assert (restored["status"], restored["rows"]) == ("completed", 2000)
    for name, node in cluster.nodes.items():
        files = node.data_dir / "data" / "solo"

        def are_here(files: Path = files) -> bool:
            return len(list(files.rglob("*.parquet"))) == restored["total_files"]

        wait_until(f"files of solo on {name}", are_here)
        assert node.rows("SELECT count(*), count(DISTINCT v), sum(v) FROM m", db="solo") == [[2000, 2000, 1999000]]


@pytest.mark.timeout(300)
def test_a_damaged_backup_is_told_by_the_exit_code_and_named(
    cluster: Cluster, make_server: MakeServer, vault: Path
) -> None:
    server = next(iter(cluster.nodes.values()))
    server.write("cpu v=1 1767225600000000000", db="lab")
    made = arc(server.url, "backup", "create")
    victim = max((vault / "objects").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    good = victim.read_bytes()
    victim.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        for command in (["verify"], ["restore"]):
            target = (
                server.url if command == ["verify"] else make_server(settings={"backup.folder": str(vault)}).start().url
            )
            bad = run("backup", *command, str(made["backup_id"]), "--json", "--endpoint", target)
            assert bad.returncode == 5, bad.stdout + bad.stderr
            assert ".parquet" in bad.stdout + bad.stderr
    finally:
        victim.write_bytes(good)


@pytest.mark.timeout(300)
def test_another_engine_reads_what_a_cluster_exports(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worked example of docs/backup.md, with bulk import beside live ingest."""
    writer = cluster.writer()
    asked = cluster.nodes[cluster.others(writer)[0]]
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    table = pa.table({"time": [1_767_225_600_000_000 + n * 1_000_000 for n in range(5000)], "v": [1.0] * 5000})
    pq.write_table(table, tmp_path / "bulk.parquet")
    with Load(cluster, "beside"):
        done = run(
            "import", "parquet", str(tmp_path / "bulk.parquet"), "--db", "bulk", "--measurement", "m",
            "--endpoint", asked.url,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        first = arc(asked.url, "export", "iceberg", "--to", str(tmp_path / "lake"))
    found = first["tables"]
    assert isinstance(found, list)
    told = {each["table"]: each for each in found}
    bulk = pl.scan_iceberg(told["bulk.m"]["location"]).select(pl.len(), pl.col("v").sum()).collect()
    assert bulk.row(0) == (5000, 5000.0)
    beside = pl.scan_iceberg(told["plant.beside"]["location"]).select(pl.len(), pl.col("v").n_unique()).collect()
    assert beside.row(0) == (told["plant.beside"]["rows"],) * 2
