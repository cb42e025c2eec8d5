"""``python -m benchmarks.replication``: files between two processes, against a plain copy of the same bytes.

One process holds the files and answers; this one fetches them over the loopback interface, through sessions, drafts and
hashes as a node does. The floor copies the same files on the same disk, syncs them and their folders, and hashes what
it copied. The two take turns. What the holder has is in the page cache for both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import trio

from arc.catalog.commands import WRITER, AssignLease, ColumnSchema, DeclareColumns, FlushMark, RegisterFiles
from arc.catalog.fsm import ClusterFSM
from arc.cluster.calls import Calls
from arc.cluster.feed import Feed
from arc.cluster.transport import PeerTransport
from arc.ids import NodeId
from arc.ports import Ports
from arc.raft.types import Peer
from arc.replication.antientropy import AntiEntropy
from arc.replication.bandwidth import Bandwidth
from arc.replication.config import ReplicationConfig
from arc.replication.fetch import KIND, SEVERAL_KIND, FileServer
from arc.replication.puller import Puller
from arc.replication.scrubbing import CORE_SHARE, Scrubber, Share
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.storage.paths import HOUR_US, file_path
from arc.system import system_ports
from arc.telemetry import Log
from arc.wire.channels import Channel
from arc.wire.door import PeerSecurity
from arc.wire.facts import ClusterIdentity, PeerFacts
from benchmarks.measure import Row, figure, table

SECRET = b"a secret of the benchmarks"
FILES_PER_COMMAND = 500
HOLDER, PULLER = "n1", "n2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Files of one measurement, some of them in each hour. ``name`` tells loads of one run from each other."""

    name: str
    files: int
    size_bytes: int
    files_per_hour: int


def fill(root: Path, load: Load) -> list[FileEntry]:
    """Make the files on the holder's disk."""
    noise = os.urandom(min(load.size_bytes, 1 << 20))
    entries = []
    for number in range(load.files):
        hour = 480_000 + number // load.files_per_hour
        path = file_path("bench", load.name, hour, node=HOLDER, epoch=1, sequence=number + 1)
        target = root / DATA / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("wb") as file:
            left = load.size_bytes
            while left:
                piece = (number.to_bytes(8, "big") + noise)[: min(left, 1 << 20)]
                file.write(piece)
                digest.update(piece)
                left -= len(piece)
        entries.append(
            FileEntry(
                path=path,
                database="bench",
                measurement=load.name,
                sha256=digest.hexdigest(),
                size_bytes=load.size_bytes,
                rows=1,
                min_time_us=hour * HOUR_US,
                max_time_us=hour * HOUR_US + 1,
                origin=HOLDER,
                epoch=1,
                first_sequence=number + 1,
                last_sequence=number + 1,
                created_us=1,
                columns=("v",),
            )
        )
    return entries


def catalog_of(entries: Sequence[FileEntry]) -> ClusterFSM:
    """A catalog that knows the files."""
    machine = ClusterFSM()
    commands: list[AssignLease | DeclareColumns | RegisterFiles] = [
        AssignLease(lease=WRITER, node=NodeId(HOLDER), expect_epoch=0)
    ]
    for name in dict.fromkeys(entry.measurement for entry in entries):
        columns = (ColumnSchema("v", "float"),)
        commands.append(DeclareColumns(database="bench", measurement=name, columns=columns, created_us=1))
    for start in range(0, len(entries), FILES_PER_COMMAND):
        some = tuple(entries[start : start + FILES_PER_COMMAND])
        mark = FlushMark("bench", some[-1].measurement, some[-1].last_sequence)
        commands.append(RegisterFiles(files=some, flushed=(mark,), epoch=1))
    for command in commands:
        applied = machine.apply(machine.catalog.index + 1, command)
        assert applied.result.ok, applied.result
    return machine


def transport_of(ports: Ports, me: str, calls: Calls, log: Log, others: dict[str, str]) -> PeerTransport:
    """Sessions as between nodes."""
    return PeerTransport(
        Peer(me, 1),
        network=ports.network,
        rng=ports.rng,
        clock=ports.clock,
        log=log,
        security=PeerSecurity(secret=SECRET),
        identity=lambda: ClusterIdentity("bench"),
        address_of=others.get,
        describe=lambda: PeerFacts(role="writer", api_address="", version="1", cores=1),
        channels={Channel.CALL: calls.receive},
        connected=lambda peer, facts: None,
        unreachable=calls.unreachable,
        receive=lambda message: None,
        answer=calls.answer,
    )


