"""Disks that lie, break and fill up, and stops that are orderly: what the node must do, seen from outside.

The rules are DURABILITY 2 and 5 and the module `arc.journal.frames`: a torn tail was never acknowledged and is
dropped; a damaged middle was, so the node must not start; a write that failed is never tried again by the same
process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from arc.journal import look
from arc.system import SystemDisk
from tests.e2e import breaking
from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server, ServerDied, run_arc

CORRUPT = 5
DISK_FAILED = 6
"""Exit codes, as `arc --help` lists them."""


def last_segment(server: Server) -> tuple[Path, list[tuple[int, int]]]:
    """The newest WAL file and where its groups begin and end."""
    disk = SystemDisk(server.data_dir)
    newest = [name for name in disk.list_dir("wal") if name.endswith(".log")][-1]
    _, scan = look(disk, f"wal/{newest}")
    return server.data_dir / "wal" / newest, [(group.offset, group.end) for group in scan.groups]


def damage(path: Path, offset: int) -> None:
    """Turn one byte over."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def killed_with_rows(server: Server, count: int) -> None:
    """A node that got rows 0 … count-1, one request each, and was killed."""
    server.start()
    for number in range(count):
        server.write(f"m,host=a id={number}i {1_767_225_600_000_000_000 + number}")
    server.kill9()


def test_a_torn_last_record_is_dropped_and_the_node_starts(make_server: MakeServer) -> None:
    """A crash in the middle of a write leaves half a group; nobody was told that it is stored."""
    server = make_server()
    killed_with_rows(server, 5)
    path, groups = last_segment(server)
    assert len(groups) == 5
    start, end = groups[-1]
    damage(path, start + 200)
    with path.open("r+b") as file:  # and what a crash leaves behind it: nothing
        file.seek(end - 8)
        file.write(bytes(8))

    server.start()

    assert server.rows("SELECT id FROM m ORDER BY id") == [[0], [1], [2], [3]]
    assert "torn" in server.stderr() or "dropped" in server.stderr(), server.stderr()
    server.write("m,host=a id=9i 1767225600000000009")
    server.kill9()
    server.start()
    assert server.rows("SELECT id FROM m ORDER BY id") == [[0], [1], [2], [3], [9]]


def test_a_damaged_record_in_the_middle_stops_the_start_and_is_shown(make_server: MakeServer) -> None:
    """Bytes that were promised are gone: going on would turn a damage into a loss that nobody notices."""
    server = make_server()
    killed_with_rows(server, 5)
    path, groups = last_segment(server)
    offset = groups[1][0]
    damage(path, offset + 200)
    before = path.read_bytes()

    server.start(wait=False)

    assert server.wait_end() == CORRUPT, server.stderr()
    assert path.name in server.stderr() and str(offset) in server.stderr(), server.stderr()
    assert path.read_bytes() == before, "a damaged log must be left as it is"
    verified = run_arc("wal", "verify", "--data-dir", str(server.data_dir))
    assert verified.returncode == CORRUPT, verified
    shown = "".join((verified.stdout + verified.stderr).split())
    assert path.name in shown and str(offset) in shown.replace(",", ""), verified


def test_a_second_process_on_the_same_folder_is_refused(make_server: MakeServer) -> None:
    """Two writers of one log would both be wrong."""
    first = make_server()
    first.start()
    second = make_server(data_dir=first.data_dir)
    with pytest.raises(ServerDied, match="in use by another"):
        second.start()
    first.write("m v=1")
    assert first.one("SELECT count(*) FROM m") == 1


def parquet_rows(server: Server) -> int:
    """Rows in all Parquet files on disk."""
    return sum(pq.read_metadata(path).num_rows for path in server.data_dir.rglob("*.parquet"))


def test_a_graceful_stop_leaves_everything_in_files_and_nothing_to_replay(make_server: MakeServer) -> None:
    """SIGTERM: requests under way are answered, the buffer is flushed, the log needs no replay."""
    server = make_server()
    server.start()
    stored = [0]
    in_full_swing = threading.Event()

    def write_until_refused() -> None:
        with httpx.Client(base_url=server.url, headers=dict(server.http.headers), timeout=30) as http:
            while True:
                body = "\n".join(f"m,host=a id={stored[0] + n}i" for n in range(100))
                try:
                    answer = http.post("/write", content=body)
                except httpx.TransportError:
                    return
                if answer.status_code != 204:
                    assert answer.status_code == 503, answer.text
                    return
                stored[0] += 100
                if stored[0] >= 1000:
                    in_full_swing.set()

    writer = threading.Thread(target=write_until_refused)
    writer.start()
    assert in_full_swing.wait(60)
    server.terminate()
    writer.join(30)

    assert parquet_rows(server) >= stored[0]
    inspected = run_arc("wal", "inspect", "--json", "--data-dir", str(server.data_dir))
    assert inspected.returncode == 0, inspected
    server.start()
    assert recovered_rows(server) == 0, server.stderr()
    found = server.one("SELECT count(*) FROM m")
    assert found == server.one("SELECT count(DISTINCT id) FROM m")
    assert stored[0] <= int(str(found)) <= stored[0] + 100  # the last request may have lost only its answer


