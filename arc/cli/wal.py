"""``arc wal``: look into a node's log without a node, and never change it.

A torn end was never acknowledged and is no damage; anything else that cannot be read is, and is named by its place.
A running node writes while we look, so what is shown of it is a moment that has passed.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.exits import CORRUPT, USAGE, Failure
from arc.cli.options import Json, screen_of
from arc.cli.screen import Screen, counted

if TYPE_CHECKING:
    from arc.errors import Corrupt
    from arc.journal import Inspection
    from arc.ports import Disk

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a node's log without a node.")

CATALOG_LOG = "raft/log"
"""The catalog's log: the same format, other records."""

DataFolder = Annotated[str, typer.Option("--data-dir", help="Folder of the node's data.", metavar="DIR")]


@dataclass(slots=True, kw_only=True)
class Look:
    """What one log folder holds. ``damaged`` are the segments that could not be read, and where."""

    folder: str
    segments: list[Inspection] = field(default_factory=list)
    damaged: list[Corrupt] = field(default_factory=list)
    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)


@app.command("inspect")
def inspect(
    context: typer.Context,
    data_dir: DataFolder = "data",
    records: Annotated[bool, typer.Option("--records", help="Read every record and count per measurement.")] = False,
    json: Json = False,
) -> None:
    """Show the segments of the write-ahead log: their records, their bytes, their state. Judges nothing; see verify."""
    from arc.storage.wal.keys import FOLDER

    screen = screen_of(context)
    look = read_log(_open(data_dir), FOLDER, with_records=records)
    pid = lock_holder(data_dir)
    if screen.json:
        screen.document({"success": True, "data_dir": data_dir, "running_pid": pid, **_document(look, records)})
        return
    _warn_of_motion(screen, pid)
    columns = ("segment", "first", "last", "records", "used bytes", "file bytes", "state")
    screen.table(columns, [_row(one, last=one is look.segments[-1]) for one in look.segments])
    for damage in look.damaged:
        screen.line(f"unreadable: {damage}")
    if records:
        screen.title("records")
        screen.table(("database", "measurement", "records", "rows"), list(_counts(look)))


@app.command("verify")
def verify(context: typer.Context, data_dir: DataFolder = "data", json: Json = False) -> None:
    """Prove the node's logs: every checksum, the chain of numbers, the columns of every record.

    Exit code 0: whole, perhaps with a torn end that was never acknowledged. 5: damaged, with file and offset.
    """
    from arc.storage.wal.keys import FOLDER

    screen = screen_of(context)
    disk = _open(data_dir)
    looks = (read_log(disk, FOLDER, with_records=True), read_log(disk, CATALOG_LOG, with_records=False))
    problems = [*(problem for look in looks for problem in _problems(look)), *_key_problems(disk)]
    pid = lock_holder(data_dir)
    if screen.json:
        places = [{"path": one.path, "offset": one.offset, "reason": str(one)} for one in problems]
        logs = [_document(look, look.folder == FOLDER) for look in looks]
        screen.document(
            {"success": not problems, "data_dir": data_dir, "running_pid": pid, "logs": logs, "problems": places}
        )
        if problems:
            raise typer.Exit(CORRUPT)
        return
    _warn_of_motion(screen, pid)
    for look in looks:
        screen.line(_verdict(look))
    if problems:
        raise Failure(
            "\n".join(map(str, problems)),
            effect="A node will not start on this: records that were promised cannot be read.",
            next_step="Keep a copy of the folder as it is, then restore from a replica or a backup.",
            exit_code=CORRUPT,
            code="corrupt",
        )


def read_log(disk: Disk, folder: str, *, with_records: bool) -> Look:
    """Read every segment; one that cannot be read does not hide the others."""
    from arc.errors import Corrupt
    from arc.journal import look as look_at

    found = Look(folder=folder)
    for name in disk.list_dir(folder):
        if not name.endswith(".log"):
            continue
        path = f"{folder}/{name}"
        try:
            inspection, scan = look_at(disk, path)
            found.segments.append(inspection)
            if with_records:
                for group in scan.groups:
                    for number, payload in enumerate(group.records, group.first_index):
                        _count(found, payload, path, number, group.offset)
        except Corrupt as error:
            found.damaged.append(error)
        except FileNotFoundError:
            continue  # a running node gave the segment back between the listing and now
    return found


