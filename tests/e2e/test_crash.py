"""The promise, tried with a hammer: after kill -9 every acknowledged row is there exactly once (DURABILITY 0).

The limits are set low, so that the kills fall into group commits, flushes, registrations and the recycling of
segments. ``make crash`` runs many rounds; a round prints what it did and the seed, and ``ARC_CRASH_SEED`` repeats a
run's choices.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server
from tests.e2e.load import Watcher, Writer, arrow_batch, check_exactly_once, line_batch, msgpack_batch, run_until_killed

SMALL = {
    "ingest.flush_rows": 3000,
    "ingest.flush_age_seconds": "700ms",
    "wal.segment_bytes": "512KiB",
    "wal.group_bytes": "128KiB",
    "wal.max_bytes": "4MiB",
}


def make_writers(rng: random.Random) -> list[Writer]:
    """Six clients: every format, with keys and retries, and without."""
    encoders = (line_batch, msgpack_batch, arrow_batch)
    return [
        Writer(number=number, encode=encoders[number % 3], has_keys=number >= 3, rng=random.Random(rng.random()))
        for number in range(6)
    ]


def crash_rounds(server: Server, rounds: int, seed: int) -> None:
    """Load, kill, start, look; again."""
    rng = random.Random(seed)
    writers = make_writers(rng)
    watcher = Watcher(writers=writers, rng=random.Random(rng.random()))
    server.start()
    for number in range(1, rounds + 1):
        seconds = rng.uniform(0.0, 2.0)
        run_until_killed(server.url, writers, watcher, seconds, server.kill9)
        start_again(server, rng)
        acknowledged = check_exactly_once(server, writers)
        print(
            f"round {number}: killed after {seconds:.2f} s, {acknowledged} rows acknowledged by"
            f" {sum(writer.requests for writer in writers)} requests, {watcher.queries} queries, start {server.starts}"
        )
    for writer in writers:
        writer.finish(server.url)
    assert check_exactly_once(server, writers) > 0
    assert not watcher.complaints, watcher.complaints[:5]
    assert not [surprise for writer in writers for surprise in writer.surprises][:5]
    server.restart()
    check_exactly_once(server, writers)


def start_again(server: Server, rng: random.Random) -> None:
    """Start; every third time kill it once more while it recovers."""
    if rng.random() < 1 / 3:
        server.start(wait=False)
        time.sleep(rng.uniform(0, 2.5))  # not to wait for something: the moment of the kill is what is being chosen
        server.kill9()
    server.start()


@pytest.mark.timeout(600)
def test_every_acknowledged_row_survives_kill_9_exactly_once(make_server: MakeServer) -> None:
    """Five rounds, a new seed every time: CI is a long series of trials."""
    seed = int(os.environ.get("ARC_CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"ARC_CRASH_SEED={seed}")
    crash_rounds(make_server(settings=SMALL), int(os.environ.get("ARC_CRASH_ROUNDS", "5")), seed)


def test_another_write_under_a_used_key_is_never_answered_as_stored(make_server: MakeServer) -> None:
    """A program that numbers its batches and began at one again was told 204 for rows that nobody had stored."""
    server = make_server()
    server.start()
    for crashes in range(3):
        with server.client(timeout=30.0) as client:
            answers = [
                client.post("/write?db=default", content=f"cpu v={v} {v}", headers={"idempotency-key": "batch-1"})
                for v in (1, 2, 1)
            ]
        assert [answer.status_code for answer in answers] == [204, 422, 204], f"after {crashes} crashes"
        assert answers[1].json()["code"] == "idempotency_key_reused"
        assert server.rows("SELECT v FROM cpu") == [[1.0]]
        server.kill9()
        server.start()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_crash_rounds_lose_and_double_nothing(make_server: MakeServer) -> None:
    """At least thirty rounds, for `make crash`."""
    seed = int(os.environ.get("ARC_CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"ARC_CRASH_SEED={seed}")
    crash_rounds(make_server(settings=SMALL), max(30, int(os.environ.get("ARC_CRASH_ROUNDS", "30"))), seed)