def recovered_rows(server: Server) -> int:
    """Rows that the last start replayed from the log, as it said."""
    for line in server.stderr().splitlines():
        for word in line.replace('"', " ").replace(":", "=").split():
            name, _, value = word.partition("=")
            if name in ("recovered_rows", "rows_recovered") and value.isdigit():
                return int(value)
    raise AssertionError(f"the start did not say how many rows it recovered:\n{server.stderr()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB. Needs the right to mount; skipped with the reason where it is not given."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    done = (
        subprocess.run(command, capture_output=True, text=True, check=False)
        if shutil.which("mount") and os.geteuid() == 0
        else None
    )
    if done is None or done.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {'not root' if done is None else done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.mark.parametrize("reserve", ["8MiB", "0"], ids=["reserve kept", "no reserve, a real ENOSPC"])
def test_a_full_disk_refuses_writes_loses_nothing_and_recovers(
    make_server: MakeServer, small_disk: Path, reserve: str
) -> None:
    """503 with Retry-After as long as there is no room; every 204 is kept; a freed disk takes writes again."""
    settings = {
        "storage.reserve_bytes": reserve,
        "wal.segment_bytes": "4MiB",
        "ingest.flush_rows": 20_000,
        "ingest.memory_bytes": "256MiB",
    }
    server = make_server(settings=settings, data_dir=small_disk / "data")
    server.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(60 << 20))
    stored = 0
    answer: httpx.Response | None = None
    for number in range(4000):
        lines = "\n".join(f'm,host=h{n} id={number * 500 + n}i,text="{os.urandom(40).hex()}"' for n in range(500))
        answer = server.http.post("/write", content=lines)
        if answer.status_code != 204:
            break
        stored += 500
    assert answer is not None and answer.status_code == 503, f"{answer} after {stored} rows"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] != "outcome_unknown", answer.text
    server.check_alive()
    assert server.one("SELECT count(DISTINCT id) FROM m") == stored, "reads must go on while the disk is full"

    ballast.unlink()

    written = False
    for _ in range(600):  # the check of free space has a pace of its own
        again = server.http.post("/write", content=f"m,host=h0 id={stored}i")
        if written := again.status_code == 204:
            break
        assert again.status_code == 503, again.text
        threading.Event().wait(0.05)
    assert written, "free space was never noticed"
    server.kill9()
    server.start()
    assert server.rows("SELECT count(id), count(DISTINCT id) FROM m") == [[stored + 1, stored + 1]]


def test_a_failing_disk_stops_the_process_which_says_why_and_never_asks_again(
    make_server: MakeServer, broken_disk: Path, tmp_path: Path
) -> None:
    """After a failed write or fsync nobody knows what the disk holds; only a restart, which reads it, does."""
    trigger = tmp_path / "broken"
    server = make_server(variables=breaking.variables(broken_disk, trigger, tmp_path / "node0" / "data"))
    server.start()
    for number in range(20):
        server.write(f"m,host=a id={number}i {1_767_225_600_000_000_000 + number}")

    trigger.touch()
    try:
        answer = server.http.post("/write", content="m,host=a id=20i 1767225600000000020")
    except httpx.TransportError:
        pass  # it may be gone before it can answer
    else:
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown"), answer.text

    assert server.wait_end() == DISK_FAILED, server.stderr()
    assert "Input/output error" in server.stderr() and "wal/" in server.stderr(), server.stderr()
    wal_calls = [line for line in breaking.told_in(trigger).read_text().splitlines() if "/wal/" in line]
    assert len(wal_calls) == 1, f"asked a broken disk more than once: {wal_calls}"
    trigger.unlink()
    server.start()
    found = [row for (row,) in server.rows("SELECT id FROM m ORDER BY id")]
    assert found in (list(range(20)), list(range(21)))


@pytest.mark.parametrize("age", ["1s", "10m"], ids=["when due", "when asked for"])
def test_a_failing_flush_stops_the_process_too(
    make_server: MakeServer, broken_disk: Path, tmp_path: Path, age: str
) -> None:
    """A Parquet file that cannot be synced is no less a lie than a log; its rows are still in the WAL."""
    trigger = tmp_path / "broken"
    server = make_server(
        settings={"ingest.flush_age_seconds": age},
        variables=breaking.variables(broken_disk, trigger, tmp_path / "node0" / "data" / "data"),
    )
    server.start()
    trigger.touch()  # the log lies elsewhere and works
    server.write("\n".join(f"m,host=a id={number}i {1_767_225_600_000_000_000 + number}" for number in range(20)))
    if age == "10m":
        with contextlib.suppress(httpx.TransportError):  # it may be gone before it can answer
            server.http.post("/api/v1/write/line-protocol/flush")
    assert server.wait_end() == DISK_FAILED, server.stderr()
    trigger.unlink()
    server.start()
    assert server.rows("SELECT count(id), count(DISTINCT id) FROM m") == [[20, 20]]
    assert json.loads(server.http.get("/ready").text)["status"] == "ready"
