"""The world can fail: bugs planted into the real code, each caught by the property that names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from arc.catalog.commands import FlushMark
from arc.cluster.calls import Calls
from arc.cluster.registrar import FileRegistrar
from arc.ingest.flush import Flusher
from arc.ingest.keys import IdempotencyKeys
from arc.journal import Journal
from arc.raft.hardstate import HardStateFile
from arc.raft.outbox import Outbox
from arc.raft.types import Peer
from arc.storage.shelf import Shelf
from simulations.plan import Fault
from simulations.runner import FAILED, PASSED
from simulations.world import run_world
from simulations.world_plan import LogKind, WorldPlan

SMALL = {"wal": {"segment_bytes": 16384, "max_bytes": 65536}, "ingest": {"flush_rows": 20}}
LONE = WorldPlan(
    scenario="notices",
    seconds=12.0,
    clients=2,
    think_seconds=0.1,
    key_share=1.0,
    config=SMALL,
    faults=tuple(
        Fault(1.0 + turn, kind, ("n1",), amount)
        for turn, (kind, amount) in enumerate([("crash_in_write", 4.0), ("break_streams", 0.0), ("crash", 0.2)] * 3)
    ),
)
THREE = WorldPlan(
    scenario="notices",
    size=3,
    seconds=12.0,
    clients=2,
    think_seconds=0.3,
    catalog_share=0.5,
    config=SMALL,
    faults=tuple(
        Fault(1.5 + 2 * turn, kind, ("leader",), amount)
        for turn, (kind, amount) in enumerate([("crash", 0.2), ("isolate", 1.0)] * 2)
    ),
)

FULL = WorldPlan(
    scenario="notices",
    size=3,
    seconds=14.0,
    clients=3,
    think_seconds=0.2,
    catalog_share=0.8,
    config=SMALL,
    log=LogKind(16384, 20, 5, 2048),
    faults=tuple(
        Fault(1.0 + turn * 2.0, "disk_full", (who,), 1.5) for turn, who in enumerate(("n2", "n3", "n1", "leader"))
    ),
)


ASKING = WorldPlan(
    scenario="notices",
    size=2,
    seconds=5.0,
    clients=8,
    think_seconds=0.1,
    delete_share=0.6,
    config={"delete": {"enabled": True}},
    faults=(
        Fault(0.5, "slow_disk", ("n2",), 100.0),
        *(Fault(1.0 + 1.2 * turn, "crash", ("n1",), 0.05) for turn in range(3)),
    ),
)

UNHEARD = WorldPlan(
    scenario="notices",
    seconds=6.0,
    clients=2,
    think_seconds=0.1,
    key_share=1.0,
    config=SMALL,
    faults=(
        Fault(0.5, "slow_disk", ("n1",), 20.0),
        *(Fault(1.0 + 0.5 * turn, "break_streams", ("n1",)) for turn in range(8)),
    ),
)


def acknowledge_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """Every group reaches the disk with the one after it."""
    write = Journal._write
    late: dict[Journal, Callable[[], None]] = {}

    def later(self: Journal, *args: Any) -> None:
        if self._folder != "wal":
            write(self, *args)
            return
        segment, active = self._segments[-1], self._active
        before = late.pop(self, None)
        if before is not None:
            before()
        kept = _Keep(active)
        self._active = kept  # type: ignore[assignment]
        write(self, *args)
        self._active = active
        late[self] = kept.flush
        assert segment.number == self._segments[-1].number

    patch.setattr(Journal, "_write", later)


class _Keep:
    def __init__(self, log: Any) -> None:
        self._log = log
        self._kept: tuple[int, list[bytes]] = (0, [])

    def write_durable(self, offset: int, chunks: Sequence[Any]) -> int:
        self._kept = (offset, [bytes(chunk) for chunk in chunks])
        size = sum(map(len, chunks))
        return -(-size // 4096) * 4096

    def flush(self) -> None:
        self._log._is_closed = False
        self._log.write_durable(*self._kept)


def move_the_flush_mark_too_far(patch: pytest.MonkeyPatch) -> None:
    """It covers what came in while the files were written; the catalog refuses what comes next."""
    register = FileRegistrar.register

    async def far(self: FileRegistrar, files: Any, flushed: Any) -> None:
        marks = [FlushMark(mark.database, mark.measurement, mark.sequence + 2) for mark in flushed]
        await register(self, files, marks)

    patch.setattr(FileRegistrar, "register", far)


def release_the_log_too_early(patch: pytest.MonkeyPatch) -> None:
    """As if what is admitted were in files."""

    async def early(self: Flusher) -> int:
        return await self._wal.release(self._admitted() + 1, [])

    patch.setattr(Flusher, "_release_wal", early)


def forget_idempotency_keys(patch: pytest.MonkeyPatch) -> None:
    """What was written, and whose answer broke off, is written once more by the retry."""
    patch.setattr(IdempotencyKeys, "find", lambda *_: None)


def register_files_without_their_mark(patch: pytest.MonkeyPatch) -> None:
    """After a crash their rows would come out of the log once more; the catalog refuses, and the node stops (W-07)."""
    register = FileRegistrar.register

    async def without_mark(self: FileRegistrar, files: Any, flushed: Any) -> None:
        await register(self, files, [])

    patch.setattr(FileRegistrar, "register", without_mark)


def keep_no_hard_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HardStateFile, "save", lambda self, state: 0)


def send_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    put = Outbox.put
    patch.setattr(Outbox, "put", lambda self, message, after: put(self, message, None))


def promise_what_a_full_disk_refused(patch: pytest.MonkeyPatch) -> None:
    """K-56 in the driver: what waits for a refused write leaves with the next one that works."""
    patch.setattr(Outbox, "refused", lambda self, write_id: None)


def commit_what_one_node_has(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("arc.raft.append.quorum_value", lambda groups, matches: max(matches.values()))


def put_nothing_into_the_store(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shelf, "put", lambda self, path, data, sha256: None)


def answer_whoever_has_the_name(patch: pytest.MonkeyPatch) -> None:
    """A node that was started again gets what its former life asked for."""
    send_back = Calls._send_back

    def send(self: Calls, peer: Peer, answer: bytes, session: int) -> None:
        send_back(self, peer, answer, self._sessions_over[peer.name])

    patch.setattr(Calls, "_send_back", send)


PLANTED = [
    (answer_whoever_has_the_name, ASKING, {"W-23"}),
    (put_nothing_into_the_store, replace(LONE, has_store=True), {"D-07"}),
    (acknowledge_before_the_write, LONE, {"D-02", "W-01", "W-07"}),
    (move_the_flush_mark_too_far, LONE, {"D-06", "W-01", "W-07"}),
    (release_the_log_too_early, LONE, {"W-01"}),
    (register_files_without_their_mark, LONE, {"W-02", "W-07"}),
    (forget_idempotency_keys, UNHEARD, {"W-02"}),
    (keep_no_hard_state, THREE, {"I-10", "I-11"}),
    (send_before_it_is_durable, THREE, {"I-12", "I-28"}),
    (promise_what_a_full_disk_refused, FULL, {"I-12"}),
    (commit_what_one_node_has, THREE, {"I-06"}),
]


@pytest.mark.parametrize(("plant", "plan", "killers"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None],
    plan: WorldPlan,
    killers: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    outcome = run_world(plan)
    assert outcome.verdict == FAILED
    assert outcome.killer in killers, outcome.violation


@pytest.mark.parametrize(
    "plan", [LONE, THREE, FULL, ASKING, UNHEARD], ids=["lone", "three", "full", "asking", "unheard"]
)
def test_without_a_bug_nothing_is_noticed(plan: WorldPlan) -> None:
    outcome = run_world(plan)
    assert outcome.verdict == PASSED, outcome.violation
