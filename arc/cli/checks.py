"""What `arc doctor` looks at: each check is one question, answered ok, warn or fail with the next step.

Measuring and judging are apart: functions named ``judge_*`` are pure, so that a test can show them any machine.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arc.cli.screen import size
from arc.errors import ArcError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from arc.config import Config

Verdict = Literal["ok", "warn", "fail"]

SYNCS = 50
SLOW_SYNC_MS = 20.0
"""A write waits for one sync: more than this is felt by every client that sends row by row."""

UNREAL_SYNC_MS = 0.01
"""Faster than any device answers: something between us and the disk says yes without having written."""

EARLIEST = 1_735_689_600
"""2025-01-01: no clock of a machine that runs this program can honestly be before it."""

VOLATILE = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One answer."""

    name: str
    verdict: Verdict
    finding: str
    next_step: str = ""


def ok(name: str, finding: str) -> Check:
    """All is well."""
    return Check(name=name, verdict="ok", finding=finding)


def warn(name: str, finding: str, next_step: str) -> Check:
    """It works, but somebody should know."""
    return Check(name=name, verdict="warn", finding=finding, next_step=next_step)


def fail(name: str, finding: str, next_step: str) -> Check:
    """A node would not start, or would not keep its word."""
    return Check(name=name, verdict="fail", finding=finding, next_step=next_step)


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that cannot be made is a warning, not the end of the examination."""
    try:
        return check()
    except (OSError, ArcError) as error:
        return warn(name, f"could not be checked: {error}", "See the reason; the other checks go on without it.")


def judge_contradictions(config: Config, *, memory_bytes: int) -> Iterator[Check]:
    """Settings that are fine alone and not together."""
    server, name = config.server, "settings"
    open_to_others = server.host not in ("127.0.0.1", "localhost", "::1")
    if not config.auth.enabled and open_to_others:
        yield warn(name, f"auth.enabled = false, and {server.host} is open to other machines",
                   "Everybody who reaches the port may read, write and delete: set auth.enabled = true.")  # fmt: skip
    elif open_to_others and not server.tls_enabled:
        yield warn(name, f"server.host = {server.host} without TLS: tokens cross the network readable",
                   "Set server.tls_cert_file and server.tls_key_file, or end TLS in a proxy before it.")  # fmt: skip
    if config.wal.max_bytes < 4 * config.wal.segment_bytes:
        yield warn(name, "wal.max_bytes is less than four segments: flushes will be forced all the time",
                   "Raise wal.max_bytes or lower wal.segment_bytes.")  # fmt: skip
    if config.ingest.flush_bytes * 2 > config.ingest.memory_bytes:
        yield warn(name, "ingest.memory_bytes holds less than two full buffers: writes will be refused during a flush",
                   "Raise ingest.memory_bytes or lower ingest.flush_bytes.")  # fmt: skip
    planned = config.ingest.memory_bytes + config.query.memory_limit_bytes
    if planned > memory_bytes * 0.8:
        yield warn(name, f"ingest and query may take {size(planned)} of {size(memory_bytes)} memory",
                   "Lower ingest.memory_bytes or query.memory_limit_bytes.")  # fmt: skip


def judge_sync(milliseconds: list[float], *, direct: bool, filesystem: str) -> Iterator[Check]:
    """What durable writes of one block cost."""
    middle = statistics.median(milliseconds)
    slow = sorted(milliseconds)[int(len(milliseconds) * 0.99)]
    found = f"one durable block takes {middle:.2f} ms (median of {len(milliseconds)}), {slow:.2f} ms at worst"
    if filesystem in VOLATILE:
        yield warn("disk sync", f"{found}, but the folder is in memory ({filesystem})",
                   "Whatever is acknowledged is gone with the power: put node.data_dir on a disk.")  # fmt: skip
    elif middle < UNREAL_SYNC_MS:
        yield warn("disk sync", f"{found}: no disk is that fast",
                   "Find out which cache answers for the disk, and whether it survives a power cut.")  # fmt: skip
    elif middle > SLOW_SYNC_MS:
        yield warn("disk sync", found, "Expect few writes per second from clients that send one by one; use larger "
                   "requests, more connections, or a disk with a protected cache.")  # fmt: skip
    else:
        yield ok("disk sync", found)
    if direct:
        yield ok("direct writes", f"O_DIRECT works on {filesystem}")
    else:
        yield warn("direct writes", f"{filesystem} has no O_DIRECT",
                   "The log falls back to pwrite + fdatasync: as safe, slower.")  # fmt: skip


def judge_space(free_bytes: int, config: Config) -> Check:
    """Room for the log at its largest, and for what flush needs to make room again."""
    needed = config.wal.max_bytes + config.storage.reserve_bytes
    found = f"{size(free_bytes)} free"
    if free_bytes < config.storage.reserve_bytes:
        return fail("disk space", f"{found}, less than storage.reserve_bytes ({size(config.storage.reserve_bytes)})",
                    "Writes would be refused: free space first.")  # fmt: skip
    if free_bytes < needed:
        return warn("disk space", f"{found}; the log alone may grow to {size(config.wal.max_bytes)}",
                    "Free space, or lower wal.max_bytes.")  # fmt: skip
    return ok("disk space", found)


def judge_files(hard_limit: int, config: Config) -> Check:
    """Connections, segments and the Parquet files of queries are all open files."""
    needed = config.server.max_connections + 1024
    if hard_limit == resource.RLIM_INFINITY or hard_limit >= needed:
        shown = "unlimited" if hard_limit == resource.RLIM_INFINITY else f"{hard_limit:,}"
        return ok("open files", f"up to {shown}")
    return warn("open files", f"at most {hard_limit:,}; server.max_connections is {config.server.max_connections:,}",
                f"Raise the hard limit to {needed:,} (LimitNOFILE, ulimit -Hn), or lower the setting.")  # fmt: skip


def judge_clock(now: float, newest_file: float | None) -> Check:
    """Rows without a timestamp get this clock's time."""
    if now < EARLIEST:
        return fail("clock", f"it shows {stamp(now)}", "Set it (NTP): rows without a timestamp would be stored there.")
    if newest_file is not None and newest_file > now + 60:
        return warn("clock", f"it shows {stamp(now)}, but the data folder was written at {stamp(newest_file)}",
                    "It went back, or another machine wrote there: see to NTP.")  # fmt: skip
    return ok("clock", stamp(now))


