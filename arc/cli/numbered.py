"""Rows for a cluster that may lose its writer at any time: numbered, acknowledged or not, and never given up early.

Every row has a number of its own, so afterwards each acknowledged one can be looked for. A batch is sent to one node
after another, under one idempotency key, until one of them has acknowledged it: whatever was stored by a node that died
before it could answer must not be stored twice.

Pauses between tries are short on purpose, and `Retry-After` is not waited for: here the silence is measured.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arc.cli.connect import open_client, refusal
from arc.cli.exits import Failure

if TYPE_CHECKING:
    import httpx

DATABASE = "demo"
MEASUREMENT = "sample"
BATCH_ROWS = 50
EVERY_SECONDS = 0.05
WORKERS = 2
ANSWER_SECONDS = 2.0
"""A node that died while it answered is noticed after this at the latest."""
AGAIN_SECONDS = 0.02
GIVE_UP_SECONDS = 60.0
"""How long a batch is tried once the load is to end; it is unknown then, and not acknowledged."""

RETRIED = frozenset({408, 429, 502, 503, 504, 508})
"""Not 500: that would be a bug, and whoever rehearses wants to see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where rows go, and how many: ``workers`` threads write ``batch_rows`` each ``every_seconds``."""

    database: str = DATABASE
    measurement: str = MEASUREMENT
    batch_rows: int = BATCH_ROWS
    workers: int = WORKERS


@dataclass(frozen=True, slots=True)
class Ack:
    """A batch that some node acknowledged: its rows have the numbers ``first`` to ``first + rows - 1``."""

    at: float
    first: int
    rows: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest silence that ended after the kill, as the client saw it."""

    seconds: float
    last_before: float
    first_after: float


def gap_of(acks: Sequence[Ack], killed_at: float, started_at: float) -> Gap | None:
    """The gap; None when nothing was acknowledged after the kill. Times by the client's clock that never jumps."""
    return silence((ack.at for ack in acks), killed_at, started_at)


def silence(answered: Iterable[float], since: float, started_at: float) -> Gap | None:
    """The longest time between two answers of which the second came after ``since``; None when none did."""
    times = [started_at, *sorted(answered)]
    after = [(then - now, now, then) for now, then in itertools.pairwise(times) if then > since]
    return Gap(*max(after)) if after else None


DEMO = Target()


