"""The load: one thread, non-blocking sockets, a fixed number of requests in flight.

It shares two cores with three servers, so it has to stay small, and every burst tells what the client itself cost: the
client's ceiling is one core divided by that. Every target is driven by this same loop; only how a connection
encodes and parses differs.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.e2e.framed import GET, PUT, Connection, Down, Reply

DRAIN_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What one stretch of load did. Rates count answers inside the window, latencies requests begun in it."""

    per_second: float
    latencies_ms: Sequence[float]
    refused: int
    client_us: float
    """Processor time of the client for one request; the client alone could do 1e6 / client_us a second."""
    servers_us: float
    foreign_cores: float
    """Processor time that neither the client nor the servers used: other work on this machine."""

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return statistics.median(self.latencies_ms)

    @property
    def p99_ms(self) -> float:
        """99th percentile."""
        return sorted(self.latencies_ms)[int(len(self.latencies_ms) * 0.99)]


class Request(NamedTuple):
    """What to send."""

    op: str
    key: bytes
    value: bytes


class Meter:
    """Processor seconds of this process, of the servers and of everybody since it was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._began = time.perf_counter()
        self._before = self._look()

    def read(self) -> tuple[float, float, float]:
        """Seconds of the client, seconds of the servers, cores that others used."""
        wall = time.perf_counter() - self._began
        mine, servers, all_ = (now - then for now, then in zip(self._look(), self._before, strict=True))
        return mine, servers, max(0.0, all_ - mine - servers) / wall

    def _look(self) -> tuple[float, float, float]:
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:8]]
        everybody = (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / _TICKS
        return time.process_time(), sum(map(cpu_seconds, self._pids)), everybody


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def load(
    connections: Sequence[Connection],
    requests: Callable[[], Request | None],
    *,
    in_flight: int,
    seconds: float,
    warm_seconds: float = 0.5,
    pids: Iterable[int] = (),
    stop: Callable[[], bool] | None = None,
    acknowledged: Callable[[Request, Reply], None] | None = None,
) -> Burst:
    """Keep ``in_flight`` requests open until the time is over, ``requests`` ends (None), or ``stop`` says so.

    ``stop`` is asked about every 20 ms, and nothing is received after it said True: for the moment when the plug is
    pulled. Otherwise what is still open at the end is waited for, but not counted in the rate.
    """
    poller = select.epoll()
    by_fd = {connection.fileno(): connection for connection in connections}
    for fd in by_fd:
        poller.register(fd, select.EPOLLIN)
    open_: dict[tuple[int, int], tuple[float, Request]] = {}
    latencies: list[float] = []
    done = refused = 0
    began = time.perf_counter()
    warm_at, ends_at = began + warm_seconds, began + warm_seconds + seconds
    meter: Meter | None = None
    used: tuple[float, float, float] | None = None
    is_over = False
    stop_at = began + 0.02
    dirty: set[int] = set()

    def begin(fd: int) -> bool:
        request = requests()
        if request is None:
            return False
        token = by_fd[fd].submit(*request)
        open_[fd, token] = (time.perf_counter(), request)
        dirty.add(fd)
        return True

    fds = list(by_fd)
    is_over = not all(begin(fds[slot % len(fds)]) for slot in range(in_flight))
    last_at = began
    while True:
        for fd in sorted(dirty):
            with contextlib.suppress(Down):
                if not by_fd[fd].flush():
                    poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        dirty.clear()
        events = poller.poll(0.02)
        now = time.perf_counter()
        if meter is None and now >= warm_at:
            meter = Meter(pids)
        if now >= ends_at:
            is_over = True
        if stop is not None and now >= stop_at:
            stop_at = now + 0.02
            if stop():
                break
        for fd, what in events:
            if what & select.EPOLLOUT:
                poller.modify(fd, select.EPOLLIN)
                dirty.add(fd)
            if not what & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                continue
            try:
                replies = by_fd[fd].poll()
            except Down:
                poller.unregister(fd)
                lost = [each for each in open_ if each[0] == fd]
                refused += len(lost)
                for each in lost:
                    del open_[each]
                continue
            now = last_at = time.perf_counter()
            for reply in replies:
                found = open_.pop((fd, reply.token), None)
                if found is None:
                    continue
                sent_at, request = found
                if reply.ok:
                    done += warm_at <= now <= ends_at
                    if sent_at >= warm_at:
                        latencies.append((now - sent_at) * 1e3)
                    if acknowledged is not None:
                        acknowledged(request, reply)
                else:
                    refused += 1
                if not is_over:
                    try:
                        is_over = not begin(fd)
                    except Down:
                        refused += 1
        if is_over or not any(not each.is_dead for each in connections):
            if used is None and meter is not None:
                used = meter.read()
            if not open_ or now > max(ends_at, last_at) + DRAIN_SECONDS:
                break
    poller.close()
    wall = max(min(ends_at, last_at) - warm_at, 1e-9)
    mine, servers, foreign = used or (meter or Meter(pids)).read()
    return Burst(
        per_second=done / wall,
        latencies_ms=latencies or [float("nan")],
        refused=refused,
        client_us=mine / max(done, 1) * 1e6,
        servers_us=servers / max(done, 1) * 1e6,
        foreign_cores=foreign,
    )


def puts(prefix: bytes, size: int, limit: int | None = None) -> Callable[[], Request | None]:
    """Writes of ever new keys, ``size`` bytes a value."""
    value = os.urandom(size // 2).hex().encode().ljust(size, b"x")
    count = 0

    def request() -> Request | None:
        nonlocal count
        if limit is not None and count >= limit:
            return None
        count += 1
        return Request(PUT, b"%s%08d" % (prefix, count), value)

    return request


def gets(keys: Sequence[bytes]) -> Callable[[], Request | None]:
    """Reads of these keys, round and round."""
    count = 0

    def request() -> Request | None:
        nonlocal count
        count += 1
        return Request(GET, keys[count % len(keys)], b"")

    return request