def check_tls(config: Config) -> Check:
    """Certificate and key can be read and fit each other."""
    if not config.server.tls_enabled:
        return ok("tls", "off")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            config.server.tls_cert_file, config.server.tls_key_file
        )
    except (OSError, ssl.SSLError) as error:
        return fail("tls", f"certificate and key cannot be used: {error}", "See server.tls_cert_file and tls_key_file.")
    return ok("tls", "certificate and key fit")


def check_store(config: Config) -> Check:
    """Whether the shared store can be used. Puts one small object there, as a node does when it starts."""
    if config.storage.backend == "local":
        return ok("shared store", "none: files are on the disks of nodes")
    from arc.system_s3 import S3Objects

    store = S3Objects(config.storage)
    try:
        store.check()
    except InvalidRequest as error:
        return fail("shared store", error.message, "A node would not start: see the storage.s3_ settings.")
    except Unavailable as error:
        return warn("shared store", error.message, "A node starts, but flushes nothing until the store answers.")
    return ok("shared store", f"{store.name} takes conditional puts")


def check_port(config: Config) -> Check:
    """Whether the address is free."""
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the node does it
        try:
            probe.bind((host, port))
        except OSError as error:
            return fail(
                "port", f"{host}:{port}: {error.strerror}", "Choose another --port, or find who has it: ss -ltnp"
            )
    return ok("port", f"{host}:{port} is free")


def check_folder(folder: Path) -> Check:
    """Whether the node may write where it is told to."""
    nearest = existing(folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return fail("data folder", f"no right to write in {nearest}", "Give this user the right, or set node.data_dir.")
    return ok("data folder", f"{folder}" if nearest == folder.absolute() else f"{folder} will be made")


def measure_sync(folder: Path) -> Iterator[Check]:
    """Write single blocks as the log does, in a temporary folder beside the data."""
    from arc.ports import BLOCK_BYTES
    from arc.system import SystemDisk

    nearest = existing(folder)
    with tempfile.TemporaryDirectory(prefix=".arc-doctor-", dir=nearest) as name:
        log = SystemDisk(Path(name)).create_log("probe", SYNCS * BLOCK_BYTES)
        spent = []
        for nth in range(SYNCS):
            started = time.perf_counter()
            log.write_durable(nth * BLOCK_BYTES, [bytes(BLOCK_BYTES)])
            spent.append((time.perf_counter() - started) * 1000)
        direct = bool(getattr(log, "direct", False))
        log.close()
    return judge_sync(spent, direct=direct, filesystem=filesystem_of(nearest))


def check_space(folder: Path, config: Config) -> Check:
    """Free space where the data is."""
    return judge_space(shutil.disk_usage(existing(folder)).free, config)


def check_clock(folder: Path) -> Check:
    """The wall clock against reason and the newest file."""
    newest = max((entry.stat().st_mtime for entry in folder.iterdir()), default=None) if folder.is_dir() else None
    return judge_clock(time.time(), newest)


def check_versions() -> Check:
    """Python and the libraries that decide."""
    from arc.cli.version import versions

    found = ", ".join(f"{name} {number}" for name, number in versions().items() if number)
    return ok("versions", found)


def check_kernels() -> Check:
    """Compiled parsers: present, and how long a start waits for them in the background."""
    from arc.cli.version import versions

    if versions()["numba"] is None:
        return warn("kernels", "numba is not installed: line protocol is parsed without compiled kernels",
                    "The same answers come slower; install it with: pip install 'arc-tsdb-py[fast]'")  # fmt: skip
    from arc.ingest.formats import Formats

    started = time.perf_counter()
    Formats().warm()
    return ok("kernels", f"numba is there; ready after {time.perf_counter() - started:.1f} s")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def filesystem_of(folder: Path) -> str:
    """Type of the file system, from the longest mount point above the folder."""
    best, kind = "", "unknown"
    with open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            _, point, found, *_ = line.split(" ")
            inside = str(folder.resolve()).startswith(point.rstrip("/") + "/") or str(folder.resolve()) == point
            if inside and len(point) >= len(best):
                best, kind = point, found
    return kind


def stamp(seconds: float) -> str:
    """A time for people, UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