class Load:
    """Streams rows from threads of its own; `stop` returns when every batch is acknowledged or given up."""

    def __init__(self, endpoints: Sequence[str], token: str, target: Target = DEMO) -> None:
        self._endpoints = list(endpoints)
        self._token = token
        self._target = target
        self._run = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._next = 0
        self._acks: list[Ack] = []
        self._retries = self._unknown = 0
        self._trouble: BaseException | None = None
        self._ending = threading.Event()
        # Each with what its maker trusts, see `connect.trusting`.
        self._threads = [
            threading.Thread(target=copy_context().run, args=(self._work, at), name=f"load-{at}", daemon=True)
            for at in range(target.workers)
        ]
        self.started_at = time.monotonic()

    def __enter__(self) -> Load:
        self.started_at = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()

    @property
    def acks(self) -> list[Ack]:
        """What was acknowledged so far."""
        with self._lock:
            return list(self._acks)

    @property
    def rows(self) -> int:
        """Rows acknowledged so far."""
        return sum(ack.rows for ack in self.acks)

    @property
    def retries(self) -> int:
        """Tries that were not answered with success."""
        return self._retries

    @property
    def unknown(self) -> int:
        """Rows of batches that were given up: they may be stored or not."""
        return self._unknown

    def gap(self, since: float) -> Gap | None:
        """The longest silence around a moment; None when nothing was acknowledged after it."""
        return gap_of(self.acks, since, self.started_at)

    def require_well(self) -> None:
        """Raises what ended a worker."""
        if self._trouble is not None:
            raise self._trouble

    def stop(self) -> None:
        """End in order. Raises Failure when a row was refused."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.require_well()

    def _work(self, worker: int) -> None:
        try:
            with open_clients(self._endpoints, self._token) as clients:
                at = worker
                for batch in itertools.count():
                    if self._ending.is_set():
                        return
                    began = time.monotonic()
                    # Each batch begins at another node, as behind a load balancer.
                    at = self._send(clients, at + (1 if batch else 0), worker)
                    self._ending.wait(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
        except BaseException as error:
            self._trouble = error
            self._ending.set()

    def _send(self, clients: Sequence[httpx.Client], at: int, worker: int) -> int:
        """Send one batch until it is acknowledged; at which node that was."""
        with self._lock:
            first, self._next = self._next, self._next + self._target.batch_rows
        body, key = batch_of(first, worker, self._target), f"{self._target.database}-{self._run}-{first}"
        give_up_at: float | None = None
        while True:
            client = clients[at % len(clients)]
            if self._try(client, body, key):
                with self._lock:
                    self._acks.append(
                        Ack(time.monotonic(), first, self._target.batch_rows, str(client.base_url).rstrip("/"))
                    )
                return at
            self._retries += 1
            if self._ending.is_set():
                give_up_at = give_up_at or time.monotonic() + GIVE_UP_SECONDS
                if time.monotonic() > give_up_at:
                    self._unknown += self._target.batch_rows
                    return at
            at += 1
            time.sleep(AGAIN_SECONDS)

    def _try(self, client: httpx.Client, body: bytes, key: str) -> bool:
        """Whether it was acknowledged. Raises Failure when asking again would not help."""
        import httpx

        try:
            answer = client.post(
                "/api/v1/write/line-protocol",
                content=body,
                params={"precision": "us", "strict": "true"},
                headers={
                    "Content-Type": "text/plain; charset=utf-8",
                    "x-arc-database": self._target.database,
                    "Idempotency-Key": key,
                },
            )
        except httpx.TransportError:
            return False
        if answer.is_success:
            return True
        if answer.status_code in RETRIED:
            return False
        raise refusal(answer)


def batch_of(first: int, worker: int, target: Target = DEMO) -> bytes:
    """Lines of one batch. Times differ from row to row, so no two rows are the same point."""
    base = 1_767_225_600_000_000
    return "\n".join(
        f"{target.measurement},worker=w{worker} id={number}i,value={(number % 97) / 7:.3f} {base + number}"
        for number in range(first, first + target.batch_rows)
    ).encode()


@contextmanager
def open_clients(endpoints: Sequence[str], token: str) -> Iterator[Sequence[httpx.Client]]:
    """Clients for all endpoints, closed together."""
    with ExitStack() as held:
        yield [held.enter_context(open_client(each, token, answer_seconds=ANSWER_SECONDS)) for each in endpoints]


def numbers_of(acks: Sequence[Ack]) -> Iterator[int]:
    """The numbers of all acknowledged rows."""
    for ack in acks:
        yield from range(ack.first, ack.first + ack.rows)


@dataclass(frozen=True, slots=True)
class Count:
    """What was found of the rows that were acknowledged, at one node. ``lost`` and ``doubled`` are row numbers."""

    node: str
    rows: int
    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Every acknowledged row once, and no row twice."""
        return not self.lost and not self.doubled


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a load: filled while it goes on, and after it by counting at every node."""

    seconds: float = 0.0
    acks: list[Ack] = field(default_factory=list)
    retries: int = 0
    unknown: int = 0
    counts: list[Count] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """Rows."""
        return sum(ack.rows for ack in self.acks)

    @property
    def lost(self) -> int:
        """Acknowledged rows that at least one node that was asked lacks."""
        return len({number for count in self.counts for number in count.lost})

    @property
    def doubled(self) -> int:
        """Rows that at least one node has more than once."""
        return len({number for count in self.counts for number in count.doubled})


def judge_rows(acks: Sequence[Ack], found: dict[int, int], *, node: str = "", seconds: float = 0.0) -> Count:
    """Compare what was acknowledged with what a node has: number → how often.

    A row that was never acknowledged may be there once: its answer was lost.
    """
    lost = tuple(sorted(number for number in numbers_of(acks) if number not in found))
    doubled = tuple(sorted(number for number, count in found.items() if count > 1))
    return Count(node, sum(found.values()), lost, doubled, seconds)


def require_progress(load: Load, before: int, deadline: float) -> None:
    """Return when more rows than ``before`` are acknowledged. Raises Failure when none are by then."""
    while load.rows <= before:
        load.require_well()
        if time.monotonic() > deadline:
            raise Failure(
                "no row was acknowledged any more",
                effect="Writes did not come back by themselves.",
                next_step="Look at what the nodes wrote; arc cluster status says why.",
                code="no_progress",
            )
        time.sleep(AGAIN_SECONDS)
