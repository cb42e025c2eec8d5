"""Clients that write through all nodes with idempotency keys, and send a batch elsewhere until it is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType
from typing import Self

import httpx

from tests.e2e.cluster import wait_until
from tests.e2e.harness import Server

DATABASE = "keyed"
THREADS = 4
BATCH_ROWS = 10
IDS_PER_THREAD = 1_000_000_000
AGAIN_SECONDS = 0.05
PAUSE_SECONDS = 0.02
"""Between two batches of a client: what is looked for is order, not load, and the machine is shared."""
ANSWER_SECONDS = 4.0
"""A paused node answers nobody; the client goes elsewhere after this."""
GIVE_UP_SECONDS = 90.0
BASE_US = 1_767_225_600_000_000


class KeyedLoad:
    """Load from entering to leaving; what was begun is finished before that. Only 503 is answered by trying again."""

    def __init__(self, nodes: Mapping[str, Server]) -> None:
        self._nodes = nodes
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged: list[tuple[float, int]] = []
        """When, and the first id of the batch."""
        self._troubles: list[str] = []
        self.retries = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if error is None:
            assert not self._troubles, self._troubles

    def acknowledged_ids(self) -> set[int]:
        """Every row that a client was told is stored."""
        with self._lock:
            return {first + at for _, first in self._acknowledged for at in range(BATCH_ROWS)}

    def wait_progress(self) -> None:
        """Return when every client was told once more that a batch is stored."""
        begun = time.monotonic()

        def has_progressed() -> bool:
            assert not self._troubles, self._troubles
            with self._lock:
                recent = {first // IDS_PER_THREAD for at, first in self._acknowledged[-2000:] if at > begun}
            return len(recent) == THREADS

        wait_until("every client is told that its rows are stored", has_progressed)

    def gap_after(self, moment: float) -> float:
        """The longest time without any acknowledgement since a little before ``moment``, seconds."""
        with self._lock:
            times = [at for at, _ in self._acknowledged]
        earlier = [at for at in times if at <= moment]
        seen = sorted([*earlier[-1:], *(at for at in times if at > moment)])
        return max((late - early for early, late in pairwise(seen)), default=0.0)

    def ids_at(self, name: str) -> list[int] | None:
        """The ids that a node finds by itself, doubles and all; None while it does not answer, or others do for it."""
        try:
            answer = self._nodes[name].http.post("/api/v1/query", json={"sql": f"SELECT id FROM {DATABASE}.m"})
        except httpx.TransportError:
            return None
        if answer.status_code != 200 or answer.headers.get("x-arc-served-by", name) != name:
            return None
        return [row[0] for row in answer.json()["data"]]

    def _run(self, number: int) -> None:
        try:
            with ExitStack() as held:
                clients = [held.enter_context(node.client(timeout=ANSWER_SECONDS)) for node in self._nodes.values()]
                serial, at = number * IDS_PER_THREAD, number
                while not self._ending.is_set():
                    at = self._store(clients, at, number, serial)
                    serial += BATCH_ROWS
                    self._ending.wait(PAUSE_SECONDS)
        except Exception as error:
            self._troubles.append(f"client {number}: {error!r}")

    def _store(self, clients: list[httpx.Client], at: int, number: int, first: int) -> int:
        """Send a batch until it is stored; where the next one should begin."""
        body = "\n".join(
            f"m,client=c{number} id={each}i {BASE_US + each}000" for each in range(first, first + BATCH_ROWS)
        )
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up_at:
            at += 1
            try:
                answer = clients[at % len(clients)].post(
                    "/api/v1/write/line-protocol",
                    params={"db": DATABASE},
                    content=body,
                    headers={"idempotency-key": f"client-{number}-{first}"},
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 204:
                with self._lock:
                    self._acknowledged.append((time.monotonic(), first))
                return at
            assert answer is None or answer.status_code == 503, f"{answer.status_code} {answer.text}"
            self.retries += 1
            time.sleep(AGAIN_SECONDS)
        raise AssertionError(f"not stored for {GIVE_UP_SECONDS} s, last: {answer.text if answer is not None else None}")
