"""`arc wal` on logs that a test wrote, and then broke."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pyarrow as pa
import pytest

from arc.ids import Epoch, Position, Sequence
from arc.journal import Journal
from arc.ports import BLOCK_BYTES
from arc.storage.wal import record
from arc.system import SystemDisk
from tests.cli.conftest import Run, document

SEGMENT_BYTES = 4 * BLOCK_BYTES


def payload(sequence: int, measurement: str, rows: int) -> bytes:
    batch = pa.record_batch({"time": pa.array(range(rows)), "v": pa.array([0.5] * rows)})
    header = record.RecordHeader(
        position=Position(Epoch(1), Sequence(sequence)),
        database="demo",
        measurement=measurement,
        rows=rows,
        parts_left=0,
        moment_us=0,
        key="",
    )
    return record.encode(header, record.encode_columns(batch))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven records in three segments: cpu has 2 rows each, disk 3."""
    data = tmp_path / "data"
    journal = Journal.open(SystemDisk(data), "wal", segment_bytes=SEGMENT_BYTES)
    for sequence in range(1, 8):
        name, rows = ("disk", 3) if sequence % 2 == 0 else ("cpu", 2)
        journal.append([payload(sequence, name, rows)], sequence)
    assert len(journal.segments()) == 3
    return data


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "wal").glob("*.log"))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)
        file.seek(offset)
        file.write(bytes([old[0] ^ 0x40]))


def test_inspect_shows_segments_and_counts_rows_per_measurement(run: Run, folder: Path) -> None:
    found = document(run("wal", "inspect", "--data-dir", str(folder), "--records", "--json"))
    spans = [(one["first"], one["last"], one["state"]) for one in found["segments"]]
    assert spans == [(1, 3, "closed"), (4, 6, "closed"), (7, 7, "open")]
    assert found["measurements"] == [
        {"database": "demo", "measurement": "cpu", "records": 4, "rows": 8},
        {"database": "demo", "measurement": "disk", "records": 3, "rows": 9},
    ]
    assert found["running_pid"] is None
    assert found["segments"][0]["path"] == "wal/000000000001.log"


def test_inspect_for_people(run: Run, folder: Path) -> None:
    found = run("wal", "inspect", "--data-dir", str(folder))
    assert found.stdout.splitlines()[0] == "segment\tfirst\tlast\trecords\tused bytes\tfile bytes\tstate"
    assert found.stdout.splitlines()[1] == f"1\t1\t3\t3\t{SEGMENT_BYTES}\t{SEGMENT_BYTES}\tclosed"
    assert found.stderr == ""


def test_a_whole_log_verifies(run: Run, folder: Path) -> None:
    found = run("wal", "verify", "--data-dir", str(folder))
    assert found.exit_code == 0
    assert "wal: whole, 3 segments, records 1 to 7" in found.stdout
    assert "raft/log: empty" in found.stdout


def test_a_torn_end_is_told_and_harmless(run: Run, folder: Path) -> None:
    flip(segments(folder)[-1], BLOCK_BYTES + 200)
    found = run("wal", "verify", "--data-dir", str(folder))
    assert found.exit_code == 0
    assert f"torn end at offset {BLOCK_BYTES} of wal/000000000003.log" in found.stdout
    state = document(run("wal", "inspect", "--data-dir", str(folder), "--json"))["segments"][-1]["state"]
    assert "never acknowledged" in state


@pytest.mark.parametrize(
    ("segment", "offset", "named"),
    [
        (0, BLOCK_BYTES + 200, f"wal/000000000001.log at offset {BLOCK_BYTES}"),  # a group with groups behind it
        (
            1,
            3 * BLOCK_BYTES + 100,
            f"wal/000000000002.log at offset {3 * BLOCK_BYTES}",
        ),  # torn, but not in the last segment
        (1, 3, "wal/000000000002.log at offset 0"),  # the header of a segment
    ],
)
def test_damage_is_exit_code_5_with_file_and_offset(
    run: Run, folder: Path, segment: int, offset: int, named: str
) -> None:
    flip(segments(folder)[segment], offset)
    found = run("wal", "verify", "--data-dir", str(folder))
    assert found.exit_code == 5
    assert named in found.stderr
    assert "wal: DAMAGED" in found.stdout
    listed = run("wal", "verify", "--data-dir", str(folder), "--json")
    assert listed.exit_code == 5
    assert document(listed)["success"] is False
    assert f"{document(listed)['problems'][0]['path']} at offset" in named
    shown = run("wal", "inspect", "--data-dir", str(folder), "--records")
    assert shown.exit_code == 0
    assert "unreadable: wal/" in shown.stdout or f"damaged at {offset // BLOCK_BYTES * BLOCK_BYTES}" in shown.stdout


def test_a_segment_that_is_gone_is_damage(run: Run, folder: Path) -> None:
    segments(folder)[1].unlink()
    found = run("wal", "verify", "--data-dir", str(folder))
    assert found.exit_code == 5
    assert "records 4..6 are missing" in found.stderr


def test_a_record_whose_columns_cannot_be_read_is_damage_though_its_checksum_fits(run: Run, tmp_path: Path) -> None:
    journal = Journal.open(SystemDisk(tmp_path / "data"), "wal", segment_bytes=SEGMENT_BYTES)
    journal.append([payload(1, "cpu", 2)[:-60]], 1)
    found = run("wal", "verify", "--data-dir", str(tmp_path / "data"))
    assert found.exit_code == 5
    assert "record 1:" in found.stderr


def test_a_record_whose_columns_point_outside_of_themselves_is_damage(run: Run, tmp_path: Path) -> None:
    outside = pa.DictionaryArray.from_buffers(
        pa.dictionary(pa.int32(), pa.utf8()), 2, [None, pa.array([0, 99], pa.int32()).buffers()[1]], pa.array(["a"])
    )
    batch = pa.record_batch({"host": outside})
    header, _ = record.decode_header(memoryview(payload(1, "cpu", 2)))
    journal = Journal.open(SystemDisk(tmp_path / "data"), "wal", segment_bytes=SEGMENT_BYTES)
    journal.append([record.encode(header, record.encode_columns(batch))], 1)
    found = run("wal", "verify", "--data-dir", str(tmp_path / "data"))
    assert found.exit_code == 5
    assert f"wal/000000000001.log at offset {BLOCK_BYTES}: record 1:" in found.stderr


def test_a_broken_checkpoint_of_keys_is_damage(run: Run, folder: Path) -> None:
    (folder / "wal" / "keys.json").write_bytes(b"00000000\n[]")
    found = run("wal", "verify", "--data-dir", str(folder))
    assert found.exit_code == 5
    assert "wal/keys.json at offset 0" in found.stderr


def test_nothing_is_changed_by_looking(run: Run, folder: Path) -> None:
    flip(segments(folder)[0], BLOCK_BYTES + 200)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    run("wal", "verify", "--data-dir", str(folder))
    run("wal", "inspect", "--data-dir", str(folder), "--records")
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }


def test_a_running_node_makes_it_a_moving_target(run: Run, folder: Path) -> None:
    fd = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, b"4242\n")
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert "process 4242): this is a moving target" in run("wal", "inspect", "--data-dir", str(folder)).stderr
        assert document(run("wal", "verify", "--data-dir", str(folder), "--json"))["running_pid"] == 4242
    finally:
        os.close(fd)


def test_a_folder_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    found = run("wal", "inspect", "--data-dir", str(tmp_path / "nowhere"))
    assert found.exit_code == 2
    assert not (tmp_path / "nowhere").exists()