def _count(found: Look, payload: memoryview, path: str, number: int, offset: int) -> None:
    import pyarrow as pa

    from arc.errors import Corrupt
    from arc.storage.wal.record import decode_columns, decode_header

    try:
        header, columns = decode_header(payload)
        batch = decode_columns(columns)
        batch.validate(full=True)
        if batch.num_rows != header.rows:
            raise ValueError(f"says {header.rows} rows and has {batch.num_rows}")
    except (ValueError, pa.ArrowInvalid) as error:
        raise Corrupt(f"record {number}: {error}", path=path, offset=offset) from error
    name = (header.database, header.measurement)
    found.records[name] += 1
    found.rows[name] += header.rows


def _problems(look: Look) -> Iterator[Corrupt]:
    from arc.errors import Corrupt
    from arc.journal import verify as prove

    yield from look.damaged
    if look.damaged:
        return  # with a segment missing, the chain of numbers is broken for certain and says nothing new
    try:
        prove(look.segments)
    except Corrupt as error:
        yield error


def _key_problems(disk: Disk) -> Iterator[Corrupt]:
    from arc.errors import Corrupt
    from arc.storage.wal.keys import load_keys

    try:
        load_keys(disk)
    except Corrupt as error:
        yield error


def _open(data_dir: str) -> Disk:
    from arc.system import SystemDisk

    if not Path(data_dir).is_dir():
        raise Failure(
            f"no such folder: {data_dir}",
            next_step="Name the node's data folder with --data-dir.",
            exit_code=USAGE,
            code="not_found",
        )
    return SystemDisk(Path(data_dir))


def lock_holder(data_dir: str) -> int | None:
    """Process that holds the data folder, None when nobody does; 0 when it cannot be told which one.

    Takes the lock for an instant, shared. Raises OSError.
    """
    path = Path(data_dir) / "LOCK"
    if not path.exists():
        return None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None


def _warn_of_motion(screen: Screen, pid: int | None) -> None:
    if pid is not None:
        screen.note(f"a node is running on this folder (process {pid or 'unknown'}): this is a moving target")


def _state(one: Inspection, *, last: bool) -> str:
    if one.damage is not None:
        if one.damage.torn and last:
            return f"torn end at {one.damage.offset}, never acknowledged"
        return f"damaged at {one.damage.offset}: {one.damage.reason}"
    if one.closed:
        return "closed"
    return "open" if last else "not closed"


def _row(one: Inspection, *, last: bool) -> tuple[object, ...]:
    info = one.info
    count = info.next_index - info.first_index
    newest = info.next_index - 1 if count else None
    return (info.number, info.first_index, newest, count, info.used_bytes, info.size_bytes, _state(one, last=last))


def _counts(look: Look) -> Iterator[tuple[str, str, int, int]]:
    for (database, measurement), count in sorted(look.records.items()):
        yield database, measurement, count, look.rows[database, measurement]


def _document(look: Look, with_records: bool) -> dict[str, object]:
    keys = ("number", "first", "last", "records", "used_bytes", "size_bytes", "state")
    rows = [_row(one, last=one is look.segments[-1]) for one in look.segments]
    found: dict[str, object] = {
        "folder": look.folder,
        "segments": [
            dict(zip(keys, row, strict=True)) | {"path": one.info.path}
            for one, row in zip(look.segments, rows, strict=True)
        ],
        "unreadable": [{"path": one.path, "offset": one.offset, "reason": str(one)} for one in look.damaged],
    }
    if with_records:
        names = ("database", "measurement", "records", "rows")
        found["measurements"] = [dict(zip(names, row, strict=True)) for row in _counts(look)]
    return found


def _verdict(look: Look) -> str:
    if not look.segments and not look.damaged:
        return f"{look.folder}: empty"
    if any(True for _ in _problems(look)):
        return f"{look.folder}: DAMAGED"
    first, last = look.segments[0].info, look.segments[-1]
    span = f"records {first.first_index} to {last.info.next_index - 1}"
    if last.info.next_index == first.first_index:
        span = "no records"
    torn = ""
    if last.damage is not None:
        torn = f"; torn end at offset {last.damage.offset} of {last.info.path}: it was never acknowledged, no harm"
    return f"{look.folder}: whole, {counted(len(look.segments), 'segment')}, {span}{torn}"