async def hold(root: Path) -> None:
    """Be the other process: tell the port, answer until the end of standard input."""
    ports = system_ports(root)
    log = Log([], ports.clock.wall_us)
    entries = [FileEntry(**{**each, "columns": tuple(each["columns"])}) for each in json.loads(sys.stdin.readline())]
    catalog = catalog_of(entries).catalog
    server = FileServer(ports.disk, ports.workers, lambda: catalog, is_here=lambda path: True)
    calls = Calls(
        {
            KIND: lambda peer, question: server.answer(question),
            SEVERAL_KIND: lambda peer, question: server.answer_several(question),
        },
        log,
    )
    transport = transport_of(ports, HOLDER, calls, log, {})
    async with trio.open_nursery() as nursery:
        port = await nursery.start(transport.run, "127.0.0.1", 0)
        await nursery.start(calls.run, transport)
        print(port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


@contextmanager
def holder(root: Path, entries: Sequence[FileEntry]) -> Iterator[str]:
    """The address of a holder of these files."""
    command = [sys.executable, "-m", "benchmarks.replication", "--hold", str(root)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        stdin, stdout = _pipes(process)
        print(json.dumps([_plain(entry) for entry in entries]), file=stdin, flush=True)
        yield f"127.0.0.1:{int(stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def _plain(entry: FileEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in FileEntry.__slots__}


async def pull(root: Path, address: str, entries: Sequence[FileEntry]) -> float:
    """Seconds until the last file is here, from the first question on."""
    ports = system_ports(root)
    log = Log([], ports.clock.wall_us)
    machine = catalog_of(entries)
    feed = Feed(machine.catalog)
    keeper = FileKeeper(ports.disk, ports.workers, ports.clock, StorageConfig())
    calls = Calls({}, log)
    transport = transport_of(ports, PULLER, calls, log, {HOLDER: address})
    puller = Puller(
        me=PULLER,
        ask=calls.call,
        others=lambda: [HOLDER],
        catalog=lambda: machine.catalog,
        files=keeper,
        disk=ports.disk,
        workers=ports.workers,
        clock=ports.clock,
        rng=ports.rng,
        bandwidth=Bandwidth(0),
        log=log,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run, "127.0.0.1", 0)
        await nursery.start(calls.run, transport)
        with feed.subscribe() as changes:
            began = time.perf_counter()
            await nursery.start(puller.run, changes)
            seen = keeper.changes
            while not all(keeper.is_here(entry.path) for entry in reversed(entries)):
                seen = await keeper.wait_changed(seen)
            seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    assert puller.statistics().spoilt_total == 0
    return seconds


def copy(source: Path, target: Path, entries: Sequence[FileEntry]) -> float:
    """The floor: ``cp``, sync, SHA-256 of every file; seconds."""
    began = time.perf_counter()
    for entry in entries:
        there = target / DATA / entry.path
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / DATA / entry.path, there)
        with there.open("rb") as file:
            os.fsync(file.fileno())
            assert hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    for folder in sorted({(target / DATA / entry.path).parent for entry in entries}):
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return time.perf_counter() - began


def measure(folder: Path, load: Load, repetitions: int) -> tuple[list[float], list[float], float]:
    """Seconds of ours and of the floor, by turns, and by how much this process grew (MiB)."""
    source = folder / f"{load.name}-source"
    entries = fill(source, load)
    ours: list[float] = []
    theirs: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with holder(source, entries) as address:
        for number in range(repetitions):
            target = folder / f"{load.name}-{number}"
            theirs.append(copy(source, target / "copied", entries))
            ours.append(trio.run(pull, target / "pulled", address, entries))
            shutil.rmtree(target)
    shutil.rmtree(source)
    return ours, theirs, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def transfers(folder: Path, repetitions: int, scale: float) -> list[Row]:
    """One large file, ten large ones, many small ones."""
    rows = []
    large = round((256 << 20) * scale)
    for load, title in (
        (Load(name="one", files=1, size_bytes=large, files_per_hour=1), "one file"),
        (Load(name="ten", files=10, size_bytes=large // 4, files_per_hour=10), "ten files"),
    ):
        ours, theirs, grown = measure(folder, load, repetitions)
        megabytes = load.files * load.size_bytes / 1e6
        rows.append(
            Row(
                name=f"{title} of {load.size_bytes >> 20} MiB from another process",
                ours=figure("MB/s", [megabytes / each for each in ours]),
                peer_name="cp + fsync + sha256",
                peer=figure("MB/s", [megabytes / each for each in theirs]),
                at_least=0.5,
                note=f"this process grew by {grown:.0f} MiB",
            )
        )
    small = Load(name="small", files=round(10_000 * scale), size_bytes=8 << 10, files_per_hour=20)
    ours, theirs, grown = measure(folder, small, repetitions)
    rows.append(
        Row(
            name=f"catch-up of {small.files:,} files of 8 KiB",
            ours=figure("files/s", [small.files / each for each in ours]),
            at_least=500,
            note=f"cp + fsync + sha256: {small.files / sorted(theirs)[len(theirs) // 2]:,.0f} files/s; "
            f"this process grew by {grown:.0f} MiB",
        )
    )
    return rows


async def at_rest(root: Path, entries: Sequence[FileEntry], seconds: float) -> tuple[float, float]:
    """Share of a core that a look and readings one after the other take, and bytes read per second."""
    ports = system_ports(root)
    machine = catalog_of(entries)
    keeper = FileKeeper(ports.disk, ports.workers, ports.clock, StorageConfig())
    await keeper.look(entries)
    config, share, log = ReplicationConfig(), Share(ports.clock), Log([], ports.clock.wall_us)
    scrubber = Scrubber(
        me=HOLDER,
        config=config,
        catalog=lambda: machine.catalog,
        can_be_brought=lambda: False,
        files=keeper,
        disk=ports.disk,
        workers=ports.workers,
        clock=ports.clock,
        share=share,
        log=log,
    )
    slow = AntiEntropy(
        config=config,
        catalog=lambda: machine.catalog,
        reigns=lambda: [],
        can_be_brought=lambda: False,
        stray_seconds=StorageConfig().orphan_grace_seconds,
        files=keeper,
        scrubber=scrubber,
        clock=ports.clock,
        share=share,
        log=log,
    )
    began, spent = time.perf_counter(), time.process_time()
    with trio.move_on_after(seconds):
        await slow.look()
        while True:
            for entry in entries:
                await scrubber.read(entry)
    passed = time.perf_counter() - began
    assert slow.statistics().bad_total == 0
    return (time.process_time() - spent) / passed, slow.statistics().read_bytes_total / passed


def rest(folder: Path, repetitions: int, seconds: float) -> list[Row]:
    """The slow look at its fastest: everything is due at once. At the default pace it has a fraction of it to do."""
    source = folder / "rest-source"
    entries = fill(source, Load(name="rest", files=200, size_bytes=1 << 20, files_per_hour=20))
    found = [trio.run(at_rest, source, entries, seconds) for _ in range(repetitions)]
    shutil.rmtree(source)
    return [
        Row(
            name="anti-entropy that never rests longer than it must",
            ours=figure("% of a core", [100 * share for share, _ in found]),
            at_most=2.0,
            note=f"reads {found[-1][1] * 86_400 * 30 / 1e12:.1f} TB in thirty days; each step is followed by a pause "
            f"{1 / CORE_SHARE - 1:.0f} times as long",
        )
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replication", description=__doc__)
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the loads: 0.1 for a first look")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each look at the cost at rest")
    parser.add_argument("--folder", help="where data is kept while measuring; a folder on the disk that matters")
    asked = parser.parse_args()
    if asked.hold:
        trio.run(hold, Path(asked.hold))
        return
    folder = Path(asked.folder or tempfile.mkdtemp(prefix="arc-bench-"))
    rows = transfers(folder, asked.repetitions, asked.scale) + rest(folder, asked.repetitions, asked.seconds)
    print(table(rows))
    print(f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {asked.repetitions} repetitions, median")


if __name__ == "__main__":
    main()
